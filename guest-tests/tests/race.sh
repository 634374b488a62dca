# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# What the tests of the race between a driver's removal and its idle callback share: the module sdmorph_race, which makes
# one order of things certain and notes who ran when. To be sourced after ktap.sh, control.sh and reader.sh.

race=/sys/kernel/debug/sdmorph_race
# A task that waits for longer than this is said to hang. Seconds; the kernel's own limit is 120.
RACE_HANG_SECONDS=${RACE_HANG_SECONDS:-20}

# $1: the step that is made certain
race_load() {
	echo "$RACE_HANG_SECONDS" >/proc/sys/kernel/hung_task_timeout_secs || return 1
	insmod "$MODULES/sdmorph_race.ko" "step=$1"
}

# $1: what sdmorph_race is to do now
race_do() {
	echo "$1" >"$race/do"
}

# The beginning of every test of the race: two results.
# $1: the step
race_test_start() {
	reader_test_start
	wait_for "the SD host to be idle" reader_idle
	ktap_test_result "sdmorph_race is loaded" race_load "$1"
}

# What follows until the verdict starts no process (see reader.sh).

# The kernel has died of something.
race_faulted() {
	read -r race_died <"$race/faulted"
	[ "$race_died" = 1 ]
}

# Counts the notes of $1.
race_count() {
	race_counted=0
	while read -r _ _ _ race_what _; do
		[ "$race_what" != "what=$1" ] || race_counted=$((race_counted + 1))
	done <"$race/notes"
}

race_noted() {
	race_count "$1"
	[ "$race_counted" -gt 0 ]
}

# The driver has been released, and pm_runtime_work() has come back as often as it was called.
race_ended() {
	race_noted unbound || return 1
	race_count work-begins
	race_begun=$race_counted
	race_count work-ends
	[ "$race_counted" -eq "$race_begun" ]
}

# A task hangs, as the kernel says.
race_hung() {
	logged 'INFO: task .* blocked for more than '
}

race_turns=0

# The end, whichever it is. To look for a task that hangs starts processes, so not at every turn.
race_over() {
	race_faulted && return
	race_ended && return
	race_turns=$((race_turns + 1))
	[ $((race_turns % 10)) -eq 0 ] && race_hung
}

# Whoever was to be held was held, and let go because the other side had come.
race_step_made() {
	race_noted held || {
		ktap_print_msg "nobody was held"
		return 1
	}
	race_in_time
}

race_in_time() {
	! race_noted gave-up || {
		ktap_print_msg "the other side did not come within a minute"
		return 1
	}
}

# The notes into the kernel's log, for the host to read.
race_tell() {
	while read -r race_line; do
		echo "sdmorph_race: $race_line" >/dev/kmsg
	done <"$race/notes"
}

# Whether the timer expired in .remove, and was refused, or had been stopped by then is up to the kernel.
race_timer_told() {
	race_noted timer-refused || race_noted timer-was-stopped || {
		ktap_print_msg "the timer has requested something, or nobody knows what became of it"
		return 1
	}
	race_in_time
}

# The idle callback has begun.
race_idle_begun() {
	race_noted idle-begins
}

# Surprise: the BAR is gone, and the link is down. pciehp removes the driver.
race_pull() {
	control_inject '[{"bar":"vanish"},{"link":"down"}]' pulled
}

# The reader is pulled, or the test ends. Reports one result.
race_pulled() {
	if control_open && race_pull; then
		ktap_test_pass "the reader is pulled"
	else
		ktap_test_fail "the reader is pulled"
		ktap_finished
	fi
}

# The idle callback is in the middle of its work, in a worker, on a device that is there and slow: from its first register
# on, HAIMR says that it is busy, and the driver looks 1,024 times before it gives a register up.
race_callback_sticks() {
	rule_once callback-sticks '"write":"OLT_LED_CTL"' '{"stuck-busy":"HAIMR"}' &&
		race_do idle && race_noted held
}

# The same, or the test ends. Reports one result.
race_callback_at_work() {
	if control_open; then
		ktap_test_result "the idle callback is at work" race_callback_sticks
	else
		ktap_test_fail "the idle callback is at work"
		ktap_finished
	fi
}

# Removes the reader's driver by writing to a file of sysfs. The writer may hang: it is another process.
# $1: what to write, $2: the file
race_remove_by() {
	# What both the device and the kernel have, for their clocks.
	control_mark "removal begins" || return 1
	mark "removal begins"
	echo "$1" >"$2" &
}

# The rest of every test of the race: wait for the end, tell the notes, and say how it ended. Reports three results, and
# ends the test.
# $1: a command that says whether the step was made
race_test_end() {
	wait_for "the driver released, a fault, or a task that hangs" race_over
	race_tell
	ktap_test_result "the step was made" "$1"
	if race_faulted; then
		ktap_test_fail "the driver is released, and nothing faults or hangs" "$(kernel_fault)"
	elif race_hung; then
		ktap_test_fail "the driver is released, and nothing faults or hangs" "a task hangs"
	else
		ktap_test_result "the driver is released, and nothing faults or hangs" race_noted unbound
	fi
	ktap_test_result "every register accessed is modelled" no_unmodelled_access
	control_close
	ktap_finished
}
