#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A card goes in while rtsx_pci probes, and the BAR vanishes at the first command list: the probe fails, with a card to be
# detected 200 ms later. Ends when the kernel has faulted, or has not within some seconds.

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

DRIVER=/sys/bus/pci/drivers/rtsx_pci
# The card is looked for 200 ms after its interrupt. Seconds.
LONG_ENOUGH=3

reader_unbound() {
	[ ! -e "$reader/driver" ]
}

# The probe fails, as it should with a reader that does not answer.
probe_fails() {
	rule_once inserted '"write":"HCBAR"' '{"card":"insert"}' || return 1
	rule_once vanishes '"write":"HCBCTLR"' '{"bar":"vanish"}' || return 1
	mark "binding"
	echo "${reader##*/}" 2>/dev/null >"$DRIVER/bind"
	mark "probe failed"
	reader_unbound
}

fault_or_long_enough() {
	uptime_read
	wait_until=$((uptime + LONG_ENOUGH))
	until kernel_faulted; do
		uptime_read
		[ "$uptime" -le "$wait_until" ] || return 0
		nap 0.1
	done
}

ktap_print_header
ktap_set_plan 7
card_test_start

echo "${reader##*/}" >"$DRIVER/unbind"
ktap_test_result "the reader is unbound" wait_for "the reader unbound" reader_unbound
ktap_test_result "a card is at hand" control_execute card-prepare '{"kind":"sd"}'
# Processes that change places: a stale translation of the unmapped BAR does not hide its use.
keep_busy
ktap_test_result "the probe fails" probe_fails
fault_or_long_enough
stop_busy

card_test_end
