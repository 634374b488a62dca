#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The link goes down and is up again 20 ms later: three times while the reader is at it, and once while the drive is. Passes
# if each flap is one removal and one arrival, and the drive has what was written to it.

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

# What is written to the drive, in bytes.
USED=$((1024 * 1024))

flap() {
	mark "flap"
	control_inject '{"link":{"flap":"20ms"}}'
}

# The link may not be up again yet when pciehp has removed the function: then it waits for it, and does not say so.
anew_once() {
	slot_said_one_of 'Link Down,Card present,Link Up,' 'Link Down,Card present,'
}

reader_flaps() {
	flap && wait_for "the reader bound" reader_bound && anew_once
}

drive_flaps() {
	flap && wait_for "a drive" drive_anew && anew_once
}

# The kernel has found as many drives as there have been flaps and one.
drive_anew() {
	drives_found 2 && drive_find
}

ktap_print_header
ktap_set_plan 13
card_test_start
ktap_test_result "the SD host becomes idle" wait_for "the SD host to be idle" reader_idle

for flap_number in first second third; do
	ktap_test_result "the reader goes and comes once at the $flap_number flap" reader_flaps
done

ktap_test_result "the card becomes a drive" drive_use card
ktap_test_result "what is written to it is read back" disk_takes_data 0 "$USED"
ktap_test_result "the drive goes and comes once" drive_flaps
ktap_test_result "it has what was written" disk_has_data 0 "$USED"
ktap_test_result "the host is told the hash" disk_tell_hash card 0 "$USED"
mark "drive back"

card_test_end
