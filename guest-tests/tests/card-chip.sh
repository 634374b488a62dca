#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Another of Realtek's readers is in the slot. Passes if its driver binds, drives a card at the fastest mode that both have,
# moves data, and sleeps and wakes with it, without an access to a register that nobody modelled.

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

USED=$((2 * 1024 * 1024))

# What the device says it is, and what the guest has found, are one chip: rts5228 is 10ec:5228.
chip_is_the_one_in_the_slot() {
	control_execute query-status || return 1
	read -r found <"$reader/device"
	# control_answer is control.sh's.
	# shellcheck disable=SC2154
	case $control_answer in
	*"\"chip\":\"rts${found#0x}\""*) return 0 ;;
	esac
	ktap_print_msg "the guest has found a $found"
	return 1
}

# All devices suspend and resume, as on the way to S3; the processor stays awake (Documentation/power/basic-pm-debugging).
devices_sleep_and_wake() {
	echo devices >/sys/power/pm_test || return 1
	echo mem >/sys/power/state || return 1
	echo none >/sys/power/pm_test
}

ktap_print_header
ktap_set_plan 11
card_test_start

ktap_test_result "the chip is the one that the device says" chip_is_the_one_in_the_slot
# The kernel finds the card and makes a disk of it within the time limit.
card_test_use "the card becomes a disk" card sd
# The hash of what was written, read from the card.
ktap_test_result "what is written is read back" disk_takes_data 0 $USED
# The kernel's word for it: the write to /sys/power/state succeeds.
ktap_test_result "the devices sleep and wake" devices_sleep_and_wake
ktap_test_result "what is written after that is read back" disk_takes_data 0 $USED
ktap_test_result "the host is told the hash" disk_tell_hash card 0 $USED
ktap_test_result "the card goes out and its disk with it" card_drop

card_test_end
