#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Where the time of the sockmap plane goes: perf on the whole machine while pairs chat
# and while bulk runs, as tables in markdown. Nothing if the machine has no perf.
#   profile.sh MARKDOWN [FOLDER]
set -u
top=$(CDPATH= cd -- "$(dirname -- "$0")/../.." && pwd)
cd "$top" || exit 1
page=$1 folder=${2:-build/bench}
if ! perf record -a -o /dev/null -- true >/dev/null 2>&1; then
	echo "profile.sh: perf does not work here; no profile" >&2
	exit 0
fi
mkdir -p "$folder"

# perf_table TITLE HEAD SORT LINES [ORDER]: lines "share name" of perf report, as a table.
perf_table() {
	printf '%s:\n\n| share | %s |\n| --- | --- |\n' "$1" "$2"
	perf report -i "$folder/perf.data" --stdio "${5:---no-children}" -g none --percent-limit 0.5 --sort "$3" 2>/dev/null |
		sed -n 's/ *- *- *$//; s/^ *\([0-9.]*%\) *\([0-9.]*% *\)\?\(\[[.kguH]\] \)\?\(.*[^ ]\) *$/| \1 | \4 |/p' |
		grep -v '| 0x[0-9a-f]* |$' | head -n "$4"
	echo
}

profile() {
	local workload=$1 text=$2
	perf record -q -a -g -F 999 -o "$folder/perf.data" -- \
		build/tests/bin/relay_bench -r 1 -s 4 -w 0.5 -o "$folder/profile.results" "$workload" sockmap >"$folder/profile.log" 2>&1 ||
		{ cat "$folder/profile.log" >&2; return 1; }
	printf '## %s\n\n' "$text"
	perf_table "Programs and kernel threads" "name" comm 10
	perf_table "Functions, by their own time" "function" symbol 25
	perf_table "Functions, with all that they call" "function" symbol 50 --children
	rm -f "$folder/perf.data"
}

echo "  profile of the sockmap plane" >&2
{
	echo "<!-- SPDX-License-Identifier: Apache-2.0 -->"
	echo "# Where the time of the sockmap plane goes"
	echo
	echo "perf record -a -g at 999 Hz on the whole machine, idle time included (\`swapper\`), while one workload of"
	echo "relay_bench runs with the sockmap plane alone. \`relay_bench\` is the client at both ends, \`relay_host\`"
	echo "and \`relay-N\` the daemon and its workers, \`kworker\` the kernel's worker that writes redirected bytes. Where"
	echo "perf has only a clock and no counters of the processor (most virtual machines), samples fall where"
	echo "interrupts are allowed again: the time of such a function belongs to what called it."
	echo
	profile chat "200 pairs that chat, 64 B" &&
	profile chat-1 "One pair that chats (64 B, 1 KiB, 16 KiB)" &&
	profile bulk-1 "Bulk, one pair"
} >"$folder/profile.md" || exit 1
cp "$folder/profile.md" "$page"
