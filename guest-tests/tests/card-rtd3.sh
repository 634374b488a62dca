#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The reader may sleep at run time (RTD3). Passes if the kernel puts it into D3hot when nothing is asked of it, if a card
# that comes or goes wakes it up by PME, and if a card that was left alone has its data when there is work to do again.

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

# $1: the status, as runtime PM calls it
reader_status_is() {
	read -r status <"$reader/power/runtime_status"
	[ "$status" = "$1" ]
}

# The driver has the reader suspended 10 s after it was last needed.
reader_suspended() {
	wait_for "the reader suspended" reader_status_is suspended
}

# The kernel and the device are asked for the D-state; both say $1.
both_say() {
	read -r kernel_state <"$reader/power_state"
	control_execute query-status || return 1
	# control_answer is control.sh's.
	# shellcheck disable=SC2154
	device_state=$(printf '%s' "$control_answer" | sed -n 's/.*"power-state": *"\([^"]*\)".*/\1/p')
	[ "$kernel_state" = "$1" ] && [ "$device_state" = "$1" ] && return 0
	ktap_print_msg "the reader is in $kernel_state for the kernel, and in ${device_state:-no state} for itself"
	return 1
}

# The kernel counts wake-ups of a device that user space wants to wake the system. (Interrupts of devices below VMD it does
# not count.)
count_wakes() {
	echo enabled >"$reader/power/wakeup" && wakes_seen=$(wakes)
}

wakes() {
	cat "$reader/power/wakeup_active_count"
}

# The PCI core has found PME_Status set in the reader, and woken it up for that. It looks when the port interrupts, and once
# a second until a PME has come that way: a look that comes first makes the interrupt that follows a "spurious" one.
woken_by_pme() {
	[ "$(wakes)" -gt "$wakes_seen" ] && return 0
	ktap_print_msg "the kernel has counted no wake-up beyond $wakes_seen"
	return 1
}

# All devices suspend and resume, as on the way to S3; the processor stays awake (Documentation/power/basic-pm-debugging).
devices_sleep_and_wake() {
	echo devices >/sys/power/pm_test || return 1
	echo mem >/sys/power/state || return 1
	echo none >/sys/power/pm_test
}

# The range has the hash of before, read from the card.
data_is_there() {
	[ "$(disk_sha256 0 "$USED")" = "$written" ] && return 0
	ktap_print_msg "$disk has other data than before"
	return 1
}

# Report that the reader goes to sleep, and that it does so on both sides.
# $1: the situation
test_sleeps() {
	ktap_test_result "$1: the reader goes to sleep" reader_suspended
	ktap_test_result "$1: it is in D3hot, for the kernel and for itself" both_say D3hot
}

ktap_print_header
ktap_set_plan 27
card_test_start

# The kernel's runtime status, and the D-states that kernel and device tell.
test_sleeps "empty"
count_wakes
# The kernel finds the card and makes a disk of it within the time limit.
card_test_use "a card wakes it up and becomes a disk" card sd '"serial":1'
# By the kernel's count; that it came by the port's interrupt is in the device's record.
ktap_test_result "the card has woken it by PME" woken_by_pme
ktap_test_result "the reader is in D0, for the kernel and for itself" both_say D0
# The hash of what was written, read from the card.
ktap_test_result "what is written is read back" disk_takes_data 0 $USED
written=$(disk_sha256 0 $USED)

test_sleeps "with the card"
# The card had no supply meanwhile, and the reader's registers were set up anew.
ktap_test_result "what was written before is there" data_is_there
ktap_test_result "what is written after that is read back" disk_takes_data 0 $USED
written=$(disk_sha256 0 $USED)

test_sleeps "before the system sleeps"
# Asleep, the system is not to be woken by a card. The kernel's word for the rest: the write to /sys/power/state succeeds.
echo disabled >"$reader/power/wakeup"
ktap_test_result "the devices sleep and wake" devices_sleep_and_wake
ktap_test_result "what was written before is there, after all devices slept" data_is_there
ktap_test_result "the host is told the hash" disk_tell_hash card 0 $USED

test_sleeps "before the card goes"
count_wakes
ktap_test_result "the card goes out and its disk with it" card_drop
ktap_test_result "its going has woken the reader by PME" woken_by_pme

test_sleeps "empty again"
ktap_test_result "the next card becomes a disk" card_use card sd '"serial":2'
ktap_test_result "and has the data of the image" data_is_there

card_test_end
