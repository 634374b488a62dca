#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# An SD 7.0 card takes the reader's link down while rtsx_pci's idle callback talks to its BAR
# (CVE-2024-35809). Passes if the driver is removed and nothing faults, and the card comes back as an NVMe drive with the
# file that was on it.

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

turns=0

removed_or_faulted() {
	reader_gone && return
	# To look for a fault starts processes, so not at every turn: a fault that keeps the reader from being
	# removed stays to be seen.
	turns=$((turns + 1))
	[ $((turns % 50)) -eq 0 ] && kernel_faulted
}

# The file that the host put on the card. It is said in the kernel's log, for the host to read.
file_is_on_the_drive() {
	mkdir -p /mnt && mount -t vfat -o ro "/dev/$disk" /mnt || return 1
	read -r text </mnt/HELLO.TXT
	umount /mnt
	mark "HELLO.TXT on $disk: $text"
	[ -n "$text" ]
}

ktap_print_header
ktap_set_plan 8

reader_test_start

wait_for "the SD host to be idle" reader_idle
ktap_test_result "interrupts and threads are placed" place_interrupts

if control_open; then
	keep_busy
	ktap_test_result "the card goes in" card_insert card sd-express
else
	ktap_test_fail "the card goes in"
	ktap_finished
fi

wait_for "the reader removed, or a fault" removed_or_faulted
if reader_gone; then
	mark "reader removed"
fi
# The callback may outlive .remove: a late fault is the fault.
wait_for "the workers quiet" workers_quiet
stop_busy

ktap_test_result "the link goes down" logged 'pciehp: Slot(8): Link Down'

if kernel_faulted; then
	ktap_test_fail "nothing faults while the driver is removed" \
		"$(kernel_fault)"
	ktap_test_skip "the card comes back as a drive" "the kernel has faulted"
	ktap_test_skip "the file is on the drive" "the kernel has faulted"
else
	ktap_test_result "nothing faults while the driver is removed" reader_gone
	ktap_test_result "the card comes back as a drive" wait_for "a drive" drive_find
	ktap_test_result "the file is on the drive" file_is_on_the_drive
fi

ktap_test_result "every register accessed is modelled" no_unmodelled_access
control_close
ktap_finished
