//! Polling: none when it is turned off, and none of an idle server's time.

use std::time::Duration;

use vfio_user_server::Options;

use crate::device::*;
use crate::wire::*;

/// Nanoseconds that the serving thread has run for.
fn run_time(rig: &Rig) -> u64 {
    let stat = std::fs::read_to_string(rig.thread.join("schedstat")).unwrap();
    stat.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn server_without_polling_tries_no_receive_in_vain_and_takes_two_calls_a_read() {
    let rig = Rig::with(Options { polling: Duration::ZERO, ..Options::default() });
    let mut client = rig.client();
    for _ in 0..1000 {
        client.read(CONFIG, 0, 4);
    }
    drop(client);
    let visit = rig.visit();
    let calls = visit.calls;
    assert_eq!((calls.empty_receives, calls.receives, calls.sends), (0, 1001, 1001));
    assert_eq!((visit.counters.messages, visit.counters.posted, visit.counters.refused), (1001, 0, 0));
}

#[test]
fn pipelined_posted_writes_take_far_fewer_receives_than_there_are() {
    let rig = Rig::start();
    let mut client = rig.client();
    let busy = client.begin(REGION_WRITE, &write(BUSY, REGISTERS, &[0]));
    rig.entered.recv().unwrap();
    let posted: Vec<_> =
        (0..1000).flat_map(|id| message(id, REGION_WRITE, NO_REPLY, &write(0, REGISTERS, b"four"))).collect();
    // All of them are in the socket before the server reads on.
    client.send(&posted);
    rig.go.send(()).unwrap();
    client.reply(busy, REGION_WRITE).ok();
    client.in_step();
    drop(client);
    let visit = rig.visit();
    assert_eq!(visit.counters.posted, 1000);
    assert!(visit.calls.receives < 20, "{:?}", visit.calls);
}

/// While another server works, so that time passes.
#[test]
fn idle_server_that_polls_uses_no_processor() {
    let idle = Rig::with(Options { polling: Duration::from_millis(5), ..Options::default() });
    let mut client = idle.client();
    client.in_step();
    // It has given up polling once it sleeps; its time is booked when it has been switched away from.
    idle.asleep();
    let mut before = run_time(&idle);
    let busy = Rig::start();
    let mut other = busy.client();
    let began = run_time(&busy);
    loop {
        other.in_step();
        let now = run_time(&idle);
        if now == before {
            break;
        }
        before = now;
    }
    for _ in 0..2000 {
        other.in_step();
    }
    assert!(run_time(&busy) > began);
    assert_eq!(run_time(&idle), before);
    client.in_step();
}
