//! DMA from threads of the device's own, whatever the serving thread does meanwhile.

use std::thread::{JoinHandle, spawn};

use vfio_user_server::memory::Access;
use vfio_user_server::{DmaError, Ended};

use crate::client::Client;
use crate::device::*;
use crate::wire::*;

fn client(rig: &Rig) -> Client {
    let mut client = rig.client();
    client.map(3, 0, 0x1000, 0x10000, None).ok();
    client
}

/// Reads so many bytes of guest memory on a thread of its own.
fn worker(rig: &Rig, address: u64, count: usize) -> JoinHandle<Result<Vec<u8>, DmaError>> {
    let memory = rig.memory.clone();
    spawn(move || {
        let mut data = vec![0; count];
        memory.read(address, &mut data).map(|()| data)
    })
}

fn answer(client: &mut Client, id: u16, address: u64, data: &[u8]) {
    client.answer(id, DMA_READ, &[u64s(&[address, data.len() as u64]), data.to_vec()].concat());
}

#[test]
fn worker_reads_while_the_serving_thread_waits_for_commands() {
    let rig = Rig::start();
    let mut client = client(&rig);
    for _ in 0..100 {
        rig.asleep();
        let worker = worker(&rig, 0x1000, 4);
        let (id, address, ..) = client.dma_command(DMA_READ);
        answer(&mut client, id, address, b"idle");
        assert_eq!(worker.join().unwrap().unwrap(), b"idle");
        client.in_step();
    }
}

#[test]
fn worker_reads_while_the_serving_thread_is_busy_in_the_device() {
    let rig = Rig::start();
    let mut client = client(&rig);
    let busy = client.begin(REGION_WRITE, &write(BUSY, REGISTERS, &[0]));
    rig.entered.recv().unwrap();
    let worker = worker(&rig, 0x2000, 4);
    let (id, address, ..) = client.dma_command(DMA_READ);
    // A command in between is kept for the serving thread.
    let read = client.begin(REGION_READ, &access(0, CONFIG, 1));
    answer(&mut client, id, address, b"busy");
    assert_eq!(worker.join().unwrap().unwrap(), b"busy");
    rig.go.send(()).unwrap();
    client.reply(busy, REGION_WRITE).ok();
    client.reply(read, REGION_READ).ok();
}

#[test]
fn worker_finishes_while_the_serving_thread_waits_for_it_to_let_go() {
    let rig = Rig::start();
    let mut client = client(&rig);
    let buffer = rig.memory.hold(0x1000, 4, Access::Read).unwrap();
    let unmap = client.begin(DMA_UNMAP, &dma_unmap(0, 0x1000, 0x10000));
    while rig.memory.ranges() != 0 {
        std::thread::yield_now();
    }
    let worker = spawn(move || {
        let mut data = [0; 4];
        buffer.read(&mut data).map(|()| data)
    });
    let (id, address, ..) = client.dma_command(DMA_READ);
    assert!(!is_readable(&client.socket));
    answer(&mut client, id, address, b"last");
    assert_eq!(worker.join().unwrap().unwrap(), *b"last");
    client.reply(unmap, DMA_UNMAP).ok();
}

#[test]
fn many_workers_get_their_own_answers_in_whatever_order_those_come() {
    let rig = Rig::start();
    let mut client = client(&rig);
    let workers: Vec<_> = (0..8).map(|number| worker(&rig, 0x1000 + number * 0x100, 8)).collect();
    let mut asked: Vec<_> = workers.iter().map(|_| client.dma_command(DMA_READ)).collect();
    asked.sort_by_key(|(_, address, ..)| address ^ 0x300);
    for (id, address, ..) in asked {
        answer(&mut client, id, address, &address.to_ne_bytes());
        // The serving thread goes on in between.
        client.in_step();
    }
    for (number, worker) in (0..).zip(workers) {
        assert_eq!(worker.join().unwrap().unwrap(), (0x1000 + number * 0x100u64).to_ne_bytes());
    }
}

#[test]
fn worker_and_device_wait_for_their_answers_at_the_same_time() {
    let rig = Rig::start();
    let mut client = client(&rig);
    client.write(REGISTERS, ADDRESS, &u64s(&[0x5000]));
    for device_first in [true, false] {
        let worker = worker(&rig, 0x4000, 4);
        let (of_worker, ..) = client.dma_command(DMA_READ);
        let fetch = client.begin(REGION_WRITE, &write(FETCH, REGISTERS, &u64s(&[4])));
        let (of_device, address, ..) = client.dma_command(DMA_READ);
        assert_eq!(address, 0x5000);
        if device_first {
            answer(&mut client, of_device, 0x5000, b"dev.");
            client.reply(fetch, REGION_WRITE).ok();
            answer(&mut client, of_worker, 0x4000, b"work");
        } else {
            answer(&mut client, of_worker, 0x4000, b"work");
            answer(&mut client, of_device, 0x5000, b"dev.");
            client.reply(fetch, REGION_WRITE).ok();
        }
        assert_eq!(worker.join().unwrap().unwrap(), b"work");
        assert_eq!(client.read(REGISTERS, DATA, 4), b"dev.");
    }
}

#[test]
fn workers_of_a_client_that_leaves_are_told_so_and_the_next_client_is_served() {
    let rig = Rig::start();
    let mut client = client(&rig);
    let workers: Vec<_> = (0..4).map(|_| worker(&rig, 0x1000, 4)).collect();
    for _ in &workers {
        client.dma_command(DMA_READ);
    }
    drop(client);
    for worker in workers {
        assert_eq!(worker.join().unwrap(), Err(DmaError::Gone));
    }
    assert_eq!(rig.visit().ended, Ended::ClientLeft);
    rig.client().in_step();
}

#[test]
fn worker_that_holds_a_buffer_of_a_client_that_has_left_cannot_use_it_and_the_next_one_waits_for_it() {
    let rig = Rig::start();
    let client = client(&rig);
    let buffer = rig.memory.hold(0x1000, 4, Access::Read).unwrap();
    drop(client);
    while rig.memory.ranges() != 0 {
        std::thread::yield_now();
    }
    assert_eq!(buffer.read(&mut [0; 4]), Err(DmaError::Gone));
    assert_eq!(rig.log().disconnects, 0);
    drop(buffer);
    let mut next = rig.client();
    next.in_step();
    assert_eq!(rig.log().disconnects, 1);
}
