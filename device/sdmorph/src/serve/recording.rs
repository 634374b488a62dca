//! Writes the flight record to a file while the machine runs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use sdmorph_transport::Shared;

/// How often the file catches up. The ring holds far more than a guest can do in this time.
const PERIOD: Duration = Duration::from_millis(100);
/// Records taken at once, while the machine is locked.
const BATCH: usize = 4096;

/// Opens the file at `path` and leaves what is in it: it may be the record of a server that is running, on whose sockets
/// this one is about to fail.
///
/// # Errors
/// It cannot be made or written.
pub(crate) fn open(path: &Path) -> std::io::Result<File> {
    File::options().write(true).create(true).truncate(false).open(path)
}

/// Empties the file, if it is one: pipes and devices have no length.
///
/// # Errors
/// It cannot be truncated.
pub(crate) fn begin(file: &File) -> std::io::Result<()> {
    if file.metadata()?.is_file() { file.set_len(0) } else { Ok(()) }
}

/// A file that follows the machine's record.
pub(crate) struct Recording {
    writer: Option<(Sender<()>, JoinHandle<anyhow::Result<()>>)>,
}

impl Recording {
    /// Starts to write to `file`, if there is one.
    ///
    /// # Errors
    /// There can be no more threads.
    pub(crate) fn start(shared: Shared, file: Option<File>) -> std::io::Result<Self> {
        let start = |file| {
            let (stop, stopped) = channel();
            let write = move || {
                let mut file = BufWriter::new(file);
                let mut next = 0;
                loop {
                    let last = stopped.recv_timeout(PERIOD) != Err(RecvTimeoutError::Timeout);
                    if let Err(error) = drain(&shared, &mut file, &mut next) {
                        // Said at once: the device goes on, for hours perhaps, and so may its user.
                        tracing::error!(%error, "the flight record's file ends here");
                        return Err(error).context("writing the flight record");
                    }
                    if last {
                        return Ok(());
                    }
                }
            };
            let thread = std::thread::Builder::new().name("flight-record".to_owned()).spawn(write)?;
            Ok::<_, std::io::Error>((stop, thread))
        };
        Ok(Self { writer: file.map(start).transpose()? })
    }

    /// Writes what is left and closes the file.
    ///
    /// # Errors
    /// The file could not be written, such as on a full disk.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let Some((stop, thread)) = self.writer else { return Ok(()) };
        drop(stop);
        thread.join().map_err(|_| anyhow!("the recording thread panicked"))?
    }
}

fn drain(shared: &Shared, file: &mut impl Write, next: &mut u64) -> std::io::Result<()> {
    loop {
        let records = shared.with_machine(|machine, _| machine.records_since(*next, BATCH));
        let Some(last) = records.last().map(|record| record.seq) else { return file.flush() };
        if let Some(first) = records.first().filter(|first| first.seq > *next) {
            tracing::warn!(lost = first.seq - *next, "the flight record overtook its file");
        }
        for record in &records {
            writeln!(file, "{}", record.to_json())?;
        }
        *next = last + 1;
    }
}
