// The time line: one canvas a run, all showing the same stretch, and the overview of everything.

const NAMES = 132, ROWS = 4, TOP = 74, AXIS = 20, LEAST = 2000;
/** The height of a row of calls, and of the interrupts below them; how many colours tasks have. */
const CALL = 16, HANDLERS = 8, TASKS = 5;
const view = { from: model.critical[0], to: model.critical[1] };
let alignAt = model.alignAt;
const canvases = [...document.querySelectorAll(".lanes canvas")];
const overview = find("#overview");
const tip = document.body.appendChild(make("div", "", "tip"));
tip.hidden = true;
const listeners = [];
let colours = {};

/** Where the moment that the runs are laid over each other at lies, since the run's zero. */
function offsetOf(panel) {
  const moment = panel.moments.find((moment) => moment.name === model.align[alignAt]);
  return moment ? moment.at : 0;
}
function wholeRun() {
  return {
    from: Math.min(...model.panels.map((panel) => panel.from - offsetOf(panel))),
    to: Math.max(...model.panels.map((panel) => panel.to - offsetOf(panel)), 1),
  };
}
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ink", "muted", "line", "paper", "band", "live", "live-pale", "dead", "dead-pale", "good", "zone", "focus", ...Array.from({ length: TASKS }, (_, task) => `task${task}`)])
    colours[name] = style.getPropertyValue("--" + name).trim();
  patterns.clear();
}

/** What is drawn of a run: lanes that it has something in. */
function lanesOf(panel) {
  if (panel.rowsOf) return panel.rowsOf;
  let y = TOP;
  panel.rowsOf = [];
  model.lanes.forEach((lane, index) => {
    if (lane.cpu !== undefined) {
      const calls = panel.calls.filter((call) => call.cpu === lane.cpu);
      // As high as it has to be since the critical moments; of what came before, as much as there is room for.
      const since = model.critical[0] + offsetOf(panel), until = Math.max(since, ...panel.moments.map((moment) => moment.until));
      const deep = Math.max(0, ...calls.filter((call) => call.to >= since && call.from <= until).map((call) => call.row + 1));
      if (!deep) return;
      const handlers = panel.handlers.filter(([, cpu]) => cpu === lane.cpu);
      panel.rowsOf.push({ lane, index, calls: calls.filter((call) => call.row < deep), handlers, y, height: deep * CALL + HANDLERS });
      y += deep * CALL + HANDLERS + 2;
      return;
    }
    const spans = lane.spans ? panel.spans.filter((span) => span.lane === lane.spans) : [];
    const used = lane.spans ? spans.length : lane.log ? panel.log.length : panel.lanes[index].index.length;
    if (!used) return;
    const height = ["remove", "idle", "pciehp"].includes(lane.spans) ? 24 : 17;
    panel.rowsOf.push({ lane, index, spans, y, height });
    y += height + 2;
  });
  panel.heightOf = y + AXIS;
  return panel.rowsOf;
}

const patterns = new Map();
function pattern(context, colour, both) {
  const key = colour + both;
  if (!patterns.has(key)) {
    const tile = document.createElement("canvas");
    const size = 7, scale = devicePixelRatio || 1;
    tile.width = tile.height = Math.round(size * scale);
    const pen = tile.getContext("2d");
    pen.scale(tile.width / size, tile.width / size);
    pen.strokeStyle = colour;
    pen.lineWidth = 1;
    for (const shift of [-size, 0, size]) {
      pen.beginPath(); pen.moveTo(shift, size); pen.lineTo(shift + size, 0); pen.stroke();
      if (both) { pen.beginPath(); pen.moveTo(shift, 0); pen.lineTo(shift + size, size); pen.stroke(); }
    }
    const made = context.createPattern(tile, "repeat");
    made.setTransform(new DOMMatrix().scale(size / tile.width));
    patterns.set(key, made);
  }
  return patterns.get(key);
}

function sized(canvas, height) {
  const scale = devicePixelRatio || 1, width = canvas.clientWidth;
  if (canvas.style.height !== height + "px") canvas.style.height = height + "px";
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "11px 'DejaVu Sans Mono', ui-monospace, Menlo, Consolas, monospace";
  return { pen, width };
}

/** A stretch of a run on a canvas. */
function scaleOf(panel, width, names) {
  const offset = offsetOf(panel), from = view.from + offset, to = view.to + offset;
  const factor = (width - names) / (to - from);
  return { from, to, x: (ns) => names + (ns - from) * factor, ns: (x) => from + (x - names) / factor, left: names, right: width };
}

function stepOf(span, width) {
  const least = span / Math.max(1, width / 80);
  let step = 1000;
  for (;;) {
    for (const factor of [1, 2, 5]) if (step * factor >= least) return step * factor;
    step *= 10;
  }
}

function drawPanel(panel, canvas) {
  const rows = lanesOf(panel);
  const { pen, width } = sized(canvas, panel.heightOf);
  const names = width < 560 ? 92 : NAMES;
  const scale = scaleOf(panel, width, names);
  const bottom = panel.heightOf - AXIS;
  panel.scale = scale;

  pen.fillStyle = colours.band;
  pen.fillRect(names, TOP, width - names, bottom - TOP);
  pen.save();
  pen.beginPath(); pen.rect(names, 0, width - names, panel.heightOf); pen.clip();
  if (panel.unmapped !== null && panel.unmapped < scale.to) {
    const x = Math.max(names, scale.x(panel.unmapped));
    pen.fillStyle = colours.zone;
    pen.fillRect(x, TOP, width - x, bottom - TOP);
  }
  const step = stepOf(scale.to - scale.from, width - names);
  const digits = step >= 1e6 ? 0 : step >= 1e5 ? 1 : step >= 1e4 ? 2 : 3;
  pen.strokeStyle = colours.line; pen.lineWidth = 1; pen.textAlign = "center"; pen.textBaseline = "middle";
  for (let at = Math.ceil(scale.from / step) * step; at <= scale.to; at += step) {
    const x = Math.round(scale.x(at)) + .5;
    pen.beginPath(); pen.moveTo(x, TOP); pen.lineTo(x, bottom); pen.stroke();
    pen.fillStyle = colours.muted;
    pen.fillText(millis(at, digits), x, bottom + AXIS / 2 + 1);
  }
  pen.strokeStyle = colours.muted;
  for (const moment of panel.moments) {
    const x = Math.round(scale.x(moment.at)) + .5;
    pen.beginPath(); pen.moveTo(x, TOP); pen.lineTo(x, bottom); pen.stroke();
  }
  for (const row of rows) drawRow(pen, panel, row, scale);
  const empty = rows.find((row) => row.lane.kinds?.includes(0));
  if (panel.unmapped !== null && empty && panel.unmapped < scale.to) {
    // In the lane of answered reads, of which there are none any more.
    const x = Math.max(names, scale.x(panel.unmapped)) + 6;
    pen.fillStyle = colours.dead; pen.textAlign = "left";
    if (x + 90 < width) pen.fillText("BAR unmapped", x, empty.y + empty.height / 2 + 1);
  }
  pen.restore();
  pen.textAlign = "left"; pen.textBaseline = "middle";
  rows.forEach((row, index) => {
    const chosen = panel.cursor && panel.cursor.row === index && document.activeElement === canvas;
    pen.fillStyle = chosen ? colours.focus : colours.muted;
    pen.fillText((chosen ? "▸" : "") + row.lane.name, 4, row.y + (row.calls ? CALL : row.height) / 2 + 1, names - 8);
    pen.strokeStyle = colours.line; pen.lineWidth = .5;
    pen.beginPath(); pen.moveTo(0, row.y + row.height + 1); pen.lineTo(width, row.y + row.height + 1); pen.stroke();
  });
  pen.fillStyle = colours.muted;
  pen.fillText("ms", 4, bottom + AXIS / 2 + 1);
  drawMoments(pen, panel, scale, bottom, rows);
  if (panel.cursor && panel.cursor.at !== undefined) {
    const row = rows[panel.cursor.row], x = scale.x(panel.cursor.at);
    if (x >= names) { pen.strokeStyle = colours.focus; pen.lineWidth = 2; pen.strokeRect(x - 4, row.y + 1, 8, row.height - 2); }
  }
}

function drawRow(pen, panel, row, scale) {
  const { y, height } = row;
  if (row.calls) {
    for (const call of row.calls) drawCall(pen, panel, call, y + 1 + call.row * CALL, scale);
    pen.fillStyle = colours.live;
    for (const [at] of row.handlers) if (at >= scale.from && at <= scale.to) pen.fillRect(scale.x(at) - .7, y + height - HANDLERS + 1, 1.4, HANDLERS - 2);
    return;
  }
  if (row.lane.spans) {
    for (const span of row.spans) drawSpan(pen, span, y + 1, height - 2, scale);
    return;
  }
  const times = row.lane.log ? panel.logAt : panel.lanes[row.index].at;
  const index = row.lane.log ? null : panel.lanes[row.index].index;
  const end = lowerBound(times, scale.to + 1);
  let i = lowerBound(times, scale.from);
  // One mark a pixel, however many entries: what costs is the width, not the record.
  while (i < end) {
    const x = Math.floor(scale.x(times[i]));
    const next = Math.min(end, Math.max(i + 1, lowerBound(times, scale.ns(x + 1))));
    const many = next - i;
    const full = height - 3;
    const tall = Math.min(full, full * (.55 + .15 * Math.log2(many)));
    const dead = index ? isDead(panel.kind[index[i]]) : panel.log.slice(i, next).some((line) => line.level !== null && line.level <= 3);
    pen.fillStyle = dead ? colours.dead : colours.live;
    pen.globalAlpha = Math.min(1, .75 + many * .05);
    pen.fillRect(x, y + height - 1 - tall, 1.4, tall);
    if (dead) pen.fillRect(x - 2, y + height - 1 - tall, 5.4, 1.6);
    pen.globalAlpha = 1;
    i = next;
  }
}

/** A call: in its task's colour while that runs, hatched while it sleeps, empty while others have the processor, cross-hatched where it dies of an unmapped BAR. */
function drawCall(pen, panel, call, y, scale) {
  if (call.to < scale.from || call.from > scale.to) return;
  const cut = (ns) => Math.max(scale.left - 3, Math.min(scale.right + 3, scale.x(ns)));
  const left = cut(call.from), w = Math.max(1.5, cut(call.to) - left), h = CALL - 2;
  pen.fillStyle = colours[`task${Math.max(0, panel.tasks.indexOf(call.task)) % TASKS}`];
  pen.fillRect(left, y, w, h);
  const hatched = (from, to, colour, both) => {
    const x = cut(from), wide = cut(to) - x;
    if (wide < 1) return;
    pen.fillStyle = colours.paper; pen.fillRect(x, y, wide, h);
    if (colour) { pen.fillStyle = pattern(pen, colour, both); pen.fillRect(x, y, wide, h); }
  };
  for (const { from, to, asleep } of call.away) hatched(from, to, asleep ? colours.good : null, false);
  const broken = call.end === "died" && panel.unmapped !== null && panel.unmapped < call.to;
  if (broken) hatched(Math.max(call.from, panel.unmapped), call.to, colours.dead, true);
  pen.strokeStyle = call.end === "died" ? colours.dead : colours.muted;
  pen.lineWidth = call.end === "died" ? 1.5 : .75;
  if (w > 2) pen.strokeRect(left + .5, y + .5, w - 1, h - 1);
  const shown = Math.max(scale.left, left) + 4, room = Math.min(scale.right, left + w) - shown - 3;
  const longest = Math.max(0, ...call.away.map(({ from, to, asleep }) => (asleep ? to - from : 0)));
  const waits = longest > 1e6 && longest > (call.to - call.from) / 2 ? " (waits)" : "";
  const beyond = call.to > scale.to && call.end === "returned" ? `  → ${millis(call.to, 0)} ms` : "";
  const label = [call.label + waits + beyond, call.label + beyond, call.label, call.label.split(": ").pop()].find((text) => pen.measureText(text).width <= room);
  if (!label) return;
  pen.textAlign = "left"; pen.textBaseline = "middle";
  if (call.away.length || broken) {
    pen.fillStyle = colours.paper;
    pen.globalAlpha = .85; pen.fillRect(shown - 2, y + 1.5, pen.measureText(label).width + 4, h - 3); pen.globalAlpha = 1;
  }
  pen.fillStyle = colours.ink;
  pen.fillText(label, shown, y + h / 2 + 1);
}

function drawSpan(pen, span, y, h, scale) {
  if (span.to < scale.from || span.from > scale.to) return;
  const left = Math.max(scale.left - 3, scale.x(span.from)), right = Math.min(scale.right + 3, scale.x(span.to));
  const w = Math.max(2, right - left);
  const looks = {
    solid: [colours["live-pale"], colours.live], waiting: [colours.paper, colours.good],
    broken: [colours["dead-pale"], colours.dead], gone: [colours.paper, colours.dead],
  };
  const [fill, edge] = looks[span.look];
  pen.fillStyle = fill;
  pen.fillRect(left, y, w, h);
  if (span.look === "waiting" || span.look === "broken") {
    pen.fillStyle = pattern(pen, edge, span.look === "broken");
    pen.fillRect(left, y, w, h);
  }
  pen.strokeStyle = edge;
  pen.lineWidth = span.look === "broken" ? 2 : 1;
  pen.strokeRect(left + .5, y + .5, w - 1, h - 1);
  const shown = Math.max(scale.left, left) + 6;
  let label = span.label;
  if (span.to > scale.to) label += `  → ${millis(span.to, 0)} ms`;
  if (pen.measureText(label).width > right - shown - 6) label = span.label;
  const wide = pen.measureText(label).width;
  if (wide > right - shown - 4) return;
  pen.textAlign = "left"; pen.textBaseline = "middle";
  if (span.look === "waiting" || span.look === "broken") { pen.fillStyle = colours.paper; pen.fillRect(shown - 3, y + 3, wide + 6, h - 6); }
  pen.fillStyle = colours.ink;
  pen.fillText(label, shown, y + h / 2 + 1);
}

function drawMoments(pen, panel, scale, bottom, rows) {
  const taken = Array.from({ length: ROWS }, () => []);
  const isFault = (moment) => Boolean(panel.fault) && moment.guest && Math.abs(moment.at - panel.fault[0]) < 2000;
  const names = [];
  panel.hot = [];
  const idle = rows.find((row) => row.lane.spans === "idle");
  pen.textAlign = "left"; pen.textBaseline = "middle";
  // The fault's name before all others; each in the highest row that is free there.
  for (const moment of [...panel.moments.filter(isFault), ...panel.moments.filter((moment) => !isFault(moment))]) {
    const x = scale.x(moment.at);
    if (x < scale.left - 1 || x > scale.right + 1) continue;
    const fault = isFault(moment);
    pen.strokeStyle = pen.fillStyle = fault ? colours.dead : colours.ink;
    if (fault) {
      pen.lineWidth = 2;
      pen.beginPath(); pen.moveTo(x, TOP); pen.lineTo(x, bottom); pen.stroke();
      if (idle) {
        const middle = idle.y + idle.height / 2;
        pen.lineWidth = 3;
        pen.beginPath(); pen.moveTo(x - 6, middle - 6); pen.lineTo(x + 6, middle + 6); pen.moveTo(x - 6, middle + 6); pen.lineTo(x + 6, middle - 6); pen.stroke();
      }
    }
    if (moment.until > moment.at) {
      // How much later it can have been.
      const end = Math.min(scale.right, scale.x(moment.until));
      pen.lineWidth = 1.5;
      pen.beginPath(); pen.moveTo(x, TOP - 3); pen.lineTo(end, TOP - 3); pen.moveTo(end, TOP - 6); pen.lineTo(end, TOP); pen.stroke();
    }
    const label = `${moment.name} ${moment.guest ? "~" : ""}${millis(moment.at, 1)}`;
    const wide = pen.measureText(label).width + 9;
    // A name that would go beyond the edge ends at its line instead.
    const left = x + wide <= scale.right ? x : x - wide >= scale.left ? x - wide : scale.right - wide;
    const row = taken.findIndex((names) => names.every(([from, to]) => left >= to || left + wide <= from));
    if (row < 0) continue;
    taken[row].push([left, left + wide]);
    const y = 9 + row * 13;
    pen.lineWidth = fault ? 2 : 1;
    pen.beginPath(); pen.moveTo(x, y - 7); pen.lineTo(x, TOP); pen.stroke();
    names.push([label, left + 5, y, fault]);
    panel.hot.push({ x: left, y: y - 7, w: wide, h: 13, moment, fault });
  }
  for (const [label, x, y, fault] of names) {
    pen.fillStyle = colours.paper; pen.fillRect(x - 2, y - 6, pen.measureText(label).width + 4, 12);
    pen.fillStyle = fault ? colours.dead : colours.ink;
    pen.fillText(label, x, y);
  }
  // What is out of sight is named at the edge that it lies beyond.
  const y = 9 + ROWS * 13;
  let used = 0;
  for (const side of ["left", "right"]) {
    const beyond = panel.moments.filter((moment) => side === "left" ? moment.at < scale.from : moment.at > scale.to);
    const next = side === "left" ? beyond[beyond.length - 1] : beyond[0];
    if (!next) continue;
    const more = beyond.length > 1 ? `, ${beyond.length - 1} more` : "";
    const text = `${next.name} ${millis(next.at, 0)}${more}`;
    const label = side === "left" ? `◂ ${text}` : `${text} ▸`;
    const wide = pen.measureText(label).width + 10;
    const left = side === "left" ? scale.left : scale.right - wide;
    if (side === "right" && left < used) continue;
    used = left + wide;
    pen.fillStyle = colours.paper; pen.fillRect(left, y - 7, wide, 12);
    pen.fillStyle = colours.focus;
    pen.fillText(label, left + 5, y);
    panel.hot.push({ x: left, y: y - 7, w: wide, h: 14, moment: next, edge: true });
  }
}

function drawOverview() {
  const { pen, width } = sized(overview, 54);
  const whole = wholeRun();
  const x = (ns) => (ns - whole.from) / (whole.to - whole.from) * width;
  const lane = 46 / model.panels.length;
  model.panels.forEach((panel, number) => {
    const offset = offsetOf(panel), y = 4 + number * lane;
    const counts = new Map();
    for (let i = 0; i < panel.at.length;) {
      const column = Math.floor(x(panel.at[i] - offset));
      const next = Math.max(i + 1, lowerBound(panel.at, whole.from + (column + 1) / width * (whole.to - whole.from) + offset));
      counts.set(column, next - i);
      i = next;
    }
    pen.fillStyle = colours.live;
    for (const [column, many] of counts) {
      const tall = Math.min(1, .25 + Math.log10(many) / 4) * (lane - 6);
      pen.fillRect(column, y + lane - 4 - tall, 1.2, tall);
    }
    if (panel.unmapped !== null) { pen.fillStyle = colours.zone; pen.fillRect(x(panel.unmapped - offset), y, width, lane - 4); }
    if (panel.fault) { pen.fillStyle = colours.dead; pen.fillRect(x(panel.fault[0] - offset) - 1, y, 2.5, lane - 4); }
    pen.textAlign = "left"; pen.textBaseline = "top";
    pen.fillStyle = colours.paper; pen.fillRect(2, y - 1, pen.measureText(panel.variant).width + 4, 13);
    pen.fillStyle = colours.muted; pen.fillText(panel.variant, 4, y);
  });
  const left = x(view.from), right = Math.max(left + 6, x(view.to));
  pen.fillStyle = colours.focus; pen.globalAlpha = .18; pen.fillRect(left, 1, right - left, 52); pen.globalAlpha = 1;
  pen.strokeStyle = colours.focus; pen.lineWidth = 2; pen.strokeRect(left, 1, right - left, 52);
}

let asked = false;
function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    model.panels.forEach((panel, index) => drawPanel(panel, canvases[index]));
    drawOverview();
    const span = view.to - view.from;
    find("#where").textContent = `${millis(span, span < 1e7 ? 3 : span < 1e9 ? 1 : 0)} ms shown`;
    document.documentElement.dataset.view = `${Math.round(view.from)} ${Math.round(view.to)}`;
  });
}

function show(from, to) {
  const whole = wholeRun(), margin = (whole.to - whole.from) * .02;
  const span = Math.min(Math.max(to - from, LEAST), whole.to - whole.from + 2 * margin);
  const centre = (from + to) / 2;
  view.from = Math.max(whole.from - margin, Math.min(centre - span / 2, whole.to + margin - span));
  view.to = view.from + span;
  draw();
  for (const listener of listeners) listener();
}
const zoom = (factor, centre = (view.from + view.to) / 2) => show(centre - (centre - view.from) * factor, centre + (view.to - centre) * factor);
const pan = (share) => show(view.from + (view.to - view.from) * share, view.to + (view.to - view.from) * share);
const centreOn = (panel, at) => { const half = (view.to - view.from) / 2; show(at - offsetOf(panel) - half, at - offsetOf(panel) + half); };
const actions = {
  critical: () => show(...model.critical.map((ns) => ns + criticalShift())),
  removal: () => {
    const from = model.critical[0] + criticalShift();
    const last = model.panels.map((panel) => Math.max(...panel.moments.map((moment) => moment.until), 0) - offsetOf(panel));
    const to = Math.max(...last, model.critical[1]);
    show(from, to + (to - from) * .04);
  },
  all: () => { const whole = wholeRun(); show(whole.from, whole.to); },
  in: () => zoom(.5), out: () => zoom(2), left: () => pan(-.25), right: () => pan(.25),
};
/** The critical stretch is told for the alignment that the page began with. */
function criticalShift() {
  const first = model.panels[0];
  const began = first.moments.find((moment) => moment.name === model.align[model.alignAt]);
  return (began ? began.at : 0) - offsetOf(first);
}
