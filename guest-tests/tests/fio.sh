# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# What the tests share that pull a drive from under fio. To be sourced after ktap.sh, reader.sh, card.sh and drive.sh.
#
# No job ends by itself: all of them go on until they get an error. What each has done so far, and in the end its error, is
# in /tmp/fio.terse, as a line every second (fio's HOWTO, "Terse output", version 3).

# KiB that each job has to have done before the drive is pulled: all are in full swing.
FIO_SHARE=512
# What each job has of the drive, or how large its file is, in MiB.
FIO_SIZE=4

# Two jobs on the drive itself, past the page cache, with up to 16 requests each under way. A read of a disk that has no
# block any more returns nothing, which fio takes for no error: so one request in a hundred of the reader is a write.
# $1: their first MiB
fio_direct_jobs() {
	cat <<-EOF
		[direct-writer]
		filename=/dev/$disk
		ioengine=libaio
		direct=1
		iodepth=16
		rw=randwrite
		bs=16k
		offset=$1m
		size=${FIO_SIZE}m
		randseed=1
		time_based=1
		runtime=10d

		[direct-reader]
		filename=/dev/$disk
		ioengine=libaio
		direct=1
		iodepth=16
		rw=randrw
		rwmixread=99
		bs=4k
		offset=$(($1 + FIO_SIZE))m
		size=${FIO_SIZE}m
		randseed=2
		time_based=1
		runtime=10d
	EOF
}

# The file that the buffered reader reads: its blocks are full of their own offsets, so that they can be read in any order
# and as often as one likes. Passes if they are written, synced, and read back.
# $1: the directory
fio_blocks_written() {
	fio --name=blocks --filename="$1/blocks" --ioengine=psync --rw=write --bs=4k --size="${FIO_SIZE}m" --end_fsync=1 \
		--verify=pattern --verify_pattern=%o --verify_fatal=1 --eta=never --output=/tmp/blocks.log && return 0
	ktap_print_msg "fio: $(grep -m 1 -e verify -e error -e 'err=' /tmp/blocks.log)"
	return 1
}

# Two jobs on files of a mounted file system, through the page cache, in passes, after each of which fio has the kernel forget
# the file's pages. The writer reads a pass back from the drive and looks at the checksums, the reader looks whether a block
# says where it is. The writer syncs: without that a kernel takes the data for ever, and nobody is told that they are lost
# (6.1: blocks that are mapped need no journal).
# $1: the directory
fio_buffered_jobs() {
	cat <<-EOF
		[buffered-writer]
		filename=$1/buffered
		ioengine=psync
		rw=randwrite
		bs=16k
		size=${FIO_SIZE}m
		randseed=3
		fsync=32
		loops=1000000
		verify=crc32c
		verify_fatal=1

		[buffered-reader]
		filename=$1/blocks
		ioengine=psync
		rw=randread
		bs=4k
		size=${FIO_SIZE}m
		randseed=4
		time_based=1
		runtime=10d
		verify=pattern
		verify_pattern=%o
		verify_fatal=1
	EOF
}

# The jobs of standard input.
fio_start() {
	cat >/tmp/fio.jobs
	rm -f /tmp/fio.terse
	load_start fio fio --output-format=terse --terse-version=3 --status-interval=1 --eta=never --output=/tmp/fio.terse \
		/tmp/fio.jobs
}

# Prints what fio has said last of a job.
# $1: the job, $2: the field: 5 is its error, 6 KiB read, 47 KiB written
fio_said() {
	awk -F ';' -v job="$1" -v field="$2" '$1 == 3 && $3 == job { said = $field } END { print said }' /tmp/fio.terse
}

# Each job has done its share, and had no error.
# $@: the jobs
fio_shares_done() {
	[ -e /tmp/fio.terse ] || return 1
	for job in "$@"; do
		case $job in
		*-writer) job_done=$(fio_said "$job" 47) ;;
		*) job_done=$(fio_said "$job" 6) ;;
		esac
		[ "${job_done:-0}" -ge "$FIO_SHARE" ] && [ "$(fio_said "$job" 5)" = 0 ] || return 1
	done
}

# The drive has requests of both kinds to answer.
fio_under_way() {
	read -r reads writes <"/sys/block/$disk/inflight" && [ "$reads" -gt 0 ] && [ "$writes" -gt 0 ]
}

# $@: the jobs
fio_in_full_swing() {
	wait_for "$FIO_SHARE KiB of each job, and no error" fio_shares_done "$@" && loads_at_work fio &&
		wait_for "reads and writes under way" fio_under_way
}

# fio has ended, and a job of it by an error of the disk: EIO, ENODEV, ENOSPC (a disk without blocks), EROFS (ext4 has given
# up). A block that is not what was written would be EILSEQ.
# $1: the job
fio_job_got_error() {
	job_error=$(fio_said "$1" 5)
	ktap_print_msg "$1: error ${job_error:-not known}"
	case $job_error in
	5 | 19 | 28 | 30) return 0 ;;
	esac
	ktap_print_msg "$(grep -m 1 -e verify -e '^fio: ' /tmp/fio.log)"
	return 1
}
