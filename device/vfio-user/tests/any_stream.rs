//! Any stream of bytes, cut anywhere, leaves the server in step or the connection closed for a reason that is in the log.
//!
//! The cases are the same in every run; `device/fuzz` looks for others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tracing_subscriber::fmt::MakeWriter;
use vfio_user_server::framing::{Framer, Message, Unframed};
use vfio_user_server::{
    Description, Device, Ended, Errno, GuestMemory, Interrupts, IrqType, Limits, Options, Region, Server,
    Visit,
};

const VERSION: u16 = 1;
const REGION_READ: u16 = 9;
const NO_REPLY: u32 = 0x10;
const LIMITS: Limits = Limits { max_data_xfer_bytes: 1024, max_msg_fds: 8, max_dma_maps: 4 };
/// A message that is as long as this is completed; the client leaves in the middle of a longer one.
const MOST_COMPLETED: usize = 64 * 1024;
/// Id and offset of the request that comes after the stream.
const PROBE_ID: u16 = 0xbeef;
const PROBE_OFFSET: u64 = 5;

fn message(id: u16, command: u16, flags: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = [id.to_ne_bytes(), command.to_ne_bytes()].concat();
    bytes.extend(u32::try_from(16 + body.len()).unwrap().to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

fn version() -> Vec<u8> {
    message(0, VERSION, 0, b"\0\0\x01\0{\"capabilities\":{\"max_msg_fds\":8,\"write_multiple\":true}}\0")
}

fn access(offset: u64, region: u32, count: u32) -> Vec<u8> {
    [&offset.to_ne_bytes()[..], &region.to_ne_bytes(), &count.to_ne_bytes()].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Command and body of a request that is laid out as it should be.
fn well_formed() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let reads =
        (0..5000u64, 0..3u32, 0..1100u32).prop_map(|(at, region, count)| (9, access(at, region, count)));
    let writes =
        (0..5000u64, 0..3u32, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(at, region, data)| {
            (10, [access(at, region, u32::try_from(data.len()).unwrap()), data].concat())
        });
    let several = prop::collection::vec((0..5000u64, 0..3u32, 0..9u32), 0..4).prop_map(|all| {
        let mut body = (all.len() as u64).to_ne_bytes().to_vec();
        all.iter()
            .for_each(|(at, region, count)| body.extend([access(*at, *region, *count), vec![7; 8]].concat()));
        (15, body)
    });
    let maps = (0..4u32, 0..6u32, 0..3u32)
        .prop_map(|(flags, at, size)| (2, words(&[32, flags, 0, 0, at << 12, 0, size << 12, 0])));
    let unmaps = (0..3u32, 0..6u32, 0..3u32)
        .prop_map(|(flags, at, size)| (3, words(&[24, flags, at << 12, 0, size << 12, 0])));
    let set_irqs = (0..64u32, 0..3u32, 0..4u32, 0..4u32)
        .prop_map(|(flags, index, start, count)| (8, words(&[20, flags, index, start, count])));
    prop_oneof![
        3 => reads,
        2 => writes,
        1 => several,
        1 => maps,
        1 => unmaps,
        1 => set_irqs,
        1 => Just((4, words(&[16, 0, 0, 0]))),
        1 => (0..12u32).prop_map(|index| (5, words(&[32, 0, index, 0, 0, 0, 0, 0]))),
        1 => (0..6u32).prop_map(|index| (7, words(&[16, 0, index, 0]))),
        1 => Just((13, Vec::new())),
    ]
}

/// What a piece of a stream can be: a good message, a damaged one, or anything.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let flags = prop_oneof![6 => Just(0), 2 => Just(NO_REPLY), 1 => Just(1), 1 => any::<u32>()];
    let good = (any::<u16>(), well_formed(), flags)
        .prop_map(|(id, (command, body), flags)| message(id, command, flags, &body))
        .boxed();
    let flipped =
        (good.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, by)| {
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            bytes
        });
    // A header that claims another length than the message has.
    let lengths = prop_oneof![4 => 16..4096u32, 3 => 0..16u32, 1 => any::<u32>()];
    let claimed = (good.clone(), lengths).prop_map(|(mut bytes, length)| {
        bytes[4..8].copy_from_slice(&length.to_ne_bytes());
        bytes
    });
    let padded = (good.clone(), 1..1200usize).prop_map(|(bytes, more)| {
        let body = [&bytes[16..], &vec![0x99; more]].concat();
        message(7, u16::from_ne_bytes([bytes[2], bytes[3]]), 0, &body)
    });
    let random = prop::collection::vec(any::<u8>(), 1..60);
    prop_oneof![12 => good, 3 => flipped, 1 => claimed, 2 => padded, 1 => random]
}

/// A stream, and the lengths of the pieces that it is cut to, again from the front when they are used up.
fn stream() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let pieces = prop::collection::vec(piece(), 0..24).prop_map(|pieces| pieces.concat());
    let cuts = prop_oneof![1 => Just(vec![1]), 8 => prop::collection::vec(1..200usize, 1..8)];
    (pieces, cuts)
}

fn cut<'a>(stream: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = stream;
    let mut lengths = lengths.iter().cycle();
    std::iter::from_fn(move || {
        let (now, later) = rest.split_at((*lengths.next()?).min(rest.len()));
        rest = later;
        (!now.is_empty()).then_some(now)
    })
}

/// How a stream leaves whoever reads it.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    /// After so many bytes of a message that is to have so many.
    Within(usize, usize),
    /// After a header that cannot be one.
    Lost(u32),
}

/// Bounds of the complete messages in `stream`, and how it ends: told from the lengths in the headers alone.
fn messages(stream: &[u8]) -> (Vec<&[u8]>, Left) {
    let mut all = Vec::new();
    let mut rest = stream;
    loop {
        let Some(length) = rest.get(4..8).filter(|_| rest.len() >= 16) else {
            return (all, Left::Within(rest.len(), if rest.is_empty() { 0 } else { 16 }));
        };
        let length = u32::from_ne_bytes(length.try_into().unwrap());
        if length < 16 {
            return (all, Left::Lost(length));
        }
        let length = usize::try_from(length).unwrap();
        if rest.len() < length {
            return (all, Left::Within(rest.len(), length));
        }
        let (message, later) = rest.split_at(length);
        all.push(message);
        rest = later;
    }
}

fn first(bytes: &[u8]) -> [u8; 4] {
    *bytes.first_chunk().unwrap()
}

/// Id and command of every message that is owed an answer.
fn owed(messages: &[&[u8]]) -> Vec<[u8; 4]> {
    let wants = |message: &&&[u8]| message[8] & 0xf != 1 && message[8] & 0x10 == 0;
    messages.iter().filter(wants).map(|message| first(message)).collect()
}

/// A page of memory, and a region whose bytes are the low bytes of their offsets.
struct Page(Vec<u8>);

impl Device for Page {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        let at = usize::try_from(offset).unwrap();
        match region {
            0 => data.copy_from_slice(&self.0[at..at + data.len()]),
            _ => (at..).zip(data).for_each(|(at, byte)| *byte = at.to_ne_bytes()[0]),
        }
        Ok(())
    }

    fn region_write(&mut self, _region: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let at = usize::try_from(offset).unwrap();
        self.0[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn reset(&mut self) -> Result<(), Errno> {
        self.0.fill(0);
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Sends `pieces` to a server until it closes; returns what it answered, its visit and its log.
fn converse<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Visit, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vfu.sock");
    let read_only = Region { size: 4096, readable: true, ..Region::default() };
    let description = Description {
        regions: vec![Region::read_write(4096), read_only],
        irqs: vec![IrqType::eventfds(3)],
        resettable: true,
    };
    let (memory, interrupts) = (GuestMemory::new(), Interrupts::new(&description));
    let options = Options { limits: LIMITS, ..Options::default() };
    let listener = UnixListener::bind(&path).unwrap();
    let server = Server::new(listener, description, memory.clone(), interrupts, options).unwrap();
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
    let mut client = UnixStream::connect(&path).unwrap();
    let mut reader = client.try_clone().unwrap();
    let (visit, answers) = std::thread::scope(|scope| {
        let served = scope.spawn(|| {
            tracing::subscriber::with_default(subscriber, || server.serve_one(&mut Page(vec![0; 4096])))
        });
        // Answers are read all the while, so that nobody waits for room.
        let answers = scope.spawn(move || {
            let mut answers = Vec::new();
            // A server that closes with bytes unread resets the connection; what it answered before is there.
            let _ = reader.read_to_end(&mut answers);
            answers
        });
        for piece in pieces {
            // It may have closed already.
            if client.write_all(piece).is_err() {
                break;
            }
        }
        let _ = client.shutdown(std::net::Shutdown::Write);
        (served.join().unwrap().unwrap().unwrap(), answers.join().unwrap())
    });
    assert_eq!(memory.ranges(), 0, "guest memory is left");
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    (answers, visit, log)
}

/// Bytes of memory that this process has now.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
}

/// Sends a stream to a server, checks what becomes of it, and returns how it ended.
fn check_any_stream(stream: &[u8], cuts: &[usize]) -> Ended {
    let mut stream = [&version()[..], stream].concat();
    // A message that is not complete gets the rest of its bytes, if these are few: the next one must be understood.
    loop {
        match messages(&stream).1 {
            Left::Within(is, length) if is != length && length <= MOST_COMPLETED => {
                stream.resize(stream.len() - is + length, 0);
            }
            _ => break,
        }
    }
    let probe = message(PROBE_ID, REGION_READ, 0, &access(PROBE_OFFSET, 1, 3));
    let in_step = messages(&stream).1 == Left::Within(0, 0);
    if in_step {
        stream.extend(&probe);
    }
    let (all, left) = messages(&stream);
    let (answers, visit, log) = converse(cut(&stream, cuts));

    let (answers, rest) = messages(&answers);
    assert_eq!(rest, Left::Within(0, 0), "answers are whole messages");
    assert_eq!(owed(&all), answers.iter().map(|answer| first(answer)).collect::<Vec<_>>());
    for answer in &answers {
        let [flags, error] = [8, 12].map(|at| u32::from_ne_bytes(first(&answer[at..])));
        let right = match flags {
            0x01 => error == 0,
            0x21 => (1..4096).contains(&error),
            _ => false,
        };
        assert!(right, "an answer with flags {flags:#x} and error {error}");
    }
    let expected = match left {
        Left::Within(0, _) => Ended::ClientLeft,
        Left::Within(is, _) => Ended::MidMessage(is),
        Left::Lost(length) => Ended::Unframed(Unframed::Short(length)),
    };
    assert_eq!(visit.ended, expected);
    assert_eq!(visit.counters.messages, all.len() as u64);
    if in_step {
        let body = [access(PROBE_OFFSET, 1, 3), vec![5, 6, 7]].concat();
        assert_eq!(*answers.last().unwrap(), message(PROBE_ID, REGION_READ, 1, &body));
    }
    let closed = log.lines().find(|line| line.contains("connection closed")).expect("the end is in the log");
    assert!(closed.contains(&visit.ended.to_string()), "no reason: {closed}");
    assert_eq!(closed.contains("WARN"), !in_step, "{closed}");
    assert_eq!(log.contains("refused a message"), visit.counters.refused != 0, "{log}");
    visit.ended
}

#[test]
fn any_stream_leaves_the_server_in_step_or_the_connection_closed_for_a_logged_reason() {
    let before = resident_bytes();
    let ends = RefCell::new([0; 3]);
    runner(400)
        .run(&stream(), |(stream, cuts)| {
            let kind = match check_any_stream(&stream, &cuts) {
                Ended::ClientLeft => 0,
                Ended::MidMessage(_) => 1,
                _ => 2,
            };
            ends.borrow_mut()[kind] += 1;
            Ok(())
        })
        .unwrap();
    let ends = ends.into_inner();
    assert!(ends.iter().all(|count| *count >= 20), "each end is there, and often: {ends:?}");
    // A message of 4 GiB that was kept, or every stream, would be more.
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more than before");
}

#[test]
fn any_stream_gives_the_same_messages_however_it_is_cut_and_little_is_held() {
    let limit = LIMITS.message_bytes();
    runner(2000)
        .run(&stream(), |(stream, cuts)| {
            let (expected, left) = messages(&stream);
            let mut framer = Framer::new(limit);
            let most = framer.held_bytes();
            let (mut message, mut count, mut lost) = (Message::default(), 0, None);
            for piece in cut(&stream, &cuts) {
                framer.space()[..piece.len()].copy_from_slice(piece);
                framer.received(piece.len(), Vec::new(), false);
                assert_eq!(framer.held_bytes(), most);
                while lost.is_none() {
                    match framer.take(&mut message) {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(error) => {
                            lost = Some(error);
                            break;
                        }
                    }
                    let is = expected[count];
                    count += 1;
                    assert_eq!(message.header.encode(), is[..16]);
                    if is.len() > limit {
                        assert!(message.damage.is_some() && message.body.is_empty());
                    } else {
                        assert_eq!(message.body, is[16..]);
                    }
                }
                if lost.is_some() {
                    break;
                }
            }
            assert_eq!(count, expected.len());
            match left {
                Left::Within(bytes, _) => assert_eq!((lost, framer.pending_bytes()), (None, bytes)),
                Left::Lost(length) => assert_eq!(lost, Some(Unframed::Short(length))),
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn endless_message_is_dropped_as_it_comes() {
    let mut client_says = version();
    let mut header = message(1, REGION_READ, 0, &[]);
    header[4..8].copy_from_slice(&(64u32 << 20).to_ne_bytes());
    client_says.extend(&header);
    let megabyte = vec![0x11; 1 << 20];
    let before = resident_bytes();
    let pieces = std::iter::once(&client_says[..]).chain(std::iter::repeat_n(&megabyte[..], 63));
    let (_, visit, log) = converse(pieces);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more than before, for a message that is not kept");
    assert_eq!(visit.ended, Ended::MidMessage((63 << 20) + 16));
    assert!(log.contains("in the middle of a message, after 66060304 bytes"), "{log}");
}
