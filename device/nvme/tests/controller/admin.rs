//! Identify, Abort, events, Format, and what is refused.

use sdmorph_testkit::nvme::Entry;

use crate::rig::{BLOCKS, CID, Rig, SCRATCH, pattern, status, u16_at, u32_at, u64_at};

const INVALID_OPCODE: u16 = 0x001;
const INVALID_FIELD: u16 = 0x002;
const INVALID_NAMESPACE: u16 = 0x00b;

#[test]
fn controller_identifies_itself_as_the_card() {
    let mut rig = Rig::probed();
    let data = rig.identify(1, 0).unwrap();
    let identity = sdmorph_nvme::Identity::of_card(&CID);
    assert_eq!(u16_at(&data, 0), 0x10ec);
    assert_eq!(data[4..24], identity.serial);
    assert_eq!(data[24..64], identity.model);
    assert_eq!(data[64..72], identity.firmware);
    assert_eq!(data[73..76], [b'D', b'S', 0x02], "the OUI, low byte first");
    assert_eq!(data[77], 7, "MDTS");
    assert_eq!(u32_at(&data, 80), 0x0001_0400);
    assert_eq!(data[111], 1, "I/O controller");
    assert_eq!(u16_at(&data, 256), 0x102, "OACS: Format, Doorbell Buffer Config");
    assert_eq!(data[512..514], [0x66, 0x44]);
    assert_eq!(u32_at(&data, 516), 1, "NN");
    assert_eq!(u16_at(&data, 520), 0xdd, "ONCS");
    assert_eq!(u16_at(&data, 320), 0, "KAS: no Keep Alive");
    assert_eq!(data[524] & 1, 0, "a format names its namespace");
    assert_eq!(data[525] & 1, 1, "a volatile write cache");
    assert_eq!(u64_at(&data, 280), BLOCKS * 512, "TNVMCAP");
    assert_eq!(data[768..768 + identity.subnqn.len()], *identity.subnqn.as_bytes());
    assert_eq!(data[768 + identity.subnqn.len()], 0);
    assert_eq!(data[263], 2, "NPSS");
    assert_eq!((u16_at(&data, 2048), u16_at(&data, 2048 + 64)), (180, 1), "power of states 0 and 2");
    assert_eq!(data[2048 + 64 + 3], 2, "state 2 is not operational");
}

#[test]
fn namespace_has_the_card_s_blocks_and_identifier() {
    let mut rig = Rig::probed();
    let data = rig.identify(0, 1).unwrap();
    for at in [0, 8, 16] {
        assert_eq!(u64_at(&data, at), BLOCKS);
    }
    assert_eq!((data[25], data[26]), (1, 0), "two formats, the first in use");
    assert_eq!((data[130], data[134]), (9, 12));
    assert_eq!(data[99], 0, "not write protected");
    let eui64 = sdmorph_nvme::Identity::of_card(&CID).eui64;
    assert_eq!(data[120..128], eui64);
    let descriptors = rig.identify(3, 1).unwrap();
    assert_eq!(descriptors[..4], [1, 8, 0, 0]);
    assert_eq!(descriptors[4..12], eui64);
    assert_eq!(descriptors[12..16], [0; 4], "end of the list");
}

#[test]
fn write_protected_medium_is_announced() {
    let mut rig = Rig::read_only().probe();
    assert_eq!(rig.identify(0, 1).unwrap()[99], 1);
}

#[test]
fn nvm_command_set_has_no_more_limits_and_no_protection_information() {
    let mut rig = Rig::probed();
    assert_eq!(rig.identify(5, 1).unwrap(), vec![0; 4096]);
    assert_eq!(rig.identify(6, 0).unwrap(), vec![0; 4096]);
}

#[test]
fn active_namespaces_are_those_behind_the_one_named() {
    let mut rig = Rig::probed();
    assert_eq!(rig.identify(2, 0).unwrap()[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(rig.identify(2, 1).unwrap(), vec![0; 4096]);
    assert_eq!(status(rig.identify(2, 0xffff_fffe)), INVALID_NAMESPACE);
    assert_eq!(status(rig.identify(2, 0xffff_ffff)), INVALID_NAMESPACE);
}

#[test]
fn identify_refuses_what_it_does_not_have() {
    let mut rig = Rig::probed();
    assert_eq!(status(rig.identify(0, 0)), INVALID_NAMESPACE);
    assert_eq!(status(rig.identify(0, 2)), INVALID_NAMESPACE);
    assert_eq!(status(rig.identify(0, 0xffff_ffff)), INVALID_NAMESPACE, "no namespace management");
    assert_eq!(status(rig.identify(3, 2)), INVALID_NAMESPACE);
    for cns in [4, 7, 8, 0x10, 0x11, 0x12, 0x13, 0x17, 0x1c, 0xff] {
        assert_eq!(status(rig.identify(cns, 1)), INVALID_FIELD, "CNS {cns:#x}");
    }
    for cns in [5, 6] {
        let another_set = Entry::new(6, 1).prps(SCRATCH, 0).with(10, cns).with(11, 2 << 24);
        assert_eq!(status(rig.admin(another_set)), INVALID_FIELD);
    }
    assert_eq!(status(rig.identify(5, 2)), INVALID_NAMESPACE);
}

#[test]
fn what_linux_asks_during_probe_leaves_no_error() {
    let mut rig = Rig::shadowed();
    assert_eq!(rig.log_page(1, 64), vec![0; 64]);
    assert_eq!(rig.snapshot()["refused"], serde_json::json!({}));
}

#[test]
fn commands_that_are_not_supported_are_refused() {
    let mut rig = Rig::probed();
    // Namespace Management, Firmware Commit and Download, Self-test, Keep Alive, directives, security, Sanitize, vendor's.
    for opcode in [0x03, 0x0d, 0x10, 0x11, 0x14, 0x15, 0x18, 0x19, 0x1a, 0x1c, 0x81, 0x82, 0x84, 0xc0, 0xff] {
        assert_eq!(status(rig.admin(Entry::new(opcode, 1))), INVALID_OPCODE, "{opcode:#x}");
    }
    assert_eq!(rig.refused("Invalid Command Opcode"), 15);
}

#[test]
fn admin_commands_are_neither_fused_nor_have_sgls() {
    let mut rig = Rig::probed();
    let identify = Entry::new(6, 0).prps(SCRATCH, 0).with(10, 1);
    for flags in [1 << 8, 2 << 8, 1 << 14, 2 << 14, 3 << 14] {
        let entry = identify.with(0, 6 | flags);
        assert_eq!(status(rig.admin(entry)), INVALID_FIELD, "{flags:#x}");
    }
}

#[test]
fn failed_command_has_do_not_retry_and_more() {
    let mut rig = Rig::probed();
    rig.submit(0, Entry::new(0x18, 0));
    let completion = rig.reap(0)[0];
    assert_eq!(completion.status, 0x6001);
}

#[test]
fn event_requests_beyond_the_limit_are_refused() {
    let mut rig = Rig::probed();
    // Probe has left one.
    for _ in 0..3 {
        rig.submit(0, Entry::new(0x0c, 0));
        assert_eq!(rig.reap(0), []);
    }
    rig.submit(0, Entry::new(0x0c, 0));
    assert_eq!(rig.reap(0)[0].code(), 0x105);
}

#[test]
fn abort_takes_an_event_request_back_and_leaves_the_rest() {
    let mut rig = Rig::probed();
    let request = rig.submit(0, Entry::new(0x0c, 0));
    let abort = |queue: u16, id: u16| Entry::new(8, 0).with(10, u32::from(id) << 16 | u32::from(queue));
    let aborter = rig.submit(0, abort(0, request));
    let ended: Vec<_> = rig.reap(0).iter().map(|c| (c.id, c.code(), c.result)).collect();
    assert_eq!(ended, [(request, 0x007, 0), (aborter, 0, 0)]);
    // Dword 0 says that these were not aborted.
    assert_eq!(rig.admin(abort(0, request)), Ok(1));
    assert_eq!(rig.admin(abort(9, 1)), Ok(1));
    rig.media.hold();
    let read = rig.submit(1, Entry::new(2, 1).prps(SCRATCH, 0).blocks(0, 1));
    assert_eq!(rig.admin(abort(1, read)), Ok(1));
    rig.media.release();
    rig.wake();
    assert_eq!(rig.reap(1)[0].code(), 0, "and it ends");
}

#[test]
fn each_type_of_event_is_reported_once_until_its_log_page_is_read() {
    let mut rig = Rig::probed();
    rig.submit(0, Entry::new(0x0c, 0));
    rig.set(0x1000 + 8 * 9, 1);
    assert_eq!(rig.reap(0).len(), 1);
    rig.set(0x1000 + 8 * 9, 1);
    assert_eq!(rig.reap(0), [], "the type is masked");
    // With RAE it stays so.
    let retain = Entry::new(2, 0xffff_ffff).prps(SCRATCH, 0).with(10, 15 << 16 | 1 << 15 | 1);
    rig.admin(retain).unwrap();
    assert_eq!(rig.reap(0), []);
    rig.submit(0, Entry::new(2, 0xffff_ffff).prps(SCRATCH, 0).with(10, 15 << 16 | 1));
    let completions = rig.reap(0);
    assert_eq!(completions.len(), 2, "the log page, and the event that waited: {completions:?}");
}

#[test]
fn event_waits_for_a_request() {
    let mut rig = Rig::probed();
    rig.set(0x1000 + 8 * 9, 1);
    assert_eq!(rig.reap(0).len(), 1);
    rig.log_page(1, 64);
    rig.set(0x1008, 9999);
    assert_eq!(rig.reap(0), []);
    let id = rig.submit(0, Entry::new(0x0c, 0));
    let completions = rig.reap(0);
    assert_eq!((completions[0].id, completions[0].result), (id, 0x0001_0100));
}

fn format(lbaf: u32, more: u32) -> Entry {
    Entry::new(0x80, 1).with(10, lbaf | more)
}

#[test]
fn format_erases_and_changes_the_size_of_blocks() {
    let mut rig = Rig::probed();
    rig.write_blocks(0, &pattern(16, 1)).unwrap();
    let _ = rig.media.take_requests();
    assert_eq!(status(rig.admin(format(1, 0))), 0);
    assert_eq!(rig.media.take_requests(), [format!("Discard {{ {BLOCKS} from 0 }}"), "Flush".to_owned()]);
    // The guest is told.
    let notice = rig.reap(0);
    assert_eq!(notice.len(), 0, "reaped with the format's own completion");
    assert_eq!(rig.log_page(4, 4096)[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(rig.log_page(4, 4096), vec![0; 4096], "read once");
    let data = rig.identify(0, 1).unwrap();
    assert_eq!((u64_at(&data, 0), data[26]), (BLOCKS / 8, 1));
    rig.driver.block_bytes = 4096;
    assert_eq!(rig.read_blocks(0, 2).unwrap(), vec![0; 8192]);
    let contents = pattern(16, 3);
    rig.write_blocks(5, &contents).unwrap();
    assert_eq!(rig.media.peek(40, 16), contents, "block 5 of 4096 bytes is block 40 of 512");
    assert_eq!(status(rig.read_blocks(BLOCKS / 8, 1)), 0x080);
    // A reset does not bring the old size back.
    rig.driver.probe(&mut rig.bench, &mut rig.nvme).unwrap();
    assert_eq!(rig.driver.block_bytes, 4096);
    assert_eq!(status(rig.admin(format(0, 1 << 9))), 0);
    assert_eq!(u64_at(&rig.identify(0, 1).unwrap(), 0), BLOCKS);
}

#[test]
fn format_refuses_what_the_namespace_cannot_be() {
    let mut rig = Rig::probed();
    assert_eq!(status(rig.admin(format(2, 0))), 0x10a, "no such format");
    assert_eq!(status(rig.admin(format(0, 1 << 5))), 0x10a, "protection information");
    assert_eq!(status(rig.admin(format(0, 1 << 4))), 0x10a, "metadata");
    assert_eq!(status(rig.admin(format(0, 2 << 9))), INVALID_FIELD, "cryptographic erase");
    assert_eq!(status(rig.admin(Entry::new(0x80, 0))), INVALID_NAMESPACE);
    assert_eq!(status(rig.admin(Entry::new(0x80, 2))), INVALID_NAMESPACE);
    assert_eq!(rig.media.take_requests(), Vec::<String>::new());
    let mut rig = Rig::read_only().probe();
    assert_eq!(status(rig.admin(format(0, 0))), 0x020);
}

#[test]
fn commands_during_a_format_are_refused_and_may_be_retried() {
    let mut rig = Rig::probed();
    rig.media.hold();
    rig.submit(0, format(0, 0));
    assert_eq!(status(rig.admin(format(1, 0))), 0x084);
    rig.submit(1, Entry::new(2, 1).prps(SCRATCH, 0).blocks(0, 1));
    assert_eq!(rig.reap(1)[0].status & 0x47ff, 0x084, "without Do Not Retry");
    rig.media.release();
    for _ in 0..2 {
        rig.wake();
        rig.media.release();
    }
    assert_eq!(rig.reap(0)[0].code(), 0);
    assert_eq!(rig.read_blocks(0, 1).unwrap(), vec![0; 512]);
}

#[test]
fn format_that_the_medium_refuses_changes_nothing() {
    let mut rig = Rig::probed();
    rig.media.fail(9..10, sdmorph_pci::MediaError::Io);
    assert_eq!(status(rig.admin(format(1, 0))), 0x006);
    assert_eq!(u64_at(&rig.identify(0, 1).unwrap(), 0), BLOCKS);
    rig.media.heal();
    assert!(rig.read_blocks(0, 1).is_ok());
}
