#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A card goes in while rtsx_pci probes, and when the driver's interrupt handler has seen it, a register does not take what
# is written to it: the probe fails, with a card to be looked for 200 ms later. Ends when the kernel has faulted, or when
# eight probes have failed and it has not.

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

DRIVER=/sys/bus/pci/drivers/rtsx_pci
# A register that is busy is read 1024 times: slowly, the interrupt's handler comes before the last one.
INSERTS='[{"card":"insert"},{"stuck-busy":"HAIMR"},{"read-latency":"1ms"}]'
REFUSES='[{"read-data":{"register":"HAIMR","clear":true}},{"read-data":{"register":"HAIMR","xor":1}},{"read-latency":"0s"}]'
# The first answer that says so. The BAR goes and comes for the sake of the event, which arms the next rule.
FAILED='"read":"HAIMR","value":0,"mask":"0x80000000","after":"card-inserted"'
BLINK='[{"bar":"vanish"},{"bar":"return"}]'
SLOW='"on":{"message":"region-read","after":"bar-returned"},"do":{"wire":{"delay":"300ms"}},"times":12'
# The card is looked for 200 ms after its interrupt. Seconds.
LONG_ENOUGH=5

memory_is_filled() {
	read -r filled </sys/kernel/slab/kmalloc-16/poison && [ "$filled" = 1 ]
}

reader_unbound() {
	[ ! -e "$reader/driver" ]
}

# The card goes in before interrupts are turned on. From then on an internal register stays busy until the handler has seen
# the card, and then does not confirm what was written to it, which is an error at once: rtsx_pci_init_chip() frees
# pcr->slots. The next reads are slow, those of configuration space, too: to turn the MSI off takes longer than the time
# until the card is looked for.
rules_are_added() {
	rule_once inserted '"write":"HCBAR"' "$INSERTS" &&
		rule_once refused '"write":"BIPR"' "$REFUSES" &&
		rule_once failed "$FAILED" "$BLINK" &&
		control_execute rule-add "{\"rule\":{\"name\":\"slow\",$SLOW}}"
}

probe() {
	echo "${reader##*/}" >"$DRIVER/bind"
}

probe_failed() {
	load_has_status probe && load_failed probe && reader_unbound
}

# A worker that has died can keep the probe from its end: whoever waits for SRCU waits for ever. To look starts processes,
# and one that starts could be given the freed memory: not before the work has had its time.
faulted_or_over() {
	nap "$LONG_ENOUGH"
	kernel_faulted || load_has_status probe
}

fails_with_a_card() {
	control_execute card-prepare '{"kind":"sd"}' && rules_are_added || return 1
	mark "binding"
	load_start probe probe
	wait_for "a fault or the end of the probe" faulted_or_over
	# The work's time, if the probe ended before it.
	nap "$LONG_ENOUGH"
	rule_has_hit failed && rule_has_hit slow && probe_failed
}

# The probe has left interrupts on, and a flag that the next one would take for its card's.
reader_is_clean_again() {
	rules_removed slow failed refused inserted &&
		control_inject '{"read-data":{"register":"HAIMR","clear":true}}' &&
		control_execute card-eject || return 1
	probe && wait_for "the reader bound" reader_bound || return 1
	echo "${reader##*/}" >"$DRIVER/unbind"
	wait_for "the reader unbound" reader_unbound
}

# Somebody else can be given the freed memory in time, and put 0 there: then nothing is called.
fails_until_it_faults() {
	for attempt in 1 2 3 4 5 6 7 8; do
		fails_with_a_card || return 1
		! kernel_faulted || return 0
		ktap_print_msg "attempt $attempt: no fault"
		reader_is_clean_again || return 1
	done
}

ktap_print_header
ktap_set_plan 7
card_test_start

# slub_debug=P: without it, what is freed may stay as it was, and its use would not show.
ktap_test_result "freed memory is filled" memory_is_filled
echo "${reader##*/}" >"$DRIVER/unbind"
ktap_test_result "the reader is unbound" wait_for "the reader unbound" reader_unbound
ktap_test_result "the probe fails, and ends" fails_until_it_faults

card_test_end
