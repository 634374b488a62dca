#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A drive's secondary bus is reset while it is written to, through the PCI device's `reset`, three times; the link goes down
# and comes up at each, as a hot reset makes it do. Passes if pciehp does not take that for a removal: it is the same drive,
# no writer sees an error, and the data are there.

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

# What is written to the drive before, in bytes; the writer's blocks come behind it.
USED=$((1024 * 1024))
# Sectors that have to be written between two resets.
ENOUGH=1024

writer_goes_on() {
	drive_goes_on "$ENOUGH" busy-writer
}

reset_bus() {
	writer_goes_on || return 1
	mark "bus reset"
	echo 1 >"$reader/reset" && writer_goes_on
}

# pciehp has had all of the slot's time, and said nothing; from 6.16 on it says that it has ignored the link.
no_removal() {
	wait_for "pciehp to be quiet" slot_quiet || return 1
	slot_lines=$(slot_said)
	[ -z "$slot_lines" ] && return 0
	ktap_print_msg "pciehp said of the slot: $(echo "$slot_lines" | tr '\n' ',')"
	! echo "$slot_lines" | grep -qv '^Link Down/Up ignored$'
}

ktap_print_header
ktap_set_plan 16
card_test_start

ktap_test_result "the card becomes a drive" drive_use card
ktap_test_result "what is written to it is read back" disk_takes_data 0 "$USED"
ktap_test_result "the function can be reset by its bus" drive_reset_only_by bus
load_start busy-writer drive_keep_busy 64

for reset_number in first second third; do
	ktap_test_result "the writer goes on after the $reset_number reset" reset_bus
	ktap_test_result "pciehp takes it for no removal" no_removal
done

: >/tmp/stop
ktap_test_result "no write failed" load_succeeded busy-writer
ktap_test_result "it is the same drive" drive_is_same
ktap_test_result "it has what was written" disk_has_data 0 "$USED"

card_test_end
