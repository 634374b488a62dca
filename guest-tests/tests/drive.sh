# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# What the tests of a card that has become a drive share. To be sourced after ktap.sh, control.sh, reader.sh and card.sh,
# whose functions about disks are for the drive's as well: `disk` is its name.

# Prints what pciehp has said of the slot since the line that `mark` wrote last, one to a line.
slot_said() {
	dmesg | sed 's/^\[[^]]*\] //' |
		awk '/^sdmorph-test: / { said = "" } sub(/.*pciehp: Slot\(8\): /, "") { said = said $0 "\n" } END { printf "%s", said }'
}

# The slot came up again after it had gone down, and pciehp said so in this order, and nothing else. What it says of
# presence is up to when its thread gets to look: presence goes 10 ms after the link, and comes in the same moment, but
# pciehp reads the one, then the other, and the slot can come up in between.
slot_came_anew() {
	slot_lines=$(slot_said | tr '\n' ',')
	case $slot_lines in
	'Link Down,Card present,Link Up,' | 'Link Down,Card not present,Card present,Link Up,') return 0 ;;
	'Link Down,Link Up,' | 'Link Down,Card not present,Link Up,') return 0 ;;
	esac
	ktap_print_msg "pciehp said of the slot: $slot_lines"
	return 1
}

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

# Start a process that uses the drive; when it ends, its status is in a file.
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
