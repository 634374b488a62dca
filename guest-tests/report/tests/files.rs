//! From a run's directory to page, picture and trace; and what is said of a directory that is none.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

use sdmorph_report::{Error, Report};
use serde_json::Value;

fn race() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/race")
}

/// A copy of the run without the fix that can be spoilt.
fn copy() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in ["result.json", "record.jsonl", "console.log"] {
        fs::copy(race().join("without-fix").join(name), directory.path().join(name)).unwrap();
    }
    directory
}

fn model(html: &str) -> Value {
    let (_, rest) = html.split_once("id=\"model\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn page_says_what_happened_in_both_runs() {
    let html = Report::read(&race()).unwrap().html();
    for words in [
        "Without the fix, the idle callback goes on reading the BAR after removal has unmapped it",
        "11 more reads reached the device through the old mapping, the last at 322.1 ms",
        "was the page fault (between 328.1 ms and 341.0 ms)",
        "Removal waited for its end: .remove came to the BAR 7.0 ms after the last read",
        "rtsx_pci_write_register (inlined)",
        "bound by pciehp&#39;s clearing of DLLSC",
    ] {
        assert!(html.contains(words), "no `{words}`");
    }
    let model = model(&html);
    let looks = |panel: usize, lane: &str| -> Vec<String> {
        let spans = model["panels"][panel]["spans"].as_array().unwrap();
        let spans = spans.iter().filter(|span| span["lane"] == lane);
        spans.map(|span| span["look"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(looks(0, "idle"), ["solid", "broken"]);
    assert_eq!(looks(0, "remove"), ["solid", "solid"]);
    assert_eq!(looks(1, "idle"), ["solid"]);
    assert_eq!(looks(1, "remove"), ["waiting", "solid"]);
}

#[test]
fn runs_whose_bar_vanished_at_other_times_are_laid_over_each_other_there() {
    let model = model(&Report::read(&race()).unwrap().html());
    assert_eq!(model["align"], serde_json::json!(["switch requested", "BAR vanished", "link down"]));
    assert_eq!(model["alignAt"], 1);
    // From 5 ms before the idle callback to 5 ms after the latest time of the fault.
    let critical: Vec<i64> =
        model["critical"].as_array().unwrap().iter().map(|ns| ns.as_i64().unwrap()).collect();
    assert!(critical[0] < -5_000_000 && critical[1] > 89_000_000 && critical[1] < 96_000_000, "{critical:?}");
}

#[test]
fn every_line_of_the_record_can_be_put_together_again() {
    let model = model(&Report::read(&race().join("with-fix")).unwrap().html());
    let panel = &model["panels"][0];
    let list = |name: &str| panel[name].as_array().unwrap().clone();
    let (shapes, zero) = (list("shapes"), panel["zero"].as_i64().unwrap());
    let (mut at, mut lines) = (0, String::new());
    assert_eq!(panel["gaps"], serde_json::json!([]), "the fixture has no gaps");
    for (seq, (time, which)) in list("times").iter().zip(list("which")).enumerate() {
        at += time.as_i64().unwrap();
        let shape = shapes[usize::try_from(which.as_u64().unwrap()).unwrap()].as_str().unwrap();
        let line = shape.replace('\u{e000}', &seq.to_string()).replace('\u{e001}', &(at + zero).to_string());
        lines += &(line + "\n");
    }
    assert_eq!(lines, fs::read_to_string(race().join("with-fix/record.jsonl")).unwrap());
    assert!(shapes.len() < 100, "dead reads are one shape: {}", shapes.len());
}

#[test]
fn nothing_that_a_guest_says_becomes_markup() {
    let run = copy();
    let hostile = "</script><script>window.hostile=1</script><img src=x onerror=hostile()>\u{2028}&lt;";
    let mut console = fs::read_to_string(run.path().join("console.log")).unwrap();
    console += &format!("<3>[   99.000000] {hostile}\n");
    fs::write(run.path().join("console.log"), console).unwrap();
    let result = fs::read_to_string(run.path().join("result.json")).unwrap();
    let mut result: Value = serde_json::from_str(&result).unwrap();
    result["oops"]["text"][0] = hostile.into();
    result["oops"]["comm"] = hostile.into();
    result["scenario"] = hostile.into();
    fs::write(run.path().join("result.json"), result.to_string()).unwrap();
    let report = Report::read(run.path()).unwrap();
    for text in [report.html(), report.svg()] {
        assert!(!text.contains("<img") && !text.contains("<script>window"));
        assert!(text.contains("&lt;/script&gt;"), "it is there as text");
    }
    let html = report.html();
    assert_eq!(html.matches("<script").count(), 2, "the data and the page's own");
    assert!(!html.split_once("id=\"model\">").unwrap().1.contains('\u{2028}'));
    let lines = &model(&html)["panels"][0]["lines"];
    assert!(lines.as_array().unwrap().iter().any(|line| line[2].as_str().unwrap().ends_with(hostile)));
}

#[test]
fn picture_is_well_formed_and_has_its_words() {
    let report = Report::read(&race()).unwrap();
    let svg = report.svg();
    for words in [
        "waits for the idle callback",
        "still in its loop, BAR unmapped",
        "BUG: unable to handle page fault",
        "page fault ~328.1",
    ] {
        assert!(svg.contains(words), "no `{words}`");
    }
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(!svg.contains("NaN") && !svg.contains("inf\""));
    let png = report.png();
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert_eq!(side(16), 2480, "two pixels a unit");
    assert!(side(20) > 1000 && png.len() > 50_000 && png.len() < 500_000, "{} bytes", png.len());
}

#[test]
fn trace_has_every_entry_and_no_negative_time() {
    let trace: Value = serde_json::from_str(&Report::read(&race()).unwrap().trace()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let records = events.iter().filter(|event| event["args"]["t_ns"].is_u64()).count();
    let lines = |variant: &str| {
        fs::read_to_string(race().join(variant).join("record.jsonl")).unwrap().lines().count()
    };
    assert_eq!(records, lines("with-fix") + lines("without-fix"));
    assert!(events.iter().filter_map(|event| event["ts"].as_f64()).all(|ts| ts >= 0.0));
    let fault = events.iter().find(|event| event["name"] == "page fault").unwrap();
    assert_eq!((&fault["ph"], &fault["pid"]), (&"i".into(), &1.into()));
    assert!(events.iter().any(|event| event["ph"] == "X" && event["name"] == "waits for the idle callback"));
}

#[test]
fn record_with_a_broken_line_is_named_with_its_number() {
    let run = copy();
    let path = run.path().join("record.jsonl");
    let mut record = fs::read_to_string(&path).unwrap();
    record.insert_str(record.find('\n').unwrap() + 1, "{\"t_ns\": nonsense\n");
    fs::write(&path, record).unwrap();
    let error = Report::read(run.path()).unwrap_err();
    assert!(matches!(error, Error::Line { line: 2, .. }), "{error}");
    assert!(error.to_string().contains("record.jsonl, line 2"), "{error}");
}

#[test]
fn record_that_is_cut_off_is_shown_with_a_warning() {
    let run = copy();
    let path = run.path().join("record.jsonl");
    let record = fs::read_to_string(&path).unwrap();
    fs::write(&path, &record[..record.len() - 20]).unwrap();
    let report = Report::read(run.path()).unwrap();
    let line = record.lines().count();
    let expected =
        format!("the record of the run without the fix is cut off in its line {line}, which is left out");
    assert!(report.html().contains(&expected[1..]));
    assert_eq!(report.warnings(), [expected]);
}

#[test]
fn directory_without_a_run_is_told_what_one_has() {
    let empty = tempfile::tempdir().unwrap();
    let error = Report::read(empty.path()).unwrap_err().to_string();
    assert!(error.contains("a run's directory has result.json, record.jsonl and console.log"), "{error}");
    assert!(error.contains("It is empty"), "{error}");
    let above = Report::read(race().parent().unwrap()).unwrap_err().to_string();
    assert!(above.contains("runs further down, in race"), "{above}");
    let unfinished = copy();
    fs::remove_file(unfinished.path().join("result.json")).unwrap();
    let error = Report::read(unfinished.path()).unwrap_err().to_string();
    assert!(error.contains("did not come to its end"), "{error}");
    let missing = copy();
    fs::remove_file(missing.path().join("record.jsonl")).unwrap();
    let error = Report::read(missing.path()).unwrap_err().to_string();
    assert!(error.contains("cannot read") && error.contains("record.jsonl"), "{error}");
    let nowhere = Report::read(Path::new("/nonexistent")).unwrap_err().to_string();
    assert!(nowhere.contains("cannot read the directory /nonexistent"), "{nowhere}");
}

#[test]
fn run_without_the_race_has_a_page_as_well() {
    let run = copy();
    let event = "{\"fn\":\"reader\",\"kind\":\"event\",\"name\":\"driver-bound\",\"seq\":0,\"t_ns\":1000}\n";
    fs::write(run.path().join("record.jsonl"), event).unwrap();
    fs::write(run.path().join("console.log"), "").unwrap();
    let result =
        "{\"scenario\":\"other\",\"variant\":\"with-fix\",\"outcome\":\"inconclusive\",\"reason\":\"why\"}";
    fs::write(run.path().join("result.json"), result).unwrap();
    let report = Report::read(run.path()).unwrap();
    assert!(report.html().contains("Not as expected: with the fix: inconclusive"));
    assert!(report.svg().contains("why."));
    fs::write(run.path().join("record.jsonl"), "").unwrap();
    let warnings = Report::read(run.path()).unwrap().warnings().join("\n");
    assert!(warnings.contains("is empty"), "{warnings}");
}

#[test]
fn reads_of_the_dead_bar_that_are_not_the_idle_callback_s_are_not_taken_for_it() {
    let run = copy();
    let access = |t_ns: u64, dir: &str, fields: &str| {
        format!("{{\"kind\":\"access\",\"t_ns\":{t_ns},\"dir\":\"{dir}\",\"space\":\"bar0\",{fields}}}\n")
    };
    let event =
        |t_ns: u64, name: &str| format!("{{\"kind\":\"event\",\"t_ns\":{t_ns},\"name\":\"{name}\"}}\n");
    // The callback begins and ends while the BAR answers. Later, before .remove, somebody resumes the dead reader.
    let record = [
        event(1_000_000, "express-switch-requested"),
        "{\"kind\":\"access\",\"t_ns\":2000000,\"dir\":\"write\",\"space\":\"internal\",\"reg\":\"OLT_LED_CTL\"}\n".to_owned(),
        access(3_000_000, "write", r#""offset":"0x10","value":"0xfe573332""#),
        access(4_000_000, "read", r#""offset":"0x10","value":"0x7e573332""#),
        event(5_000_000, "link-down"),
        access(6_000_000, "write", r#""offset":"0x10","value":"0xfc020100","dead":true"#),
        access(7_000_000, "read", r#""offset":"0x10","value":"0xffffffff","dead":true"#),
        access(8_000_000, "write", r#""offset":"0x18","value":"0x0","dead":true"#),
    ];
    fs::write(run.path().join("record.jsonl"), record.concat()).unwrap();
    let console = "<6>[    1.005500] pcieport x: pciehp: Slot(8): Link Down\n<14>[    1.009000] sdmorph-test: reader removed\n";
    fs::write(run.path().join("console.log"), console).unwrap();
    let result = r#"{"variant":"with-fix","outcome":"clean","as_expected":true,"means":"It went well.","zero_ns":1000000}"#;
    fs::write(run.path().join("result.json"), result).unwrap();
    let html = Report::read(run.path()).unwrap().html();
    assert!(html.contains("<p>It went well.</p>") && !html.contains("Removal waited"));
    let spans = model(&html)["panels"][0]["spans"].clone();
    let of = |lane: &str| spans.as_array().unwrap().iter().find(|span| span["lane"] == lane).unwrap().clone();
    assert_eq!((&of("idle")["from"], &of("idle")["to"]), (&1_000_000.into(), &3_000_000.into()));
    assert_eq!(
        (&of("remove")["label"], &of("remove")["look"]),
        (&"on its way to .remove".into(), &"solid".into())
    );
}

fn traced() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/traced")
}

#[test]
fn traced_runs_have_a_lane_for_each_processor_and_say_what_removal_was_in() {
    let report = Report::read(&traced()).unwrap();
    assert_eq!(report.warnings(), [] as [String; 0]);
    let html = report.html();
    for words in [
        "Removal waited for its end in pm_runtime_barrier, which is the fix, for 7,691 ms",
        ".remove unmapped the BAR (iounmap, until 350.7 ms)",
        "can be up to 0.31 ms later than drawn",
    ] {
        assert!(html.contains(words), "no `{words}`");
    }
    let model = model(&html);
    let names: Vec<_> =
        model["lanes"].as_array().unwrap().iter().map(|lane| lane["name"].as_str().unwrap()).collect();
    assert_eq!(names[..3], ["vCPU 0", "vCPU 1", "pciehp thread"]);
    let calls = |run: usize| model["panels"][run]["calls"].as_array().unwrap();
    let time = |call: &Value, field: &str| call[field].as_i64().unwrap();
    let length = |call: &Value| time(call, "to") - time(call, "from");
    let longest = |run: usize, label: &str| {
        let all = calls(run).iter().filter(|call| call["label"] == label);
        all.max_by_key(|call| length(call)).unwrap_or_else(|| panic!("no {label}")).clone()
    };
    // With the fix: removal sleeps in the barrier, on the other processor, until after the idle callback has returned.
    let (barrier, idle) = (longest(1, "pm_runtime_barrier"), longest(1, "rtsx_pci_runtime_idle"));
    assert!(time(&barrier, "from") > time(&idle, "from") && time(&barrier, "to") > time(&idle, "to"));
    assert!(time(&barrier, "to") - time(&idle, "to") < 20_000_000, "and not much longer");
    assert_ne!(barrier["cpu"], idle["cpu"]);
    let asleep = barrier["away"].as_array().unwrap().iter().filter(|away| away["asleep"] == true);
    let slept: i64 = asleep.map(|away| time(away, "to") - time(away, "from")).sum();
    assert!(slept > 7_000_000_000, "{slept}");
    // Without it: the callback's task dies in it, after the BAR was unmapped.
    let (unmap, idle) = (longest(0, "iounmap"), longest(0, "rtsx_pci_runtime_idle"));
    assert_eq!((&idle["end"], &unmap["end"]), (&"died".into(), &"returned".into()));
    assert!(time(&idle, "from") < time(&unmap, "from") && time(&unmap, "to") < time(&idle, "to"));
    assert_eq!(model["panels"][0]["unmapped"], unmap["to"]);
}

#[test]
fn picture_and_trace_have_the_kernel_s_calls() {
    let report = Report::read(&traced()).unwrap();
    let svg = report.svg();
    for words in ["vCPU 0", "kworker/1:0: pm_runtime_work", "pm_runtime_barrier", "rtsx_set_l1off_sub"] {
        assert!(svg.contains(words), "no `{words}`");
    }
    let trace: Value = serde_json::from_str(&report.trace()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let barriers = events.iter().filter(|event| event["name"] == "pm_runtime_barrier" && event["pid"] == 2);
    let barrier =
        barriers.max_by(|one, other| one["dur"].as_f64().unwrap().total_cmp(&other["dur"].as_f64().unwrap()));
    let barrier = barrier.unwrap();
    assert_eq!(barrier["ph"], "X");
    assert!(barrier["args"]["slept_us"].as_i64().unwrap() > 7_000_000);
    let thread = events
        .iter()
        .find(|event| event["name"] == "thread_name" && event["pid"] == 2 && event["tid"] == barrier["tid"]);
    assert_eq!(thread.unwrap()["args"]["name"], "vCPU 0 irq/40-pciehp");
    assert!(events.iter().filter_map(|event| event["ts"].as_f64()).all(|ts| ts >= 0.0));
}

#[test]
fn trace_without_its_end_is_shown_with_a_warning() {
    let run = copy();
    for name in ["result.json", "record.jsonl", "console.log", "trace.txt"] {
        fs::copy(traced().join("with-fix").join(name), run.path().join(name)).unwrap();
    }
    let path = run.path().join("trace.txt");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.split("# complete").next().unwrap()).unwrap();
    let warnings = Report::read(run.path()).unwrap().warnings();
    assert_eq!(
        warnings,
        ["the trace of the guest's kernel in the run with the fix is not complete: its end is missing"]
    );
    fs::write(&path, "").unwrap();
    let report = Report::read(run.path()).unwrap();
    assert!(report.warnings()[0].contains("there is none that could be shown"));
    assert!(!report.html().contains("vCPU 0"));
}

#[test]
fn series_has_a_page_for_each_run_and_one_that_links_to_them() {
    let directory = tempfile::tempdir().unwrap();
    for (place, from) in [("race/6.1/with-fix-001", "with-fix"), ("race/6.1/without-fix-001", "without-fix")]
    {
        let run = directory.path().join(place);
        fs::create_dir_all(&run).unwrap();
        for name in ["result.json", "record.jsonl", "console.log"] {
            fs::copy(race().join(from).join(name), run.join(name)).unwrap();
        }
    }
    let index =
        sdmorph_report::series(directory.path(), |path, warnings| panic!("{path:?} {warnings:?}")).unwrap();
    let html = fs::read_to_string(index).unwrap();
    assert!(html.contains("2 runs, all as expected"), "{html}");
    for place in ["race/6.1/with-fix-001", "race/6.1/without-fix-001"] {
        assert!(html.contains(&format!("href=\"{place}/report.html\"")), "{html}");
        let page = fs::read_to_string(directory.path().join(place).join("report.html")).unwrap();
        assert!(page.starts_with("<!doctype html>"));
    }
    assert!(html.contains("BUG: unable to handle page fault"), "{html}");
}
