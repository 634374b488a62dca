//! A stream that is cut anywhere, or not at all.

use crate::client::Client;
use crate::device::*;
use crate::wire::*;

/// A conversation of many kinds of messages: what is sent, and how many replies come.
fn conversation() -> (Vec<u8>, Vec<(u16, u16)>) {
    let mut bytes = Vec::new();
    let mut replies = Vec::new();
    let commands = [
        (VERSION, COMMAND, version(0, 1, QEMU_JSON)),
        (GET_INFO, COMMAND, u32s(&[16, 0, 0, 0])),
        (REGION_WRITE, NO_REPLY, write(0x10, REGISTERS, b"posted")),
        (REGION_WRITE, COMMAND, write(0x20, REGISTERS, b"written")),
        (0x1234, COMMAND, vec![9; 40]),
        (REGION_READ, COMMAND, access(0x10, REGISTERS, 0x20)),
        (DMA_MAP, COMMAND, dma_map(3, 0, 0x1000, 0x1000)),
        (DMA_UNMAP, COMMAND, dma_unmap(0, 0x1000, 0x1000)),
        (SET_IRQS, COMMAND, set_irqs(BOOL | TRIGGER, MSIX, 1, 2, &[0, 1])),
        (RESET, COMMAND, vec![]),
    ];
    for (id, (command, flags, body)) in (1..).zip(commands) {
        bytes.extend(message(id, command, flags, &body));
        if flags == COMMAND {
            replies.push((id, command));
        }
    }
    (bytes, replies)
}

/// Receives those replies, in order; the fifth is a refusal.
fn receive_all(client: &mut Client, replies: &[(u16, u16)]) {
    for (id, command) in replies {
        let reply = client.reply(*id, *command);
        if *command == 0x1234 {
            assert_eq!(reply.errno(), EINVAL);
        } else {
            let body = reply.ok();
            if *command == REGION_READ {
                assert_eq!((&body[16..22], &body[32..39]), (&b"posted"[..], &b"written"[..]));
            }
        }
    }
    client.in_step();
}

#[test]
fn stream_in_single_bytes_is_understood() {
    let rig = Rig::start();
    let mut client = Client::connect(&rig.path);
    let (bytes, replies) = conversation();
    for byte in bytes {
        client.send(&[byte]);
    }
    receive_all(&mut client, &replies);
}

#[test]
fn many_messages_in_one_send_are_answered_in_order() {
    let rig = Rig::start();
    let mut client = Client::connect(&rig.path);
    let (bytes, replies) = conversation();
    client.send(&bytes);
    receive_all(&mut client, &replies);
}

#[test]
fn stream_cut_in_two_anywhere_is_understood() {
    let rig = Rig::start();
    let (bytes, replies) = conversation();
    for cut in 1..bytes.len() {
        let mut client = Client::connect(&rig.path);
        client.send(&bytes[..cut]);
        // Whatever is whole is answered before the rest comes: the server has read up to the cut.
        let whole = messages_within(&bytes[..cut]);
        let first = replies.iter().position(|(id, _)| *id > whole).unwrap();
        for (id, command) in &replies[..first] {
            assert_eq!(client.reply(*id, *command).flags & 0xf, REPLY);
        }
        client.send(&bytes[cut..]);
        receive_all_from(&mut client, &replies[first..]);
    }
}

fn receive_all_from(client: &mut Client, replies: &[(u16, u16)]) {
    for (id, command) in replies {
        client.reply(*id, *command);
    }
    client.in_step();
}

/// The number of the last message that is whole in these bytes.
fn messages_within(bytes: &[u8]) -> u16 {
    let mut rest = bytes;
    let mut count = 0;
    while rest.len() >= 8 {
        let size = u32::from_ne_bytes(rest[4..8].try_into().unwrap()) as usize;
        if size > rest.len() {
            break;
        }
        (rest, count) = (&rest[size..], count + 1);
    }
    count
}

#[test]
fn pipelined_reads_by_the_hundred_keep_their_order() {
    let rig = Rig::start();
    let mut client = rig.client();
    let mut bytes = Vec::new();
    for id in 0..500 {
        bytes.extend(message(id, REGION_READ, COMMAND, &access(u64::from(id % 250), CONFIG, 4)));
    }
    client.send(&bytes);
    for id in 0..500 {
        let body = client.reply(id, REGION_READ).ok();
        assert_eq!(u64::from(body[16]), u64::from(id % 250));
    }
}

#[test]
fn oversized_message_is_drained_and_refused_and_the_next_is_answered() {
    let rig = Rig::start();
    let mut client = rig.client();
    let most = (1 << 20) + 32;
    for size in [most + 1, most + 70_000, 3 * most] {
        let id = client.id();
        // A body that looks like messages all through: none of it is acted on.
        let reset = message(1, RESET, COMMAND, &[]);
        let body: Vec<u8> = reset.iter().copied().cycle().take(size - 16).collect();
        client.send(&message(id, REGION_WRITE, COMMAND, &body));
        assert_eq!(client.reply(id, REGION_WRITE).errno(), EMSGSIZE);
        client.in_step();
    }
    assert_eq!(rig.log().resets, 0);
}

#[test]
fn longest_message_is_answered() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.write(LONG, 0, &vec![7; 1 << 20]);
    assert_eq!(rig.log().writes[0].2.len(), 1 << 20);
}

#[test]
fn oversized_posted_message_is_drained_and_not_answered() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.post(REGION_WRITE, &write(0, LONG, &vec![7; (1 << 20) + 1]));
    client.in_step();
    assert!(rig.log().writes.is_empty());
}

#[test]
fn oversized_version_is_refused_and_the_connection_ends() {
    let rig = Rig::start();
    let mut client = Client::connect(&rig.path);
    let id = client.id();
    client.send(&message(id, VERSION, COMMAND, &vec![b' '; (1 << 20) + 17]));
    assert_eq!(client.reply(id, VERSION).errno(), EMSGSIZE);
    client.closed();
}

#[test]
fn message_that_claims_less_than_its_header_ends_the_connection() {
    let rig = Rig::start();
    for size in [0, 1, 15] {
        let mut client = rig.client();
        client.send(&sized(1, GET_INFO, size, COMMAND, &u32s(&[16, 0, 0, 0])));
        client.closed();
        let ended = rig.visit().ended.to_string();
        assert_eq!(ended, format!("a message claims to have {size} bytes, less than its header"));
    }
    rig.client().in_step();
}
