//! What goes wrong with the server of the crate `vfio_user` 0.1.7, one test for each point, with what that server does
//! in a comment; line numbers are of its src/lib.rs. Then what QEMU's client wants.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use vfio_user_server::Ended;

use crate::client::Client;
use crate::device::*;
use crate::wire::*;

/// "a VERSION without NUL, with interior NUL, without data or too short panics (1001-1006)". There a panic in the
/// serving thread; here refused, or without data taken as the specification has it.
#[test]
fn version_without_nul_with_interior_nul_without_data_or_too_short_panics_nowhere() {
    let rig = Rig::start();
    let bodies: [&[u8]; 5] =
        [b"\0\0\x01\0{}", b"\0\0\x01\0{\0}\0", b"\0\0\x01", b"", b"\0\0\x01\0\xff\xfe\0"];
    for body in bodies {
        let mut client = Client::connect(&rig.path);
        assert_eq!(client.request(VERSION, body).errno(), EINVAL);
        client.closed();
    }
    let mut client = Client::connect(&rig.path);
    assert_eq!(client.request(VERSION, b"\0\0\x01\0").ok(), b"\0\0\x01\0");
    client.in_step();
}

/// "REGION_READ and WRITE counts are allocated unchecked (1345, 1382) and a count of 0xffffffff sends 4 GiB or hangs".
#[test]
fn count_of_four_gigabytes_is_refused_and_nothing_is_sent_or_waited_for() {
    let rig = Rig::start();
    let mut client = rig.client();
    assert_eq!(client.request(REGION_READ, &access(0, REGISTERS, u32::MAX)).errno(), EINVAL);
    assert_eq!(client.request(REGION_WRITE, &access(0, REGISTERS, u32::MAX)).errno(), EINVAL);
    client.in_step();
}

/// "a message shorter than its struct hangs and desynchronises": there the rest of the struct is taken from the next
/// message.
#[test]
fn message_shorter_than_its_structure_is_refused_and_the_next_one_is_answered() {
    let rig = Rig::start();
    let mut client = rig.client();
    let commands = [
        DMA_MAP,
        DMA_UNMAP,
        GET_INFO,
        GET_REGION_INFO,
        GET_REGION_IO_FDS,
        GET_IRQ_INFO,
        SET_IRQS,
        REGION_READ,
        REGION_WRITE,
        REGION_WRITE_MULTI,
    ];
    for command in commands {
        for length in [0, 1, 4, 7] {
            assert_eq!(client.request(command, &vec![0; length]).errno(), EINVAL, "{command}, {length}");
            client.in_step();
        }
    }
}

/// "the body of a refused message is not drained, so that its payload is executed as the next message (977, 984, 1303,
/// 1378)".
#[test]
fn payload_of_a_refused_message_is_not_executed() {
    let rig = Rig::start();
    let mut client = rig.client();
    let reset = message(0x666, RESET, COMMAND, &[]);
    let padded = [&[0; 16][..], &reset, &reset].concat();
    // 977: an unknown command. 984: a command that is not offered.
    for (command, errno) in [(0x1234, EINVAL), (FEATURE, EOPNOTSUPP), (DMA_READ, EINVAL)] {
        assert_eq!(client.request(command, &reset).errno(), errno);
    }
    // 1303: SET_IRQS with flags that make no sense. 1378: REGION_WRITE to a region that is not there.
    assert_eq!(client.request(SET_IRQS, &set_irqs(0x40, MSIX, 0, 16, &reset)).errno(), EINVAL);
    assert_eq!(client.request(REGION_WRITE, &write(0, 77, &padded)).errno(), EINVAL);
    assert_eq!(client.request(REGION_WRITE, &write(4090, REGISTERS, &padded)).errno(), EINVAL);
    client.in_step();
    assert_eq!(rig.log().resets, 0);
}

/// "error replies carry errno 0 (1473), which QEMU takes for success".
#[test]
fn error_reply_never_carries_errno_zero_whatever_the_device_says() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (number, errno) in [(1, 1), (95, 95), (4095, 4095)] {
        let reply = client.request(REGION_WRITE, &write(FAIL, REGISTERS, &u64s(&[number])));
        assert_eq!(reply.errno(), errno);
    }
    assert_ne!(client.request(0x1234, b"").errno(), 0);
}

/// "NO_REPLY messages get error replies (1466)", which the client takes for the reply to its next command.
#[test]
fn posted_message_gets_no_error_reply() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.post(REGION_WRITE, &write(FAIL, REGISTERS, &u64s(&[5])));
    client.post(REGION_WRITE, &write(0, 77, b"x"));
    client.post(0x1234, b"");
    assert_eq!(client.read(CONFIG, 1, 1), [1]);
}

/// "a header that arrives in two parts is misread (1446)": there what is missing is taken to be zero.
#[test]
fn header_in_two_parts_is_one_header() {
    let rig = Rig::start();
    let mut client = rig.client();
    for cut in 1..16 {
        let id = client.id();
        let bytes = message(id, REGION_READ, COMMAND, &access(9, CONFIG, 1));
        client.send(&bytes[..cut]);
        // The server has read the first part, and waits for more.
        rig.asleep();
        client.send(&bytes[cut..]);
        assert_eq!(client.reply(id, REGION_READ).ok()[16..], [9]);
    }
}

/// "received descriptors are not CLOEXEC": see also `received_descriptors_are_close_on_exec`, which looks at each kind.
#[test]
fn received_descriptor_does_not_reach_a_process_that_is_started() {
    let rig = Rig::start();
    let mut client = rig.client();
    let (theirs, ours) = tracer();
    let body = set_irqs(EVENTFD | TRIGGER, MSIX, 0, 1, &[]);
    client.request_with(SET_IRQS, &body, &[ours.as_fd()]).ok();
    let inode = rustix::fs::fstat(&ours).unwrap().st_ino;
    drop(ours);
    let links = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let links = String::from_utf8(links.stdout).unwrap();
    assert!(links.contains(" 0 ->") && !links.contains(&format!("socket:[{inode}]")), "{links}");
    assert!(!is_readable(&theirs));
}

/// "EINTR or more than 16 descriptors end the connection". For EINTR see tests/interrupted.rs.
#[test]
fn more_than_sixteen_descriptors_do_not_end_the_connection() {
    let rig = Rig::of(Default::default(), |description| description.irqs[MSIX as usize].count = 253);
    let mut client = rig.client();
    let eventfd = new_eventfd();
    for count in [17, 64, 253] {
        let fds = vec![eventfd.as_fd(); count];
        let count = u32::try_from(count).unwrap();
        client.request_with(SET_IRQS, &set_irqs(EVENTFD | TRIGGER, MSIX, 0, count, &[]), &fds).ok();
    }
    rig.interrupts.trigger(MSIX, 252);
    assert_eq!(signals(&eventfd), 1);
}

/// "no DMA_READ/DMA_WRITE": there memory without a descriptor cannot be reached.
#[test]
fn memory_without_a_descriptor_is_reached() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.map(3, 0, 0, 0x1000, None).ok();
    client.write(REGISTERS, DATA, b"four");
    let store = client.begin(REGION_WRITE, &write(STORE, REGISTERS, &u64s(&[4])));
    let (id, _, _, data) = client.dma_command(DMA_WRITE);
    assert_eq!(data, b"four");
    client.answer(id, DMA_WRITE, &[]);
    client.reply(store, REGION_WRITE).ok();
}

/// "one client, no way to stop, poll or share a loop": there `run` returns when the first client has left.
#[test]
fn one_client_after_the_other_is_served_until_the_server_is_stopped() {
    let rig = Rig::start();
    for _ in 0..10 {
        rig.client().in_step();
    }
    let client = rig.client();
    rig.stop.stop();
    client.closed();
    let ended: Vec<_> = (0..11).map(|_| rig.visit().ended).collect();
    assert_eq!((&ended[..10], &ended[10]), (&vec![Ended::ClientLeft; 10][..], &Ended::Stopped));
}

/// "fixed `max_msg_fds` 1 (16 MSI-X vectors take 17 SET_IRQS instead of 2)".
#[test]
fn sixteen_descriptors_in_one_message_are_offered_and_taken() {
    let rig = Rig::start();
    let mut client = Client::connect(&rig.path);
    let reply = client.request(VERSION, &version(0, 1, QEMU_JSON)).ok();
    assert!(String::from_utf8_lossy(&reply).contains("\"max_msg_fds\":16"));
    let eventfds: Vec<_> = (0..16).map(|_| new_eventfd()).collect();
    let fds: Vec<_> = eventfds.iter().map(AsFd::as_fd).collect();
    client.request_with(SET_IRQS, &set_irqs(EVENTFD | TRIGGER, MSIX, 0, 16, &[]), &fds).ok();
}

/// "The crate sends a reply in two pieces": here one send, so one receive gets all of it.
#[test]
fn reply_comes_in_one_piece() {
    let rig = Rig::start();
    let mut client = rig.client();
    for count in [1u32, 4, 256, 4096] {
        client.begin(REGION_READ, &access(0, LONG, count));
        wait_readable(&client.socket);
        let mut reply = vec![0; 8192];
        let received = std::io::Read::read(&mut (&client.socket as &UnixStream), &mut reply).unwrap();
        assert_eq!(received, 32 + count as usize);
    }
}

/// "the VERSION reply not longer than its request (214 bytes …)"; "`max_msg_fds` at most 16, `max_data_xfer_size` at
/// most 64 MiB".
#[test]
fn what_qemu_is_answered_is_not_longer_than_its_request_and_within_its_limits() {
    let rig = Rig::start();
    let mut client = Client::connect(&rig.path);
    let request = version(0, 1, QEMU_JSON);
    let reply = client.request(VERSION, &request).ok();
    assert!(request.len() + 16 == 214 && reply.len() <= request.len());
    let json: serde_json::Value = serde_json::from_slice(&reply[4..reply.len() - 1]).unwrap();
    let number = |name: &str| json["capabilities"][name].as_u64().unwrap();
    assert!(number("max_msg_fds") <= 16 && number("max_data_xfer_size") <= 64 << 20);
}

/// "an MMAP flag on any region makes every write of the device synchronous".
#[test]
fn region_that_maps_nothing_has_no_mmap_flag() {
    let rig = Rig::start();
    let mut client = rig.client();
    for index in [REGISTERS, READ_ONLY, WRITE_ONLY, IO_EVENTFDS, ABSENT, CONFIG, LONG] {
        let info = client.request(GET_REGION_INFO, &region_info(32, index));
        assert_eq!(info.u32(4) & 4, 0);
    }
}

/// "it serves DMA_READ and DMA_WRITE …: u64 address, u64 count, data from byte 32; errno 19 while bus mastering is off".
#[test]
fn dma_messages_are_laid_out_as_qemu_reads_them_and_its_refusal_is_the_devices_error() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.map(3, 0, 0x1000, 0x1000, None).ok();
    client.write(REGISTERS, ADDRESS, &u64s(&[0x1234]));
    client.write(REGISTERS, DATA, b"data");
    let store = client.begin(REGION_WRITE, &write(STORE, REGISTERS, &u64s(&[4])));
    let command = client.take(36).unwrap();
    let id = u16::from_ne_bytes([command[0], command[1]]);
    let body = [u64s(&[0x1234, 4]), b"data".to_vec()].concat();
    assert_eq!(command, message(id, DMA_WRITE, COMMAND, &body));
    let mut refusal = message(id, DMA_WRITE, REPLY | ERROR, &[]);
    refusal[12..16].copy_from_slice(&19u32.to_ne_bytes());
    client.send(&refusal);
    client.reply(store, REGION_WRITE).ok();
    assert_eq!(rig.last_dma(), Err(vfio_user_server::DmaError::Refused(vfio_user_server::Errno::NODEV)));
}

/// "it does not use twin sockets": whoever proposes one is answered without, and gets commands on the one socket.
#[test]
fn twin_socket_is_not_agreed_on() {
    let rig = Rig::start();
    let mut client = Client::connect(&rig.path);
    let json = b"{\"capabilities\":{\"twin_socket\":{\"supported\":true},\"max_msg_fds\":1}}\0";
    let reply = client.request(VERSION, &version(0, 1, json));
    assert!(reply.fds.is_empty());
    assert_eq!(reply.ok()[4..], *b"{\"capabilities\":{\"max_msg_fds\":16}}\0");
}

/// "With read-ahead, descriptors belong to the message that holds the last byte of that `recvmsg`. While waiting for a
/// DMA reply, further commands can come in: queue them." Both at once.
#[test]
fn descriptors_of_commands_that_are_queued_while_an_answer_is_waited_for_stay_with_theirs() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.map(3, 0, 0, 0x1000, None).ok();
    let fetch = client.begin(REGION_WRITE, &write(FETCH, REGISTERS, &u64s(&[4])));
    let (answer, ..) = client.dma_command(DMA_READ);
    let eventfds = [new_eventfd(), new_eventfd()];
    let mut ids = Vec::new();
    for (vector, eventfd) in (0..).zip(&eventfds) {
        client.post(REGION_WRITE, &write(0, REGISTERS, b"x"));
        let id = client.id();
        let body = set_irqs(EVENTFD | TRIGGER, MSIX, vector, 1, &[]);
        client.send_with(&message(id, SET_IRQS, COMMAND, &body), &[eventfd.as_fd()]);
        ids.push(id);
    }
    client.answer(answer, DMA_READ, &[u64s(&[0, 4]), b"four".to_vec()].concat());
    client.reply(fetch, REGION_WRITE).ok();
    for (vector, id) in (0..).zip(ids) {
        client.reply(id, SET_IRQS).ok();
        rig.interrupts.trigger(MSIX, vector);
        assert_eq!(signals(&eventfds[vector as usize]), 1);
    }
}
