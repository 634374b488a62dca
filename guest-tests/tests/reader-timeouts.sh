#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# For ten seconds every read of the reader's BAR ends in a Completion Timeout: it takes 50 ms and gives all-ones. A card is
# being read meanwhile. Passes if no register is waited for without end, the request that was under way is done again, and
# the card can be used afterwards.

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

reading() {
	dd if="/dev/$disk" of=/dev/null bs=64k count=256 iflag=direct
}

timed_out_for_ten_seconds() {
	rule_once reads-time-out '"command":"CMD18","nth":10' \
		'[{"read-data":{"space":"bar","give":"ones"}},{"read-latency":"50ms"}]' || return 1
	rule_once reads-end '"rule":"reads-time-out","delay":"10s"' \
		'[{"read-data":{"space":"bar","clear":true}},{"read-latency":"0s"}]' || return 1
	# Now, and not before: a rule that waits for another one's hit has to be there when it comes.
	load_start reading reading
	wait_for "the end of the time-outs" rule_has_hit reads-end && rules_removed reads-end reads-time-out
}

ktap_print_header
ktap_set_plan 13
card_test_start

card_test_use "the card becomes a disk" card sd
ktap_test_result "what is written is read back" disk_takes_data 0 $USED
ktap_test_result "every read times out for ten seconds" timed_out_for_ten_seconds
# The driver waits 10 s for an interrupt that its handler has cleared unseen. One retry is enough then.
ktap_test_result "the reading process is not told" load_succeeded reading
ktap_test_result "the workers become quiet" wait_for "the workers quiet" workers_quiet
ktap_test_result "the card still has the data" disk_has_data 0 $USED
ktap_test_result "what is written is read back" disk_takes_data 0 $USED
ktap_test_result "the host is told the hash" disk_tell_hash card 0 $USED
ktap_test_result "the card goes out and its disk with it" card_drop

card_test_end
