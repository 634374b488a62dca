//! One client: greeting, negotiation, commands, events.

use crate::command::{CapabilitiesArgs, Command, JsonObject, QueryStatusArgs};
use crate::framing::{FrameError, Framer, MESSAGE_LIMIT_BYTES};
use crate::message::{CommandError, ErrorClass, greeting_line, reply_line, version};
use crate::path::find_path;
use crate::request::{Request, RequestError, is_echo};
use crate::schema::query_qmp_schema;
use crate::server::{Shared, stopped};
use crate::table::query_commands;
use serde::Serialize;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};

/// Why the server ends a connection.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client has left")]
    Left,
    #[error("the client has left in the middle of a message of {0} bytes; nothing of it was carried out")]
    LeftMidway(usize),
    #[error("the server stops")]
    Stopped,
    #[error("the client does not read")]
    WriteStuck,
    #[error("the client reads too slowly: {0} events would be lost")]
    Overtaken(u64),
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // It left without reading what was sent to it.
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Left,
            _ => Self::Io(error),
        }
    }
}

impl From<RecvError> for End {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Lagged(events) => Self::Overtaken(events),
            // The sender is in `Shared`, which a connection holds.
            RecvError::Closed => Self::Stopped,
        }
    }
}

pub(crate) struct Connection {
    shared: Arc<Shared>,
    number: u64,
    stream: UnixStream,
    framer: Framer,
    /// There from the negotiation on.
    events: Option<broadcast::Receiver<Arc<str>>>,
    /// Messages that make no sense, so far. Only the first is worth a warning: the guest's serial line can send them.
    complaints: u64,
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>, number: u64, stream: UnixStream) -> Self {
        Self { shared, number, stream, framer: Framer::new(MESSAGE_LIMIT_BYTES), events: None, complaints: 0 }
    }

    pub(crate) async fn run(mut self) {
        tracing::debug!(client = self.number, "client connected");
        let Err(end) = self.talk().await;
        match end {
            End::Left | End::Stopped => tracing::debug!(client = self.number, "{end}"),
            _ => tracing::warn!(client = self.number, "client cut off: {end}"),
        }
    }

    async fn talk(&mut self) -> Result<std::convert::Infallible, End> {
        let mut stop = self.shared.stop.subscribe();
        self.write(greeting_line().as_bytes()).await?;
        let mut chunk = [0; 4096];
        loop {
            tokio::select! {
                () = stopped(&mut stop) => {
                    let last = self.events_so_far()?;
                    self.write(last.as_bytes()).await?;
                    return Err(End::Stopped);
                }
                event = next_event(&mut self.events) => {
                    let mut lines = event?.to_string();
                    lines += &self.events_so_far()?;
                    self.write(lines.as_bytes()).await?;
                }
                read = self.stream.read(&mut chunk) => match read? {
                    0 if self.framer.pending_bytes() > 0 => return Err(End::LeftMidway(self.framer.pending_bytes())),
                    0 => return Err(End::Left),
                    length => self.take(chunk.get(..length).unwrap_or_default()).await?,
                },
            }
        }
    }

    async fn take(&mut self, mut input: &[u8]) -> Result<(), End> {
        while let Some(frame) = self.framer.next_frame(&mut input) {
            let mut quits = false;
            let reply = match frame {
                Ok(message) if is_echo(&message) => {
                    self.complain("a server's own message came back; is a terminal echoing?");
                    continue;
                }
                Ok(message) => match Request::parse(message) {
                    Ok(Request { command, id }) => {
                        let is_quit = command == Command::Quit;
                        let result = self.execute(command);
                        quits = is_quit && result.is_ok();
                        reply_line(&result, id.as_ref())
                    }
                    Err(RequestError { error, id }) => {
                        let error = self.before_negotiation().unwrap_or(error);
                        self.complain(&error.desc);
                        reply_line(&Err(error), id.as_ref())
                    }
                },
                Err(error) => self.refuse_frame(&error),
            };
            let mut lines = self.events_so_far()?;
            lines += &reply;
            self.write(lines.as_bytes()).await?;
            if quits {
                tracing::info!(client = self.number, "quit");
                self.shared.stop.send_replace(true);
                return Err(End::Stopped);
            }
        }
        Ok(())
    }

    fn refuse_frame(&mut self, error: &FrameError) -> String {
        let error = CommandError::generic(error.to_string());
        self.complain(&error.desc);
        reply_line(&Err(error), None)
    }

    fn complain(&mut self, complaint: &str) {
        self.complaints = self.complaints.saturating_add(1);
        match self.complaints {
            1 => {
                tracing::warn!(client = self.number, complaint, "message refused (more are logged as debug)")
            }
            _ => tracing::debug!(client = self.number, complaint, "message refused"),
        }
    }

    /// The error for anything but `qmp_capabilities`, as long as that has not come.
    fn before_negotiation(&self) -> Option<CommandError> {
        self.events.is_none().then(|| {
            CommandError::new(
                ErrorClass::CommandNotFound,
                "Expecting capabilities negotiation with 'qmp_capabilities'",
            )
        })
    }

    fn execute(&mut self, command: Command) -> Result<Value, CommandError> {
        if let Command::QmpCapabilities(arguments) = command {
            return self.negotiate(&arguments);
        }
        if let Some(error) = self.before_negotiation() {
            return Err(error);
        }
        let handler = &self.shared.handler;
        match command {
            // Done above; here only because the match is to be exhaustive.
            Command::QmpCapabilities(_) => Ok(json!({})),
            Command::CardInsert(arguments) => handler.card_insert(arguments).map(nothing),
            Command::CardPrepare(arguments) => handler.card_prepare(arguments).map(nothing),
            Command::CardEject => handler.card_eject().map(nothing),
            Command::CardCorrupt(arguments) => handler.card_corrupt(arguments).map(nothing),
            Command::OverCurrent => handler.over_current().map(nothing),
            Command::Inject(arguments) => handler.inject(arguments).and_then(|added| to_value(&added)),
            Command::QueryStatus(QueryStatusArgs { path }) => {
                let status = handler.query_status()?;
                match path {
                    None => Ok(status),
                    Some(path) => find_path(&status, &path).cloned().map_err(CommandError::generic),
                }
            }
            Command::RuleAdd(arguments) => {
                handler.rule_add(arguments.rule).and_then(|added| to_value(&added))
            }
            Command::RuleRemove(arguments) => handler.rule_remove(&arguments.name).map(nothing),
            Command::QueryRules => handler.query_rules(),
            Command::ScenarioLoad(arguments) => handler.scenario_load(arguments).map(nothing),
            Command::LinkSet(arguments) => handler.link_set(arguments.up).map(nothing),
            Command::QueryCommands => Ok(query_commands()),
            Command::QueryQmpSchema => Ok(query_qmp_schema()),
            Command::QueryVersion => to_value(&version()),
            Command::Marker(arguments) => handler.marker(&arguments.text).map(nothing),
            Command::RecordStart(arguments) => handler.record_start(arguments),
            Command::RecordStop => handler.record_stop(),
            Command::RecordDump(arguments) => handler.record_dump(arguments),
            Command::Quit => handler.quit().map(nothing),
        }
    }

    fn negotiate(&mut self, arguments: &CapabilitiesArgs) -> Result<Value, CommandError> {
        if self.events.is_some() {
            return Err(CommandError::new(
                ErrorClass::CommandNotFound,
                "Capabilities negotiation is already complete, command ignored",
            ));
        }
        if let Some(capability) = arguments.enable.first() {
            let capability = crate::nearest::quoted(capability);
            return Err(CommandError::generic(format!("Capability {capability} is not available")));
        }
        self.events = Some(self.shared.events.subscribe());
        Ok(json!({}))
    }

    /// The lines of all events that wait.
    fn events_so_far(&mut self) -> Result<String, End> {
        let mut lines = String::new();
        let Some(events) = &mut self.events else { return Ok(lines) };
        // Events that are sent meanwhile wait for the next time, or this might not end.
        for _ in 0..events.len() {
            match events.try_recv() {
                Ok(event) => lines += &event,
                Err(TryRecvError::Lagged(events)) => return Err(End::Overtaken(events)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        Ok(lines)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        match tokio::time::timeout(self.shared.options.write_timeout, self.stream.write_all(bytes)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(End::WriteStuck),
        }
    }
}

async fn next_event(events: &mut Option<broadcast::Receiver<Arc<str>>>) -> Result<Arc<str>, RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

fn nothing((): ()) -> Value {
    Value::Object(JsonObject::new())
}

fn to_value(reply: &impl Serialize) -> Result<Value, CommandError> {
    serde_json::to_value(reply).map_err(|error| CommandError::generic(error.to_string()))
}
