#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The attention button. Pressed, and the link goes down within the 5 s that pciehp lets one think; pressed at an empty slot;
# pressed with a card in it, which turns it on; pressed twice, which is nothing; pressed, which turns the slot off. Passes if
# each does once what it is there for, and the slot has its reader at the end.

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
# shellcheck source=guest-tests/tests/slot.sh
. "$tests/slot.sh"

press() {
	control_inject '{"attention-button":"press"}'
}

# $1: 1 for on, 0 for off
power_is() {
	[ "$(cat /sys/bus/pci/slots/8/power)" = "$1" ]
}

press_and_pull() {
	mark "button, then link down"
	press && nap 1 && slot_link_set false && wait_for "the slot empty" slot_empty
}

# The button's 5 s are over, and nothing more came of them.
# $@: as those of slot_said_one_of
five_seconds_later() {
	nap 6
	slot_said_one_of "$@"
}

press_at_an_empty_slot() {
	mark "button at an empty slot"
	press && five_seconds_later 'on in 5 s,Card not present,'
}

# The card's power is off: its link comes up when pciehp has turned that on.
press_with_a_card() {
	mark "button with a card"
	slot_link_set true && press && wait_for "the reader bound" reader_bound &&
		slot_said_one_of 'on in 5 s,Card present,'
}

press_twice() {
	mark "button twice"
	press && nap 1 && press && five_seconds_later 'off in 5 s,canceled,' && reader_bound
}

press_to_turn_off() {
	mark "button"
	press && wait_for "the slot empty" slot_empty && wait_for "power off" power_is 0 &&
		slot_said_one_of 'off in 5 s,' && slot_is powered false
}

press_to_turn_on() {
	mark "button again"
	press && wait_for "the reader bound" reader_bound && power_is 1 &&
		slot_said_one_of 'on in 5 s,Card present,'
}

# Every command to the slot was completed, and its driver has heard of it.
no_command_timed_out() {
	! logged 'pciehp: Timeout on hotplug command'
}

ktap_print_header
ktap_set_plan 14
card_test_start
ktap_test_result "the SD host becomes idle" wait_for "the SD host to be idle" reader_idle
ktap_test_result "the slot is on" power_is 1

ktap_test_result "the link's fall within the button's 5 s removes the reader" press_and_pull
# Presence goes 10 ms after the link. pciehp does not ask for that, and reads it if it comes to look later.
ktap_test_result "once" five_seconds_later 'off in 5 s,Link Down,' 'off in 5 s,Link Down,Card not present,'
ktap_test_result "the button at an empty slot turns nothing on" press_at_an_empty_slot
ktap_test_result "with a card it does" press_with_a_card
ktap_test_result "pressed twice, it does nothing" press_twice
ktap_test_result "pressed once, it turns the slot off" press_to_turn_off
ktap_test_result "and on again" press_to_turn_on
mark "reader back"

ktap_test_result "no command timed out" no_command_timed_out
card_test_end
