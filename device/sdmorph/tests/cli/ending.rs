//! How a server ends.

use rustix::process::Signal;
use vfio_user::Client;

use crate::server::Server;

fn ends_well_by(signal: Signal) {
    let mut server = Server::start(&[]);
    let _client = server.client();
    server.signal(signal);
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
    assert!(!server.vfio_user().exists() && !server.control().exists());
}

#[test]
fn sigterm_ends_with_0_and_takes_the_sockets_away() {
    ends_well_by(Signal::TERM);
}

#[test]
fn sigint_ends_with_0_and_takes_the_sockets_away() {
    ends_well_by(Signal::INT);
}

#[test]
fn server_starts_again_where_one_has_ended() {
    let mut server = Server::start(&[]);
    assert_eq!(server.quit(), Some(0));
    let dir = std::mem::replace(&mut server.dir, tempfile::tempdir().unwrap());
    assert_eq!(Server::start_in(dir, &[]).quit(), Some(0));
}

/// Maps the reader's registers to the start of region 2, as the guest's PCI core does.
fn bring_up(client: &mut Client) {
    const ECAM: u32 = 0;
    const CONFIG: u32 = 7;
    const PORT: u64 = 0x1c << 15;
    const READER: u64 = 1 << 20;
    let mut write = |region, offset, value: u32| {
        client.region_write(region, offset, &value.to_le_bytes()).unwrap();
    };
    write(CONFIG, 0x18, 0xe000_0000);
    write(CONFIG, 0x04, 0x6);
    write(ECAM, PORT + 0x18, 0x0001_0100);
    write(ECAM, PORT + 0x20, 0xe000_e000);
    write(ECAM, PORT + 0x04, 0x6);
    write(ECAM, READER + 0x10, 0xe000_0000);
    write(ECAM, READER + 0x04, 0x6);
}

#[test]
fn quit_ends_the_server_while_an_answer_is_held_back() {
    let mut server = Server::start(&[]);
    let mut client = server.client();
    bring_up(&mut client);
    let rule = r#"rule={"name":"slow","on":{"start":true},"do":{"read-latency":"4s"}}"#;
    server.done(&["rule-add", rule]);
    let accesses = || server.done(&["query-status"]).json()["counters"]["accesses"].as_u64().unwrap();
    let before = accesses();
    let reading = std::thread::spawn(move || client.region_read(2, 0x1c, &mut [0; 4]));
    while accesses() == before {
        std::thread::yield_now();
    }
    assert_eq!(server.quit(), Some(0), "{}", server.log());
    // Answered or cut off, depending on how long all of this took: but it returns.
    let _ = reading.join().unwrap();
}
