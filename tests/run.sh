#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds and runs every test; ends with one line that counts them all:
# "N passed, N failed, N skipped". Exit status 0 only if none failed.
#   run.sh [--full] [PART...]      parts: unit sanitize functional contract fuzz vm
set -u
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
cd "$top" || exit 1
python=${PYTHON:-/usr/bin/python3}
full=
parts=()
for word in "$@"; do
	case $word in
	--full) full=1 ;;
	unit | sanitize | functional | contract | fuzz | vm) parts+=("$word") ;;
	*) echo "run.sh: unknown part '$word' (unit sanitize functional contract fuzz vm)" >&2; exit 2 ;;
	esac
done
[ ${#parts[@]} -gt 0 ] || parts=(unit sanitize functional fuzz contract vm)
logs=build/tests/log
mkdir -p "$logs"
passed=0 failed=0 skipped=0
started=$SECONDS

count() { # PASSED FAILED SKIPPED
	passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}
section() { printf '\n== %s (after %d s)\n' "$*" $((SECONDS - started)); }

# A part that dies without a count is one failure, never silence.
add_closing_line() { # LOG STATUS NAME
	local line
	line=$(grep -E '[0-9]+ (passed|failed|skipped)' "$1" | tail -1)
	local p f s
	p=$(grep -oE '[0-9]+ passed' <<<"$line" | grep -oE '[0-9]+' || echo 0)
	f=$(grep -oE '[0-9]+ (failed|errors?)' <<<"$line" | grep -oE '[0-9]+' | awk '{n += $1} END {print n + 0}')
	s=$(grep -oE '[0-9]+ skipped' <<<"$line" | grep -oE '[0-9]+' || echo 0)
	if [ "$2" != 0 ] && [ "$f" = 0 ]; then
		echo "$3 ended with status $2"
		f=1
	fi
	count "$p" "$f" "$s"
}

run_unit() { # BUILD LABEL
	local test name log p f s status
	for test in tests/unit/test_*.c; do
		name=$(basename "$test" .c)
		test=$1/tests/unit/$name
		log=$logs/$name.$2.log
		CMOCKA_MESSAGE_OUTPUT=TAP timeout 300 "$test" >"$log" 2>&1
		status=$?
		p=$(grep -cE '^\s*ok [0-9]+' "$log")
		# cmocka writes a skipped test as "not ok N # SKIP name".
		s=$(grep -cE '^\s*not ok [0-9]+ # SKIP' "$log")
		f=$(($(grep -cE '^\s*not ok [0-9]+' "$log") - s))
		if [ $status != 0 ] && [ "$f" = 0 ]; then f=1; fi
		count $p $f $s
		printf '  %-34s %3d passed, %d failed, %d skipped\n' "$name" $p $f $s
		[ "$f" = 0 ] || { grep -vE '^\s*ok [0-9]+' "$log" | tail -40; }
	done
}
build() { # LABEL MAKE-ARGUMENTS...
	local label=$1
	shift
	if ! make --no-print-directory -j"$(nproc)" "$@" >"$logs/build-$label.log" 2>&1; then
		tail -30 "$logs/build-$label.log"
		echo "building ($label) failed"
		count 0 1 0
		return 1
	fi
}
# A network namespace of their own: the fixed ports of the dev roles are free there.
in_namespace() {
	if unshare --net true 2>/dev/null; then
		unshare --net -- sh -c 'ip link set lo up && exec "$@"' sh "$@"
	else
		"$@"
	fi
}

for part in "${parts[@]}"; do
	case $part in
	unit)
		section "unit tests"
		build unit WERROR=1 tests && run_unit build plain
		;;
	sanitize)
		section "unit tests under ASan and UBSan"
		build asan SANITIZE=1 tests &&
			ASAN_OPTIONS=detect_leaks=1 LSAN_OPTIONS=suppressions=tests/lsan.supp:print_suppressions=0 run_unit build/asan asan
		;;
	functional)
		section "functional tests"
		if build unit WERROR=1 tests; then
			in_namespace "$python" -m pytest -q -rs -p no:cacheprovider tests/integration ${full:+--full} 2>&1 |
				tee "$logs/functional.log"
			add_closing_line "$logs/functional.log" "${PIPESTATUS[0]}" "pytest"
		fi
		;;
	contract)
		section "relay contract, every plane"
		if build unit WERROR=1 tests; then
			build/tests/bin/relay_contract --plane all ${full:+--full} 2>&1 | tee "$logs/contract.log"
			add_closing_line "$logs/contract.log" "${PIPESTATUS[0]}" "relay_contract"
			section "relay contract, mixed transports"
			mixes="--mix HP --mix HH --mix HU --mix PU --mix UP --mix UU"
			chosen="--test half-close --test reset --test two-way --test early-fin --test short-streams"
			[ -z "$full" ] || { mixes="--mix all" chosen=; }
			build/tests/bin/relay_contract --small $mixes $chosen 2>&1 | tee "$logs/mixes.log"
			add_closing_line "$logs/mixes.log" "${PIPESTATUS[0]}" "relay_contract with mixed transports"
		fi
		;;
	vm)
		section "guest kernels"
		if build unit WERROR=1 tests; then
			"$python" tests/vm/run.py $([ -n "$full" ] || echo --short) 2>&1 | tee "$logs/vm.log"
			add_closing_line "$logs/vm.log" "${PIPESTATUS[0]}" "guest kernels"
		fi
		;;
	fuzz)
		section "fuzz targets"
		make --no-print-directory -j"$(nproc)" fuzz FUZZ_SECONDS="${FUZZ_SECONDS:-$([ -n "$full" ] && echo 60 || echo 2)}" \
			>"$logs/fuzz.log" 2>&1
		status=$?
		grep -E '^  fuzz_|failed' "$logs/fuzz.log"
		[ $status = 0 ] || tail -20 "$logs/fuzz.log"
		add_closing_line "$logs/fuzz.log" $status "fuzz"
		;;
	esac
done
printf '\ntook %d s; logs are in %s\n' $((SECONDS - started)) "$logs"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
