#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# An SD Express card goes in with its write-protect switch set, then without it, when the switch to PCIe fails. Passes if
# it is an SD card both times, and the driver asks for the switch again when it is put in once more.

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

# $1: where the slot is, as query-status calls it
phase_is() {
	control_execute query-status || return 1
	# control_answer is control.sh's.
	# shellcheck disable=SC2154
	case $control_answer in
	*"\"phase\":\"$1\""*) return 0 ;;
	esac
	return 1
}

read_only_is() {
	[ "$(cat "/sys/block/$disk/ro")" = "$1" ]
}

# The reader's link fell, and the driver found the reader anew.
reader_is_back() {
	logged 'pciehp: Slot(8): Link Down' && logged 'pciehp: Slot(8): Link Up' && reader_bound
}

ktap_print_header
ktap_set_plan 18
card_test_start

# With the switch on the card's edge: the driver does not ask for PCIe, and the card becomes a read-only disk.
card_test_use "protected: the card becomes a disk" card sd-express '"write-protect":true'
ktap_test_result "protected: the reader has kept the slot" phase_is reader
ktap_test_result "protected: the disk is read-only" read_only_is 1
ktap_test_result "protected: the disk has the image's size" disk_has_size_of card
ktap_test_result "protected: the card goes out and its disk with it" card_drop

# The driver asks for PCIe, and the card does not come up.
ktap_test_result "failed: the next switch is to fail" \
	control_execute rule-add '{"rule":{"name":"fails","on":{"start":true},"do":{"relink":"fail"}}}'
ktap_test_result "failed: the card goes in" card_insert card sd-express
ktap_test_result "failed: the reader goes, and comes back" wait_for "the reader" reader_is_back
# Without being put in again, within the time limit.
ktap_test_result "failed: the card becomes a disk" wait_for "a disk" disk_find
ktap_test_result "failed: the disk is not read-only" read_only_is 0
# The hash of what was written, read from the card.
ktap_test_result "failed: what is written is read back" disk_takes_data 0 $USED
ktap_test_result "failed: the host is told the hash" disk_tell_hash card 0 $USED
ktap_test_result "failed: the card goes out and its disk with it" card_drop

# What failed once is not given up for ever. The switch is left pending: what comes of it is another test's.
control_execute rule-add '{"rule":{"name":"waits","on":{"start":true},"do":{"relink":"600s"}}}'
if card_insert card sd-express && wait_for "the switch to be requested" phase_is switching; then
	ktap_test_pass "again: the driver asks for the switch"
else
	ktap_test_fail "again: the driver asks for the switch"
fi

card_test_end
