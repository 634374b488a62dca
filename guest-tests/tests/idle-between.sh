#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The reader is pulled, and rtsx_pci's idle callback is started after the driver core's pm_runtime_put_sync() and before
# pci_device_remove(). Passes if .remove waits for it.

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
ktap_set_plan 6
race_test_start between
race_pulled
race_test_end race_step_made
