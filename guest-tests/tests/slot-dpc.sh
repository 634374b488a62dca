#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The port contains an error (DPC): the link is down until the kernel has cleared that. Passes if there is a drive again,
# recovered or found anew, and what was written to it and is written after it can be read.

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
# shellcheck source=guest-tests/tests/slot.sh
. "$tests/slot.sh"

# What is written to the drive before, in bytes; what is written after it comes behind it.
USED=$((1024 * 1024))

contain() {
	mark "containment"
	control_inject '{"dpc":"trigger"}' && wait_for "the event's report" logged 'DPC: containment event' &&
		wait_for "the link up" slot_is link-active true
}

# pciehp ignores the link if the kernel was granted DPC by its host; QEMU's firmware does not, and then it is a removal.
handled_once() {
	slot_said_one_of 'Link Down/Up ignored (recovered by DPC),' 'Link Down/Up ignored,' \
		'Link Down,Card present,Link Up,' 'Link Down,Card present,' && wait_for "a drive" drive_find
}

ktap_print_header
ktap_set_plan 11
card_test_start
ktap_test_result "the kernel has DPC" logged 'DPC: enabled with IRQ'

ktap_test_result "the card becomes a drive" drive_use card
ktap_test_result "what is written to it is read back" disk_takes_data 0 "$USED"
ktap_test_result "the error is contained, and the link let go" contain
ktap_test_result "there is a drive, after one removal at the most" handled_once
ktap_test_result "it has what was written" disk_has_data 0 "$USED"
ktap_test_result "what is written to it now is read back" disk_takes_data "$USED" "$USED"
mark "drive there"

card_test_end
