//! Bytes to messages and back, without I/O.
//!
//! - A stream, cut anywhere and with descriptors at some of the cuts, gives the same messages as it does in one piece;
//!   each has the bytes that were put in, and the descriptors of the cuts that end in it; nothing is held beyond the limit.
//! - A body either is refused with an errno, or is decoded to a request that, encoded again, is decoded to the same.
#![no_main]

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sdmorph_fuzz::stream::{End, Stream};
use sdmorph_fuzz::{files, wire};
use vfio_user_server::framing::{Framer, Message, Unframed};
use vfio_user_server::header::Header;
use vfio_user_server::request::Request;
use vfio_user_server::spec::SCM_MAX_FDS;
use vfio_user_server::version::Proposal;

/// Space that a framer has for one receive, whatever the limit.
const RECEIVE_BYTES: usize = 64 * 1024;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    /// Longest message that is kept, in units of 16 bytes.
    limit: u16,
    /// Receives: how many bytes at most, with how many descriptors, and whether the kernel lost some. Again from the
    /// front when they are used up.
    receives: Vec<Receive>,
    stream: &'a [u8],
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Receive {
    bytes: u16,
    fds: u8,
}

impl Receive {
    /// Mostly none, sometimes a few, and rarely as many as the kernel passes.
    fn fd_count(self) -> usize {
        match self.fds {
            0..=0xbf => 0,
            0xfe..=0xff => SCM_MAX_FDS,
            few => usize::from(few & 7),
        }
    }
}

fn decode(header: &Header, body: &[u8]) {
    match Request::decode(header, body) {
        Err(refusal) => assert_ne!(refusal.errno.raw_os_error(), 0, "{refusal}"),
        Ok(request) => {
            let (command, again) = wire::encode(&request);
            assert_eq!(command.number(), header.command);
            assert_eq!(Request::decode(header, &again).as_ref(), Ok(&request), "encoded again");
            // Lengths are exact: a byte less or more is another message.
            let data_follow = matches!(request, Request::Version(_));
            if !data_follow {
                let longer = [body, &[0]].concat();
                assert!(Request::decode(header, &longer).is_err(), "one byte more");
                if let Some((_, shorter)) = body.split_last() {
                    assert!(Request::decode(header, &body[..shorter.len()]).is_err(), "one byte less");
                }
            }
        }
    }
}

fn frame(input: &Input<'_>) {
    let limit = usize::from(input.limit) * 16;
    let mut framer = Framer::new(limit);
    let limit = limit.max(wire::HEADER);
    let mut oracle = Stream::default();
    let mut message = Message::default();
    let mut receives = input.receives.iter().cycle();
    let mut rest = input.stream;
    let mut taken = 0;
    // Descriptors that are not taken yet: the position of the last byte that they came with, and how many.
    let mut fds_at: VecDeque<(usize, usize)> = VecDeque::new();
    let mut fds_left = 2 * SCM_MAX_FDS + 20;
    while !rest.is_empty() {
        let receive = receives.next().copied().unwrap_or(Receive { bytes: u16::MAX, fds: 0 });
        let space = framer.space();
        assert!(!space.is_empty());
        let count = usize::from(receive.bytes).clamp(1, rest.len().min(space.len()));
        let (now, later) = rest.split_at(count);
        rest = later;
        space[..count].copy_from_slice(now);
        oracle.extend(now);
        let fds = receive.fd_count().min(fds_left);
        fds_left -= fds;
        let owned: Vec<OwnedFd> = (0..fds).map(|_| files::of_kind(2).try_clone_to_owned().unwrap()).collect();
        if fds != 0 {
            fds_at.push_back((oracle.bytes().len(), fds));
        }
        framer.received(count, owned, false);
        assert!(framer.held_bytes() <= RECEIVE_BYTES.max(limit) + 1, "{} bytes held", framer.held_bytes());
        loop {
            match framer.take(&mut message) {
                Ok(true) => {
                    let sent = oracle.sent().get(taken).expect("no more messages than were sent");
                    taken += 1;
                    assert_eq!(
                        (message.header.id, message.header.command, message.header.flags),
                        (sent.id, sent.command, sent.flags)
                    );
                    let mut fds = 0;
                    while fds_at.front().is_some_and(|(last, _)| *last <= sent.end) {
                        fds += fds_at.pop_front().map_or(0, |(_, count)| count);
                    }
                    if sent.end - sent.start > limit {
                        assert!(
                            message.damage.is_some() && message.body.is_empty() && message.fds.is_empty()
                        );
                    } else {
                        assert!(fds <= SCM_MAX_FDS, "more than a message can have");
                        assert_eq!(message.body, oracle.body(sent));
                        assert_eq!(message.fds.len(), fds);
                        assert_eq!(message.damage, None);
                        decode(&message.header, &message.body);
                    }
                }
                Ok(false) => {
                    assert_eq!(taken, oracle.sent().len(), "a message is complete and not taken");
                    let End::Partial(bytes) = oracle.end() else { panic!("a short message is not refused") };
                    assert_eq!(framer.pending_bytes(), bytes);
                    let waiting: usize = fds_at.iter().map(|(_, count)| count).sum();
                    // Those of a message that is too long go with its bytes.
                    let too_long = oracle.announced().is_some_and(|length| length > limit);
                    assert!(too_long || waiting <= SCM_MAX_FDS, "{waiting} descriptors for one message");
                    break;
                }
                Err(Unframed::Short(bytes)) => {
                    assert_eq!(taken, oracle.sent().len());
                    assert_eq!(oracle.end(), End::Short(bytes));
                    return;
                }
                Err(Unframed::Descriptors) => {
                    let came: usize = fds_at.iter().map(|(_, count)| count).sum();
                    assert!(came > SCM_MAX_FDS, "ended for {came} descriptors");
                    return;
                }
            }
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let stream = input.stream;
    if let Some((header, body)) = stream.split_first_chunk() {
        let decoded = Header::decode(*header);
        assert_eq!(decoded.encode(), *header);
        assert!(decoded.errno().is_none_or(|errno| errno.raw_os_error() != 0));
        decode(&decoded, body);
    }
    if let Ok(proposal) = Proposal::decode(0, 1, stream) {
        let body = proposal.encode();
        assert_eq!(Proposal::decode(0, 1, &body[4..]).as_ref(), Ok(&proposal));
    }
    frame(&input);
});
