#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# fio on the card of the reader and on that of sdhci-pci, taking turns, for the host to read. No test: nothing passes or
# fails here but the disks that there have to be.
#
# Of the kernel's command line: sdmorph.rounds, and sdmorph.ms, how long each job of a round runs.

# Functions are called by name, through wait_for.
# shellcheck disable=SC2317

tests=$(dirname "$0")
# shellcheck source=guest-tests/tests/ktap.sh
. "$tests/ktap.sh"
# shellcheck source=guest-tests/tests/reader.sh
. "$tests/reader.sh"

# Bytes of each disk that are read and written. The host has written them before, so that nothing is allocated now.
SIZE=64m

# The disk below the host controller that a driver is bound to, by nothing but that driver's name.
# $1: the driver. Sets disk.
disk=
disk_of() {
	for host in /sys/class/mmc_host/mmc*; do
		[ "$(basename "$(readlink "$host/device/driver")")" = "$1" ] || continue
		for disk in "$host"/mmc*:*/block/mmcblk*; do
			disk=${disk##*/}
			[ -b "/dev/$disk" ] && return 0
		done
	done
	return 1
}

# $1: whose disk, $2: its name, $3: what fio does, $4: the size of a request
job() {
	cat <<-EOF
		[$1:$3-$4]
		stonewall
		filename=/dev/$2
		rw=$3
		bs=$4
	EOF
}

# $1: the round. The two change places with each.
jobs() {
	cat <<-EOF
		[global]
		ioengine=psync
		direct=1
		iodepth=1
		thread=1
		size=$SIZE
		time_based=1
		runtime=${milliseconds}ms
	EOF
	for what in "read 128k" "write 128k" "randread 4k" "randwrite 4k"; do
		# Two words.
		# shellcheck disable=SC2086
		if [ $(($1 % 2)) -eq 0 ]; then
			job reader "$reader_disk" $what
			job sdhci "$sdhci_disk" $what
		else
			job sdhci "$sdhci_disk" $what
			job reader "$reader_disk" $what
		fi
	done
}

load_modules || exit 1
wait_for "a disk of the reader" disk_of rtsx_pci_sdmmc || exit 1
reader_disk=$disk
wait_for "a disk of sdhci-pci" disk_of sdhci-pci || exit 1
sdhci_disk=$disk
# fio's lines are too long for the kernel's log, which is where /init would put them. They go to the console, which the
# kernel's lines would cut; but it has the last word.
exec >/dev/ttyS0 2>&1
dmesg -n 1
trap 'dmesg -n 8' EXIT
for what in "$reader_disk" "$sdhci_disk"; do
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
