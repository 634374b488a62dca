#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A card that can do UHS-I goes in. Passes if the stock driver brings the bus to SDR104 with four lines at 1.8 V, and data
# keep their hash at that speed.

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

USED=$((1024 * 1024))

# $1: a line of the host's state, without its value, $2: the value in words
ios_is() {
	set -- "$1" "$2" "$reader"/rtsx_pci_sdmmc.*/mmc_host/mmc*
	ios="/sys/kernel/debug/${3##*/}/ios"
	# Such as `timing spec:	6 (sd uhs SDR104)`.
	grep -q "^$1:.*($2)\$" "$ios" && return 0
	ktap_print_msg "$(grep "^$1:" "$ios")"
	return 1
}

ktap_print_header
ktap_set_plan 10
card_test_start

# The kernel finds the card and makes a disk of it within the time limit.
card_test_use "the card becomes a disk" card sd
# What the host driver was last told to set, in the kernel's words.
ktap_test_result "the timing is SDR104" ios_is "timing spec" "sd uhs SDR104"
ktap_test_result "the bus has four lines" ios_is "bus width" "4 bits"
ktap_test_result "the signals are at 1.8 V" ios_is "signal voltage" "1.80 V"
# The hash of what was written, read from the card.
ktap_test_result "what is written is read back" disk_takes_data 0 $USED
# The range can be read; whether the file has the same is the host's to say.
ktap_test_result "the host is told the hash" disk_tell_hash card 0 $USED

card_test_end
