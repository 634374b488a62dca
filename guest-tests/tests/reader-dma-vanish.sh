#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The reader vanishes while it moves a card's data by DMA, its link falls 5 ms later and comes up again after a second:
# once when a card is read, once when it is written to. Passes if the process that used the card gets an error and ends,
# the disk goes away, and the reader that comes back finds the card, with what was on it.

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

# What the card has at its beginning, in bytes; the processes use what is behind it.
USED=$((256 * 1024))
# The transfer that does not end. Its list is fetched, and its data wait: the DMA is held up for longer than the link lives.
HELD='"write":"HDBAR","nth":20'
STARTED='"write":"HDBCTLR","value":"0x80000000","mask":"0x80000000"'

reading() {
	dd if="/dev/$disk" of=/dev/null bs=64k skip=16 iflag=direct
}

writing() {
	dd if=/dev/zero of="/dev/$disk" bs=64k seek=16 oflag=direct conv=notrunc
}

# $1: the process
vanished_during() {
	rule_once held "$HELD" '{"dma":{"what":"delay","time":"50ms"}}' || return 1
	rule_once vanishes "$STARTED,\"nth\":20" '{"bar":"vanish"}' || return 1
	rule_once link-falls '"rule":"vanishes","delay":"5ms"' '{"link":"down"}' || return 1
	rule_once link-returns '"rule":"link-falls","delay":"1s"' '{"link":"up"}' || return 1
	load_start "$1" "$1"
	wait_for "the link up again" rule_has_hit link-returns && rule_has_hit held || return 1
	rules_removed link-returns link-falls vanishes held
}

ktap_print_header
ktap_set_plan 18
card_test_start

card_test_use "the card becomes a disk" card sd
ktap_test_result "what is written is read back" disk_takes_data 0 $USED

for load in reading writing; do
	ktap_test_result "$load: the reader vanishes during a transfer" vanished_during $load
	# It is told, and does not hang. Status 0 would mean that it came to the card's end.
	ktap_test_result "$load: the process gets an error" load_failed $load
	# Both drivers, and the card that was never taken out.
	ktap_test_result "$load: the reader comes back" wait_for "the reader" reader_bound
	ktap_test_result "$load: the card becomes a disk again" wait_for "a disk" disk_find
	ktap_test_result "$load: the card still has the data" disk_has_data 0 $USED
done

# The range can be read; whether the file has the same is the host's to say.
ktap_test_result "the host is told the hash" disk_tell_hash card 0 $USED
ktap_test_result "the card goes out and its disk with it" card_drop

card_test_end
