//! The server: accepts clients and keeps them apart. What one client says is in `connection.rs`.

use crate::command::{CardCorruptArgs, CardInsertArgs, InjectArgs, JsonObject};
use crate::command::{RecordDumpArgs, RecordStartArgs, ScenarioLoadArgs};
use crate::connection::Connection;
use crate::event::EventSender;
use crate::message::{CommandError, RuleAdded, reply_line};
use serde_json::Value;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Carries out the commands. Each method answers at once: it may take a lock, but not wait for the guest.
///
/// Events that a method sends reach the client before the method's reply.
pub trait Handler: Send + Sync + 'static {
    /// `card-insert`.
    ///
    /// # Errors
    /// There is a card already; arguments that do not go together; an image that cannot be used.
    fn card_insert(&self, card: CardInsertArgs) -> Result<(), CommandError>;

    /// `card-eject`.
    ///
    /// # Errors
    /// There is nothing to eject.
    fn card_eject(&self) -> Result<(), CommandError>;

    /// `card-prepare`.
    ///
    /// # Errors
    /// Arguments that do not go together; an image that cannot be used.
    fn card_prepare(&self, card: CardInsertArgs) -> Result<(), CommandError>;

    /// `card-corrupt`.
    ///
    /// # Errors
    /// There is no card in the reader, or the arguments do not go together.
    fn card_corrupt(&self, corruption: CardCorruptArgs) -> Result<(), CommandError>;

    /// `over-current`.
    ///
    /// # Errors
    /// There is no reader in the slot, or its driver does not look for it.
    fn over_current(&self) -> Result<(), CommandError>;

    /// `link-set`: the slot's link up or down.
    ///
    /// # Errors
    /// The link cannot be brought up without a function in the slot.
    fn link_set(&self, up: bool) -> Result<(), CommandError>;

    /// `inject`: the actions of a rule, at once.
    ///
    /// # Errors
    /// One of them is not valid; the description says where.
    fn inject(&self, injection: InjectArgs) -> Result<RuleAdded, CommandError>;

    /// `query-status`: the device as a JSON tree. The server looks for the path in it.
    ///
    /// # Errors
    /// The state cannot be read.
    fn query_status(&self) -> Result<Value, CommandError>;

    /// `rule-add`.
    ///
    /// # Errors
    /// The rule is not valid; the description says where.
    fn rule_add(&self, rule: JsonObject) -> Result<RuleAdded, CommandError>;

    /// `rule-remove`.
    ///
    /// # Errors
    /// There is no rule of this name.
    fn rule_remove(&self, name: &str) -> Result<(), CommandError>;

    /// `query-rules`: an array of rules with their counters.
    ///
    /// # Errors
    /// The rules cannot be read.
    fn query_rules(&self) -> Result<Value, CommandError>;

    /// `scenario-load`: all rules of the scenario or, on an error, none.
    ///
    /// # Errors
    /// One of the rules is not valid; the description says which and where.
    fn scenario_load(&self, scenario: ScenarioLoadArgs) -> Result<(), CommandError>;

    /// `marker`: a line of text into the flight record.
    ///
    /// # Errors
    /// The record does not take it.
    fn marker(&self, text: &str) -> Result<(), CommandError>;

    /// `record-start`.
    ///
    /// # Errors
    /// There is such a file, or a record that is being written already.
    fn record_start(&self, start: RecordStartArgs) -> Result<Value, CommandError>;

    /// `record-stop`.
    ///
    /// # Errors
    /// No record is being written, or it could not be.
    fn record_stop(&self) -> Result<Value, CommandError>;

    /// `record-dump`.
    ///
    /// # Errors
    /// There is such a file, or more is asked for than a reply takes.
    fn record_dump(&self, dump: RecordDumpArgs) -> Result<Value, CommandError>;

    /// `quit`. When this returns `Ok`, the reply is sent and [`Server::run`] returns: nothing has to be stopped here.
    ///
    /// # Errors
    /// The server has to stay; it does.
    fn quit(&self) -> Result<(), CommandError> {
        Ok(())
    }
}

/// Limits of a server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Clients at the same time; one more is refused.
    pub client_limit: usize,
    /// How long a client may leave a message unread, with its socket's buffer full.
    pub write_timeout: Duration,
    /// How long clients get, when the server stops, to take what was sent to them.
    pub stop_timeout: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            client_limit: 32,
            write_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(1),
        }
    }
}

/// What the server and its connections share.
pub(crate) struct Shared {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) events: EventSender,
    pub(crate) options: ServerOptions,
    /// Turns true once.
    pub(crate) stop: watch::Sender<bool>,
    /// Numbers the clients, for the log.
    clients: AtomicU64,
}

/// The server of the control protocol. Clones are the same server.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl Server {
    /// A server whose commands `handler` carries out and whose events come out of `events`.
    pub fn new(handler: Arc<dyn Handler>, events: EventSender, options: ServerOptions) -> Self {
        let stop = watch::Sender::new(false);
        Self { shared: Arc::new(Shared { handler, events, options, stop, clients: AtomicU64::new(0) }) }
    }

    /// Makes [`Server::run`] and [`Server::serve`] return: clients get what was sent to them so far and are closed.
    pub fn stop(&self) {
        self.shared.stop.send_replace(true);
    }

    /// Serves clients of a listening socket until [`Server::stop`] or `quit`. Needs a tokio runtime with I/O and
    /// time; one thread is enough.
    ///
    /// Only processes of this process's effective user, and root, are served.
    ///
    /// # Errors
    /// The socket cannot be used with the runtime. Trouble with a client only ends that client.
    pub async fn run(&self, listener: &std::os::unix::net::UnixListener) -> io::Result<()> {
        let listener = listener.try_clone()?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let mut stop = self.shared.stop.subscribe();
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                () = stopped(&mut stop) => break,
                Some(ended) = clients.join_next() => log_panic(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream, &mut clients),
                    Err(error) => {
                        tracing::warn!(%error, "no client can be accepted");
                        // Out of file descriptors, most likely: trying again at once would only spin.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        let all_ended = async {
            while let Some(ended) = clients.join_next().await {
                log_panic(ended);
            }
        };
        if tokio::time::timeout(self.shared.options.stop_timeout, all_ended).await.is_err() {
            tracing::warn!("clients that do not read are closed without their last messages");
        }
        Ok(())
    }

    /// Serves one client on a connected socket until it leaves, or the server stops.
    pub async fn serve(&self, stream: UnixStream) {
        let number = self.shared.clients.fetch_add(1, Ordering::Relaxed);
        Connection::new(Arc::clone(&self.shared), number, stream).run().await;
    }

    fn admit(&self, stream: UnixStream, clients: &mut JoinSet<()>) {
        let own_uid = rustix::process::geteuid().as_raw();
        let limit = self.shared.options.client_limit;
        let refusal = match stream.peer_cred() {
            Ok(peer) if !may_speak(peer.uid(), own_uid) => {
                format!("user {} may not control the device of user {own_uid}", peer.uid())
            }
            Err(error) => format!("the client's user is not known: {error}"),
            Ok(_) if clients.len() >= limit => format!("{limit} clients are connected already"),
            Ok(_) => {
                let server = self.clone();
                clients.spawn(async move { server.serve(stream).await });
                return;
            }
        };
        tracing::warn!(refusal, "client refused");
        // The buffer of a new socket has room for it; should it not, the client sees a closed connection.
        let _ = stream.try_write(reply_line(&Err(CommandError::generic(refusal)), None).as_bytes());
    }
}

/// Whether a process of user `peer_uid` is served by a server of user `own_uid`.
fn may_speak(peer_uid: u32, own_uid: u32) -> bool {
    peer_uid == own_uid || peer_uid == 0
}

/// Waits for [`Server::stop`] or `quit`.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error would mean that the sender is gone: as good as a stop.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a client's task has failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_user_and_root_may_speak() {
        assert!(may_speak(1000, 1000));
        assert!(may_speak(0, 1000));
        assert!(!may_speak(1001, 1000));
        assert!(!may_speak(1000, 0));
    }
}
