//! A blocking client, for scripts and people.

use crate::command::JsonObject;
use crate::event::Event;
use crate::framing::{FrameError, Framer};
use crate::message::{CommandError, line};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest reply that is taken. The device's whole status is some 100 KiB.
const REPLY_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// Events that are kept while nobody asks for them.
const EVENT_LIMIT: usize = 4096;

/// How often a socket that is not there yet is looked for.
const CONNECT_INTERVAL: Duration = Duration::from_millis(10);

/// What can go wrong between client and server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no server at the path, or it cannot be reached.
    #[error("cannot connect to {}: {}", path.display(), describe_connect(source))]
    Connect {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The server does not want this client: too many are there, or the user is not allowed.
    #[error("the server refuses the connection: {0}")]
    Refused(String),
    /// What answers is no QMP server.
    #[error("no QMP greeting, but: {0}")]
    NoGreeting(String),
    /// The command was not carried out.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Nothing came in time.
    #[error("no {awaited} within {} ms", timeout.as_millis())]
    Timeout {
        /// What was waited for.
        awaited: &'static str,
        /// For how long.
        timeout: Duration,
    },
    /// The server has closed the connection.
    #[error("the server has closed the connection")]
    Closed,
    /// Events came faster than they were asked for.
    #[error("{0} events were dropped because nobody asked for them")]
    EventsLost(u64),
    /// The server sends what is no message.
    #[error("the server's message cannot be read: {0}")]
    Frame(#[from] FrameError),
    /// The server's message is JSON, but neither a reply nor an event.
    #[error("the server's message makes no sense: {0}")]
    Message(String),
    /// The connection broke.
    #[error("the connection to the server broke: {0}")]
    Io(io::Error),
}

fn describe_connect(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such socket; is the server running?".into(),
        io::ErrorKind::ConnectionRefused => "nobody listens there; the server is gone".into(),
        _ => error.to_string(),
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// A connection to a server, past the negotiation.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    framer: Framer,
    /// Bytes that were read and not yet framed: `input[at..]`.
    input: Vec<u8>,
    at: usize,
    events: VecDeque<Event>,
    events_lost: u64,
    timeout: Duration,
    last_id: u64,
}

impl Client {
    /// Connects and negotiates, in `timeout` all in all; later, each command gets as long.
    ///
    /// # Errors
    /// [`ClientError::Connect`] at once when nobody listens; [`ClientError::Refused`], [`ClientError::NoGreeting`].
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        Self::connect_before(path, timeout, Instant::now() + timeout)
    }

    /// As [`Client::connect`], but a server that does not listen yet is waited for.
    ///
    /// # Errors
    /// As [`Client::connect`], after `timeout`.
    pub fn connect_when_ready(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let deadline = Instant::now() + timeout;
        loop {
            match Self::connect_before(path, timeout, deadline) {
                Err(ClientError::Connect { source, .. })
                    if matches!(
                        source.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                    ) && Instant::now() + CONNECT_INTERVAL < deadline =>
                {
                    std::thread::sleep(CONNECT_INTERVAL);
                }
                result => return result,
            }
        }
    }

    fn connect_before(path: &Path, timeout: Duration, deadline: Instant) -> Result<Self, ClientError> {
        let connected = || -> rustix::io::Result<UnixStream> {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            // Connecting blocks when the server's backlog is full. 0 would mean for ever.
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            set_socket_timeout(&socket, Timeout::Send, Some(left))?;
            connect(&socket, &SocketAddrUnix::new(path)?)?;
            Ok(socket.into())
        };
        let stream =
            connected().map_err(|errno| ClientError::Connect { path: path.into(), source: errno.into() })?;
        Self::negotiate(stream, timeout, deadline)
    }

    /// Negotiates on a connected socket, in `timeout`; later, each command gets as long.
    ///
    /// # Errors
    /// [`ClientError::Refused`], [`ClientError::NoGreeting`].
    pub fn from_stream(stream: UnixStream, timeout: Duration) -> Result<Self, ClientError> {
        Self::negotiate(stream, timeout, Instant::now() + timeout)
    }

    fn negotiate(stream: UnixStream, timeout: Duration, deadline: Instant) -> Result<Self, ClientError> {
        let mut client = Self {
            stream,
            framer: Framer::new(REPLY_LIMIT_BYTES),
            input: Vec::new(),
            at: 0,
            events: VecDeque::new(),
            events_lost: 0,
            timeout,
            last_id: 0,
        };
        let greeting = client.message("greeting", Some(deadline))?;
        if let Some(error) = greeting.get("error") {
            return Err(ClientError::Refused(describe_error(error)));
        }
        if !greeting.contains_key("QMP") {
            return Err(ClientError::NoGreeting(Value::Object(greeting).to_string()));
        }
        client.execute_before("qmp_capabilities", JsonObject::new(), deadline)?;
        Ok(client)
    }

    /// Has a command carried out and returns what its reply carries. Events that come meanwhile are kept.
    ///
    /// # Errors
    /// [`ClientError::Command`] if the server refuses it; anything else ends the connection's usefulness.
    pub fn execute(&mut self, name: &str, arguments: JsonObject) -> Result<Value, ClientError> {
        self.execute_before(name, arguments, Instant::now() + self.timeout)
    }

    fn execute_before(
        &mut self,
        name: &str,
        arguments: JsonObject,
        deadline: Instant,
    ) -> Result<Value, ClientError> {
        self.last_id += 1;
        let id = json!(self.last_id);
        let request = line(&json!({"execute": name, "arguments": arguments, "id": id}));
        self.stream.set_write_timeout(Some(self.time_left("reply", deadline)?))?;
        self.stream.write_all(request.as_bytes()).map_err(|error| self.timed_out_or(error, "reply"))?;
        loop {
            let mut message = self.message("reply", Some(deadline))?;
            if message.contains_key("event") {
                self.keep_event(message)?;
                continue;
            }
            // An error without an id is about the stream itself; nothing else was sent, so it is about this request.
            let ours = message.get("id").is_none_or(|found| *found == id);
            match (message.remove("return"), message.remove("error")) {
                (Some(value), _) if ours => return Ok(value),
                (_, Some(error)) if ours => return Err(command_error(error)),
                // The late reply to a command that had timed out.
                (Some(_), _) | (_, Some(_)) => {}
                (None, None) => return Err(ClientError::Message(Value::Object(message).to_string())),
            }
        }
    }

    /// The next event, waiting at most `timeout`, or for ever. `None` when none came in time.
    ///
    /// # Errors
    /// [`ClientError::Closed`] when the server goes away; [`ClientError::EventsLost`], once, after more events than
    /// are kept have come during commands.
    pub fn next_event(&mut self, timeout: Option<Duration>) -> Result<Option<Event>, ClientError> {
        if self.events_lost > 0 {
            return Err(ClientError::EventsLost(std::mem::take(&mut self.events_lost)));
        }
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        while self.events.is_empty() {
            match self.message("event", deadline) {
                Ok(message) if message.contains_key("event") => self.keep_event(message)?,
                // The late reply to a command that had timed out.
                Ok(_) => {}
                Err(ClientError::Timeout { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(self.events.pop_front())
    }

    /// The events as they come, for ever; ends when the server closes the connection.
    pub fn events(&mut self) -> Events<'_> {
        Events { client: self }
    }

    fn keep_event(&mut self, message: JsonObject) -> Result<(), ClientError> {
        let event = serde_json::from_value(Value::Object(message))
            .map_err(|error| ClientError::Message(error.to_string()))?;
        if self.events.len() >= EVENT_LIMIT {
            self.events.pop_front();
            self.events_lost += 1;
        }
        self.events.push_back(event);
        Ok(())
    }

    fn message(
        &mut self,
        awaited: &'static str,
        deadline: Option<Instant>,
    ) -> Result<JsonObject, ClientError> {
        loop {
            let mut unframed = self.input.get(self.at..).unwrap_or_default();
            let frame = self.framer.next_frame(&mut unframed);
            self.at = self.input.len() - unframed.len();
            if let Some(frame) = frame {
                return Ok(frame?);
            }
            let left = deadline.map(|deadline| self.time_left(awaited, deadline)).transpose()?;
            self.stream.set_read_timeout(left)?;
            // Nothing may fail between this and the reading, or the zeros would be taken for what the server sent.
            self.input.resize(64 * 1024, 0);
            let read = self.stream.read(&mut self.input);
            self.at = 0;
            self.input.truncate(*read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(ClientError::Closed),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(self.timed_out_or(error, awaited));
                }
                _ => {}
            }
        }
    }

    fn time_left(&self, awaited: &'static str, deadline: Instant) -> Result<Duration, ClientError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ClientError::Timeout { awaited, timeout: self.timeout }) } else { Ok(left) }
    }

    fn timed_out_or(&self, error: io::Error, awaited: &'static str) -> ClientError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                ClientError::Timeout { awaited, timeout: self.timeout }
            }
            _ => error.into(),
        }
    }
}

/// The events of a [`Client`], from [`Client::events`].
#[derive(Debug)]
pub struct Events<'a> {
    client: &'a mut Client,
}

impl Iterator for Events<'_> {
    type Item = Result<Event, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.client.next_event(None) {
            Err(ClientError::Closed) => None,
            result => result.transpose(),
        }
    }
}

fn command_error(error: Value) -> ClientError {
    match serde_json::from_value(error.clone()) {
        Ok(error) => ClientError::Command(error),
        Err(_) => ClientError::Message(error.to_string()),
    }
}

fn describe_error(error: &Value) -> String {
    error.get("desc").and_then(Value::as_str).map_or_else(|| error.to_string(), str::to_owned)
}
