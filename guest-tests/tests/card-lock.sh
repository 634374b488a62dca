#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A card gets a password, is locked, unlocked and erased by force with LOCK_UNLOCK (CMD42), for which the kernel has no
# code. Passes if a locked card gives and takes no data, only the right password opens it again, with the data that were
# there, and a forced erase leaves neither data nor password.

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
PASSWORD=correct-horse
OTHER=battery-staple

# CMD42, after which the card's status has these bits of CARD_IS_LOCKED and LOCK_UNLOCK_FAILED, and no other error.
# $1: the bits' names, or nothing; the rest: what sd-lock does, and the password
card_answers() {
	expected=$1
	shift
	read -r rca <"/sys/block/$disk/device/rca"
	# The number is left out.
	answer=$(sd-lock "/dev/$disk" "$rca" "$@") && bits=${answer#status 0x????????} && [ "${bits# }" = "$expected" ] && return 0
	ktap_print_msg "sd-lock $1: $answer, and not ${expected:-neither}"
	return 1
}

# What the device says of its card. $1: true or false
card_is_locked() {
	control_execute query-status || return 1
	# control_answer is control.sh's.
	# shellcheck disable=SC2154
	case $control_answer in
	*"\"locked\":$1"*) return 0 ;;
	esac
	ktap_print_msg "the device does not say \"locked\":$1"
	return 1
}

# $1, $2: dd's operands of the side that is not the disk
fails_with_an_error() {
	# By its path: busybox's shell would run its own.
	if /usr/bin/dd "$@" bs=4096 count=1 2>/tmp/dd.log; then
		ktap_print_msg "4096 bytes went through"
		return 1
	fi
	grep -q -i 'input/output error' /tmp/dd.log && return 0
	ktap_print_msg "dd: $(tail -n 1 /tmp/dd.log)"
	return 1
}

reading_fails() {
	fails_with_an_error if="/dev/$disk" of=/dev/null iflag=direct
}

writing_fails() {
	fails_with_an_error if=/dev/zero of="/dev/$disk" oflag=direct conv=notrunc
}

nothing_is_there() {
	[ "$(disk_sha256 0 "$USED")" = "$(head -c "$USED" /dev/zero | sha256sum | cut -d ' ' -f 1)" ] && return 0
	ktap_print_msg "there is something left of what was written"
	return 1
}

# The host's driver lets go of the host and takes it again: the card's power goes, and the kernel meets it anew.
host_is_rebound() {
	for sdmmc in "$reader"/rtsx_pci_sdmmc.*; do
		driver=$(readlink -f "$sdmmc/driver")
		echo "${sdmmc##*/}" >"$driver/unbind" && echo "${sdmmc##*/}" >"$driver/bind" || return 1
	done
}

# The kernel reads a new card's SCR register (ACMD51), which a locked one does not give.
kernel_gives_up() {
	logged 'mmc[0-9]*: error -[0-9]* whilst initialising SD card'
}

ktap_print_header
ktap_set_plan 34
card_test_start

# The kernel finds the card and makes a disk of it within the time limit.
card_test_use "the card becomes a disk" kept sd
ktap_test_result "what is written is read back" disk_takes_data 0 $USED

# A password alone locks nothing, until the card loses its power.
ktap_test_result "a password is set, and the card is not locked" card_answers '' set $PASSWORD
ktap_test_result "the data are there" disk_has_data 0 "$USED"
ktap_test_result "another password does not lock it" card_answers LOCK_UNLOCK_FAILED lock $OTHER
ktap_test_result "the password locks it" card_answers CARD_IS_LOCKED lock $PASSWORD
ktap_test_result "locked: the device says so" card_is_locked true
# EIO, each, after all that the kernel does to get its data; which turns the card off and on, too.
ktap_test_result "locked: reading fails" reading_fails
ktap_test_result "locked: writing fails" writing_fails
ktap_test_result "locked: it still is" card_is_locked true
ktap_test_result "locked: another password does not unlock it" \
	card_answers 'CARD_IS_LOCKED LOCK_UNLOCK_FAILED' unlock $OTHER
ktap_test_result "the password unlocks it" card_answers '' unlock $PASSWORD
ktap_test_result "unlocked: the device says so" card_is_locked false
# The hash of what was written, read from the card.
ktap_test_result "unlocked: the data are there" disk_has_data 0 "$USED"
ktap_test_result "another password is not cleared" card_answers LOCK_UNLOCK_FAILED clear $OTHER
ktap_test_result "the password is cleared" card_answers '' clear $PASSWORD
ktap_test_result "cleared: nothing locks it" card_answers LOCK_UNLOCK_FAILED lock $PASSWORD
# Whether the file has the same is the host's to say.
ktap_test_result "the host is told the hash" disk_tell_hash kept 0 $USED
ktap_test_result "the card goes out and its disk with it" card_drop

# By force: an unlocked card refuses, a locked one loses all.
card_test_use "erased: the card becomes a disk" erased sd
ktap_test_result "erased: what is written is read back" disk_takes_data 0 $USED
ktap_test_result "erased: not while it is unlocked" card_answers LOCK_UNLOCK_FAILED force-erase
ktap_test_result "erased: it gets a password and is locked" card_answers CARD_IS_LOCKED set-and-lock $PASSWORD
ktap_test_result "erased: it is unlocked by that" card_answers '' force-erase
ktap_test_result "erased: nothing is left" nothing_is_there
ktap_test_result "erased: the host is told the hash" disk_tell_hash erased 0 $USED

# A card with a password that loses its power is locked when it comes back, and stays out of the kernel's reach.
ktap_test_result "powered anew: it gets a password" card_answers '' set $PASSWORD
ktap_test_result "powered anew: the host driver is bound again" host_is_rebound
ktap_test_result "powered anew: the kernel gives it up" wait_for "the kernel to give up" kernel_gives_up
ktap_test_result "powered anew: the card is locked" card_is_locked true

card_test_end
