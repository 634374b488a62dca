#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The guest of reboot.rs: boots, binds the reader's drivers, reboots itself, and binds them again. A rule tells the
# boots apart, since the device keeps it when the guest reboots. reboot.rs puts the scripts that are sourced beside it.

# Functions are called by name, through wait_for.
# shellcheck disable=SC2317

tests=$(dirname "$0")
# shellcheck source=guest-tests/tests/ktap.sh
. "$tests/ktap.sh"
# shellcheck source=guest-tests/tests/control.sh
. "$tests/control.sh"
# shellcheck source=guest-tests/tests/reader.sh
. "$tests/reader.sh"

load_modules && wait_for "rtsx_pci and rtsx_pci_sdmmc bound" reader_bound || exit 1
control_open && control_execute query-rules || exit 1
# control_answer is control.sh's.
# shellcheck disable=SC2154
case $control_answer in
*'"name":"rebooted"'*)
	mark "bound after the reboot"
	;;
*)
	mark "bound before the reboot"
	control_execute rule-add '{"rule":{"name":"rebooted","on":{"event":"card-ejected"},"do":{"presence":true}}}' ||
		exit 1
	sync
	reboot -f
	;;
esac
