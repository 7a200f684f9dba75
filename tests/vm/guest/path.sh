#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two parties in namespaces of their own, a and b, and the relay between them in r:
#
#   path.sh LABEL SECONDS LEG RTT-MS LOSS-% RATE CONTENDER...
#
# The leg between r and LEG (a: the sender's, b: the reader's) has the round trip time, half of it each
# way, and towards the reader the loss; RATE (tc's notation) is the path's bandwidth both ways.
# The direct connection takes the same path, r forwards it. Segments are single: a loss of a
# segment would be one of 45 at once otherwise.
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
		ip -n $side link set dev leg-$place gso_max_segs 1
		ip -n $side link set dev leg-$place up
	done
	ip -n r addr add 10.$network.0.1/24 dev leg-$place
	ip -n $place addr add 10.$network.0.2/24 dev leg-$place
	ip -n $place route add default via 10.$network.0.1
	network=$((network + 1))
done
ip netns exec r sysctl -qw net.ipv4.ip_forward=1
delay=$(awk "BEGIN { print $rtt / 2 }")ms
# Towards the reader: from r to b, or from a to r. Queues long enough for whatever is on the way.
[ "$leg" = b ] && ahead=r || ahead=a
tc -n $ahead qdisc add dev leg-$leg root netem delay "$delay" loss "$loss%" rate "$rate" limit 100000
[ "$ahead" = r ] && back=b || back=r
tc -n $back qdisc add dev leg-$leg root netem delay "$delay" rate "$rate" limit 100000
status=0
ip netns exec r path_bench "$label" "$seconds" "$@" || status=$?
for place in a r b; do ip netns del $place; done
exit $status
