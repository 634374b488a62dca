#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A card is written to, and goes in again with its write-protect switch set. Passes if the kernel takes its disk for
# read-only and refuses to write, reading works, and the host's file has what was written before.

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

read_only_is() {
	[ "$(cat "/sys/block/$disk/ro")" = "$1" ]
}

# Writing is refused, and for this reason: EROFS or EACCES, or EPERM, as the kernel's version has it.
writing_is_refused() {
	if dd if=/dev/zero of="/dev/$disk" bs=512 count=1 conv=notrunc,fsync 2>/tmp/dd.log; then
		ktap_print_msg "a block was written"
		return 1
	fi
	grep -q -i -e 'read-only file system' -e 'permission denied' -e 'operation not permitted' /tmp/dd.log && return 0
	ktap_print_msg "dd: $(tail -n 1 /tmp/dd.log)"
	return 1
}

ktap_print_header
ktap_set_plan 13
card_test_start

# Without the switch: a disk within the time limit, that can be written to.
card_test_use "open: the card becomes a disk" card sd '"write-protect":false'
ktap_test_result "open: the disk is not read-only" read_only_is 0
ktap_test_result "open: what is written is read back" disk_takes_data 0 $USED
ktap_test_result "open: the card goes out and its disk with it" card_drop

# With the switch: the same card, whose disk is read-only for the kernel.
card_test_use "protected: the card becomes a disk" card sd '"write-protect":true'
ktap_test_result "protected: the disk is read-only" read_only_is 1
ktap_test_result "protected: writing is refused" writing_is_refused
# The hash of what was written before, read from the card.
ktap_test_result "protected: what was written is there" disk_has_data 0 "$USED"
# The range can be read; whether the file has the same is the host's to say.
ktap_test_result "protected: the host is told the hash" disk_tell_hash card 0 $USED

card_test_end
