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
race_test_start autosuspend
ktap_test_result "the autosuspend timer runs" race_do arm
race_pulled
race_test_end race_timer_told
