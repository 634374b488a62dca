//! What QEMU sends from its start to its end.

use serde_json::Value;
use vfio_user_server::Ended;
use vfio_user_server::spec::Command;

use crate::qemu::{Machine, Memory, Options};
use crate::relay::{From, Relay};
use crate::toy::Served;

/// The JSON of a VERSION.
fn version_data(body: &[u8]) -> Value {
    let (nul, json) = body[4..].split_last().unwrap();
    assert_eq!(*nul, 0);
    serde_json::from_slice(json).unwrap()
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn start_of_qemu_is_version_memory_description_reset_and_nothing_is_refused() {
    let served = Served::new();
    let relay = Relay::new(served.dir(), &served.socket());
    let machine = Machine::start(&Options::new(Memory::Shared, relay.socket()));
    let commands = relay.commands();
    assert_eq!(commands[..2], ["VERSION", "DMA_MAP"]);
    let count = |name: &str| commands.iter().filter(|command| **command == name).count();
    assert_eq!((count("VERSION"), count("DEVICE_GET_INFO"), count("DEVICE_RESET")), (1, 1, 1));
    // Every BAR, the ROM and configuration space; INTx or none of it, and ERR.
    assert_eq!(count("DEVICE_GET_REGION_INFO"), 7);
    assert_eq!(count("DEVICE_SET_IRQS"), 0, "no interrupt is routed before a guest does");
    assert_eq!(count("DMA_MAP") - count("DMA_UNMAP"), served.memory.ranges());
    drop(machine);
    let visit = served.next_visit();
    assert_eq!(visit.ended, Ended::ClientLeft);
    assert_eq!((visit.counters.refused, visit.counters.stray_replies), (0, 0));
    assert_eq!(visit.counters.messages, commands.len() as u64);
    assert_eq!(served.memory.ranges(), 0);
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn version_reply_fits_the_room_that_qemu_leaves_for_it() {
    let served = Served::new();
    let relay = Relay::new(served.dir(), &served.socket());
    let _machine = Machine::start(&Options::new(Memory::Shared, relay.socket()));
    let [request] = relay.seen(From::Qemu, Command::Version).try_into().unwrap();
    let [reply] = relay.seen(From::Server, Command::Version).try_into().unwrap();
    assert!(reply.header.message_bytes <= request.header.message_bytes);
    let (asked, answered) = (version_data(&request.body), version_data(&reply.body));
    assert_eq!(answered["capabilities"]["max_msg_fds"], 16);
    // QEMU warns of a capability that it did not send itself.
    let names = |of: &Value| of["capabilities"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert!(names(&answered).iter().all(|name| names(&asked).contains(name)), "{answered}");
}
