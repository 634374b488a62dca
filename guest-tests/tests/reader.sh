# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# What the tests of the card reader share: modules, waiting, placement. To be sourced after ktap.sh.

MODULES=${MODULES:-/modules}
# Seconds for one condition. Generous: it only ends a run that has stopped getting anywhere.
WAIT_SECONDS=${WAIT_SECONDS:-120}

# The reader's directory in sysfs, set by reader_find.
reader=
# What keeps the CPUs busy, set by keep_busy.
busy_pids=

# A line in the kernel's log, so that it carries the kernel's time.
mark() {
	echo "sdmorph-test: $*" >/dev/kmsg
}

# Whatever waits, waits without starting a process. A new process gets a kernel stack from the same address
# space that the BAR was mapped in, and memory that the driver has freed: then the fault that is waited for
# is another one, or none.

# A pipe that nobody writes to: to read from it with a time limit is to sleep, in a shell's own words.
[ -p /tmp/nap ] || mkfifo /tmp/nap
exec 8<>/tmp/nap

# $1: seconds, with a fraction
nap() {
	# `read -t` is in every ash and bash, though POSIX lacks it.
	# shellcheck disable=SC3045
	read -r -t "$1" _ <&8 || :
}

# Sets uptime, in seconds.
uptime_read() {
	read -r uptime _ </proc/uptime
	uptime=${uptime%%.*}
}

# $1: a parameter on the kernel's command line. Prints its value.
command_line_value() {
	tr ' ' '\n' </proc/cmdline | sed -n "s/^$1=//p" | tail -n 1
}

# Poll until a command succeeds.
# $1: the condition in words, for the message; the rest: the command
wait_for() {
	wait_what=$1
	shift
	uptime_read
	wait_until=$((uptime + WAIT_SECONDS))
	until "$@"; do
		uptime_read
		if [ "$uptime" -gt "$wait_until" ]; then
			ktap_print_msg "waited $WAIT_SECONDS s for: $wait_what"
			return 1
		fi
		nap 0.1
	done
}

# Load what $MODULES/order lists, one file name a line, in that order. What is built into the
# kernel is not listed. The module that takes the fix out goes first: it must be in place before
# anything is removed.
load_modules() {
	if [ -e "$MODULES/sdmorph_unfix.ko" ]; then
		insmod "$MODULES/sdmorph_unfix.ko" || return 1
	fi
	[ -e "$MODULES/order" ] || return 0
	while IFS= read -r module; do
		case $module in
		'' | '#'* | sdmorph_unfix.ko) continue ;;
		esac
		insmod "$MODULES/$module" || {
			ktap_print_msg "insmod $module failed"
			return 1
		}
	done <"$MODULES/order"
}

# The reader: vendor 10ec and a class of its own (ff0000), below VMD's domain.
reader_find() {
	for device in /sys/bus/pci/devices/*; do
		[ "$(cat "$device/vendor" 2>/dev/null)" = 0x10ec ] || continue
		[ "$(cat "$device/class" 2>/dev/null)" = 0xff0000 ] || continue
		reader=$device
		return 0
	done
	return 1
}

# rtsx_pci is bound, and its SD host's driver, which probes asynchronously, as well.
reader_bound() {
	reader_find || return 1
	[ "$(basename "$(readlink "$reader/driver")")" = rtsx_pci ] || return 1
	set -- "$reader"/rtsx_pci_sdmmc.*/mmc_host/mmc*
	[ -e "$1" ]
}

# The drivers bind. Ends the test if not: nothing can be tested then. Reports one result.
reader_test_start() {
	if load_modules && wait_for "rtsx_pci and rtsx_pci_sdmmc bound" reader_bound; then
		ktap_test_pass "the drivers bind"
		mark "drivers bound to ${reader##*/}"
	else
		ktap_test_fail "the drivers bind"
		ktap_finished
	fi
}

# The reader has been left alone: the first scan for a card is over. Where the SD host has runtime PM of
# its own (6.x), its autosuspend delay has passed; where it has none (7.x), nobody uses the reader.
reader_idle() {
	set -- "$reader"/rtsx_pci_sdmmc.*/power/runtime_status
	if [ -e "$1" ]; then
		[ "$(cat "$1")" = suspended ]
	else
		[ "$(cat "$reader/power/runtime_usage")" = 0 ]
	fi
}

# sysfs drops the directory when .remove has returned. Another function may be in its place soon.
reader_gone() {
	{ read -r reader_class <"$reader/class"; } 2>/dev/null || return 0
	[ "$reader_class" != 0xff0000 ]
}

# Prints the first line of a fault that the kernel reported, without its time; fails if there is none.
kernel_fault() {
	dmesg | sed 's/^\[[^]]*\] //' |
		grep -m 1 -e '^BUG: ' -e '^Oops: ' -e '^general protection fault' -e '^WARNING: ' -e ': BUG: '
}

kernel_faulted() {
	kernel_fault >/dev/null
}

no_fault() {
	! kernel_faulted
}

# $1: a line of the kernel's log, as a basic regular expression
logged() {
	dmesg | grep -q "$1"
}

# No kworker is running or ready to run. One that spins on a dead register is in state R all the time.
no_worker_running() {
	for stat in /proc/[0-9]*/stat; do
		# A process may have ended since the pattern was expanded.
		{ read -r line <"$stat"; } 2>/dev/null || continue
		case $line in
		*"(kworker/"*") R "*) return 1 ;;
		esac
	done
}

# The same, ten times in a row: a fault that is still to come has had its chance.
workers_quiet() {
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		no_worker_running || return 1
		nap 0.1
	done
}

# Prints the interrupt numbers of /proc/interrupts whose line ends in a name that matches $1.
interrupts_named() {
	sed -n "s/^ *\([0-9]\{1,\}\):.* $1\$/\1/p" /proc/interrupts
}

# Put the interrupts of the VMD endpoint on CPU 1 and pciehp's thread on CPU 0.
# Per-CPU workqueues do not start a second worker while the first one spins, and .remove needs one:
# the idle callback's worker and pciehp's thread must be on different CPUs.
place_interrupts() {
	[ "$(command_line_value sdmorph.place)" != 0 ] || return 0
	if [ "$(nproc)" -lt 2 ]; then
		ktap_print_msg "one CPU only: nothing to place"
		return 0
	fi
	placed=0
	for interrupt in $(interrupts_named 'vmd[0-9]*'); do
		echo 2 >"/proc/irq/$interrupt/smp_affinity" || return 1
		placed=$((placed + 1))
	done
	for process in /proc/[0-9]*; do
		case $(cat "$process/comm" 2>/dev/null) in
		irq/*-pciehp)
			if taskset -p 1 "${process#/proc/}" >/dev/null 2>&1; then
				ktap_print_msg "placed $placed VMD vectors on CPU 1, pciehp's thread on CPU 0"
			else
				# 7.x: nor need it be, since the pm workqueue is not bound to CPUs there.
				ktap_print_msg "placed $placed VMD vectors on CPU 1; pciehp's thread may not be moved here"
			fi
			return 0
			;;
		esac
	done
	ktap_print_msg "pciehp has no thread: the port is not hot-plug capable for this kernel"
	return 1
}

# Four processes that change places on the CPUs: the context switches drop the unmapped BAR's stale
# translation from the TLB. Without them the fault may be missed.
keep_busy() {
	[ "$(command_line_value sdmorph.place)" != 0 ] || return 0
	for _ in 1 2 3 4; do
		yes >/dev/null &
		busy_pids="$busy_pids $!"
	done
}

stop_busy() {
	# A list of process ids, to be split.
	# shellcheck disable=SC2086
	[ -z "$busy_pids" ] || kill $busy_pids 2>/dev/null
	busy_pids=
}

# The device has counted no access to a register that it does not model.
# The host checks it again at the end of every run.
no_unmodelled_access() {
	control_execute query-status || return 1
	# control_answer is control.sh's.
	# shellcheck disable=SC2154
	unmodelled=$(printf '%s' "$control_answer" | sed -n 's/.*"unmodelled": *\([0-9]*\).*/\1/p')
	[ "$unmodelled" = 0 ] && return 0
	ktap_print_msg "accesses to registers that are not modelled: ${unmodelled:-query-status does not say}"
	return 1
}
