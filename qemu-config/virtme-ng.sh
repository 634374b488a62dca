#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Starts virtme-ng with sdmorph's device, and the device for it.

set -eu

usage() {
	cat <<'EOT'
Usage: virtme-ng.sh [VNG-ARGUMENTS]

In a kernel's tree that `vng --build --config …/guest-tests/tests/config` has built, as `vng` itself:

  virtme-ng.sh                           a shell in the guest
  virtme-ng.sh --exec 'modprobe -a vmd rtsx_pci rtsx_pci_sdmmc; sleep 3; dmesg'
  virtme-ng.sh --run /boot/vmlinuz-…     another kernel

QEMU= names the QEMU to run (default: qemu-system-x86_64); it must be 10.1.1 or newer. SDMORPH= names sdmorph.
While it runs, `sdmorph ctl --socket control.sock …` reaches the device; the socket is made in the current directory, or where
CONTROL= says. Everything else is as vng has it.
EOT
}

die() {
	printf 'virtme-ng.sh: %s\n' "$1" >&2
	exit 2
}

case ${1:-} in
--help | -h)
	usage
	exit 0
	;;
esac

here=$(cd "$(dirname "$0")" && pwd)
qemu=${QEMU:-qemu-system-x86_64}
sdmorph=${SDMORPH:-sdmorph}
control=${CONTROL:-control.sock}
for program in vng "$qemu" "$sdmorph"; do
	command -v "$program" >/dev/null || die "there is no $program"
done
"$qemu" -device help | grep -q '"vfio-user-pci"' || die "$qemu has no vfio-user-pci: it is in QEMU from 10.1 on"
qemu=$(command -v "$qemu")

private=$(mktemp -d)
device=
trap '[ -z "$device" ] || kill "$device" 2>/dev/null || true; rm -rf "$private"' EXIT
trap 'exit 130' INT TERM
"$sdmorph" serve --socket-path "$private/vfu.sock" --control "$control" >"$private/log" 2>&1 &
device=$!
until [ -S "$private/vfu.sock" ]; do
	kill -0 "$device" 2>/dev/null || die "sdmorph serve: $(cat "$private/log")"
	sleep 0.1
done

# vng gives what follows --qemu-opts to a shell, hence the quotes inside. Address 5 is in use there; a guest does not care.
json=$(grep -v '^#' "$here/device.json" | tr -d '\n' | sed "s|vfu\.sock|$private/vfu.sock|; s|0x5|0x10|")
set -- "$@" --qemu "$qemu" "--qemu-opts=-machine q35 -device '$json'"
# Without hardware virtualisation, vng finds /dev/kvm and takes it at its word.
grep -qE '^flags.* (vmx|svm)( |$)' /proc/cpuinfo || set -- --disable-kvm "$@"

# microvm has no PCI. pcie_ports=native: else the firmware keeps hot-plug to itself, and pciehp does not bind. preempt=full: the
# race of sd7-idle-race needs it.
vng --disable-microvm --append pcie_ports=native --append preempt=full "$@"
