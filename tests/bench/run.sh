#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The relay beside its peers: every workload, contender and figure of docs/bench in one run of
# about 25 minutes; as root; nothing else should run on the machine. Ends with status 0 if
# everything could be measured, whether goals were reached or not.
#   run.sh [-r ROUNDS] [-s SECONDS] [-c CONGESTION] [-o FOLDER]
# -r and -s (or BENCH_ROUNDS, BENCH_SECONDS) are rounds (5) and length of a measurement
# (0.35); -c is the congestion control of TCP (the machine's own); -o is where tables and
# plots go (docs/bench).
set -u
top=$(CDPATH= cd -- "$(dirname -- "$0")/../.." && pwd)
cd "$top" || exit 1
python=${PYTHON:-/usr/bin/python3}
folder=build/bench
rounds=${BENCH_ROUNDS:-5} seconds=${BENCH_SECONDS:-0.35} congestion= pages=docs/bench
while getopts r:s:c:o: option; do
	case $option in
	r) rounds=$OPTARG ;;
	s) seconds=$OPTARG ;;
	c) congestion=$OPTARG ;;
	o) pages=$OPTARG ;;
	*) sed -n '6,9s/^# \?//p' "$0" >&2; exit 2 ;;
	esac
done
# A network namespace of its own: fixed ports are free there, and settings are its own.
if [ -z "${BENCH_INSIDE:-}" ]; then
	BENCH_INSIDE=1 exec unshare --net -- sh -c 'ip link set lo up && exec "$@"' sh "$0" \
		-r "$rounds" -s "$seconds" ${congestion:+-c "$congestion"} -o "$pages"
fi
[ -z "$congestion" ] || echo "$congestion" >/proc/sys/net/ipv4/tcp_congestion_control || exit 1
mkdir -p "$folder" "$pages"
results=$folder/full.results
: >"$results"
failed=
started=$SECONDS
stage() { printf '%s (%d min %02d s so far)\n' "$1" $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)) >&2; }
stage "1 of 4: relays"
build/tests/bin/relay_bench -o "$results" -r "$rounds" -s "$seconds" || failed=1
stage "2 of 4: control plane"
BENCH_CALLERS=1,4,16,64 BENCH_CALLER_ROUNDS=$rounds BENCH_WARM_CALLS=30 BENCH_COLD_CALLS=5 \
	"$python" tests/bench/control_plane.py "$folder" "$results" || failed=1
stage "3 of 4: idle pairs of the whole proxy"
for ((round = 0; round < rounds; round++)); do
	BENCH_IDLE_PAIRS=4000 "$python" tests/bench/idle_memory.py "$folder" "$results" || failed=1
done
stage "4 of 4: profile, tables, plots"
tests/bench/profile.sh "$pages/profile.md" "$folder" || failed=1
"$python" tests/bench/publish.py "$results" "$pages" "$folder/plots" || failed=1
stage "done; tables are in $pages, all rounds in $pages/data.tsv"
[ -z "$failed" ]
