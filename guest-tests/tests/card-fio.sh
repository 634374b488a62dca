#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# fio writes blocks to a card in random order and reads them back, in two sizes and at two queue depths. Passes if every
# block has the checksum that it was written with, and the host's file has the same bytes.

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

# What the four runs take together, in bytes.
USED=$((8 * 1024 * 1024))

# $1: the size of a block, $2: how many at a time, $3: bytes in all, $4: the first byte
fio_verifies() {
	fio --name="$1-$2" --filename="/dev/$disk" --ioengine=libaio --direct=1 --rw=randwrite --bs="$1" --iodepth="$2" \
		--offset="$4" --size="$3" --randseed=1 --verify=crc32c --verify_fatal=1 --eta=never --output=/tmp/fio.log && return 0
	ktap_print_msg "fio: $(grep -m 1 -e verify -e error -e 'err=' /tmp/fio.log)"
	return 1
}

ktap_print_header
ktap_set_plan 12
card_test_start

# The kernel finds the card and makes a disk of it within the time limit.
card_test_use "the card becomes a disk" card sd
# Exactly as many bytes as the image.
ktap_test_result "the disk has the image's size" disk_has_size_of card

# fio ends with status 0: no read or write failed, no block had another checksum.
ktap_test_result "4 KiB blocks, 1 at a time: fio verifies all" fio_verifies 4k 1 1m 0
ktap_test_result "4 KiB blocks, 8 at a time: fio verifies all" fio_verifies 4k 8 1m 1m
ktap_test_result "128 KiB blocks, 1 at a time: fio verifies all" fio_verifies 128k 1 3m 2m
ktap_test_result "128 KiB blocks, 8 at a time: fio verifies all" fio_verifies 128k 8 3m 5m

# The range can be read; whether the file has the same is the host's to say.
ktap_test_result "the host is told the hash" disk_tell_hash card 0 $USED
# The disk goes away with the card.
ktap_test_result "the card goes out and its disk with it" card_drop

card_test_end
