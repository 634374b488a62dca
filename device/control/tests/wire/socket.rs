//! Server and blocking client over a socket in the file system.

use crate::toy_device::{NOW, ToyDevice};
use sdmorph_control::{
    BoundSocket, Client, ClientError, ErrorClass, JsonObject, Server, ServerOptions, bind, parse_key_values,
};
use serde_json::json;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Long enough for any machine; nothing waits for its end.
const LONG: Duration = Duration::from_secs(300);

struct Running {
    device: Arc<ToyDevice>,
    server: Server,
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Running {
    fn start(options: ServerOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ctl.sock");
        let socket = bind(&path).unwrap();
        let device = ToyDevice::new(1024);
        let server = device.server(options);
        let thread = Some(run(server.clone(), socket));
        Self { device, server, path, thread, _directory: directory }
    }

    fn client(&self) -> Client {
        Client::connect(&self.path, LONG).unwrap()
    }

    /// Waits for the server to end by itself.
    fn join(&mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn run(server: Server, socket: BoundSocket) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(server.run(socket.listener())).unwrap();
    })
}

fn arguments(words: &[&str]) -> JsonObject {
    parse_key_values(words).unwrap()
}

#[test]
fn a_client_has_commands_carried_out_and_sees_the_events_they_cause() {
    let running = Running::start(ServerOptions::default());
    let mut client = running.client();
    assert_eq!(client.execute("card-insert", arguments(&["kind=sd-express"])).unwrap(), json!({}));
    assert_eq!(client.execute("query-status", JsonObject::new()).unwrap(), json!({"card": "sd-express"}));
    client.execute("card-eject", JsonObject::new()).unwrap();
    let inserted = client.next_event(Some(LONG)).unwrap().unwrap();
    assert_eq!((inserted.name.as_str(), inserted.timestamp), ("CARD_INSERTED", NOW));
    assert_eq!(json!(inserted.data), json!({"kind": "sd-express"}));
    assert_eq!(client.next_event(Some(LONG)).unwrap().unwrap().name, "CARD_EJECTED");
    assert_eq!(client.next_event(Some(Duration::from_millis(1))).unwrap(), None);
    // A look without waiting leaves the connection as it is.
    assert_eq!(client.next_event(Some(Duration::ZERO)).unwrap(), None);
    assert_eq!(client.execute("query-status", JsonObject::new()).unwrap(), json!({"card": null}));
}

#[test]
fn a_refused_command_is_an_error_with_its_class_and_the_client_goes_on() {
    let running = Running::start(ServerOptions::default());
    let mut client = running.client();
    match client.execute("card-eject", JsonObject::new()) {
        Err(ClientError::Command(error)) => assert_eq!(error.class, ErrorClass::DeviceNotActive),
        other => panic!("{other:?}"),
    }
    match client.execute("card-insert", arguments(&["kind=sdexpress"])) {
        Err(error) => assert!(error.to_string().contains("did you mean 'sd-express'"), "{error}"),
        other => panic!("{other:?}"),
    }
    client.execute("card-insert", arguments(&["kind=none"])).unwrap();
}

#[test]
fn one_client_more_than_the_limit_is_refused_and_can_come_when_another_has_left() {
    let running = Running::start(ServerOptions { client_limit: 2, ..ServerOptions::default() });
    let (first, _second) = (running.client(), running.client());
    match Client::connect(&running.path, LONG) {
        Err(ClientError::Refused(reason)) => assert_eq!(reason, "2 clients are connected already"),
        other => panic!("{other:?}"),
    }
    drop(first);
    // The server sees the departure in its own time.
    while let Err(error) = Client::connect(&running.path, LONG) {
        assert!(matches!(error, ClientError::Refused(_)), "{error}");
    }
}

#[test]
fn quit_is_answered_ends_every_client_and_removes_the_socket() {
    let mut running = Running::start(ServerOptions::default());
    let (mut first, mut second) = (running.client(), running.client());
    first.execute("card-insert", arguments(&["kind=none"])).unwrap();
    assert_eq!(first.execute("quit", JsonObject::new()).unwrap(), json!({}));
    let names: Vec<String> = second.events().map(|event| event.unwrap().name).collect();
    assert_eq!(names, ["CARD_INSERTED"]);
    assert!(matches!(first.execute("query-status", JsonObject::new()), Err(ClientError::Closed)));
    running.join();
    assert!(!running.path.exists());
    assert_eq!(running.device.done(), ["card-insert"]);
}

#[test]
fn a_client_without_a_server_says_what_is_wrong_at_once_and_one_that_waits_after_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctl.sock");
    let missing = Client::connect(&path, LONG).unwrap_err().to_string();
    assert!(missing.contains("is the server running?"), "{missing}");
    let waited = Client::connect_when_ready(&path, Duration::from_millis(30)).unwrap_err();
    assert!(matches!(waited, ClientError::Connect { .. }), "{waited}");
    drop(UnixListener::bind(&path).unwrap());
    let stale = Client::connect(&path, LONG).unwrap_err().to_string();
    assert!(stale.contains("the server is gone"), "{stale}");
}

#[test]
fn a_client_that_waits_finds_a_server_that_starts_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctl.sock");
    let waiting = std::thread::spawn({
        let path = path.clone();
        move || {
            Client::connect_when_ready(&path, LONG)
                .unwrap()
                .execute("query-rules", JsonObject::new())
                .unwrap()
        }
    });
    let server = ToyDevice::new(16).server(ServerOptions::default());
    let thread = run(server.clone(), bind(&path).unwrap());
    assert_eq!(waiting.join().unwrap(), json!([]));
    server.stop();
    thread.join().unwrap();
}

#[test]
fn a_server_that_is_silent_or_no_qmp_server_is_told_apart() {
    let (client, silent) = UnixStream::pair().unwrap();
    let error = Client::from_stream(client, Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.to_string(), "no greeting within 20 ms");
    drop(silent);

    let (client, mut other) = UnixStream::pair().unwrap();
    other.write_all(b"{\"hello\": 1}\n").unwrap();
    let error = Client::from_stream(client, LONG).unwrap_err();
    assert!(matches!(error, ClientError::NoGreeting(_)), "{error}");

    let (client, mut ssh) = UnixStream::pair().unwrap();
    ssh.write_all(b"SSH-2.0-x\r\n").unwrap();
    let error = Client::from_stream(client, LONG).unwrap_err();
    assert!(matches!(error, ClientError::Frame(_)), "{error}");
}
