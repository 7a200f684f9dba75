#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a guest runs from memory, as cpio archives that the kernel unpacks one after
# the other:
#   initramfs.sh base OUT                    busybox, this build's programs, tools and
#                                            settings with their shared libraries
#   initramfs.sh modules RELEASE MODULES OUT the modules that tests need, unpacked and
#                                            numbered in the order of loading
# The guest sees a checkout at /p2p. Certificates are made here, on the host: keys
# take long in an emulated CPU.
set -eu
root=
trap '[ -z "$root" ] || rm -rf "$root"' EXIT
top=$(CDPATH= cd -- "$(dirname -- "$0")/../.." && pwd)
build=$top/build
# Modules or, where they are built in or have other names, nothing: kTLS and what its
# ciphers need on x86, and what tests of slow networks need.
wanted="tls gcm ccm ctr seqiv ghash-generic aesni-intel ghash-clmulni-intel aes-x86_64 libaes chacha20poly1305 chacha-x86_64
 inet_diag tcp_diag chacha_generic chacha poly1305-x86_64 poly1305_generic libchacha libpoly1305 veth sch_netem virtio_net"
programs="hyper proxy sd p2pctl"
from_host="/bin/bash /usr/bin/curl /usr/bin/jq /usr/bin/openssl"
# What only measurements need; left out where it is missing.
for_benches="/usr/sbin/haproxy /usr/bin/ip /usr/sbin/ip /usr/sbin/tc"

pack() { # ROOT OUT
	(cd "$1" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$2.new"
	mv "$2.new" "$2"
}
add_libraries() { # ROOT
	local root=$1 file library
	shift
	for file in "$@"; do
		ldd "$file" 2>/dev/null | grep -oE '/[^ ]+' || true
	done | sort -u | while read -r library; do
		[ -e "$root$library" ] || install -D -m 755 "$library" "$root$library"
	done
}

make_base() { # OUT
	local settings=$build/vm/settings binary files=()
	mkdir -p "$settings"
	cp -r "$top/settings/dev/." "$settings/"
	rm -rf "$settings/data"
	# certs.sh keeps what is valid, also certificates that a checkout has already.
	"$top/tools/certs.sh" "$settings" >&2
	root=$(mktemp -d "$build/vm/root.XXXXXX")

	mkdir -p "$root"/{bin,sbin,dev,etc,proc,run,sys,tmp,usr/bin,usr/sbin,usr/lib,job,lib,lib64} "$root/p2p/build/bin" \
		"$root/p2p/build/tests/bin" "$root/p2p/settings/dev" "$root/usr/lib/ssl"
	install -m 755 "$(command -v busybox)" "$root/bin/busybox"
	install -m 755 "$top/tests/vm/guest/init" "$root/init"
	for binary in $programs; do
		install -m 755 "$build/bin/$binary" "$root/p2p/build/bin/"
		files+=("$build/bin/$binary")
	done
	for binary in "$build"/tests/bin/* "$build"/tests/unit/test_relay_tls; do
		[ -f "$binary" ] && [ -x "$binary" ] || continue
		install -m 755 "$binary" "$root/p2p/build/tests/bin/"
		files+=("$binary")
	done
	for binary in $from_host; do
		install -D -m 755 "$binary" "$root$binary"
		files+=("$binary")
	done
	for binary in $for_benches; do
		[ -x "$binary" ] || continue
		install -D -m 755 "$binary" "$root$binary"
		files+=("$binary")
	done
	add_libraries "$root" "${files[@]}"
	cp -r "$top/tools" "$root/p2p/"
	cp -r "$top/tests/vm/guest" "$root/p2p/guest"
	cp -r "$settings/." "$root/p2p/settings/dev/"
	printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
	printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
	printf 'root:x:0:\n' >"$root/etc/group"
	printf 'hosts: files\npasswd: files\ngroup: files\n' >"$root/etc/nsswitch.conf"
	pack "$root" "$1"
}

# Prints the module files, each behind those that it needs.
order_modules() { # MODULES
	awk -v wanted="$wanted" '
		function name_of(path) { sub(/.*\//, "", path); sub(/\.ko.*/, "", path); gsub(/-/, "_", path); return path }
		function visit(path, at, parts, count) {
			if (seen[path]++) return
			count = split(needs[path], parts, " ")
			for (at = count; at > 0; at--) visit(parts[at])
			print path
		}
		{ path = $1; sub(/:$/, "", path); $1 = ""; needs[path] = $0; file[name_of(path)] = path }
		END {
			count = split(wanted, names, " ")
			for (at = 1; at <= count; at++) { name = name_of(names[at] ".ko"); if (name in file) visit(file[name]) }
		}' "$1/modules.dep"
}
make_modules() { # RELEASE MODULES OUT
	local file number=100 name
	root=$(mktemp -d "$build/vm/root.XXXXXX")

	mkdir -p "$root/modules"
	for file in $(order_modules "$2"); do
		name=$(basename "$file")
		case $name in
		*.xz) xz -dc "$2/$file" >"$root/modules/$number-${name%.xz}" ;;
		*.zst) zstd -qdc "$2/$file" >"$root/modules/$number-${name%.zst}" ;;
		*) cp "$2/$file" "$root/modules/$number-$name" ;;
		esac
		number=$((number + 1))
	done
	pack "$root" "$3"
}

case ${1-} in
base) make_base "$2" ;;
modules) make_modules "$2" "$3" "$4" ;;
*) echo "usage: initramfs.sh base OUT | modules RELEASE MODULES OUT" >&2; exit 2 ;;
esac
