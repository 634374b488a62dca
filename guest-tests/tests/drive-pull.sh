#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A card is pulled out of its slot while it is a drive and in use: fio writes to it and reads from it past the page cache,
# and does the same to a mounted file system through the page cache; one process makes files there with fsync. Passes if
# each of them gets an error and fio ends, drive and file system go away, the reader comes back, another card works as a
# drive, and the first one, put in again, has every file whose fsync had ended.

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
# shellcheck source=guest-tests/tests/fio.sh
. "$tests/fio.sh"
# shellcheck source=guest-tests/tests/slot.sh
. "$tests/slot.sh"

# What the file system has of the card, in MiB; the direct jobs' regions are behind it.
FILE_SYSTEM=512
# Files that have been synced before the card is pulled.
ENOUGH_FILES=4
# What is written to the other card, in bytes.
USED=$((1024 * 1024))

JOBS="direct-writer direct-reader buffered-writer buffered-reader"

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

# This file has been synced as well.
blocks_written() {
	fio_blocks_written /mnt && (cd /mnt && sha256sum blocks) >/tmp/files.sha256
}

start_loads() {
	{
		fio_direct_jobs "$FILE_SYSTEM"
		fio_buffered_jobs /mnt
	} | fio_start
	load_start syncing-writer syncing_writer
}

enough_synced() {
	[ "$(wc -l </tmp/files.sha256)" -gt "$ENOUGH_FILES" ]
}

# Unquoted: JOBS is a list, to be split.
in_full_swing() {
	# shellcheck disable=SC2086
	wait_for "$ENOUGH_FILES files synced" enough_synced && loads_at_work syncing-writer && fio_in_full_swing $JOBS
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
ktap_set_plan 27
card_test_start

ktap_test_result "the card becomes a drive" drive_use first '"serial":1'
ktap_test_result "a file system is made and mounted" make_file_system
# Written by fio, and read back.
ktap_test_result "the buffered reader's file is written" blocks_written
start_loads
# fio has said so of each job, the disk has reads and writes under way, and nobody has ended yet.
ktap_test_result "the drive is written to and read" in_full_swing
# Node, sysfs and controller go, though a file system is mounted, and the reader's driver binds again.
ktap_test_result "the card is pulled, the drive goes away and the reader comes back" drive_drop
# What pciehp says is that of a pull without load.
ktap_test_result "the slot went down and came up once" slot_came_anew
# All are told, and none hangs. Status 0 would mean that no card was pulled from under them.
ktap_test_result "fio ends" load_failed fio
for job in $JOBS; do
	ktap_test_result "the $job gets an error" fio_job_got_error "$job"
done
ktap_test_result "the syncing-writer gets an error" load_failed syncing-writer
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
