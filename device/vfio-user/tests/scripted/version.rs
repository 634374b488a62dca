//! VERSION: what comes before it, what it may say, and what it is answered.

use vfio_user_server::{Ended, Limits, Options};

use crate::client::Client;
use crate::device::Rig;
use crate::wire::*;

/// Proposes that, and returns the answer's version data.
fn negotiate(rig: &Rig, minor: u16, json: &[u8]) -> (Client, Vec<u8>) {
    let mut client = Client::connect(&rig.path);
    let body = client.request(VERSION, &version(0, minor, json)).ok();
    assert_eq!(body[..4], version(0, minor.min(1), b""));
    let data = body[4..].to_vec();
    (client, data)
}

#[test]
fn reply_to_qemu_is_not_longer_than_its_request() {
    let rig = Rig::start();
    let request = version(0, 1, QEMU_JSON);
    assert_eq!(16 + request.len(), 214);
    let mut client = Client::connect(&rig.path);
    let reply = client.request(VERSION, &request).ok();
    assert!(reply.len() <= request.len());
    let expected = r#"{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":1048576,"max_dma_maps":512,"pgsizes":4096,"write_multiple":true}}"#;
    assert_eq!(reply[4..], [expected.as_bytes(), b"\0"].concat());
}

#[test]
fn reply_has_only_capabilities_that_were_proposed() {
    let rig = Rig::start();
    let (client, data) = negotiate(&rig, 1, b"{\"capabilities\":{\"max_msg_fds\":2,\"unknown\":[1]}}\0");
    assert_eq!(data, b"{\"capabilities\":{\"max_msg_fds\":16}}\0");
    drop(client);
    for json in [&b"{}\0"[..], b"{\"capabilities\":{}}\0", b"{\"capabilities\":{\"write_multiple\":false}}\0"]
    {
        let (_, data) = negotiate(&rig, 1, json);
        assert_eq!(data, b"{\"capabilities\":{}}\0");
    }
}

#[test]
fn reply_has_the_limits_that_the_server_was_given() {
    let limits = Limits { max_data_xfer_bytes: 4096, max_msg_fds: 3, max_dma_maps: 5 };
    let rig = Rig::with(Options { limits, ..Options::default() });
    let (mut client, data) = negotiate(&rig, 1, QEMU_JSON);
    let data = String::from_utf8(data).unwrap();
    assert!(data.contains(r#""max_msg_fds":3,"max_data_xfer_size":4096,"max_dma_maps":5"#), "{data}");
    assert_eq!(client.request(REGION_READ, &access(0, crate::device::LONG, 4097)).errno(), EINVAL);
    assert_eq!(client.read(crate::device::LONG, 0, 4096).len(), 4096);
}

#[test]
fn version_without_data_is_answered_without_data() {
    let rig = Rig::start();
    let (mut client, data) = negotiate(&rig, 1, b"");
    assert_eq!(data, b"");
    client.in_step();
}

#[test]
fn smaller_minor_is_answered_as_it_is_and_a_greater_one_with_ours() {
    let rig = Rig::start();
    for minor in [0, 1, 2, u16::MAX] {
        let (mut client, _) = negotiate(&rig, minor, QEMU_JSON);
        client.in_step();
    }
}

#[test]
fn other_major_is_refused_and_the_connection_ends() {
    let rig = Rig::start();
    for major in [1, u16::MAX] {
        let mut client = Client::connect(&rig.path);
        assert_eq!(client.request(VERSION, &version(major, 0, QEMU_JSON)).errno(), EINVAL);
        client.closed();
        let Ended::Version(refusal) = rig.visit().ended else { panic!("ended otherwise") };
        assert!(refusal.why.contains(&format!("version {major}.0 is proposed")), "{refusal}");
    }
    rig.client().in_step();
}

#[test]
fn malformed_version_is_refused_and_the_connection_ends() {
    let rig = Rig::start();
    for body in
        [&b""[..], b"\0", b"\0\0\0", b"\0\0\x01\0{}", b"\0\0\x01\0{}\0\0", b"\0\0\x01\0[]\0", b"\0\0\x01\0\0"]
    {
        let mut client = Client::connect(&rig.path);
        assert_eq!(client.request(VERSION, body).errno(), EINVAL, "{body:?}");
        client.closed();
        assert!(matches!(rig.visit().ended, Ended::Version(_)));
    }
}

#[test]
fn command_before_version_is_a_protocol_error_and_version_is_still_taken() {
    let rig = Rig::start();
    let mut client = Client::connect(&rig.path);
    for (command, body) in [
        (GET_INFO, u32s(&[16, 0, 0, 0])),
        (DMA_MAP, dma_map(3, 0, 0x1000, 0x1000)),
        (REGION_WRITE, write(0, 0, b"early")),
        (RESET, vec![]),
    ] {
        assert_eq!(client.request(command, &body).errno(), EPROTO);
    }
    client.request(VERSION, &version(0, 1, QEMU_JSON)).ok();
    client.in_step();
    let log = rig.log();
    assert_eq!((rig.memory.ranges(), log.resets, log.writes.len()), (0, 0, 0));
}

#[test]
fn second_version_is_refused_and_changes_nothing() {
    let rig = Rig::start();
    let mut client = rig.client();
    for body in
        [version(0, 1, QEMU_JSON), version(0, 0, b""), version(1, 0, b""), version(0, 1, b"malformed")]
    {
        assert_eq!(client.request(VERSION, &body).errno(), EINVAL);
        client.in_step();
    }
    client.request(REGION_WRITE_MULTI, &u64s(&[0])).ok();
}

#[test]
fn several_writes_in_one_message_are_not_offered_to_whoever_did_not_propose_them() {
    let rig = Rig::start();
    for json in [&b""[..], b"{}\0", b"{\"capabilities\":{\"write_multiple\":false}}\0"] {
        let (mut client, _) = negotiate(&rig, 1, json);
        assert_eq!(client.request(REGION_WRITE_MULTI, &u64s(&[0])).errno(), EOPNOTSUPP);
    }
}

#[test]
fn version_that_wants_no_reply_is_taken_and_not_answered() {
    let rig = Rig::start();
    let mut client = Client::connect(&rig.path);
    client.post(VERSION, &version(0, 1, QEMU_JSON));
    client.in_step();
}
