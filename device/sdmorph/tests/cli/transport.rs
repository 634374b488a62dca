//! Options of the vfio-user side of `serve`, and its threads.

use crate::server::{Server, sdmorph};

/// Configuration space, and its command register.
const CONFIG: u32 = 7;
const COMMAND: u64 = 4;
const MEMORY: [u8; 2] = [0x2, 0];

/// What the second client finds of what the first one wrote.
fn command_after_a_client(arguments: &[&str]) -> [u8; 2] {
    let mut server = Server::start(arguments);
    let mut client = server.client();
    client.region_write(CONFIG, COMMAND, &MEMORY).unwrap();
    drop(client);
    let mut next = server.client();
    let mut found = [0xff; 2];
    next.region_read(CONFIG, COMMAND, &mut found).unwrap();
    assert_eq!(server.quit(), Some(0), "{}", server.log());
    found
}

#[test]
fn device_is_reset_when_its_client_leaves_unless_it_shall_be_kept() {
    assert_eq!(command_after_a_client(&[]), [0, 0]);
    assert_eq!(command_after_a_client(&["--on-disconnect", "reset"]), [0, 0]);
    assert_eq!(command_after_a_client(&["--on-disconnect", "keep"]), MEMORY);
}

#[test]
fn server_serves_with_polling_turned_off_and_with_a_long_one() {
    for poll in ["0", "1000000"] {
        assert_eq!(command_after_a_client(&["--poll", poll]), [0, 0]);
    }
}

#[test]
fn settings_that_cannot_be_are_refused() {
    sdmorph(&["serve", "--on-disconnect", "never"]).fails_with(2, &["'never'", "reset, keep"]);
    sdmorph(&["serve", "--poll", "1000001"]).fails_with(2, &["1000001", "0..=1000000"]);
    sdmorph(&["serve", "--poll", "-1"]).fails_with(2, &["'-1'"]);
}

#[test]
fn help_tells_the_defaults() {
    let help = sdmorph(&["serve", "--help"]);
    for default in ["[default: reset]", "[default: 200]"] {
        assert!(help.out.contains(default), "{}", help.out);
    }
}

#[test]
fn threads_have_names_and_the_one_at_the_door_goes_with_its_client() {
    let mut server = Server::start(&["--record", "record.jsonl"]);
    // The first thread has the program's name.
    let at_rest = ["flight-record", "sdmorph", "vfio-user"];
    server.wait_for_threads(&at_rest);
    let client = server.client();
    server.wait_for_threads(&["flight-record", "sdmorph", "vfio-user", "vfio-user-door"]);
    drop(client);
    server.wait_for_threads(&at_rest);
    assert_eq!(server.quit(), Some(0));
}
