#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what building, demo and tests need from Debian's archive, if missing.
#   deps.sh [build|test|bench|vm]...     default: build
set -eu
build="gcc clang llvm make pkg-config bpftool libbpf-dev libelf-dev zlib1g-dev libssl-dev protobuf-compiler
 protobuf-c-compiler libprotobuf-dev libprotobuf-c-dev libjansson-dev libevent-dev libyaml-dev libnghttp2-dev libcap-ng-dev
 openssl curl jq iproute2 procps"
testing="libcmocka-dev libclang-rt-14-dev python3-pytest python3-pytest-xdist python3-grpcio python3-protobuf python3-h2
 python3-cryptography python3-yaml valgrind"
bench="haproxy socat nginx libnginx-mod-stream syncthing-relaysrv coturn stunnel4 gnuplot-nox"
vm="qemu-system-x86 busybox-static cpio xz-utils zstd kmod debian-archive-keyring"
wanted=
for set in "${@:-build}"; do
	case $set in
	build) wanted="$wanted $build" ;;
	test) wanted="$wanted $build $testing" ;;
	bench) wanted="$wanted $build $bench" ;;
	vm) wanted="$wanted $build $vm" ;;
	*) echo "deps.sh: unknown set '$set' (build, test, bench, vm)" >&2; exit 2 ;;
	esac
done
missing=
for package in $wanted; do
	status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
	[ "$status" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "deps.sh: missing packages:$missing" >&2
	echo "deps.sh: run as root, or: apt-get install --no-install-recommends$missing" >&2
	exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# A service that a package brings (haproxy, nginx, ...) must not start by itself, now or at the next boot.
services="haproxy:haproxy nginx:nginx syncthing-relaysrv:syncthing-relaysrv coturn:coturn stunnel4:stunnel4
 stunnel4:stunnel.target"
policy=/usr/sbin/policy-rc.d
made_policy=
if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; made_policy=1; fi
trap '[ -z "$made_policy" ] || rm -f $policy; rm -f "$log"' EXIT
try() { apt-get update -qq >>"$log" 2>&1 || true; apt-get install -y -qq --no-install-recommends $missing >>"$log" 2>&1; }
try || { sleep 5; try; } || { tail -20 "$log" >&2; echo "deps.sh: installation failed" >&2; exit 1; }
for service in $services; do
	case " $missing " in *" ${service%%:*} "*) ;; *) continue ;; esac
	{ systemctl disable "${service#*:}" || update-rc.d "${service#*:}" disable; } >>"$log" 2>&1 || true
done
