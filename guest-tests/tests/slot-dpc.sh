#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The port contains an error (DPC): the link is down until the kernel has cleared that. Passes if the drive is recovered, not
# removed: it is the same one, and what was written to it and is written after it can be read.

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
	slot_do '{"dpc":"trigger"}' && wait_for "the recovery" logged 'AER: device recovery successful'
}

# pciehp has had all of the slot's time, and has said that it ignores the link.
no_removal() {
	wait_for "pciehp to be quiet" slot_quiet || return 1
	slot_lines=$(slot_said)
	ktap_print_msg "pciehp said of the slot: $(echo "$slot_lines" | tr '\n' ',')"
	[ -n "$slot_lines" ] && ! echo "$slot_lines" | grep -qv '^Link Down/Up ignored'
}

same_drive() {
	disk_was=$disk
	drive_find && [ "$disk" = "$disk_was" ] && [ "$(dmesg | grep -c 'nvme nvme.*: pci function ')" -eq 1 ]
}

same_bytes() {
	[ "$(disk_sha256 0 "$USED")" = "$written_sha256" ]
}

ktap_print_header
ktap_set_plan 12
card_test_start
ktap_test_result "the kernel has DPC" logged 'DPC: enabled with IRQ'

ktap_test_result "the card becomes a drive" drive_use card
ktap_test_result "what is written to it is read back" disk_takes_data 0 "$USED"
written_sha256=$(disk_sha256 0 "$USED")
ktap_test_result "the error is contained and the drive recovered" contain
ktap_test_result "pciehp takes it for no removal" no_removal
ktap_test_result "it is the same drive" same_drive
ktap_test_result "it has what was written" same_bytes
ktap_test_result "what is written to it now is read back" disk_takes_data "$USED" "$USED"
mark "drive there"

card_test_end
