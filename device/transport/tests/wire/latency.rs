//! Injected latency: slept off outside the machine's lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sdmorph_machine::faults::Rule;
use sdmorph_machine::record::Recorded;
use serde_json::json;

use crate::device::Device;
use crate::driver::{Access, WINDOW, reader};

/// How long every read takes in these tests.
const LATENCY: Duration = Duration::from_millis(200);

fn slow_reads(device: &Device) {
    let rule = json!({"name": "slow", "on": {"start": true}, "do": {"read-latency": "200ms"}});
    let rule = Rule::from_json(&rule).unwrap();
    device.machine(|machine, now| machine.rule_add(now, rule)).unwrap();
}

/// When the machine answered the last read of DUM_REG, in virtual time.
fn answered(device: &Device) -> Duration {
    let records = device.machine(|machine, _| machine.records_since(0, usize::MAX));
    let dum_reg =
        |what: &Recorded| matches!(what, Recorded::Access(_, access) if access.register == Some("DUM_REG"));
    records.iter().rev().find(|record| dum_reg(&record.what)).unwrap().time
}

#[test]
fn answer_comes_when_the_latency_is_over_and_not_before() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    client.bring_up();
    slow_reads(&device);
    client.get32(WINDOW, reader::DUM_REG);
    let arrived = device.shared.time.now();
    assert!(arrived - answered(&device) >= LATENCY);
    drop(client);
    serving.ended();
}

#[test]
fn machine_is_free_while_an_answer_is_held_back() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    client.bring_up();
    slow_reads(&device);
    // While a read is under way another thread takes the lock again and again. Had the transport slept under it, no
    // time between the access and the end of its latency could be seen there. A scheduler that starves the thread
    // for all of the latency is no failure of the device: so there is more than one try.
    let seen = (0..20).any(|_| {
        let over = AtomicBool::new(false);
        let times = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut times = Vec::new();
                while !over.load(Ordering::Acquire) {
                    times.push(device.machine(|_, now| now));
                    std::thread::yield_now();
                }
                times
            });
            client.get32(WINDOW, reader::DUM_REG);
            over.store(true, Ordering::Release);
            watcher.join().unwrap()
        });
        let access = answered(&device);
        times.iter().any(|time| *time > access && *time < access + LATENCY)
    });
    assert!(seen);
    drop(client);
    serving.ended();
}

#[test]
fn writes_are_not_delayed_and_do_not_pass_a_delay_on() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    client.bring_up();
    slow_reads(&device);
    client.put32(WINDOW, reader::DUM_REG, 1);
    let delay =
        device.machine(|machine, now| machine.read(now, sdmorph_machine::Region::Config, 0, &mut [0; 4]));
    assert_eq!(delay, Duration::ZERO);
    drop(client);
    serving.ended();
}
