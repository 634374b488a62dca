//! Faults at the wire, by rules of the machine.

use std::io::Read;
use std::time::Duration;

use sdmorph_machine::Record;
use sdmorph_machine::faults::Rule;
use serde_json::{Value, json};
use vfio_user_server::{Ended, Errno};

use crate::device::Device;
use crate::driver::{Access, COMMAND, CONFIG};
use crate::raw::{
    DEVICE_RESET, HEADER_BYTES, NO_REPLY, REGION_READ, REGION_WRITE, REPLY, RawClient, region_access,
    region_write,
};

/// DEVICE_GET_INFO, and its body: argsz and three fields that the answer fills.
const DEVICE_GET_INFO: u16 = 4;
const INFO_BODY: [u8; 16] = [16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// What the tests write to VMD's command register, which holds 0 after power-on: memory space and bus master.
const ON: u16 = 6;

fn add(device: &Device, name: &str, on: &Value, wire: &Value) {
    let rule = Rule::from_json(&json!({ "name": name, "on": on, "do": { "wire": wire } })).unwrap();
    device.machine(|machine, now| machine.rule_add(now, rule)).unwrap();
}

/// A rule for the first write that comes.
fn first_write(device: &Device, wire: &Value) {
    add(device, "fault", &json!({ "message": "region-write", "nth": 1 }), wire);
}

fn connect(device: &Device) -> RawClient {
    let mut client = device.raw();
    client.negotiate();
    client
}

fn switch_on(client: &mut RawClient, flags: u32) -> u16 {
    client.send(REGION_WRITE, flags, &region_write(CONFIG, COMMAND, &ON.to_ne_bytes()), &[])
}

/// The records of hits of rules: name, actions and time.
fn hits(device: &Device) -> Vec<(String, Value, Duration)> {
    let records = device.machine(|machine, _| machine.records_since(0, usize::MAX));
    let rules = records.iter().map(|record| (record.time, Record::to_json(record)));
    let rules = rules.filter(|(_, record)| record["kind"] == "rule");
    rules
        .map(|(time, record)| (record["name"].as_str().unwrap().to_owned(), record["actions"].clone(), time))
        .collect()
}

#[test]
fn dropped_message_is_neither_acted_on_nor_answered_and_the_next_one_is() {
    let device = Device::new();
    let serving = device.serve(1);
    first_write(&device, &json!("drop"));
    let mut client = connect(&device);
    switch_on(&mut client, 0);
    // The client takes nothing but the answer to its last command: had the write been answered, this would fail.
    assert_eq!(client.get16(CONFIG, COMMAND), 0);
    client.put16(CONFIG, COMMAND, ON);
    assert_eq!(client.get16(CONFIG, COMMAND), ON);
    let told: Vec<_> = hits(&device).into_iter().map(|(name, actions, _)| (name, actions)).collect();
    assert_eq!(told, [("fault".to_owned(), json!([{ "wire": "drop" }]))]);
    drop(client);
    assert_eq!(serving.ended()[0].ended, Ended::ClientLeft);
}

#[test]
fn refused_message_is_answered_with_the_error_and_not_acted_on() {
    let device = Device::new();
    let serving = device.serve(1);
    first_write(&device, &json!({ "error": "EIO" }));
    add(&device, "stale", &json!({ "message": "device-reset" }), &json!({ "error": 116 }));
    let mut client = connect(&device);
    let id = switch_on(&mut client, 0);
    let reply = client.reply(id);
    assert!(reply.is_error());
    assert_eq!((reply.error, reply.body.len()), (5, 0));
    assert_eq!(client.get16(CONFIG, COMMAND), 0);
    client.put16(CONFIG, COMMAND, ON);
    assert_eq!(client.call(DEVICE_RESET, &[], &[]).error, Errno::STALE.raw_os_error() as u32);
    assert_eq!(client.get16(CONFIG, COMMAND), ON, "it was not reset");
    drop(client);
    assert_eq!(serving.ended()[0].counters.refused, 2);
}

#[test]
fn posted_message_that_is_refused_is_lost_without_a_word() {
    let device = Device::new();
    let serving = device.serve(1);
    first_write(&device, &json!({ "error": "EIO" }));
    let mut client = connect(&device);
    switch_on(&mut client, NO_REPLY);
    assert_eq!(client.get16(CONFIG, COMMAND), 0);
    drop(client);
    serving.ended();
}

#[test]
fn connection_is_closed_at_the_message_and_the_next_client_is_served() {
    let device = Device::that_keeps_its_state();
    let serving = device.serve(2);
    first_write(&device, &json!("close"));
    let mut client = connect(&device);
    switch_on(&mut client, 0);
    assert_eq!(client.stream.read(&mut [0; 64]).unwrap(), 0, "the end, and nothing before it");
    let mut next = connect(&device);
    assert_eq!(next.get16(CONFIG, COMMAND), 0, "it was not acted on");
    next.put16(CONFIG, COMMAND, ON);
    assert_eq!(next.get16(CONFIG, COMMAND), ON);
    drop(next);
    let ended: Vec<Ended> = serving.ended().into_iter().map(|visit| visit.ended).collect();
    assert_eq!(ended, [Ended::Fault, Ended::ClientLeft]);
}

#[test]
fn truncated_answer_has_exactly_so_many_bytes_and_its_message_was_acted_on() {
    // All of it: the header, and offset, region and count.
    let whole = HEADER_BYTES + 16;
    for bytes in [0, 1, 8, HEADER_BYTES, whole - 1, whole, whole + 1] {
        let device = Device::new();
        let serving = device.serve(1);
        first_write(&device, &json!({ "truncate": bytes }));
        let mut client = connect(&device);
        let id = switch_on(&mut client, 0);
        let mut part = vec![0; bytes.min(whole)];
        client.stream.read_exact(&mut part).unwrap();
        let mut header = id.to_ne_bytes().to_vec();
        header.extend(REGION_WRITE.to_ne_bytes());
        header.extend((whole as u32).to_ne_bytes());
        header.extend(REPLY.to_ne_bytes());
        let known = header.len().min(part.len());
        assert_eq!(part[..known], header[..known], "{bytes} bytes");
        // The answer to the next one begins right behind it.
        assert_eq!(client.get16(CONFIG, COMMAND), ON, "{bytes} bytes");
        drop(client);
        serving.ended();
    }
}

#[test]
fn delayed_answer_comes_when_the_time_is_over_and_others_do_not_wait() {
    const DELAY: Duration = Duration::from_millis(300);
    let device = Device::new();
    let serving = device.serve(1);
    add(&device, "slow", &json!({ "message": "device-get-info" }), &json!({ "delay": "300ms" }));
    let mut client = connect(&device);
    assert!(!client.call(DEVICE_GET_INFO, &INFO_BODY, &[]).is_error());
    let arrived = device.shared.time.now();
    let (_, _, came) = hits(&device).remove(0);
    assert!(arrived - came >= DELAY, "{:?}", arrived - came);
    // A machine that is busy may take as long for anything; not every time.
    let soon = (0..20).any(|_| {
        let before = device.shared.time.now();
        client.get16(CONFIG, COMMAND);
        device.shared.time.now() - before < DELAY
    });
    assert!(soon, "a read was not to be delayed");
    assert_eq!(hits(&device).len(), 1);
    drop(client);
    serving.ended();
}

#[test]
fn delay_and_latency_of_one_read_do_not_add_up() {
    const EACH: Duration = Duration::from_millis(300);
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = connect(&device);
    client.bring_up();
    let slow = json!({ "name": "slow", "on": { "start": true }, "do": { "read-latency": "300ms" } });
    device.machine(|machine, now| machine.rule_add(now, Rule::from_json(&slow).unwrap())).unwrap();
    add(&device, "slower", &json!({ "message": "region-read" }), &json!({ "delay": "300ms" }));
    let taken = |client: &mut RawClient| {
        let before = device.shared.time.now();
        client.get32(crate::driver::WINDOW, crate::driver::reader::DUM_REG);
        device.shared.time.now() - before
    };
    // A machine that is busy may take longer; not every time.
    let tries: Vec<Duration> = (0..5).map(|_| taken(&mut client)).collect();
    assert!(tries.iter().all(|taken| *taken >= EACH), "{tries:?}");
    assert!(tries.iter().any(|taken| *taken < 2 * EACH), "{tries:?}");
    drop(client);
    serving.ended();
}

#[test]
fn message_that_no_rule_waits_for_is_answered_without_the_machine() {
    let device = Device::new();
    let serving = device.serve(1);
    add(&device, "other", &json!({ "message": "region-read" }), &json!("drop"));
    let mut client = connect(&device);
    let machine = device.shared.machine.lock().unwrap();
    assert!(!client.call(DEVICE_GET_INFO, &INFO_BODY, &[]).is_error());
    drop(machine);
    drop(client);
    serving.ended();
}

#[test]
fn removed_rule_has_no_say_any_more() {
    let device = Device::new();
    let serving = device.serve(1);
    add(&device, "lost", &json!({ "message": "region-read" }), &json!("drop"));
    let mut client = connect(&device);
    client.send(REGION_READ, 0, &region_access(CONFIG, COMMAND, 2), &[]);
    // An answer, and so the read before it was dropped while the rule was there.
    assert!(!client.call(DEVICE_GET_INFO, &INFO_BODY, &[]).is_error());
    device.machine(|machine, _| machine.rule_remove("lost")).unwrap();
    assert_eq!(client.get16(CONFIG, COMMAND), 0);
    assert_eq!(hits(&device).len(), 1);
    drop(client);
    serving.ended();
}
