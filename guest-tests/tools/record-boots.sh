#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Make the records that the device's tests replay: a boot of each stock kernel, a card that goes in, and the reader's removal.
# Usage: record-boots.sh [KERNEL…], with sdmorph built; SDMORPH names it if it is not target/debug/sdmorph
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
sdmorph=${SDMORPH:-$root/target/debug/sdmorph}
records=$root/device/sdmorph/tests/records
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

[ $# -gt 0 ] || set -- 6.1 6.12 backports
mkdir -p "$records"
for kernel; do
	"$sdmorph" lab run boot-insert-remove --kernel "$kernel" --fix with --record-inputs --out "$out/$kernel"
	find "$out/$kernel" -name record.jsonl -exec xz -9e -c {} \; >"$records/boot-$kernel.jsonl.xz"
	ls -l "$records/boot-$kernel.jsonl.xz"
done
