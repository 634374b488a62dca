//! What a client is told of the device before it touches it.

use crate::device::Device;
use crate::driver::{ECAM, MSIX, MSIX_BAR, WINDOW};

const READ_WRITE: u32 = 0b11;

#[test]
fn version_reply_is_0_0_with_capabilities_that_end_in_nul() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.raw();
    let reply = client.negotiate();
    assert!(!reply.is_error());
    assert_eq!(&reply.body[..4], [0, 0, 0, 0]);
    let (nul, text) = reply.body[4..].split_last().unwrap();
    assert_eq!(*nul, 0);
    let capabilities: serde_json::Value = serde_json::from_slice(text).unwrap();
    assert!(capabilities["capabilities"]["max_msg_fds"].is_number(), "{capabilities}");
    drop(client);
    serving.ended();
}

#[test]
fn version_reply_is_no_longer_than_qemu_takes() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.raw();
    // QEMU 11.1 reads the reply into the buffer of its request: 214 bytes.
    assert!(crate::raw::HEADER_BYTES + client.negotiate().body.len() <= 214);
    drop(client);
    serving.ended();
}

#[test]
fn nine_regions_of_which_three_bars_and_config_space_can_be_accessed_and_none_mapped() {
    let device = Device::new();
    let serving = device.serve(1);
    let client = device.client();
    let regions: Vec<_> = (0..9)
        .map(|index| client.region(index).unwrap())
        .map(|region| (region.index, region.size, region.flags))
        .collect();
    assert_eq!(
        regions,
        [
            (0, 8 << 20, READ_WRITE),
            (1, 0, 0),
            (2, 32 << 20, READ_WRITE),
            (3, 0, 0),
            (4, 1 << 20, READ_WRITE),
            (5, 0, 0),
            (6, 0, 0),
            (7, 4096, READ_WRITE),
            (8, 0, 0),
        ]
    );
    for index in [ECAM, WINDOW, MSIX_BAR] {
        let region = client.region(index).unwrap();
        assert!(region.file_offset.is_none() && region.sparse_areas.is_empty());
    }
    assert!(client.region(9).is_none());
    drop(client);
    serving.ended();
}

#[test]
fn interrupts_are_sixteen_msix_vectors_by_eventfd_and_nothing_else() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    let counts: Vec<_> = (0..5).map(|index| client.get_irq_info(index).unwrap().count).collect();
    assert_eq!(counts, [0, 0, 16, 0, 0]);
    assert_eq!(client.get_irq_info(MSIX).unwrap().flags, 1);
    drop(client);
    serving.ended();
}
