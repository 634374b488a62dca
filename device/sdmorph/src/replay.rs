//! `sdmorph replay`: a record against the device as it is now.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use anyhow::Context;
use lzma_rust2::XzReader;
use sdmorph_machine::replay::{Difference, Outcome, Replay};
use serde_json::{Value, json};

use crate::arguments::ReplayOptions;
use crate::serve::recording;
use crate::{Failure, output};

/// How a file that xz has compressed begins.
const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";
/// Longest line: that of a megabyte, in hexadecimal digits, which is the largest transfer of a medium, and then some.
const LINE_LIMIT_BYTES: u64 = 64 << 20;

/// Replays the record and says how it went.
pub(crate) fn run(options: &ReplayOptions) -> Result<(), Failure> {
    let name = options.record.display();
    let mut record = open(&options.record).with_context(|| name.to_string()).map_err(Failure::BadInput)?;
    let mut copy = match &options.write {
        Some(path) => Some(NewRecord::create(path).map_err(Failure::Surroundings)?),
        None => None,
    };
    let outcome = replay(&mut record, copy.as_mut()).map_err(|failure| match failure {
        Failure::BadInput(error) => Failure::BadInput(error.context(name.to_string())),
        other => other,
    })?;
    if let Some(copy) = copy {
        copy.close().map_err(Failure::Surroundings)?;
    }
    output::print(&if options.json { format!("{}\n", as_json(&outcome)) } else { as_text(&outcome) })?;
    if outcome.difference.is_some() { Err(Failure::Shown(1)) } else { Ok(()) }
}

fn open(path: &Path) -> std::io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::new(File::open(path)?);
    let compressed = file.fill_buf()?.starts_with(XZ_MAGIC);
    Ok(if compressed { Box::new(BufReader::new(XzReader::new(file, true))) } else { Box::new(file) })
}

/// To the first difference, or to the end if what the device makes is to be written.
fn replay(mut record: &mut dyn BufRead, mut copy: Option<&mut NewRecord>) -> Result<Outcome, Failure> {
    let mut replay = Replay::default();
    let mut line = String::new();
    loop {
        line.clear();
        let read = Read::take(&mut record, LINE_LIMIT_BYTES).read_line(&mut line);
        if read.map_err(|error| Failure::BadInput(error.into()))? == 0 {
            break;
        }
        let made = replay.line(&line).map_err(|error| Failure::BadInput(error.into()))?;
        match &mut copy {
            Some(copy) => copy.lines(&replay, made, &line).map_err(Failure::Surroundings)?,
            None if replay.outcome().difference.is_some() => break,
            None => {}
        }
    }
    replay.finish().map_err(|error| Failure::BadInput(error.into()))
}

/// The record that the device makes now.
struct NewRecord {
    file: BufWriter<File>,
    begun: bool,
}

impl NewRecord {
    fn create(path: &Path) -> anyhow::Result<Self> {
        // It could be the record that is replayed.
        let file = recording::make(path).map_err(anyhow::Error::msg)?;
        Ok(Self { file: BufWriter::new(file), begun: false })
    }

    fn lines(&mut self, replay: &Replay, made: bool, line: &str) -> anyhow::Result<()> {
        // The first line is not of a call.
        if !self.begun {
            writeln!(self.file, "{}", line.trim_end())?;
            self.begun = true;
        }
        for line in replay.got().iter().filter(|_| made) {
            writeln!(self.file, "{line}")?;
        }
        Ok(())
    }

    fn close(mut self) -> anyhow::Result<()> {
        self.file.flush().context("--write")
    }
}

fn as_json(outcome: &Outcome) -> Value {
    let Outcome { lines, calls, time, unfinished, difference } = outcome;
    let difference = difference.as_ref().map(|difference| {
        let Difference { line, call, expected, got, fields, before, astray } = difference;
        json!({
            "line": line,
            "call": call,
            "expected": expected,
            "got": got,
            "fields": fields,
            "before": before,
            "astray": astray,
        })
    });
    json!({
        "same": difference.is_none(),
        "lines": lines,
        "calls": calls,
        "time-ns": time.as_nanos() as u64,
        "unfinished": unfinished,
        "difference": difference,
    })
}

fn as_text(outcome: &Outcome) -> String {
    let Outcome { lines, calls, time, unfinished, difference } = outcome;
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let Some(difference) = difference {
        let Difference { line, call, expected, got, fields, before, astray } = difference;
        for line in before {
            let _ = writeln!(text, "          {}", brief(line));
        }
        let shown =
            |line: &Option<Value>| line.as_ref().map_or("nothing more in this call".to_owned(), brief);
        let _ = writeln!(text, "expected: {}", shown(expected));
        let _ = writeln!(text, "got:      {}", shown(got));
        let what = match (fields.as_slice(), astray) {
            (_, Some(astray)) => format!("the device asks for something else: {astray}"),
            ([], None) => "one more, or one less".to_owned(),
            (fields, None) => format!("{} differs", fields.join(", ")),
        };
        let _ = writeln!(text, "line {line}, in a call of {call}: {what}");
        return text;
    }
    let _ = writeln!(text, "the same: {lines} lines, {calls} calls, {:.3} s", time.as_secs_f64());
    if *unfinished > 0 {
        let _ =
            writeln!(text, "the record ends in the middle of a call: {unfinished} lines were not compared");
    }
    text
}

/// A line for people: contents cut short.
fn brief(line: &Value) -> String {
    let text = line.to_string();
    match text.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_shows_what_was_expected_under_the_lines_before_it() {
        let difference = Difference {
            line: 12,
            call: "read",
            expected: Some(json!({"seq": 11, "reg": "BIPR", "value": "0x10000"})),
            got: Some(json!({"seq": 11, "reg": "BIPR", "value": "0x0"})),
            fields: vec!["value".to_owned()],
            before: vec![json!({"seq": 10})],
            astray: None,
        };
        let outcome = Outcome { lines: 12, difference: Some(difference), ..Outcome::default() };
        let expected = concat!(
            "          {\"seq\":10}\n",
            "expected: {\"reg\":\"BIPR\",\"seq\":11,\"value\":\"0x10000\"}\n",
            "got:      {\"reg\":\"BIPR\",\"seq\":11,\"value\":\"0x0\"}\n",
            "line 12, in a call of read: value differs\n",
        );
        assert_eq!(as_text(&outcome), expected);
        assert_eq!(as_json(&outcome)["difference"]["fields"], json!(["value"]));
    }
}
