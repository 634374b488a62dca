#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The reader autosuspends, as it does under no driver of the kernel, and its timer runs. Then it is pulled, and the timer
# expires in .remove, if nobody has stopped it before. Passes if nothing comes of that.

# Functions are called by name, through wait_for and ktap_test_result.
# shellcheck disable=SC2317

tests=$(dirname "$0")
# shellcheck source=guest-tests/tests/ktap.sh
. "$tests/ktap.sh"
# shellcheck source=guest-tests/tests/control.sh
. "$tests/control.sh"
# shellcheck source=guest-tests/tests/reader.sh
. "$tests/reader.sh"
# shellcheck source=guest-tests/tests/race.sh
. "$tests/race.sh"

ktap_print_header
ktap_set_plan 7
race_begin autosuspend
ktap_test_result "the autosuspend timer runs" race_do arm

if control_open && race_pull; then
	ktap_test_pass "the reader is pulled"
else
	ktap_test_fail "the reader is pulled"
	ktap_finished
fi

race_results race_timer_told
control_close
ktap_finished
