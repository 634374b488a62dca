#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The link goes down and comes up again, and presence follows it, both times. Passes if the reader goes once and comes
# once: presence that comes late is no second card. With sdmorph.twice=1 on the kernel's command line it may be one.

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

ktap_print_header
ktap_set_plan 13
card_test_start
ktap_test_result "the SD host becomes idle" wait_for "the SD host to be idle" reader_idle

mark "link down"
ktap_test_result "the link goes down" slot_link_set false
ktap_test_result "the reader is removed" wait_for "the slot empty" slot_empty
ktap_test_result "presence goes, too" wait_for "no presence" slot_is present false
# Presence is still there when pciehp looks after the removal, if it is quick: it takes that for a card, and waits for its
# link in vain.
ktap_test_result "the reader went once" slot_said_one_of 'Link Down,' 'Link Down,Card present,No link,' \
	'Link Down,Card not present,'

mark "link up"
ktap_test_result "the link comes up" slot_link_set true
ktap_test_result "the reader is back" wait_for "the reader bound" reader_bound
ktap_test_result "presence is back, too" wait_for "presence" slot_is present true
# Without the wait for presence, pciehp takes the reader for removed now, and for a new one: unless presence comes while it
# still looks at the link, as it may on a slow machine.
if [ "$(command_line_value sdmorph.twice)" = 1 ]; then
	ktap_test_result "the reader came once or twice" slot_said_one_of 'Link Up,Card not present,Card present,Link Up,' \
		'Link Up,' 'Card present,Link Up,'
else
	ktap_test_result "the reader came once" slot_said_one_of 'Link Up,' 'Card present,Link Up,'
fi

mark "reader back"
card_test_end
