#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# fio on the disk that the device has and on one of QEMU's own, taking turns, for the host to read. No test: nothing passes
# or fails here but the disks that there have to be.
#
# Of the kernel's command line: sdmorph.contest, which disks these are; sdmorph.rounds; sdmorph.ms, how long each job of a
# round runs.

# Functions are called by name, through wait_for.
# shellcheck disable=SC2317

tests=$(dirname "$0")
# shellcheck source=guest-tests/tests/ktap.sh
. "$tests/ktap.sh"
# shellcheck source=guest-tests/tests/reader.sh
. "$tests/reader.sh"

# Bytes of each disk that are read and written. The host has written them before, so that nothing is allocated now.
SIZE=64m

# The disk below the SD host controller that a driver is bound to, by nothing but that driver's name.
# $1: the driver. Sets disk.
disk=
card_of() {
	for host in /sys/class/mmc_host/mmc*; do
		[ "$(basename "$(readlink "$host/device/driver")")" = "$1" ] || continue
		for disk in "$host"/mmc*:*/block/mmcblk*; do
			disk=${disk##*/}
			[ -d "/sys/block/$disk/queue" ] && (: <"/dev/$disk") 2>/dev/null && return 0
		done
	done
	return 1
}

# The NVMe drive in a PCI domain; VMD's is the only one that is not 0000.
# $1: the domain. Sets disk.
drive_in() {
	for controller in /sys/class/nvme/nvme*; do
		address=$(readlink -f "$controller/device")
		case ${address##*/} in
		"$1":*) ;;
		*) continue ;;
		esac
		for disk in "$controller"/nvme*n1; do
			disk=${disk##*/}
			[ -d "/sys/block/$disk/queue" ] && (: <"/dev/$disk") 2>/dev/null && return 0
		done
	done
	return 1
}

# $1: whose disk, $2: its name, $3: what fio does, $4: the size of a request, $5: how many are under way
job() {
	cat <<-EOF
		[$1:$3-$4-$5]
		stonewall
		filename=/dev/$2
		rw=$3
		bs=$4
		iodepth=$5
	EOF
	[ "$5" -eq 1 ] || echo ioengine=libaio
}

# $1: the round. The two change places with each.
jobs() {
	cat <<-EOF
		[global]
		ioengine=psync
		direct=1
		thread=1
		size=$SIZE
		time_based=1
		runtime=${milliseconds}ms
	EOF
	while read -r what; do
		# Three words.
		# shellcheck disable=SC2086
		if [ $(($1 % 2)) -eq 0 ]; then
			job own "$own" $what
			job other "$other" $what
		else
			job other "$other" $what
			job own "$own" $what
		fi
	done </tmp/tasks
}

load_modules || exit 1
contest=$(command_line_value sdmorph.contest)
cat >/tmp/tasks <<-EOF
	read 128k 1
	write 128k 1
	randread 4k 1
	randwrite 4k 1
EOF
if [ "$contest" = drive ]; then
	wait_for "the card as a drive" drive_in "10000" || exit 1
	own=$disk
	wait_for "QEMU's drive" drive_in "0000" || exit 1
	other=$disk
	cat >>/tmp/tasks <<-EOF
		randread 4k 32
		randwrite 4k 32
	EOF
else
	wait_for "a disk of the reader" card_of rtsx_pci_sdmmc || exit 1
	own=$disk
	wait_for "a disk of sdhci-pci" card_of sdhci-pci || exit 1
	other=$disk
fi
# fio's lines are too long for the kernel's log, which is where /init would put them. They go to the console, which the
# kernel's lines would cut; but it has the last word.
exec >/dev/ttyS0 2>&1
dmesg -n 1
trap 'dmesg -n 8' EXIT
[ "$own" != "$other" ] || exit 1
for what in "$own" "$other"; do
	echo "sdmorph-bench disk $what $(cat "/sys/block/$what/size") $(readlink -f "/sys/block/$what/device")"
done

rounds=$(command_line_value sdmorph.rounds)
milliseconds=$(command_line_value sdmorph.ms)
round=0
while [ "$round" -lt "${rounds:-1}" ]; do
	echo "sdmorph-bench round $round"
	jobs "$round" >/tmp/jobs
	fio --output-format=terse --terse-version=3 --eta=never --output=/tmp/result /tmp/jobs || exit 1
	# fio may have said something else there.
	sed -n 's/^3;/sdmorph-bench fio 3;/p' /tmp/result
	round=$((round + 1))
done
