#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What p2pctl finds out about the kernel by itself, without a running daemon. Every
# kernel that the guests boot offers every plane: a "no" is a failure, but for what only
# newer kernels have.
set -u
printf 'kernel: %s\n' "$(uname -r | sed 's/-cloud-amd64//') ($(uname -v | grep -oE 'Debian [^ ]+'))"
p2pctl probe
json=$(p2pctl --json probe) || exit 1
printf '%s' "$json" | jq -r '.items[] | (if .state == "yes" then "ok   " elif .name == "ktls-rekey" or .name == "ktls-several" or .name == "ktls-direct" then "skip " else "FAIL " end) + .name + " - " + .sentence'
printf '%s' "$json" | jq -e '.by == "p2pctl" and .planes.sockmap and .planes.splice and .planes.copy and .planes."ktls-splice"' >/dev/null
