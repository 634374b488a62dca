#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The machine sleeps (s2idle, then S3) with a mounted card, and again with a card that is changed meanwhile. Passes if
# the mounted card is the disk that it was, with its files, and the kernel finds the other card.

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
# shellcheck source=guest-tests/tests/sleep.sh
. "$tests/sleep.sh"
# shellcheck source=guest-tests/tests/faults.sh
. "$tests/faults.sh"

# The driver's last word to the reader before it sleeps.
ASLEEP='"write":"RTS5261_REG_FPDCTL","value":"0x1","mask":"0x1"'

# How many cards the kernel has found.
cards_found() {
	dmesg | grep -c ': new .*SD.* card at address '
}

# No other card has been found, and the disk is the one that was mounted.
same_disk() {
	read -r disk_was </tmp/disk
	[ "$(cards_found)" -eq "$found" ] && disk_find && [ "$disk" = "$disk_was" ]
}

# A card was found that was not there, and its disk has the size of the image.
# $1: the image
other_disk() {
	wait_for "another card" another_found && wait_for "a disk" disk_find && wait_for "its size" disk_has_size_of "$1"
}

another_found() {
	[ "$(cards_found)" -gt "$found" ]
}

# $1: which sleep, the rest: the command that sleeps
test_same_card() {
	sleep_name=$1
	shift
	found=$(cards_found)
	echo "$disk" >/tmp/disk
	ktap_test_result "$sleep_name, mounted: the machine sleeps and wakes up" "$@"
	# The data of before are read from the card, which had to be powered and tuned anew.
	ktap_test_result "$sleep_name, mounted: the file is there" file_is_there before
	ktap_test_result "$sleep_name, mounted: another file can be written" file_written "$sleep_name"
	# The kernel did not take it for another card.
	ktap_test_result "$sleep_name, mounted: it is the same disk" same_disk
}

# $1: the image of the card to come
at_hand() {
	mark "at hand: $1"
	read -r card_arguments <"/images/$1/arguments" || return 1
	# Another card has another serial number, by which the kernel knows it.
	control_execute card-prepare "{\"kind\":\"sd\",$card_arguments,\"serial\":$2}"
}

CHANGE='[{"card":"eject"},{"card":"insert"}]'

ktap_print_header
ktap_set_plan 26
card_test_start

card_test_use "the card becomes a disk" first sd '"serial":1'
ktap_test_result "a file system is made and mounted" files_made

test_same_card s2idle sleep_in_s2idle "$ASLEEP" '{"read-latency":"0s"}'
test_same_card S3 sleep_in_s3

ktap_test_result "the file system is unmounted" umount /mnt
ktap_test_result "and has no error" fsck.ext4 -n -f "/dev/$disk"
# The range can be read; whether the file has the same is the host's to say.
ktap_test_result "the host is told the hash" disk_tell_hash first 0 $FILE_SYSTEM

found=$(cards_found)
ktap_test_result "s2idle, changed: a card is at hand" at_hand second 2
ktap_test_result "s2idle, changed: the machine sleeps and wakes up" sleep_in_s2idle "$ASLEEP" "$CHANGE"
ktap_test_result "s2idle, changed: the kernel finds the other card" other_disk second
# The hash of what was written, read from the card.
ktap_test_result "s2idle, changed: what is written is read back" disk_takes_data 0 $USED
ktap_test_result "s2idle, changed: the host is told the hash" disk_tell_hash second 0 $USED

found=$(cards_found)
ktap_test_result "S3, changed: a card is at hand" at_hand first 1
ktap_test_result "S3, changed: the machine sleeps and wakes up" sleep_in_s3_with changes "$ASLEEP" "$CHANGE"
ktap_test_result "S3, changed: the kernel finds the other card" other_disk first
ktap_test_result "S3, changed: its file system has no error" fsck.ext4 -n -f "/dev/$disk"

card_test_end
