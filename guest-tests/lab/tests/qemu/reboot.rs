//! A booted guest reboots itself, as users' guests do: its firmware, kernel and drivers meet the device twice.

use std::io::Read;
use std::path::Path;

use sdmorph_lab::assets::{Contents, KernelChoice, Needs, Overrides, Progress, Request, Store, setup};
use sdmorph_lab::vm::{AfterReboot, Vm, VmConfig, run_dir};

use crate::sdmorph::Sdmorph;

const SCRIPTS: &[(&str, &str)] = &[
    ("reboot.sh", include_str!("reboot.sh")),
    ("control.sh", include_str!("../../../tests/control.sh")),
    ("ktap.sh", include_str!("../../../tests/ktap.sh")),
    ("reader.sh", include_str!("../../../tests/reader.sh")),
];

/// Boots a guest that reboots once. Returns what it wrote to its console.
fn boot_twice(server: &Sdmorph) -> String {
    let kernel = KernelChoice::from_env().unwrap_or_default();
    let request = Request {
        kernels: vec![kernel],
        unfix: false,
        needs: Needs::default(),
        refresh: false,
        overrides: Overrides::from_env(),
    };
    let assets = setup(&request, &Store::open().unwrap(), Progress::Silent).unwrap();
    let kernel = &assets.kernels[0].kernel;
    let dir = run_dir().unwrap();
    let tests = dir.path().join("tests");
    std::fs::create_dir(&tests).unwrap();
    for (name, text) in SCRIPTS {
        std::fs::write(tests.join(name), text).unwrap();
    }
    let initramfs = dir.path().join("initramfs");
    let contents = Contents {
        busybox: &assets.busybox,
        modules: &kernel.modules,
        own_modules: &[],
        tests: &tests,
        programs: &[],
        files: &[],
    };
    contents.write(&initramfs).unwrap();
    let path = |path: &Path| path.to_path_buf();
    let mut config =
        VmConfig::new(assets.qemu.clone(), assets.accel, path(&kernel.image), initramfs, path(dir.path()));
    config.device_socket = Some(server.socket());
    config.control_socket = Some(server.control_socket());
    config.test = "reboot".to_owned();
    config.after_reboot = AfterReboot::Boot;
    let mut machine = Vm::start(&config).unwrap();
    let mut console = Vec::new();
    machine.take_console().unwrap().read_to_end(&mut console).unwrap();
    assert!(machine.wait().unwrap().success(), "{}", machine.stderr());
    String::from_utf8_lossy(&console).into_owned()
}

#[test]
#[ignore = "needs QEMU and a kernel; make test runs them"]
fn guest_that_reboots_itself_finds_the_device_again_and_leaves_nothing_behind() {
    let server = Sdmorph::new();
    let before = server.holdings();
    for visit in 1..=2 {
        let console = boot_twice(&server);
        for moment in ["bound before the reboot", "bound after the reboot"] {
            // The second guest finds the rule of the first one, and does not reboot.
            let expected = visit == 1 || moment.contains("after");
            assert_eq!(console.contains(moment), expected, "{moment}, guest {visit}:\n{console}");
        }
        server.wait_for_holdings(&before);
    }
}
