# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# What the tests of the hot-plug slot share: what the device is to do to it, and what pciehp makes of that. To be sourced
# after ktap.sh, control.sh, reader.sh, card.sh and drive.sh.

slot_rules=0

# Have the device do something to its slot, at once.
# $1: what, as a rule's `do` has it, $2: when, as its `on` has it (may be left out)
slot_do() {
	slot_rules=$((slot_rules + 1))
	control_execute rule-add "{\"rule\":{\"name\":\"guest-$slot_rules\",\"on\":${2:-{\"start\":true\}},\"do\":$1,\"times\":1}}"
}

# $1: a member of the slot's state as the device shows it, $2: its value
slot_is() {
	control_execute query-status >/dev/null || return 1
	# control_answer is control.sh's.
	# shellcheck disable=SC2154
	case $control_answer in
	*"\"$1\":$2"*) return 0 ;;
	esac
	return 1
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
