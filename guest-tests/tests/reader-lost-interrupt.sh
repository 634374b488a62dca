#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The interrupt is lost that tells of a command's end: of a read, of a write, and of a command without data. Passes if the
# drivers find out by their time-outs, do it again, and nobody who uses the card is told.

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
# shellcheck source=guest-tests/tests/faults.sh
. "$tests/faults.sh"

USED=$((256 * 1024))

# $1: the command, $2: at least so many seconds; the rest: what has to succeed nevertheless
with_lost_interrupt() {
	rule_once lost "\"command\":\"$1\"" '{"interrupt":{"what":"drop","times":1}}' || return 1
	lost_seconds=$2
	shift 2
	uptime_read
	began=$uptime
	"$@"
	lost_status=$?
	uptime_read
	ktap_print_msg "took $((uptime - began)) s"
	rule_has_hit lost && rules_removed lost || return 1
	[ "$lost_status" -eq 0 ] && [ $((uptime - began)) -ge "$lost_seconds" ]
}

ktap_print_header
ktap_set_plan 11
card_test_start

card_test_use "the card becomes a disk" card sd
ktap_test_result "what is written is read back" disk_takes_data 0 $USED
# CMD18 is one list with its transfer, for whose end rtsx_pci_dma_transfer waits 10 s, less what rounding takes.
ktap_test_result "a read whose interrupt is lost is done again" with_lost_interrupt CMD18 9 disk_has_data 0 $USED
# CMD25 is a list of its own, which is given 100 ms; CMD12 follows, and is given 3 s (sd_send_cmd_get_rsp).
ktap_test_result "a write whose interrupt is lost is done again" with_lost_interrupt CMD25 3 disk_takes_data 0 $USED
# Of the status that is asked for after a write.
ktap_test_result "so is a command without data" with_lost_interrupt CMD13 0 disk_takes_data 0 $USED
# The range can be read; whether the file has the same is the host's to say.
ktap_test_result "the host is told the hash" disk_tell_hash card 0 $USED
ktap_test_result "the card goes out and its disk with it" card_drop

card_test_end
