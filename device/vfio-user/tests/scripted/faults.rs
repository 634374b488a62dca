//! Faults at the wire: each kind, on the command it is meant for and no other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vfio_user_server::faults::{WireFault, WireFaults};
use vfio_user_server::header::Header;
use vfio_user_server::{Ended, Errno, Options};

use crate::device::*;
use crate::wire::*;

/// Faults, one after the other, each for the next command of its number.
struct Plan(Mutex<VecDeque<(u16, WireFault)>>);

impl WireFaults for Plan {
    fn fault(&self, command: &Header) -> Option<WireFault> {
        let mut plan = self.0.lock().unwrap();
        let (_, fault) = *plan.front().filter(|(number, _)| *number == command.command)?;
        plan.pop_front();
        Some(fault)
    }
}

fn rig(faults: &[(u16, WireFault)]) -> Rig {
    let plan = Plan(Mutex::new(faults.iter().copied().collect()));
    Rig::with(Options { faults: Some(Arc::new(plan)), ..Options::default() })
}

// A delay is real time.
#[allow(clippy::disallowed_methods)]
#[test]
fn delayed_command_is_acted_on_and_answered_no_earlier() {
    let delay = Duration::from_millis(30);
    let rig = rig(&[(REGION_WRITE, WireFault::Delay(delay))]);
    let mut client = rig.client();
    let begin = Instant::now();
    client.write(REGISTERS, 0, b"late");
    assert!(begin.elapsed() >= delay);
    assert_eq!(client.read(REGISTERS, 0, 4), b"late");
}

#[test]
fn stop_ends_a_delay() {
    let rig = rig(&[(RESET, WireFault::Delay(Duration::from_secs(3600)))]);
    let mut client = rig.client();
    client.begin(RESET, &[]);
    // The device has acted, and is told that nobody calls before the answer.
    while rig.log().waits == 0 {
        std::thread::yield_now();
    }
    assert_eq!(rig.log().resets, 1);
    rig.stop.stop();
    client.closed();
    assert_eq!(rig.visit().ended, Ended::Stopped);
}

#[test]
fn dropped_command_is_neither_acted_on_nor_answered_and_its_descriptors_are_closed() {
    let rig = rig(&[(RESET, WireFault::Drop), (SET_IRQS, WireFault::Drop)]);
    let mut client = rig.client();
    client.begin(RESET, &[]);
    client.in_step();
    assert_eq!(rig.log().resets, 0);
    let (theirs, ours) = tracer();
    let id = client.id();
    let body = set_irqs(EVENTFD | TRIGGER, MSIX, 0, 1, &[]);
    client.send_with(&message(id, SET_IRQS, COMMAND, &body), &[std::os::fd::AsFd::as_fd(&ours)]);
    drop(ours);
    wait_readable(&theirs);
    client.request(RESET, &[]).ok();
    assert_eq!(rig.log().resets, 1);
}

#[test]
fn failed_command_is_answered_with_the_errno_and_not_acted_on() {
    let rig =
        rig(&[(REGION_WRITE, WireFault::Error(Errno::NXIO)), (REGION_WRITE, WireFault::Error(Errno::NXIO))]);
    let mut client = rig.client();
    assert_eq!(client.request(REGION_WRITE, &write(0, REGISTERS, b"x")).errno(), 6);
    // Whoever wants no reply gets none.
    client.post(REGION_WRITE, &write(0, REGISTERS, b"x"));
    client.in_step();
    assert!(rig.log().writes.is_empty());
    drop(client);
    assert_eq!(rig.visit().counters.refused, 2);
}

#[test]
fn connection_is_closed_before_the_command_is_acted_on_and_the_next_client_is_served() {
    let rig = rig(&[(RESET, WireFault::Close)]);
    let mut client = rig.client();
    client.begin(RESET, &[]);
    client.closed();
    assert_eq!((rig.visit().ended, rig.log().resets), (Ended::Fault, 0));
    rig.client().request(RESET, &[]).ok();
}

#[test]
fn truncated_reply_has_so_many_bytes_and_no_descriptors_and_its_command_is_acted_on() {
    let rig = rig(&[
        (REGION_WRITE, WireFault::Truncate(20)),
        (RESET, WireFault::Truncate(0)),
        (GET_REGION_INFO, WireFault::Truncate(17)),
        (GET_INFO, WireFault::Truncate(1000)),
    ]);
    let mut client = rig.client();
    let id = client.begin(REGION_WRITE, &write(0, REGISTERS, b"done"));
    let whole = message(id, REGION_WRITE, REPLY, &access(0, REGISTERS, 4));
    assert_eq!(client.take(20).unwrap(), whole[..20]);
    client.begin(RESET, &[]);
    let id = client.begin(GET_REGION_INFO, &region_info(80, SPARSE));
    assert_eq!(client.take(17).unwrap(), sized(id, GET_REGION_INFO, 96, REPLY, &[80]));
    // More than there is: all of it.
    let reply = client.request(GET_INFO, &u32s(&[16, 0, 0, 0]));
    assert!(reply.fds.is_empty());
    assert_eq!(reply.ok().len(), 16);
    let log = rig.log();
    assert_eq!((log.writes.len(), log.resets), (1, 1));
}
