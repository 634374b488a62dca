//! `sdmorph serve`: the machine, its transport, its control socket, its record.

mod cards;
mod handler;
pub(crate) mod places;
pub(crate) mod recording;

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use sdmorph_control::{BoundSocket, EventSender, Server, ServerOptions, Timestamp};
use sdmorph_transport::{Shared, Stop};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::Failure;
use crate::arguments::{OnDisconnect, ServeOptions};
use crate::scenario_rules::ScenarioRules;
use handler::Handler;

/// Events that clients of the control socket may lag behind before they are cut off.
const EVENT_RING: usize = 1024;
/// How long the end of the process waits for a card's image.
const CLOSING_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at who still holds the machine.
const CLOSING_LOOK: Duration = Duration::from_millis(5);

/// The two listening sockets. Those that were made here go from the file system when this is dropped.
struct Sockets {
    vfio_user: UnixListener,
    _vfio_user_path: Option<BoundSocket>,
    control: BoundSocket,
}

impl Sockets {
    fn open(options: &ServeOptions) -> anyhow::Result<Self> {
        let default = |name: &str| Ok::<_, anyhow::Error>(places::make_directory()?.join(name));
        let (vfio_user, path) = match options.fd {
            Some(number) => (sdmorph_transport::inherit(number).context("--fd")?, None),
            None => {
                let path = options.socket_path.clone().map_or_else(|| default(places::VFIO_USER), Ok)?;
                let bound = sdmorph_control::bind(&path).context("vfio-user socket")?;
                (bound.listener().try_clone()?, Some(bound))
            }
        };
        let control = options.control.clone().map_or_else(|| default(places::CONTROL), Ok)?;
        let control = sdmorph_control::bind(&control).context("control socket")?;
        Ok(Self { vfio_user, _vfio_user_path: path, control })
    }
}

/// Serves until `quit`, SIGTERM or SIGINT.
pub(crate) fn run(options: &ServeOptions) -> Result<(), Failure> {
    let rules = match &options.rules {
        Some(path) => Some(ScenarioRules::read(&path.to_string_lossy()).map_err(Failure::BadInput)?),
        None => None,
    };
    let setup = options.setup().map_err(Failure::BadInput)?;
    let record = match &options.record {
        Some(path) => Some(
            recording::open(path)
                .with_context(|| format!("--record {}", path.display()))
                .map_err(Failure::Surroundings)?,
        ),
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Surroundings(error.into()))?;
    // Before the sockets: whatever ends this process after that takes them along.
    let ending = {
        let _inside = runtime.enter();
        Ending::new().map_err(|error| Failure::Surroundings(error.into()))?
    };
    let sockets = Sockets::open(options).map_err(Failure::Surroundings)?;
    if let Some(file) = &record {
        recording::begin(file).context("--record").map_err(Failure::Surroundings)?;
    }

    let shared = Shared::with_setup(setup);
    if let Some(rules) = rules {
        rules.load(&shared).map_err(Failure::BadInput)?;
    }
    let recordings = Arc::new(recording::Recordings::new(shared.clone(), options.records.clone()));
    if let (Some(file), Some(path)) = (record, &options.record) {
        recordings.begin(file, path.clone(), 0).context("--record").map_err(Failure::Surroundings)?;
    }
    let result = serve(&runtime, ending, options, &sockets, &shared, &recordings);
    let written = recordings.finish();
    drop(recordings);
    // Connections that were cut off hold the machine until now.
    drop(runtime);
    let closed = close(shared);
    result.and(written).and(closed).map_err(Failure::Surroundings)
}

/// Lets go of the card, and waits until what was written to its image is there.
fn close(shared: Shared) -> anyhow::Result<()> {
    let machine = Arc::downgrade(&shared.machine);
    drop(shared);
    // A thread of the card's medium may be telling the machine of something, and is the last to let go then.
    for _ in 0..CLOSING_LIMIT.as_millis() / CLOSING_LOOK.as_millis() {
        if machine.strong_count() == 0 {
            break;
        }
        std::thread::park_timeout(CLOSING_LOOK);
    }
    if sdmorph_media::wait_until_closed(CLOSING_LIMIT) && machine.strong_count() == 0 {
        return Ok(());
    }
    Err(anyhow!(
        "the card's image is still being written after {} s; what is left of it is lost",
        CLOSING_LIMIT.as_secs()
    ))
}

/// The signals that end a server in good order.
struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one of them.
    async fn signal(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("SIGTERM: ending"),
            _ = self.interrupt.recv() => tracing::info!("SIGINT: ending"),
        }
    }
}

/// The thread that serves the vfio-user socket.
struct Transport {
    stop: Stop,
    thread: JoinHandle<()>,
}

impl Transport {
    /// Starts it; the receiver is told how it ended, if it ends by itself.
    fn start(
        options: &ServeOptions,
        sockets: &Sockets,
        shared: &Shared,
    ) -> anyhow::Result<(Self, oneshot::Receiver<std::io::Result<()>>)> {
        let mut settings = sdmorph_transport::Options {
            on_disconnect: match options.on_disconnect {
                OnDisconnect::Reset => sdmorph_transport::OnDisconnect::Reset,
                OnDisconnect::Keep => sdmorph_transport::OnDisconnect::Keep,
            },
            ..sdmorph_transport::Options::default()
        };
        settings.wire.polling = Duration::from_micros(options.poll);
        let listener = sockets.vfio_user.try_clone()?;
        let server = sdmorph_transport::Server::new(listener, shared.clone(), settings)?;
        let stop = server.stopper();
        let (tell, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("vfio-user".to_owned()).spawn(move || {
            let _ = tell.send(server.serve());
        })?;
        Ok((Self { stop, thread }, ended))
    }

    /// Ends the connection there is, and waits until the thread has let everything go.
    fn stop(self) -> anyhow::Result<()> {
        self.stop.stop();
        self.thread.join().map_err(|_| anyhow!("the vfio-user thread panicked"))
    }
}

fn serve(
    runtime: &Runtime,
    mut ending: Ending,
    options: &ServeOptions,
    sockets: &Sockets,
    shared: &Shared,
    recordings: &Arc<recording::Recordings>,
) -> anyhow::Result<()> {
    let vfio_user = sockets.vfio_user.local_addr().context("vfio-user socket")?;
    let (transport, ended) = Transport::start(options, sockets, shared).context("vfio-user socket")?;
    match options.fd {
        Some(number) => tracing::info!(fd = number, "vfio-user"),
        None => tracing::info!(path = ?vfio_user.as_pathname(), "vfio-user"),
    }
    tracing::info!(path = %sockets.control.path().display(), "control");

    let result = runtime.block_on(async {
        let time = shared.time;
        let events = EventSender::new(EVENT_RING, move || timestamp(time.wall_clock(time.now())));
        let handler =
            Handler::new(shared.clone(), events.clone(), options.images.clone(), Arc::clone(recordings));
        let handler = Arc::new(handler);
        let control = Server::new(handler.clone(), events, ServerOptions::default());
        tokio::select! {
            result = control.run(sockets.control.listener()) => result.context("control socket"),
            result = ended => match result {
                Ok(Ok(())) | Err(_) => Err(anyhow!("the vfio-user server ended")),
                Ok(Err(error)) => Err(error).context("vfio-user socket"),
            },
            () = drive(shared, &handler) => Ok(()),
            () = ending.signal() => Ok(()),
        }
    });
    // A panic of the thread is the cause of its having ended, and so the one to tell.
    transport.stop().and(result)
}

/// Does what the machine has to do later when it is due, and tells clients of events. Never ends.
async fn drive(shared: &Shared, handler: &Handler) {
    loop {
        handler.forward_notices();
        let deadline = shared.with_machine(|machine, now| {
            machine.advance(now);
            machine.next_deadline()
        });
        handler.forward_notices();
        let due = async {
            match deadline {
                Some(at) => tokio::time::sleep(at.saturating_sub(shared.time.now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = shared.changed.notified() => {}
        }
    }
}

fn timestamp(since_epoch: std::time::Duration) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX),
        microseconds: i64::from(since_epoch.subsec_micros()),
    }
}
