#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs fuzz targets for some seconds each: run.sh SECONDS TARGET...
# Seeds come from tests/fuzz/seeds/NAME if there are any; a crash input stays in build/fuzz/crashes.
set -u
seconds=$1
shift
passed=0 failed=0
mkdir -p build/fuzz/crashes
for target in "$@"; do
	name=$(basename "$target")
	corpus=build/fuzz/corpus/$name
	mkdir -p "$corpus"
	seeds=()
	[ -d "tests/fuzz/seeds/${name#fuzz_}" ] && seeds=("tests/fuzz/seeds/${name#fuzz_}")
	log=build/fuzz/$name.log
	if timeout $((seconds * 3 + 60)) "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -verbosity=1 \
		-artifact_prefix=build/fuzz/crashes/"$name"- "$corpus" "${seeds[@]}" >"$log" 2>&1; then
		passed=$((passed + 1))
		printf '  %-34s %s\n' "$name" "$(grep -E '^Done [0-9]+ runs' "$log")"
	else
		failed=$((failed + 1))
		printf '  %-34s failed\n' "$name"
		tail -25 "$log"
	fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
