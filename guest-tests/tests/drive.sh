# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# What the tests of a card that has become a drive share. To be sourced after ktap.sh, control.sh, reader.sh and card.sh,
# whose functions about disks are for the drive's as well: `disk` is its name.

# The reader's slot has an NVMe controller, whose namespace has become a disk that can be opened.
drive_find() {
	for disk_path in "$reader"/nvme/nvme*/nvme*n*; do
		disk=${disk_path##*/}
		[ -b "/dev/$disk" ] && [ -d "/sys/block/$disk/queue" ] && (: <"/dev/$disk") 2>/dev/null && return 0
	done
	return 1
}

# Nothing is left of the drive: neither the node, nor what is in sysfs, nor the controller.
drive_gone() {
	[ ! -e "/dev/$disk" ] && [ ! -e "/sys/block/$disk" ] && [ ! -e "$reader/nvme" ]
}

# A card goes in, the reader's driver hands the slot over, and there is a drive.
# $1: the image, $2: more members of the command's arguments (may be left out)
drive_use() {
	card_insert "$1" sd-express "${2:-}" && wait_for "the reader gone" reader_gone && wait_for "a drive" drive_find
}

# The card is taken out: the drive goes, the reader comes back.
drive_drop() {
	card_eject && wait_for "the drive gone" drive_gone && wait_for "the reader back" reader_bound
}

# $1: how many drives the kernel has found since it started
drives_found() {
	[ "$(dmesg | grep -c 'nvme nvme.*: pci function ')" -eq "$1" ]
}

# No other drive has been found, and the disk has kept its name.
drive_is_same() {
	disk_was=$disk
	drive_find && [ "$disk" = "$disk_was" ] && drives_found 1
}

# The PCI device has this way to be reset, and no other.
# $1: as its reset_method calls it
drive_reset_only_by() {
	echo "$1" >"$reader/reset_method" && [ "$(cat "$reader/reset_method")" = "$1" ]
}

# A load that keeps the drive busy with 8 MiB of zeros until there is a /tmp/stop: at a reset, commands are under way.
# $1: where it writes, in blocks of 64 KiB
drive_keep_busy() {
	until [ -e /tmp/stop ]; do
		dd if=/dev/zero of="/dev/$disk" bs=64k seek="$1" count=128 oflag=direct conv=notrunc || return 1
	done
}

# Sets drive_written: sectors since the drive came up.
drive_written_read() {
	read -r _ _ _ _ _ _ drive_written _ <"/sys/block/$disk/stat"
}

drive_written_enough() {
	drive_written_read && [ "$drive_written" -ge "$drive_written_until" ]
}

# More is written from now on, and the loads have not ended.
# $1: how many sectors more, the rest: what the loads are called
drive_goes_on() {
	drive_written_read || return 1
	drive_written_until=$((drive_written + $1))
	wait_for "$1 sectors more" drive_written_enough || return 1
	shift
	loads_at_work "$@"
}
