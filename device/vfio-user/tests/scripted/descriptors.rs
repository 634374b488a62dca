//! Descriptors that come with messages: whose they are, and that none stays open that nobody uses.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::client::Client;
use crate::device::*;
use crate::wire::*;

/// A message that routes one MSI-X vector.
fn route(client: &mut Client, vector: u32) -> (u16, Vec<u8>) {
    let id = client.id();
    (id, message(id, SET_IRQS, COMMAND, &set_irqs(EVENTFD | TRIGGER, MSIX, vector, 1, &[])))
}

/// Which of the eventfds are signalled by which vectors.
fn routes(rig: &Rig, eventfds: &[OwnedFd]) -> Vec<Vec<u32>> {
    // What was pending for want of a route is none of this.
    rig.interrupts.forget_pending();
    for eventfd in eventfds {
        signals(eventfd);
    }
    let mut routes = vec![Vec::new(); eventfds.len()];
    for vector in 0..16 {
        rig.interrupts.trigger(MSIX, vector);
        for (eventfd, route) in eventfds.iter().zip(&mut routes) {
            if signals(eventfd) != 0 {
                route.push(vector);
            }
        }
    }
    routes
}

#[test]
fn descriptor_sent_with_its_message_routes_that_vector() {
    let rig = Rig::start();
    let mut client = rig.client();
    let eventfds = [new_eventfd(), new_eventfd()];
    for (vector, eventfd) in (3..).zip(&eventfds) {
        let (id, bytes) = route(&mut client, vector);
        client.send_with(&bytes, &[eventfd.as_fd()]);
        client.reply(id, SET_IRQS).ok();
    }
    assert_eq!(routes(&rig, &eventfds), [vec![3], vec![4]]);
}

#[test]
fn descriptor_sent_with_the_first_part_of_its_message_belongs_to_it() {
    let rig = Rig::start();
    let mut client = rig.client();
    // Cut in the header, after it, and in the body.
    for (vector, cut) in [(0, 1), (1, 15), (2, 16), (3, 17), (4, 35)] {
        let eventfd = [new_eventfd()];
        let (id, bytes) = route(&mut client, vector);
        client.send_with(&bytes[..cut], &[eventfd[0].as_fd()]);
        client.send(&bytes[cut..]);
        client.reply(id, SET_IRQS).ok();
        assert_eq!(routes(&rig, &eventfd), [[vector]]);
    }
}

#[test]
fn descriptor_sent_with_the_last_part_of_its_message_belongs_to_it() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (vector, cut) in [(0, 1), (1, 16), (2, 35)] {
        let eventfd = [new_eventfd()];
        let (id, bytes) = route(&mut client, vector);
        client.send(&bytes[..cut]);
        client.send_with(&bytes[cut..], &[eventfd[0].as_fd()]);
        client.reply(id, SET_IRQS).ok();
        assert_eq!(routes(&rig, &eventfd), [[vector]]);
    }
}

#[test]
fn descriptors_of_pipelined_messages_stay_with_theirs_while_the_server_is_busy() {
    let rig = Rig::start();
    let mut client = rig.client();
    let busy = client.begin(REGION_WRITE, &write(BUSY, REGISTERS, &[0]));
    rig.entered.recv().unwrap();
    // All of this is in the socket before the server looks at it again.
    let eventfds = [new_eventfd(), new_eventfd(), new_eventfd()];
    let mut ids = Vec::new();
    for (vector, eventfd) in (5..).zip(&eventfds) {
        let (id, bytes) = route(&mut client, vector);
        client.send_with(&bytes, &[eventfd.as_fd()]);
        ids.push(id);
        client.post(REGION_WRITE, &write(0, REGISTERS, b"between"));
    }
    rig.go.send(()).unwrap();
    client.reply(busy, REGION_WRITE).ok();
    for id in ids {
        client.reply(id, SET_IRQS).ok();
    }
    assert_eq!(routes(&rig, &eventfds), [[5], [6], [7]]);
}

#[test]
fn descriptors_of_one_send_of_several_messages_belong_to_the_one_with_its_last_byte() {
    let rig = Rig::start();
    let mut client = rig.client();
    let eventfd = [new_eventfd()];
    let info = client.id();
    let (id, bytes) = route(&mut client, 9);
    let first = message(info, GET_INFO, COMMAND, &u32s(&[16, 0, 0, 0]));
    client.send_with(&[first, bytes].concat(), &[eventfd[0].as_fd()]);
    client.reply(info, GET_INFO).ok();
    client.reply(id, SET_IRQS).ok();
    assert_eq!(routes(&rig, &eventfd), [[9]]);
}

#[test]
fn sixteen_descriptors_route_sixteen_vectors() {
    let rig = Rig::start();
    let mut client = rig.client();
    let eventfds: Vec<_> = (0..16).map(|_| new_eventfd()).collect();
    let fds: Vec<_> = eventfds.iter().map(AsFd::as_fd).collect();
    client.request_with(SET_IRQS, &set_irqs(EVENTFD | TRIGGER, MSIX, 0, 16, &[]), &fds).ok();
    let expected: Vec<_> = (0..16).map(|vector| vec![vector]).collect();
    assert_eq!(routes(&rig, &eventfds), expected);
}

#[test]
fn number_of_descriptors_that_does_not_fit_is_refused_and_they_are_closed() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (sent, count) in [(1, 2), (3, 2), (253, 16), (17, 16), (2, 1)] {
        let (theirs, ours) = tracer();
        let fds: Vec<BorrowedFd<'_>> = (0..sent).map(|_| ours.as_fd()).collect();
        let reply = client.request_with(SET_IRQS, &set_irqs(EVENTFD | TRIGGER, MSIX, 0, count, &[]), &fds);
        assert_eq!(reply.errno(), EINVAL);
        drop(fds);
        drop(ours);
        wait_readable(&theirs);
    }
    client.in_step();
}

#[test]
fn map_with_two_descriptors_is_refused_and_both_are_closed() {
    let rig = Rig::start();
    let mut client = rig.client();
    let file = memfd("two", 0x1000);
    let (theirs, ours) = tracer();
    let reply = client.request_with(DMA_MAP, &dma_map(3, 0, 0, 0x1000), &[file.as_fd(), ours.as_fd()]);
    assert_eq!(reply.errno(), EINVAL);
    drop(ours);
    wait_readable(&theirs);
    assert_eq!(rig.memory.ranges(), 0);
}

/// By the time of the refusal's reply, not at some time later.
#[test]
fn descriptors_of_every_refused_message_are_closed_before_the_reply() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.map(3, 0, 0x1000, 0x1000, None).ok();
    let refused = [
        (0x1234, COMMAND, vec![], EINVAL),
        (FEATURE, COMMAND, vec![], EOPNOTSUPP),
        (GET_INFO, COMMAND, vec![0; 3], EINVAL),
        (GET_INFO, COMMAND, u32s(&[16, 0, 0, 0]), EINVAL),
        (GET_INFO, 2, u32s(&[16, 0, 0, 0]), EINVAL),
        (VERSION, COMMAND, version(0, 1, b""), EINVAL),
        (DMA_MAP, COMMAND, dma_map(3, 0, 0x1000, 0x1000), EEXIST),
        (DMA_MAP, COMMAND, dma_map(4, 0, 0x1000, 0x1000), EINVAL),
        (DMA_MAP, COMMAND, vec![], EINVAL),
        // A socket has no bytes to be mapped.
        (DMA_MAP, COMMAND, dma_map(3, 0, 0x8000, 0x1000), EINVAL),
        (SET_IRQS, COMMAND, set_irqs(EVENTFD | TRIGGER, MSIX, 0, 2, &[]), EINVAL),
        (SET_IRQS, COMMAND, set_irqs(EVENTFD | TRIGGER, MSIX, 16, 1, &[]), EINVAL),
        (SET_IRQS, COMMAND, set_irqs(EVENTFD | TRIGGER, 77, 0, 1, &[]), EINVAL),
        (SET_IRQS, COMMAND, set_irqs(EVENTFD | MASK, MSIX, 0, 1, &[]), EINVAL),
        (SET_IRQS, COMMAND, set_irqs(EVENTFD | TRIGGER, NO_EVENTFDS, 0, 1, &[]), EINVAL),
        (SET_IRQS, COMMAND, set_irqs(NONE | TRIGGER, MSIX, 0, 1, &[]), EINVAL),
        (SET_IRQS, COMMAND, set_irqs(BOOL | TRIGGER, MSIX, 0, 1, &[1]), EINVAL),
        (REGION_WRITE, COMMAND, vec![0; (1 << 20) + 17], EMSGSIZE),
    ];
    for (command, flags, body, errno) in refused {
        let (theirs, ours) = tracer();
        let id = client.id();
        let bytes = message(id, command, flags, &body);
        let cut = bytes.len().min(40);
        client.send_with(&bytes[..cut], &[ours.as_fd()]);
        client.send(&bytes[cut..]);
        drop(ours);
        assert_eq!(client.reply(id, command).errno(), errno, "command {command}");
        assert!(is_readable(&theirs), "command {command}, errno {errno}: a descriptor stays open");
    }
    // A reply that nobody waits for is not answered itself; the next message is.
    let (theirs, ours) = tracer();
    client.send_with(&message(1, DMA_READ, REPLY, &[]), &[ours.as_fd()]);
    drop(ours);
    client.in_step();
    assert!(is_readable(&theirs));
    // So it is with a message that is refused and wants no reply.
    let (theirs, ours) = tracer();
    client.send_with(&message(1, GET_INFO, NO_REPLY, &[]), &[ours.as_fd()]);
    drop(ours);
    wait_readable(&theirs);
    client.in_step();
}

#[test]
fn descriptors_without_end_for_a_message_that_is_not_whole_end_the_connection() {
    let rig = Rig::start();
    let mut client = rig.client();
    let (theirs, ours) = tracer();
    let fds = vec![ours.as_fd(); 200];
    let bytes = message(1, SET_IRQS, COMMAND, &set_irqs(EVENTFD | TRIGGER, MSIX, 0, 1, &[]));
    client.send_with(&bytes[..1], &fds);
    client.send_with(&bytes[1..2], &fds);
    drop(fds);
    drop(ours);
    client.closed();
    assert!(rig.visit().ended.to_string().contains("more than 253 descriptors"));
    wait_readable(&theirs);
}

#[test]
fn descriptors_of_an_oversized_message_are_closed_as_its_bytes_come() {
    let rig = Rig::start();
    let mut client = rig.client();
    let mut bytes = sized(1, REGION_WRITE, u32::MAX, COMMAND, &[]);
    for _ in 0..10 {
        let (theirs, ours) = tracer();
        client.send_with(&bytes, &vec![ours.as_fd(); 200]);
        drop(ours);
        wait_readable(&theirs);
        bytes = b"more".to_vec();
    }
}

#[test]
fn received_descriptors_are_close_on_exec() {
    let rig = Rig::start();
    let mut client = rig.client();
    let file = memfd("close-on-exec", 0x1000);
    client.map(3, 0, 0, 0x1000, Some(&file)).ok();
    drop(file);
    let (_theirs, ours) = tracer();
    let socket = rustix::fs::fstat(&ours).unwrap().st_ino;
    client.request_with(SET_IRQS, &set_irqs(EVENTFD | TRIGGER, MSIX, 0, 1, &[]), &[ours.as_fd()]).ok();
    let mut seen = (0, 0);
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let entry = entry.unwrap();
        // Other tests open and close descriptors meanwhile.
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        let (is_memory, is_socket) =
            (target.contains("memfd:close-on-exec"), target == format!("socket:[{socket}]"));
        if !is_memory && !is_socket {
            continue;
        }
        seen = (seen.0 + u32::from(is_memory), seen.1 + u32::from(is_socket));
        let info = std::path::Path::new("/proc/self/fdinfo").join(entry.file_name());
        let info = std::fs::read_to_string(info).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
        // O_CLOEXEC.
        assert_ne!(flags & 0o2_000_000, 0, "{target}: {info}");
    }
    // The mapping's; of the socket ours, and the server's.
    assert_eq!(seen, (1, 2));
}
