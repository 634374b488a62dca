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
if load_modules && wait_for "rtsx_pci and rtsx_pci_sdmmc bound" reader_bound; then
	ktap_test_pass "the drivers bind"
	mark "drivers bound to ${reader##*/}"
else
	ktap_test_fail "the drivers bind"
	ktap_finished
fi
wait_for "the SD host to be idle" reader_idle
echo "${reader##*/}" >"$reader/driver/unbind"
ktap_test_result "sdmorph_race is loaded" race_load resumes
ktap_test_result "its driver takes the reader" bind_resumes
# The driver core asks for it when a driver is bound.
ktap_test_result "the idle callback begins" wait_for "the idle callback" race_idle_begun

if control_open && race_pull; then
	ktap_test_pass "the reader is pulled"
else
	ktap_test_fail "the reader is pulled"
	ktap_finished
fi

race_results race_in_time
control_close
ktap_finished
