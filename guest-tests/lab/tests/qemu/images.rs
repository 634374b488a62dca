//! The lab's card images: QEMU takes them for what they are, and what it writes is what the lab reads.

use std::collections::BTreeMap;
use std::path::Path;

use sdmorph_lab::image::{HostImage, ImageFormat};
use sdmorph_lab::scenario::Image;
use serde_json::json;

use crate::qemu::{Machine, Memory, Options};

/// Has QEMU write into a fresh image, and returns the image.
fn written_by_qemu(directory: &Path, format: ImageFormat, commands: &[&str]) -> HostImage {
    let image = Image { name: "card".to_owned(), size: "8G".to_owned(), format, files: BTreeMap::new() };
    let image = HostImage::create(&image, directory).unwrap();
    let node = json!({
        "driver": format.as_str(),
        "node-name": "card",
        "file": { "driver": "file", "filename": &image.path },
    });
    let more = vec!["-blockdev".to_owned(), node.to_string()];
    let options = Options { devices: Vec::new(), more, ..Options::new(Memory::Private, Path::new("")) };
    let mut machine = Machine::start(&options);
    let nodes = machine.execute("query-named-block-nodes", json!({ "flat": true }));
    let card = nodes.as_array().unwrap().iter().find(|node| node["node-name"] == "card").unwrap();
    assert_eq!(card["image"]["virtual-size"], image.size_bytes);
    assert_eq!(card["image"]["format"], format.as_str());
    for command in commands.iter().chain(&["flush"]) {
        let line = format!("qemu-io card \"{command}\"");
        let said = machine.execute("human-monitor-command", json!({ "command-line": line }));
        let words = said.as_str().unwrap().to_lowercase();
        assert!(!words.contains("error") && !words.contains("failed"), "{command}: {said}");
    }
    image
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn what_qemu_writes_into_a_fresh_image_is_read_alike_in_both_formats() {
    let directory = tempfile::tempdir().unwrap();
    let commands = ["write -P 1 0 1M", "write -P 2 4G 64k", "write -P 3 4294967000 1000", "write -z 0 64k"];
    let both = [ImageFormat::Raw, ImageFormat::Qcow2]
        .map(|format| written_by_qemu(directory.path(), format, &commands));
    let [raw, qcow2] = &both;
    // Written, written again as zeros, across what was never written, and the last block.
    for (offset, length) in
        [(0, 1 << 20), (60_000, 10_000), (4_294_960_000, 100_000), (1 << 30, 1), ((8 << 30) - 512, 512)]
    {
        let hash = raw.sha256(offset, length).unwrap();
        assert_eq!(qcow2.sha256(offset, length).unwrap(), hash, "{length} bytes at {offset}");
    }
    assert_ne!(raw.sha256(1 << 20, 1).unwrap(), raw.sha256((1 << 20) - 1, 1).unwrap());
}
