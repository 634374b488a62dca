# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# What the tests share whose machine sleeps. To be sourced after control.sh, reader.sh and card.sh, which
# sets `disk`.

# Seconds of sleep. The machine is asleep in a tenth of one; an alarm that comes before that wakes nobody.
SLEEP=10
# What the file system takes of the card, and what a file has, in bytes.
FILE_SYSTEM=$((16 * 1024 * 1024))
USED=$((1024 * 1024))

# The clock wakes it.
sleep_in_s3() {
	echo 0 >/sys/class/rtc/rtc0/wakealarm
	echo "+$SLEEP" >/sys/class/rtc/rtc0/wakealarm || return 1
	echo deep >/sys/power/mem_sleep && slept mem
}

# The same, and a rule has hit meanwhile, which is gone then. Needs faults.sh.
# Parameters as those of rule_once.
sleep_in_s3_with() {
	rule_once "$@" || return 1
	sleep_in_s3
	sleep_status=$?
	rule_has_hit "$1" && rules_removed "$1" && return "$sleep_status"
}

# The control port wakes it: QEMU's clock cannot. What comes over it is an event, of a rule's hit.
# $1: what the rule is to wait for, members of a trigger; $2: what it does
sleep_in_s2idle() {
	control_execute rule-add "{\"rule\":{\"name\":\"wakes\",\"on\":{$1,\"delay\":\"${SLEEP}s\"},\"do\":$2}}" || return 1
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
	mkfs.ext4 -q -F "/dev/$disk" $((FILE_SYSTEM / 1024))k >/tmp/mkfs.log 2>&1 && mkdir -p /mnt && mount -t ext4 "/dev/$disk" /mnt || return 1
	head -c "$USED" /dev/urandom >/tmp/data && cp /tmp/data /mnt/before && sync
}

# What is in the file is read from the card or drive.
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
