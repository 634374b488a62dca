# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# The guest's kernel traced, for the report. To be sourced by /init, if the lab has put it into the guest (`--trace`,
# or `trace` of the scenario).
#
# What matters of slot, removal, runtime PM and NVMe is traced with the function graph tracer: when a function is entered,
# and when it returns. It leaves the call chain of an oops readable, which return probes do not. Of the scheduler, only what
# is about workers and interrupt threads. All of it stays in the kernel's ring buffer until the test is over, and goes to
# the host by the third serial port then: to carry it away while the test runs would be work for the guest's processors,
# and change what is looked at. An oops leaves the buffer alone.
#
# Clocks: the guest writes a marker into the trace, has the device write one into its record, and writes another. The
# device's lies between the two.

TRACING=/sys/kernel/tracing
TRACE_PORT=/dev/ttyS2
# For each processor. The oldest events go first.
TRACE_BUFFER_KB=4096

# In which module (- is the kernel itself), and which functions. One that a kernel does not have is left out, and said so.
TRACE_FUNCTIONS='
- pciehp_ist pciehp_unconfigure_device pciehp_configure_device
- pci_device_remove pm_runtime_barrier iounmap
- pm_runtime_work rpm_idle
rtsx_pci rtsx_pci_probe rtsx_pci_remove rtsx_pci_runtime_idle rtsx_pci_runtime_suspend rtsx_pci_runtime_resume
rtsx_pci rtsx_set_l1off_sub
rtsx_pci_sdmmc rtsx_pci_sdmmc_drv_remove
nvme nvme_probe nvme_remove nvme_reset_work nvme_timeout
'

trace_say() {
	echo "<14>sdmorph-trace: $*" >/dev/kmsg
}

# $1: an event, as GROUP/NAME, $2: its filter, if it has one
trace_event() {
	{
		{ [ -z "${2:-}" ] || echo "$2" >"$TRACING/events/$1/filter"; } && echo 1 >"$TRACING/events/$1/enable"
	} 2>/dev/null || trace_say "no event $1 ${2:+with the filter $2 }in this kernel"
}

trace_start() {
	if ! grep -qw function_graph "$TRACING/available_tracers" 2>/dev/null; then
		trace_say "this kernel has no function graph tracer (CONFIG_FUNCTION_GRAPH_TRACER): nothing is traced"
		return 1
	fi
	# The processors' own counter, which the hypervisor gives all of them alike. The log's clock is only as good as a tick.
	echo local >"$TRACING/trace_clock"
	echo "$TRACE_BUFFER_KB" >"$TRACING/buffer_size_kb"
	echo 1024 >"$TRACING/saved_cmdlines_size"
	for option in funcgraph-abstime funcgraph-proc funcgraph-tail; do
		echo 1 >"$TRACING/options/$option"
	done
	traced=0
	for place in $(trace_places); do
		# A module's function is looked for when the module comes.
		if echo "$place" >>"$TRACING/set_ftrace_filter"; then
			traced=$((traced + 1))
		else
			trace_say "no function $place in this kernel"
		fi
	done 2>/dev/null
	# Without a filter it would be every function.
	[ "$traced" -eq 0 ] || echo function_graph >"$TRACING/current_tracer"
	# The log's lines, which so have a time of the trace's clock.
	trace_event printk/console
	trace_event irq/irq_handler_entry 'name == "pciehp" || name ~ "rtsx*" || name ~ "nvme*"'
	trace_event sched/sched_switch \
		'prev_comm ~ "kworker/*" || next_comm ~ "kworker/*" || prev_comm ~ "irq/*" || next_comm ~ "irq/*"'
	trace_synchronise begin
}

# The words for set_ftrace_filter.
trace_places() {
	echo "$TRACE_FUNCTIONS" | while read -r module functions; do
		for function in $functions; do
			case $module in
			-) echo "$function" ;;
			*) echo "$function:mod:$module" ;;
			esac
		done
	done
}

# Markers on both sides, so that each of the device's lies between two of the guest's. $1: what they are called
trace_synchronise() {
	# shellcheck source=guest-tests/tests/control.sh
	. /tests/control.sh
	control_open >/dev/null || {
		trace_say "the device does not answer, and takes no markers"
		return 1
	}
	for number in 1 2 3 4 5 6 7 8; do
		text="sdmorph-sync $1 $number"
		command="{\"execute\":\"marker\",\"arguments\":{\"text\":\"$text\"},\"id\":\"$text\"}"
		# Not control_mark: the processes that it starts would lie between the two times.
		echo "$text sent" >"$TRACING/trace_marker"
		echo "$command" >&9
		# `read -t` is in every ash and bash, though POSIX lacks it.
		# shellcheck disable=SC3045
		while IFS= read -r -t 10 answer <&9; do
			case $answer in
			*"$text"*)
				echo "$text answered" >"$TRACING/trace_marker"
				break
				;;
			esac
		done
	done
	control_close
}

# To the host, with a last line that says that nothing is missing.
trace_end() {
	if [ -r "$TRACING/trace" ]; then
		# An oops turns tracing off.
		read -r tracing <"$TRACING/tracing_on"
		[ "$tracing" = 0 ] || trace_synchronise end
		echo 0 >"$TRACING/tracing_on"
		exec 7>"$TRACE_PORT" && trace_send
	fi
	trace_say "complete"
}

trace_send() {
	stty raw -echo 115200 <"$TRACE_PORT"
	# Which process has which name: the tracer cuts names short.
	sed 's/^/# task /' "$TRACING/saved_cmdlines" >&7
	cat "$TRACING/trace" >&7
	echo '# complete' >&7
	exec 7>&-
}
