#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# rtsx_pci's idle callback is in the middle of its work, on a reader that is there and slow, when the driver is removed
# by the slot's power file: pciehp takes it out in good order. Passes if .remove waits for the callback.

# Functions are called by name, through wait_for and ktap_test_result.
# shellcheck disable=SC2317

tests=$(dirname "$0")
# shellcheck source=guest-tests/tests/ktap.sh
. "$tests/ktap.sh"
# shellcheck source=guest-tests/tests/control.sh
. "$tests/control.sh"
# shellcheck source=guest-tests/tests/reader.sh
. "$tests/reader.sh"
# shellcheck source=guest-tests/tests/faults.sh
. "$tests/faults.sh"
# shellcheck source=guest-tests/tests/race.sh
. "$tests/race.sh"

ktap_print_header
ktap_set_plan 7
race_test_start running
race_callback_at_work
ktap_test_result "the removal begins" race_remove_by 0 /sys/bus/pci/slots/8/power
race_test_end race_step_made
