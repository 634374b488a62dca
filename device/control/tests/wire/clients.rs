//! How the server treats its clients: bad input, slow ones, several at once, and those that leave.

use crate::toy_device::ToyDevice;
use proptest::prelude::*;
use sdmorph_control::{JsonObject, MESSAGE_LIMIT_BYTES, Server, ServerOptions};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// A client that says exactly what the test tells it to.
struct RawClient {
    stream: BufReader<UnixStream>,
    served: JoinHandle<()>,
}

impl RawClient {
    async fn connect(server: &Server) -> Self {
        let (client, server_end) = UnixStream::pair().unwrap();
        let server = server.clone();
        let served = tokio::spawn(async move { server.serve(server_end).await });
        let mut client = Self { stream: BufReader::new(client), served };
        assert!(client.read().await["QMP"].is_object());
        client
    }

    async fn negotiated(server: &Server) -> Self {
        let mut client = Self::connect(server).await;
        assert_eq!(client.ask("{\"execute\": \"qmp_capabilities\"}\n").await, json!({"return": {}}));
        client
    }

    async fn write(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
    }

    async fn read(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    async fn ask(&mut self, text: impl AsRef<[u8]>) -> Value {
        self.write(text).await;
        self.read().await
    }

    /// Closes this side and waits for the server to be done with it; returns what it still said.
    async fn leave(mut self) -> String {
        self.stream.get_mut().shutdown().await.unwrap();
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).await.unwrap();
        self.served.await.unwrap();
        rest
    }
}

fn toy(event_capacity: usize) -> (Arc<ToyDevice>, Server) {
    let device = ToyDevice::new(event_capacity);
    let server = device.server(ServerOptions::default());
    (device, server)
}

fn description(reply: &Value) -> &str {
    reply["error"]["desc"].as_str().unwrap_or_else(|| panic!("no error: {reply}"))
}

#[tokio::test]
async fn half_a_line_and_then_a_close_carries_nothing_out_and_is_not_answered() {
    let (device, server) = toy(16);
    for half in [
        "{\"execute\": \"card-in",
        "{\"execute\": \"card-eject\"",
        "{\"execute\": \"marker\", \"arguments\": {",
    ] {
        let mut client = RawClient::negotiated(&server).await;
        client.write(half).await;
        assert_eq!(client.leave().await, "");
    }
    assert!(device.done().is_empty());
}

#[tokio::test]
async fn a_command_without_a_newline_is_carried_out_before_the_close_is_seen() {
    let (device, server) = toy(16);
    let mut client = RawClient::negotiated(&server).await;
    client.write("{\"execute\": \"marker\", \"arguments\": {\"text\": \"a\"}}").await;
    assert_eq!(client.leave().await, "{\"return\":{}}\n");
    assert_eq!(device.done(), ["marker a"]);
}

#[tokio::test]
async fn ten_mebibytes_in_one_message_are_refused_once_and_the_next_command_is_carried_out() {
    let (device, server) = toy(16);
    let mut client = RawClient::negotiated(&server).await;
    client.write("{\"execute\": \"marker\", \"arguments\": {\"text\": \"").await;
    let piece = "x".repeat(64 * 1024);
    for _ in 0..160 {
        client.write(&piece).await;
    }
    let reply = client.ask("\"}}{\"execute\": \"marker\", \"arguments\": {\"text\": \"a\"}}").await;
    assert_eq!(
        description(&reply),
        format!("message longer than {MESSAGE_LIMIT_BYTES} bytes; all of it is ignored")
    );
    assert_eq!(client.read().await, json!({"return": {}}));
    assert_eq!(client.leave().await, "");
    assert_eq!(device.done(), ["marker a"]);
}

#[tokio::test]
async fn ten_mebibytes_without_structure_are_refused_once_and_the_next_line_counts() {
    let (_, server) = toy(16);
    let mut client = RawClient::negotiated(&server).await;
    for _ in 0..160 {
        client.write("x".repeat(64 * 1024)).await;
    }
    let reply = client.ask("\n{\"execute\": \"query-rules\"}\n").await;
    assert_eq!(description(&reply), "expected a JSON object, found 'x'; the rest of the line is ignored");
    assert_eq!(client.leave().await, "{\"return\":[]}\n");
}

#[tokio::test]
async fn nothing_is_carried_out_and_no_event_sent_before_the_negotiation() {
    let (device, server) = toy(16);
    let mut client = RawClient::connect(&server).await;
    for text in [
        "{\"execute\": \"card-eject\"}",
        "{\"execute\": \"quit\"}",
        "{\"execute\": \"no-such\"}",
        "{\"id\": 1}",
    ] {
        let reply = client.ask(text).await;
        assert_eq!(reply["error"]["class"], "CommandNotFound", "{reply}");
        assert!(description(&reply).contains("qmp_capabilities"), "{reply}");
    }
    device.events.send("TOO_EARLY", JsonObject::new());
    assert_eq!(client.leave().await, "");
    assert!(device.done().is_empty());
}

#[tokio::test]
async fn a_terminal_that_echoes_everything_is_not_answered_for_ever() {
    let (_, server) = toy(16);
    let mut client = RawClient::connect(&server).await;
    let mut said = client.ask("login: \r\n").await;
    for _ in 0..3 {
        client.write(format!("{said}\r\n")).await;
        said = client.ask("{\"execute\": \"qmp_capabilities\"}\r\n").await;
    }
    assert_eq!(client.leave().await, "");
}

#[tokio::test]
async fn two_clients_get_their_own_replies_and_the_same_events_in_order() {
    let (_, server) = toy(16);
    let mut first = RawClient::negotiated(&server).await;
    let mut second = RawClient::negotiated(&server).await;
    second.write("{\"execute\": \"query-status\", \"id\": 2").await;
    first.write("{\"execute\":\"card-insert\",\"arguments\":{\"kind\":\"none\"},\"id\":1}{\"execute\":\"card-eject\"}").await;
    assert_eq!(first.read().await["event"], "CARD_INSERTED");
    assert_eq!(first.read().await, json!({"return": {}, "id": 1}));
    assert_eq!(first.read().await["event"], "CARD_EJECTED");
    assert_eq!(first.read().await, json!({"return": {}}));
    assert_eq!(second.read().await["event"], "CARD_INSERTED");
    assert_eq!(second.read().await["event"], "CARD_EJECTED");
    assert_eq!(second.ask("}").await, json!({"return": {"card": null}, "id": 2}));
    assert_eq!((first.leave().await, second.leave().await), (String::new(), String::new()));
}

#[tokio::test]
async fn many_events_reach_a_reading_client_completely_and_in_order() {
    let (device, server) = toy(128);
    let mut client = RawClient::negotiated(&server).await;
    for round in 0..50 {
        for number in 0..100 {
            device.events.send("TICK", json!({"number": round * 100 + number}).as_object().unwrap().clone());
        }
        for number in 0..100 {
            assert_eq!(client.read().await["data"]["number"], round * 100 + number);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_is_cut_off_and_another_loses_nothing() {
    let (device, server) = toy(16);
    let mut deaf = RawClient::negotiated(&server).await;
    let mut other = RawClient::negotiated(&server).await;
    let text = "x".repeat(4096);
    for number in 0..1000 {
        device.events.send("TICK", json!({"number": number, "text": text}).as_object().unwrap().clone());
        assert_eq!(other.read().await["data"]["number"], number);
    }
    (&mut deaf.served).await.unwrap();
    assert!(!other.served.is_finished());
    assert_eq!(other.leave().await, "");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_and_never_reads_is_cut_off() {
    let (_, server) = toy(16);
    let client = RawClient::negotiated(&server).await;
    let (_unread, mut to_server) = client.stream.into_inner().into_split();
    let asked = tokio::spawn(async move {
        loop {
            if to_server.write_all(b"{\"execute\": \"query-commands\"}").await.is_err() {
                break;
            }
        }
    });
    client.served.await.unwrap();
    asked.await.unwrap();
}

#[tokio::test]
async fn a_client_that_the_event_ring_overtakes_is_cut_off() {
    let (device, server) = toy(16);
    let client = RawClient::negotiated(&server).await;
    // No await in between: the server has no chance to send any of them.
    for _ in 0..17 {
        device.events.send("TICK", JsonObject::new());
    }
    client.served.await.unwrap();
}

#[tokio::test]
async fn events_that_were_sent_before_a_stop_are_delivered() {
    let (device, server) = toy(16);
    let mut client = RawClient::negotiated(&server).await;
    device.events.send("LAST", JsonObject::new());
    server.stop();
    assert_eq!(client.read().await["event"], "LAST");
    client.served.await.unwrap();
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            ",",
            "\"",
            "\n",
            "\\",
            "{\"execute\":",
            "\"card-eject\"",
            "\"arguments\":",
            "\"id\":1",
            "{\"execute\":\"query-rules\"}",
            "{\"execute\":\"qmp_capabilities\"}",
            "{\"return\":{}}",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_a_client_sends_first_the_second_command_on_a_line_of_its_own_is_answered(noise in noise()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (device, server) = toy(16);
            let mut client = RawClient::connect(&server).await;
            client.write(&noise).await;
            client.write("\n{\"execute\":\"qmp_capabilities\",\"id\":\"x\"}\n").await;
            client.write("{\"execute\":\"qmp_capabilities\",\"id\":\"y\"}\n").await;
            let said = client.leave().await;
            let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
            assert_eq!(last["id"], "y", "{said}");
            assert!(device.done().is_empty());
        });
    }
}
