# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# KTAP output for a guest test, to be sourced. Source: Documentation/dev-tools/ktap.rst; the exit
# codes are kselftest's.

# shellcheck disable=SC2034 # used by those who source this file
KSFT_PASS=0
KSFT_FAIL=1
KSFT_SKIP=4

ktap_plan=0
ktap_number=0
ktap_pass=0
ktap_fail=0
ktap_skip=0

ktap_print_header() {
	echo "KTAP version 1"
}

# A line for people; no part of the result.
ktap_print_msg() {
	echo "# $*"
}

# $1: how many results follow
ktap_set_plan() {
	ktap_plan=$1
	echo "1..$1"
}

# $1: what was tested
ktap_test_pass() {
	ktap_number=$((ktap_number + 1))
	ktap_pass=$((ktap_pass + 1))
	echo "ok $ktap_number - $1"
}

# $1: what was tested, $2: what was seen instead
ktap_test_fail() {
	ktap_number=$((ktap_number + 1))
	ktap_fail=$((ktap_fail + 1))
	[ -z "${2:-}" ] || ktap_print_msg "$2"
	echo "not ok $ktap_number - $1"
}

# $1: what was not tested, $2: why
ktap_test_skip() {
	ktap_number=$((ktap_number + 1))
	ktap_skip=$((ktap_skip + 1))
	echo "ok $ktap_number - $1 # SKIP ${2:-}"
}

# $1: what was tested; the rest: a command, whose status is the result
ktap_test_result() {
	ktap_description=$1
	shift
	if "$@"; then
		ktap_test_pass "$ktap_description"
	else
		ktap_test_fail "$ktap_description"
	fi
}

# Print the totals and exit with kselftest's code. A test that was planned and never reported is a
# failure: a script that stops early must not look like one that passed.
ktap_finished() {
	ktap_missing=$((ktap_plan - ktap_number))
	[ "$ktap_missing" -eq 0 ] || ktap_print_msg "planned $ktap_plan tests, ran $ktap_number"
	echo "# Totals: pass:$ktap_pass fail:$ktap_fail xfail:0 xpass:0 skip:$ktap_skip error:0"
	if [ "$ktap_fail" -gt 0 ] || [ "$ktap_missing" -ne 0 ]; then
		exit "$KSFT_FAIL"
	fi
	if [ "$ktap_pass" -eq 0 ]; then
		exit "$KSFT_SKIP"
	fi
	exit "$KSFT_PASS"
}

# Give up on the whole test: skip what was planned.
# $1: why
ktap_skip_all() {
	echo "1..0 # SKIP $1"
	exit "$KSFT_SKIP"
}
