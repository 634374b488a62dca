#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A card is pulled out while the kernel meets it as a drive: when the driver enables the controller, at its first admin
# commands, at the first I/O command. Passes if the reader comes back each time, and another card is a drive that works.

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

USED=$((1024 * 1024))

# The moments, as triggers of rules.
ENABLED='"write":"CC","value":1,"mask":1'
FIRST_COMMAND='"write":"SQ0TDBL","nth":1'
LATER_COMMAND='"write":"SQ0TDBL","nth":6'
# Each CPU has a queue of its own, and which one reads the partition table is not known.
FIRST_IO='"write":"SQ1TDBL","nth":1'
FIRST_IO_OF_OTHER='"write":"SQ2TDBL","nth":1'

pulled() {
	control_execute query-rules || return 1
	# control_answer is control.sh's.
	# shellcheck disable=SC2154
	case $control_answer in
	*'"hits":1'* | *'"hits": 1'*) return 0 ;;
	esac
	return 1
}

# Nothing is left of a drive.
no_drive() {
	[ ! -e "$reader/nvme" ] || return 1
	for drive in /sys/class/nvme/nvme* /sys/block/nvme* /dev/nvme*n*; do
		[ ! -e "$drive" ] || return 1
	done
}

# The card is put in, and pulled by a rule.
# $@: the moments, of which the first to come counts
pulled_at() {
	rules=0
	for moment in "$@"; do
		rules=$((rules + 1))
		control_execute rule-add \
			"{\"rule\":{\"name\":\"pulled-$rules\",\"on\":{$moment},\"do\":{\"card\":\"eject\"},\"times\":1}}" || return 1
	done
	card_insert first sd-express '"serial":1' && wait_for "the card pulled" pulled &&
		wait_for "the reader back" reader_bound && wait_for "nothing left of the drive" no_drive
	pulled_status=$?
	while [ "$rules" -gt 0 ]; do
		control_execute rule-remove "{\"name\":\"pulled-$rules\"}" || return 1
		rules=$((rules - 1))
	done
	return "$pulled_status"
}

ktap_print_header
ktap_set_plan 13
card_test_start

# Within the time limit the reader is bound again, and there is neither controller nor disk.
ktap_test_result "pulled when the controller is enabled: the reader comes back" pulled_at "$ENABLED"
ktap_test_result "pulled at the first admin command: the reader comes back" pulled_at "$FIRST_COMMAND"
ktap_test_result "pulled at a later admin command: the reader comes back" pulled_at "$LATER_COMMAND"
ktap_test_result "pulled at the first I/O command: the reader comes back" pulled_at "$FIRST_IO" "$FIRST_IO_OF_OTHER"

ktap_test_result "the next card becomes a drive" drive_use second '"serial":2'
ktap_test_result "it has the image's size" disk_has_size_of second
# The hash of what was written, read from the drive.
ktap_test_result "what is written to it is read back" disk_takes_data 0 $USED
# The range can be read; whether the file has the same is the host's to say.
ktap_test_result "the host is told the hash" disk_tell_hash second 0 $USED
ktap_test_result "it is pulled, and the reader comes back" drive_drop

card_test_end
