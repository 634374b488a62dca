# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# What the tests of cards in the reader share: putting images in, the disk that comes of it, hashes for the
# host, processes that use the disk.
# To be sourced after ktap.sh, control.sh and reader.sh.
#
# An image of the scenario is known by its name. The lab says what there is to know of it in /images/NAME: `arguments`,
# members of the JSON object that card-insert takes, and `bytes`, its size.

# The card's disk, set by disk_find: its name in /sys/block, and in /dev.
disk=

# $1: the image, $2: the kind of card, $3: more members of the command's arguments (may be left out)
card_insert() {
	mark "inserting $2 with the image $1"
	read -r card_arguments <"/images/$1/arguments" || return 1
	control_execute card-insert "{\"kind\":\"$2\",$card_arguments${3:+,$3}}"
}

card_eject() {
	mark "ejecting"
	control_execute card-eject
}

# $1: the arguments of card-corrupt, a JSON object
card_disturb() {
	mark "disturbing $1"
	control_execute card-corrupt "$1"
}

# Prints how often the card in the reader has felt a disturbance. $1: which, as card-corrupt calls it
card_felt() {
	control_execute query-status >/dev/null
	# control_answer is control.sh's.
	# shellcheck disable=SC2154
	printf '%s' "$control_answer" | sed -n "s/.*\"felt\": *{[^}]*\"$1\": *\([0-9]*\).*/\1/p"
}

# Where the kernel tells of hosts and cards, as MMC's debugfs has it: HOST/ios, HOST/CARD/status.
MMC_DEBUG=/sys/kernel/debug

# The reader's card has become a disk, and the kernel has done with it what it does by itself: node, link in /sys/block,
# queue, opening, reading of the partition table, in this order. The card's status in debugfs comes after all that
# (mmc_blk_probe of drivers/mmc/core/block.c), and goes before any of it.
disk_find() {
	for disk_path in "$reader"/rtsx_pci_sdmmc.*/mmc_host/mmc*/mmc*:*/block/mmcblk*; do
		disk=${disk_path##*/}
		disk_card=${disk_path%/block/*}
		disk_host=${disk_card%/*}
		[ -b "/dev/$disk" ] && [ -e "$MMC_DEBUG/${disk_host##*/}/${disk_card##*/}/status" ] && return 0
	done
	return 1
}

# Nothing is left of the reader's disk, and nothing comes of the card any more: the node goes first, then what is in
# sysfs, and the card's power is turned off last, also of one that was pulled out before it became a disk.
disk_gone() {
	for disk_path in "$reader"/rtsx_pci_sdmmc.*/mmc_host/mmc*/mmc*:*; do
		[ ! -e "$disk_path" ] || return 1
	done
	if [ -n "$disk" ]; then
		[ ! -e "/dev/$disk" ] && [ ! -e "/sys/block/$disk" ] || return 1
	fi
	for disk_host in "$reader"/rtsx_pci_sdmmc.*/mmc_host/mmc*; do
		# Such as `power mode:	0 (off)`.
		grep -q '^power mode:.*(off)$' "$MMC_DEBUG/${disk_host##*/}/ios" || return 1
	done
}

# Put a card in and wait for its disk.
# Parameters as those of card_insert.
card_use() {
	card_insert "$@" && wait_for "a disk of the card $1" disk_find
}

# Report whether the card becomes a disk; end the test if it does not, since nothing of it could be tested then.
# $1: what was tested; the rest as the parameters of card_insert
card_test_use() {
	card_description=$1
	shift
	if card_use "$@"; then
		ktap_test_pass "$card_description"
	else
		ktap_test_fail "$card_description"
		control_close
		ktap_finished
	fi
}

# Take the card out and wait until its disk is gone.
card_drop() {
	card_eject && wait_for "the disk gone" disk_gone
}

# The disk has as many bytes as the image.
# $1: the image
disk_has_size_of() {
	read -r disk_sectors <"/sys/block/$disk/size" || return 1
	read -r image_bytes <"/images/$1/bytes" || return 1
	[ $((disk_sectors * 512)) -eq "$image_bytes" ] && return 0
	ktap_print_msg "$disk has $((disk_sectors * 512)) bytes, the image $1 has $image_bytes"
	return 1
}

# Print the SHA-256 of a range as the card has it now, not as the kernel remembers it.
# $1: the first byte, $2: how many; both multiples of 512
disk_sha256() {
	# Without the node, dd would read or make a file of its name.
	[ -b "/dev/$disk" ] || return 1
	sync
	echo 3 >/proc/sys/vm/drop_caches
	disk_block=512
	[ $((($1 | $2) % 65536)) -ne 0 ] || disk_block=65536
	dd if="/dev/$disk" bs="$disk_block" skip=$(($1 / disk_block)) count=$(($2 / disk_block)) 2>/dev/null |
		sha256sum | cut -d ' ' -f 1
}

# Tell the host what a range has, for it to look into its file. In the kernel's log, where no other line can cut it.
# $1: the image, $2: the first byte, $3: how many
disk_tell_hash() {
	disk_hash=$(disk_sha256 "$2" "$3")
	case $disk_hash in
	# None, or that of nothing at all: the read failed.
	'' | e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855)
		ktap_print_msg "nothing could be read from $disk at $2"
		return 1
		;;
	esac
	echo "sdmorph-hash $1 $disk_hash $2 $3" >/dev/kmsg
}

# Write random data to a range and read it back from the card: both have one hash.
# $1: the first byte, $2: how many; both multiples of 512
disk_takes_data() {
	[ -b "/dev/$disk" ] || return 1
	head -c "$2" /dev/urandom >/tmp/data || return 1
	disk_block=512
	[ $((($1 | $2) % 65536)) -ne 0 ] || disk_block=65536
	dd if=/tmp/data of="/dev/$disk" bs="$disk_block" seek=$(($1 / disk_block)) conv=notrunc,fsync 2>/tmp/dd.log || {
		ktap_print_msg "writing $2 bytes at $1 of $disk: $(tail -n 1 /tmp/dd.log)"
		return 1
	}
	disk_has_data "$1" "$2"
}

# A range still has what disk_takes_data has written last, read from the card.
# $1: the first byte, $2: how many
disk_has_data() {
	[ "$(disk_sha256 "$1" "$2")" = "$(sha256sum </tmp/data | cut -d ' ' -f 1)" ] && return 0
	ktap_print_msg "$2 bytes at $1 of $disk are not those that were written"
	return 1
}

# Start a process that uses the disk; when it ends, its status is in a file.
# $1: what it is called, in one word; the rest: a command
load_start() {
	load=$1
	shift
	rm -f "/tmp/$load.ended"
	(
		"$@" >"/tmp/$load.log" 2>&1
		echo $? >"/tmp/$load.ended"
	) &
}

# None of them has ended.
# $@: what they are called
loads_at_work() {
	for load in "$@"; do
		[ ! -e "/tmp/$load.ended" ] || {
			ktap_print_msg "$load has ended: $(tail -n 1 "/tmp/$load.log")"
			return 1
		}
	done
}

# $1: what it is called
load_has_status() {
	[ -s "/tmp/$1.ended" ]
}

# It ends, and load_status is its status.
# $1: what it is called
load_wait() {
	wait_for "the end of the $1" load_has_status "$1" || return 1
	read -r load_status <"/tmp/$1.ended"
	ktap_print_msg "$1: status $load_status, $(tail -n 1 "/tmp/$1.log")"
}

load_failed() {
	load_wait "$1" && [ "$load_status" -ne 0 ]
}

load_succeeded() {
	load_wait "$1" && [ "$load_status" -eq 0 ]
}

# The drivers bind, the control port answers. Ends the test if not: nothing can be tested then. Reports two results.
card_test_start() {
	reader_test_start
	if control_open; then
		ktap_test_pass "the control port answers"
	else
		ktap_test_fail "the control port answers"
		ktap_finished
	fi
}

# The kernel did not fault, and accessed nothing that is not modelled. Reports two results, and ends the test.
card_test_end() {
	ktap_test_result "nothing faults" no_fault
	ktap_test_result "every register accessed is modelled" no_unmodelled_access
	control_close
	ktap_finished
}
