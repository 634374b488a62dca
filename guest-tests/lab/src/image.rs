//! Card images: made fresh before a run, read back after it.
//!
//! They are written and read here without any of the device's code: what the guest wrote is then told by somebody who
//! has no part in how it came there. Source for qcow2: QEMU's docs/interop/qcow2.rst.
//!
//! What it does not do: qcow2 with a backing file, compression, encryption, extended L2 entries or an external data
//! file (all refused); changing an image.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::failure::Failure;
use crate::scenario::Image;

const MAGIC: u32 = 0x5146_49fb;
const CLUSTER_BITS: u32 = 16;
const CLUSTER_BYTES: u64 = 1 << CLUSTER_BITS;
/// A cluster of 8-byte entries maps this much.
const L2_BYTES: u64 = CLUSTER_BYTES / 8 * CLUSTER_BYTES;
/// Version 3's header without its optional fields.
const HEADER_BYTES: u32 = 104;
/// Of an entry in the L1 or L2 table: where its cluster is.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const READS_AS_ZEROS: u64 = 1;
/// Incompatible features: reference counts may be stale, which a reader does not mind.
const DIRTY: u64 = 1;

/// How an image's bytes lie in its file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageFormat {
    /// As they are.
    #[default]
    Raw,
    /// QEMU's format, version 3.
    Qcow2,
}

impl ImageFormat {
    /// As it is written in scenarios and to the device.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// A scenario's image on the host.
#[derive(Debug, Clone)]
pub struct HostImage {
    /// The scenario's name of it.
    pub name: String,
    /// The file, absolute.
    pub path: PathBuf,
    /// How it is written.
    pub format: ImageFormat,
    /// What the card has.
    pub size_bytes: u64,
}

impl HostImage {
    /// Make an image in place of any that is there. It reads as zeros, but for a file system if it is to have files, and
    /// takes next to no space.
    ///
    /// # Errors
    /// The file cannot be written, or the files do not fit.
    pub fn create(image: &Image, directory: &Path) -> Result<Self, Failure> {
        let name = format!("{}.{}", image.name, image.format.as_str());
        let directory = std::path::absolute(directory).map_err(Failure::file("find", directory))?;
        let path = directory.join(name);
        let size_bytes = image.size_bytes().unwrap_or_default();
        let written = match image.format {
            ImageFormat::Raw => write_raw(&path, size_bytes, &image.files),
            ImageFormat::Qcow2 => write_empty_qcow2(&path, size_bytes),
        };
        written.map_err(Failure::file("make the image", &path))?;
        Ok(Self { name: image.name.clone(), path, format: image.format, size_bytes })
    }

    /// What the guest is told of it: arguments of `card-insert` as members of a JSON object, and its size.
    /// Paths in the guest, and what is there.
    ///
    /// # Errors
    /// Its path is not UTF-8.
    pub fn guest_files(&self) -> Result<[(String, String); 2], Failure> {
        let path = self.path.to_str().ok_or_else(|| {
            Failure::Options(format!("{}: the path of an image has to be UTF-8", self.path.display()))
        })?;
        let (name, format) = (&self.name, self.format.as_str());
        let arguments = format!("\"image\":{},\"format\":\"{format}\"\n", serde_json::Value::from(path));
        Ok([
            (format!("images/{name}/arguments"), arguments),
            (format!("images/{name}/bytes"), format!("{}\n", self.size_bytes)),
        ])
    }

    /// SHA-256 of a range, in hexadecimal. The error says what is wrong with the file, for people.
    ///
    /// # Errors
    /// It cannot be read, is no such image, or ends before the range does.
    pub fn sha256(&self, offset: u64, length: u64) -> Result<String, String> {
        let said = |error: io::Error| format!("{}: {error}", self.path.display());
        let file = File::open(&self.path).map_err(said)?;
        let contents = match self.format {
            ImageFormat::Raw => Contents::Raw { size_bytes: file.metadata().map_err(said)?.len() },
            ImageFormat::Qcow2 => Contents::Qcow2(Qcow2::open(&file).map_err(said)?),
        };
        contents.sha256(&file, offset, length).map_err(said)
    }
}

/// A sparse file, with a FAT file system if there are `files`.
fn write_raw(path: &Path, size_bytes: u64, files: &BTreeMap<String, String>) -> io::Result<()> {
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    file.set_len(size_bytes)?;
    if files.is_empty() {
        return Ok(());
    }
    fatfs::format_volume(&mut file, fatfs::FormatVolumeOptions::new())?;
    let volume = fatfs::FileSystem::new(file, fatfs::FsOptions::new())?;
    for (name, text) in files {
        volume.root_dir().create_file(name)?.write_all(text.as_bytes())?;
    }
    volume.unmount()
}

/// The smallest qcow2: header, reference counts and an L1 table without entries, a cluster each or more.
fn write_empty_qcow2(path: &Path, size_bytes: u64) -> io::Result<()> {
    let l1_entries = size_bytes.div_ceil(L2_BYTES);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER_BYTES).max(1);
    let [counts_table, counts, l1_table] = [1, 2, 3].map(|cluster| cluster * CLUSTER_BYTES);
    let too_big = |_| io::Error::new(io::ErrorKind::InvalidInput, "too big for a qcow2 image");
    let mut header = Vec::new();
    header.extend(MAGIC.to_be_bytes());
    header.extend(3_u32.to_be_bytes());
    // No backing file: offset and length of its name.
    header.extend([0; 12]);
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(size_bytes.to_be_bytes());
    // Not encrypted.
    header.extend([0; 4]);
    header.extend(u32::try_from(l1_entries).map_err(too_big)?.to_be_bytes());
    header.extend(l1_table.to_be_bytes());
    header.extend(counts_table.to_be_bytes());
    header.extend(1_u32.to_be_bytes());
    // No snapshots: number and offset; no features of any kind.
    header.extend([0; 12 + 24]);
    // Reference counts of 1 << 4 bits.
    header.extend(4_u32.to_be_bytes());
    header.extend(HEADER_BYTES.to_be_bytes());
    let file = File::create(path)?;
    file.set_len(l1_table + l1_clusters * CLUSTER_BYTES)?;
    file.write_all_at(&header, 0)?;
    file.write_all_at(&counts.to_be_bytes(), counts_table)?;
    for cluster in 0..3 + l1_clusters {
        file.write_all_at(&1_u16.to_be_bytes(), counts + cluster * 2)?;
    }
    file.sync_all()
}

/// What is in an image's file.
enum Contents {
    Raw { size_bytes: u64 },
    Qcow2(Qcow2),
}

impl Contents {
    fn sha256(&self, file: &File, offset: u64, length: u64) -> io::Result<String> {
        let (size_bytes, piece_bytes) = match self {
            Self::Raw { size_bytes } => (*size_bytes, CLUSTER_BYTES),
            Self::Qcow2(image) => (image.size_bytes, 1 << image.cluster_bits),
        };
        let end = offset.checked_add(length).filter(|end| *end <= size_bytes).ok_or_else(|| {
            let message = format!("it has {size_bytes} bytes, and {length} at {offset} were to be read");
            io::Error::new(io::ErrorKind::UnexpectedEof, message)
        })?;
        let mut hash = Sha256::new();
        let mut at = offset;
        let mut buffer = Vec::new();
        while at < end {
            let next = (at / piece_bytes * piece_bytes).saturating_add(piece_bytes).min(end);
            buffer.clear();
            buffer.resize(usize::try_from(next - at).unwrap_or(usize::MAX), 0);
            let place = match self {
                Self::Raw { .. } => Some(at),
                Self::Qcow2(image) => image.place(file, at)?,
            };
            if let Some(place) = place {
                file.read_exact_at(&mut buffer, place)?;
            }
            hash.update(&buffer);
            at = next;
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A qcow2 image's header.
struct Qcow2 {
    cluster_bits: u32,
    size_bytes: u64,
    l1_entries: u64,
    l1_table: u64,
}

impl Qcow2 {
    fn open(file: &File) -> io::Result<Self> {
        let refused = |what: &str| io::Error::new(io::ErrorKind::Unsupported, what.to_owned());
        let u32_at = |at| read_u32(file, at);
        let u64_at = |at| read_u64(file, at);
        let version = u32_at(4)?;
        if u32_at(0)? != MAGIC || !matches!(version, 2 | 3) {
            return Err(refused("it is no qcow2 image"));
        }
        let incompatible = if version == 3 { u64_at(72)? } else { 0 };
        if u64_at(8)? != 0 || u32_at(32)? != 0 || incompatible & !DIRTY != 0 {
            return Err(refused(
                "it has a backing file, encryption or another feature that is not read here",
            ));
        }
        let cluster_bits = u32_at(20)?;
        if !(9..=21).contains(&cluster_bits) {
            return Err(refused("its clusters have a size that qcow2 does not have"));
        }
        Ok(Self {
            cluster_bits,
            size_bytes: u64_at(24)?,
            l1_entries: u64::from(u32_at(36)?),
            l1_table: u64_at(40)?,
        })
    }

    /// Where the byte at `at` lies in the file; `None` if it was never written, and reads as zero.
    fn place(&self, file: &File, at: u64) -> io::Result<Option<u64>> {
        let entries_bits = self.cluster_bits - 3;
        let l1_index = at >> (self.cluster_bits + entries_bits);
        if l1_index >= self.l1_entries {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its L1 table is too short"));
        }
        let l2_table = read_u64(file, self.l1_table.saturating_add(l1_index * 8))? & OFFSET_MASK;
        if l2_table == 0 {
            return Ok(None);
        }
        let l2_index = (at >> self.cluster_bits) & ((1 << entries_bits) - 1);
        let entry = read_u64(file, l2_table + l2_index * 8)?;
        if entry & COMPRESSED != 0 {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "it has compressed clusters"));
        }
        let cluster = entry & OFFSET_MASK;
        let within = at & ((1 << self.cluster_bits) - 1);
        Ok(if cluster == 0 || entry & READS_AS_ZEROS != 0 { None } else { Some(cluster + within) })
    }
}

fn read_u32(file: &File, at: u64) -> io::Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, at)?;
    Ok(u32::from_be_bytes(bytes))
}

fn read_u64(file: &File, at: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at)?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cluster belongs to nobody else.
    const COPIED: u64 = 1 << 63;

    fn image(size: &str, format: ImageFormat) -> (tempfile::TempDir, HostImage) {
        let directory = tempfile::tempdir().unwrap();
        let image = Image { name: "card".into(), size: size.into(), format, files: BTreeMap::new() };
        let made = HostImage::create(&image, directory.path()).unwrap();
        (directory, made)
    }

    fn sha256(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_fresh_image_reads_as_zeros_and_takes_no_space() {
        use std::os::unix::fs::MetadataExt;
        for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
            let (_directory, image) = image("64G", format);
            assert_eq!(image.size_bytes, 64 << 30);
            for offset in [0, 1, (64 << 30) - 1000] {
                assert_eq!(image.sha256(offset, 1000).unwrap(), sha256(&[0; 1000]), "{format:?} at {offset}");
            }
            assert!(image.sha256((64 << 30) - 999, 1000).is_err(), "{format:?}: beyond the end");
            let blocks = std::fs::metadata(&image.path).unwrap().blocks();
            assert!(blocks * 512 < 1 << 20, "{format:?}: {blocks} blocks");
        }
    }

    #[test]
    fn files_are_in_a_file_system_and_the_rest_takes_no_space() {
        use std::io::Read;
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let files = BTreeMap::from([("HELLO.TXT".to_owned(), "from the card\n".to_owned())]);
        let mut image = Image { name: "card".into(), size: "4G".into(), format: ImageFormat::Raw, files };
        let made = HostImage::create(&image, directory.path()).unwrap();
        let file = File::open(&made.path).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 4 << 30);
        assert!(file.metadata().unwrap().blocks() * 512 < 32 << 20);
        // The file system's own type and name, where every driver looks for them (FAT32's boot sector).
        let mut signature = [0; 8];
        file.read_exact_at(&mut signature, 0x52).unwrap();
        assert_eq!(&signature, b"FAT32   ");
        let file = File::options().read(true).write(true).open(&made.path).unwrap();
        let volume = fatfs::FileSystem::new(file, fatfs::FsOptions::new()).unwrap();
        let mut text = String::new();
        volume.root_dir().open_file("HELLO.TXT").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "from the card\n");
        // What does not fit is said.
        image =
            Image { size: "64K".into(), files: BTreeMap::from([("A".into(), "a".repeat(70_000))]), ..image };
        assert!(HostImage::create(&image, directory.path()).is_err());
    }

    #[test]
    fn what_is_written_is_found_whatever_clusters_it_spans() {
        let (_directory, raw) = image("1M", ImageFormat::Raw);
        File::options().write(true).open(&raw.path).unwrap().write_all_at(&[7; 100], 65_500).unwrap();
        let mut expected = vec![0; 300];
        expected[100..200].fill(7);
        assert_eq!(raw.sha256(65_400, 300).unwrap(), sha256(&expected));

        // Cluster 4 is the L2 table, cluster 5 holds the guest's second cluster; the first is not there.
        let (_directory, qcow2) = image("1M", ImageFormat::Qcow2);
        let file = File::options().write(true).open(&qcow2.path).unwrap();
        file.write_all_at(&((4 * CLUSTER_BYTES) | COPIED).to_be_bytes(), 3 * CLUSTER_BYTES).unwrap();
        file.write_all_at(&((5 * CLUSTER_BYTES) | COPIED).to_be_bytes(), 4 * CLUSTER_BYTES + 8).unwrap();
        file.write_all_at(&[7; 100], 5 * CLUSTER_BYTES).unwrap();
        file.set_len(6 * CLUSTER_BYTES).unwrap();
        assert_eq!(qcow2.sha256(65_436, 300).unwrap(), sha256(&expected));
        // The same cluster, said to read as zeros, and said to be compressed.
        file.write_all_at(&((5 * CLUSTER_BYTES) | READS_AS_ZEROS).to_be_bytes(), 4 * CLUSTER_BYTES + 8)
            .unwrap();
        assert_eq!(qcow2.sha256(65_436, 300).unwrap(), sha256(&[0; 300]));
        file.write_all_at(&((5 * CLUSTER_BYTES) | COMPRESSED).to_be_bytes(), 4 * CLUSTER_BYTES + 8).unwrap();
        assert!(qcow2.sha256(65_436, 300).unwrap_err().contains("compressed"));
    }

    #[test]
    fn what_is_no_image_is_refused_with_its_path() {
        let (_directory, image) = image("1M", ImageFormat::Qcow2);
        File::options().write(true).open(&image.path).unwrap().write_all_at(&[1], 8).unwrap();
        let refusal = image.sha256(0, 1).unwrap_err();
        assert!(refusal.contains("card.qcow2") && refusal.contains("backing file"), "{refusal}");
        std::fs::write(&image.path, "text, and enough of it for a header's beginning").unwrap();
        assert!(image.sha256(0, 1).unwrap_err().contains("no qcow2 image"));
        std::fs::write(&image.path, "").unwrap();
        assert!(image.sha256(0, 1).is_err());
    }

    #[test]
    fn the_guest_gets_the_path_as_json() {
        let image = HostImage {
            name: "card".into(),
            path: "/a \"b\"/card.raw".into(),
            format: ImageFormat::Raw,
            size_bytes: 512,
        };
        let [arguments, size] = image.guest_files().unwrap();
        assert_eq!(arguments.0, "images/card/arguments");
        let object: serde_json::Value = serde_json::from_str(&format!("{{{}}}", arguments.1)).unwrap();
        assert_eq!(object, serde_json::json!({ "image": "/a \"b\"/card.raw", "format": "raw" }));
        assert_eq!(size, ("images/card/bytes".to_owned(), "512\n".to_owned()));
    }
}
