//! The runner behind sdmorph lab: assets, initramfs, QEMU, serial, verdict, report
