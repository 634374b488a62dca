//! One client's conversation: messages in, replies out, and between them the device looks for work.

use crate::device::{Device, Look};
use crate::faults::WireFault;
use crate::framing::Message;
use crate::link::{Ended, Link, after};
use crate::polling::Poller;
use crate::reply::Reply;
use crate::server::Options;
use crate::session::{Next, Session};
use crate::stop::Stop;

/// The thread that serves has one as long as its client is there.
pub(crate) struct Conversation<'a> {
    options: &'a Options,
    stop: &'a Stop,
    link: &'a Link,
    session: &'a mut Session,
    device: &'a mut dyn Device,
    /// How long the device looks for work.
    poller: Poller,
    /// The last message; its buffers are used again.
    message: Message,
}

impl<'a> Conversation<'a> {
    pub(crate) fn new(
        options: &'a Options,
        stop: &'a Stop,
        link: &'a Link,
        session: &'a mut Session,
        device: &'a mut dyn Device,
    ) -> Self {
        let poller = Poller::new(options.polling);
        Self { options, stop, link, session, device, poller, message: Message::default() }
    }

    /// Answers one message after the other, until it cannot go on.
    pub(crate) fn run(mut self) -> Ended {
        let mut reply = Reply::default();
        let mut dma_limited = false;
        let mut faulty = 0u64;
        loop {
            // A server that is stopped before its client was known to it has not shut that one down.
            if self.stop.is_stopped() {
                return Ended::Stopped;
            }
            let received = match self.look_for_work() {
                Ok(false) => self.link.next_request(&mut self.message),
                Ok(true) => Ok(()),
                Err(ended) => Err(ended),
            };
            if let Err(ended) = received {
                return ended;
            }
            let header = self.message.header;
            let fault = self.options.faults.as_ref().filter(|_| header.is_command());
            let fault = fault.and_then(|faults| faults.fault(&header));
            // Counted from here: a device that takes its time to answer must not come on top of it.
            let mut not_before = None;
            if let Some(fault) = fault {
                faulty += 1;
                if faulty.is_power_of_two() {
                    let (command, id, count) = (header.command_name(), header.id, faulty);
                    tracing::info!(command, id, ?fault, count, "a fault at the wire");
                }
                if let WireFault::Delay(delay) = fault {
                    not_before = Some(after(delay));
                }
            }
            let next = match fault {
                Some(WireFault::Close) => return Ended::Fault,
                Some(WireFault::Drop) => {
                    self.message.fds.clear();
                    continue;
                }
                Some(WireFault::Error(errno)) => {
                    self.message.fds.clear();
                    self.session.refuse(&self.message, errno, &mut reply);
                    Next::Continue
                }
                Some(WireFault::Delay(_) | WireFault::Truncate(_)) | None => {
                    self.session.handle(&mut self.message, self.device, &mut reply)
                }
            };
            if let Some(not_before) = not_before {
                self.device.stay_away();
                if let Err(ended) = self.stop.wait_until(not_before) {
                    return ended;
                }
            }
            if let Some(WireFault::Truncate(bytes)) = fault {
                reply.truncate(bytes);
            }
            if let Err(ended) = self.link.send(&reply) {
                return ended;
            }
            if let Next::Close(refusal) = next {
                return Ended::Version(refusal);
            }
            if let Some(client) = self.session.client().filter(|_| !dma_limited) {
                let ours = self.options.limits.max_data_xfer_bytes;
                self.link.set_dma_bytes(client.data_xfer_bytes().min(ours));
                dma_limited = true;
            }
        }
    }

    /// Lets the device look for work until a message comes, or until it does not pay any more. True if a message came.
    fn look_for_work(&mut self) -> Result<bool, Ended> {
        let Self { stop, link, device, poller, message, .. } = self;
        // A device without such a place costs no look at the clock.
        let mut looked = device.look();
        while looked != Look::Nowhere {
            poller.begin();
            loop {
                // Work without end must not keep anybody from being heard.
                if stop.is_stopped() {
                    return Err(Ended::Stopped);
                }
                if link.request_at_hand(message)? {
                    return Ok(true);
                }
                let others_run = if looked == Look::Work {
                    poller.hit();
                    poller.begin();
                    // The driver may be waiting for this core, and there may be work without end.
                    true
                } else if poller.go_on() {
                    poller.missed()
                } else {
                    break;
                };
                if others_run {
                    poller.give_way();
                }
                looked = device.look();
                if looked == Look::Nowhere {
                    return Ok(false);
                }
            }
            if !device.rest() {
                break;
            }
            looked = device.look();
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::time::Duration;

    use rustix::io::Errno;

    use super::*;
    use crate::description::Description;
    use crate::header::Header;
    use crate::interrupts::Interrupts;
    use crate::memory::GuestMemory;

    /// Finds work as it is told to: as often as `work` says, and after each rest that `late` has in store.
    struct Mailbox {
        work: u64,
        late: Vec<bool>,
        place: bool,
        asked: Vec<&'static str>,
    }

    impl Device for Mailbox {
        fn region_read(&mut self, _: u32, _: u64, _: &mut [u8]) -> Result<(), Errno> {
            Ok(())
        }

        fn region_write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), Errno> {
            Ok(())
        }

        fn look(&mut self) -> Look {
            if !self.place {
                return Look::Nowhere;
            }
            if self.work == u64::MAX {
                return Look::Work;
            }
            self.asked.push(if self.work > 0 { "work" } else { "nothing" });
            let found = if self.work > 0 { Look::Work } else { Look::Nothing };
            self.work = self.work.saturating_sub(1);
            found
        }

        fn rest(&mut self) -> bool {
            self.asked.push("rest");
            self.late.pop().is_some_and(|late| late)
        }
    }

    /// What a conversation needs but for the device, and the other end of its connection.
    struct Table {
        options: Options,
        stop: Stop,
        link: Link,
        session: Session,
        client: UnixStream,
    }

    impl Table {
        fn new() -> Self {
            let (ours, client) = UnixStream::pair().unwrap();
            let link = Link::new(Arc::new(ours), 4096, Duration::ZERO, Duration::from_secs(1));
            let (description, options) = (Arc::new(Description::default()), Options::default());
            let interrupts = Interrupts::new(&description);
            let session = Session::new(description, GuestMemory::new(), interrupts, options.limits);
            Self { options, stop: Stop::new().unwrap(), link, session, client }
        }

        /// One that polls for so long.
        fn conversation<'a>(&'a mut self, device: &'a mut Mailbox, window: Duration) -> Conversation<'a> {
            self.options.polling = window;
            Conversation::new(&self.options, &self.stop, &self.link, &mut self.session, device)
        }
    }

    #[test]
    fn device_looks_until_there_is_nothing_and_says_so_before_the_server_sleeps() {
        let mut table = Table::new();
        let mut look = |device: &mut Mailbox| table.conversation(device, Duration::ZERO).look_for_work();
        let mut device = Mailbox { work: 0, late: Vec::new(), place: false, asked: Vec::new() };
        assert_eq!(look(&mut device), Ok(false));
        assert!(device.asked.is_empty(), "{:?}", device.asked);

        device = Mailbox { place: true, ..device };
        assert_eq!(look(&mut device), Ok(false));
        assert_eq!(device.asked, ["nothing", "rest"]);

        // What was left before the client could know that nobody looks is looked for again.
        device = Mailbox { late: vec![false, true], asked: Vec::new(), ..device };
        assert_eq!(look(&mut device), Ok(false));
        assert_eq!(device.asked, ["nothing", "rest", "nothing", "rest"]);
    }

    #[test]
    fn work_is_looked_for_until_there_is_none_whether_the_server_polls_or_not() {
        let mut table = Table::new();
        for window in [Duration::ZERO, Duration::from_millis(1)] {
            let mut device = Mailbox { work: 3, late: Vec::new(), place: true, asked: Vec::new() };
            assert_eq!(table.conversation(&mut device, window).look_for_work(), Ok(false));
            assert_eq!(device.asked[..4], ["work", "work", "work", "nothing"]);
            let rests = device.asked.iter().filter(|asked| **asked == "rest").count();
            assert_eq!((rests, device.asked.last()), (1, Some(&"rest")));
        }
    }

    #[test]
    fn device_that_finds_work_without_end_keeps_nobody_from_being_heard() {
        let mut table = Table::new();
        let mut device = Mailbox { work: u64::MAX, late: Vec::new(), place: true, asked: Vec::new() };
        let header = Header { id: 7, command: 1, message_bytes: 16, ..Header::default() };
        table.client.write_all(&header.encode()).unwrap();
        let stop = table.stop.clone();
        let mut conversation = table.conversation(&mut device, Duration::from_secs(3600));
        assert_eq!(conversation.look_for_work(), Ok(true));
        assert_eq!(conversation.message.header.id, 7);
        stop.stop();
        assert_eq!(conversation.look_for_work(), Err(Ended::Stopped));
    }
}
