//! Clients that leave, at any byte, and clients that come while another one is there.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use vfio_user_server::{Ended, Options};

use crate::client::Client;
use crate::device::*;
use crate::wire::*;

/// A conversation with memory and interrupts in it, and where its messages begin.
fn conversation() -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::new();
    let mut begins = Vec::new();
    for (id, (command, body)) in (1..).zip([
        (VERSION, version(0, 1, QEMU_JSON)),
        (DMA_MAP, dma_map(3, 0, 0x1000, 0x1000)),
        (SET_IRQS, set_irqs(BOOL | TRIGGER, MSIX, 0, 2, &[1, 1])),
        (REGION_WRITE, write(0, REGISTERS, b"data")),
        (REGION_READ, access(0, REGISTERS, 4)),
    ]) {
        begins.push(bytes.len());
        bytes.extend(message(id, command, COMMAND, &body));
    }
    begins.push(bytes.len());
    (bytes, begins)
}

#[test]
fn client_that_leaves_after_any_byte_is_noticed_and_the_next_one_is_served() {
    let rig = Rig::start();
    let (bytes, begins) = conversation();
    for cut in 0..=bytes.len() {
        let mut client = Client::connect(&rig.path);
        client.send(&bytes[..cut]);
        // It takes what it is answered, so that the connection ends with its leaving and not with an answer that cannot
        // be sent.
        let whole = begins.iter().rposition(|begin| *begin <= cut).unwrap();
        for _ in 0..whole {
            client.receive().unwrap();
        }
        drop(client);
        let expected = match cut - begins[whole] {
            0 => Ended::ClientLeft,
            bytes => Ended::MidMessage(bytes),
        };
        assert_eq!(rig.visit().ended, expected, "after {cut} bytes");
        assert_eq!(rig.memory.ranges(), 0);
    }
    assert_eq!(rig.log().disconnects as usize, bytes.len() + 1);
    rig.client().in_step();
}

#[test]
fn client_that_leaves_without_taking_its_answers_is_noticed() {
    let rig = Rig::start();
    let (bytes, _) = conversation();
    for cut in 0..=bytes.len() {
        let mut client = Client::connect(&rig.path);
        client.send(&bytes[..cut]);
        drop(client);
        assert!(matches!(rig.visit().ended, Ended::ClientLeft | Ended::MidMessage(_)));
    }
    rig.client().in_step();
}

#[test]
fn client_that_leaves_within_an_oversized_message_is_noticed() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.send(&sized(1, REGION_WRITE, u32::MAX, COMMAND, &[0; 84]));
    drop(client);
    assert_eq!(rig.visit().ended, Ended::MidMessage(100));
}

/// Whoever closes only its sending side still gets its answers.
#[test]
fn client_that_says_no_more_is_answered_what_it_asked() {
    let rig = Rig::start();
    let mut client = rig.client();
    let id = client.begin(REGION_READ, &access(0, CONFIG, 4));
    client.socket.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.reply(id, REGION_READ).ok()[16..], [0, 1, 2, 3]);
    client.closed();
    assert_eq!(rig.visit().ended, Ended::ClientLeft);
}

/// What is logged while the tests run.
fn log() -> Arc<Mutex<Vec<u8>>> {
    static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    struct Writer;
    impl Write for Writer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            log().lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut first = false;
    let log = LOG.get_or_init(|| {
        first = true;
        Arc::default()
    });
    if first {
        tracing_subscriber::fmt().with_ansi(false).with_writer(|| Writer).init();
    }
    log.clone()
}

#[test]
fn second_client_is_turned_away_at_once_with_a_reason_in_the_log_and_the_first_stays() {
    let log = log();
    let rig = Rig::start();
    let mut client = rig.client();
    client.write(REGISTERS, 0, b"mine");
    for _ in 0..3 {
        Client::connect(&rig.path).closed();
    }
    assert_eq!(client.read(REGISTERS, 0, 4), b"mine");
    drop(client);
    assert_eq!(rig.visit().turned_away, 3);
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    assert!(log.contains("turned a client away: another one is being served"), "{log}");
}

#[test]
fn second_client_is_turned_away_while_the_device_is_busy_with_the_first() {
    let rig = Rig::start();
    let mut client = rig.client();
    let busy = client.begin(REGION_WRITE, &write(BUSY, REGISTERS, &[0]));
    rig.entered.recv().unwrap();
    Client::connect(&rig.path).closed();
    rig.go.send(()).unwrap();
    client.reply(busy, REGION_WRITE).ok();
}

#[test]
fn client_that_comes_after_one_has_left_is_never_turned_away() {
    let rig = Rig::start();
    for _ in 0..300 {
        rig.client();
    }
    for _ in 0..300 {
        assert_eq!(rig.visit().turned_away, 0);
    }
}

#[test]
fn client_that_comes_after_one_has_left_is_served_though_the_device_was_busy_with_that_one() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.begin(REGION_WRITE, &write(BUSY, REGISTERS, &[0]));
    rig.entered.recv().unwrap();
    drop(client);
    let mut next = Client::connect(&rig.path);
    let version_id = next.begin(VERSION, &version(0, 1, QEMU_JSON));
    rig.go.send(()).unwrap();
    next.reply(version_id, VERSION).ok();
    next.in_step();
    assert_eq!(rig.visit().turned_away, 0);
}

#[test]
fn device_keeps_its_state_for_the_next_client_and_is_told_that_the_one_before_has_left() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.write(REGISTERS, 0, b"kept");
    drop(client);
    let mut next = rig.client();
    assert_eq!(next.read(REGISTERS, 0, 4), b"kept");
    assert_eq!(rig.log().disconnects, 1);
}

/// A bug of the device is to be seen, and not to be waited for.
#[test]
fn device_that_panics_ends_the_serving_thread_and_closes_the_connection() {
    let mut rig = Rig::with(Options::default());
    let mut client = rig.client();
    client.begin(REGION_WRITE, &write(PANIC, REGISTERS, &[0]));
    assert!(rig.serving.take().unwrap().join().is_err());
    client.closed();
}

/// Its answers fill the socket; to wait for it would be to wait for ever, with the device perhaps.
#[test]
fn client_that_does_not_read_its_answers_is_left_and_the_next_one_is_served() {
    let rig = Rig::with(Options { dma_timeout: Duration::from_millis(1), ..Options::default() });
    let mut client = rig.client();
    // 4 MiB of answers to 32 KiB of commands.
    let reads: Vec<u8> =
        (0..1024).flat_map(|id| message(id, REGION_READ, COMMAND, &access(0, REGISTERS, 4096))).collect();
    client.send(&reads);
    assert_eq!(rig.visit().ended, Ended::NotReading);
    let mut next = rig.client();
    next.in_step();
}
