# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# What the tests of the hot-plug slot share: its state, and what pciehp makes of it. To be sourced after ktap.sh,
# control.sh and reader.sh.

# Prints what pciehp has said of the slot since the line that `mark` wrote last, one to a line. Its words for the
# attention button, which 6.4 changed, are the same for all kernels here.
slot_said() {
	dmesg | sed -e 's/^\[[^]]*\] //' -e 's/Slot(8) Powering/Slot(8): Powering/' |
		awk '/^sdmorph-test: / { said = "" }
			sub(/.*pciehp: Slot\(8\): /, "") {
				if (/^Attention button pressed$/ || /^Button cancel$/) next
				sub(/^Powering off due to button press$/, "off in 5 s")
				sub(/^Powering on due to button press$/, "on in 5 s")
				sub(/^Action canceled due to button press$/, "canceled")
				sub(/^Button press: will power off in 5 sec$/, "off in 5 s")
				sub(/^Button press: will power on in 5 sec$/, "on in 5 s")
				sub(/^Button press: canceling request to power .*$/, "canceled")
				said = said $0 "\n"
			}
			END { printf "%s", said }'
}

# The slot came up again after it had gone down, and pciehp said so in this order, and nothing else. What it says of
# presence is up to when its thread gets to look: presence goes 10 ms after the link, and comes in the same moment, but
# pciehp reads the one, then the other, and the slot can come up in between.
slot_came_anew() {
	slot_lines=$(slot_said | tr '\n' ',')
	case $slot_lines in
	'Link Down,Card present,Link Up,' | 'Link Down,Card not present,Card present,Link Up,') return 0 ;;
	'Link Down,Link Up,' | 'Link Down,Card not present,Link Up,') return 0 ;;
	esac
	ktap_print_msg "pciehp said of the slot: $slot_lines"
	return 1
}

# $1: a member of the slot's state as the device shows it, $2: its value
slot_is() {
	[ "$(control_status "slot.$1")" = "$2" ]
}

# pciehp has had its say: it waits 1 s for a link, or for power to go, and is quiet for longer than that.
slot_quiet() {
	slot_before=$(slot_said)
	nap 3
	[ "$(slot_said)" = "$slot_before" ]
}

# What pciehp has said of the slot since the last `mark` is one of these, line by line, and nothing else.
# $@: the lines, each followed by a comma
slot_said_one_of() {
	wait_for "pciehp to be quiet" slot_quiet || return 1
	slot_lines=$(slot_said | tr '\n' ',')
	ktap_print_msg "pciehp said of the slot: $slot_lines"
	for slot_wanted in "$@"; do
		[ "$slot_lines" != "$slot_wanted" ] || return 0
	done
	return 1
}

# The guest has nothing in the slot.
slot_empty() {
	# reader is reader.sh's.
	# shellcheck disable=SC2154
	[ ! -e "$reader" ]
}

# $1: true or false
slot_link_set() {
	control_execute link-set "{\"up\":$1}"
}
