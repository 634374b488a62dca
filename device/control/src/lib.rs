//! The control protocol: a dialect of QMP, the QEMU Machine Protocol, over a Unix stream socket.
//!
//! What it does:
//! - [`COMMANDS`]: the one table of commands, from which parsing, `query-commands` and the reference come;
//!   [`Command`] is a command with its arguments checked.
//! - [`EVENTS`]: the one table of events; [`query_qmp_schema`] describes both tables as QMP does.
//! - [`find_path`]: a part of the status.
//! - [`Framer`]: JSON objects out of a byte stream, in bounded memory and linear time.
//! - [`Server`]: greeting, negotiation, commands, events, several clients; what the commands do is the
//!   [`Handler`]'s business.
//! - [`bind`]: the socket itself, mode 0600 from its first moment.
//! - [`Client`] and [`parse_key_values`]: a blocking client for scripts and people.
//!
//! # How the dialect behaves
//! - The greeting, `qmp_capabilities`, `execute`/`arguments`/`id`, replies, errors and events are QMP's. Every
//!   server message is one line, ended by `\n`.
//! - Client messages may be split, concatenated or printed over several lines. Blank lines and `\r` are nothing.
//! - A syntax error is answered once and the rest of its line is dropped. A `{` that opens a line where none can
//!   be is taken for the start of a new message: what came before is the error. So of two complete commands on
//!   lines of their own, the second is always understood, whatever noise came before.
//! - A message over [`MESSAGE_LIMIT_BYTES`] is answered with an error at once, read to its end without being kept,
//!   and the connection goes on.
//! - A server's own message that comes back (a terminal's echo, on a serial line) is dropped without an answer.
//! - Only the user that the server runs as, and root, are served (`SO_PEERCRED`).
//! - The events that a command causes are sent before its reply.
//! - `quit` replies, then closes. Over a serial line the reply can still be lost: QEMU's chardev drops what the guest
//!   has not taken yet when the socket closes.
//! - A client that does not read is cut off: when the event ring has overtaken it, or when a write stays stuck for
//!   [`ServerOptions::write_timeout`].
//!
//! What it does not do:
//! - out-of-band execution (`exec-oob`) and every other QMP capability;
//! - TLS, TCP, or file descriptors over the socket;
//! - rules: a rule is a JSON object here, and whoever owns the rules checks it.

// The control protocol is on the host's side: it waits for people and programs, in their time.
#![allow(clippy::disallowed_methods)]

mod client;
mod command;
mod connection;
mod event;
mod event_table;
mod framing;
mod grammar;
mod key_values;
mod message;
mod nearest;
mod path;
mod request;
mod schema;
mod server;
mod size;
mod socket;
mod table;

pub use client::{Client, ClientError, Events};
pub use command::{
    CapabilitiesArgs, CardCorruptArgs, CardInsertArgs, CardKind, Command, Corruption, ImageFormat,
};
pub use command::{
    InjectArgs, JsonObject, LinkSetArgs, MarkerArgs, QueryStatusArgs, RecordDumpArgs, RecordStartArgs,
};
pub use command::{RuleAddArgs, RuleRemoveArgs, ScenarioLoadArgs};
pub use event::{Event, EventSender, Timestamp};
pub use event_table::{COMMON_DATA, EVENTS, EventSpec, events_markdown};
pub use framing::{FrameError, Framer, MESSAGE_LIMIT_BYTES};
pub use key_values::{KeyValueError, parse_key_values};
pub use message::{CommandError, ErrorClass, RuleAdded, Triple, Version, version};
pub use nearest::did_you_mean;
pub use path::find_path;
pub use request::{Request, RequestError};
pub use schema::query_qmp_schema;
pub use server::{Handler, Server, ServerOptions};
pub use size::Size;
pub use socket::{BindError, BoundSocket, PATH_LIMIT_BYTES, bind};
pub use table::{ArgumentSpec, ArgumentType, COMMANDS, CommandSpec, command_spec, query_commands};
pub use table::{reference_markdown, usage};
