#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A card of each capacity class goes in: SDSC, SDHC, SDXC, and SDUC where the kernel knows it (6.13 and newer). Passes if
# each disk has the image's size, and its first and last block keep what is written to them; for all but SDUC, which not
# every kernel gets to, also in the host's file.

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

knows_sduc() {
	release=$(uname -r)
	major=${release%%.*}
	minor=${release#*.}
	minor=${minor%%[!0-9]*}
	[ $((major * 1000 + minor)) -ge 6013 ]
}

# $1: the image
last_block_of() {
	read -r image_bytes <"/images/$1/bytes" && last_block=$((image_bytes - 512))
}

# $1: the image
tell_both_hashes() {
	disk_tell_hash "$1" 0 512 && disk_tell_hash "$1" "$last_block" 512
}

# Six results. $1: the class, which is the image's name
test_class() {
	last_block_of "$1"
	# The kernel finds the card and makes a disk of it within the time limit.
	card_test_use "$1: the card becomes a disk" "$1" sd
	# Exactly as many bytes as the image: the class's own kind of CSD register is right.
	ktap_test_result "$1: the disk has the image's size" disk_has_size_of "$1"
	# The hash of what was written, read from the card: the class's way to address a block is right at both ends.
	ktap_test_result "$1: the first block keeps what is written" disk_takes_data 0 512
	ktap_test_result "$1: the last block keeps what is written" disk_takes_data "$last_block" 512
	# The blocks can be read; whether the file has the same is the host's to say.
	case $1 in
	sduc) ktap_test_skip "$1: the host is told both hashes" "the scenario is for kernels without SDUC, too" ;;
	*) ktap_test_result "$1: the host is told both hashes" tell_both_hashes "$1" ;;
	esac
	# The disk goes away with the card.
	ktap_test_result "$1: the card goes out and its disk with it" card_drop
}

ktap_print_header
ktap_set_plan 28
card_test_start

for class in sdsc sdhc sdxc; do
	test_class $class
done
if knows_sduc; then
	test_class sduc
else
	for _ in 1 2 3 4 5 6; do
		ktap_test_skip "sduc" "$release is older than 6.13"
	done
fi

card_test_end
