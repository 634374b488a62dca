//! The page in headless Chromium: it opens without an error, shows its lanes, zooms, moves, tells the raw line.
//!
//! Skipped where there is no Chromium; `CHROMIUM=` names one. It is spoken to by the DevTools protocol over two pipes
//! (--remote-debugging-pipe: messages are JSON that end with a NUL).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stderr)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sdmorph_report::Report;
use serde_json::{Value, json};

struct Browser {
    process: Child,
    _directory: tempfile::TempDir,
    to: File,
    from: BufReader<File>,
    next: u64,
    session: Value,
    events: Vec<Value>,
}

fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM").filter(|named| !named.is_empty()) {
        return Some(named.into());
    }
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name))).find(|path| path.is_file())
}

impl Browser {
    fn start() -> Option<Self> {
        let Some(chromium) = chromium() else {
            eprintln!("skipped: no Chromium on this machine; CHROMIUM=PATH names one");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let (to, from) = (directory.path().join("to"), directory.path().join("from"));
        assert!(Command::new("mkfifo").args([&to, &from]).status().unwrap().success());
        // Descriptors 3 and 4 are what the option stands for; a shell can give them to a child.
        let process = Command::new("sh")
            .arg("-c")
            .arg(
                "exec \"$1\" --headless=new --no-sandbox --disable-gpu --no-first-run --remote-debugging-pipe \
                 --window-size=1400,1000 --user-data-dir=\"$4\" about:blank 3<\"$2\" 4>\"$3\"",
            )
            .args([Path::new("sh"), &chromium, &to, &from, &directory.path().join("profile")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let to = File::options().write(true).open(to).unwrap();
        let from = BufReader::new(File::open(from).unwrap());
        let (session, events) = (Value::Null, Vec::new());
        let mut browser = Self { process, _directory: directory, to, from, next: 0, session, events };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].clone();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    fn read(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes).unwrap();
        let text = bytes.strip_suffix(&[0]).expect("Chromium has closed the pipe");
        serde_json::from_slice(text).unwrap()
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": params});
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.to.write_all(message.to_string().as_bytes()).unwrap();
        self.to.write_all(&[0]).unwrap();
        loop {
            let answer = self.read();
            if answer["id"] == self.next {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn open(&mut self, path: &Path) {
        self.events.clear();
        self.call("Page.navigate", json!({"url": format!("file://{}", path.display())}));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.read();
            self.events.push(event);
        }
    }

    /// The value of an expression, once the page has drawn what was asked of it before.
    fn value(&mut self, expression: &str) -> Value {
        let drawn = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 0))))";
        let expression = format!("{drawn}.then(() => ({expression}))");
        let answer = self.call(
            "Runtime.evaluate",
            json!({"expression": expression, "awaitPromise": true, "returnByValue": true}),
        );
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    fn mouse(&mut self, kind: &str, x: f64, y: f64, more: &Value) {
        let mut params = json!({"type": kind, "x": x, "y": y});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.call("Input.dispatchMouseEvent", params);
    }

    fn key(&mut self, key: &str) {
        let text = if key.len() == 1 { json!(key) } else { Value::Null };
        let mut down = json!({"type": "keyDown", "key": key});
        if !text.is_null() {
            down["text"] = text;
        }
        self.call("Input.dispatchKeyEvent", down);
        self.call("Input.dispatchKeyEvent", json!({"type": "keyUp", "key": key}));
    }

    /// From where to where the time line goes, in nanoseconds.
    fn view(&mut self) -> (f64, f64) {
        let view = self.value("document.documentElement.dataset.view");
        let numbers: Vec<f64> =
            view.as_str().unwrap().split(' ').map(|number| number.parse().unwrap()).collect();
        (numbers[0], numbers[1])
    }

    /// What the console and the log of the browser complained of, and what was asked of the network.
    fn complaints(&self) -> Vec<String> {
        let of_interest = |event: &&Value| match event["method"].as_str().unwrap_or("") {
            "Runtime.exceptionThrown" | "Log.entryAdded" => true,
            "Runtime.consoleAPICalled" => event["params"]["type"] != "log",
            "Network.requestWillBeSent" => {
                !event["params"]["request"]["url"].as_str().unwrap_or("").starts_with("file://")
            }
            _ => false,
        };
        self.events.iter().filter(of_interest).map(ToString::to_string).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have gone already.
        let _ = self.to.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        if std::thread::panicking() {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

fn race() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/race")
}

#[test]
fn page_opens_shows_its_lanes_and_moves() {
    let Some(mut browser) = Browser::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("report.html");
    Report::save(&page, Report::read(&race()).unwrap().html()).unwrap();
    browser.open(&page);

    // The lanes are drawn, and named for those who do not see them.
    let inked = browser.value(
        "[...document.querySelectorAll('.lanes canvas')].map((canvas) => {
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            const colours = new Set();
            for (let i = 0; i < data.length; i += 4) colours.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
            return colours.size;
        })",
    );
    let inked = inked.as_array().unwrap();
    assert!(inked.len() == 2 && inked.iter().all(|colours| colours.as_u64().unwrap() > 20), "{inked:?}");
    let names = browser.value("model.panels.map((panel) => lanesOf(panel).map((row) => row.lane.name))");
    for name in [
        "pciehp thread",
        "removal",
        "idle callback",
        "reads, dead",
        "writes, lost",
        "link",
        "presence",
        "interrupts",
        "rules",
    ] {
        assert!(
            names.as_array().unwrap().iter().all(|panel| panel.as_array().unwrap().contains(&name.into())),
            "{name}"
        );
    }
    let label = browser.value("document.querySelector('.lanes canvas').getAttribute('aria-label')");
    assert!(label.as_str().unwrap().contains("without the fix"), "{label}");
    let aligned = browser.value("canvases.map((canvas) => canvas.getBoundingClientRect().width)");
    assert_eq!(aligned[0], aligned[1], "both runs are drawn to one scale");

    // Wheel, drag, keys, buttons.
    browser.value("canvases[0].scrollIntoView({ block: 'center' })");
    let place = browser.value("(() => { const box = canvases[0].getBoundingClientRect(); return [box.left + box.width / 2, box.top + 120]; })()");
    let (x, y) = (place[0].as_f64().unwrap(), place[1].as_f64().unwrap());
    let start = browser.view();
    browser.mouse("mouseWheel", x, y, &json!({"deltaX": 0, "deltaY": -60}));
    let zoomed = browser.view();
    assert!(zoomed.1 - zoomed.0 < (start.1 - start.0) * 0.8, "{start:?} {zoomed:?}");
    let button = json!({"button": "left", "buttons": 1, "clickCount": 1});
    browser.mouse("mousePressed", x, y, &button);
    browser.mouse("mouseMoved", x - 100.0, y, &button);
    browser.mouse("mouseReleased", x - 100.0, y, &button);
    let moved = browser.view();
    assert!(
        moved.0 > zoomed.0 && ((moved.1 - moved.0) - (zoomed.1 - zoomed.0)).abs() < 10.0,
        "{zoomed:?} {moved:?}"
    );
    browser.value("canvases[0].focus()");
    browser.key("-");
    let wider = browser.view();
    assert!(wider.1 - wider.0 > moved.1 - moved.0, "{moved:?} {wider:?}");
    browser.key("0");
    assert_eq!(browser.view(), start);
    browser.value("document.querySelector('[data-do=all]').click()");
    let all = browser.view();
    assert!(all.1 - all.0 > 10e9, "{all:?}");
    browser.value("document.querySelector('[data-do=critical]').click()");
    assert_eq!(browser.view(), start);

    // The raw line, by pointer and by keys.
    let at = browser.value(
        "(() => {
            const panel = model.panels[0], row = lanesOf(panel).find((row) => row.lane.name === 'reads, dead');
            const box = canvases[0].getBoundingClientRect();
            return [box.left + panel.scale.x(panel.lanes[row.index].at[2]), box.top + row.y + row.height / 2];
        })()",
    );
    browser.mouse("mouseMoved", at[0].as_f64().unwrap(), at[1].as_f64().unwrap(), &json!({}));
    let record = fs::read_to_string(race().join("without-fix/record.jsonl")).unwrap();
    let is_raw =
        |text: &Value| text.as_str().is_some_and(|text| record.lines().any(|line| text.ends_with(line)));
    let tip = browser.value("tip.hidden ? '' : tip.textContent");
    assert!(is_raw(&tip) && tip.as_str().unwrap().contains("HAIMR"), "{tip}");
    for key in ["ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "."] {
        browser.key(key);
    }
    let told = browser.value("document.querySelector('#inspector').textContent");
    assert!(is_raw(&told), "{told}");

    // The table: the critical moments first, all of it on demand, folded.
    let rows = "tableState.rows.length";
    let critical = browser.value(&format!("(fill(), {rows})")).as_u64().unwrap();
    let whole = browser
        .value(&format!("(find('#inside').checked = false, find('#fold').checked = false, fill(), {rows})"));
    let whole = whole.as_u64().unwrap();
    assert!(critical > 20 && whole > critical, "{critical} {whole}");
    let lines = |variant: &str, name: &str| {
        fs::read_to_string(race().join(variant).join(name))
            .unwrap()
            .lines()
            .filter(|line| !line.is_empty())
            .count() as u64
    };
    let all =
        ["record.jsonl", "console.log"].map(|name| lines("without-fix", name) + lines("with-fix", name));
    assert_eq!(whole, all.iter().sum::<u64>(), "every entry and every line can be reached");
    let found = browser.value(&format!("(find('#filter').value = 'bier', fill(), {rows})"));
    assert_eq!(found, 2, "one write of BIER a run");

    assert_eq!(browser.complaints(), [] as [String; 0]);
}

#[test]
fn page_of_a_hostile_guest_runs_none_of_its_markup() {
    let Some(mut browser) = Browser::start() else { return };
    let run = tempfile::tempdir().unwrap();
    for name in ["result.json", "record.jsonl", "console.log"] {
        fs::copy(race().join("without-fix").join(name), run.path().join(name)).unwrap();
    }
    let hostile = "</script><script>window.hostile = 1</script><img src=x onerror='window.hostile = 2'>";
    let mut console = fs::read_to_string(run.path().join("console.log")).unwrap();
    console += &format!("<3>[   17.700000] {hostile}\n");
    fs::write(run.path().join("console.log"), console).unwrap();
    let mut record = fs::read_to_string(run.path().join("record.jsonl")).unwrap();
    let marker = json!({"kind": "marker", "seq": 100_000, "t_ns": 47_000_000_000_u64, "text": hostile});
    record += &format!("{marker}\n");
    fs::write(run.path().join("record.jsonl"), record).unwrap();
    let page = run.path().join("report.html");
    Report::save(&page, Report::read(run.path()).unwrap().html()).unwrap();
    browser.open(&page);
    let seen = browser.value(
        "(find('#inside').checked = false, find('#filter').value = 'onerror', fill(),
          [window.hostile ?? null, document.images.length, find('#rows').textContent.includes(\"<img src=x\"), tableState.rows.length])",
    );
    assert_eq!(seen, json!([null, 0, true, 2]));
    assert_eq!(browser.complaints(), [] as [String; 0]);
}

#[test]
fn page_of_traced_runs_has_the_kernel_s_lanes_and_tells_their_lines() {
    let Some(mut browser) = Browser::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("report.html");
    let traced = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/traced");
    Report::save(&page, Report::read(&traced).unwrap().html()).unwrap();
    browser.open(&page);
    let names =
        browser.value("model.panels.map((panel) => lanesOf(panel).slice(0, 2).map((row) => row.lane.name))");
    assert_eq!(names, json!([["vCPU 0", "vCPU 1"], ["vCPU 0", "vCPU 1"]]));
    browser.value("document.querySelector('[data-do=removal]').click()");
    browser.value("canvases[1].scrollIntoView({ block: 'center' })");
    // Pointed at, a call tells how long it was, how much of that it slept, and its line of the trace.
    let at = browser.value(
        "(() => {
            const panel = model.panels[1], row = lanesOf(panel)[0];
            const call = row.calls.find((call) => call.label === 'pm_runtime_barrier' && call.to - call.from > 1e9);
            const box = canvases[1].getBoundingClientRect();
            return [box.left + panel.scale.x((call.from + call.to) / 2), box.top + row.y + 1 + (call.row + .5) * CALL];
        })()",
    );
    browser.mouse("mouseMoved", at[0].as_f64().unwrap(), at[1].as_f64().unwrap(), &json!({}));
    let tip = browser.value("tip.hidden ? '' : tip.textContent");
    let tip = tip.as_str().unwrap();
    assert!(
        tip.starts_with("pm_runtime_barrier in irq/40-pciehp, process ") && tip.contains(" asleep"),
        "{tip}"
    );
    let trace = fs::read_to_string(traced.join("with-fix/trace.txt")).unwrap();
    assert!(trace.lines().any(|line| !line.is_empty() && tip.ends_with(line)), "{tip}");
    // By keys, from call to call; and all lines of the traces are in the table.
    browser.value("canvases[0].focus()");
    for key in ["ArrowDown", "."] {
        browser.key(key);
    }
    let told = browser.value("document.querySelector('#inspector').textContent");
    assert!(told.as_str().unwrap().contains(" in "), "{told}");
    let rows = browser.value(
        "(find('#inside').checked = false, find('#kinds').value = 'trace', fill(), tableState.rows.length)",
    );
    let lines = |variant: &str| {
        let text = fs::read_to_string(traced.join(variant).join("trace.txt")).unwrap();
        text.lines().filter(|line| line.contains(" | ")).filter(|line| !line.starts_with('#')).count()
    };
    assert_eq!(rows, lines("without-fix") + lines("with-fix"));
    assert_eq!(browser.complaints(), [] as [String; 0]);
}
