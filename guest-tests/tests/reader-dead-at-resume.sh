#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The machine sleeps (s2idle, then S3) with a card in the reader, and the reader does not answer any more when it wakes up,
# neither in configuration space nor at its BAR. Passes if the machine wakes up nevertheless, the dead reader can be removed
# by its link's fall, and the one that comes up is found with its card.

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
# shellcheck source=guest-tests/tests/sleep.sh
. "$tests/sleep.sh"
# shellcheck source=guest-tests/tests/faults.sh
. "$tests/faults.sh"

# The driver's last word to the reader before it sleeps.
ASLEEP='"write":"RTS5261_REG_FPDCTL","value":"0x1","mask":"0x1"'
DEAD='[{"bar":"vanish"},{"config":"vanish"}]'

# The slot's link falls, as that of a card that is pulled out of its slot does.
dead_reader_removed() {
	control_execute link-set '{"up":false}' && wait_for "the reader removed" reader_gone
}

reader_returns() {
	control_execute link-set '{"up":true}' && wait_for "the reader" reader_bound
}

ktap_print_header
ktap_set_plan 17
card_test_start

card_test_use "the card becomes a disk" card sd
ktap_test_result "what is written is read back" disk_takes_data 0 $USED

for way in s2idle s3; do
	if [ $way = s2idle ]; then set -- sleep_in_s2idle; else set -- sleep_in_s3_with dies; fi
	ktap_test_result "$way: the machine sleeps and wakes up with a dead reader" "$@" "$ASLEEP" "$DEAD"
	ktap_test_result "$way: the workers become quiet" wait_for "the workers quiet" workers_quiet
	ktap_test_result "$way: the dead reader is removed" dead_reader_removed
	ktap_test_result "$way: the reader comes back" reader_returns
	ktap_test_result "$way: the card becomes a disk again" wait_for "a disk" disk_find
done
ktap_test_result "the host is told the hash" disk_tell_hash card 0 $USED

card_test_end
