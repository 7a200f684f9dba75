#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two parties in namespaces of their own, a and b, and the relay between them in r:
#
#   path.sh LABEL SECONDS LEG RTT-MS LOSS-% RATE [--hold MB-PER-S] CONTENDER...
#
# The leg between r and LEG (a: the sender's, b: the reader's, ab: each of them) has the round trip time, half of
# it each way, and towards the reader the loss; RATE (tc's notation) is the path's bandwidth both ways.
# The direct connection takes the same path, r forwards it. Segments are single: a loss of a
# segment would be one of 45 at once otherwise. Only with SEGMENTS=N in the environment N are sent together.
set -eu
label=$1 seconds=$2 leg=$3 rtt=$4 loss=$5 rate=$6
shift 6
mkdir -p /var
[ -e /var/run ] || ln -s /run /var/run
for place in a r b; do
	ip netns add $place
	ip -n $place link set lo up
done
network=1
for place in a b; do
	ip link add name leg-$place netns $place type veth peer name leg-$place netns r
	for side in r $place; do
		ip -n $side link set dev leg-$place gso_max_segs "${SEGMENTS:-1}"
		ip -n $side link set dev leg-$place up
	done
	ip -n r addr add 10.$network.0.1/24 dev leg-$place
	ip -n $place addr add 10.$network.0.2/24 dev leg-$place
	ip -n $place route add default via 10.$network.0.1
	network=$((network + 1))
done
ip netns exec r sysctl -qw net.ipv4.ip_forward=1
delay=$(awk "BEGIN { print $rtt / 2 }")ms
# Queues long enough for whatever is on the way. The sender's leg begins at a, the reader's at r.
slow() { # AHEAD BACK LEG
	tc -n "$1" qdisc add dev "leg-$3" root netem delay "$delay" loss "$loss%" rate "$rate" limit 100000
	tc -n "$2" qdisc add dev "leg-$3" root netem delay "$delay" rate "$rate" limit 100000
}
case $leg in *a*) slow a r a ;; esac
case $leg in *b*) slow r b b ;; esac
status=0
ip netns exec r path_bench "$label" "$seconds" "$@" || status=$?
for place in a r b; do ip netns del $place; done
exit $status
