//! The recorded session of session.qmp, replayed against the real server.

use crate::toy_device::ToyDevice;
use sdmorph_control::ServerOptions;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

#[tokio::test]
async fn the_recorded_session_gets_the_recorded_answers_and_ends_with_quit() {
    let (client, server_end) = UnixStream::pair().unwrap();
    let device = ToyDevice::new(64);
    let server = device.server(ServerOptions::default());
    let served = tokio::spawn(async move { server.serve(server_end).await });
    let (from_server, mut to_server) = client.into_split();
    let mut from_server = BufReader::new(from_server);

    for (at, recorded) in include_str!("session.qmp").lines().enumerate() {
        let at = at + 1;
        match recorded.split_at(recorded.len().min(2)) {
            ("C:", text) => {
                let text = text.strip_prefix(' ').unwrap_or(text);
                to_server.write_all(format!("{text}\n").as_bytes()).await.unwrap();
            }
            ("C|", text) => to_server.write_all(text.trim_start().as_bytes()).await.unwrap(),
            ("S:", text) => {
                let mut line = String::new();
                from_server.read_line(&mut line).await.unwrap();
                let said: Value = serde_json::from_str(&line)
                    .unwrap_or_else(|error| panic!("line {at}: {error}: {line:?}"));
                let expected: Value = serde_json::from_str(text).unwrap();
                assert_eq!(said, expected, "line {at}");
            }
            (start, _) => assert!(start.is_empty() || start.starts_with('#'), "line {at}: {recorded}"),
        }
    }

    let mut rest = String::new();
    from_server.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "", "nothing follows the reply to quit");
    served.await.unwrap();
    assert_eq!(
        device.done(),
        ["card-insert", "card-eject", "link-set false", "marker drivers bound"],
        "nothing else was carried out"
    );
}
