//! What a client does, decoded from the fuzzer's bytes so that the deep code is reached first: most scripts begin with a
//! good VERSION, most messages are well-formed, and most numbers are such as to hit something.

use arbitrary::{Arbitrary, Result, Unstructured};
use vfio_user_server::request::{DmaMap, DmaUnmap, IrqAction, IrqData, RegionAccess, Request, SetIrqs};
use vfio_user_server::spec::{Command, FLAG_NO_REPLY};
use vfio_user_server::version::{Capabilities, Proposal};

use crate::device::{ORDERS, SIGNATURE};
use crate::wire;

/// Most data in one message that the fuzzed server allows: few bytes are too many already.
pub const MAX_DATA_BYTES: u32 = 2048;
/// Most ranges of guest memory that the fuzzed server allows.
pub const MAX_DMA_MAPS: u32 = 8;
/// Most actions in a script.
const MOST_ACTIONS: usize = 48;
/// Most descriptors in a script, a little more than two messages can have.
const MOST_FDS: usize = 520;

/// One piece of a client's stream, as it is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Kinds of the descriptors that go with them ([`crate::files`]).
    pub fds: Vec<u8>,
}

/// A step of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Bytes go out.
    Send(Piece),
    /// The client waits until it has every answer that it is owed.
    Wait,
    /// The client's file that can shrink gets so many pages.
    Resize(u8),
}

/// How the client treats a DMA message from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub enum Answer {
    /// As the specification says.
    Right,
    /// As QEMU answers a write: a header and nothing else. A read is answered so too.
    Bare,
    /// With an error, whose number may be 0 or none that there is.
    Error(u32),
    /// With so many bytes more or less than there should be.
    Length(i8),
    /// As the answer to another command.
    OtherCommand(u8),
    /// With another id, and then rightly.
    OtherId(u16),
    /// Twice.
    Twice,
    /// Not before the client's next step.
    Late,
    /// Not at all.
    Never,
    /// After a read of the signature.
    AfterRequest,
    /// In two pieces.
    InTwo(u8),
    /// With flags that are neither a command's nor a reply's.
    Flags(u8),
}

/// How a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub enum Leave {
    /// It says that it sends no more, and reads what still comes.
    Politely,
    /// It closes its socket, whatever is in it.
    AtOnce,
}

/// What a client does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Over a socket to a whole server; else to a session in this process, which takes a fraction of the time.
    pub socket: bool,
    /// The server polls before it sleeps.
    pub polling: bool,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// How DMA messages are answered: one after the other, and rightly when these are used up.
    pub answers: Vec<Answer>,
    /// How it ends.
    pub leave: Leave,
}

impl Script {
    /// Descriptors in the whole of it.
    #[must_use]
    pub fn fds(&self) -> usize {
        let of = |step: &Step| if let Step::Send(piece) = step { piece.fds.len() } else { 0 };
        self.steps.iter().map(of).sum()
    }
}

/// Well-formed requests in scripts' terms, with numbers that are small, mostly.
struct Source<'a, 'b> {
    u: &'b mut Unstructured<'a>,
}

impl Source<'_, '_> {
    /// Mostly below `usual`, rarely anything.
    fn number(&mut self, usual: u64) -> Result<u64> {
        if self.u.ratio(1, 12)? { self.u.arbitrary() } else { self.u.int_in_range(0..=usual - 1) }
    }

    fn small(&mut self, usual: u32) -> Result<u32> {
        Ok(self.number(usual.into())? as u32)
    }

    /// Guest memory: a few pages, and a little to the side of their beginnings.
    fn address(&mut self) -> Result<u64> {
        let aside = if self.u.ratio(1, 4)? { self.number(16)? } else { 0 };
        Ok((self.number(8)?.wrapping_mul(4096)).wrapping_add(aside))
    }

    fn access(&mut self, region: u32) -> Result<RegionAccess> {
        let region = if self.u.ratio(1, 3)? { self.small(10)? } else { region };
        let count = match self.u.int_in_range(0..=7u32)? {
            0 => self.small(MAX_DATA_BYTES + 64)?,
            1 => self.small(64)?,
            power => 1 << (power % 4),
        };
        Ok(RegionAccess { offset: self.number(4096)?, region, count })
    }

    fn data(&mut self, count: u32) -> Result<Vec<u8>> {
        let mut data = vec![0; count.min(4 * MAX_DATA_BYTES) as usize];
        let given = data.len().min(self.u.len());
        self.u.fill_buffer(&mut data[..given])?;
        Ok(data)
    }

    /// A write to the register that makes the device use guest memory or interrupts.
    fn order(&mut self) -> Result<(RegionAccess, Vec<u8>)> {
        let mut data = vec![self.u.arbitrary()?, self.u.arbitrary()?];
        data.extend(self.address()?.to_le_bytes());
        let access = RegionAccess { offset: 0, region: ORDERS, count: data.len() as u32 };
        Ok((access, data))
    }

    fn proposal(&mut self) -> Result<Proposal> {
        let u = &mut *self.u;
        let small = |u: &mut Unstructured<'_>| -> Result<Option<u32>> {
            Ok(match u.int_in_range(0..=3u8)? {
                0 => None,
                1 => Some(u.int_in_range(0..=600)?),
                _ => Some(1 << 20),
            })
        };
        let capabilities = Capabilities {
            max_msg_fds: small(u)?,
            max_data_xfer_size: small(u)?,
            max_dma_maps: small(u)?,
            pgsizes: u.arbitrary()?,
            write_multiple: if u.ratio(1, 8)? { u.arbitrary()? } else { Some(true) },
        };
        let capabilities = (!u.ratio(1, 16)?).then_some(capabilities);
        Ok(Proposal { major: 0, minor: 1, capabilities })
    }

    /// A request's command and body, and the kinds of descriptors that belong to it.
    fn request(&mut self) -> Result<(Command, Vec<u8>, Vec<u8>)> {
        let mut fds = Vec::new();
        let encoded = match self.u.int_in_range(0..=19u8)? {
            0..=1 => wire::encode(&Request::RegionRead(self.access(SIGNATURE)?)),
            2..=3 => {
                let access = self.access(0)?;
                let data = self.data(access.count)?;
                wire::encode(&Request::RegionWrite(access, &data))
            }
            4..=7 => {
                let (access, data) = self.order()?;
                wire::encode(&Request::RegionWrite(access, &data))
            }
            8 => {
                let mut writes = Vec::new();
                for _ in 0..self.small(5)?.min(40) {
                    let mut access = self.access(0)?;
                    access.count %= 9;
                    let data = self.data(access.count)?;
                    writes.push((access, data));
                }
                let writes = writes.iter().map(|(access, data)| (*access, &data[..])).collect();
                wire::encode(&Request::RegionWriteMulti(writes))
            }
            9..=12 => {
                let flags = self.u.int_in_range(0..=7u8)?;
                let map = DmaMap {
                    readable: flags != 1,
                    writable: flags != 2,
                    offset: self.number(3)?.wrapping_mul(4096),
                    address: self.address()?,
                    size: self.number(4)?.wrapping_mul(4096),
                };
                // Without a descriptor it is DMA by messages.
                if self.u.ratio(2, 3)? {
                    fds.push(self.u.arbitrary()?);
                }
                wire::encode(&Request::DmaMap(map))
            }
            13 => {
                let flags = if self.u.ratio(1, 4)? { self.small(4)? } else { 0 };
                let unmap = DmaUnmap {
                    argsz: 24,
                    flags,
                    address: self.address()?,
                    size: self.number(9)?.wrapping_mul(4096),
                };
                let all = DmaUnmap { flags: 2, address: 0, size: 0, ..unmap };
                wire::encode(&Request::DmaUnmap(if flags & 2 == 0 { unmap } else { all }))
            }
            14 => wire::encode(&Request::DeviceGetInfo),
            15 => {
                let (argsz, index) = (self.small(2000)?.wrapping_add(16), self.small(10)?);
                if self.u.arbitrary()? {
                    wire::encode(&Request::DeviceGetRegionInfo { argsz, index })
                } else {
                    wire::encode(&Request::DeviceGetRegionIoFds { argsz, index })
                }
            }
            16 => wire::encode(&Request::DeviceGetIrqInfo { index: self.small(6)? }),
            17..=18 => {
                let (index, start) = (self.small(6)?, if self.u.arbitrary()? { 0 } else { self.small(300)? });
                let count = self.small(6)?;
                let action = *self.u.choose(&[
                    IrqAction::Trigger,
                    IrqAction::Trigger,
                    IrqAction::Mask,
                    IrqAction::Unmask,
                ])?;
                let kind = self.u.int_in_range(0..=2u8)?;
                let bools = self.data(if kind == 1 { count } else { 0 })?;
                let data = match kind {
                    0 => IrqData::None,
                    1 => IrqData::Bool(&bools),
                    _ => {
                        for _ in 0..count.min(16) {
                            fds.push(2 + self.u.int_in_range(0..=1)?);
                        }
                        IrqData::Eventfd
                    }
                };
                wire::encode(&Request::DeviceSetIrqs(SetIrqs { action, data, index, start, count }))
            }
            _ => match self.u.int_in_range(0..=5u8)? {
                0 => wire::encode(&Request::Version(self.proposal()?)),
                1 => (Command::DmaRead, vec![0; 16]),
                2 => (Command::DeviceFeature, self.data(8)?),
                3 => (Command::MigDataRead, self.data(8)?),
                _ => wire::encode(&Request::DeviceReset),
            },
        };
        let (command, mut body) = encoded;
        // A header says at most 4 GiB, a script does not carry them.
        body.truncate(5 * MAX_DATA_BYTES as usize);
        Ok((command, body, fds))
    }

    /// A message, most of the time as it should be.
    fn message(&mut self) -> Result<Piece> {
        let (command, mut body, mut fds) = self.request()?;
        let mut command = command.number();
        let id = self.u.arbitrary()?;
        let mut flags = if self.u.ratio(1, 5)? { FLAG_NO_REPLY } else { 0 };
        let mut claimed = None;
        if self.u.ratio(1, 5)? {
            match self.u.int_in_range(0..=9u8)? {
                0 => body.truncate(usize::from(self.u.arbitrary::<u8>()?)),
                1 => {
                    let more = self.u.int_in_range(1..=40u32)?;
                    body.extend(self.data(more)?);
                }
                2..=4 if !body.is_empty() => {
                    let at = self.u.choose_index(body.len())?;
                    body[at] = self.u.arbitrary()?;
                }
                5 => flags = self.u.arbitrary()?,
                6 => command = self.u.int_in_range(0..=20)?,
                // A message that is too long, whose bytes may come or not.
                7 => body.resize(MAX_DATA_BYTES as usize + self.u.int_in_range(0..=100)?, 0x55),
                8 => claimed = Some(self.number(MAX_DATA_BYTES as u64 * 2)? as u32),
                _ => {
                    let count = if self.u.ratio(1, 6)? { 253 } else { self.u.int_in_range(0..=20)? };
                    let kind: u8 = self.u.arbitrary()?;
                    fds.extend(std::iter::repeat_n(kind, count));
                }
            }
        }
        let mut bytes = wire::message(id, command, flags, 0, &body);
        if let Some(claimed) = claimed {
            bytes[4..8].copy_from_slice(&claimed.to_ne_bytes());
        }
        fds.truncate(253);
        Ok(Piece { bytes, fds })
    }

    /// Cuts a piece in several; its descriptors go with the first.
    fn cut(&mut self, piece: Piece, steps: &mut Vec<Step>) -> Result<()> {
        let mut rest = piece;
        while rest.bytes.len() > 1 && self.u.ratio(1, 2)? {
            let most = rest.bytes.len() - 1;
            let at = if self.u.arbitrary()? { most.min(17) } else { most };
            let at = self.u.int_in_range(1..=at)?;
            let bytes = rest.bytes.split_off(at);
            // Some clients would send descriptors with any piece.
            let later = rest.fds.len().saturating_sub(usize::from(self.u.arbitrary::<bool>()?));
            let fds = rest.fds.split_off(later);
            steps.push(Step::Send(std::mem::replace(&mut rest, Piece { bytes, fds })));
        }
        steps.push(Step::Send(rest));
        Ok(())
    }
}

impl<'a> Arbitrary<'a> for Script {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        // Sockets take ten times as long as a session does.
        let socket = u.ratio(1, 3)?;
        let (polling, leave) = (u.arbitrary()?, if u.ratio(1, 4)? { Leave::AtOnce } else { Leave::Politely });
        let answers = {
            let count = u.int_in_range(0..=6)?;
            (0..count).map(|_| u.arbitrary()).collect::<Result<_>>()?
        };
        let mut steps = Vec::new();
        let mut source = Source { u };
        if !source.u.ratio(1, 16)? {
            let proposal = source.proposal()?;
            let (command, body) = wire::encode(&Request::Version(proposal));
            let bytes = wire::message(source.u.arbitrary()?, command.number(), 0, 0, &body);
            steps.push(Step::Send(Piece { bytes, fds: Vec::new() }));
        }
        // Messages that go out in one piece.
        let mut together = Piece::default();
        for _ in 0..MOST_ACTIONS {
            if source.u.is_empty() {
                break;
            }
            match source.u.int_in_range(0..=15u8)? {
                0 => {
                    let bytes = source.data(40)?;
                    together.bytes.extend(bytes);
                }
                1 => {
                    // A reply that nobody waits for, or one to a DMA message that is sent later.
                    let (id, errno) = (source.small(4)? as u16, source.u.arbitrary()?);
                    let command = source.u.int_in_range(9..=13)?;
                    let body = source.data(24)?;
                    together.bytes.extend(wire::reply(id, command, errno, &body));
                }
                2 => steps.push(Step::Wait),
                3 => steps.push(Step::Resize(source.u.int_in_range(0..=4)?)),
                4..=6 => {
                    let piece = source.message()?;
                    source.cut(piece, &mut steps)?;
                }
                7..=8 => {
                    let piece = source.message()?;
                    together.bytes.extend(piece.bytes);
                    together.fds.extend(piece.fds);
                    continue;
                }
                _ => steps.push(Step::Send(source.message()?)),
            }
            if !together.bytes.is_empty() {
                together.fds.truncate(253);
                let at = steps.len() - source.u.int_in_range(0..=1)?.min(steps.len());
                steps.insert(at, Step::Send(std::mem::take(&mut together)));
            }
        }
        let mut fds = 0;
        for step in &mut steps {
            let Step::Send(piece) = step else { continue };
            piece.fds.truncate(MOST_FDS - fds);
            fds += piece.fds.len();
        }
        Ok(Self { socket, polling, steps, answers, leave })
    }
}
