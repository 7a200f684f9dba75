#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds and runs every test; ends with one line that counts them all:
# "N passed, N failed, N skipped". Exit status 0 only if none failed.
#   run.sh [--full] [--resume] [PART...]
# Parts: unit sanitize functional fuzz contract mixes waiting vm. `waiting` has those tests of
# `contract` and `mixes` that mostly wait for time to pass. At full size these two can be split:
# contract/sockmap, contract/splice, contract/copy, and mixes/HP and so on for pairs of
# transports (P plain, H handed off, U userspace TLS, K kTLS). --resume takes over what the same
# sources have passed at full size before, so that hours need not be had in one piece.
set -u
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
cd "$top" || exit 1
python=${PYTHON:-/usr/bin/python3}
planes="sockmap splice copy"
kinds="PH HP HH PU UP HU UH UU"
ktls_kinds="PK KP HK KH KK KU UK"
all_parts="unit sanitize functional fuzz contract mixes waiting vm"
full= resume=
parts=()
known() { # WORD of LIST...
	local word=$1
	shift
	case " $* " in *" $word "*) return 0 ;; *) return 1 ;; esac
}
for word in "$@"; do
	case $word in
	--full) full=1 ;;
	--resume) resume=1 ;;
	*)
		if known "$word" $all_parts || known "${word#contract/}" $planes || known "${word#mixes/}" $kinds $ktls_kinds; then
			parts+=("$word")
		else
			echo "run.sh: unknown part '$word' (unit sanitize functional fuzz contract[/PLANE] mixes[/XY] waiting vm)" >&2
			exit 2
		fi
		;;
	esac
done
[ ${#parts[@]} -gt 0 ] || parts=($all_parts)
if [ -n "$full" ]; then
	split=()
	for part in "${parts[@]}"; do
		case $part in
		contract) for name in $planes; do split+=("contract/$name"); done ;;
		# Without kTLS its pairs are one line that says why.
		mixes) for name in $kinds $ktls_kinds; do split+=("mixes/$name"); done ;;
		*) split+=("$part") ;;
		esac
	done
	parts=("${split[@]}")
fi
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
	[ -n "$line" ] || line="1 failed"
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
	local name log p f s status
	for name in tests/unit/test_*.c; do basename "$name" .c; done |
		CMOCKA_MESSAGE_OUTPUT=TAP xargs -P "$(nproc)" -I{} sh -c \
			'timeout 300 "$1/tests/unit/{}" >"$2/{}.$3.log" 2>&1; echo $? >"$2/{}.$3.status"' sh "$1" "$logs" "$2"
	for name in tests/unit/test_*.c; do
		name=$(basename "$name" .c)
		log=$logs/$name.$2.log
		status=$(cat "$logs/$name.$2.status")
		rm -f "$logs/$name.$2.status"
		p=$(grep -cE '^\s*ok [0-9]+' "$log")
		# cmocka writes a skipped test as "not ok N # SKIP name".
		s=$(grep -cE '^\s*not ok [0-9]+ # SKIP' "$log")
		f=$(($(grep -cE '^\s*not ok [0-9]+' "$log") - s))
		if [ "$status" != 0 ] && [ "$f" = 0 ]; then f=1; fi
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
contract() { # LABEL LOG ARGUMENTS...
	local label=$1 log=$logs/$2.log
	shift 2
	section "relay contract, $label"
	build unit WERROR=1 tests || return
	build/tests/bin/relay_contract $(each --except $waiting_tests) "$@" 2>&1 | tee "$log"
	add_closing_line "$log" "${PIPESTATUS[0]}" "relay_contract ($label)"
}
each() { # SWITCH WORD...
	printf -- "$1 %s " "${@:2}"
}
# A fiftieth of the sizes. Every test on every pair of transports takes too long: those with slow
# and stopped readers run on two of them.
short_mixes() {
	contract "mixed transports" mixes --small $(each --mix $kinds KK) $(each --test half-close reset two-way early-fin \
		short-streams thousand-pairs join-at-full-speed both-ways bursts single-bytes)
	contract "mixed transports, slow and stopped readers" mixes-slow --small --plane sockmap $(each --mix HH UU) \
		$(each --test single-bytes-stopped thousand-stopped)
}
# What waits for time to pass, on all planes and pairs of transports, some at once.
waiting_tests="stopped-reader idle-then-used slow-reader"
list_waiting() { # a name and arguments of relay_contract a line
	local name plane
	local size=$([ -n "$full" ] && echo --full || echo --scale 1)
	for plane in $planes; do echo "$plane --plane $plane $size"; done
	for name in $([ -n "$full" ] && echo $kinds KK || echo HH UU); do
		for plane in $([ -n "$full" ] && [ "${name#*[UK]}" = "$name" ] && echo $planes || echo sockmap); do
			echo "$name-$plane --mix $name --plane $plane $size"
		done
	done
}
waiting() { # AT-ONCE TEST...
	local prefix=$logs/waiting-$2 name rest
	section "relay contract, ${*:2}${full:+, at full size}, $1 at once"
	list_waiting | xargs -P "$1" -L 1 sh -c 'tests=$1 log=$2-$3.log; shift 3; build/tests/bin/relay_contract $tests "$@" >"$log" 2>&1' \
		waiting "$(each --test "${@:2}")" "$prefix"
	while read -r name rest; do
		grep -E '^(ok|FAIL|skip|note)' "$prefix-$name.log"
		add_closing_line "$prefix-$name.log" 0 "relay_contract ($name)"
	done < <(list_waiting)
}

run_part() { # PART
	local status
	case $1 in
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
		build unit WERROR=1 tests || return
		# They mostly wait: several beside each other, each worker in a network namespace of its own.
		"$python" -m pytest -q -rs -p no:cacheprovider -n 4 --dist loadfile tests/integration ${full:+--full} 2>&1 |
			tee "$logs/functional.log"
		add_closing_line "$logs/functional.log" "${PIPESTATUS[0]}" "pytest"
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
	contract) contract "every plane" contract --plane all ;;
	contract/*) contract "${1#*/}${full:+ at full size}" "contract-${1#*/}" --plane "${1#*/}" ${full:+--full} ;;
	mixes) short_mixes ;;
	waiting)
		build unit WERROR=1 tests || return
		# Memory is what slow readers are about; the others start by filling it.
		waiting 4 slow-reader
		waiting 20 stopped-reader idle-then-used
		;;
	mixes/*) contract "parties ${1#*/}${full:+ at full size}" "mixes-${1#*/}" --mix "${1#*/}" ${full:+--full} ;;
	vm)
		section "guest kernels"
		build unit WERROR=1 tests || return
		"$python" tests/vm/run.py $([ -n "$full" ] || echo --short) 2>&1 | tee "$logs/vm.log"
		add_closing_line "$logs/vm.log" "${PIPESTATUS[0]}" "guest kernels"
		;;
	esac
}

# What the tests are run on, in one word.
sources() {
	find Makefile vmlinux.h bpf proto settings tests tools userspace \( -name certs -o -name data -o -name __pycache__ \) -prune \
		-o -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16
}
results=build/tests/full
now=
if [ -n "$full" ]; then
	mkdir -p "$results"
	now=$(sources)
fi
number=0
for part in "${parts[@]}"; do
	number=$((number + 1))
	file=$results/${part/\//-}
	if [ -n "$full" ] && [ -n "$resume" ] && read -r was p f s seconds 2>/dev/null <"$file" && [ "$was" = "$now" ] && [ "$f" = 0 ]; then
		printf '\n== %s: taken over, %d passed, %d skipped in %d s\n' "$part" "$p" "$s" "$seconds"
		count "$p" 0 "$s"
		continue
	fi
	before=($passed $failed $skipped $SECONDS)
	[ -z "$full" ] || printf '\n== part %d of %d: %s\n' $number ${#parts[@]} "$part"
	run_part "$part"
	[ -z "$full" ] || echo "$now $((passed - before[0])) $((failed - before[1])) $((skipped - before[2])) $((SECONDS - before[3]))" >"$file"
done
if [ -n "$full" ]; then
	printf '\n'
	for part in "${parts[@]}"; do
		read -r was p f s seconds <"$results/${part/\//-}"
		printf '  %-20s %4d passed, %d failed, %d skipped in %d s\n' "$part" "$p" "$f" "$s" "$seconds"
	done
fi
printf '\ntook %d s; logs are in %s\n' $((SECONDS - started)) "$logs"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
