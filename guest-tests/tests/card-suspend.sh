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

USED=$((1024 * 1024))
FILE_SYSTEM=$((16 * 1024 * 1024))
# Seconds of sleep. The machine is asleep in a tenth of one; an alarm that comes before that wakes nobody.
SLEEP=10
# The driver's last word to the reader before it sleeps.
ASLEEP='"write":"RTS5261_REG_FPDCTL","value":"0x1","mask":"0x1"'

# The clock wakes it.
sleep_in_s3() {
	echo 0 >/sys/class/rtc/rtc0/wakealarm
	echo "+$SLEEP" >/sys/class/rtc/rtc0/wakealarm || return 1
	echo deep >/sys/power/mem_sleep && slept mem
}

# The control port wakes it: QEMU's clock cannot. What comes over it is an event, of the rule that does $1.
sleep_in_s2idle() {
	control_execute rule-add "{\"rule\":{\"name\":\"wakes\",\"on\":{$ASLEEP,\"delay\":\"${SLEEP}s\"},\"do\":$1}}" || return 1
	echo enabled >"/sys/class/tty/${CONTROL_PORT##*/}/power/wakeup"
	slept freeze
	sleep_status=$?
	echo disabled >"/sys/class/tty/${CONTROL_PORT##*/}/power/wakeup"
	control_execute rule-remove '{"name":"wakes"}' && return "$sleep_status"
}

# The machine has slept, and not only tried to.
# $1: as /sys/power/state calls it
slept() {
	read -r before </sys/power/suspend_stats/success
	mark "going to sleep: $1"
	echo "$1" >/sys/power/state || return 1
	mark "awake"
	read -r after </sys/power/suspend_stats/success
	[ "$after" -eq $((before + 1)) ]
}

# A file system with a file of random data in it, mounted.
files_made() {
	mkfs.ext4 -q -F "/dev/$disk" 16M >/tmp/mkfs.log 2>&1 && mkdir -p /mnt && mount -t ext4 "/dev/$disk" /mnt || return 1
	head -c "$USED" /dev/urandom >/tmp/data && cp /tmp/data /mnt/before && sync
}

# What is in the file is read from the card.
# $1: the file
file_is_there() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
	[ "$(sha256sum <"/mnt/$1")" = "$(sha256sum </tmp/data)" ] && return 0
	ktap_print_msg "/mnt/$1 has other data"
	return 1
}

# $1: the file
file_written() {
	cp /tmp/data "/mnt/$1" && file_is_there "$1"
}

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

s3_with_change() {
	control_execute rule-add "{\"rule\":{\"name\":\"changes\",\"on\":{$ASLEEP},\"do\":$CHANGE,\"times\":1}}" || return 1
	sleep_in_s3
	sleep_status=$?
	control_execute rule-remove '{"name":"changes"}' && return "$sleep_status"
}

ktap_print_header
ktap_set_plan 26
card_test_start

card_test_use "the card becomes a disk" first sd '"serial":1'
ktap_test_result "a file system is made and mounted" files_made

test_same_card s2idle sleep_in_s2idle '{"read-latency":"0s"}'
test_same_card S3 sleep_in_s3

ktap_test_result "the file system is unmounted" umount /mnt
ktap_test_result "and has no error" fsck.ext4 -n -f "/dev/$disk"
# The range can be read; whether the file has the same is the host's to say.
ktap_test_result "the host is told the hash" disk_tell_hash first 0 $FILE_SYSTEM

found=$(cards_found)
ktap_test_result "s2idle, changed: a card is at hand" at_hand second 2
ktap_test_result "s2idle, changed: the machine sleeps and wakes up" sleep_in_s2idle "$CHANGE"
ktap_test_result "s2idle, changed: the kernel finds the other card" other_disk second
# The hash of what was written, read from the card.
ktap_test_result "s2idle, changed: what is written is read back" disk_takes_data 0 $USED
ktap_test_result "s2idle, changed: the host is told the hash" disk_tell_hash second 0 $USED

found=$(cards_found)
ktap_test_result "S3, changed: a card is at hand" at_hand first 1
ktap_test_result "S3, changed: the machine sleeps and wakes up" s3_with_change
ktap_test_result "S3, changed: the kernel finds the other card" other_disk first
ktap_test_result "S3, changed: its file system has no error" fsck.ext4 -n -f "/dev/$disk"

card_test_end
