#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A drive is asked who it is and how it is, by programs that know nothing of this device: nvme-cli, smartctl, lspci. Passes
# if what they print is what the card in the reader and the image say, the counters grow by what is written and read, and
# `nvme format` leaves a drive that is empty and has the blocks that were asked for.

# Functions are called by name, through wait_for and ktap_test_result.
# shellcheck disable=SC2317

tests=$(dirname "$0")
# shellcheck source=guest-tests/tests/ktap.sh
. "$tests/ktap.sh"
# shellcheck source=guest-tests/tests/control.sh
. "$tests/control.sh"
# shellcheck source=guest-tests/tests/reader.sh
. "$tests/reader.sh"
# shellcheck source=guest-tests/tests/card.sh
. "$tests/card.sh"
# shellcheck source=guest-tests/tests/drive.sh
. "$tests/drive.sh"

# What is written and read between two looks at the counters, in data units of 512,000 bytes.
UNITS=64

# $1: the file in sysfs of the SD card. Prints what is in it.
card_says() {
	cat "$disk_card/$1"
}

# As a card the drive is asked who it is: what it says there comes from its CID, through another driver.
card_identity() {
	card_use card sd-express '"write-protect":true' || return 1
	# The year and month of `date`, such as 07/2024, the other way round.
	date=$(card_says date)
	serial=$(printf '%02X%08X%s%s' "$(card_says manfid)" "$(card_says serial)" "${date#*/}" "${date%/*}")
	oem=$(card_says oemid)
	# shellcheck disable=SC2059 # the two bytes of OID
	model="$(printf "\\x$(echo "$oem" | cut -c 3-4)\\x$(echo "$oem" | cut -c 5-6)") $(card_says name) SD Express"
	ktap_print_msg "expected: serial $serial, model $model"
	card_drop
}

# A program's output is in /tmp/said. $@: the program and what it is called with
run() {
	"$@" >/tmp/said 2>&1 && return 0
	ktap_print_msg "$*: status $?, $(head -n 3 /tmp/said | tr '\n' ' ')"
	return 1
}

# Prints the value of a line `name : value` of what was said. $1: the name, a basic regular expression
said() {
	sed -n "s/^$1[[:space:]]*:[[:space:]]*//p" /tmp/said | sed 's/ *$//' | head -n 1
}

# $1: the name, $2: the value
says() {
	[ "$(said "$1")" = "$2" ] && return 0
	ktap_print_msg "$1 is '$(said "$1")', not '$2'"
	return 1
}

# $1: a basic regular expression
said_line() {
	grep -q "$1" /tmp/said && return 0
	ktap_print_msg "nothing like '$1' in: $(head -n 40 /tmp/said | tr '\n' '|' | cut -c 1-700)"
	return 1
}

id_ctrl() {
	read -r image_bytes </images/card/bytes
	run nvme id-ctrl "/dev/$ctrl" && says sn "$serial" && says mn "$model" && says vid 0x10ec && says ver 0x10400 &&
		says tnvmcap "$image_bytes" && says nn 1 && says vwc 0x7
}

# $1: the size of a block, $2: its logarithm
id_ns() {
	read -r image_bytes </images/card/bytes
	run nvme id-ns "/dev/$disk" && says nsze "$(printf '0x%x' $((image_bytes / $1)))" &&
		said_line "lbads:$2 .*(in use)"
}

# Prints a counter of the SMART log. $1: its name
smart_counter() {
	nvme smart-log "/dev/$ctrl" >/tmp/said 2>&1 && said "$1" | sed 's/ (.*//; s/,//g'
}

# The counters of data units and commands grow by what is written and read here, and by no more.
smart_counts() {
	units_written=$(smart_counter '[Dd]ata [Uu]nits [Ww]ritten')
	units_read=$(smart_counter '[Dd]ata [Uu]nits [Rr]ead')
	dd if=/dev/zero of="/dev/$disk" bs=512000 count="$UNITS" oflag=direct conv=notrunc 2>/dev/null || return 1
	dd if="/dev/$disk" of=/dev/null bs=512000 count="$UNITS" iflag=direct 2>/dev/null || return 1
	units_written=$(($(smart_counter '[Dd]ata [Uu]nits [Ww]ritten') - units_written))
	units_read=$(($(smart_counter '[Dd]ata [Uu]nits [Rr]ead') - units_read))
	ktap_print_msg "data units: $units_written written, $units_read read"
	# Nobody else uses the drive, but a unit that has begun counts.
	[ "$units_written" -ge "$UNITS" ] && [ "$units_written" -le $((UNITS + 1)) ] &&
		[ "$units_read" -ge "$UNITS" ] && [ "$units_read" -le $((UNITS + 1)) ]
}

smart_is_well() {
	run nvme smart-log "/dev/$ctrl" && says critical_warning 0 && says media_errors 0 && says available_spare '100%' &&
		said_line '^temperature[[:space:]]*: 40'
}

# No entry is of an error.
error_log_empty() {
	run nvme error-log "/dev/$ctrl" -e 64 && said_line '^error_count' && ! grep '^error_count' /tmp/said | grep -qv ': 0$'
}

# A command that is refused is an entry.
error_log_tells() {
	nvme get-feature "/dev/$ctrl" -f 0x7f >/tmp/said 2>&1 && return 1
	said_line 'INVALID_FIELD\|Invalid Field' || return 1
	run nvme error-log "/dev/$ctrl" -e 1 && said_line '^status_field.*[Ii]nvalid.[Ff]ield'
}

# Volatile write cache: on; off; on.
write_cache() {
	run nvme get-feature "/dev/$ctrl" -f 6 && said_line 'value: *0*x*0*1$' &&
		run nvme set-feature "/dev/$ctrl" -f 6 -v 0 && run nvme get-feature "/dev/$ctrl" -f 6 && said_line 'value: *0*x*0*$' &&
		run nvme set-feature "/dev/$ctrl" -f 6 -v 1
}

flush() {
	run nvme flush "/dev/$disk" -n 1
}

# Deallocated blocks read as zeros, as DLFEAT says.
dsm() {
	dd if=/dev/urandom of="/dev/$disk" bs=64k count=1 oflag=direct conv=notrunc 2>/dev/null || return 1
	run nvme dsm "/dev/$disk" -n 1 -d 1 -s 0 -b 128 || return 1
	all_zeros 65536
}

# $1: bytes from the disk's beginning
all_zeros() {
	[ "$(disk_sha256 0 "$1")" = "$(head -c "$1" /dev/zero | sha256sum | cut -d ' ' -f 1)" ]
}

# $1: the format, $2: the size of a block, $3: its logarithm
format() {
	dd if=/dev/urandom of="/dev/$disk" bs=64k count=1 oflag=direct conv=notrunc 2>/dev/null || return 1
	run nvme format "/dev/$disk" -n 1 --lbaf="$1" --force && wait_for "blocks of $2 bytes" has_blocks_of "$2" &&
		id_ns "$2" "$3" && disk_has_size_of card && all_zeros 65536
}

has_blocks_of() {
	[ "$(cat "/sys/block/$disk/queue/logical_block_size")" = "$1" ]
}

# A format that there is not.
format_refused() {
	nvme format "/dev/$disk" -n 1 --lbaf=9 --force >/tmp/said 2>&1 && return 1
	has_blocks_of 512
}

smart_ctl() {
	read -r image_bytes </images/card/bytes
	# Two bits of the status are about the past: errors in the log are some.
	smartctl -a "/dev/$ctrl" >/tmp/said 2>&1
	[ $(($? & ~64)) -eq 0 ] && says 'Serial Number' "$serial" && says 'Model Number' "$model" &&
		says 'SMART overall-health self-assessment test result' PASSED &&
		said_line "^Namespace 1 Size/Capacity: *$(echo "$image_bytes" | sed ':a;s/\([0-9]\)\([0-9]\{3\}\)\($\|,\)/\1,\2\3/;ta')"
}

ls_pci() {
	run lspci -vvv -nn -s "${reader##*/}" && said_line 'Non-Volatile memory controller.*\[10ec:52fe\]\|\[0108\].*\[10ec:52fe\]' &&
		said_line 'prog-if 02' && said_line 'MSI-X: Enable+ Count=17' && said_line 'Kernel driver in use: nvme' &&
		said_line 'FLReset+' && said_line 'LnkSta:.*Speed 8GT/s' && said_line 'LnkSta:.*Width x1' &&
		said_line 'Region 0: Memory.*64-bit, non-prefetchable.*size=16K'
}

ktap_print_header
ktap_set_plan 23
card_test_start

ktap_test_result "as an SD card it says who it is" card_identity
ktap_test_result "the card becomes a drive" drive_use card
ctrl=$(basename "$(echo "$reader"/nvme/nvme*)")
ktap_test_result "no error has been logged" error_log_empty
ktap_test_result "lspci: class, BAR, link, MSI-X, FLR" ls_pci
ktap_test_result "id-ctrl: serial and model number are the card's" id_ctrl
ktap_test_result "id-ns: as many blocks as the image" id_ns 512 9
ktap_test_result "smart-log: all is well" smart_is_well
ktap_test_result "smart-log: data units count" smart_counts
ktap_test_result "smartctl -a: identity, capacity, health" smart_ctl
ktap_test_result "get-feature, set-feature: the volatile write cache" write_cache
ktap_test_result "flush" flush
ktap_test_result "dsm: what is deallocated is zero" dsm
ktap_test_result "format: one that there is not is refused" format_refused
ktap_test_result "format: 4096 bytes" format 1 4096 12
ktap_test_result "format: 512 bytes again" format 0 512 9
ktap_test_result "error-log: a refused command is in it" error_log_tells
ktap_test_result "what is written is read back" disk_takes_data 0 65536
# The range can be read; whether the file has the same is the host's to say.
ktap_test_result "the host is told the hash" disk_tell_hash card 0 65536
ktap_test_result "the card goes out, and the reader comes back" drive_drop

card_test_end
