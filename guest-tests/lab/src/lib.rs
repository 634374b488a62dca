//! The runner behind sdmorph lab: assets, initramfs, QEMU, serial, verdict, report

pub mod assets;
pub mod klog;
pub mod moments;
pub mod oops;
pub mod record;
pub mod scenario;
pub mod verdict;
pub mod vm;
