//! The critical moments as a drawing, which [`crate::svg`] and [`crate::png`] write.

use crate::evidence::Oops;
use crate::ftrace::Call;
use crate::lanes::{Content, Kind, LANES, Lane, LaneRow, cpu_name};
use crate::pen::{
    BAND, BLUE, Drawing, GREEN, GRID, INK, LINE, MUTED, PALE_RED, Pen, RED, Shape, Size, WHITE, Window,
    columns, cut, width_of, wrap,
};
use crate::story::{Panel, Story};
use crate::wording::{capital, excerpt, ms};

const WIDTH: f32 = 1240.0;
const MARGIN: f32 = 16.0;
/// The column of the lanes' names.
const NAMES: f32 = 118.0;
/// The part at the right: the oops, or what comes after the break.
const ASIDE: f32 = 296.0;
/// Between the time line and that part.
const GAP: f32 = 26.0;
/// The height of a lane with spans, and of one with ticks.
const SPAN_LANE: f32 = 22.0;
const TICK_LANE: f32 = 14.0;
/// The height of a row of calls of the guest's kernel.
const CALL_ROW: f32 = 14.0;
/// Rows that moments' names are put into, so that they do not run into each other.
const NAME_ROWS: usize = 4;
/// What is written into the zone in which it is.
const UNMAPPED: &str = "BAR unmapped";
/// Lines of the oops beside its panel.
const OOPS_LINES: usize = 15;

/// Draws the critical moments of a story.
pub(crate) fn draw(story: &Story) -> Drawing {
    let mut pen = Pen { shapes: Vec::new(), y: MARGIN };
    let wide = WIDTH - 2.0 * MARGIN;
    pen.y += 2.0;
    let mut about = story.title.clone();
    if let Some(panel) = story.panels.first() {
        let result = &panel.result;
        let more = [
            result.origin.cve.clone(),
            Some(format!("Linux {}", result.kernel)),
            Some(format!("QEMU {}", version(&result.qemu))),
        ];
        for part in more.into_iter().flatten() {
            about = format!("{about}  ·  {part}");
        }
    }
    pen.paragraph(MARGIN, wide, MUTED, false, &about);
    pen.y += 3.0;
    pen.paragraph(MARGIN, wide, INK, true, &story.headline);
    let aside = story.panels.iter().any(|panel| panel.result.oops.is_some() || later(story, panel).is_some());
    for panel in &story.panels {
        pen.y += 16.0;
        draw_panel(&mut pen, story, panel, aside);
    }
    pen.y += 8.0;
    pen.paragraph(MARGIN, wide, MUTED, false, &legend(story));
    let height = (pen.y + MARGIN).ceil();
    let mut shapes = vec![Shape::Rect { x: 0.0, y: 0.0, w: WIDTH, h: height, fill: WHITE, opacity: 1.0 }];
    shapes.append(&mut pen.shapes);
    let sentences: Vec<String> =
        story.panels.iter().map(|panel| format!("{}: {}", capital(panel.variant), panel.sentence)).collect();
    Drawing {
        width: WIDTH,
        height,
        title: format!("{about}. {}", story.headline),
        description: sentences.join(" "),
        shapes,
    }
}

/// `11.1.3 (Debian …)` without the rest.
fn version(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or(text)
}

fn legend(story: &Story) -> String {
    let align = match story.align.get(story.align_at) {
        Some(name) if story.panels.len() > 1 => format!(", laid over each other at `{name}`"),
        _ => String::new(),
    };
    let zero = story.panels.first().map_or("", |panel| panel.zero_name.as_str());
    format!(
        "Milliseconds since: {zero}{align}. One tick is one access, at its time on the device's clock. Guest times (~) \
         are laid over it by what both sides saw, and are drawn as early as they can have been."
    )
}

/// The window behind the break: around the end of what is waited for, if that is outside of the first window.
fn later(story: &Story, panel: &Panel) -> Option<i64> {
    let (_, to) = story.critical;
    let unmapped = panel.unmapped?;
    if unmapped - story.offset(panel) > to { Some(panel.last_read.unwrap_or(unmapped)) } else { None }
}

fn draw_panel(pen: &mut Pen, story: &Story, panel: &Panel, aside: bool) {
    let fault = panel.result.outcome == "fault";
    let colour = if fault { RED } else { GREEN };
    let x = MARGIN + NAMES;
    let w = WIDTH - MARGIN - x - if aside { ASIDE + GAP } else { 0.0 };
    let offset = story.offset(panel);
    let window = Window { x, w, from: story.critical.0 + offset, to: story.critical.1 + offset };
    let break_at = later(story, panel);
    let second = break_at.map(|at| {
        let share = f64::from(ASIDE / w);
        let length = ((window.to - window.from) as f64 * share) as i64;
        let from = at - length / 3;
        Window { x: x + w + GAP, w: ASIDE, from, to: from + length }
    });

    pen.y += LINE;
    if fault {
        pen.cross(MARGIN + 6.0, pen.y - 4.0, 5.0, colour)
    } else {
        pen.tick(MARGIN + 6.0, pen.y - 4.0, 5.0, colour)
    }
    let heading = format!("{}: {}", capital(panel.variant), panel.result.outcome);
    pen.bold(MARGIN + 20.0, pen.y, colour, &heading);
    pen.paragraph(MARGIN + 20.0, WIDTH - 2.0 * MARGIN - 20.0, INK, false, &panel.sentence);
    pen.y += 6.0;

    let top = pen.y;
    let windows: Vec<Window> = std::iter::once(window).chain(second).collect();
    let names_bottom = top + 11.0 * NAME_ROWS as f32 + 4.0;
    let lanes = lanes(panel);
    let cpus = cpus(panel, &windows);
    let lanes_top = names_bottom + cpus.iter().map(|(_, rows)| CALL_ROW * *rows as f32 + 2.0).sum::<f32>();
    let bottom = lanes_top + lanes.iter().map(|(_, height)| height + 2.0).sum::<f32>();
    for window in &windows {
        background(pen, *window, panel, (names_bottom, lanes_top, bottom));
        for moment in panel.moments.iter().filter(|moment| window.has(moment.at)) {
            pen.line((window.at(moment.at), names_bottom), (window.at(moment.at), bottom), MUTED, 0.9);
        }
    }
    let mut y = names_bottom;
    for (cpu, rows) in cpus {
        pen.text(MARGIN, y + CALL_ROW / 2.0 + 3.5, Size::Small, MUTED, &cpu_name(cpu));
        let height = CALL_ROW * rows as f32;
        for window in &windows {
            pen.line((window.x, y + height + 1.0), (window.x + window.w, y + height + 1.0), GRID, 0.5);
            let calls = panel.kernel.calls.iter().filter(|it| it.call.cpu == cpu && it.row < rows);
            for placed in calls {
                pen.call(
                    *window,
                    y + CALL_ROW * placed.row as f32 + 1.0,
                    CALL_ROW - 1.0,
                    placed,
                    panel.unmapped,
                );
            }
        }
        y += height + 2.0;
    }
    for (lane, height) in lanes {
        pen.text(MARGIN, y + height / 2.0 + 3.5, Size::Small, MUTED, lane.name);
        for window in &windows {
            pen.line((window.x, y + height + 1.0), (window.x + window.w, y + height + 1.0), GRID, 0.5);
            match &lane.content {
                Content::Spans(which) => {
                    for span in panel.spans.iter().filter(|span| span.lane == *which) {
                        pen.span(*window, y + 1.0, height - 2.0, span);
                    }
                }
                Content::Ticks(kinds) => ticks(pen, *window, panel, kinds, y, height),
                Content::Log => {}
            }
        }
        y += height + 2.0;
    }
    for window in &windows {
        foreground(pen, *window, panel, top, (names_bottom, lanes_top, bottom));
    }
    if second.is_some() {
        // The break: what lies between is left out.
        let (left, right) = (x + w + GAP / 2.0 - 4.0, x + w + GAP / 2.0 + 4.0);
        for at in [left, right] {
            pen.line((at - 3.0, bottom + 6.0), (at + 3.0, names_bottom - 6.0), MUTED, 1.2);
        }
    } else if let (Some(oops), true) = (&panel.result.oops, aside) {
        draw_oops(pen, panel, oops, (x + w + GAP, names_bottom, bottom));
    }
    pen.y = bottom + 16.0;
}

/// The oops, beside the moment that it is of.
fn draw_oops(pen: &mut Pen, panel: &Panel, oops: &Oops, (x, top, bottom): (f32, f32, f32)) {
    pen.rect(x, top, ASIDE, bottom - top, PALE_RED, 0.55);
    pen.line((x, top), (x, bottom), RED, 2.0);
    let columns = columns(ASIDE - 14.0, Size::Small);
    let lines = excerpt(&panel.result, oops, 10);
    let lines = lines.iter().enumerate().flat_map(|(index, line)| {
        // The headline is worth a second line, a caller is not.
        if index == 0 { wrap(line, columns) } else { vec![cut(line, columns)] }
    });
    let mut y = top + 13.0;
    for line in lines.take(OOPS_LINES) {
        if y > bottom - 3.0 {
            break;
        }
        pen.text(x + 8.0, y, Size::Small, INK, &line);
        y += 12.0;
    }
}

/// The lanes of the still picture that this run has something in.
fn lanes(panel: &Panel) -> Vec<(&'static LaneRow, f32)> {
    let kept = |row: &&LaneRow| match &row.content {
        _ if !row.still => false,
        Content::Spans(Lane::Bar | Lane::Link | Lane::Presence) => true,
        Content::Spans(lane) => panel.spans.iter().any(|span| span.lane == *lane),
        Content::Ticks(kinds) => panel.kinds.iter().any(|kind| kinds.contains(kind)),
        Content::Log => false,
    };
    let height = |row: &LaneRow| match &row.content {
        Content::Spans(Lane::Remove | Lane::Idle) => SPAN_LANE,
        _ => TICK_LANE,
    };
    LANES.iter().filter(kept).map(|row| (row, height(row))).collect()
}

/// The virtual processors that something was traced on in these windows, and how many rows of calls there are.
fn cpus(panel: &Panel, windows: &[Window]) -> Vec<(u32, usize)> {
    let is_shown = |call: &Call| windows.iter().any(|window| window.part(call.from, call.to).is_some());
    let rows = panel.kernel.cpus().into_iter().map(|cpu| (cpu, panel.kernel.rows(cpu, is_shown)));
    rows.filter(|(_, rows)| *rows > 0).collect()
}

fn ticks(pen: &mut Pen, window: Window, panel: &Panel, kinds: &[Kind], y: f32, height: f32) {
    let (mut full, mut hollow) = (Vec::new(), Vec::new());
    let mut before: Option<f32> = None;
    for (row, kind) in panel.rows.iter().zip(&panel.kinds) {
        let at = i64::try_from(row.t_ns).unwrap_or(i64::MAX) - panel.zero_ns;
        if !kinds.contains(kind) || !window.has(at) {
            continue;
        }
        let x = window.at(at);
        // What falls on the same half pixel is one mark.
        if before.is_some_and(|before| x - before < 0.5) {
            continue;
        }
        before = Some(x);
        let dead = matches!(kind, Kind::DeadRead | Kind::LostWrite | Kind::DmaFailed);
        if dead { &mut hollow } else { &mut full }.push(x);
    }
    for x in full {
        pen.line((x, y + 2.0), (x, y + height - 1.0), BLUE, 1.5);
    }
    for x in hollow {
        // A dead access is a short tick with a cross-bar: told apart without colour.
        let segments = vec![[x, y + 3.0, x, y + height - 1.0], [x - 2.0, y + 3.0, x + 2.0, y + 3.0]];
        pen.shapes.push(Shape::Lines { segments, colour: RED, width: 1.2 });
    }
}

/// Grid, times, and the zone in which the BAR is not mapped any more.
fn background(pen: &mut Pen, window: Window, panel: &Panel, (top, lanes_top, bottom): (f32, f32, f32)) {
    pen.rect(window.x, top, window.w, bottom - top, BAND, 1.0);
    if let Some((x, w)) = panel.unmapped.and_then(|unmapped| window.part(unmapped, i64::MAX)) {
        pen.rect(x, top, w, bottom - top, PALE_RED, 0.8);
        if w > width_of(UNMAPPED, Size::Small) + 12.0 {
            // In the lane of answered reads, of which there are none any more.
            pen.text(x + 6.0, lanes_top + 2.0 * (SPAN_LANE + 2.0) + 10.0, Size::Small, RED, UNMAPPED);
        }
    }
    let step = step(window);
    let mut at = window.from.div_euclid(step) * step + step;
    while at < window.to {
        let x = window.at(at);
        pen.line((x, top), (x, bottom), GRID, 0.75);
        let label = axis(at, step);
        let half = width_of(&label, Size::Small) / 2.0;
        if x - half >= window.x - 10.0 && x + half <= window.x + window.w + 10.0 {
            pen.text(x - half, bottom + 11.0, Size::Small, MUTED, &label);
        }
        at += step;
    }
}

/// The names of moments, and the fault.
fn foreground(
    pen: &mut Pen,
    window: Window,
    panel: &Panel,
    top: f32,
    (names_bottom, lanes_top, bottom): (f32, f32, f32),
) {
    let here = || panel.moments.iter().filter(|moment| window.has(moment.at));
    for moment in here() {
        let x = window.at(moment.at);
        let colour = if panel.is_fault(moment) { RED } else { MUTED };
        if let Some((x, w)) = window.part(moment.at, moment.until).filter(|_| moment.until > moment.at) {
            // How much later it can have been.
            let y = names_bottom - 2.0;
            pen.line((x, y), (x + w, y), colour, 1.0);
            pen.line((x + w, y - 2.5), (x + w, y + 2.5), colour, 1.0);
        }
        if panel.is_fault(moment) {
            pen.line((x, names_bottom), (x, bottom), RED, 2.0);
            pen.cross(x, lanes_top + SPAN_LANE * 1.5 + 2.0, 6.0, RED);
        }
    }
    // Each name in the highest row that is free there, from the left; the fault's before all others.
    let mut rows = [const { Vec::<(f32, f32)>::new() }; NAME_ROWS];
    let (faults, others): (Vec<_>, Vec<_>) = here().partition(|moment| panel.is_fault(moment));
    let mut names = Vec::new();
    for moment in faults.into_iter().chain(others) {
        let x = window.at(moment.at);
        let sign = if moment.guest { "~" } else { "" };
        let label = format!("{} {sign}{}", moment.name, ms(moment.at).trim_end_matches(" ms"));
        let width = width_of(&label, Size::Small) + 8.0;
        // A name that would go beyond the window ends at its line instead, or where the window does.
        let end = window.x + window.w;
        let left = match () {
            () if x + width <= end => x,
            () if x - width >= window.x => x - width,
            () => end - width,
        };
        let is_free =
            |taken: &Vec<(f32, f32)>| taken.iter().all(|(from, to)| left >= *to || left + width <= *from);
        let Some((row, taken)) = rows.iter_mut().enumerate().find(|(_, taken)| is_free(taken)) else {
            continue;
        };
        taken.push((left, left + width));
        let y = top + 9.0 + 11.0 * row as f32;
        let (colour, stroke) = if panel.is_fault(moment) { (RED, 2.0) } else { (INK, 0.9) };
        pen.line((x, y - 8.0), (x, names_bottom), colour, stroke);
        names.push((left, y, width, colour, label));
    }
    for (left, y, width, colour, label) in names {
        pen.rect(left + 2.0, y - 8.0, width - 4.0, 10.0, WHITE, 1.0);
        pen.text(left + 4.0, y, Size::Small, colour, &label);
    }
}

/// A round number of nanoseconds between two marks of the axis.
fn step(window: Window) -> i64 {
    let least = (window.to - window.from) / (window.w / 70.0).max(1.0) as i64;
    let mut step = 1_000;
    loop {
        for factor in [1, 2, 5] {
            if step * factor >= least {
                return step * factor;
            }
        }
        step *= 10;
    }
}

fn axis(ns: i64, step: i64) -> String {
    let value = ns as f64 / 1e6;
    if step < 1_000_000 { format!("{value:.1}") } else { format!("{value:.0}") }
}
