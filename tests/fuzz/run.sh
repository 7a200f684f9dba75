#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs fuzz targets for some seconds each, as many at once as there are processors:
#   run.sh SECONDS TARGET...
# Seeds come from tests/fuzz/seeds/NAME if there are any; a crash input stays in build/fuzz/crashes.
set -u
if [ "$1" = --one ]; then
	seconds=$2 target=$3
	name=$(basename "$target")
	corpus=build/fuzz/corpus/$name
	mkdir -p "$corpus"
	seeds=()
	[ -d "tests/fuzz/seeds/${name#fuzz_}" ] && seeds=("tests/fuzz/seeds/${name#fuzz_}")
	log=build/fuzz/$name.log
	if timeout $((seconds * 3 + 60)) "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -verbosity=1 \
		-artifact_prefix=build/fuzz/crashes/"$name"- "$corpus" "${seeds[@]}" >"$log" 2>&1; then
		printf '  %-34s %s\n' "$name" "$(grep -E '^Done [0-9]+ runs' "$log")"
	else
		printf '  %-34s failed\n%s\n' "$name" "$(tail -25 "$log")"
	fi
	exit
fi
seconds=$1
shift
mkdir -p build/fuzz/crashes
results=build/fuzz/results.log
printf '%s\0' "$@" | xargs -0 -P "$(nproc)" -n 1 "$0" --one "$seconds" | tee "$results"
passed=$(grep -cE '^  fuzz_.* Done [0-9]+ runs' "$results")
failed=$(($# - passed))
echo "$passed passed, $failed failed"
[ $failed = 0 ]
