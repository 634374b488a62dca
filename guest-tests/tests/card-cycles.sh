#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A card goes in, is written to and read, and is pulled out at a random moment, many times. Passes if everything that the
# kernel said was written is on the card when it goes in again, every writer and every disk comes to its end, and the
# host's file has the same bytes. On the kernel's command line, sdmorph.cycles= says how many times, and sdmorph.seed=
# repeats a run's moments.

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

# Places on the card, each of so many bytes, that are written again and again.
PLACES=8
PLACE=65536
# Results that the cycles are told in.
GROUPS_OF_CYCLES=10

cycles=$(command_line_value sdmorph.cycles)
cycles=${cycles:-20}
seed=$(command_line_value sdmorph.seed)
[ -n "$seed" ] || seed=$(od -A n -t u4 -N 4 /dev/urandom | tr -d ' ')
seed=$((seed % 2147483648))

# Sets random, from 0 to $1 - 1.
draw() {
	seed=$(((seed * 1103515245 + 12345) % 2147483648))
	random=$((seed / 65536 % $1))
}

# Sleeps for a random time of less than $1 milliseconds.
nap_at_random() {
	draw "$1"
	nap "$((random / 1000)).$(printf %03d $((random % 1000)))"
}

# Prints what is written to place $1 by write $2: no two writes are alike.
contents() {
	printf '%-512s' "write $2 to place $1"
	tail -c $((PLACE - 512)) /tmp/noise
}

# Write to one place after the other until it fails. /tmp/sure/PLACE has the write that the kernel said was done.
write_until_it_fails() {
	write=0
	while :; do
		write=$((write + 1))
		place=$((write % PLACES))
		contents "$place" "$cycle.$write" >/tmp/contents
		# Until it is done, nobody knows which of the two is there.
		rm -f "/tmp/sure/$place"
		[ -b "/dev/$disk" ] || break
		dd if=/tmp/contents of="/dev/$disk" bs="$PLACE" seek="$place" conv=notrunc,fsync 2>/dev/null || break
		# Or else dd may have made a file in its place, and written to that.
		[ -b "/dev/$disk" ] || break
		echo "$cycle.$write" >"/tmp/sure/$place"
	done
	[ ! -f "/dev/$disk" ] || rm -f "/dev/$disk"
	echo ended >/tmp/writer
}

writer_ended() {
	[ -s /tmp/writer ]
}

# Everything that was said to be written is there.
all_is_there() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
	for sure in /tmp/sure/*; do
		[ -e "$sure" ] || continue
		read -r write <"$sure"
		contents "${sure##*/}" "$write" >/tmp/expected
		dd if="/dev/$disk" bs="$PLACE" skip="${sure##*/}" count=1 2>/dev/null | cmp -s - /tmp/expected && continue
		ktap_print_msg "cycle $cycle: place ${sure##*/} has not what write $write wrote"
		return 1
	done
}

one_cycle() {
	card_insert card sd || return 1
	draw 4
	if [ "$random" -eq 0 ]; then
		# Before it has been found, or just then.
		nap_at_random 1500
		card_drop
		return
	fi
	wait_for "a disk" disk_find && all_is_there || return 1
	rm -f /tmp/writer
	write_until_it_fails &
	nap_at_random 1500
	card_drop && wait_for "the writer's end" writer_ended
}

# Cycles from $1 to $2.
some_cycles() {
	cycle=$1
	while [ "$cycle" -le "$2" ]; do
		one_cycle || {
			ktap_print_msg "cycle $cycle failed"
			return 1
		}
		cycle=$((cycle + 1))
	done
}

ktap_print_header
ktap_set_plan $((GROUPS_OF_CYCLES + 7))
card_test_start
mark "cycles: $cycles, sdmorph.seed=$seed"

mkdir /tmp/sure
head -c $PLACE /dev/urandom >/tmp/noise
first=1
for group in $(seq $GROUPS_OF_CYCLES); do
	last=$((cycles * group / GROUPS_OF_CYCLES))
	# Each disk comes and goes within the time limit, each writer ends, and what was written is there the next time.
	ktap_test_result "cycles $first to $last" some_cycles "$first" "$last"
	first=$((last + 1))
done

cycle=end
card_test_use "the card becomes a disk" card sd
ktap_test_result "what was written last is there" all_is_there
# The range can be read; whether the file has the same is the host's to say.
ktap_test_result "the host is told the hash" disk_tell_hash card 0 $((PLACES * PLACE))

card_test_end
