// The record and the log, as the page brings them: unfolded, and found by time.
// Whatever comes out of it goes into the page as text (textContent, fillText), never as markup.

const model = JSON.parse(document.getElementById("model").textContent);
const KINDS = ["read", "dead read", "write", "lost write", "internal register", "configuration space", "slot register", "interrupt", "DMA", "failed DMA", "command", "event", "rule", "marker"];
const isDead = (kind) => kind === 1 || kind === 3 || kind === 9;

for (const panel of model.panels) {
  const count = panel.times.length;
  panel.at = new Float64Array(count);
  panel.seq = new Float64Array(count);
  panel.kind = new Uint8Array(count);
  let at = 0, seq = 0, gap = 0;
  for (let i = 0; i < count; i++) {
    at += panel.times[i];
    panel.at[i] = at;
    if (gap < panel.gaps.length && panel.gaps[gap][0] === i) seq = panel.gaps[gap++][1];
    panel.seq[i] = seq++;
    panel.kind[i] = panel.kinds.charCodeAt(i) - 97;
  }
  // Lines without a time stand where they were printed.
  let last = count ? panel.at[0] : 0;
  panel.log = panel.lines.map(([time, level, text]) => {
    if (time !== null) last = time;
    return { at: last, level, text, timed: time !== null };
  });
  panel.log.sort((a, b) => a.at - b.at);
  panel.logAt = Float64Array.from(panel.log, (line) => line.at);
  // The entries of each lane, by time.
  panel.lanes = model.lanes.map((lane) => {
    if (!lane.kinds) return null;
    const wanted = new Set(lane.kinds);
    const which = [];
    for (let i = 0; i < count; i++) if (wanted.has(panel.kind[i])) which.push(i);
    const index = Uint32Array.from(which);
    return { index, at: Float64Array.from(index, (i) => panel.at[i]) };
  });
  // The guest's kernel: the lines of its trace, and its tasks by when they are first seen, for their colours.
  panel.traceAt = Float64Array.from(panel.trace, ([at]) => at);
  panel.tasks = [...new Set(panel.calls.filter((call) => call.to >= 0).map((call) => call.task))];
  const ends = [panel.at[0], panel.at[count - 1]].filter((end) => end !== undefined);
  panel.from = Math.min(...ends, 0);
  panel.to = Math.max(...ends, 0);
}

/** The line of the record as it is in the file. */
function rawLine(panel, i) {
  return panel.shapes[panel.which[i]].replace("\ue000", String(panel.seq[i])).replace("\ue001", String(panel.at[i] + panel.zero));
}

/** The line of the trace with which a call begins. */
function traceLine(panel, call) {
  for (let i = lowerBound(panel.traceAt, call.from); i < panel.trace.length && panel.traceAt[i] === call.from; i++)
    if (panel.trace[i][1].includes(call.label.split(": ").pop())) return panel.trace[i][1];
  return "";
}

/** What a line of the record tells, for people. */
function describe(panel, i) {
  const kind = panel.kind[i];
  let entry;
  try { entry = JSON.parse(rawLine(panel, i)); } catch { return KINDS[kind]; }
  const place = entry.reg ?? entry.offset;
  switch (entry.kind) {
    case "access": {
      const mark = entry.dead || entry.absent ? (entry.dir === "read" ? "  dead" : "  lost") : entry.unmodelled ? "  unmodelled" : "";
      return `${entry.fn} ${entry.space} ${entry.dir} ${place} ${entry.dir === "read" ? "→" : "←"} ${entry.value}${mark}`;
    }
    case "interrupt": return `${entry.fn} interrupt, vector ${entry.vector}`;
    case "dma": return `${entry.fn} DMA ${entry.dir} ${entry.length} bytes at ${entry.address}${entry.error ? "  failed: " + entry.error : ""}`;
    case "command": return `${entry.fn} ${entry.name} ${entry.argument} → ${entry.response ?? "no answer"}`;
    case "rule": return `rule ${entry.name}, hit ${entry.hit}`;
    case "marker": return `marker: ${entry.text}`;
    default: return `${entry.fn ?? ""} ${entry.name ?? entry.kind}`;
  }
}

/** The first place in a sorted array whose value is not less than `value`. */
function lowerBound(sorted, value) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle] < value) low = middle + 1; else high = middle;
  }
  return low;
}

const millis = (ns, digits = 3) => (ns / 1e6).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const make = (tag, text, name) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
};
const find = (selector) => document.querySelector(selector);
document.documentElement.classList.add("script");
