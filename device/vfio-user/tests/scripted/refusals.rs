//! Every refusal, with its errno; the stream stays in step after each.

use std::os::fd::AsFd;

use crate::client::Client;
use crate::device::*;
use crate::wire::*;

fn refused(client: &mut Client, command: u16, body: &[u8], errno: u32) {
    let is = client.request(command, body).errno();
    assert_eq!(is, errno, "command {command}, {body:x?}");
    client.in_step();
}

#[test]
fn unknown_commands_are_invalid_and_migration_is_not_offered() {
    let rig = Rig::start();
    let mut client = rig.client();
    for command in [0, 14, 19, 0x1234, u16::MAX] {
        refused(&mut client, command, b"body", EINVAL);
    }
    for command in [FEATURE, MIG_DATA_READ, MIG_DATA_WRITE] {
        refused(&mut client, command, &u32s(&[16, 0, 0, 0]), EOPNOTSUPP);
    }
    // The server's own commands.
    for command in [DMA_READ, DMA_WRITE] {
        refused(&mut client, command, &u64s(&[0, 4]), EINVAL);
    }
}

#[test]
fn body_of_every_length_but_the_right_ones_is_invalid() {
    let rig = Rig::start();
    let mut client = rig.client();
    let right = [
        (DMA_MAP, dma_map(3, 0, 0x1000, 0x1000)),
        (DMA_UNMAP, dma_unmap(0, 0x1000, 0x1000)),
        (GET_INFO, u32s(&[16, 0, 0, 0])),
        (GET_REGION_INFO, region_info(32, 0)),
        (GET_REGION_IO_FDS, u32s(&[16, 0, IO_EVENTFDS, 0])),
        (GET_IRQ_INFO, u32s(&[16, 0, 0, 0])),
        (SET_IRQS, set_irqs(NONE | TRIGGER, MSIX, 0, 1, &[])),
        (SET_IRQS, set_irqs(BOOL | TRIGGER, MSIX, 0, 3, &[1, 0, 1])),
        (SET_IRQS, set_irqs(EVENTFD | TRIGGER, MSIX, 0, 1, &[])),
        (REGION_READ, access(0, 0, 4)),
        (REGION_WRITE, write(0, 0, b"four")),
        (REGION_WRITE_MULTI, [u64s(&[1]), multi(0, 0, b"x")].concat()),
        (RESET, vec![]),
    ];
    for (command, body) in right {
        for length in 0..body.len() {
            refused(&mut client, command, &body[..length], EINVAL);
        }
        for more in [1, 4, 16, 24, 1000] {
            refused(&mut client, command, &[&body[..], &vec![0; more]].concat(), EINVAL);
        }
        client.request(command, &body).ok();
    }
    assert_eq!(rig.memory.ranges(), 0);
}

#[test]
fn argsz_that_is_less_than_the_structure_is_invalid() {
    let rig = Rig::start();
    let mut client = rig.client();
    let bodies = [
        (DMA_MAP, dma_map(3, 0, 0x1000, 0x1000)),
        (DMA_UNMAP, dma_unmap(0, 0x1000, 0x1000)),
        (GET_INFO, u32s(&[16, 0, 0, 0])),
        (GET_REGION_INFO, region_info(32, 0)),
        (GET_REGION_IO_FDS, u32s(&[16, 0, IO_EVENTFDS, 0])),
        (GET_IRQ_INFO, u32s(&[16, 0, 0, 0])),
        (SET_IRQS, set_irqs(NONE | TRIGGER, MSIX, 0, 1, &[])),
    ];
    for (command, mut body) in bodies {
        let right = u32::from_ne_bytes(body[..4].try_into().unwrap());
        for argsz in [0, right - 1] {
            body[..4].copy_from_slice(&argsz.to_ne_bytes());
            refused(&mut client, command, &body, EINVAL);
        }
    }
}

#[test]
fn regions_and_interrupt_types_that_are_not_there_are_invalid() {
    let rig = Rig::start();
    let mut client = rig.client();
    for index in [9, u32::MAX] {
        refused(&mut client, GET_REGION_INFO, &region_info(32, index), EINVAL);
        refused(&mut client, GET_REGION_IO_FDS, &u32s(&[16, 0, index, 0]), EINVAL);
        refused(&mut client, REGION_READ, &access(0, index, 4), EINVAL);
        refused(&mut client, REGION_WRITE, &write(0, index, b"four"), EINVAL);
    }
    for index in [5, u32::MAX] {
        refused(&mut client, GET_IRQ_INFO, &u32s(&[16, 0, index, 0]), EINVAL);
        refused(&mut client, SET_IRQS, &set_irqs(NONE | TRIGGER, index, 0, 1, &[]), EINVAL);
    }
}

#[test]
fn io_eventfds_of_a_region_without_are_not_offered_and_with_flags_or_count_invalid() {
    let rig = Rig::start();
    let mut client = rig.client();
    refused(&mut client, GET_REGION_IO_FDS, &u32s(&[16, 0, REGISTERS, 0]), EOPNOTSUPP);
    refused(&mut client, GET_REGION_IO_FDS, &u32s(&[16, 1, IO_EVENTFDS, 0]), EINVAL);
    refused(&mut client, GET_REGION_IO_FDS, &u32s(&[16, 0, IO_EVENTFDS, 1]), EINVAL);
}

#[test]
fn access_outside_a_region_is_invalid_and_the_device_is_not_asked() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (offset, region, count) in [
        (4093, REGISTERS, 4),
        (4096, REGISTERS, 1),
        (4097, REGISTERS, 0),
        (u64::MAX, REGISTERS, 1),
        (u64::MAX - 3, REGISTERS, 4),
        (u64::MAX, REGISTERS, u32::MAX),
        (0, REGISTERS, u32::MAX),
        (0, ABSENT, 1),
        (0, READ_ONLY, 257),
        // Inside, but more than was agreed on.
        (0, LONG, (1 << 20) + 1),
    ] {
        refused(&mut client, REGION_READ, &access(offset, region, count), EINVAL);
    }
    for (offset, region) in [(4093, REGISTERS), (u64::MAX, REGISTERS), (0, ABSENT), (254, CONFIG)] {
        refused(&mut client, REGION_WRITE, &write(offset, region, b"four"), EINVAL);
    }
    let log = rig.log();
    assert!(log.reads.is_empty() && log.writes.is_empty());
}

#[test]
fn access_that_a_region_does_not_allow_is_refused() {
    let rig = Rig::start();
    let mut client = rig.client();
    refused(&mut client, REGION_WRITE, &write(0, READ_ONLY, b"four"), EACCES);
    refused(&mut client, REGION_READ, &access(0, WRITE_ONLY, 4), EACCES);
    client.write(WRITE_ONLY, 0, b"four");
    assert_eq!(client.read(READ_ONLY, 0, 4), [0, 1, 2, 3]);
}

#[test]
fn error_of_the_device_is_the_clients_errno() {
    let rig = Rig::start();
    let mut client = rig.client();
    for errno in [1, EFAULT, 4095] {
        refused(&mut client, REGION_WRITE, &write(FAIL, REGISTERS, &u64s(&[errno.into()])), errno);
    }
    refused(&mut client, REGION_READ, &access(FAIL, REGISTERS, 4), 19);
}

#[test]
fn several_writes_that_are_malformed_are_invalid_and_none_is_done() {
    let rig = Rig::start();
    let mut client = rig.client();
    let good = multi(0, REGISTERS, b"x");
    let mut long = multi(0, REGISTERS, b"12345678");
    long[12..16].copy_from_slice(&9u32.to_ne_bytes());
    for body in [
        [u64s(&[2]), good.clone()].concat(),
        [u64s(&[0]), good.clone()].concat(),
        [u64s(&[u64::MAX]), good.clone()].concat(),
        // Times 24 that is 24 again, in 64 bits.
        [u64s(&[1 + (1 << 61)]), good.clone()].concat(),
        [u64s(&[2]), good, long].concat(),
    ] {
        refused(&mut client, REGION_WRITE_MULTI, &body, EINVAL);
    }
    assert!(rig.log().writes.is_empty());
}

#[test]
fn flags_of_neither_a_command_nor_a_reply_are_refused() {
    let rig = Rig::start();
    let mut client = rig.client();
    for flags in [2, 3, 0xf, 0xffff_ffe2] {
        let id = client.id();
        client.send(&message(id, GET_INFO, flags, &u32s(&[16, 0, 0, 0])));
        assert_eq!(client.reply(id, GET_INFO).errno(), EINVAL);
    }
    client.in_step();
}

#[test]
fn unknown_flags_of_map_unmap_and_set_irqs_are_invalid() {
    let rig = Rig::start();
    let mut client = rig.client();
    for flags in [0, 4, 7, 1 << 31] {
        refused(&mut client, DMA_MAP, &dma_map(flags, 0, 0x1000, 0x1000), EINVAL);
    }
    refused(&mut client, DMA_UNMAP, &dma_unmap(4, 0x1000, 0x1000), EINVAL);
    for flags in [
        0,
        NONE,
        TRIGGER,
        NONE | BOOL | TRIGGER,
        NONE | EVENTFD | TRIGGER,
        NONE | MASK | UNMASK,
        NONE | MASK | TRIGGER,
        NONE | TRIGGER | 0x40,
    ] {
        refused(&mut client, SET_IRQS, &set_irqs(flags, MASKABLE, 0, 1, &[]), EINVAL);
    }
    assert_eq!(rig.memory.ranges(), 0);
}

#[test]
fn descriptors_with_a_message_that_takes_none_are_invalid_and_closed() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (command, body) in [
        (GET_INFO, u32s(&[16, 0, 0, 0])),
        (REGION_READ, access(0, 0, 4)),
        (RESET, vec![]),
        (DMA_UNMAP, dma_unmap(0, 0x1000, 0x1000)),
    ] {
        let (theirs, ours) = tracer();
        let reply = client.request_with(command, &body, &[ours.as_fd()]);
        drop(ours);
        assert_eq!(reply.errno(), EINVAL);
        wait_readable(&theirs);
    }
    assert_eq!(rig.log().resets, 0);
    client.in_step();
}

#[test]
fn refused_posted_messages_are_not_answered() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.post(REGION_WRITE, &write(0, READ_ONLY, b"four"));
    client.post(REGION_WRITE, &write(FAIL, REGISTERS, &u64s(&[5])));
    client.post(0x1234, b"");
    client.post(GET_INFO, b"short");
    client.post(FEATURE, b"");
    client.in_step();
    drop(client);
    let counters = rig.visit().counters;
    assert_eq!((counters.posted, counters.refused), (5, 5));
}

#[test]
fn reply_that_nobody_waits_for_is_dropped_and_counted() {
    let rig = Rig::start();
    let mut client = rig.client();
    for flags in [REPLY, REPLY | ERROR, REPLY | NO_REPLY] {
        client.send(&message(7, DMA_READ, flags, &u64s(&[0, 0])));
    }
    client.in_step();
    drop(client);
    assert_eq!(rig.visit().counters.stray_replies, 3);
}
