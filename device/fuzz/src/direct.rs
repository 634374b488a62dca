//! A script played to a session in this process: no socket, no thread.
//!
//! Every piece is one receive, so descriptors arrive exactly as they were sent.

use std::sync::{Arc, Mutex, PoisonError};

use vfio_user_server::framing::{Framer, Message, Unframed};
use vfio_user_server::memory::Port;
use vfio_user_server::reply::Reply;
use vfio_user_server::session::{Next, Session};
use vfio_user_server::{DmaError, Errno, GuestMemory, Interrupts};

use crate::client::Answers;
use crate::device::{Fuzzed, description};
use crate::script::{Answer, MAX_DMA_MAPS, Script, Step};
use crate::stream::{End, Stream};
use crate::{files, limits};

/// DMA by messages, without the messages: only what becomes of them.
struct ScriptedPort(Mutex<Vec<Answer>>);

impl ScriptedPort {
    fn answer(&self) -> Result<(), DmaError> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            None | Some(Answer::Right | Answer::Twice | Answer::InTwo(_) | Answer::AfterRequest) => Ok(()),
            Some(Answer::Error(number)) => {
                Err(DmaError::Refused(Errno::from_raw_os_error(number as i32 & 0xff | 1)))
            }
            Some(Answer::Late | Answer::Never) => Err(DmaError::TimedOut),
            Some(_) => Err(DmaError::Gone),
        }
    }
}

impl Port for ScriptedPort {
    fn read(&self, _: u64, data: &mut [u8]) -> Result<(), DmaError> {
        data.fill(0x5a);
        self.answer()
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), DmaError> {
        self.answer()
    }
}

/// Plays a script.
///
/// # Panics
/// The server did what it must not.
pub fn play(script: &Script) {
    let description = description();
    let memory = GuestMemory::new();
    let interrupts = Interrupts::new(description);
    let answers = script.answers.iter().rev().copied().collect();
    memory.set_port(Some(Arc::new(ScriptedPort(Mutex::new(answers)))));
    let mut device = Fuzzed::new(memory.clone(), interrupts.clone());
    let mut session = Session::new(Arc::clone(description), memory.clone(), interrupts, limits());
    let mut framer = Framer::new(limits().message_bytes());
    let mut sent = Stream::default();
    let mut answers = Answers::default();
    let (mut message, mut reply) = (Message::default(), Reply::default());
    let mut handled = 0u64;
    'script: for step in &script.steps {
        let piece = match step {
            Step::Send(piece) => piece,
            Step::Wait => continue,
            Step::Resize(pages) => {
                files::resize(*pages);
                continue;
            }
        };
        let mut rest = &piece.bytes[..];
        let mut fds: Vec<_> = piece.fds.iter().map(|kind| files::of_kind(*kind)).collect();
        while !rest.is_empty() {
            let space = framer.space();
            let (now, later) = rest.split_at(rest.len().min(space.len()));
            space[..now.len()].copy_from_slice(now);
            rest = later;
            sent.extend(now);
            let owned = std::mem::take(&mut fds);
            let owned = owned.into_iter().map(|fd| fd.try_clone_to_owned().expect("a descriptor")).collect();
            framer.received(now.len(), owned, false);
            assert!(framer.held_bytes() <= 64 * 1024, "{} bytes are held", framer.held_bytes());
            loop {
                match framer.take(&mut message) {
                    Ok(true) => {}
                    Ok(false) => {
                        let End::Partial(bytes) = sent.end() else {
                            panic!("goes on after {:?}", sent.end())
                        };
                        assert_eq!(framer.pending_bytes(), bytes);
                        break;
                    }
                    Err(Unframed::Short(bytes)) => {
                        assert_eq!(sent.end(), End::Short(bytes));
                        break 'script;
                    }
                    Err(Unframed::Descriptors) => {
                        assert!(script.fds() > 253, "ended for {} descriptors", script.fds());
                        return;
                    }
                }
                let next = session.handle(&mut message, &mut device, &mut reply);
                handled += 1;
                assert_eq!(session.counters().messages, handled);
                assert!(reply.bytes().len() <= limits().message_bytes(), "a reply that is too long");
                answers.extend(reply.bytes(), &sent);
                if let Next::Close(refusal) = next {
                    assert_ne!(refusal.errno.raw_os_error(), 0);
                    assert!(session.client().is_none(), "closed though a version was agreed on");
                    answers.check_closed_by_version(&sent, handled as usize);
                    return;
                }
            }
        }
    }
    answers.check_all(&sent);
    assert_eq!(handled as usize, sent.sent().len());
    assert!(memory.ranges() <= MAX_DMA_MAPS as usize);
    memory.clear();
}
