//! The runner behind `sdmorph lab`: a scenario is run in a real guest, and judged by what guest and device say.
//!
//! In the order of a run:
//! - [`scenario`]: the scenario file; what is provoked, and what has to be seen for which verdict, as data; [`misreading`]:
//!   where it is wrong.
//! - [`assets`]: QEMU, kernel, modules, busybox, programs, initramfs; [`image`]: cards; [`vm`]: QEMU's command line and process.
//! - [`server`]: the device's process; [`keeper`]: what ends it and QEMU if the lab is killed.
//! - [`run`]: with and without the fix, any number of times; the device is `sdmorph serve`, a process of its own.
//! - [`klog`], [`oops`], [`hang`] and [`notes`]: the guest's console, read live; [`record`]: the device's record of the same time.
//! - [`hashes`]: what the guest read from a card, and what the host's file has.
//! - [`inlining`]: what a call chain cannot show, proven from the module that was loaded.
//! - [`verdict`]: `fault`, `hang`, `clean`, or `inconclusive` with what is missing; [`moments`]: the times of both on one clock.
//! - [`result`], [`statistics`], [`report`]: `result.json`, `summary.json`, the text and `report.md`.
//! - `explanation`: what is shown of a run that did not end as expected.
//! - [`suite`]: several scenarios as one test run.
//! - [`bisect`]: one commit of a kernel's tree, for `git bisect run`.
//! - [`campaign`]: many kernels under many scenarios, many times, several at once: one table.
//! - [`failure`]: why there may be no verdict at all, and the exit codes.
//!
//! What it does not do:
//! - other architectures than x86-64, in the guest as on the host;
//! - HTML and pictures of a run: `sdmorph-report` makes them of the files that it leaves. (The page of a campaign's table is
//!   made here.)

// The lab is on the host's side: it waits for processes and guests, in the wall clock's time.
#![allow(clippy::disallowed_methods)]

pub mod assets;
pub mod bisect;
pub mod campaign;
pub mod clocks;
mod explanation;
pub mod failure;
pub mod hang;
pub mod hashes;
pub mod image;
pub mod inlining;
pub mod klog;
pub mod misreading;
pub mod moments;
pub mod notes;
pub mod oops;
pub mod record;
pub mod report;
pub mod result;
pub mod run;
pub mod scenario;
pub mod statistics;
pub mod suite;
pub mod verdict;
pub mod vm;

pub mod keeper;
pub mod server;

mod interrupt;
mod session;
