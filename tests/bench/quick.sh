#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every figure of docs/benchmarks.md in one run: its goal beside it, and whether it was
# reached. Medians of rounds in which the contenders take turns. About five minutes; as root;
# nothing else should run on the machine. Ends with status 0 if everything could be measured,
# whether goals were reached or not.
#   quick.sh [-m MARKDOWN] [-r ROUNDS] [-s SECONDS]
# -m (or BENCH_MARKDOWN) writes the tables into that file too, between its marks;
# -r and -s are rounds of the relay workloads (5) and length of a measurement (0.8).
set -u
top=$(CDPATH= cd -- "$(dirname -- "$0")/../.." && pwd)
cd "$top" || exit 1
python=${PYTHON:-/usr/bin/python3}
folder=build/bench
markdown=${BENCH_MARKDOWN:-}
rounds=5 seconds=0.8
while getopts m:r:s: option; do
	case $option in
	m) markdown=$OPTARG ;;
	r) rounds=$OPTARG ;;
	s) seconds=$OPTARG ;;
	*) sed -n '7,9s/^# \?//p' "$0" >&2; exit 2 ;;
	esac
done
# A network namespace of its own: the fixed ports of the dev roles are free there.
if [ -z "${BENCH_INSIDE:-}" ] && unshare --net true 2>/dev/null; then
	BENCH_INSIDE=1 BENCH_MARKDOWN=$markdown exec unshare --net -- sh -c 'ip link set lo up && exec "$@"' sh \
		"$0" -r "$rounds" -s "$seconds"
fi
mkdir -p "$folder"
results=$folder/results
: >"$results"
failed=
started=$SECONDS
build/tests/bin/relay_bench -q -o "$results" -r "$rounds" -s "$seconds" || failed=1
"$python" tests/bench/control_plane.py "$folder" "$results" || failed=1
"$python" tests/bench/idle_memory.py "$folder" "$results" || failed=1
"$python" tests/bench/report.py "$results" "$markdown" || failed=1
printf '\ntook %d s; all rounds are in %s\n' $((SECONDS - started)) "$results"
[ -z "$failed" ]
