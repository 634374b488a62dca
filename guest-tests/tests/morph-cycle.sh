#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# An SD Express card goes in, and the reader gives way to a drive; a file is written to that, and the card is taken out.
# Then it goes in again with its switch at "lock", and is an SD card. Passes if the file is there, and the drive and the
# card, and at the end the host's file, have the same bytes; again and again: sdmorph.cycles= on the kernel's command line
# says how often.

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
# shellcheck source=guest-tests/tests/slot.sh
. "$tests/slot.sh"

# What the file system has of the card, in bytes: the host looks at all of it.
USED=$((16 * 1024 * 1024))

cycles=$(command_line_value sdmorph.cycles)
cycles=${cycles:-3}

mkdir -p /mnt

failed() {
	ktap_print_msg "cycle $cycle: $*"
	return 1
}

make_file_system() {
	mkfs.ext4 -q -F "/dev/$disk" $((USED / 1024))k >/tmp/mkfs.log 2>&1 && return 0
	failed "mkfs.ext4: $(tr '\n' ' ' </tmp/mkfs.log)"
}

# The files of all cycles before are those that were written. There is none before the first.
files_are_there() {
	[ -e /tmp/files.sha256 ] || return 0
	(cd /mnt && sha256sum -c /tmp/files.sha256) >/tmp/check.log 2>&1 && return 0
	failed "$(grep -m 1 -e FAILED -e 'No such' /tmp/check.log)"
}

# The cycle's file, and those of before. Four at a time, so that a hundred cycles fit.
write_file() {
	mount -t ext4 "/dev/$disk" /mnt || return 1
	files_are_there && head -c 500000 /dev/urandom >"/mnt/file-$((cycle % 4))" &&
		(cd /mnt && sha256sum file-*) >/tmp/files.sha256 && sync
	written=$?
	umount /mnt && return "$written"
}

# Without a replay of the journal: the card is read-only, and was unmounted.
file_is_on_the_card() {
	mount -t ext4 -o ro,noload "/dev/$disk" /mnt || return 1
	files_are_there
	there=$?
	umount /mnt && return "$there"
}

one_cycle() {
	drive_use card || failed "no drive" || return 1
	slot_came_anew || return 1
	disk_has_size_of card || return 1
	[ "$cycle" -gt 1 ] || make_file_system || return 1
	write_file || failed "the file is not on the drive" || return 1
	drive_sha256=$(disk_sha256 0 "$USED")
	drive_drop || return 1
	card_use card sd-express '"write-protect":true' || return 1
	[ "$(cat "/sys/block/$disk/ro")" = 1 ] || failed "the card is not read-only" || return 1
	file_is_on_the_card || failed "the file is not on the card" || return 1
	card_sha256=$(disk_sha256 0 "$USED")
	[ -n "$card_sha256" ] && [ "$drive_sha256" = "$card_sha256" ] || failed "card and drive differ" || return 1
	[ "$cycle" -lt "$cycles" ] || disk_tell_hash card 0 "$USED" || return 1
	card_drop
}

# Cycles from $1 to $2.
some_cycles() {
	cycle=$1
	while [ "$cycle" -le "$2" ]; do
		one_cycle || {
			# So that the next ones have a chance.
			card_eject
			return 1
		}
		cycle=$((cycle + 1))
	done
}

# Results that the cycles are told in: one for each, and ten if there are more.
groups=$cycles
[ "$groups" -le 10 ] || groups=10

ktap_print_header
ktap_set_plan $((groups + 4))
card_test_start
mark "cycles: $cycles"

first=1
for group in $(seq "$groups"); do
	last=$((cycles * group / groups))
	# Drive and reader come and go within the time limit, and both faces of the card show the same bytes.
	ktap_test_result "cycles $first to $last" some_cycles "$first" "$last"
	first=$((last + 1))
done

card_test_end
