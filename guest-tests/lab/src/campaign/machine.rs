//! The machine that a campaign runs on: what the table says of it, and how many VMs it carries at once.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use super::wording::plural;

/// What QEMU needs beside the guest's memory, and the device's process, in MiB: 190 were seen with TCG.
const BESIDE_MIB: u64 = 384;

/// Processors, memory and system in one line, such as `2 x Xeon E5, 24 GiB, Debian GNU/Linux 12, Linux 6.1.0`. Not its
/// name: whose machine it is is nobody's business.
pub(crate) fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("processor", |(_, name)| name.trim());
    let memory_gib = (meminfo_mib("MemTotal").unwrap_or(0) + 512) / 1024;
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let system = system.map_or("an unknown system", |name| name.trim_matches('"'));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // What follows the version names whoever built it.
    let version = kernel.trim().split(['-', '+']).next().unwrap_or_default();
    format!("{} x {model}, {memory_gib} GiB, {system}, Linux {version}", processors())
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn meminfo_mib(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? / 1024)
}

/// How many VMs at once, and why so many. `vcpus` and `guest_mib` are those of the largest guest.
///
/// A guest of the race keeps every one of its CPUs busy: a host that has fewer makes it slower, and is done no sooner.
pub(crate) fn jobs(vcpus: u32, guest_mib: u32) -> (usize, String) {
    jobs_for(processors(), meminfo_mib("MemAvailable"), vcpus, guest_mib)
}

fn jobs_for(processors: usize, available_mib: Option<u64>, vcpus: u32, guest_mib: u32) -> (usize, String) {
    let by_processors = (processors / usize::try_from(vcpus).unwrap_or(usize::MAX).max(1)).max(1);
    let each_mib = u64::from(guest_mib) + BESIDE_MIB;
    let by_memory =
        available_mib.map_or(by_processors, |mib| usize::try_from(mib / each_mib).unwrap_or(usize::MAX));
    let jobs = by_processors.min(by_memory).max(1);
    let why = if by_memory < by_processors {
        format!("{} MiB are free, and one takes {each_mib}", available_mib.unwrap_or(0))
    } else {
        format!("this machine has {}, and a guest {}", plural(processors, "processor"), vcpus)
    };
    (jobs, format!("{} at once: {why}", plural(jobs, "VM")))
}

/// Now, in UTC, as ISO 8601 has it, to the second.
pub(crate) fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    iso_8601(seconds)
}

/// Seconds since 1970-01-01T00:00:00Z as a date (the days' part: Howard Hinnant, chrono-Compatible Low-Level Date
/// Algorithms, `civil_from_days`).
fn iso_8601(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Counted from 0000-03-01, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let year = year + era * 400;
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{of_month:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(iso_8601(0), "1970-01-01T00:00:00Z");
        assert_eq!(iso_8601(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(iso_8601(1_795_718_145), "2026-11-26T18:35:45Z");
        assert_eq!(iso_8601(4_107_542_399), "2100-02-28T23:59:59Z");
        assert_eq!(iso_8601(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn as_many_vms_as_their_cpus_have_processors_unless_the_memory_is_less() {
        assert_eq!(
            jobs_for(2, Some(20_000), 2, 512),
            (1, "1 VM at once: this machine has 2 processors, and a guest 2".into())
        );
        assert_eq!(jobs_for(64, Some(200_000), 2, 512).0, 32);
        let (jobs, why) = jobs_for(64, Some(2_000), 2, 512);
        assert_eq!(jobs, 2);
        assert!(why.contains("2000 MiB are free, and one takes 896"), "{why}");
        assert_eq!(jobs_for(8, Some(100), 2, 512).0, 1);
        assert_eq!(jobs_for(1, None, 2, 512).0, 1);
    }

    #[test]
    fn this_machine_has_a_processor_and_memory() {
        let text = describe();
        assert!(!text.starts_with("0 x") && text.contains(" GiB, "), "{text}");
    }
}
