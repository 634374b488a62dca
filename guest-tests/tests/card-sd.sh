#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A card is used as cards are: for each of ext4, vfat and exfat, a card goes in, a file system is made, files are
# written, and read back after it was mounted again. Passes if all of them come back, fsck finds nothing, and the host's
# file has the same bytes.

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

# What is used of each card, in bytes: the host looks at all of it.
USED=$((16 * 1024 * 1024))

mkdir -p /mnt

# By their paths where busybox has an applet of the name: its shell would run that.

# $1: the type. A small file system, so that an emulated processor is done with it soon; exfat's has no option for that.
make_file_system() {
	case $1 in
	ext4) mkfs.ext4 -q -F "/dev/$disk" $((USED / 1024))k ;;
	vfat) /usr/bin/mkfs.vfat -I -F 16 "/dev/$disk" $((USED / 1024)) ;;
	exfat) mkfs.exfat "/dev/$disk" ;;
	esac >/tmp/mkfs.log 2>&1 && return 0
	ktap_print_msg "mkfs.$1: $(tr '\n' ' ' </tmp/mkfs.log)"
	return 1
}

# Sizes around those of sectors, pages and clusters, and one that takes many commands.
write_files() {
	for size in 1 511 4097 65537 2097152; do
		head -c "$size" /dev/urandom >"/mnt/file-$size" || return 1
	done
	(cd /mnt && sha256sum file-*) >/tmp/files.sha256
}

# $1: the type
files_survive() {
	mount -t "$1" "/dev/$disk" /mnt || return 1
	write_files && sync && umount /mnt || return 1
	echo 3 >/proc/sys/vm/drop_caches
	mount -t "$1" "/dev/$disk" /mnt || return 1
	(cd /mnt && sha256sum -c /tmp/files.sha256) >/tmp/check.log 2>&1
	survived=$?
	umount /mnt || return 1
	[ "$survived" -eq 0 ] || ktap_print_msg "$(grep -m 1 FAILED /tmp/check.log)"
	return "$survived"
}

# $1: the type
file_system_is_whole() {
	case $1 in
	ext4) fsck.ext4 -f -n "/dev/$disk" ;;
	*) "/usr/bin/fsck.$1" -n "/dev/$disk" ;;
	esac >/tmp/fsck.log 2>&1 && return 0
	ktap_print_msg "fsck.$1: $(tr '\n' ' ' </tmp/fsck.log)"
	return 1
}

ktap_print_header
ktap_set_plan 25
card_test_start

for type in ext4 vfat exfat; do
	# The kernel finds the card, reads its registers, and makes a disk of it within the time limit.
	card_test_use "$type: the card becomes a disk" $type sd
	# Exactly as many bytes as the image: the CSD register is right.
	ktap_test_result "$type: the disk has the image's size" disk_has_size_of $type
	# mkfs ends with status 0.
	ktap_test_result "$type: a file system can be made" make_file_system $type
	# Every file has the hash that it was written with, read from the card.
	ktap_test_result "$type: files come back after unmounting and mounting" files_survive $type
	# fsck, which changes nothing, ends with status 0.
	ktap_test_result "$type: fsck finds nothing" file_system_is_whole $type
	# The range can be read; whether the file has the same is the host's to say.
	ktap_test_result "$type: the host is told the hash" disk_tell_hash $type 0 $USED
	# The disk goes away with the card.
	ktap_test_result "$type: the card goes out and its disk with it" card_drop
done

card_test_end
