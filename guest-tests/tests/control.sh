# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# Speaks QMP to the device's control socket, which is the guest's second serial port. To be sourced.
# File descriptor 9 stays open from control_open to control_close.
#
# What was sent before the port was opened may be cut short: the serial driver empties its FIFO when
# it probes and opens a port. So nothing here depends on the greeting; an answer is known by its id,
# and every line without that id (greeting, event, the rest of a cut line) is passed over.

CONTROL_PORT=${CONTROL_PORT:-/dev/ttyS1}
# Seconds for one answer. Generous: it only ends a run in which the device does not answer at all.
CONTROL_TIMEOUT=${CONTROL_TIMEOUT:-120}

control_serial=0
# The last answer's line, as it came.
control_answer=

# Wait for the answer with the id $1. 0: it came and is in control_answer, 1: it did not.
control_await() {
	control_until=$(($(cut -d. -f1 /proc/uptime) + CONTROL_TIMEOUT))
	while [ "$(cut -d. -f1 /proc/uptime)" -le "$control_until" ]; do
		# `read -t` is in every ash and bash, though POSIX lacks it.
		# shellcheck disable=SC3045
		IFS= read -r -t "$CONTROL_TIMEOUT" control_line <&9 || return 1
		case $control_line in
		*"\"id\":\"$1\""* | *"\"id\": \"$1\""*)
			control_answer=$control_line
			return 0
			;;
		esac
	done
	return 1
}

# Run one command.
# $1: its name, $2: its arguments as a JSON object (may be left out)
# 0: done, the answer is in control_answer; 1: refused or unanswered, and said on stdout.
control_execute() {
	control_serial=$((control_serial + 1))
	# The process id keeps an answer to an earlier script on the same port from being ours.
	control_id="guest-$$-$control_serial"
	control_answer=
	printf '{"execute":"%s","arguments":%s,"id":"%s"}\n' "$1" "${2:-{\}}" "$control_id" >&9
	if ! control_await "$control_id"; then
		echo "# control: no answer to $1 within $CONTROL_TIMEOUT s on $CONTROL_PORT"
		return 1
	fi
	case $control_answer in
	*'"return"'*) return 0 ;;
	esac
	echo "# control: $1 was refused: $control_answer"
	return 1
}

# A text as a JSON string can have it: $1 with backslashes and quotes escaped, in one line.
control_text() {
	printf '%s' "$1" | tr '\n\t' '  ' | sed 's/[\\"]/\\&/g'
}

# Write a line of text into the device's record, so that it stands beside what the device did.
# $1: the text
control_mark() {
	control_execute marker "{\"text\":\"$(control_text "$1")\"}"
}

# Do actions of fault rules at once.
# $1: an action or an array of them, as a rule's "do" has them; $2: a name for the record (may be left out)
control_inject() {
	control_execute inject "{\"do\":$1,\"name\":\"${2:-injected}\"}"
}

# A part of the device's status, on stdout as JSON.
# $1: the path, such as slot.link-active or reader.BIPR
control_status() {
	control_execute query-status "{\"path\":\"$(control_text "$1")\"}" || return 1
	control_value=${control_answer#*\"return\":}
	printf '%s\n' "${control_value%,\"id\":*}"
}

# Open the port and leave the capabilities negotiation. 0: commands are taken.
control_open() {
	if [ ! -c "$CONTROL_PORT" ]; then
		echo "# control: there is no $CONTROL_PORT (the device's control socket)"
		return 1
	fi
	exec 9<>"$CONTROL_PORT"
	# No echo, no line editing, no CR/LF conversion: the other end is a program.
	stty raw -echo 115200 <&9 || return 1
	# Until stty ran, the greeting was echoed, and what is left of the echo may still come in between our own
	# bytes. Of two commands on lines of their own the server understands the second, whatever came before;
	# so ask again, and soon.
	control_patience=$CONTROL_TIMEOUT
	CONTROL_TIMEOUT=5
	for _ in 1 2 3 4 5 6; do
		printf '\n' >&9
		control_execute qmp_capabilities
		[ -n "$control_answer" ] && break
	done
	CONTROL_TIMEOUT=$control_patience
	[ -n "$control_answer" ]
}

control_close() {
	exec 9>&-
}
