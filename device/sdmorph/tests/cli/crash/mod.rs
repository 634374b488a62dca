//! A server that is killed while its card is written, as a drive or as a card: what was acknowledged as safe is in the image,
//! and nothing is that was never written.
//!
//! SIGKILL ends the process, and the page cache stays: this shows that nothing acknowledged is only in the process. Whether
//! it is on the disk as well is for `fdatasync`, and not seen here.
//!
//! `SDMORPH_KILLS=200` kills more often than 20 times, `SDMORPH_SEED=` repeats a run as far as that is in this side's hands:
//! the same commands, killed after the same one.

// The seed, and what was acknowledged.
#![allow(clippy::print_stdout)]

mod area;
mod card;
mod drive;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use area::{Area, BLOCK_BYTES, BLOCKS, Chance};
use card::Card;
use drive::Drive;

use crate::server::Server;

const IMAGE: &str = "card.img";
/// An SDHC card.
const IMAGE_BYTES: u64 = 4 << 30;

fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

fn insert(server: &Server, format: &str) {
    server.done(&["card-insert", "kind=sd-express", &format!("image={IMAGE}"), &format!("format={format}")]);
}

/// The area of a raw image, read without a server.
fn in_raw_image(path: &Path) -> Vec<u8> {
    let mut area = vec![0; BLOCKS as usize * BLOCK_BYTES];
    File::open(path).unwrap().read_exact_at(&mut area, 0).unwrap();
    area
}

/// An empty qcow2 image of version 3 with clusters of 64 KiB (QEMU, `docs/interop/qcow2.rst`): header, refcount table, its
/// only block, and the L1 table.
#[cfg(feature = "qcow2")]
fn make_qcow2(path: &Path) {
    const CLUSTER: u64 = 1 << 16;
    let file = File::create(path).unwrap();
    file.set_len(4 * CLUSTER).unwrap();
    let put = |at: u64, bytes: &[u8]| file.write_all_at(bytes, at).unwrap();
    put(0, b"QFI\xfb\0\0\0\x03");
    put(20, &16u32.to_be_bytes());
    put(24, &IMAGE_BYTES.to_be_bytes());
    // An L2 table is for 512 MiB.
    put(36, &((IMAGE_BYTES >> 29) as u32).to_be_bytes());
    put(40, &(3 * CLUSTER).to_be_bytes());
    put(48, &CLUSTER.to_be_bytes());
    put(56, &1u32.to_be_bytes());
    // Refcounts of 1 << 4 bits; a header of 104 bytes.
    put(96, &4u32.to_be_bytes());
    put(100, &104u32.to_be_bytes());
    put(CLUSTER, &(2 * CLUSTER).to_be_bytes());
    put(2 * CLUSTER, &[0, 1, 0, 1, 0, 1, 0, 1]);
}

fn kills() -> u64 {
    number_from_environment("SDMORPH_KILLS").unwrap_or(20)
}

fn chance() -> Chance {
    let seed = number_from_environment("SDMORPH_SEED")
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64);
    println!("SDMORPH_SEED={seed}");
    Chance(seed)
}

/// Kills the server again and again while its drive is written, always over the same image. `in_image` reads the area without
/// a server.
fn kill_under_a_drive(server: &mut Server, format: &str, in_image: Option<fn(&Path) -> Vec<u8>>) {
    let (mut chance, mut area, kills) = (chance(), Area::new(), kills());
    let mut acknowledged = [0; 3];
    for kill in 0..kills {
        insert(server, format);
        let mut drive = Drive::of(server);
        area.judge(&drive.read_area(), &format!("drive, kill {kill}"));
        drive.write_until_killed(&mut chance, &mut area, server);
        if let Some(read) = in_image {
            area.judge(&read(&server.path(IMAGE)), &format!("image, kill {kill}"));
        }
        acknowledged.iter_mut().zip(drive.counts).for_each(|(sum, count)| *sum += count);
        server.start_again(&[]);
    }
    insert(server, format);
    area.judge(&Drive::of(server).read_area(), "drive, at the end");
    assert_eq!(server.quit(), Some(0), "{}", server.log());
    let [writes, fua, flushes] = acknowledged;
    println!("{format}: {kills} kills; acknowledged: {writes} writes, {fua} with FUA, {flushes} flushes");
    assert!(acknowledged.iter().all(|count| *count > 0));
}

#[test]
fn killed_server_has_lost_nothing_that_its_drive_had_acknowledged_as_safe() {
    let mut server = Server::start(&[]);
    File::create(server.path(IMAGE)).unwrap().set_len(IMAGE_BYTES).unwrap();
    kill_under_a_drive(&mut server, "raw", Some(in_raw_image));
}

/// Here there are tables as well, which the process keeps until a flush: the next server is who reads the image.
#[cfg(feature = "qcow2")]
#[test]
fn killed_server_has_lost_nothing_of_a_qcow2_image() {
    let mut server = Server::start(&[]);
    make_qcow2(&server.path(IMAGE));
    kill_under_a_drive(&mut server, "qcow2", None);
}

#[test]
fn killed_server_has_lost_nothing_that_its_card_had_said_was_written() {
    let (mut chance, mut area, kills) = (chance(), Area::new(), kills());
    let mut server = Server::start(&[]);
    File::create(server.path(IMAGE)).unwrap().set_len(IMAGE_BYTES).unwrap();
    let mut writes = 0;
    for kill in 0..kills {
        insert(&server, "raw");
        writes += Card::of(&server).write_until_killed(&mut chance, &mut area, &mut server);
        area.judge(&in_raw_image(&server.path(IMAGE)), &format!("image, kill {kill}"));
        server.start_again(&[]);
    }
    insert(&server, "raw");
    area.judge(&Drive::of(&server).read_area(), "drive, at the end");
    println!("card: {kills} kills; acknowledged: {writes} writes");
    assert!(writes > 0);
}
