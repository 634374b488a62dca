//! Configuration space, the ECAM window and the memory windows; and accesses that are refused.

use crate::device::Device;
use crate::driver::{Access, BAR0, COMMAND, CONFIG, ECAM, MSIX_BAR, PORT, READER, WINDOW, reader};
use crate::raw::{DEVICE_RESET, NO_REPLY, REGION_WRITE, region_write};

#[test]
fn config_reads_of_every_size_and_alignment_agree() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    assert_eq!(client.get32(CONFIG, 0), 0xa77f_8086);
    assert_eq!(client.get32(CONFIG, 8) >> 8, 0x01_0400);
    let mut whole = vec![0; 4096];
    client.get(CONFIG, 0, &mut whole);
    for size in [1, 2, 3, 4, 5, 8, 64] {
        for offset in (0..0x100 - size).chain([4096 - size]) {
            let mut piece = vec![0; size];
            client.get(CONFIG, offset as u64, &mut piece);
            assert_eq!(piece, whole[offset..offset + size], "{size} bytes at {offset:#x}");
        }
    }
    drop(client);
    serving.ended();
}

#[test]
fn all_ones_in_a_bar_read_back_as_its_size() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    let sizes: Vec<_> = (0..6)
        .map(|bar| {
            client.put32(CONFIG, BAR0 + 4 * bar, 0xffff_ffff);
            client.get32(CONFIG, BAR0 + 4 * bar)
        })
        .collect();
    assert_eq!(sizes, [0xff80_0000, 0, 0xfe00_0000, 0, 0xfff0_0000, 0]);
    drop(client);
    serving.ended();
}

#[test]
fn windows_are_dark_until_memory_decoding_is_on() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    assert_eq!(client.get32(ECAM, PORT), 0xffff_ffff);
    client.put16(CONFIG, COMMAND, 0x2);
    assert_eq!(client.get32(ECAM, PORT), 0x000c_1b36);
    drop(client);
    serving.ended();
}

#[test]
fn ecam_reaches_the_port_and_once_buses_are_numbered_the_reader_and_nothing_else() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    client.put16(CONFIG, COMMAND, 0x2);
    assert_eq!(client.get32(ECAM, READER), 0xffff_ffff, "no bus 1 yet");
    client.put32(ECAM, PORT + 0x18, 0x0001_0100);
    assert_eq!(client.get32(ECAM, READER), 0x5261_10ec);
    assert_eq!(client.get16(ECAM, READER + 2), 0x5261);
    assert_eq!(client.get8(ECAM, READER + 3), 0x52);
    let mut two = [0; 8];
    client.get(ECAM, READER, &mut two);
    assert_eq!(two[..4], 0x5261_10ec_u32.to_le_bytes());
    for nobody in [0, PORT + 0x1000, READER + (1 << 15), 2 << 20] {
        assert_eq!(client.get32(ECAM, nobody), 0xffff_ffff, "{nobody:#x}");
    }
    drop(client);
    serving.ended();
}

#[test]
fn reader_s_registers_are_in_the_window_where_the_guest_put_them() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    client.bring_up();
    client.put32(WINDOW, reader::DUM_REG, 0x1234_5678);
    assert_eq!(client.get32(WINDOW, reader::DUM_REG), 0x1234_5678);
    assert_eq!(client.get16(WINDOW, reader::DUM_REG + 2), 0x1234);
    assert_eq!(client.get8(WINDOW, reader::DUM_REG + 1), 0x56);
    assert_eq!(client.get32(WINDOW, 0x10_0000), 0xffff_ffff, "behind the port's window");
    drop(client);
    serving.ended();
}

#[test]
fn reset_puts_registers_back_and_leaves_the_card_in() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    client.bring_up();
    device.machine(|machine, now| machine.card_insert(now, sdmorph_machine::CardKind::SdExpress)).unwrap();
    client.reset().unwrap();
    assert_eq!(client.get16(CONFIG, COMMAND), 0);
    assert_eq!(client.get32(CONFIG, 0x18), 0);
    client.bring_up();
    assert_eq!(client.get32(WINDOW, reader::BIPR) & reader::SD_EXIST, reader::SD_EXIST);
    drop(client);
    serving.ended();
}

#[test]
fn access_outside_a_region_is_refused_and_the_next_one_answered() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.raw();
    client.negotiate();
    let refused = [
        (CONFIG, 4095, 2),
        (CONFIG, 4096, 1),
        (CONFIG, u64::MAX, 1),
        (CONFIG, 0, 4097),
        (ECAM, 8 << 20, 4),
        (MSIX_BAR, (1 << 20) - 1, 4),
        (1, 0, 4),
        (6, 0, 1),
        (8, 0, 1),
    ];
    for (region, offset, count) in refused {
        let reply = client.read(region, offset, count);
        assert!(reply.is_error() && reply.body.is_empty(), "read of {count} at {offset:#x} in {region}");
        let reply = client.write(region, offset, &vec![0; count as usize]);
        assert!(reply.is_error(), "write of {count} at {offset:#x} in {region}");
        assert_eq!(client.get32(CONFIG, 0), 0xa77f_8086);
    }
    // No region of that number at all.
    assert!(client.read(9, 0, 4).is_error());
    assert!(client.read(u32::MAX, 0, 4).is_error());
    assert_eq!(client.get32(CONFIG, 0), 0xa77f_8086);
    drop(client);
    serving.ended();
}

#[test]
fn access_of_a_page_is_done_and_a_longer_one_refused() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.raw();
    client.negotiate();
    client.bring_up();
    let page = client.read(ECAM, PORT, 4096);
    assert_eq!(page.body[16..20], 0x000c_1b36_u32.to_le_bytes());
    let accesses = || device.machine(|machine, _| machine.counters().accesses);
    let before = accesses();
    for count in [4097, 1 << 20] {
        assert!(client.read(ECAM, PORT, count).is_error());
        assert!(client.write(ECAM, PORT, &vec![0; count as usize]).is_error());
    }
    assert_eq!(accesses(), before);
    drop(client);
    serving.ended();
}

#[test]
fn posted_write_is_done_and_not_answered() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.raw();
    client.negotiate();
    client.bring_up();
    let body = region_write(WINDOW, reader::DUM_REG, &0xcafe_f00d_u32.to_le_bytes());
    client.send(REGION_WRITE, NO_REPLY, &body, &[]);
    // The next reply is the read's: its id is checked.
    assert_eq!(client.get32(WINDOW, reader::DUM_REG), 0xcafe_f00d);
    client.send(DEVICE_RESET, NO_REPLY, &[], &[]);
    assert_eq!(client.get16(CONFIG, COMMAND), 0);
    drop(client);
    serving.ended();
}
