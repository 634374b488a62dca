//! Ctrl-C and SIGTERM, noticed between two steps instead of ending the process: what was started is ended first.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static LISTENER: OnceLock<()> = OnceLock::new();

/// From now on, SIGINT and SIGTERM only set what [`interrupted`] returns. Lasts for the life of the process.
pub(crate) fn listen() {
    LISTENER.get_or_init(|| {
        // Without the listener, the signals keep their default: the process ends, and QEMU with it if it can.
        let spawned = std::thread::Builder::new().name("signals".to_owned()).spawn(wait_for_signals);
        if let Err(error) = spawned {
            tracing::warn!("Ctrl-C will not be handled: {error}");
        }
    });
}

fn wait_for_signals() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
    });
}

/// Whether the user wants it to end.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
