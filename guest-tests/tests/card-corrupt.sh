#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A card that fails now and then: spoilt responses and data, none at all, a card that is busy for long, blocks that are
# gone. Passes if the kernel asks again until the data are right, fails exactly the blocks that are gone, and all is
# well when the card has healed.

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

# What is written and read under each disturbance, in bytes, and where.
USED=$((1024 * 1024))
# Blocks that are gone, and a range with good ones on both sides.
BAD_FIRST=4100
BAD_COUNT=3
AROUND_FIRST=4096
AROUND_COUNT=16

# Disturb the card, and write and read: both succeed, and the data are right.
# $1: what, $2: how often
recovers_from() {
	felt_before=$(card_felt "$1")
	card_disturb "{\"what\":\"$1\",\"times\":$2}" && disk_takes_data 0 "$USED" || return 1
	card_disturb "{\"what\":\"$1\",\"times\":$2}" && disk_has_data 0 "$USED" || return 1
	felt=$(($(card_felt "$1") - felt_before))
	# Each of them was felt, half by what wrote, half by what read: else nothing was tested.
	[ "$felt" -eq $((2 * $2)) ] && return 0
	ktap_print_msg "$1: felt $felt times, not $((2 * $2))"
	return 1
}

# The card holds DAT0 low for two seconds: what is written meanwhile takes that long, and is right.
waits_for_busy() {
	uptime_read
	busy_from=$uptime
	card_disturb '{"what":"busy","duration":"2500ms"}' && disk_takes_data "$USED" "$USED" || return 1
	uptime_read
	[ $((uptime - busy_from)) -ge 2 ] && return 0
	ktap_print_msg "a card that was busy for 2.5 s took data after $((uptime - busy_from)) s"
	return 1
}

# Which blocks around the bad ones fail to be read or written: their numbers, on one line.
# $1: `skip` or `seek`, the rest: more of dd's operands
failing_blocks() {
	where=$1
	shift
	block=$AROUND_FIRST
	failing=
	while [ "$block" -lt $((AROUND_FIRST + AROUND_COUNT)) ]; do
		# By its path: busybox's shell would run its own.
		/usr/bin/dd "$@" "$where=$block" bs=512 count=1 2>/tmp/dd.log || failing="$failing $block"
		block=$((block + 1))
	done
	echo "${failing# }"
}

# $1: the blocks that are to fail, the rest: as for failing_blocks
fail_exactly() {
	expected=$1
	shift
	failing=$(failing_blocks "$@")
	[ "$failing" = "$expected" ] && return 0
	ktap_print_msg "failing blocks: ${failing:-none}; expected: ${expected:-none}"
	return 1
}

# $1: the blocks that are to fail
reads_fail() {
	fail_exactly "$1" skip "if=/dev/$disk" of=/dev/null iflag=direct
}

# $1: the blocks that are to fail
writes_fail() {
	fail_exactly "$1" seek if=/dev/zero "of=/dev/$disk" oflag=direct conv=notrunc
}

# The kernel's log names the bad blocks, and no other.
kernel_names() {
	named=$(dmesg | sed -n "s/.*I\/O error, dev $disk, sector \([0-9]*\) op .*/\1/p" | sort -n -u | tr '\n' ' ')
	[ "${named% }" = "$1" ] && return 0
	ktap_print_msg "the kernel names the sectors ${named:-(none)}"
	return 1
}

ktap_print_header
ktap_set_plan 21
card_test_start

# The kernel finds the card and makes a disk of it within the time limit.
card_test_use "the card becomes a disk" card sd

# Reading and writing succeed, the data have their hash, and the card was disturbed as often as it was to be.
for what in data-crc data-timeout response-crc response-timeout; do
	ktap_test_result "$what, once: the data are right" recovers_from "$what" 1
done
ktap_test_result "data-crc, twice in a row: the data are right" recovers_from data-crc 2
# Whether the file has the same is the host's to say.
ktap_test_result "the host is told the hash of what was disturbed" disk_tell_hash card 0 $USED
# It takes as long as the card was busy, and not for ever.
ktap_test_result "busy: writing waits, and the data are right" waits_for_busy
ktap_test_result "the host is told the hash of what had to wait" disk_tell_hash card $USED $USED

# No block fails yet: what fails later, fails for that reason.
ktap_test_result "before: every block can be read" reads_fail ''
bad=$(seq -s ' ' $BAD_FIRST $((BAD_FIRST + BAD_COUNT - 1)))
ktap_test_result "blocks go bad" card_disturb "{\"what\":\"bad-blocks\",\"first\":$BAD_FIRST,\"count\":$BAD_COUNT}"
# Blocks by number: those that are bad, all of them, no other.
ktap_test_result "reading fails for exactly the bad blocks" reads_fail "$bad"
ktap_test_result "writing fails for exactly the bad blocks" writes_fail "$bad"
ktap_test_result "the kernel names exactly the bad blocks" kernel_names "$bad"
ktap_test_result "the card heals" card_disturb '{"what":"heal"}'
ktap_test_result "afterwards: every block can be written" writes_fail ''
# The disk goes away with the card.
ktap_test_result "the card goes out and its disk with it" card_drop

card_test_end
