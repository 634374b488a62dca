//! Notes of the guest module sdmorph_race: which function was called when, on which CPU, by which task.
//!
//! The module prints nothing at the time. The guest's script copies its notes into the kernel's log when all is over, a
//! line each; the time in them is the log clock's at the call.

use serde::Serialize;

/// What the script puts before a note.
const PREFIX: &str = "sdmorph_race: ";

/// One note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// When, in microseconds of the kernel's log clock.
    pub time_us: u64,
    /// What was called, began, ended or was decided.
    pub what: String,
    /// The CPU.
    pub cpu: u32,
    /// The task's name.
    pub task: String,
    /// Its process id.
    pub pid: u32,
    /// The function that called it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<i64>,
}

impl Note {
    /// `sdmorph_race: 7.401024 cpu=0 pid=99 what=barrier from=pci_device_remove task=irq/40-pciehp`; what the module itself
    /// prints is no note.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, task) = text.strip_prefix(PREFIX)?.split_once(" task=")?;
        let (time, fields) = head.split_once(' ')?;
        let (seconds, micros) = time.split_once('.')?;
        let (seconds, micros): (u64, u64) = (seconds.parse().ok()?, micros.parse().ok()?);
        // A function of a module has the module's name behind it, which is no field.
        let field = |name: &str| {
            fields.split_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        Some(Self {
            time_us: seconds.checked_mul(1_000_000)?.checked_add(micros)?,
            what: field("what")?.to_owned(),
            cpu: field("cpu")?.parse().ok()?,
            task: task.to_owned(),
            pid: field("pid")?.parse().ok()?,
            from: field("from").map(str::to_owned),
            value: field("value").and_then(|value| value.parse().ok()),
        })
    }

    /// For people: without time, CPU and task.
    pub fn words(&self) -> String {
        let from = self.from.as_ref().map(|from| format!(", from {from}")).unwrap_or_default();
        let value = self.value.map(|value| format!(": {value}")).unwrap_or_default();
        format!("{}{value}{from}", self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_has_its_time_task_caller_and_value() {
        let note = Note::parse(
            "sdmorph_race: 7.401024 cpu=0 pid=99 what=barrier from=pci_device_remove task=irq/40-pciehp",
        );
        let note = note.unwrap();
        assert_eq!((note.time_us, note.cpu, note.pid), (7_401_024, 0, 99));
        assert_eq!((note.what.as_str(), note.task.as_str()), ("barrier", "irq/40-pciehp"));
        assert_eq!(note.words(), "barrier, from pci_device_remove");
        let note =
            Note::parse("sdmorph_race: 7.792905 cpu=1 pid=35 what=idle-ends value=-16 task=a task=b c")
                .unwrap();
        assert_eq!((note.value, note.task.as_str()), (Some(-16), "a task=b c"));
        let of_module =
            "sdmorph_race: 7.827003 cpu=0 pid=99 what=resume from=rtsx_pci_remove [rtsx_pci] task=sh";
        assert_eq!(Note::parse(of_module).unwrap().from.as_deref(), Some("rtsx_pci_remove"));
    }

    #[test]
    fn what_the_module_prints_or_was_cut_off_is_no_note() {
        for text in [
            "sdmorph_race: loaded: step between for 10000:01:00.0",
            "sdmorph_race: 7.401024 cpu=0 pid=99 what=barrier",
            "sdmorph_race: lost 3",
            "7.401024 cpu=0 pid=99 what=barrier task=sh",
        ] {
            assert_eq!(Note::parse(text), None, "{text}");
        }
    }
}
