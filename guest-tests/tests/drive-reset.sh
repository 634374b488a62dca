#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A drive is reset while it is written to: its controller as nvme-cli does it (reset_controller), its function through
# the PCI device's `reset` (FLR). Passes if no writer sees an error, the drive stays the same one, and every block is the one
# that was written.

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

# Bytes of a round, and from where on the rounds lie; before that, blocks are written that nobody looks at.
ROUND=$((512 * 1024))
ROUNDS_FROM=$((16 * 1024 * 1024))
# Sectors that have to be written between two resets. Requests that a reset ends are tried again, five times at most.
ENOUGH=1024

# Other data for each round, and the hash of what was written.
round_writer() {
	round=0
	until [ -e /tmp/stop ]; do
		head -c "$ROUND" /dev/urandom >/tmp/round
		dd if=/tmp/round of="/dev/$disk" bs=64k seek=$(((ROUNDS_FROM + round * ROUND) / 65536)) oflag=direct \
			conv=notrunc || return 1
		round_hash=$(sha256sum </tmp/round)
		echo "${round_hash%% *}" >>/tmp/rounds
		round=$((round + 1))
	done
}

writers_go_on() {
	drive_goes_on "$ENOUGH" busy-writer round-writer
}

controller_is_live() {
	[ "$(cat "$controller/state")" = live ]
}

# How often the driver has set up the queues of its controller.
times_set_up() {
	dmesg | grep -c 'nvme nvme.*: .* default/read/poll queues$'
}

# The controller is set up anew, once.
# $1: the file in sysfs that resets
reset_through() {
	before=$(times_set_up)
	mark "reset through ${1##*/}"
	echo 1 >"$1" || return 1
	wait_for "the controller live" controller_is_live || return 1
	[ "$(times_set_up)" -eq $((before + 1)) ] && return 0
	ktap_print_msg "set up $before times before, $(times_set_up) times after"
	return 1
}

# $1: the file in sysfs that resets
three_resets() {
	for _ in 1 2 3; do
		writers_go_on && reset_through "$1" || return 1
	done
	writers_go_on
}

rounds_are_right() {
	round=0
	while read -r round_hash; do
		[ "$(disk_sha256 $((ROUNDS_FROM + round * ROUND)) "$ROUND")" = "$round_hash" ] || {
			ktap_print_msg "round $round is not what was written"
			return 1
		}
		round=$((round + 1))
	done </tmp/rounds
	ktap_print_msg "rounds: $round"
	[ "$round" -gt 0 ]
}

ktap_print_header
ktap_set_plan 13
card_test_start

ktap_test_result "the card becomes a drive" drive_use card
controller=$(echo "$reader"/nvme/nvme*)
load_start busy-writer drive_keep_busy 0
load_start round-writer round_writer

# Each time the controller is set up once, and the writers go on.
ktap_test_result "the controller is reset three times under load" three_resets "$controller/reset_controller"
ktap_test_result "the function can be reset by FLR" drive_reset_only_by flr
ktap_test_result "the function is reset three times under load" three_resets "$reader/reset"

: >/tmp/stop
ktap_test_result "no write of the busy writer failed" load_succeeded busy-writer
ktap_test_result "nor of the other one" load_succeeded round-writer
ktap_test_result "it is the same drive" drive_is_same
# The hash of what was written, read from the drive.
ktap_test_result "every round is what was written" rounds_are_right
# The range can be read; whether the file has the same is the host's to say.
ktap_test_result "the host is told the hash" disk_tell_hash card $ROUNDS_FROM "$ROUND"

card_test_end
