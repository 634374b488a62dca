#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Run a campaign through Slurm on this machine alone: qemu-config/campaign/slurm.sbatch under a munged, a slurmctld and a
# slurmd that are started for it, with a configuration of their own, and ended with it.
# Usage: slurm-here.sh DIR [OPTION…], OPTION as for `sdmorph lab verdicts`; DIR has campaign, logs and results afterwards.
#
# It needs Debian's packages slurmd, slurmctld, slurm-client and munge, whose own services need not run, and no root (slurmd
# runs jobs as whoever started it). SDMORPH names the program, if it is not target/debug/sdmorph; SHARDS= how many there are (2).
set -euo pipefail

die() {
	printf 'slurm-here.sh: %s\n' "$1" >&2
	exit 1
}

[ $# -ge 1 ] || die "usage: slurm-here.sh DIR [OPTION…]"
root=$(cd "$(dirname "$0")/../.." && pwd)
job=$root/qemu-config/campaign/slurm.sbatch
export SDMORPH=${SDMORPH:-$root/target/debug/sdmorph}
shards=${SHARDS:-2}
PATH=$PATH:/usr/sbin:/sbin
missing=()
for program in munged:munge slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client; do
	command -v "${program%:*}" >/dev/null || missing+=("${program#*:}")
done
[ ${#missing[@]} -eq 0 ] || die "missing; Debian's packages are called ${missing[*]}"
[ -x "$SDMORPH" ] || die "there is no $SDMORPH: build it, or name one with SDMORPH="
mkdir -p "$1"
cd "$1"
shift
[ ! -e campaign.json ] || die "$PWD has a campaign already"

private=$(mktemp -d)
# munged wants its socket where everybody may reach it; the key beside it is for its owner only.
chmod 711 "$private"
daemons=()
jobs=()
end() {
	# Their processes outlive slurmd.
	[ ${#jobs[@]} -eq 0 ] || scancel "${jobs[@]}" 2>/dev/null || true
	# Clients wait for their answers from slurmctld: the last one started goes first.
	for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do
		kill "${daemons[i]}" 2>/dev/null || continue
		wait "${daemons[i]}" 2>/dev/null || true
	done
	rm -rf "$private"
}
trap end EXIT
trap 'exit 130' INT TERM

# Whether nobody listens there: a connection is refused.
free_port() {
	local port
	while read -r port; do
		if ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			echo "$port"
			return
		fi
	done < <(shuf -n 100 -i "$1")
	die "no free port in $1"
}

start() { # NAME COMMAND...
	"${@:2}" >"$1.log" 2>&1 &
	daemons+=($!)
}

# until_true WHAT COMMAND...: for half a minute, or until a daemon has died.
until_true() {
	local tries=0
	until "${@:2}" >/dev/null 2>&1; do
		for daemon in "${daemons[@]}"; do
			kill -0 "$daemon" 2>/dev/null || die "$1: a daemon has ended; see $PWD/*.log"
		done
		[ $((tries += 1)) -le 60 ] || die "$1: not within 30 s; see $PWD/*.log"
		sleep 0.5
	done
}

mkdir "$private"/{state,spool}
(umask 077 && head -c 128 /dev/urandom >"$private/munge.key")
user=$(id -un)
host=$(hostname -s)
memory=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
cat >"$private/slurm.conf" <<CONF
ClusterName=sdmorph
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port 20000-24999)
SlurmdPort=$(free_port 25000-29999)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$private/munge.socket
StateSaveLocation=$private/state
SlurmdSpoolDir=$private/spool
SlurmctldPidFile=$private/slurmctld.pid
SlurmdPidFile=$private/slurmd.pid
# No control groups: they are the system's.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=lab Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$private/slurm.conf

start munged munged --foreground --key-file="$private/munge.key" --socket="$private/munge.socket" \
	--pid-file="$private/munged.pid" --seed-file="$private/munge.seed"
until_true "munged" munge --no-input --socket="$private/munge.socket"
start slurmctld slurmctld -D -f "$SLURM_CONF"
start slurmd slurmd -D -f "$SLURM_CONF" -N "$host"
idle() { [ "$(sinfo --noheader --format=%T)" = idle ]; }
until_true "slurmd's registration" idle

# Slurm's own word on the options in the file, before anything is queued.
sbatch --test-only "$job" prepare "$@"
sbatch --test-only --array="1-$shards" "$job" shard "$shards"

prepare=$(sbatch --parsable "$job" prepare "$@")
jobs+=("$prepare")
array=$(sbatch --parsable --dependency="afterok:$prepare" --array="1-$shards" "$job" shard "$shards")
jobs+=("$array")
echo "jobs: $prepare prepares, $array is the array of $shards shards; logs are in $PWD"
# A shard never starts if `prepare` has failed; the merge would wait for it for ever.
merge=$(sbatch --parsable --dependency="afterany:$array" --kill-on-invalid-dep=yes "$job" merge)
jobs+=("$merge")
# What is queued or runs, with the reason that it waits for. That slurmctld does not answer is no end.
queue() {
	local tries=0
	until squeue --noheader --format='%i %r'; do
		[ $((tries += 1)) -lt 10 ] || die "slurmctld does not answer; see $PWD/*.log"
		sleep 1
	done
}
while :; do
	waiting=$(queue)
	[ -n "$waiting" ] || break
	if [[ $waiting == *DependencyNeverSatisfied* ]]; then
		cat "sdmorph-$prepare.log" >&2
		die "prepare has failed"
	fi
	sleep 1
done

tasks() {
	scontrol show job "$1" | tr -s ' ' '\n' | awk -F= '
		$1 == "JobId" { line = "job " $2 }
		$1 == "ArrayTaskId" { line = line " task " $2 }
		$1 == "JobState" || $1 == "ExitCode" || $1 == "RunTime" { line = line " " $2 }
		$1 == "TimeLimit" { print line }'
}
for number in "$prepare" "$array" "$merge"; do tasks "$number"; done
cat "sdmorph-$merge.log"
tasks "$merge" | grep -q ' COMPLETED .*0:0' || die "the merge says that something failed, is missing, or is inconclusive"
