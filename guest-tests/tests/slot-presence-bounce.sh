#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Presence bounces: six changes 5 ms apart while the reader is at rest and its link stays up; five, which leave it lost,
# and another one; and four when the link comes up. Passes if each of them is one removal or one arrival to the guest.

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
# shellcheck source=guest-tests/tests/faults.sh
. "$tests/faults.sh"

bounce() {
	mark "bounce $1"
	control_inject "{\"presence\":{\"bounce\":$1,\"every\":\"5ms\"}}"
}

# The reader went and came again, both once. What pciehp reads of presence when it has removed the reader is up to the
# moment.
anew_once() {
	wait_for "the reader bound" reader_bound &&
		slot_said_one_of 'Card not present,Link Up,' 'Card not present,Card present,Link Up,'
}

ktap_print_header
ktap_set_plan 13
card_test_start
ktap_test_result "the SD host becomes idle" wait_for "the SD host to be idle" reader_idle

ktap_test_result "presence bounces six times" bounce 6
ktap_test_result "the reader goes and comes once" anew_once
ktap_test_result "presence is what it was" slot_is present true

# The link alone says that somebody is there (PCIe lets presence be hardwired).
ktap_test_result "presence bounces five times" bounce 5
ktap_test_result "the reader goes and comes once" anew_once
ktap_test_result "presence is the opposite" slot_is present false

slot_link_set false && wait_for "the slot empty" slot_empty
wait_for "pciehp to be quiet" slot_quiet
mark "link up"
rule_once bounces '"event":"link-up"' '{"presence":{"bounce":4,"every":"5ms"}}' && slot_link_set true
ktap_test_result "the reader is back" wait_for "the reader bound" reader_bound
ktap_test_result "it came once" slot_said_one_of 'Link Up,' 'Card present,Link Up,'

mark "reader back"
card_test_end
