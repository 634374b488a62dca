//! The page: verdicts, times, oopses and the still picture as HTML, and the whole record as data for its script.
//!
//! The page works without its script: that adds the time line, which can be moved about in, and the table of everything.
//! A policy in the page's head allows this one script by its hash and nothing else, neither from the network nor from a
//! guest's log.

use std::collections::HashMap;
use std::fmt::Write as _;

use sdmorph_lab::clocks::device_ns;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::drawing;
use crate::escape::{json as safe_json, markup};
use crate::evidence::Row;
use crate::ftrace::End;
use crate::kernel::{Placed, ROWS};
use crate::lanes::{Content, Kind, LANES, LaneRow, cpu_name};
use crate::story::{ON_TRIAL, Panel, Story};
use crate::svg;
use crate::wording::{between, capital, excerpt, fine_ms, ms, thousands};

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = concat!(
    "\"use strict\";\n",
    include_str!("page/model.js"),
    include_str!("page/timeline.js"),
    include_str!("page/input.js"),
    include_str!("page/table.js"),
);

/// Entries of one record that a page has at most; those around the critical moments. More make a browser slow.
pub const RECORDS_LIMIT: usize = 200_000;
/// Lines of one trace that a page has at most.
const TRACE_LIMIT: usize = 20_000;
/// Callers that the excerpt of an oops shows.
const CALLERS: usize = 12;

/// What stands for the sequence number and for the time in a line of the record that was folded with others like it.
const SEQ: char = '\u{e000}';
const TIME: char = '\u{e001}';

/// Writes the page.
pub(crate) fn write(story: &Story) -> String {
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        base64(&Sha256::digest(SCRIPT.as_bytes()))
    );
    let mut html = start(&story.title, &policy);
    head(&mut html, story);
    timeline(&mut html, story);
    moments(&mut html, story);
    table(&mut html);
    clocks(&mut html, story);
    still(&mut html, story);
    let model = safe_json(&model(story).to_string());
    let _ = write!(
        html,
        "<script type=\"application/json\" id=\"model\">{model}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    );
    html
}

/// A page's beginning, to its body's: `title` is text, `policy` its Content-Security-Policy.
pub(crate) fn start(title: &str, policy: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}: sdmorph</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        markup(title)
    )
}

/// What is wrong with a run's evidence, in words.
pub(crate) fn warnings(panel: &Panel) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(line) = panel.cut_line {
        warnings.push(format!(
            "the record of the run {} is cut off in its line {line}, which is left out",
            panel.variant
        ));
    }
    if panel.rows.is_empty() {
        warnings.push(format!("the record of the run {} is empty", panel.variant));
    }
    let lost: u64 = panel
        .rows
        .windows(2)
        .map(|pair| match pair {
            [before, after] => after.seq.saturating_sub(before.seq).saturating_sub(1),
            _ => 0,
        })
        .sum();
    if lost > 0 {
        warnings.push(format!("{lost} entries of the record of the run {} were lost", panel.variant));
    }
    if panel.is_traced && !panel.kernel.complete {
        warnings.push(format!(
            "the trace of the guest's kernel in the run {} is not complete: {}",
            panel.variant,
            if panel.kernel.lines.is_empty() {
                "there is none that could be shown"
            } else {
                "its end is missing"
            }
        ));
    }
    if panel.clock.is_none() {
        warnings.push(format!(
            "guest and device of the run {} have no moment in common: the guest's lines have no place on the time line",
            panel.variant
        ));
    }
    for difference in &panel.result.disagreements {
        warnings.push(format!("guest and device of the run {} disagree: {difference}", panel.variant));
    }
    warnings
}

fn head(html: &mut String, story: &Story) {
    let _ = write!(
        html,
        "<header>\n<h1>{}</h1>\n<p class=\"headline\">{}</p>\n",
        markup(&story.title),
        markup(&story.headline)
    );
    if let Some(panel) = story.panels.first() {
        let origin = &panel.result.origin;
        let parts = [
            match origin.unreported() {
                Some(why) => Some(format!("no report: {}", markup(why))),
                None => Some(format!("reported as <q>{}</q>", markup(&origin.thread)))
                    .filter(|_| !origin.thread.is_empty()),
            },
            origin.cve.as_deref().map(markup),
            origin.commit.as_deref().map(|commit| format!("fixed by <code>{}</code>", markup(commit))),
            Some(format!("Linux {}", markup(&panel.result.kernel))),
            Some(format!("QEMU {}", markup(&panel.result.qemu))),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let _ = writeln!(html, "<p class=\"about\">{}</p>", parts.join(" · "));
    }
    html.push_str("<div class=\"verdicts\">\n");
    for panel in &story.panels {
        let (class, sign) = match panel.result.outcome.as_str() {
            "fault" => ("fault", "✕"),
            "hang" => ("fault", "∞"),
            "clean" => ("clean", "✓"),
            _ => ("open", "?"),
        };
        let expected = match (panel.result.variant.as_str(), panel.result.as_expected) {
            (ON_TRIAL, _) => "nothing is expected of it",
            (_, true) => "as expected",
            (_, false) => "not as expected",
        };
        let _ = write!(
            html,
            "<section class=\"verdict {class}\"><h2><span class=\"sign\" aria-hidden=\"true\">{sign}</span> {}: {}\
             <small>{expected}</small></h2>\n<p>{}</p></section>\n",
            markup(&capital(panel.variant)),
            markup(&panel.result.outcome),
            markup(&panel.sentence)
        );
    }
    html.push_str("</div>\n");
    let warnings: Vec<String> = story.panels.iter().flat_map(warnings).collect();
    for warning in &warnings {
        let _ = writeln!(html, "<p class=\"warning\" role=\"note\">{}.</p>", markup(&capital(warning)));
    }
    html.push_str("</header>\n<main>\n");
}

fn timeline(html: &mut String, story: &Story) {
    html.push_str(include_str!("page/toolbar.html"));
    for (index, panel) in story.panels.iter().enumerate() {
        let heading = format!("{}: {}", capital(panel.variant), panel.result.outcome);
        let _ = write!(
            html,
            "<div class=\"panel\" data-panel=\"{index}\">\n<h3>{}</h3>\n<div class=\"lanes\"><canvas tabindex=\"0\" \
             role=\"application\" aria-roledescription=\"time line\" aria-label=\"Time line of the run {}. {} Arrow keys move, plus and \
             minus zoom, up and down choose a lane, comma and full stop go from entry to entry.\" \
             aria-describedby=\"inspector\"></canvas></div>\n",
            markup(&heading),
            markup(panel.variant),
            markup(&panel.sentence),
        );
        if let Some(oops) = &panel.result.oops {
            let lines = excerpt(&panel.result, oops, CALLERS).join("\n");
            let when = panel.fault.map_or_else(String::new, |(from, to)| {
                format!("<p>{}</p>", markup(&capital(&between(from, to))))
            });
            let _ = write!(
                html,
                "<aside class=\"oops\" id=\"oops-{index}\" aria-label=\"The oops of the run {}\"><h4>The oops</h4>{when}\
                 <pre>{}</pre>\n<details><summary>As the kernel printed it</summary><pre>{}</pre></details></aside>\n",
                markup(panel.variant),
                markup(&lines),
                markup(&oops.text.join("\n"))
            );
        } else if !panel.result.kernel_log.is_empty() {
            let _ = writeln!(
                html,
                "<aside class=\"said\" aria-label=\"What the guest's kernel said in the run {}\"><h4>{}</h4><pre>{}</pre></aside>",
                markup(panel.variant),
                if panel.result.outcome == "clean" { "No oops. The kernel said" } else { "The kernel said" },
                markup(&panel.result.kernel_log.join("\n"))
            );
        }
        html.push_str("</div>\n");
    }
    html.push_str(include_str!("page/key.html"));
}

/// The scenario's moments side by side.
fn moments(html: &mut String, story: &Story) {
    let mut names: Vec<&str> = Vec::new();
    for panel in &story.panels {
        for moment in &panel.result.moments {
            if !names.contains(&moment.name.as_str()) {
                names.push(&moment.name);
            }
        }
    }
    if names.is_empty() {
        return;
    }
    html.push_str(
        "<section>\n<h2>Moments</h2>\n<table class=\"moments\"><thead><tr><th scope=\"col\">ms</th>",
    );
    for panel in &story.panels {
        let _ = write!(html, "<th scope=\"col\">{}</th>", markup(panel.variant));
    }
    html.push_str("</tr></thead><tbody>\n");
    for name in names {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", markup(name));
        for panel in &story.panels {
            let moment = panel.moments.iter().find(|moment| moment.name == name);
            let cell = moment.map_or_else(
                || "–".to_owned(),
                |moment| match moment.until - moment.at {
                    _ if !moment.guest => ms(moment.at),
                    0..100_000 => format!("~ {}", ms(moment.at)),
                    _ => format!("~ {} to {}", ms(moment.at).trim_end_matches(" ms"), ms(moment.until)),
                },
            );
            let _ = write!(html, "<td>{}</td>", markup(&cell));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table>\n</section>\n");
}

fn table(html: &mut String) {
    html.push_str(include_str!("page/table.html"));
}

/// How far the guest's times can be off.
fn clocks(html: &mut String, story: &Story) {
    html.push_str("<section>\n<h2>Clocks</h2>\n<p>Times are the device's, a monotonic clock with nanoseconds. The guest's log has a clock of its own \
        (marked ~), which is laid over the device's by what both have seen: each such pair says that one thing came after \
        another. Guest times are drawn as early as all pairs allow.</p>\n<ul>\n");
    for panel in &story.panels {
        let _ =
            writeln!(html, "<li>{}: {}</li>", markup(&capital(panel.variant)), markup(&uncertainty(panel)));
    }
    html.push_str("</ul>\n<p>The console prints microseconds; a line is printed after what it tells of. An access's time is the one at which the device answered it, before a \
        rule's latency.</p>\n</section>\n");
}

fn uncertainty(panel: &Panel) -> String {
    let Some(clock) = &panel.clock else {
        return "guest and device have no moment in common; the guest's lines are in the table only."
            .to_owned();
    };
    let (lower, upper) = &clock.alignment.because;
    let whose = if clock.has_trace() {
        "the trace's times, and those of the log's lines in it,"
    } else {
        "the guest's times"
    };
    match (clock.alignment.width_ns(), upper) {
        (Some(width), Some(upper)) => format!(
            "{whose} can be up to {} later than drawn. From below they are bound by {lower}, from above by {upper}.",
            fine_ms(width)
        ),
        _ => format!("{whose} are bound from below by {lower}; nothing says how much later they can be."),
    }
}

fn still(html: &mut String, story: &Story) {
    let _ = write!(
        html,
        "<section class=\"still\">\n<h2>The critical moments</h2>\n<figure>{}</figure>\n<p class=\"scripted\"><code>sdmorph report DIR --svg FILE \
         --png FILE</code> writes this picture for a mail or a bug report.</p>\n</section>\n</main>\n",
        svg::write(&drawing::draw(story))
    );
}

/// The data of the script.
fn model(story: &Story) -> Value {
    json!({
        "lanes": story.cpus().into_iter().map(cpu_lane).chain(LANES.iter().map(lane)).collect::<Vec<_>>(),
        "align": story.align,
        "alignAt": story.align_at,
        "critical": [story.critical.0, story.critical.1],
        "panels": story.panels.iter().map(|panel| run(story, panel)).collect::<Vec<_>>(),
    })
}

fn cpu_lane(cpu: u32) -> Value {
    let about = "what the guest's kernel did on it: traced functions, in rows by who called whom";
    json!({"name": cpu_name(cpu), "about": about, "cpu": cpu})
}

fn lane(row: &LaneRow) -> Value {
    let mut value = json!({"name": row.name, "about": row.about});
    if let Some(fields) = value.as_object_mut() {
        match &row.content {
            Content::Spans(lane) => fields.insert("spans".to_owned(), json!(lane)),
            Content::Ticks(kinds) => {
                let kinds: Vec<u8> = kinds.iter().map(|kind| *kind as u8).collect();
                fields.insert("kinds".to_owned(), json!(kinds))
            }
            Content::Log => fields.insert("log".to_owned(), json!(true)),
        };
    }
    value
}

fn run(story: &Story, panel: &Panel) -> Value {
    let (rows, which_kinds) = shown(story, panel);
    let left_out = panel.rows.len() - rows.len();
    // Lines that differ in number and time only are one shape: of thousands of reads of a dead register, one is kept.
    let mut shapes: Vec<String> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let (mut times, mut which, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
    let (mut before, mut expected) = (0, 0);
    for (index, row) in rows.iter().enumerate() {
        let at = device_ns(row) - panel.zero_ns;
        times.push(at - before);
        before = at;
        if row.seq != expected {
            gaps.push(json!([index, row.seq]));
        }
        expected = row.seq + 1;
        let shape = row.raw.replacen(&format!("\"seq\":{}", row.seq), &format!("\"seq\":{SEQ}"), 1).replacen(
            &format!("\"t_ns\":{}", row.t_ns),
            &format!("\"t_ns\":{TIME}"),
            1,
        );
        let next = shapes.len();
        which.push(*known.entry(shape).or_insert_with_key(|shape| {
            shapes.push(shape.clone());
            next
        }));
    }
    let kinds: String = which_kinds.iter().map(|kind| char::from(b'a' + *kind as u8)).collect();
    let lines: Vec<Value> = panel
        .lines
        .iter()
        .filter(|(_, line)| !line.text.is_empty())
        .map(|(at, line)| json!([at, line.level, line.to_string()]))
        .collect();
    json!({
        "variant": panel.variant,
        "outcome": panel.result.outcome,
        "zero": panel.zero_ns,
        "zeroName": panel.zero_name,
        "moments": panel.moments,
        "spans": panel.spans,
        "unmapped": panel.unmapped,
        "fault": panel.fault.map(|(from, to)| [from, to]),
        "hasOops": panel.result.oops.is_some(),
        "shapes": shapes,
        "times": times,
        "which": which,
        "kinds": kinds,
        "gaps": gaps,
        "leftOut": if left_out == 0 { Value::Null } else {
            json!(format!("{} entries of the record are not in this page: {} of {} has them.",
                thousands(left_out), "record.jsonl", if panel.directory.is_empty() { "the run's directory" } else { &panel.directory }))
        },
        "lines": lines,
        "calls": panel.kernel.calls.iter().filter(|placed| placed.row < ROWS).map(call).collect::<Vec<_>>(),
        "handlers": panel.kernel.handlers.iter().map(|it| json!([it.at, it.cpu, it.text])).collect::<Vec<_>>(),
        "trace": traced(story, panel).iter().map(|(at, line)| json!([at, line])).collect::<Vec<_>>(),
    })
}

fn call(placed: &Placed) -> Value {
    let call = &placed.call;
    let end = match call.end {
        End::Returned => "returned",
        End::Died => "died",
        End::Open => "open",
    };
    json!({
        "from": call.from, "to": call.to, "cpu": call.cpu, "row": placed.row, "label": placed.label(), "end": end,
        "task": format!("{}, process {}", placed.task, call.pid), "name": placed.task, "away": call.away,
    })
}

/// The lines of the trace that go into the page: all, or those around the critical moments.
fn traced<'a>(story: &Story, panel: &'a Panel) -> &'a [(i64, String)] {
    let lines = panel.kernel.lines.as_slice();
    let start = story.critical.0 + story.offset(panel);
    let middle = lines.partition_point(|(at, _)| *at < start);
    let from = middle.saturating_sub(TRACE_LIMIT / 2).min(lines.len().saturating_sub(TRACE_LIMIT));
    lines.get(from..lines.len().min(from + TRACE_LIMIT)).unwrap_or(lines)
}

/// The entries that go into the page: all, or those around the critical moments.
fn shown<'a>(story: &Story, panel: &'a Panel) -> (&'a [Row], &'a [Kind]) {
    let (rows, kinds) = (panel.rows.as_slice(), panel.kinds.as_slice());
    if rows.len() <= RECORDS_LIMIT {
        return (rows, kinds);
    }
    let start = story.critical.0 + story.offset(panel) + panel.zero_ns;
    let middle = rows.partition_point(|row| device_ns(row) < start);
    let from = middle.saturating_sub(RECORDS_LIMIT / 2).min(rows.len() - RECORDS_LIMIT);
    let part = from..from + RECORDS_LIMIT;
    rows.get(part.clone()).zip(kinds.get(part)).unwrap_or((rows, kinds))
}

/// RFC 4648, for the hash in the policy.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = group
            .iter()
            .chain([0, 0].iter())
            .take(3)
            .fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        for place in 0..4 {
            let digit = DIGITS.get((number >> (18 - 6 * place)) as usize & 63).copied().unwrap_or(b'=');
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
