#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Presence goes 244 ms before the link does, and comes 244 ms before it. Passes if the slot is empty after the one, has its
# reader once after the other, and nothing of the reader that the guest may find in between is left over.

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

# The card that pciehp finds while the link is still up goes with the link. How far it gets is up to how quick it is: it may
# see the link go while it waits for it, while it looks for the function, or when a driver has that.
went_in_the_end() {
	wait_for "pciehp to be quiet" slot_quiet || return 1
	slot_lines=$(slot_said | tr '\n' ',')
	ktap_print_msg "pciehp said of the slot: $slot_lines"
	case $slot_lines in
	'Card not present,' | 'Card not present,Link Down,') return 0 ;;
	'Card not present,Link Up,'*) slot_is link-active false && slot_empty ;;
	*) return 1 ;;
	esac
}

# So that the link's fall has been seen once: with presence gone before, pciehp need not say that it goes.
link_falls_alone() {
	mark "flap"
	control_inject '{"link":{"flap":"20ms"}}' &&
		slot_said_one_of 'Link Down,Card present,Link Up,' 'Link Down,Card present,' &&
		wait_for "the reader bound" reader_bound
}

ktap_print_header
ktap_set_plan 14
card_test_start
ktap_test_result "the SD host becomes idle" wait_for "the SD host to be idle" reader_idle

ktap_test_result "the link's fall alone is one removal" link_falls_alone

mark "presence down"
ktap_test_result "presence goes" slot_link_set false
ktap_test_result "the link goes, too" wait_for "no link" slot_is link-active false
ktap_test_result "the reader is removed" wait_for "the slot empty" slot_empty
ktap_test_result "and does not stay" went_in_the_end

mark "presence up"
ktap_test_result "presence comes" slot_link_set true
ktap_test_result "the reader is back" wait_for "the reader bound" reader_bound
ktap_test_result "the link is up" slot_is link-active true
# pciehp gives a link 1 s; the one that comes within it is no event of its own.
ktap_test_result "the reader came once" slot_said_one_of 'Card present,' 'Card present,Link Up,'

mark "reader back"
card_test_end
