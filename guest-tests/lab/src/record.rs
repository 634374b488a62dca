//! The device's record of a run: one JSON object a line, written by `sdmorph serve --record FILE`.
//!
//! A long run's record has gigabytes, nearly all of them accesses that nobody asks for. It is read line by line, and only
//! what a verdict or a moment may be about is kept; of the rest, how many there were.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Deserializer};

use crate::clocks;
use crate::moments;
use crate::scenario::Moment;

/// The register of the reader's BAR through which its internal ones are accessed.
const HAIMR: u64 = 0x10;
/// Start (bit 31) and write (bit 30); OLT_LED_CTL (0xfc1e) in bits 29:16; LED_SHINE_MASK, and nothing of it set
/// (rts5261_disable_auto_blink and its like, drivers/misc/cardreader).
const DISABLE_AUTO_BLINK: u64 = 0xfc1e_0800;

/// One line of the record. Fields that nobody here or in the report uses are passed over: the record may grow.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Entry {
    /// Nanoseconds of the device's monotonic clock.
    pub t_ns: u64,
    /// Counts from 0; a gap is a loss.
    #[serde(default)]
    pub seq: u64,
    /// `access`, `interrupt`, `command`, `event`, `rule` or `marker`.
    pub kind: String,
    /// The function that was accessed: `vmd`, `port`, `reader` or `nvme`.
    #[serde(default, rename = "fn")]
    pub function: Option<String>,
    /// `config`, `bar0` or `internal`.
    #[serde(default)]
    pub space: Option<String>,
    /// `read` or `write`.
    #[serde(default)]
    pub dir: Option<String>,
    /// The register's name, as the Linux driver spells it.
    #[serde(default)]
    pub reg: Option<String>,
    /// Bytes from the start of the space.
    #[serde(default, deserialize_with = "number")]
    pub offset: Option<u64>,
    /// What was read or written.
    #[serde(default, deserialize_with = "number")]
    pub value: Option<u64>,
    /// What a marker says.
    #[serde(default)]
    pub text: Option<String>,
    /// The event's, command's or rule's name.
    #[serde(default)]
    pub name: Option<String>,
    /// `presence-changed`: whether the slot says that it is occupied.
    #[serde(default)]
    pub present: Option<bool>,
    /// Why a DMA failed; in a recorded input, an object.
    #[serde(default)]
    pub error: Option<serde_json::Value>,
    /// The function was there and its BAR was not: a read returned all-ones, a write went nowhere.
    #[serde(default)]
    pub dead: bool,
    /// Nobody decoded the address: the link was down, or the port's window closed.
    #[serde(default)]
    pub absent: bool,
}

impl Entry {
    /// Whether this is the event `name`.
    pub fn is_event(&self, name: &str) -> bool {
        self.kind == "event" && self.name.as_deref() == Some(name)
    }

    /// Whether a verdict may be about it, whatever the scenario.
    fn matters(&self) -> bool {
        matches!(self.kind.as_str(), "event" | "rule" | "marker")
            || clocks::compares(self)
            || ["read", "write"].iter().any(|dir| self.dead_access(dir).is_some())
    }

    /// Whether it is an access to a BAR of one of these functions in the slot, or to what was the BAR of one.
    fn is_slot_access(&self, functions: &[&str]) -> bool {
        let of_one = self.function.as_deref().is_some_and(|function| functions.contains(&function));
        self.is_lost() || self.is_memory() && of_one
    }

    /// Whether it is the first write of rtsx_pci's idle callback, to a BAR that was gone: through HAIMR, LED_SHINE_DISABLE
    /// to OLT_LED_CTL. Nothing else of the driver writes that.
    fn begins_idle_callback_dead(&self) -> bool {
        self.dead_access("write") == Some(HAIMR) && self.value == Some(DISABLE_AUTO_BLINK)
    }

    /// Whether this is a hit of the rule `name`.
    pub fn is_rule(&self, name: &str) -> bool {
        self.kind == "rule" && self.name.as_deref() == Some(name)
    }

    /// Whether this is an access to the register `reg` in the direction `dir`.
    pub fn is_access(&self, dir: &str, reg: &str) -> bool {
        self.kind == "access" && self.dir.as_deref() == Some(dir) && self.reg.as_deref() == Some(reg)
    }

    /// Whether this is an access to a BAR.
    pub fn is_memory(&self) -> bool {
        self.kind == "access" && self.space.as_deref().is_some_and(|space| space.starts_with("bar"))
    }

    /// Whether this is a read.
    pub fn is_read(&self) -> bool {
        self.dir.as_deref() == Some("read")
    }

    /// Whether this is an access to a BAR that did not answer.
    pub fn is_lost(&self) -> bool {
        self.is_memory() && (self.dead || self.absent)
    }

    /// Which byte of its page was accessed. Of a BAR that is gone, nothing else is known: once the link is down, the
    /// address is the bus's, and no register has a name.
    pub fn page_offset(&self) -> Option<u64> {
        self.offset.map(|offset| offset & 0xfff)
    }

    /// Whether this is an access in the direction `dir` to a BAR that was gone, and to which byte of its page.
    pub fn dead_access(&self, dir: &str) -> Option<u64> {
        self.page_offset().filter(|_| self.is_lost() && self.dir.as_deref() == Some(dir))
    }

    /// Whether this is a write to the register `reg` that has a bit of `bits`.
    pub fn writes_to(&self, reg: &str, bits: u64) -> bool {
        self.is_access("write", reg) && self.value.unwrap_or(0) & bits != 0
    }

    /// What it says, if it is a marker.
    pub fn marker(&self) -> Option<&str> {
        self.text.as_deref().filter(|_| self.kind == "marker")
    }
}

/// A number, or a string that holds one in hexadecimal with `0x`. Of other kinds of entries the field may hold anything.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
    Ok(value.as_u64().or_else(|| u64::from_str_radix(digits?, 16).ok()))
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file cannot be read.
    #[error("cannot read the device's record {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line in it is no record entry.
    #[error("line {line} of the device's record is not an entry: {source}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl RecordError {
    fn read(path: &Path, source: std::io::Error) -> Self {
        Self::Read { path: path.display().to_string(), source }
    }
}

/// What is kept of a record.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Events, hits of rules, accesses to a BAR that was gone, what is compared with the guest's clock, and what the scenario's
    /// moments are about; in their order.
    pub entries: Vec<Entry>,
    /// How many entries there were, by kind; those that were not kept as well.
    pub kinds: BTreeMap<String, usize>,
    /// At which bytes of its page the reader's BAR was accessed, or what was a BAR in the slot.
    pub slot_offsets: BTreeSet<u64>,
    /// When a BAR of the reader or the drive, or what was one, was accessed for the last time, in nanoseconds of the
    /// device's clock.
    pub last_slot_access_ns: Option<u64>,
}

impl Record {
    /// Read a record file, for a scenario with these moments. A last line without its newline is one that was being
    /// written, and left out.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is no entry.
    pub fn read(path: &Path, moments: &[Moment]) -> Result<Self, RecordError> {
        let file = File::open(path).map_err(|source| RecordError::read(path, source))?;
        Self::collect(BufReader::with_capacity(1 << 20, file), path, moments)
    }

    fn collect(mut lines: impl BufRead, path: &Path, moments: &[Moment]) -> Result<Self, RecordError> {
        let mut record = Self::default();
        let mut bytes = Vec::new();
        for line in 1.. {
            bytes.clear();
            lines.read_until(b'\n', &mut bytes).map_err(|source| RecordError::read(path, source))?;
            let Some(text) = bytes.strip_suffix(b"\n") else { break };
            if text.trim_ascii().is_empty() {
                continue;
            }
            let entry: Entry =
                serde_json::from_slice(text).map_err(|source| RecordError::Line { line, source })?;
            match record.kinds.get_mut(&entry.kind) {
                Some(count) => *count += 1,
                None => drop(record.kinds.insert(entry.kind.clone(), 1)),
            }
            if entry.is_slot_access(&["reader"]) {
                record.slot_offsets.extend(entry.offset.map(|offset| offset & 0xfff));
            }
            if entry.is_slot_access(&["reader", "nvme"]) {
                record.last_slot_access_ns = record.last_slot_access_ns.max(Some(entry.t_ns));
            }
            if entry.matters() || moments::any_happened(moments, &entry) {
                record.entries.push(entry);
            }
        }
        Ok(record)
    }

    /// A record from text.
    #[cfg(test)]
    pub(crate) fn parse(text: &str, moments: &[Moment]) -> Result<Self, RecordError> {
        Self::collect(text.as_bytes(), Path::new("text"), moments)
    }

    /// The first event `name`.
    pub fn event(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.is_event(name))
    }

    /// How often the rule `name` was hit.
    pub fn rule_hits(&self, name: &str) -> usize {
        self.entries.iter().filter(|entry| entry.is_rule(name)).count()
    }

    /// How many idle callbacks of rtsx_pci began when the BAR was gone.
    pub fn idle_callbacks_on_dead_device(&self) -> usize {
        self.entries.iter().filter(|entry| entry.begins_idle_callback_dead()).count()
    }

    /// How many reads of a BAR that was gone there were.
    pub fn dead_reads(&self) -> usize {
        self.entries.iter().filter(|entry| entry.dead_access("read").is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_rules_and_dead_reads_are_told_apart() {
        let record = Record::parse(include_str!("../fixtures/fault.jsonl"), &[]).unwrap();
        assert_eq!(record.event("link-down").unwrap().t_ns, 11_581_377_737);
        assert_eq!(record.rule_hits("bar-dies"), 1);
        assert_eq!(record.rule_hits("link-down"), 0);
        // 5 while the link was up, 3 that the port no longer passed on.
        assert_eq!(record.dead_reads(), 8);
    }

    #[test]
    fn line_of_a_recorded_input_may_hold_what_other_lines_do_not() {
        let memory =
            r#"{"t_ns":1,"seq":7,"kind":"memory","at":3,"dir":"read","address":"0x1000","length":64,"#;
        let failed =
            format!("{memory}\"error\":{{\"name\":\"unmapped\",\"address\":\"0x1000\",\"length\":64}}}}\n");
        let medium =
            r#"{"t_ns":2,"kind":"medium","request":"ended","tag":1,"error":"io","value":[1],"offset":{}}"#;
        let record = Record::parse(&format!("{failed}{medium}\n"), &[]).unwrap();
        assert_eq!((record.kinds["memory"], record.kinds["medium"]), (1, 1));
    }

    #[test]
    fn of_accesses_only_those_are_kept_that_a_moment_or_a_verdict_is_about() {
        let text = include_str!("../fixtures/fault.jsonl");
        let written = "{\"t_ns\":1,\"kind\":\"access\",\"dir\":\"write\",\"reg\":\"BIER\"}\n";
        let read = written.replace("write", "read");
        let all = format!("{text}{}{}", written.repeat(10), read.repeat(1000));
        let what = crate::scenario::Happening { write: Some("BIER".into()), ..Default::default() };
        let moment = Moment { name: "off".into(), first: None, last: Some(what) };
        let (few, none) = (Record::parse(text, &[]).unwrap(), Record::parse(&all, &[]).unwrap());
        let some = Record::parse(&all, &[moment]).unwrap();
        assert_eq!(none.entries.len(), few.entries.len());
        assert_eq!(some.entries.len(), few.entries.len() + 10);
        assert_eq!((none.kinds["access"], &some.kinds), (few.kinds["access"] + 1010, &none.kinds));
    }

    #[test]
    fn drive_s_registers_are_worked_at_in_the_slot_and_are_none_of_the_reader_s() {
        let read = |function: &str, space: &str, offset: u64, t_ns: u64| {
            format!(
                "{{\"t_ns\":{t_ns},\"kind\":\"access\",\"fn\":\"{function}\",\"space\":\"{space}\",\
                 \"dir\":\"read\",\"offset\":{offset}}}\n"
            )
        };
        let reader = read("reader", "bar1", 0x10, 1);
        let drive = read("nvme", "bar0", 0x1c, 2);
        let others = [read("nvme", "config", 4, 3), read("vmd", "bar2", 8, 4)].concat();
        let of = |text: &str| {
            let record = Record::parse(text, &[]).unwrap();
            (record.slot_offsets.into_iter().collect::<Vec<_>>(), record.last_slot_access_ns)
        };
        assert_eq!(of(&reader), (vec![0x10], Some(1)));
        assert_eq!(of(&format!("{reader}{drive}{others}")), (vec![0x10], Some(2)));
    }

    #[test]
    fn an_unfinished_last_line_is_left_out() {
        let text = "{\"t_ns\":1,\"kind\":\"event\",\"name\":\"link-down\"}\n{\"t_ns\":2,\"ki";
        assert_eq!(Record::parse(text, &[]).unwrap().entries.len(), 1);
    }

    #[test]
    fn a_broken_line_in_the_middle_is_an_error_that_names_it() {
        let error = Record::parse("{\"t_ns\":1,\"kind\":\"event\"}\nnonsense\n", &[]).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }

    #[test]
    fn offsets_may_be_numbers_or_hexadecimal_text() {
        let record = Record::parse(
            "{\"t_ns\":1,\"kind\":\"event\",\"offset\":\"0x10\"}\n{\"t_ns\":2,\"kind\":\"event\",\"offset\":16}\n",
            &[],
        );
        let offsets: Vec<_> = record.unwrap().entries.iter().map(|entry| entry.offset).collect();
        assert_eq!(offsets, [Some(16), Some(16)]);
    }
}
