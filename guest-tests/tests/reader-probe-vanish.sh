#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The reader's BAR vanishes while rtsx_pci probes it, and the link falls 5 ms later and comes up again after a second.
# Passes if the probe fails or is undone each time, and the reader that comes back works with a card.

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

# The reader goes with its link, comes back, and vanishes at that moment of its driver's probe.
# $1: the moment as members of a trigger
vanished_at() {
	control_execute link-set '{"up":false}' && wait_for "the reader gone" reader_gone || return 1
	rule_once vanishes "$1" '{"bar":"vanish"}' || return 1
	rule_once link-falls '"rule":"vanishes","delay":"5ms"' '{"link":"down"}' || return 1
	rule_once link-returns '"rule":"link-falls","delay":"1s"' '{"link":"up"}' || return 1
	control_execute link-set '{"up":true}' || return 1
	wait_for "the link up again" rule_has_hit link-returns && rules_removed link-returns link-falls vanishes
}

ktap_print_header
ktap_set_plan 18
card_test_start

# In the order of rtsx_pci_init_hw: interrupts, registers, the command list, and the chip's own part, whose errors the
# driver does not look at; then what the SD host's driver writes first.
for moment in '"write":"BIER"' '"write":"HAIMR"' '"write":"HCBCTLR"' '"write":"RTS5261_AUTOLOAD_CFG1"' '"write":"CARD_OE"'; do
	name=${moment#*:}
	# All three rules have hit.
	ktap_test_result "$name: the reader vanishes during the probe" vanished_at "$moment"
	# Both drivers, within the time limit.
	ktap_test_result "$name: the reader comes back" wait_for "the reader" reader_bound
done

card_test_use "a card becomes a disk" card sd
# The hash of what was written, read from the card.
ktap_test_result "what is written is read back" disk_takes_data 0 $USED
# The range can be read; whether the file has the same is the host's to say.
ktap_test_result "the host is told the hash" disk_tell_hash card 0 $USED
ktap_test_result "the card goes out and its disk with it" card_drop

card_test_end
