#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A drive is pulled out while nvme resets its controller under load: when the controller is disabled, when it is enabled
# again, and at an admin command after that. The load is fio's, which writes and reads past the page cache. Passes if both
# get an error and fio ends, the drive goes away, the reader comes back, and another drive works in its place.

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
# shellcheck source=guest-tests/tests/drive.sh
. "$tests/drive.sh"
# shellcheck source=guest-tests/tests/fio.sh
. "$tests/fio.sh"
# shellcheck source=guest-tests/tests/faults.sh
. "$tests/faults.sh"

# What is written to the other drive, in bytes.
USED=$((1024 * 1024))

resetter() {
	echo 1 >"$controller/reset_controller"
}

# $1: the moment of the reset as members of a trigger
pulled_at() {
	drive_use first '"serial":1' || return 1
	controller=$(echo "$reader"/nvme/nvme*)
	fio_direct_jobs 0 | fio_start
	fio_in_full_swing direct-writer direct-reader || return 1
	rule_once pulled "$1" '{"card":"eject"}' || return 1
	load_start resetter resetter
	wait_for "the card pulled" rule_has_hit pulled && rules_removed pulled
}

ktap_print_header
ktap_set_plan 29
card_test_start

# nvme_disable_ctrl, nvme_enable_ctrl, and a command of nvme_init_ctrl_finish.
for moment in '"write":"CC","value":0,"mask":1' '"write":"CC","value":1,"mask":1' '"command":"Identify"'; do
	case $moment in
	*'"value":0'*) name="disabled" ;;
	*'"value":1'*) name="enabled" ;;
	*) name="set up" ;;
	esac
	ktap_test_result "$name: the card is pulled during the reset" pulled_at "$moment"
	# Status 0 would mean that no card was pulled from under it.
	ktap_test_result "$name: fio ends" load_failed fio
	ktap_test_result "$name: the writer gets an error" fio_job_got_error direct-writer
	ktap_test_result "$name: the reader gets an error" fio_job_got_error direct-reader
	# With or without an error; that it ends is what counts.
	ktap_test_result "$name: the one who reset it is told" load_wait resetter
	ktap_test_result "$name: the drive goes away" wait_for "the drive gone" drive_gone
	ktap_test_result "$name: the reader comes back" wait_for "the reader" reader_bound
done

ktap_test_result "another card becomes a drive" drive_use second '"serial":2'
# The hash of what was written, read from the drive.
ktap_test_result "what is written to it is read back" disk_takes_data 0 $USED
# The range can be read; whether the file has the same is the host's to say.
ktap_test_result "the host is told its hash" disk_tell_hash second 0 $USED
ktap_test_result "it is pulled, and the reader comes back" drive_drop

card_test_end
