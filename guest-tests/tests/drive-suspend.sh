#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The machine sleeps (s2idle, then S3) with a mounted drive. Passes if that is the drive that it was, with its files, and
# the reader is back when the card is taken out.

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
# shellcheck source=guest-tests/tests/sleep.sh
. "$tests/sleep.sh"

# The driver's last word to the drive before it sleeps: a normal shutdown (CC.SHN). Linux does that for S3, and for
# s2idle where ASPM is off, as here.
ASLEEP='"write":"CC","value":"0x4000","mask":"0xc000"'

# $1: which sleep, the rest: the command that sleeps
test_sleep() {
	sleep_name=$1
	shift
	ktap_test_result "$sleep_name: the machine sleeps and wakes up" "$@"
	# The data of before are read from the drive, whose controller had to be set up anew.
	ktap_test_result "$sleep_name: the file is there" file_is_there before
	ktap_test_result "$sleep_name: another file can be written" file_written "$sleep_name"
	ktap_test_result "$sleep_name: it is the same drive" drive_is_same
}

ktap_print_header
ktap_set_plan 17
card_test_start

ktap_test_result "the card becomes a drive" drive_use card
ktap_test_result "a file system is made and mounted" files_made

test_sleep s2idle sleep_in_s2idle "$ASLEEP" '{"read-latency":"0s"}'
test_sleep S3 sleep_in_s3

ktap_test_result "the file system is unmounted" umount /mnt
ktap_test_result "and has no error" fsck.ext4 -n -f "/dev/$disk"
# The range can be read; whether the file has the same is the host's to say.
ktap_test_result "the host is told the hash" disk_tell_hash card 0 "$FILE_SYSTEM"

card_test_end
