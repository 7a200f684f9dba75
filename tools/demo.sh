#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two servers that only the relay connects, start to end: certificates, sd, proxy
# and three hyper servers, the directory, a ping through the relay, the relay's
# view of it. Ends non-zero unless the answer is right, both servers were
# identified by TLS at the relay and handed off, and the kernel moved the bytes. KEEP=1 leaves the stack running.
set -u
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
cd "$top" || exit 1
export PATH="$top/build/bin:$PATH"
demo=build/demo
settings=$demo/settings
sockets=$(mktemp -d "${TMPDIR:-/tmp}/p2p-demo.XXXXXX") || exit 1
export P2PCTL_SOCKET="$sockets/control.sock"
pids=()
failed=

bold= plain=
[ ! -t 1 ] || { bold=$'\033[1m' plain=$'\033[0m'; }
step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
fail() {
	printf 'demo: %s\n' "$*" >&2
	failed=1
}
stop_all() {
	local pid
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
	for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null; done
	rm -rf "$sockets"
}
trap 'exit 130' INT TERM
trap stop_all EXIT

for port in 3322 5544 5555 5556 3334 6655 8888 8889 9998 9999; do
	if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
		echo "demo: port $port is in use; stop what listens there first (a demo left with KEEP=1?)" >&2
		exit 1
	fi
done

step "certificates and settings ($demo)"
mkdir -p "$settings" "$demo/log" "$demo/overlay"
cp -r settings/dev/. "$settings/"
rm -rf "$settings/data"
tools/certs.sh "$settings" || exit 1
printf '# The demo keeps its control socket apart from an installed proxy.\ncontrol:\n  path: %s\n' \
	"$P2PCTL_SOCKET" >"$demo/overlay/control.yml"

start() { # NAME VARIABLE SETTINGS COMMAND...
	local name=$1 variable=$2 value=$3
	shift 3
	env "$variable=$value" "$@" >"$demo/log/$name.log" 2>&1 &
	pids+=($!)
	printf '  %-22s pid %-7s %s\n' "$name" "$!" "$*"
}
step "five daemons"
start sd-1 SD_SETTINGS "$settings/roles/sd-1" sd run
start public-proxy-1 PROXY_SETTINGS "$settings/roles/public-proxy-1:$demo/overlay" proxy run public
start public-proxy-hyper-1 HYPER_SETTINGS "$settings/roles/public-proxy-hyper-1" hyper server run
start hd-1 HYPER_SETTINGS "$settings/roles/hd-1" hyper server run
start hd-2 HYPER_SETTINGS "$settings/roles/hd-2" hyper server run

step "service directory"
tools/sd-setup.sh "$settings" || exit 1

ping() {
	curl -sS --max-time 30 --cert "$settings/certs/hd-1.crt" --key "$settings/certs/hd-1.key" \
		--cacert "$settings/certs/root.crt" --resolve hd-1:5555:127.0.0.1 https://hd-1:5555/jsonrpc \
		--header "Content-Type: application/json" \
		--data '{"method": "hd-2._ping", "id": "1", "params": {}, "jsonrpc": "2.0"}'
}
is_right() { # an answer of hd-2 that knows hd-1 by its directory entry
	jq -e '.jsonrpc == "2.0" and .id == "1" and .result.version == "development"
		and (.result.timestamp | test("^[0-9]{4}-[0-9]{2}-[0-9]{2}T"))
		and .result.serverInfo.name == "hd-2" and (.result.serverInfo.records | length) == 4
		and .result.params._client.name == "hd-1" and (.result.params._client.entry.records | length) == 5' \
		>/dev/null 2>&1
}

step "ping from hd-1 to hd-2 through the relay"
answer=
deadline=$((SECONDS + 60))
while [ $SECONDS -lt $deadline ]; do
	answer=$(ping 2>&1)
	printf '%s' "$answer" | is_right && break
	printf '  waiting for the servers to find each other: %.110s\n' "$(printf '%s' "$answer" | tr '\n' ' ')"
	sleep 1
done
printf '%s' "$answer" | jq '{jsonrpc, id, result: {version: .result.version, timestamp: .result.timestamp,
	from: .result.params._client.name, by: .result.serverInfo.name,
	records: [.result.params._client.entry.records[].record.section],
	certificates: .result.serverInfo.certificates}}' 2>/dev/null || printf '%s\n' "$answer"
printf '%s' "$answer" | is_right || fail "the answer is not the one that the protocol asks for"
for _ in 1 2 3 4 5; do ping >/dev/null 2>&1; done

step "the relay's view (p2pctl pairs)"
p2pctl pairs
pairs=$(p2pctl --json pairs)
pair=$(printf '%s' "$pairs" | jq -c '[.pairs[] | select([.parties[].operator] | sort == ["hd-1", "hd-2"])] | last' 2>/dev/null)
if [ -z "$pair" ] || [ "$pair" = null ]; then
	fail "p2pctl shows no pair of hd-1 and hd-2"
else
	p2pctl pair "$(printf '%s' "$pair" | jq -r .id)"
	printf '%s' "$pair" | jq -e 'all(.parties[]; .identified and .transport == "handed off")' >/dev/null ||
		fail "not both servers were identified at the relay and handed off"
	plane=$(printf '%s' "$pair" | jq -r .plane)
	wanted=$(p2pctl --json probe | jq -r 'if .planes.sockmap then "sockmap" elif .planes.splice then "splice" else "copy" end')
	[ "$plane" = "$wanted" ] || fail "the pair is on plane $plane, the probe says $wanted"
	if [ "$wanted" = sockmap ]; then
		printf '%s' "$pair" | jq -e 'all(.directions[]; .redirected_bytes > 0)' >/dev/null ||
			fail "the kernel redirected no bytes in one direction"
	else
		echo "  (this kernel or these privileges do not allow sockmap: p2pctl probe says why)"
	fi
fi

if [ -n "$failed" ]; then
	echo "demo: logs are in $demo/log" >&2
	exit 1
fi
if [ -n "${KEEP:-}" ]; then
	trap - EXIT
	step "left running"
	cat <<TEXT
  look:   eval "\$(make env)"; export P2PCTL_SOCKET=$P2PCTL_SOCKET
          p2pctl status; p2pctl pairs; p2pctl tickets; tail $demo/log/*.log
  ping:   curl -s --cert $settings/certs/hd-1.crt --key $settings/certs/hd-1.key --cacert $settings/certs/root.crt \\
            --resolve hd-1:5555:127.0.0.1 https://hd-1:5555/jsonrpc --header "Content-Type: application/json" \\
            --data '{"method": "hd-2._ping", "id": "1", "params": {}, "jsonrpc": "2.0"}' | jq .
  stop:   kill ${pids[*]}; rm -rf $sockets
TEXT
	exit 0
fi
step "stopping"
stop_all
trap - EXIT
echo "demo: all right: both servers identified by TLS at the relay and handed off, the ping went through on plane $plane"
