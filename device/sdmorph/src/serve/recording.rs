//! Writes the flight record to files while the machine runs.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use sdmorph_machine::Record;
use sdmorph_transport::Shared;
use serde_json::{Value, json};

/// How often a file catches up. The ring holds far more than a guest can do in this time.
const PERIOD: Duration = Duration::from_millis(100);
/// Records taken at once, while the machine is locked.
const BATCH: usize = 4096;
/// Records in a reply, if nobody says how many.
const REPLY_RECORDS: u64 = 100;
/// Most records in a reply.
const REPLY_LIMIT_RECORDS: u64 = 1000;
/// Files of `record-dump` that are being written at the same time.
const DUMPS: usize = 4;

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

/// The files that are being written.
pub(crate) struct Recordings {
    shared: Shared,
    /// Where files by command have to be, if not anywhere.
    directory: Option<PathBuf>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// The file that follows the record.
    following: Option<Following>,
    /// Those that get what is in memory, once.
    dumps: Vec<JoinHandle<()>>,
}

/// A file that follows the machine's record.
struct Following {
    path: PathBuf,
    stop: Sender<()>,
    thread: JoinHandle<anyhow::Result<Written>>,
}

/// What has become of a file.
#[derive(Clone, Copy, Default)]
struct Written {
    /// Records in it.
    records: u64,
    /// Records that were gone from memory before it was their turn.
    lost: u64,
}

impl Following {
    /// Writes what is left and closes the file.
    fn finish(self) -> anyhow::Result<Written> {
        drop(self.stop);
        self.thread.join().map_err(|_| anyhow!("the recording thread panicked"))?
    }
}

impl Recordings {
    pub(crate) fn new(shared: Shared, directory: Option<PathBuf>) -> Self {
        Self { shared, directory, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `file`, which is at `path`, follow the record from number `from` on.
    ///
    /// # Errors
    /// There can be no more threads.
    pub(crate) fn begin(&self, file: File, path: PathBuf, from: u64) -> std::io::Result<()> {
        let (stop, stopped) = channel();
        let shared = self.shared.clone();
        let write = move || {
            let mut file = BufWriter::new(file);
            let (mut next, mut written) = (from, Written::default());
            loop {
                let last = stopped.recv_timeout(PERIOD) != Err(RecvTimeoutError::Timeout);
                if let Err(error) = drain(&shared, &mut file, &mut next, &mut written) {
                    // Said at once: the device goes on, for hours perhaps, and so may its user.
                    tracing::error!(%error, "the flight record's file ends here");
                    return Err(error).context("writing the flight record");
                }
                if last {
                    return Ok(written);
                }
            }
        };
        let thread = std::thread::Builder::new().name("flight-record".to_owned()).spawn(write)?;
        self.open().following = Some(Following { path, stop, thread });
        Ok(())
    }

    /// `record-start`.
    ///
    /// # Errors
    /// A sentence for whoever asked.
    pub(crate) fn start(&self, file: &str, past: bool) -> Result<Value, String> {
        if let Some(Following { path, .. }) = &self.open().following {
            return Err(format!("the record is being written to {}; record-stop ends that", path.display()));
        }
        let path = self.place(file)?;
        let made = make(&path)?;
        let from = self.shared.with_machine(|machine, _| match past {
            true => machine.records_since(0, 1).first().map_or(0, |first| first.seq),
            false => machine.next_record(),
        });
        self.begin(made, path, from).map_err(|error| error.to_string())?;
        Ok(json!({"first": from}))
    }

    /// `record-stop`.
    ///
    /// # Errors
    /// A sentence for whoever asked.
    pub(crate) fn stop(&self) -> Result<Value, String> {
        let following = self.open().following.take();
        let following = following.ok_or("no record is being written; record-start begins one")?;
        let path = following.path.clone();
        let Written { records, lost } =
            following.finish().map_err(|error| format!("{}: {error:#}", path.display()))?;
        Ok(json!({"file": path.to_string_lossy(), "records": records, "lost": lost}))
    }

    /// `record-dump`.
    ///
    /// # Errors
    /// A sentence for whoever asked.
    pub(crate) fn dump(&self, file: Option<&str>, last: Option<u64>) -> Result<Value, String> {
        let newest = |count: u64| {
            self.shared.with_machine(|machine, _| {
                machine.records_since(machine.next_record().saturating_sub(count), usize::MAX)
            })
        };
        let Some(file) = file else {
            let count = last.unwrap_or(REPLY_RECORDS);
            if count > REPLY_LIMIT_RECORDS {
                return Err(format!(
                    "Parameter 'last': a reply has {REPLY_LIMIT_RECORDS} entries at most; 'file' takes more"
                ));
            }
            return Ok(newest(count).iter().map(Record::to_json).collect());
        };
        let path = self.place(file)?;
        let mut open = self.open();
        open.dumps.retain(|dump| !dump.is_finished());
        if open.dumps.len() >= DUMPS {
            return Err(format!("{DUMPS} dumps are being written; wait until their files are there"));
        }
        if path.exists() {
            return Err(exists(&path));
        }
        // Under another name until it is whole. Writing takes longer than a command may.
        let mut part = OsString::from(&path);
        part.push(".part");
        let part = PathBuf::from(part);
        let made = make(&part)?;
        let records = newest(last.unwrap_or(u64::MAX));
        let first = records.first().map(|record| record.seq);
        let reply = json!({"first": first, "records": records.len()});
        let write = move || {
            // A link and no renaming: what has got the name meanwhile keeps it.
            if let Err(error) = write_all(made, &records).and_then(|()| std::fs::hard_link(&part, &path)) {
                tracing::error!(%error, path = %path.display(), "a dump of the flight record failed");
            }
            let _ = std::fs::remove_file(&part);
        };
        let thread = std::thread::Builder::new().name("record-dump".to_owned()).spawn(write);
        open.dumps.push(thread.map_err(|error| error.to_string())?);
        Ok(reply)
    }

    /// Writes what is left and closes the files.
    ///
    /// # Errors
    /// The record's file could not be written, such as on a full disk.
    pub(crate) fn finish(&self) -> anyhow::Result<()> {
        let Open { following, dumps } = std::mem::take(&mut *self.open());
        for dump in dumps {
            // A dump that failed has said so.
            let _ = dump.join();
        }
        following.map_or(Ok(()), |following| following.finish().map(drop))
    }

    /// The file that `path` names, as it is to be made: inside the directory, if there is one.
    fn place(&self, path: &str) -> Result<PathBuf, String> {
        let Some(directory) = &self.directory else { return Ok(PathBuf::from(path)) };
        let resolve = |path: &Path| {
            std::fs::canonicalize(path).map_err(|error| format!("cannot find {}: {error}", path.display()))
        };
        let path = directory.join(path);
        let name = path.file_name().ok_or_else(|| format!("{} is not a file's name", path.display()))?;
        let parent = resolve(path.parent().unwrap_or(directory))?;
        if parent.starts_with(resolve(directory)?) {
            return Ok(parent.join(name));
        }
        Err(format!(
            "{} is not in {}, and this server writes no records elsewhere (serve --records)",
            path.display(),
            directory.display()
        ))
    }
}

/// Makes a file that is not there.
pub(crate) fn make(path: &Path) -> Result<File, String> {
    File::options().write(true).create_new(true).open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(path),
        _ => format!("cannot make {}: {error}", path.display()),
    })
}

fn exists(path: &Path) -> String {
    format!("{} is there already, and a record replaces no file", path.display())
}

fn write_all(file: File, records: &[Record]) -> std::io::Result<()> {
    let mut file = BufWriter::new(file);
    for record in records {
        writeln!(file, "{}", record.to_json())?;
    }
    file.flush()
}

fn drain(
    shared: &Shared,
    file: &mut impl Write,
    next: &mut u64,
    written: &mut Written,
) -> std::io::Result<()> {
    loop {
        let records = shared.with_machine(|machine, _| machine.records_since(*next, BATCH));
        let Some(last) = records.last().map(|record| record.seq) else { return file.flush() };
        if let Some(first) = records.first().filter(|first| first.seq > *next) {
            let lost = first.seq - *next;
            tracing::warn!(lost, "the flight record overtook its file");
            written.lost += lost;
        }
        for record in &records {
            writeln!(file, "{}", record.to_json())?;
        }
        written.records += records.len() as u64;
        *next = last + 1;
    }
}
