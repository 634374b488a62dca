#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# /init of the guest: runs /tests/NAME.sh, NAME being sdmorph.test= of the kernel's command line.
#
# The console is ttyS0. ttyS1 is left alone: it is the guest's line to the control socket.
# The host reads the last line, "sdmorph-init: exit CODE", and the power going off.

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

# What a test prints goes to the serial port, also where the kernel's console is elsewhere.
exec </dev/ttyS0 >/dev/ttyS0 2>&1

name=
read -r cmdline </proc/cmdline
for word in $cmdline; do
	case $word in
	sdmorph.test=*) name=${word#sdmorph.test=} ;;
	esac
done

echo "sdmorph-init: kernel $(uname -r), test ${name:-(none)}"
if [ -z "$name" ]; then
	echo "sdmorph-init: no sdmorph.test= on the kernel's command line"
	code=127
elif [ ! -r "/tests/$name.sh" ]; then
	echo "sdmorph-init: there is no /tests/$name.sh"
	code=127
else
	cd /tests || exit
	SDMORPH_TEST=$name sh "/tests/$name.sh"
	code=$?
fi
echo "sdmorph-init: exit $code"
sync
poweroff -f
