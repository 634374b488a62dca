#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A card is pulled out while it is written to; then it goes in again, and another one after it. Passes if the writer gets
# an error and ends, the disk goes away, both cards work afterwards, and the host's files have the same bytes.

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

# Sectors after which the card is pulled: the writer is in full swing.
ENOUGH=2048
# What is written to each card afterwards, in bytes.
USED=$((1024 * 1024))

# Write until an error comes; the card has more room than the time limit allows to fill.
start_writer() {
	rm -f /tmp/writer
	(
		dd if=/dev/zero of="/dev/$disk" bs=64k oflag=direct 2>/tmp/writer.log
		echo $? >/tmp/writer
	) &
}

enough_written() {
	read -r _ _ _ _ _ _ written _ <"/sys/block/$disk/stat" || return 1
	[ "$written" -ge "$ENOUGH" ]
}

writing() {
	wait_for "$ENOUGH sectors written" enough_written && [ ! -e /tmp/writer ]
}

writer_ended() {
	[ -s /tmp/writer ]
}

# Status 0 would mean that the whole card was written, and no card was pulled from under the writer.
writer_failed() {
	wait_for "the writer's end" writer_ended || return 1
	read -r status </tmp/writer
	[ "$status" -ne 0 ]
}

ktap_print_header
ktap_set_plan 18
card_test_start

# The kernel finds the card and makes a disk of it within the time limit.
card_test_use "the card becomes a disk" first sd
start_writer
# The disk's own counter says so, and the writer is still at it.
ktap_test_result "the card is being written to" writing
# The card is gone at once; the disk within the time limit.
ktap_test_result "the card is pulled, and its disk goes away" card_drop
# The writer is told, and does not hang.
ktap_test_result "the writer gets an error" writer_failed

# The same card, then another one: a disk of the right size within the time limit, that keeps what is written to it.
for card in first second; do
	card_test_use "$card: the card becomes a disk" $card sd
	ktap_test_result "$card: the disk has the image's size" disk_has_size_of $card
	ktap_test_result "$card: what is written is read back" disk_takes_data 0 $USED
	# The range can be read; whether the file has the same is the host's to say.
	ktap_test_result "$card: the host is told the hash" disk_tell_hash $card 0 $USED
	ktap_test_result "$card: the card goes out and its disk with it" card_drop
done

card_test_end
