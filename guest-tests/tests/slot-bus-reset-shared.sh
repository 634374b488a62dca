#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A drive's secondary bus is reset, and while it is, the port has another reason for its interrupt: a corrected error. Says
# whether pciehp, which shares the interrupt, takes the link's fall for a removal then. Passes if the drive and what was
# written to it are there at the end either way.

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

# What is written to the drive before, in bytes.
USED=$((1024 * 1024))

reset_bus() {
	mark "bus reset"
	echo 1 >"$reader/reset"
}

error_was_reported() {
	logged 'AER: .*[Cc]orrect'
}

# The drive that was there, or the one that came in its place.
drive_there() {
	wait_for "pciehp to be quiet" slot_quiet && wait_for "a drive" drive_find
}

not_removed() {
	slot_lines=$(slot_said | tr '\n' ',')
	ktap_print_msg "pciehp said of the slot: $slot_lines"
	case $slot_lines in
	*'Link Down,'*) return 1 ;;
	esac
}

ktap_print_header
ktap_set_plan 12
card_test_start

ktap_test_result "the card becomes a drive" drive_use card
ktap_test_result "what is written to it is read back" disk_takes_data 0 "$USED"
ktap_test_result "the function can be reset by its bus" drive_reset_only_by bus
ktap_test_result "its bus is reset" reset_bus
ktap_test_result "the kernel has reported the error" wait_for "the error's report" error_was_reported
ktap_test_result "there is a drive" drive_there
ktap_test_result "pciehp has taken the reset for no removal" not_removed
ktap_test_result "the drive has what was written" disk_has_data 0 "$USED"
mark "drive there"

card_test_end
