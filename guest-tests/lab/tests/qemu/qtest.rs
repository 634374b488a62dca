//! A client of QEMU's qtest: a line a request, a line a reply (docs/devel/testing/qtest.rst).

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use crate::qemu::HANG;

/// What a processor would do.
#[derive(Debug)]
pub(crate) struct Qtest {
    stream: BufReader<UnixStream>,
}

impl Qtest {
    pub(crate) fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(HANG)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Sends a request without waiting for its reply.
    fn send(&mut self, request: &str) {
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
    }

    /// The reply to the oldest request that has none yet: what follows `OK`.
    fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.stream.read_line(&mut line).unwrap(), 0, "QEMU closed qtest");
            match line.trim_end().split_once(' ').unwrap_or((line.trim_end(), "")) {
                ("OK", value) => return value.to_owned(),
                // An interrupt line changed: nobody asked for that.
                ("IRQ", _) => {}
                _ => panic!("qtest says {line}"),
            }
        }
    }

    fn ask(&mut self, request: &str) -> String {
        self.send(request);
        self.reply()
    }

    /// Reads `bytes` bytes, 1, 2, 4 or 8, of guest memory or of a device's registers.
    pub(crate) fn read(&mut self, address: u64, bytes: usize) -> u64 {
        number(&self.ask(&format!("read{} {address:#x}", letter(bytes))))
    }

    /// Writes as many bytes.
    pub(crate) fn write(&mut self, address: u64, bytes: usize, value: u64) {
        self.ask(&format!("write{} {address:#x} {value:#x}", letter(bytes)));
    }

    /// Writes 32-bit values in a row, all of them sent before the first is answered; then reads one as wide.
    pub(crate) fn write_many_and_read(&mut self, writes: &[(u64, u32)], address: u64) -> u32 {
        let requests: String =
            writes.iter().map(|(address, value)| format!("writel {address:#x} {value:#x}\n")).collect();
        // In one piece: while QEMU cannot get rid of its replies, it takes nothing either.
        self.send(&format!("{requests}readl {address:#x}"));
        for _ in writes {
            self.reply();
        }
        u32::try_from(number(&self.reply())).unwrap()
    }

    /// Asks for `count` reads and as many writes of a dword, and leaves the replies where they are.
    pub(crate) fn send_many(&mut self, address: u64, count: usize) {
        self.send(&format!("readl {address:#x}\nwritel {address:#x} 0\n").repeat(count));
    }

    /// Reads from an I/O port.
    pub(crate) fn port_in(&mut self, port: u16, bytes: usize) -> u32 {
        u32::try_from(number(&self.ask(&format!("in{} {port:#x}", letter(bytes))))).unwrap()
    }

    /// Writes to an I/O port.
    pub(crate) fn port_out(&mut self, port: u16, bytes: usize, value: u32) {
        self.ask(&format!("out{} {port:#x} {value:#x}", letter(bytes)));
    }

    /// As [`Qtest::port_out`], and leaves the reply where it is: there may be none.
    pub(crate) fn post_port_out(&mut self, port: u16, bytes: usize, value: u32) {
        self.send(&format!("out{} {port:#x} {value:#x}", letter(bytes)));
    }

    /// A piece of guest memory.
    pub(crate) fn memory(&mut self, address: u64, bytes: usize) -> Vec<u8> {
        let text = self.ask(&format!("read {address:#x} {bytes:#x}"));
        let digits = text.strip_prefix("0x").unwrap();
        (0..bytes).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    /// Fills a piece of guest memory.
    pub(crate) fn set_memory(&mut self, address: u64, data: &[u8]) {
        let mut request = format!("write {address:#x} {:#x} 0x", data.len());
        data.iter().for_each(|byte| write!(request, "{byte:02x}").unwrap());
        self.ask(&request);
    }
}

fn letter(bytes: usize) -> char {
    match bytes {
        1 => 'b',
        2 => 'w',
        4 => 'l',
        8 => 'q',
        _ => panic!("no access of {bytes} bytes"),
    }
}

fn number(text: &str) -> u64 {
    let digits = text.strip_prefix("0x").unwrap_or_else(|| panic!("{text} is no number"));
    u64::from_str_radix(digits, 16).unwrap()
}
