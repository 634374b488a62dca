//! Every message that is offered, with its exact reply.

use crate::client::Client;
use crate::device::*;
use crate::wire::*;

#[test]
fn device_info_has_nine_regions_and_five_interrupt_types() {
    let rig = Rig::start();
    let body = rig.client().request(GET_INFO, &u32s(&[16, 0, 0, 0])).ok();
    // Reset and PCI.
    assert_eq!(body, u32s(&[16, 3, 9, 5]));
}

#[test]
fn device_info_of_a_device_that_cannot_be_reset_says_so_and_reset_is_not_offered() {
    let rig = Rig::of(Default::default(), |description| description.resettable = false);
    let mut client = rig.client();
    let body = client.request(GET_INFO, &u32s(&[16, 0, 0, 0])).ok();
    assert_eq!(body, u32s(&[16, 2, 9, 5]));
    assert_eq!(client.request(RESET, &[]).errno(), EOPNOTSUPP);
    assert_eq!(rig.log().resets, 0);
}

#[test]
fn region_info_has_size_and_access() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (index, flags, size) in [
        (REGISTERS, 3, 4096),
        (READ_ONLY, 1, 256),
        (WRITE_ONLY, 2, 256),
        (IO_EVENTFDS, 3, 4096),
        (ABSENT, 0, 0),
        (CONFIG, 3, 256),
        (LONG, 3, LONG_BYTES),
    ] {
        // What the client sends in the fields behind the index does not matter.
        for request in [region_info(32, index), u32s(&[4096, 9, index, 9, 9, 9, 9, 9])] {
            let reply = client.request(GET_REGION_INFO, &request);
            assert!(reply.fds.is_empty());
            assert_eq!(reply.ok(), [u32s(&[32, flags, index, 0]), u64s(&[size, 0])].concat());
        }
    }
}

#[test]
fn region_info_of_a_mapped_region_has_its_descriptor_and_offset() {
    let rig = Rig::start();
    let mut reply = rig.client().request(GET_REGION_INFO, &region_info(32, MAPPED));
    assert_eq!(reply.fds.len(), 1);
    let file = reply.fds.pop().unwrap();
    assert_eq!(rustix::fs::fstat(&file).unwrap().st_size, 0x8000);
    assert_eq!(reply.ok(), [u32s(&[32, 7, MAPPED, 0]), u64s(&[0x1000, 0x1000])].concat());
}

#[test]
fn region_info_of_a_sparse_region_has_its_areas_and_descriptor() {
    let rig = Rig::start();
    let mut client = rig.client();
    for argsz in [80, 81, u32::MAX] {
        let mut reply = client.request(GET_REGION_INFO, &region_info(argsz, SPARSE));
        assert_eq!(std::mem::take(&mut reply.fds).len(), 1);
        let info = [u32s(&[80, 15, SPARSE, 32]), u64s(&[0x4000, 0x4000])].concat();
        let capability = [&1u16.to_ne_bytes()[..], &1u16.to_ne_bytes(), &u32s(&[0, 2, 0])].concat();
        let areas = u64s(&[0x1000, 0x1000, 0x3000, 0x1000]);
        assert_eq!(reply.ok(), [info, capability, areas].concat());
    }
}

#[test]
fn region_info_with_too_small_an_argsz_has_neither_areas_nor_descriptor_and_says_how_much_it_takes() {
    let rig = Rig::start();
    let mut client = rig.client();
    for argsz in [32, 79] {
        let reply = client.request(GET_REGION_INFO, &region_info(argsz, SPARSE));
        assert!(reply.fds.is_empty());
        // Neither the flags nor the offset of what is not in this reply.
        assert_eq!(reply.ok(), [u32s(&[80, 3, SPARSE, 0]), u64s(&[0x4000, 0x4000])].concat());
    }
}

#[test]
fn region_io_fds_have_one_descriptor_for_each_part() {
    let rig = Rig::start();
    let mut client = rig.client();
    let mut reply = client.request(GET_REGION_IO_FDS, &u32s(&[96, 0, IO_EVENTFDS, 0]));
    let fds = std::mem::take(&mut reply.fds);
    assert_eq!(fds.len(), 2);
    let first = [u64s(&[0x10, 4]), u32s(&[0, 0, 0, 0]), u64s(&[0])].concat();
    let second = [u64s(&[0x20, 8]), u32s(&[1, 0, 1, 0]), u64s(&[0x1234])].concat();
    assert_eq!(reply.ok(), [u32s(&[96, 0, IO_EVENTFDS, 2]), first, second].concat());
    // They are eventfds, and two of them.
    rustix::io::write(&fds[0], &1u64.to_ne_bytes()).unwrap();
    assert_eq!((signals(&fds[0]), signals(&fds[1])), (1, 0));
}

#[test]
fn region_io_fds_with_too_small_an_argsz_say_how_much_they_take() {
    let rig = Rig::start();
    let mut client = rig.client();
    for argsz in [16, 95] {
        let reply = client.request(GET_REGION_IO_FDS, &u32s(&[argsz, 0, IO_EVENTFDS, 0]));
        assert!(reply.fds.is_empty());
        assert_eq!(reply.ok(), u32s(&[96, 0, IO_EVENTFDS, 2]));
    }
}

/// Whoever proposes no number takes one ("Version", `max_msg_fds`), and the region has two.
#[test]
fn region_io_fds_that_the_client_cannot_take_are_refused() {
    let rig = Rig::start();
    let mut client = Client::connect(&rig.path);
    client.request(VERSION, &version(0, 1, b"{}\0")).ok();
    let reply = client.request(GET_REGION_IO_FDS, &u32s(&[96, 0, IO_EVENTFDS, 0]));
    assert_eq!(reply.errno(), E2BIG);
    client.in_step();
}

#[test]
fn irq_info_has_flags_and_number_of_vectors() {
    let rig = Rig::start();
    let mut client = rig.client();
    let types = [(INTX, 7, 1), (NO_VECTORS, 0, 0), (MSIX, 1, 16), (NO_EVENTFDS, 0, 1), (MASKABLE, 3, 4)];
    for (index, flags, count) in types {
        let reply = client.request(GET_IRQ_INFO, &u32s(&[16, 0, index, 0]));
        assert_eq!(reply.ok(), u32s(&[16, flags, index, count]));
    }
}

#[test]
fn region_read_has_the_data_after_what_was_asked_for() {
    let rig = Rig::start();
    let mut client = rig.client();
    for count in [1, 2, 3, 4, 8, 16] {
        let reply = client.request(REGION_READ, &access(0x21, CONFIG, count)).ok();
        let data: Vec<_> = (0x21..).take(count as usize).collect();
        assert_eq!(reply, [access(0x21, CONFIG, count), data].concat());
    }
    assert_eq!(rig.log().reads.last(), Some(&(CONFIG, 0x21, 16)));
}

#[test]
fn region_read_and_write_reach_the_last_byte_and_as_many_bytes_as_were_agreed_on() {
    let rig = Rig::start();
    let mut client = rig.client();
    let most = 1 << 20;
    assert_eq!(client.read(LONG, 4096, most).len(), most as usize);
    let data: Vec<_> = (0..most).map(|at| at as u8).collect();
    client.write(LONG, 4096, &data);
    assert_eq!(rig.log().writes, [(LONG, 4096, data)]);
}

#[test]
fn region_access_of_no_bytes_is_answered_and_the_device_is_not_asked() {
    let rig = Rig::start();
    let mut client = rig.client();
    assert_eq!(client.read(REGISTERS, 4096, 0), b"");
    client.write(REGISTERS, 4096, &[]);
    let log = rig.log();
    assert!(log.reads.is_empty() && log.writes.is_empty());
}

#[test]
fn region_write_is_done_and_echoed_without_its_data() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.write(REGISTERS, 0x10, b"written");
    assert_eq!(client.read(REGISTERS, 0x0f, 9), b"\0written\0");
}

#[test]
fn posted_write_is_done_and_not_answered() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.post(REGION_WRITE, &write(0x10, REGISTERS, b"posted"));
    // The next message from the server is the answer to the next command.
    assert_eq!(client.read(REGISTERS, 0x10, 6), b"posted");
}

#[test]
fn every_command_without_reply_is_acted_on_and_not_answered() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.post(DMA_MAP, &dma_map(3, 0, 0x1000, 0x1000));
    client.post(SET_IRQS, &set_irqs(BOOL | TRIGGER, MSIX, 0, 1, &[1]));
    client.post(REGION_READ, &access(0, CONFIG, 4));
    client.post(REGION_WRITE_MULTI, &[u64s(&[1]), multi(0x10, REGISTERS, b"many")].concat());
    client.post(GET_INFO, &u32s(&[16, 0, 0, 0]));
    client.post(GET_REGION_INFO, &region_info(80, SPARSE));
    assert_eq!(client.read(REGISTERS, 0x10, 4), b"many");
    assert_eq!(rig.memory.ranges(), 1);
    assert_eq!(rig.interrupts.is_pending(MSIX, 0), Some(true));
    client.post(DMA_UNMAP, &dma_unmap(0, 0x1000, 0x1000));
    client.post(RESET, &[]);
    client.in_step();
    assert_eq!((rig.memory.ranges(), rig.log().resets), (0, 1));
    drop(client);
    assert_eq!(rig.visit().counters.posted, 8);
}

#[test]
fn several_writes_in_one_message_are_done_in_order_and_counted() {
    let rig = Rig::start();
    let mut client = rig.client();
    let writes =
        [multi(0x10, REGISTERS, b"12345678"), multi(0x12, REGISTERS, b"ab"), multi(0, WRITE_ONLY, b"x")];
    let reply = client.request(REGION_WRITE_MULTI, &[u64s(&[3]), writes.concat()].concat());
    assert_eq!(reply.ok(), u64s(&[3]));
    assert_eq!(client.read(REGISTERS, 0x10, 8), b"12ab5678");
    assert_eq!(rig.log().writes.len(), 3);
    assert_eq!(client.request(REGION_WRITE_MULTI, &u64s(&[0])).ok(), u64s(&[0]));
}

#[test]
fn several_writes_end_at_the_first_that_cannot_be_done() {
    let rig = Rig::start();
    let mut client = rig.client();
    let writes = [multi(0, REGISTERS, b"1"), multi(0, READ_ONLY, b"2"), multi(0, REGISTERS, b"3")];
    let reply = client.request(REGION_WRITE_MULTI, &[u64s(&[3]), writes.concat()].concat());
    assert_eq!(reply.ok(), u64s(&[1]));
    let reply = client.request(REGION_WRITE_MULTI, &[u64s(&[2]), writes[1..].concat()].concat());
    assert_eq!(reply.errno(), EACCES);
    assert_eq!(rig.log().writes, [(REGISTERS, 0, b"1".to_vec())]);
}

#[test]
fn reset_is_answered_with_a_header_alone_once_the_device_is_reset() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.write(REGISTERS, 0, b"old");
    assert_eq!(client.request(RESET, &[]).ok(), b"");
    assert_eq!((client.read(REGISTERS, 0, 3), rig.log().resets), (vec![0; 3], 1));
}

#[test]
fn map_and_set_irqs_are_answered_with_a_header_alone_and_unmap_with_its_own_entry() {
    let rig = Rig::start();
    let mut client = rig.client();
    assert_eq!(client.map(3, 0, 0x4000, 0x1000, None).ok(), b"");
    assert_eq!(client.unmap(0x4000, 0x1000).ok(), dma_unmap(0, 0x4000, 0x1000));
    assert_eq!(client.request(SET_IRQS, &set_irqs(NONE | TRIGGER, MSIX, 0, 0, &[])).ok(), b"");
}
