# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# What the tests share that add fault rules of their own. To be sourced after control.sh and reader.sh.

# $1: the rule's name, $2: members of its trigger, $3: what it does. It hits once.
rule_once() {
	mark "rule $1"
	control_execute rule-add "{\"rule\":{\"name\":\"$1\",\"on\":{$2},\"do\":$3,\"times\":1}}"
}

# $@: names of rules, those that wait for others first
rules_removed() {
	for rule in "$@"; do
		control_execute rule-remove "{\"name\":\"$rule\"}" || return 1
	done
}

# $1: the rule's name
rule_has_hit() {
	control_execute query-rules || return 1
	# Each rule on a line of its own. control_answer is control.sh's.
	# shellcheck disable=SC2154
	printf '%s' "$control_answer" | sed 's/{"armed"/\n&/g' |
		grep "\"name\": *\"$1\"" | grep -q '"hits": *[1-9]'
}
