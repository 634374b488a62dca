#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Boot, probe, a card goes in, the link goes down, the reader is removed; nothing injected. Passes
# if every step happens and the kernel has nothing to complain about.

# Functions are called by name, through wait_for and ktap_test_result.
# shellcheck disable=SC2317

tests=$(dirname "$0")
# shellcheck source=guest-tests/tests/ktap.sh
. "$tests/ktap.sh"
# shellcheck source=guest-tests/tests/control.sh
. "$tests/control.sh"
# shellcheck source=guest-tests/tests/reader.sh
. "$tests/reader.sh"

# The device has been asked to hand the slot to the card.
switch_requested() {
	control_execute query-status || return 1
	# control_answer is control.sh's.
	# shellcheck disable=SC2154
	case $control_answer in
	*'"phase":"switching"'*) return 0 ;;
	esac
	return 1
}

ktap_print_header
ktap_set_plan 10

reader_test_start

ktap_test_result "the SD host becomes idle" wait_for "the SD host to be idle" reader_idle

if control_open; then
	mark "inserting sd-express"
	ktap_test_result "the card goes in" control_execute card-insert '{"kind":"sd-express"}'
else
	ktap_test_fail "the card goes in"
	ktap_finished
fi

ktap_test_result "the driver asks for the switch" wait_for "the switch to be requested" switch_requested
ktap_test_result "the SD host is done with the card" wait_for "the SD host to be idle again" reader_idle

mark "link down"
ktap_test_result "the link can be taken down" control_execute link-set '{"up":false}'
if wait_for "the reader removed" reader_gone; then
	mark "reader removed"
	ktap_test_pass "the reader is removed"
else
	ktap_test_fail "the reader is removed"
fi
ktap_test_result "the workers become quiet" wait_for "the workers quiet" workers_quiet

ktap_test_result "nothing faults" no_fault
ktap_test_result "every register accessed is modelled" no_unmodelled_access
control_close
ktap_finished
