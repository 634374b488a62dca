// The same as a table: entries of the record and lines of the log, by time.

const PAGE = 200;
const tableState = { page: 0, rows: [] };
const runs = find("#runs");
runs.append(new Option(model.panels.length > 1 ? "all runs" : "this run", ""));
if (model.panels.length > 1) model.panels.forEach((panel, index) => runs.append(new Option(panel.variant, String(index))));

/** What the controls ask for: `{ panel, at, i }` of an entry, `{ panel, at, line }` of a log line, `{ panel, at, traced }` of one of the trace, with `times` if it repeats. */
function collect() {
  const words = find("#filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const kinds = find("#kinds").value, inside = find("#inside").checked, fold = find("#fold").checked;
  const wanted = (text) => { const low = text.toLowerCase(); return words.every((word) => low.includes(word)); };
  const found = [];
  model.panels.forEach((panel, number) => {
    if (runs.value !== "" && Number(runs.value) !== number) return;
    const offset = offsetOf(panel);
    const from = inside ? view.from + offset : -Infinity, to = inside ? view.to + offset : Infinity;
    const known = new Map();
    if (kinds !== "log" && kinds !== "trace") {
      let before = null;
      for (let i = lowerBound(panel.at, from), end = lowerBound(panel.at, to); i < end; i++) {
        if (kinds && !kinds.includes(panel.kinds[i])) continue;
        const shape = panel.which[i];
        if (fold && before && panel.which[before.i] === shape) { before.times++; before.until = panel.at[i]; continue; }
        // Whether a line is wanted is the same for all of its shape, unless a word is about number or time.
        if (words.length) {
          if (!known.has(shape)) known.set(shape, wanted(`${panel.shapes[shape]} ${describe(panel, i)} ${KINDS[panel.kind[i]]}`));
          if (!known.get(shape)) continue;
        }
        before = { panel, at: panel.at[i], i, times: 1 };
        found.push(before);
      }
    }
    if (!kinds || kinds === "log")
      for (const line of panel.log) if (line.at >= from && line.at <= to && (line.timed || !inside) && (!words.length || wanted(line.text))) found.push({ panel, at: line.at, line, times: 1 });
    if (!kinds || kinds === "trace")
      for (let i = lowerBound(panel.traceAt, from); i < panel.trace.length && panel.traceAt[i] <= to; i++)
        if (!words.length || wanted(panel.trace[i][1])) found.push({ panel, at: panel.traceAt[i], traced: panel.trace[i][1], times: 1 });
  });
  // One run after the other: interleaved, nobody would see the thread of either.
  return found.sort((a, b) => model.panels.indexOf(a.panel) - model.panels.indexOf(b.panel) || a.at - b.at);
}

function fill() {
  tableState.rows = collect();
  const pages = Math.max(1, Math.ceil(tableState.rows.length / PAGE));
  tableState.page = Math.min(tableState.page, pages - 1);
  const body = find("#rows");
  body.replaceChildren();
  for (const row of tableState.rows.slice(tableState.page * PAGE, (tableState.page + 1) * PAGE)) {
    const tr = make("tr");
    const time = make("td");
    const button = make("button", (row.line || row.traced ? "~ " : "") + millis(row.at));
    button.type = "button";
    button.title = "Show it on the time line";
    button.addEventListener("click", () => { centreOn(row.panel, row.at); find(".lanes canvas").scrollIntoView({ block: "center" }); });
    time.append(button);
    tr.append(time, make("td", row.panel.variant));
    if (row.line) {
      tr.className = row.line.level !== null && row.line.level <= 3 ? "log bad" : "log";
      tr.append(make("td", "guest's log"), make("td", row.line.text));
    } else if (row.traced) {
      tr.className = "log";
      // The function or event is what comes after the third bar.
      tr.append(make("td", row.traced.split("|").slice(3).join("|").trim()), make("td", row.traced));
    } else {
      if (isDead(row.panel.kind[row.i])) tr.className = "dead";
      const times = row.times > 1 ? `  × ${row.times.toLocaleString("en")}, until ${millis(row.until)}` : "";
      tr.append(make("td", describe(row.panel, row.i) + times), make("td", rawLine(row.panel, row.i)));
    }
    body.append(tr);
  }
  const first = tableState.page * PAGE;
  const left = model.panels.map((panel) => panel.leftOut).filter(Boolean).join(" ");
  find("#page").textContent = tableState.rows.length
    ? `${(first + 1).toLocaleString("en")} to ${Math.min(first + PAGE, tableState.rows.length).toLocaleString("en")} of ${tableState.rows.length.toLocaleString("en")} rows. ${left}`
    : `Nothing. ${find("#inside").checked ? "The time line shows nothing of that; move it, or ask for all." : ""} ${left}`;
  find("#previous").disabled = tableState.page === 0;
  find("#next").disabled = tableState.page >= pages - 1;
}

let due = 0;
const refill = () => { tableState.page = 0; clearTimeout(due); due = setTimeout(fill, 150); };
for (const id of ["#filter", "#kinds", "#runs", "#inside", "#fold"]) find(id).addEventListener("input", refill);
listeners.push(() => { if (find("#inside").checked) refill(); });
find("#previous").addEventListener("click", () => { tableState.page--; fill(); });
find("#next").addEventListener("click", () => { tableState.page++; fill(); });
fill();
