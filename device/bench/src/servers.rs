//! The servers that are measured, each in a process of its own: what `serve` does.

use std::fs::File;
use std::io::{self, BufRead, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use rustix::io::retry_on_intr;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendFlags, recv, recvmsg, send};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use vfio_bindings::bindings::vfio::{
    VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, ServerBackend, ServerRegion};
use vfio_user_server::header::Header;
use vfio_user_server::spec::{Command, SCM_MAX_FDS, TYPE_REPLY};
use vfio_user_server::{
    Description, Device, Errno, GuestMemory, Interrupts, IrqType, Options, Region, Server,
};

use crate::arguments::ServeOptions;
use crate::client::{READ_BYTES, READ_REPLY_BYTES};
use crate::device::{IRQS, NoSuchRegister, Page, REGIONS, region_bytes};
use crate::placement::pin;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ServerKind {
    /// A Unix socket ping-pong: receives as many bytes as a read has, sends as many as its reply has, and does nothing.
    Bare,
    /// The same, but it receives as whoever takes file descriptors has to: `recvmsg(2)` with room for them.
    BareTaking,
    /// A ping-pong that receives as [`ServerKind::BareTaking`] does and never sleeps while it has a client: what polling
    /// brings on this machine.
    BarePolling,
    /// This project's server as it is by default: it polls before it sleeps.
    Own,
    /// This project's server with polling off.
    OwnSleeping,
    /// The server of the crate `vfio_user`.
    Crate,
}

impl ServerKind {
    /// All of them, in the order in which they take turns.
    pub(crate) const ALL: [Self; 6] =
        [Self::Bare, Self::BareTaking, Self::BarePolling, Self::Own, Self::OwnSleeping, Self::Crate];
    /// Those that QEMU can be a client of.
    pub(crate) const VFIO_USER: [Self; 3] = [Self::Own, Self::OwnSleeping, Self::Crate];

    /// Whether it speaks the protocol; else it knows reads only.
    pub(crate) fn is_vfio_user(self) -> bool {
        !matches!(self, Self::Bare | Self::BareTaking | Self::BarePolling)
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Bare => "bare socket",
            Self::BareTaking => "  taking descriptors",
            Self::BarePolling => "  taking, and polling",
            Self::Own => "vfio-user-server",
            Self::OwnSleeping => "  with polling off",
            Self::Crate => "crate vfio_user",
        }
    }
}

/// What a server tells the process that started it, one line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Said {
    /// It listens.
    Ready,
    /// Processor time of the process so far, the answer to [`ASK_CPU`].
    Cpu {
        /// In nanoseconds.
        ns: u64,
    },
    /// The guest has done its reads.
    Done,
    /// Its client has left.
    Left {
        /// What the server itself counted, if it counts.
        calls: Option<Counted>,
        /// Times between reads, if they were kept.
        intervals_ns: Vec<u64>,
    },
}

/// The line that asks for processor time.
pub(crate) const ASK_CPU: &str = "cpu";

/// What a server counted during one client's visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) messages: u64,
    pub(crate) receives: u64,
    /// Receives while polling that brought nothing.
    pub(crate) empty_receives: u64,
    pub(crate) sends: u64,
}

/// Serves until the process ends, which it does when standard input does.
pub(crate) fn run(options: &ServeOptions) -> Result<()> {
    if let Some(cpu) = options.cpu {
        pin(cpu)?;
    }
    std::thread::spawn(obey);
    let page = Page::new(options.keep_arrivals, || tell(&Said::Done));
    match options.kind {
        ServerKind::Bare => bare(UnixListener::bind(&options.socket)?, receive),
        ServerKind::BareTaking => bare(UnixListener::bind(&options.socket)?, receive_with_descriptors),
        ServerKind::BarePolling => bare(UnixListener::bind(&options.socket)?, receive_polling),
        ServerKind::Own => own(options, page, Options::default().polling),
        ServerKind::OwnSleeping => own(options, page, Duration::ZERO),
        ServerKind::Crate => of_the_crate(options, page),
    }
}

/// Answers what comes over standard input. Its end is that of the process: nobody is left who would kill it.
fn obey() {
    for line in io::stdin().lock().lines().map_while(io::Result::ok) {
        if line == ASK_CPU {
            let time = clock_gettime(ClockId::ProcessCPUTime);
            let ns = u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
                + u64::try_from(time.tv_nsec).unwrap_or(0);
            tell(&Said::Cpu { ns });
        }
    }
    std::process::exit(0);
}

fn tell(said: &Said) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut line = serde_json::to_string(said).unwrap_or_default();
    line.push('\n');
    // Whoever does not read any more has closed standard input as well, which ends this process.
    let _ = io::stdout().lock().write_all(line.as_bytes());
}

/// How a ping-pong receives: into a buffer, and how many bytes it was.
type Receive = fn(&UnixStream, &mut [u8]) -> rustix::io::Result<usize>;

fn receive(client: &UnixStream, into: &mut [u8]) -> rustix::io::Result<usize> {
    recv(client, into, RecvFlags::empty()).map(|(_, bytes)| bytes)
}

fn receive_with_descriptors(client: &UnixStream, into: &mut [u8]) -> rustix::io::Result<usize> {
    receive_taking(client, into, RecvFlags::empty())
}

fn receive_taking(client: &UnixStream, into: &mut [u8], flags: RecvFlags) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    Ok(recvmsg(client, &mut [IoSliceMut::new(into)], &mut control, flags | RecvFlags::CMSG_CLOEXEC)?.bytes)
}

fn receive_polling(client: &UnixStream, into: &mut [u8]) -> rustix::io::Result<usize> {
    let mut looks = 0u32;
    loop {
        match receive_taking(client, into, RecvFlags::DONTWAIT) {
            // To let others run takes as long as a look: only now and then.
            Err(Errno::AGAIN) if looks % 16 == 0 => std::thread::yield_now(),
            Err(Errno::AGAIN) => {}
            received => return received,
        }
        looks = looks.wrapping_add(1);
    }
}

fn bare(listener: UnixListener, receive: Receive) -> Result<()> {
    let header = Header {
        id: 1,
        command: Command::RegionRead.number(),
        message_bytes: u32::try_from(READ_REPLY_BYTES)?,
        flags: TYPE_REPLY,
        error: 0,
    };
    let mut reply = [0; READ_REPLY_BYTES];
    reply.iter_mut().zip(header.encode()).for_each(|(to, from)| *to = from);
    tell(&Said::Ready);
    loop {
        let (client, _) = listener.accept().context("accept")?;
        // A client that goes away in the middle has gone away.
        let _ = ping_pong(&client, receive, &reply);
        tell(&Said::Left { calls: None, intervals_ns: Vec::new() });
    }
}

fn ping_pong(client: &UnixStream, receive: Receive, reply: &[u8]) -> io::Result<()> {
    let mut request = [0; READ_BYTES];
    while retry_on_intr(|| receive(client, &mut request))? == request.len() {
        retry_on_intr(|| send(client, reply, SendFlags::NOSIGNAL))?;
    }
    Ok(())
}

/// This project's server, as its example uses it.
fn own(options: &ServeOptions, mut page: Page, polling: Duration) -> Result<()> {
    let description = Description {
        regions: (0..REGIONS)
            .map(|region| match region_bytes(region) {
                0 => Region::default(),
                bytes => Region::read_write(bytes as u64),
            })
            .collect(),
        irqs: (0..IRQS).map(|_| IrqType::default()).collect(),
        resettable: true,
    };
    let server_options = Options { polling, ..Options::default() };
    let memory = GuestMemory::new();
    let interrupts = Interrupts::new(&description);
    let listener = UnixListener::bind(&options.socket)?;
    let server = Server::new(listener, description, memory, interrupts, server_options)?;
    tell(&Said::Ready);
    while let Some(visit) = server.serve_one(&mut page)? {
        let calls = Counted {
            messages: visit.counters.messages,
            receives: visit.calls.receives,
            empty_receives: visit.calls.empty_receives,
            sends: visit.calls.sends,
        };
        tell(&Said::Left { calls: Some(calls), intervals_ns: page.take_intervals_ns() });
    }
    Ok(())
}

impl Device for Page {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.read(region, offset, data).map_err(|NoSuchRegister| Errno::INVAL)
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.write(region, offset, data).map_err(|NoSuchRegister| Errno::INVAL)
    }

    fn reset(&mut self) -> Result<(), Errno> {
        Self::reset(self);
        Ok(())
    }
}

/// The crate's server, as its example uses it.
fn of_the_crate(options: &ServeOptions, mut page: Page) -> Result<()> {
    let regions = (0..REGIONS)
        .map(|index| {
            let bytes = region_bytes(index);
            let access = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
            let region_info = vfio_region_info {
                argsz: u32::try_from(size_of::<vfio_region_info>()).unwrap_or(0),
                flags: if bytes == 0 { 0 } else { access },
                index,
                size: bytes as u64,
                ..vfio_region_info::default()
            };
            ServerRegion { region_info, sparse_areas: Vec::new(), mmap_fd: None }
        })
        .collect();
    let irqs = (0..IRQS).map(|index| IrqInfo { index, count: 0, flags: 0 }).collect();
    let server = vfio_user::Server::new(&options.socket, true, irqs, regions)?;
    tell(&Said::Ready);
    loop {
        // Any other error is a client that has gone away in the middle.
        if let Err(vfio_user::Error::SocketAccept(error)) = server.run(&mut page) {
            return Err(error).context("accept");
        }
        tell(&Said::Left { calls: None, intervals_ns: page.take_intervals_ns() });
    }
}

fn invalid(NoSuchRegister: NoSuchRegister) -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

impl ServerBackend for Page {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.read(region, offset, data).map_err(invalid)
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write(region, offset, data).map_err(invalid)
    }

    fn dma_map(&mut self, _: DmaMapFlags, _: u64, _: u64, _: u64, _: Option<File>) -> io::Result<()> {
        Ok(())
    }

    fn dma_unmap(&mut self, _: DmaUnmapFlags, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        Self::reset(self);
        Ok(())
    }

    fn set_irqs(&mut self, _: u32, _: u32, _: u32, _: u32, _: Vec<File>) -> io::Result<()> {
        Ok(())
    }
}
