#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# /init of the guest: runs /tests/NAME.sh, NAME being sdmorph.test= of the kernel's command line.
#
# Whatever the test says becomes records of the kernel's log, one a line, and comes to the console as the kernel's own
# lines do: with level and time, whole, in order. Nothing else of user land writes to the console, ttyS0. ttyS1 is left
# alone: it is the guest's line to the control socket. The host reads the last line, "sdmorph-init: exit CODE", and the
# power going off.

# Programs that a test asked for are in /usr/bin. Where busybox has an applet of the name, its shell runs that whatever
# PATH says: a test gives the path then.
export PATH=/usr/bin:/bin HOME=/ TERM=dumb
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mount -t tmpfs tmpfs /tmp

# Bytes of a line. The kernel refuses a record of more than 976 of them (LOG_LINE_MAX of kernel/printk/printk.c, 6.1),
# what it begins with among them.
LONGEST=880

# One record: user land's facility and level 6, which is shown at loglevel 7 and above.
say() {
	echo "<14>$*" >/dev/kmsg
}

# The lines of standard input, until one is /init's last word. KTAP as it is; what else came, such as a shell's complaint
# about a file, as a diagnostic. Starts no process, unless a line is too long: a test may depend on that.
say_lines() {
	exec 3>/dev/kmsg
	while IFS= read -r line; do
		case $line in
		'') continue ;;
		'sdmorph-init: exit '*) break ;;
		'ok '* | 'not ok '* | '1..'* | '# '* | 'KTAP version '*) ;;
		*) line="# $line" ;;
		esac
		[ ${#line} -le $LONGEST ] || line="$(printf "%.${LONGEST}s" "$line") (cut)"
		echo "<14>sdmorph-ktap: $line" >&3 || echo '<14>sdmorph-ktap: # (a line that the log refused)' >&3
	done 2>/dev/null
	say "$line"
}

name=
read -r cmdline </proc/cmdline
for word in $cmdline; do
	case $word in
	sdmorph.test=*) name=${word#sdmorph.test=} ;;
	esac
done

say "sdmorph-init: kernel $(uname -r), test ${name:-(none)}"
# What the lab puts here if it was asked to trace the kernel.
if [ -r /trace.sh ]; then
	# shellcheck source=guest-tests/lab/src/assets/trace.sh
	. /trace.sh
	trace_start
fi
mkfifo /lines
say_lines </lines &
exec </dev/null >/lines 2>&1
if [ -z "$name" ]; then
	echo "no sdmorph.test= on the kernel's command line"
	code=127
elif [ ! -r "/tests/$name.sh" ]; then
	echo "there is no /tests/$name.sh"
	code=127
else
	cd /tests || exit
	SDMORPH_TEST=$name sh "/tests/$name.sh"
	code=$?
	# Something may have left a line without its end.
	echo
fi
[ ! -r /trace.sh ] || trace_end
# The last word, and not the end of the lines: a process that the test left behind may hold them open.
echo "sdmorph-init: exit $code"
wait $!
sync
poweroff -f
