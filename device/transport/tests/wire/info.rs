//! What a client is told of the device before it touches it.

use crate::device::Device;
use crate::driver::{ECAM, MSIX_BAR, WINDOW};

/// Flags of a region, and of an interrupt type (`linux/vfio.h`).
const READ_WRITE: u32 = 0b11;
const EVENTFD: u32 = 1;

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
    let types = (0..5).map(|index| client.get_irq_info(index).unwrap());
    let types: Vec<_> = types.map(|info| (info.count, info.flags)).collect();
    let msix = (16, EVENTFD);
    assert_eq!(types, [(0, 0), (0, 0), msix, (0, 0), (0, 0)]);
    drop(client);
    serving.ended();
}
