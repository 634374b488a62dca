// Pointer, wheel, keys and buttons of the time line, and what they tell of what is under them.

function nearest(panel, x, y) {
  const hot = (panel.hot ?? []).find((spot) => x >= spot.x && x <= spot.x + spot.w && y >= spot.y && y <= spot.y + spot.h);
  if (hot) return { moment: hot.moment, fault: hot.fault, edge: hot.edge };
  const scale = panel.scale;
  const number = lanesOf(panel).findIndex((row) => y >= row.y && y <= row.y + row.height + 2);
  if (number < 0 || x < scale.left) return number < 0 ? null : { lane: lanesOf(panel)[number].lane };
  const row = lanesOf(panel)[number], at = scale.ns(x);
  if (row.lane.spans) {
    const span = row.spans.find((span) => at >= span.from - 2 && at <= span.to + 2);
    return span ? { span, row: number } : null;
  }
  if (row.calls) {
    const margin = 2 / (scale.right - scale.left) * (scale.to - scale.from), deep = Math.floor((y - row.y - 1) / CALL);
    const under = row.calls.filter((call) => call.row === deep && at >= call.from - margin && at <= call.to + margin);
    if (under.length) return { call: under.reduce((one, other) => (other.to - other.from < one.to - one.from ? other : one)), row: number };
    const handler = y > row.y + row.height - HANDLERS && row.handlers.find(([begin]) => Math.abs(begin - at) <= 2 * margin);
    return handler ? { handler, row: number } : null;
  }
  const times = row.lane.log ? panel.logAt : panel.lanes[row.index].at;
  const right = lowerBound(times, at);
  let best = null;
  for (const i of [right - 1, right]) if (i >= 0 && i < times.length && (best === null || Math.abs(times[i] - at) < Math.abs(times[best] - at))) best = i;
  if (best === null || Math.abs(scale.x(times[best]) - x) > 6) return null;
  const column = Math.floor(scale.x(times[best]));
  const many = lowerBound(times, scale.ns(column + 1)) - lowerBound(times, scale.ns(column));
  return { row: number, place: best, at: times[best], many };
}

function tell(panel, hit) {
  if (!hit) return "";
  if (hit.lane) return `${hit.lane.name}: ${hit.lane.about}`;
  if (hit.moment) {
    const { moment } = hit;
    const later = moment.until > moment.at ? `, at most ${millis(moment.until - moment.at, 1)} ms later` : "";
    return `${moment.name}: ${millis(moment.at)} ms${moment.guest ? ` (guest's clock${later})` : ""}${hit.fault ? "\nThe oops is beside it." : ""}`;
  }
  if (hit.call) {
    const { call } = hit;
    const sum = (why) => call.away.reduce((sum, { from, to, asleep }) => sum + (asleep === why ? to - from : 0), 0);
    const [slept, ready] = [sum(true), sum(false)];
    const ended = { returned: "", died: "; its task died in it", open: "; the trace ends in it" }[call.end];
    return `${call.label.split(": ").pop()} in ${call.task}: from ~ ${millis(call.from)} to ${millis(call.to)} ms, ${millis(call.to - call.from)} ms${slept ? `, ${millis(slept)} of them asleep` : ""}${ready ? `, ${millis(ready)} while others had the processor` : ""}${ended}\n${traceLine(panel, call)}`;
  }
  if (hit.handler) return `~ ${millis(hit.handler[0])} ms  interrupt handler: ${hit.handler[2]}`;
  if (hit.span) return `${hit.span.label}: from ${millis(hit.span.from)} to ${millis(hit.span.to)} ms, ${millis(hit.span.to - hit.span.from)} ms`;
  const row = lanesOf(panel)[hit.row];
  const more = hit.many > 1 ? `  (${hit.many} in this pixel; zoom in)` : "";
  if (row.lane.log) return `~ ${millis(hit.at)} ms${more}\n${panel.log.filter((line) => line.at === hit.at).map((line) => line.text).join("\n")}`;
  const i = panel.lanes[row.index].index[hit.place];
  return `${millis(hit.at)} ms  ${describe(panel, i)}${more}\n${rawLine(panel, i)}`;
}

function inspect(panel, hit, pointer) {
  const text = tell(panel, hit);
  if (text) find("#inspector").textContent = `${panel.variant}: ${text}`;
  tip.hidden = !text || !pointer;
  if (tip.hidden) return;
  tip.textContent = text;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(pointer.clientX + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${pointer.clientY + 18 + box.height > innerHeight ? pointer.clientY - box.height - 12 : pointer.clientY + 18}px`;
}

/** From entry to entry of the chosen lane. */
function stepTo(panel, by) {
  const rows = lanesOf(panel);
  panel.cursor ??= { row: Math.max(0, rows.findIndex((row) => row.lane.kinds)) };
  const row = rows[panel.cursor.row];
  const whole = row.calls ?? (row.lane.spans ? row.spans : null);
  const times = whole ? Float64Array.from(whole, (it) => it.from) : row.lane.log ? panel.logAt : panel.lanes[row.index].at;
  if (!times.length) return;
  let place = panel.cursor.place;
  if (place === undefined) place = by > 0 ? lowerBound(times, panel.scale.from) : lowerBound(times, panel.scale.to) - 1;
  else place += by;
  place = Math.max(0, Math.min(times.length - 1, place));
  panel.cursor = { row: panel.cursor.row, place, at: times[place] };
  if (times[place] < panel.scale.from || times[place] > panel.scale.to) centreOn(panel, times[place]);
  const box = canvases[model.panels.indexOf(panel)].getBoundingClientRect();
  const scale = scaleOf(panel, box.width, panel.scale.left);
  const pointer = { clientX: box.left + scale.x(times[place]), clientY: box.top + row.y + row.height };
  inspect(panel, row.calls ? { call: row.calls[place] } : row.lane.spans ? { span: row.spans[place] } : { row: panel.cursor.row, place, at: times[place], many: 1 }, pointer);
  draw();
}

function keys(event, panel) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const rows = panel && lanesOf(panel);
  const chooseLane = (by) => {
    const row = panel.cursor ? panel.cursor.row + by : 0;
    panel.cursor = { row: Math.max(0, Math.min(rows.length - 1, row)) };
    inspect(panel, { lane: rows[panel.cursor.row].lane });
    draw();
  };
  const table = {
    ArrowLeft: () => pan(-.15), ArrowRight: () => pan(.15), "+": () => zoom(.7), "=": () => zoom(.7), "-": () => zoom(1 / .7),
    0: actions.critical, Home: actions.all,
    ...(panel && { ArrowUp: () => chooseLane(-1), ArrowDown: () => chooseLane(1), ".": () => stepTo(panel, 1), ",": () => stepTo(panel, -1), Escape: () => { panel.cursor = undefined; tip.hidden = true; draw(); } }),
  };
  if (table[event.key]) { table[event.key](); event.preventDefault(); }
}

model.panels.forEach((panel, index) => {
  const canvas = canvases[index];
  let drag = null;
  canvas.addEventListener("wheel", (event) => {
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
    // Over the lanes the wheel zooms; a page that cannot be scrolled past it would be a trap, so it does at the names.
    if (event.offsetX < panel.scale.left && !sideways) return;
    event.preventDefault();
    if (sideways) pan((event.deltaX || event.deltaY) / 1200);
    else zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * .006), panel.scale.ns(event.offsetX) - offsetOf(panel));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, from: view.from, to: view.to, moved: false }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    if (drag) {
      const shift = (drag.x - event.clientX) / (panel.scale.right - panel.scale.left) * (drag.to - drag.from);
      drag.moved ||= Math.abs(drag.x - event.clientX) > 3;
      if (drag.moved) { tip.hidden = true; show(drag.from + shift, drag.to + shift); }
      return;
    }
    inspect(panel, nearest(panel, event.offsetX, event.offsetY), event);
  });
  canvas.addEventListener("pointerup", (event) => {
    const clicked = drag && !drag.moved;
    drag = null;
    if (!clicked) return;
    const hit = nearest(panel, event.offsetX, event.offsetY);
    const oops = find(`#oops-${index}`);
    if (hit?.edge) centreOn(panel, hit.moment.at);
    else if (hit?.fault && oops) { oops.classList.add("here"); oops.scrollIntoView({ block: "nearest" }); }
    else if (hit && hit.place !== undefined) { panel.cursor = { row: hit.row, place: hit.place, at: hit.at }; draw(); }
  });
  canvas.addEventListener("pointercancel", () => { drag = null; });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("dblclick", (event) => zoom(.4, panel.scale.ns(event.offsetX) - offsetOf(panel)));
  canvas.addEventListener("keydown", (event) => keys(event, panel));
  canvas.addEventListener("focus", draw);
  canvas.addEventListener("blur", () => { tip.hidden = true; draw(); });
});

{
  let drag = null;
  const at = (event) => { const whole = wholeRun(); return whole.from + event.offsetX / overview.clientWidth * (whole.to - whole.from); };
  const move = (event) => { const half = (view.to - view.from) / 2, centre = at(event) - drag; show(centre - half, centre + half); };
  overview.addEventListener("pointerdown", (event) => {
    const centre = (view.from + view.to) / 2;
    drag = at(event) >= view.from && at(event) <= view.to ? at(event) - centre : 0;
    overview.setPointerCapture(event.pointerId);
    move(event);
  });
  overview.addEventListener("pointermove", (event) => { if (drag !== null) move(event); });
  for (const name of ["pointerup", "pointercancel"]) overview.addEventListener(name, () => { drag = null; });
  overview.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * .006)); }, { passive: false });
  overview.addEventListener("keydown", (event) => keys(event, null));
}

for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", () => actions[button.dataset.do]());
const choice = find("#align");
model.align.forEach((name, index) => choice.append(new Option(name, String(index), false, index === alignAt)));
choice.closest("label").hidden = model.panels.length < 2 || model.align.length < 2;
find("[data-do=removal]").hidden = model.panels.every((panel) => !panel.moments.length);
choice.addEventListener("change", () => {
  // What the first run shows stays where it is.
  const before = offsetOf(model.panels[0]);
  alignAt = Number(choice.value);
  const shift = before - offsetOf(model.panels[0]);
  show(view.from + shift, view.to + shift);
});
readColours();
new ResizeObserver(draw).observe(find("main"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); draw(); });
draw();
