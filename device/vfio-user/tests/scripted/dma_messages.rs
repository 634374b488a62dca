//! Guest memory without a descriptor: the device's accesses are messages, which the scripted client answers as it likes.

use std::time::Duration;

use vfio_user_server::{DmaError, Ended, Errno, Options};

use crate::client::Client;
use crate::device::*;
use crate::wire::*;

/// A client whose memory at 0x1000 is reached by messages.
fn client(rig: &Rig) -> Client {
    let mut client = rig.client();
    client.map(3, 0, 0x1000, 0x2000, None).ok();
    client
}

/// Begins a device's read (FETCH) or write (STORE); returns the id of the register write that does so.
fn begin(client: &mut Client, register: u64, address: u64, count: u64) -> u16 {
    client.write(REGISTERS, ADDRESS, &u64s(&[address]));
    client.begin(REGION_WRITE, &write(register, REGISTERS, &u64s(&[count])))
}

/// The answer to a DMA_READ.
fn data(address: u64, data: &[u8]) -> Vec<u8> {
    [u64s(&[address, data.len() as u64]), data.to_vec()].concat()
}

#[test]
fn read_of_the_device_is_a_message_and_its_answer_the_data() {
    let rig = Rig::start();
    let mut client = client(&rig);
    let access = begin(&mut client, FETCH, 0x1ffc, 8);
    let (id, address, count, body) = client.dma_command(DMA_READ);
    assert_eq!((address, count, body.len()), (0x1ffc, 8, 0));
    client.answer(id, DMA_READ, &data(0x1ffc, b"the data"));
    client.reply(access, REGION_WRITE).ok();
    assert_eq!((rig.last_dma(), client.read(REGISTERS, DATA, 8)), (Ok(()), b"the data".to_vec()));
    drop(client);
    assert_eq!(rig.visit().calls.dma_messages, 1);
}

/// The specification wants address and count, as QEMU 11.1.3 has them; they say nothing that is not known.
#[test]
fn write_of_the_device_is_a_message_and_either_answer_is_good() {
    let rig = Rig::start();
    let mut client = client(&rig);
    client.write(REGISTERS, DATA, b"to guest");
    for answer in [vec![], u64s(&[0x1000, 8])] {
        let access = begin(&mut client, STORE, 0x1000, 8);
        let (id, address, count, body) = client.dma_command(DMA_WRITE);
        assert_eq!((address, count, &body[..]), (0x1000, 8, &b"to guest"[..]));
        client.answer(id, DMA_WRITE, &answer);
        client.reply(access, REGION_WRITE).ok();
        assert_eq!(rig.last_dma(), Ok(()));
    }
}

#[test]
fn long_access_is_cut_into_what_the_client_takes() {
    let rig = Rig::start();
    let mut client = Client::connect(&rig.path);
    client.request(VERSION, &version(0, 1, b"{\"capabilities\":{\"max_data_xfer_size\":16}}\0")).ok();
    client.map(3, 0, 0x1000, 0x1000, None).ok();
    let access = begin(&mut client, FETCH, 0x1000, 40);
    let mut ids = Vec::new();
    for (address, count) in [(0x1000, 16), (0x1010, 16), (0x1020, 8)] {
        let (id, is, bytes, _) = client.dma_command(DMA_READ);
        assert_eq!((is, bytes), (address, count));
        assert!(!ids.contains(&id));
        ids.push(id);
        client.answer(id, DMA_READ, &data(address, &vec![address as u8; count as usize]));
    }
    client.reply(access, REGION_WRITE).ok();
    let read = client.read(REGISTERS, DATA, 40);
    assert_eq!((read[15], read[16], read[31], read[39]), (0, 0x10, 0x10, 0x20));
}

#[test]
fn access_across_a_mapped_range_and_one_by_messages_reaches_both() {
    let rig = Rig::start();
    let mut client = client(&rig);
    let file = memfd("below", 0x1000);
    client.map(3, 0, 0, 0x1000, Some(&file)).ok();
    client.write(REGISTERS, DATA, b"low.high");
    let access = begin(&mut client, STORE, 0xffc, 8);
    let (id, address, _, body) = client.dma_command(DMA_WRITE);
    assert_eq!((address, &body[..]), (0x1000, &b"high"[..]));
    client.answer(id, DMA_WRITE, &[]);
    client.reply(access, REGION_WRITE).ok();
    let mut low = [0; 4];
    rustix::io::pread(&file, &mut low, 0xffc).unwrap();
    assert_eq!((rig.last_dma(), &low), (Ok(()), b"low."));
}

#[test]
fn error_of_the_client_is_the_devices_and_never_a_success() {
    let rig = Rig::start();
    let mut client = client(&rig);
    for (error, errno) in [(19, Errno::NODEV), (0, Errno::IO), (u32::MAX, Errno::IO)] {
        let access = begin(&mut client, FETCH, 0x1000, 4);
        let (id, ..) = client.dma_command(DMA_READ);
        let mut reply = message(id, DMA_READ, REPLY | ERROR, &[]);
        reply[12..16].copy_from_slice(&error.to_ne_bytes());
        client.send(&reply);
        client.reply(access, REGION_WRITE).ok();
        assert_eq!(rig.last_dma(), Err(DmaError::Refused(errno)));
    }
}

#[test]
fn answer_of_another_length_or_command_is_a_protocol_error() {
    let rig = Rig::start();
    let mut client = client(&rig);
    let too_long = vec![0; (1 << 20) + 17];
    for (command, body) in [
        (DMA_READ, vec![]),
        (DMA_READ, u64s(&[0x1000, 4])),
        (DMA_READ, data(0x1000, b"abc")),
        (DMA_READ, data(0x1000, b"abcde")),
        (DMA_READ, too_long),
        (DMA_WRITE, data(0x1000, b"abcd")),
        (0x1234, data(0x1000, b"abcd")),
    ] {
        let access = begin(&mut client, FETCH, 0x1000, 4);
        let (id, ..) = client.dma_command(DMA_READ);
        client.answer(id, command, &body);
        client.reply(access, REGION_WRITE).ok();
        assert_eq!(rig.last_dma(), Err(DmaError::Refused(Errno::PROTO)), "{command} {}", body.len());
        client.in_step();
    }
}

#[test]
fn answer_with_another_id_is_not_this_ones() {
    let rig = Rig::start();
    let mut client = client(&rig);
    let access = begin(&mut client, FETCH, 0x1000, 4);
    let (id, ..) = client.dma_command(DMA_READ);
    client.answer(id ^ 0x5555, DMA_READ, &data(0x1000, b"evil"));
    client.answer(id, DMA_READ, &data(0x1000, b"good"));
    client.answer(id, DMA_READ, &data(0x1000, b"late"));
    client.reply(access, REGION_WRITE).ok();
    assert_eq!(client.read(REGISTERS, DATA, 4), b"good");
    drop(client);
    assert_eq!(rig.visit().counters.stray_replies, 2);
}

#[test]
fn answer_after_the_timeout_is_dropped_and_the_stream_stays_in_step() {
    let rig = Rig::with(Options { dma_timeout: Duration::from_millis(1), ..Options::default() });
    let mut client = client(&rig);
    let access = begin(&mut client, FETCH, 0x1000, 4);
    let (id, ..) = client.dma_command(DMA_READ);
    // It comes although the client never answers.
    client.reply(access, REGION_WRITE).ok();
    assert_eq!(rig.last_dma(), Err(DmaError::TimedOut));
    client.answer(id, DMA_READ, &data(0x1000, b"late"));
    client.in_step();
    assert_eq!(client.read(REGISTERS, DATA, 4), [0; 4]);
    drop(client);
    assert_eq!(rig.visit().counters.stray_replies, 1);
}

#[test]
fn commands_that_come_while_an_answer_is_waited_for_are_answered_after_it_in_order() {
    let rig = Rig::start();
    let mut client = client(&rig);
    let access_id = begin(&mut client, FETCH, 0x1000, 4);
    let (id, ..) = client.dma_command(DMA_READ);
    client.post(REGION_WRITE, &write(0, REGISTERS, b"1"));
    let read = client.begin(REGION_READ, &access(0, REGISTERS, 1));
    let eventfd = new_eventfd();
    let set = client.id();
    let body = set_irqs(EVENTFD | TRIGGER, MSIX, 0, 1, &[]);
    client.send_with(&message(set, SET_IRQS, COMMAND, &body), &[std::os::fd::AsFd::as_fd(&eventfd)]);
    client.post(REGION_WRITE, &write(0, REGISTERS, b"2"));
    let again = client.begin(REGION_READ, &access(0, REGISTERS, 1));
    assert!(!is_readable(&client.socket));
    client.answer(id, DMA_READ, &data(0x1000, b"four"));
    client.reply(access_id, REGION_WRITE).ok();
    assert_eq!(client.reply(read, REGION_READ).ok()[16..], *b"1");
    client.reply(set, SET_IRQS).ok();
    assert_eq!(client.reply(again, REGION_READ).ok()[16..], *b"2");
    rig.interrupts.trigger(MSIX, 0);
    assert_eq!(signals(&eventfd), 1);
}

/// The queue has an end. Then the answer behind it is not reached in time, and nothing else is lost.
#[test]
fn more_commands_than_are_queued_end_the_wait_for_the_answer_and_none_is_lost() {
    let rig = Rig::with(Options { dma_timeout: Duration::from_millis(50), ..Options::default() });
    let mut client = client(&rig);
    let access = begin(&mut client, FETCH, 0x1000, 4);
    let (id, ..) = client.dma_command(DMA_READ);
    let many = 1000;
    let piece = vec![7; 8192];
    for _ in 0..many {
        client.post(REGION_WRITE, &write(0, LONG, &piece));
    }
    client.answer(id, DMA_READ, &data(0x1000, b"four"));
    client.reply(access, REGION_WRITE).ok();
    assert_eq!(rig.last_dma(), Err(DmaError::TimedOut));
    client.in_step();
    let written = rig.log().writes.iter().filter(|(region, ..)| *region == LONG).count();
    assert_eq!(written, many);
}

#[test]
fn client_that_leaves_while_its_answer_is_waited_for_is_an_error_of_the_device() {
    let rig = Rig::start();
    let mut client = client(&rig);
    begin(&mut client, STORE, 0x1000, 4);
    client.dma_command(DMA_WRITE);
    drop(client);
    assert_eq!(rig.visit().ended, Ended::ClientLeft);
    assert_eq!(rig.last_dma(), Err(DmaError::Gone));
    rig.client().in_step();
}

#[test]
fn stream_that_breaks_while_an_answer_is_waited_for_ends_the_connection() {
    let rig = Rig::start();
    let mut client = client(&rig);
    let access = begin(&mut client, STORE, 0x1000, 4);
    let (id, ..) = client.dma_command(DMA_WRITE);
    client.send(&sized(id, DMA_WRITE, 3, REPLY, &[]));
    // What was begun is answered yet.
    client.reply(access, REGION_WRITE).ok();
    client.closed();
    assert!(matches!(rig.visit().ended, Ended::Unframed(_)));
    assert_eq!(rig.last_dma(), Err(DmaError::Gone));
}

/// Each piece is answered well within the time, and all of them are not: the device does not wait for the sum.
#[test]
// Real time is what this is about.
#[allow(clippy::disallowed_methods)]
fn time_for_an_access_is_not_the_longer_the_more_pieces_it_is_cut_into() {
    let rig = Rig::with(Options { dma_timeout: Duration::from_millis(200), ..Options::default() });
    let mut client = Client::connect(&rig.path);
    client.request(VERSION, &version(0, 1, b"{\"capabilities\":{\"max_data_xfer_size\":1}}\0")).ok();
    client.map(3, 0, 0x1000, 0x1000, None).ok();
    let access = begin(&mut client, FETCH, 0x1000, 1024);
    // Each answer comes 1 ms later than it could: a thousand of them are too late, each by itself is not.
    let mut answered = 0;
    loop {
        let received = client.receive().expect("the connection stays");
        if received.command == REGION_WRITE {
            assert_eq!(received.id, access);
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
        let address = 0x1000 + answered;
        client.answer(received.id, DMA_READ, &data(address, &[7]));
        answered += 1;
    }
    assert!(answered < 1024, "all of it was waited for");
    assert_eq!(rig.last_dma(), Err(DmaError::TimedOut));
}
