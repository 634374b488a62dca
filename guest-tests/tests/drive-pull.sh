#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A card is pulled out of its slot while it is a drive and in use: one process writes to it without the page cache, one
# reads, one fills a file of a mounted file system, one makes files there with fsync. Passes if all of them get an error
# and end, drive and file system go away, the reader comes back, another card works as a drive, and the first one, put in
# again, has every file whose fsync had ended.

# Functions are called by name, through wait_for and ktap_test_result.
# shellcheck disable=SC2317

tests=$(dirname "$0")
# shellcheck source=guest-tests/tests/ktap.sh
. "$tests/ktap.sh"
# shellcheck source=guest-tests/tests/control.sh
. "$tests/control.sh"
# shellcheck source=guest-tests/tests/reader.sh
. "$tests/reader.sh"
# shellcheck source=guest-tests/tests/card.sh
. "$tests/card.sh"
# shellcheck source=guest-tests/tests/drive.sh
. "$tests/drive.sh"
# shellcheck source=guest-tests/tests/slot.sh
. "$tests/slot.sh"

# What the file system has of the card, in MiB; direct writes and reads begin behind it.
FILE_SYSTEM=512
# Sectors after which the card is pulled, files that have been synced by then: all are in full swing.
ENOUGH=2048
ENOUGH_FILES=4
# What is written to the other card, in bytes.
USED=$((1024 * 1024))

LOADS="direct-writer direct-reader buffered-writer syncing-writer"

direct_writer() {
	dd if=/dev/zero of="/dev/$disk" bs=64k seek=$((FILE_SYSTEM * 16)) oflag=direct conv=notrunc
}

direct_reader() {
	dd if="/dev/$disk" of=/dev/null bs=64k skip=$((FILE_SYSTEM * 16)) iflag=direct
}

# The same 4 MiB again and again, into the page cache, and a sync after each time: without it a kernel takes the data for
# ever, and nobody is told that they are lost (6.1: blocks that are mapped need no journal).
buffered_writer() {
	while dd if=/dev/zero of=/mnt/buffered bs=64k count=64 conv=notrunc,fsync; do :; done
	return 1
}

# The hash of a file goes into the list when the drive has the file.
syncing_writer() {
	number=0
	while head -c 50000 /dev/urandom >/tmp/piece && dd if=/tmp/piece of="/mnt/file-$number" bs=64k conv=fsync; do
		piece_hash=$(sha256sum </tmp/piece)
		echo "${piece_hash%% *}  file-$number" >>/tmp/files.sha256
		number=$((number + 1))
	done
	return 1
}

start_loads() {
	load_start direct-writer direct_writer
	load_start direct-reader direct_reader
	load_start buffered-writer buffered_writer
	load_start syncing-writer syncing_writer
}

enough_done() {
	read -r _ _ read_sectors _ _ _ written_sectors _ <"/sys/block/$disk/stat" || return 1
	[ "$read_sectors" -ge "$ENOUGH" ] && [ "$written_sectors" -ge "$ENOUGH" ] || return 1
	[ -e /tmp/files.sha256 ] && [ "$(wc -l </tmp/files.sha256)" -ge "$ENOUGH_FILES" ]
}

# Unquoted: LOADS is a list, to be split.
in_full_swing() {
	# shellcheck disable=SC2086
	wait_for "$ENOUGH sectors read and written" enough_done && loads_at_work $LOADS
}

make_file_system() {
	mkdir -p /mnt && mkfs.ext4 -q -F "/dev/$disk" "${FILE_SYSTEM}M" >/tmp/mkfs.log 2>&1 &&
		mount -t ext4 "/dev/$disk" /mnt && return 0
	ktap_print_msg "mkfs.ext4: $(tr '\n' ' ' </tmp/mkfs.log)"
	return 1
}

# Mounting replays the journal.
synced_files_are_there() {
	ktap_print_msg "files whose fsync had ended: $(wc -l </tmp/files.sha256)"
	mount -t ext4 "/dev/$disk" /mnt || return 1
	(cd /mnt && sha256sum -c /tmp/files.sha256) >/tmp/check.log 2>&1
	there=$?
	umount /mnt
	[ "$there" -eq 0 ] && return 0
	ktap_print_msg "$(grep -m 1 -e FAILED -e 'No such' /tmp/check.log)"
	return 1
}

ktap_print_header
ktap_set_plan 24
card_test_start

ktap_test_result "the card becomes a drive" drive_use first '"serial":1'
ktap_test_result "a file system is made and mounted" make_file_system
start_loads
# The disk's own counters say so, and nobody has ended yet.
ktap_test_result "the drive is written to and read" in_full_swing
# Node, sysfs and controller go, though a file system is mounted, and the reader's driver binds again.
ktap_test_result "the card is pulled, the drive goes away and the reader comes back" drive_drop
# What pciehp says is that of a pull without load.
ktap_test_result "the slot went down and came up once" slot_came_anew
# All are told, and none hangs. Status 0 would mean the drive's end, and no card was pulled from under it.
for load in $LOADS; do
	ktap_test_result "the $load gets an error" load_failed "$load"
done
ktap_test_result "the file system is unmounted" umount /mnt

# Another card in the same slot: a drive that keeps what is written to it.
ktap_test_result "the other card becomes a drive" drive_use second '"serial":2'
ktap_test_result "it has the image's size" disk_has_size_of second
ktap_test_result "what is written to it is read back" disk_takes_data 0 $USED
ktap_test_result "the host is told its hash" disk_tell_hash second 0 $USED
ktap_test_result "it is pulled, and the reader comes back" drive_drop

# The first one again: power was cut, no more.
ktap_test_result "the first card becomes a drive again" drive_use first '"serial":1'
ktap_test_result "the files are there whose fsync had ended" synced_files_are_there
# After the journal's replay nothing is left to be repaired.
ktap_test_result "the file system has no error" fsck.ext4 -n -f "/dev/$disk"
ktap_test_result "the host is told its hash" disk_tell_hash first 0 $((16 * 1024 * 1024))
ktap_test_result "it is pulled, and the reader comes back" drive_drop

card_test_end
