//! All entries as a trace in the Chrome JSON trace event format ("Trace Event Format", JSON object form).
//!
//! Perfetto's user interface opens it as it opens its own protobuf; JSON needs no schema, no encoder, and can be looked
//! at with jq. Protobuf would be a tenth of the size, which a trace of some megabytes does not need.
//!
//! A run is a process, a lane is a thread of it. Spans are complete events (`X`), everything else is an instant (`i`).
//! Runs are laid over each other as on the page.

use sdmorph_lab::clocks::device_ns;
use serde_json::{Value, json};

use crate::ftrace::Call;
use crate::lanes::{Content, LANES, LaneRow, cpu_name};
use crate::story::{Panel, Story};
use crate::wording::capital;

/// The thread of the scenario's moments, before the lanes'.
const MOMENTS: usize = 1;

/// The first thread of the guest's kernel.
const KERNEL: usize = 1000;

/// Writes the trace.
pub(crate) fn write(story: &Story) -> String {
    // A trace has no negative times.
    let first = |panel: &Panel| {
        let rows = panel.rows.first().map(|row| device_ns(row) - panel.zero_ns);
        let lines = panel.lines.iter().filter_map(|(at, _)| *at).min();
        let calls = panel.kernel.calls.first().map(|placed| placed.call.from);
        rows.into_iter().chain(lines).chain(calls).min().unwrap_or(0) - story.offset(panel)
    };
    let start = story.panels.iter().map(first).min().unwrap_or(0);
    let mut text = String::from("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
    for (index, panel) in story.panels.iter().enumerate() {
        events(panel, index + 1, start + story.offset(panel), &mut |event| {
            text.push_str(&event.to_string());
            text.push_str(",\n");
        });
    }
    // The last comma's companion: the format allows none after the last event.
    text.push_str("{\"ph\":\"M\",\"pid\":0,\"name\":\"process_name\",\"args\":{\"name\":\"sdmorph\"}}\n]}\n");
    text
}

fn events(panel: &Panel, pid: usize, start: i64, put: &mut impl FnMut(Value)) {
    let micros = |ns: i64| (ns - start) as f64 / 1000.0;
    let name = format!("{}: {}", capital(panel.variant), panel.result.outcome);
    put(json!({"ph": "M", "pid": pid, "name": "process_name", "args": {"name": name}}));
    put(json!({"ph": "M", "pid": pid, "name": "process_sort_index", "args": {"sort_index": pid}}));
    let lanes = std::iter::once("moments").chain(LANES.iter().map(|lane| lane.name));
    for (tid, name) in lanes.enumerate() {
        let tid = tid + MOMENTS;
        put(json!({"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": name}}));
        put(
            json!({"ph": "M", "pid": pid, "tid": tid, "name": "thread_sort_index", "args": {"sort_index": tid}}),
        );
    }
    for moment in &panel.moments {
        put(json!({
            "ph": "i", "s": "p", "pid": pid, "tid": MOMENTS, "ts": micros(moment.at), "name": moment.name,
            "args": {"clock": if moment.guest { "guest" } else { "device" }, "at_most_later_us": (moment.until - moment.at) / 1000},
        }));
    }
    for span in &panel.spans {
        let lane = |row: &LaneRow| matches!(&row.content, Content::Spans(lane) if *lane == span.lane);
        let duration = micros(span.to) - micros(span.from);
        put(json!({
            "ph": "X", "pid": pid, "tid": thread(lane), "ts": micros(span.from), "dur": duration, "name": span.label,
        }));
    }
    // The kernel's threads: one for each task on each processor, above the lanes.
    let mut threads: Vec<(u32, u32)> = Vec::new();
    for placed in &panel.kernel.calls {
        let call = &placed.call;
        let which = threads.iter().position(|thread| *thread == (call.cpu, call.pid)).unwrap_or_else(|| {
            let tid = KERNEL + threads.len();
            let name = format!("{} {}", cpu_name(call.cpu), placed.task);
            put(json!({"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": name}}));
            put(json!({"ph": "M", "pid": pid, "tid": tid, "name": "thread_sort_index", "args": {"sort_index": i64::from(call.cpu) - 1000}}));
            threads.push((call.cpu, call.pid));
            threads.len() - 1
        });
        put(json!({
            "ph": "X", "pid": pid, "tid": KERNEL + which, "ts": micros(call.from), "dur": micros(call.to) - micros(call.from),
            "name": call.function,
            "args": {"process": call.pid, "slept_us": away_us(call, true), "preempted_us": away_us(call, false)},
        }));
    }
    for (at, line) in panel.lines.iter().filter_map(|(at, line)| Some(((*at)?, line))) {
        let lane = |row: &LaneRow| matches!(row.content, Content::Log);
        put(json!({
            "ph": "i", "s": "t", "pid": pid, "tid": thread(lane), "ts": micros(at), "name": line.text,
            "args": {"level": line.level},
        }));
    }
    for (row, kind) in panel.rows.iter().zip(&panel.kinds) {
        let lane = |lane: &LaneRow| matches!(&lane.content, Content::Ticks(kinds) if kinds.contains(kind));
        let name = match (&row.name, &row.reg, &row.dir) {
            (Some(name), _, _) => name.clone(),
            (None, Some(reg), Some(dir)) => format!("{dir} {reg}"),
            (None, None, Some(dir)) if row.is_memory() => {
                format!("{dir} +{:#05x}", row.page_offset().unwrap_or(0))
            }
            _ => row.kind.clone(),
        };
        let record: Value = serde_json::from_str(&row.raw).unwrap_or(Value::Null);
        put(json!({
            "ph": "i", "s": "t", "pid": pid, "tid": thread(lane), "ts": micros(device_ns(row) - panel.zero_ns),
            "name": name, "args": record,
        }));
    }
}

/// For how long a call's task slept, or others had the processor.
fn away_us(call: &Call, asleep: bool) -> i64 {
    call.away.iter().filter(|away| away.asleep == asleep).map(|away| (away.to - away.from) / 1000).sum()
}

fn thread(lane: impl Fn(&LaneRow) -> bool) -> usize {
    LANES.iter().position(lane).map_or(MOMENTS, |index| index + MOMENTS + 1)
}
