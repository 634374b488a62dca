//! The device as its users start it: `sdmorph serve` in a process of its own, with a card from a raw image.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use sdmorph_lab::keeper::Keeper;
use sdmorph_lab::server::{Server, ServerPaths};
use sdmorph_lab::vm::run_dir;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::arguments::GuestOptions;

/// Of a card or another disk: the cards are SDHC, and QEMU's have to have a power of two.
pub(crate) const IMAGE_BYTES: u64 = 4 << 30;
/// What is read and written of them, and somewhat more: the host writes it first, so that it is in the page cache
/// and no file grows while it is measured.
const FILLED_BYTES: u64 = 80 << 20;

/// A server, with a card in it.
pub(crate) struct Serving {
    pub(crate) server: Server,
    /// Ends what it watches if this program is killed.
    pub(crate) keeper: Keeper,
    /// The vfio-user socket.
    pub(crate) socket: PathBuf,
    /// Whatever is made for the run goes here.
    pub(crate) dir: TempDir,
}

impl Serving {
    /// Starts `device` and puts a card of this kind in.
    pub(crate) fn start(device: &Path, options: &GuestOptions, kind: &str) -> Result<Self> {
        let dir = run_dir()?;
        let path = |name: &str| dir.path().join(name);
        let mut keeper = Keeper::start(dir.path());
        let socket = path("device.sock");
        let paths = ServerPaths {
            device: socket.clone(),
            control: path("control.sock"),
            images: dir.path().to_path_buf(),
            record: None,
            log: path("server.log"),
            arguments: options.poll.iter().flat_map(|poll| ["--poll".to_owned(), poll.to_string()]).collect(),
        };
        let server = Server::start(device, &paths)?;
        keeper.watch(server.pid());
        let card = path("card.raw");
        make_image(&card).with_context(|| card.display().to_string())?;
        let Value::Object(insert) = json!({ "kind": kind, "image": "card.raw", "format": "raw" }) else {
            bail!("an object is none");
        };
        server.insert_card(insert)?;
        Ok(Self { server, keeper, socket, dir })
    }
}

/// The program whose `serve` is the device: the one that was built with this one, if no other is named.
pub(crate) fn device_program(options: &GuestOptions) -> Result<PathBuf> {
    let path = match &options.device {
        Some(path) => path.clone(),
        None => std::env::current_exe().context("where is this program?")?.with_file_name("sdmorph"),
    };
    if path.is_file() {
        return Ok(path);
    }
    Err(anyhow!(
        "there is no {}: build it with cargo build --release -p sdmorph, or name it with --device",
        path.display()
    ))
}

/// An image whose beginning has contents, and is in the page cache.
pub(crate) fn make_image(path: &Path) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.set_len(IMAGE_BYTES)?;
    let piece: Vec<u8> = (0..1 << 20).map(|at: u32| (at.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
    for _ in 0..FILLED_BYTES >> 20 {
        file.write_all(&piece)?;
    }
    // What is dirty when the measuring begins would be written to the disk meanwhile.
    file.sync_all()
}
