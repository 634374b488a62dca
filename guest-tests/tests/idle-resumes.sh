#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The reader has a driver whose idle callback resumes the device that it is called for. The callback is run, and the
# reader is pulled. Passes if the callback ends and the driver is released.

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

# A kernel that hangs here does so for ever, and nothing else of this test waits for anything.
RACE_HANG_SECONDS=5

# The module's driver in the place of rtsx_pci.
bind_resumes() {
	echo sdmorph_resumes >"$reader/driver_override" || return 1
	echo "${reader##*/}" >/sys/bus/pci/drivers/sdmorph_resumes/bind
}

ktap_print_header
ktap_set_plan 8
reader_test_start
wait_for "the SD host to be idle" reader_idle
echo "${reader##*/}" >"$reader/driver/unbind"
ktap_test_result "sdmorph_race is loaded" race_load resumes
ktap_test_result "its driver takes the reader" bind_resumes
# The driver core asks for it when a driver is bound.
ktap_test_result "the idle callback begins" wait_for "the idle callback" race_idle_begun
race_pulled
race_test_end race_in_time
