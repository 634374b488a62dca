#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Starts a guest with sdmorph's device, beside a running `sdmorph serve`.

set -eu

usage() {
	cat <<'EOF'
Usage: launch.sh --kernel FILE --initrd FILE [options] [-- QEMU-ARGUMENTS]

  --kernel FILE    the guest's kernel (bzImage)
  --initrd FILE    its initramfs
  --append WORDS   more words for the kernel's command line
  --device SOCKET  the vfio-user socket of `sdmorph serve` (default: vfu.sock)
  --no-device      start the machine without the device
  --control SOCKET the control socket, which becomes the guest's /dev/ttyS1
  --help           this text

QEMU= names the QEMU to run (default: qemu-system-x86_64); it must be 10.1.1 or newer.
The console is on stdout. Everything after -- goes to QEMU as it is.
EOF
}

die() {
	printf 'launch.sh: %s\n' "$1" >&2
	exit 2
}

kernel='' initrd='' append='' device=vfu.sock control=''
while [ $# -gt 0 ]; do
	case $1 in
	--help | -h)
		usage
		exit 0
		;;
	--no-device) device='' ;;
	--)
		shift
		break
		;;
	--kernel | --initrd | --append | --device | --control)
		[ $# -ge 2 ] || die "$1 needs a value"
		case $1 in
		--kernel) kernel=$2 ;;
		--initrd) initrd=$2 ;;
		--append) append=$2 ;;
		--device) device=$2 ;;
		--control) control=$2 ;;
		esac
		shift
		;;
	*) die "unknown argument $1 (see --help)" ;;
	esac
	shift
done
[ -n "$kernel" ] || die "--kernel is missing (see --help)"
[ -r "$kernel" ] || die "cannot read $kernel"
[ -n "$initrd" ] || die "--initrd is missing (see --help)"
[ -r "$initrd" ] || die "cannot read $initrd"

here=$(cd "$(dirname "$0")" && pwd)
qemu=${QEMU:-qemu-system-x86_64}
command -v "$qemu" >/dev/null || die "there is no $qemu; install QEMU 10.1.1 or newer, or give QEMU="

# socket PATH: refuses what QEMU could not connect to.
socket() {
	[ -S "$1" ] || die "$1 is no socket: is \`sdmorph serve\` running?"
	case $1 in
	*[\",\\]*) die "$1: no quotes, commas or backslashes in a socket's path" ;;
	esac
	[ "$(printf %s "$1" | wc -c)" -le 107 ] || die "$1: the path of a socket has at most 107 bytes"
}

# The caller's own arguments come last, so that they win.
if [ -n "$control" ]; then
	socket "$control"
	set -- -chardev "socket,id=control,path=$control" -device isa-serial,chardev=control,index=1 "$@"
fi
if [ -n "$device" ]; then
	socket "$device"
	"$qemu" -device help | grep -q '"vfio-user-pci"' || die "$qemu has no vfio-user-pci: it is in QEMU from 10.1 on"
	# | is no special character of JSON, and a path may hold slashes.
	case $device in
	*[\|\&]*) die "$device: no | or & in a socket's path" ;;
	esac
	json=$(grep -v '^#' "$here/device.json" | tr -d '\n' | sed "s|vfu\.sock|$device|")
	set -- -device "$json" "$@"
fi
if grep -qE '^flags.* (vmx|svm)( |$)' /proc/cpuinfo && [ -w /dev/kvm ]; then
	set -- -machine accel=kvm "$@"
fi

# preempt=full: without it the race of sd7-idle-race cannot be lost. panic=-1 and -no-reboot: a panic ends QEMU.
# no_timer_check: under TCG on a busy host, the kernel would count too few interrupts of the timer, and panic.
exec "$qemu" -no-user-config -nodefaults -display none -no-reboot -cpu max \
	-readconfig "$here/machine.cfg" \
	-kernel "$kernel" -initrd "$initrd" \
	-append "console=ttyS0 loglevel=8 preempt=full panic=-1 no_timer_check${append:+ $append}" \
	"$@"
