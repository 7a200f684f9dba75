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

# perf_table TITLE HEAD SORT LINES: lines "share name" of perf report, as a table.
perf_table() {
	printf '%s:\n\n| share | %s |\n| --- | --- |\n' "$1" "$2"
	perf report -i "$folder/perf.data" --stdio --no-children -g none --percent-limit 0.5 --sort "$3" 2>/dev/null |
		sed -n 's/^ *\([0-9.]*%\) *\(\[[.kguH]\] \)\?\(.*[^ ]\) *$/| \1 | \3 |/p' | head -n "$4"
	echo
}

profile() {
	local workload=$1 text=$2
	perf record -q -a -g -F 999 -o "$folder/perf.data" -- \
		build/tests/bin/relay_bench -r 1 -s 4 -w 0.5 -o "$folder/profile.results" "$workload" sockmap >"$folder/profile.log" 2>&1 ||
		{ cat "$folder/profile.log" >&2; return 1; }
	printf '## %s\n\n' "$text"
	perf_table "Programs and kernel threads" "name" comm 10
	perf_table "Functions, by their own time" "function" symbol 30
	rm -f "$folder/perf.data"
}

echo "  profile of the sockmap plane" >&2
{
	echo "# Where the time of the sockmap plane goes"
	echo
	echo "perf record -a -g at 999 Hz on the whole machine, idle time included (\`swapper\`), while one workload of"
	echo "relay_bench runs with the sockmap plane alone. \`relay_bench\` is the client at both ends, \`relay_host\`"
	echo "the daemon, \`kworker\` the kernel's worker that writes redirected bytes."
	echo
	profile chat "200 pairs that chat, 64 B" &&
	profile chat-1 "One pair that chats (64 B, 1 KiB, 16 KiB)" &&
	profile bulk-1 "Bulk, one pair"
} >"$folder/profile.md" || exit 1
cp "$folder/profile.md" "$page"
