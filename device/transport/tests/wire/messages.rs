//! Guest memory without a descriptor: the reader's command lists are fetched and answered by messages to the client.

use std::time::Duration;

use rustix::io::Errno;
use sdmorph_machine::record::Recorded;
use sdmorph_pci::DmaError;
use sdmorph_transport::Options;

use crate::device::Device;
use crate::dma::{RAM_AT, START, list, list_status, prepare_list, run_list};
use crate::driver::{Access, CONFIG, WINDOW, reader};
use crate::raw::{
    DMA_MAP, DMA_READ, DMA_UNMAP, DMA_WRITE, ERROR, NO_REPLY, REGION_READ, REGION_WRITE, RawClient, dma_map,
    dma_unmap, region_access, region_write,
};

const RAM_BYTES: u64 = 0x1000;
const READ_WRITE: u32 = 3;

/// A client that has set the reader up, and mapped memory that it keeps to itself, with a list at its start.
fn ready(device: &Device) -> RawClient {
    let mut client = device.raw();
    client.negotiate();
    client.bring_up();
    let mut memory = vec![0; RAM_BYTES as usize];
    memory[..list().len()].copy_from_slice(&list());
    client.memory = Some((RAM_AT, memory));
    assert!(!client.call(DMA_MAP, &dma_map(READ_WRITE, 0, RAM_AT, RAM_BYTES), &[]).is_error());
    prepare_list(&mut client, RAM_AT);
    client
}

fn start(client: &mut RawClient) -> u16 {
    client.send(REGION_WRITE, 0, &region_write(WINDOW, reader::HCBCTLR, &START.to_le_bytes()), &[])
}

/// Errors of the DMAs so far.
fn errors(device: &Device) -> Vec<DmaError> {
    let records = device.machine(|machine, _| machine.records_since(0, usize::MAX));
    let error = |what: &Recorded| match what {
        Recorded::Dma { error, .. } => *error,
        _ => None,
    };
    records.iter().filter_map(|record| error(&record.what)).collect()
}

#[test]
fn command_list_runs_in_memory_that_is_reached_by_messages_until_it_is_unmapped() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = ready(&device);
    assert_eq!(run_list(&mut client, RAM_AT), reader::TRANS_OK);
    let (_, memory) = client.memory.take().unwrap();
    assert_eq!(memory[..2], [0xa5, 0xa5]);
    assert!(!client.call(DMA_UNMAP, &dma_unmap(0, RAM_AT, RAM_BYTES), &[]).is_error());
    // No message comes any more: the client would panic.
    assert_eq!(run_list(&mut client, RAM_AT), reader::TRANS_FAIL);
    assert!(matches!(errors(&device)[..], [DmaError::Unmapped { .. }]));
    drop(client);
    assert_eq!(serving.ended()[0].calls.dma_messages, 2);
}

#[test]
fn commands_that_come_while_a_list_is_fetched_are_answered_after_it_and_in_order() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = ready(&device);
    let started = start(&mut client);
    // What follows is on its way before the first byte of the list is.
    let register = |value: u32| region_write(WINDOW, reader::DUM_REG, &value.to_le_bytes());
    client.send(REGION_WRITE, NO_REPLY, &register(1), &[]);
    let one = client.send(REGION_READ, 0, &region_access(WINDOW, reader::DUM_REG, 4), &[]);
    client.send(REGION_WRITE, NO_REPLY, &register(2), &[]);
    let two = client.send(REGION_READ, 0, &region_access(WINDOW, reader::DUM_REG, 4), &[]);
    let config = client.send(REGION_READ, 0, &region_access(CONFIG, 0, 4), &[]);

    let fetch = client.receive();
    assert_eq!((fetch.command, fetch.dma()), (DMA_READ, (RAM_AT, list().len())));
    client.do_dma(&fetch);
    let answers = client.receive();
    assert_eq!((answers.command, answers.dma()), (DMA_WRITE, (RAM_AT, 2)));
    client.do_dma(&answers);
    // The next reply is the start's, and then those of the others: the ids are checked.
    assert!(!client.reply(started).is_error());
    assert_eq!(client.reply(one).body[16..], 1u32.to_le_bytes());
    assert_eq!(client.reply(two).body[16..], 2u32.to_le_bytes());
    assert_eq!(client.reply(config).body[16..], 0xa77f_8086_u32.to_le_bytes());
    assert_eq!(list_status(&mut client), reader::TRANS_OK);
    drop(client);
    serving.ended();
}

#[test]
fn client_that_never_answers_is_a_dma_error_and_the_next_read_is_answered() {
    let mut options = Options::default();
    options.wire.dma_timeout = Duration::from_millis(50);
    let device = Device::with(options);
    let serving = device.serve(1);
    let mut client = ready(&device);
    let started = start(&mut client);
    let fetch = client.receive();
    assert_eq!(fetch.command, DMA_READ);
    assert!(!client.reply(started).is_error(), "a guest's DMA error is device status, not the access's");
    assert_eq!(list_status(&mut client), reader::TRANS_FAIL);
    assert_eq!(errors(&device), [DmaError::TimedOut { address: RAM_AT }]);
    // An answer that comes too late is nobody's, and the stream stays in step.
    client.do_dma(&fetch);
    assert_eq!(client.get32(CONFIG, 0), 0xa77f_8086);
    drop(client);
    assert_eq!(serving.ended()[0].counters.stray_replies, 1);
}

#[test]
fn client_that_refuses_is_a_dma_error_and_the_next_list_runs() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = ready(&device);
    let started = start(&mut client);
    let fetch = client.receive();
    // As QEMU does while the guest has bus mastering off.
    client.answer(&fetch, ERROR, Errno::NODEV.raw_os_error().unsigned_abs(), &[]);
    assert!(!client.reply(started).is_error());
    assert_eq!(list_status(&mut client), reader::TRANS_FAIL);
    assert_eq!(errors(&device), [DmaError::Refused { address: RAM_AT }]);
    assert_eq!(run_list(&mut client, RAM_AT), reader::TRANS_OK);
    drop(client);
    serving.ended();
}

#[test]
fn client_that_leaves_while_its_memory_is_read_leaves_nothing_behind() {
    let device = Device::new();
    let serving = device.serve(2);
    let mut client = ready(&device);
    start(&mut client);
    assert_eq!(client.receive().command, DMA_READ);
    drop(client);
    let mut next = device.client();
    next.bring_up();
    assert!(matches!(errors(&device)[..], [DmaError::Unmapped { address: RAM_AT, .. }]));
    drop(next);
    serving.ended();
}
