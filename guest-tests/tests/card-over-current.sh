#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A card draws too much current: once while nothing is asked of it, once in the middle of a long write, and then whenever
# it is powered. Passes if its power is cut each time, the kernel powers it anew and loses nothing as long as that helps,
# requests fail when it does not, and the card works when it is whole again.

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

USED=$((1024 * 1024))
# What is written while the card fails, and after how many sectors of it.
LONG=$((24 * 1024 * 1024))
ENOUGH=8192

# The supply of the card (LDO1_POWERON of RTS5261_LDO1233318_POW_CTL) is off.
power_is_off() {
	control_execute query-status || return 1
	# control_answer is control.sh's.
	# shellcheck disable=SC2154
	supplies=$(printf '%s' "$control_answer" | sed -n 's/.*"RTS5261_LDO1233318_POW_CTL": *"\(0x[0-9a-f]*\)".*/\1/p')
	[ $((supplies & 1)) -eq 0 ]
}

start_writer() {
	rm -f /tmp/writer
	read -r _ _ _ _ _ _ written_before _ <"/sys/block/$disk/stat"
	(
		head -c $LONG /dev/urandom | tee /tmp/long |
			dd of="/dev/$disk" bs=64k seek=$((USED / 65536)) conv=notrunc,fsync 2>/tmp/writer.log
		echo $? >/tmp/writer
	) &
}

enough_written() {
	read -r _ _ _ _ _ _ written _ <"/sys/block/$disk/stat" || return 1
	[ $((written - written_before)) -ge "$ENOUGH" ]
}

writing() {
	wait_for "$ENOUGH sectors written" enough_written && [ ! -e /tmp/writer ]
}

writer_ended() {
	[ -s /tmp/writer ]
}

writer_succeeds() {
	wait_for "the writer's end" writer_ended || return 1
	read -r status </tmp/writer
	[ "$status" -eq 0 ] || return 1
	[ "$(disk_sha256 "$USED" "$LONG")" = "$(sha256sum </tmp/long | cut -d ' ' -f 1)" ]
}

reading_fails() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
	if dd if="/dev/$disk" of=/dev/null bs=64k count=1 2>/tmp/dd.log; then
		ktap_print_msg "64 KiB were read"
		return 1
	fi
	grep -q -i 'i/o error\|input/output error\|no such device\|no medium' /tmp/dd.log && return 0
	ktap_print_msg "dd: $(tail -n 1 /tmp/dd.log)"
	return 1
}

# What powers the card makes it draw too much again.
RULE='{"rule":{"name":"shorted","on":{"write":"RTS5261_LDO1233318_POW_CTL","value":"0x1","mask":"0x1"},"do":{"card":"over-current"}}}'

ktap_print_header
ktap_set_plan 20
card_test_start

# The kernel finds the card and makes a disk of it within the time limit; what is written is what has to be there.
card_test_use "the card becomes a disk" card sd
ktap_test_result "what is written is read back" disk_takes_data 0 $USED

# The device reports it, and only if the driver has set the reader to look for it. The driver takes the power away.
ktap_test_result "at rest: the card draws too much current" control_execute over-current
ktap_test_result "at rest: its power is cut" wait_for "the power off" power_is_off
# The hash of what was written, read from a card that had to be powered and tuned anew.
ktap_test_result "at rest: the kernel powers the card anew, and the data are there" disk_has_data 0 "$USED"

# The disk's own counter says so, and the writer is still at it.
start_writer
ktap_test_result "in mid-write: the card is being written to" writing
ktap_test_result "in mid-write: the card draws too much current" control_execute over-current
# Status 0, and the hash of all that was written, read from the card.
ktap_test_result "in mid-write: the writer gets no error, and nothing is lost" writer_succeeds

# Now it does so whenever it is powered.
ktap_test_result "broken: from now on, always" control_execute rule-add "$RULE"
ktap_test_result "broken: the card draws too much current" control_execute over-current
ktap_test_result "broken: reading fails with an I/O error" reading_fails
ktap_test_result "broken: its power is cut" wait_for "the power off" power_is_off
ktap_test_result "broken: the card goes out and its disk with it" card_drop

# Whole again: a disk within the time limit, with what was on it.
ktap_test_result "whole: not any more" control_execute rule-remove '{"name":"shorted"}'
card_test_use "whole: the card becomes a disk" card sd
ktap_test_result "whole: the data are there" disk_tell_hash card 0 $USED

card_test_end
