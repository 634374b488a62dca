#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A card goes in while rtsx_pci probes: before the reader's interrupts are on, right after that, at the first command
# list, and when the chip is set up. Passes if the card becomes a disk each time, without being put in again.

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
# shellcheck source=guest-tests/tests/faults.sh
. "$tests/faults.sh"

USED=$((64 * 1024))
DRIVER=/sys/bus/pci/drivers/rtsx_pci

reader_unbound() {
	[ ! -e "$reader/driver" ]
}

# The card is at hand, and goes in at that moment of the probe.
# $1: the moment as members of a trigger
inserted_at() {
	echo "${reader##*/}" >"$DRIVER/unbind" && wait_for "the reader unbound" reader_unbound || return 1
	read -r card_arguments </images/card/arguments || return 1
	control_execute card-prepare "{\"kind\":\"sd\",$card_arguments}" || return 1
	rule_once inserted "$1" '{"card":"insert"}' || return 1
	echo "${reader##*/}" >"$DRIVER/bind" && wait_for "the reader bound" reader_bound || return 1
	rule_has_hit inserted && rules_removed inserted
}

ktap_print_header
ktap_set_plan 21
card_test_start

# In the order of rtsx_pci_init_hw: the buffer's address, interrupts, registers, the command list. The last one is a
# register that the chip's own part of the set-up writes.
for moment in '"write":"HCBAR"' '"write":"BIER"' '"write":"HCBCTLR"' '"write":"RTS5261_AUTOLOAD_CFG1"'; do
	name=${moment#*:}
	# The rule that puts it in has hit.
	ktap_test_result "$name: the card goes in during the probe" inserted_at "$moment"
	# Within the time limit, and nobody touches the card.
	ktap_test_result "$name: the card becomes a disk" wait_for "a disk" disk_find
	# The hash of what was written, read from the card.
	ktap_test_result "$name: what is written is read back" disk_takes_data 0 $USED
	ktap_test_result "$name: the card goes out and its disk with it" card_drop
done
ktap_test_result "every card was found once" [ "$(dmesg | grep -c ': new .*SD.* card at address ')" -eq 4 ]

card_test_end
