//! A client's script against a session in this process, or a whole server over its socket.
//!
//! A whole visit costs a connection, a thread and some wake-ups, a session only what it does: a third of the scripts take
//! the socket, the others reach the same decoder, session, guest memory and interrupts a good deal faster. The servers
//! live as long as the process, one that polls and one that does not, each in a thread of its own.
//!
//! Held against every script:
//!
//! - nothing panics (a panic of any thread ends the process) and nothing waits for ever;
//! - every command that wants an answer has exactly one, with its id, in order, and no other; errors have an errno; what
//!   is read is what the device has; at the end a well-formed request is answered rightly, or the connection was closed
//!   for a reason that the client's bytes show;
//! - afterwards the process has as many descriptors as before and no more threads, and no guest memory is mapped. libFuzzer
//!   itself watches the memory (`-rss_limit_mb`).
#![no_main]

use libfuzzer_sys::fuzz_target;
use sdmorph_fuzz::script::Script;
use sdmorph_fuzz::{direct, servers};

fuzz_target!(init: servers::ignore_sigpipe(), |script: Script| {
    if script.socket {
        servers::play(&script);
    } else {
        direct::play(&script);
    }
});
