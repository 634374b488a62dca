//! What fio says of its jobs: one line each, in its terse format of version 3 (fio's HOWTO, "Terse output").

use serde::Serialize;

/// Fields before those of reads: version, fio's version, the job's name, its group, its error.
const ERROR: usize = 4;
const NAME: usize = 2;
const READS: usize = 5;
/// Fields of one direction: KiB, KiB/s, requests/s, ms; 4 each of two latencies; 20 percentiles; 4; 5 of bandwidth.
const DIRECTION: usize = 41;
/// In a direction: bytes that were moved, and in which time.
const KIB: usize = 0;
const MS: usize = 3;
/// The percentiles of the completion latency, in microseconds.
const PERCENTILES: usize = 12;
const PERCENTILES_END: usize = 32;

/// One job of fio.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Job {
    /// As the job was named.
    pub(crate) name: String,
    pub(crate) result: JobResult,
}

/// What a job came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct JobResult {
    pub(crate) bytes_per_s: f64,
    /// Of a request, in microseconds of the guest's clock.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Job {
    /// Reads a line. The error says what is wrong with it.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let fields: Vec<&str> = line.trim().split(';').collect();
        let field = |at: usize| fields.get(at).copied().ok_or_else(|| format!("fio said too little: {line}"));
        let number = |at: usize| {
            let text = field(at)?;
            text.parse::<f64>().map_err(|_| format!("fio said `{text}` where a number belongs: {line}"))
        };
        let name = field(NAME)?.to_owned();
        if number(ERROR)? != 0.0 {
            return Err(format!("fio's job {name} failed: error {}", field(ERROR)?));
        }
        // Of a job that does not mix them, one direction has moved nothing.
        let at = if number(READS + KIB)? > 0.0 { READS } else { READS + DIRECTION };
        let (kib, ms) = (number(at + KIB)?, number(at + MS)?);
        if kib <= 0.0 || ms <= 0.0 {
            return Err(format!("fio's job {name} moved nothing"));
        }
        let percentiles = fields.get(at + PERCENTILES..at + PERCENTILES_END).unwrap_or_default();
        let percentile = |percent: &str| {
            let found = percentiles.iter().find_map(|field| field.strip_prefix(percent)?.parse().ok());
            found.ok_or_else(|| format!("fio said no {percent}: {line}"))
        };
        let result = JobResult {
            bytes_per_s: kib * 1024.0 * 1000.0 / ms,
            p50_us: percentile("50.000000%=")?,
            p99_us: percentile("99.000000%=")?,
        };
        Ok(Self { name, result })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// fio 3.33 on an idle null device.
    fn line(error: &str, reads: (u32, u32), writes: (u32, u32)) -> String {
        let direction = |(kib, ms): (u32, u32)| {
            let mut fields = vec![kib.to_string(), "0".into(), "0".into(), ms.to_string()];
            fields.extend(vec!["0".to_owned(); 8]);
            fields.extend(["1.000000%=7", "50.000000%=12", "99.000000%=34"].map(str::to_owned));
            fields.extend(vec!["0%=0".to_owned(); 17]);
            fields.extend(vec!["0".to_owned(); 9]);
            fields.join(";")
        };
        format!("3;fio-3.33;reader:read-4k;0;{error};{};{};1.0%;2", direction(reads), direction(writes))
    }

    #[test]
    fn job_is_what_moved_in_its_only_direction() {
        for (reads, writes) in [((2048, 500), (0, 0)), ((0, 0), (2048, 500))] {
            let job = Job::parse(&line("0", reads, writes)).unwrap();
            assert_eq!(job.name, "reader:read-4k");
            let result = JobResult { bytes_per_s: 4_194_304.0, p50_us: 12.0, p99_us: 34.0 };
            assert_eq!(job.result, result);
        }
    }

    #[test]
    fn job_that_failed_or_moved_nothing_is_said_to_have() {
        let failed = Job::parse(&line("5", (2048, 500), (0, 0))).unwrap_err();
        assert!(failed.contains("reader:read-4k failed: error 5"), "{failed}");
        assert!(Job::parse(&line("0", (0, 0), (0, 0))).unwrap_err().contains("moved nothing"));
        assert!(Job::parse("3;fio-3.33;x;0;0").unwrap_err().contains("too little"));
    }
}
