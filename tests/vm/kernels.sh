#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Debian's cloud kernels for the guests: downloaded from the archive and unpacked,
# never installed. apt works in a state folder of its own with the suites named
# below; the machine's sources, lists and packages are only read.
#   kernels.sh [--matrix] [--refresh]
# Prints one line for each kernel, fields parted by tabs:
#   ROLE  RELEASE  VMLINUZ  MODULES        MODULES: folder with kernel/ and modules.dep
#   ROLE  -        REASON                  it cannot be had
# Kernels that were unpacked once serve without the network; which one a role means is
# asked again after a week, or with --refresh.
set -u
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C
top=$(CDPATH= cd -- "$(dirname -- "$0")/../.." && pwd)
state=$top/build/vm/apt
kernels=$top/build/vm/kernels
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
matrix=
refresh=
for word in "$@"; do
	case $word in
	--matrix) matrix=1 ;;
	--refresh) refresh=1 ;;
	*) echo "usage: kernels.sh [--matrix] [--refresh]" >&2; exit 2 ;;
	esac
done
say() { printf 'kernels: %s\n' "$*" >&2; }

# The mirror's address as the machine's own sources have it: that of a suite's entry.
mirror_of() { # SUITE-PATTERN
	apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
		awk -v suite="^($1)\$" '$2 ~ suite {print $1; exit}'
}

apt_options=(
	-o "Dir::State=$state" -o "Dir::State::lists=$state/lists" -o Dir::State::status=/dev/null
	-o "Dir::Cache=$state/cache" -o "Dir::Cache::pkgcache=" -o "Dir::Etc::sourcelist=$state/sources.list"
	-o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
	-o APT::Architecture=amd64 -o APT::Architectures=amd64 -o APT::Sandbox::User= -o Acquire::Languages=none
	-o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::Retries=2
)

update_lists() {
	local archive security suite options="[arch=amd64 signed-by=$keyring]"
	command -v apt-get >/dev/null || { problem="there is no apt-get"; return 1; }
	[ -r "$keyring" ] || { problem="there is no $keyring (package debian-archive-keyring)"; return 1; }
	archive=$(mirror_of 'bookworm|trixie|sid|stable|testing|unstable')
	security=$(mirror_of '(bookworm|trixie|stable)-security')
	[ -n "$archive" ] || { problem="the machine's sources name no mirror of Debian"; return 1; }
	mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
	{
		for suite in bookworm bookworm-backports trixie trixie-backports sid; do
			printf 'deb %s %s %s main\n' "$options" "$archive" "$suite"
		done
		[ -z "$security" ] || printf 'deb %s %s bookworm-security main\n' "$options" "$security"
	} >"$state/sources.list"
	if [ -z "$refresh" ] && [ -n "$(find "$state/updated" -mtime -7 2>/dev/null)" ]; then
		return 0
	fi
	say "reading the lists of the archive"
	if ! apt-get "${apt_options[@]}" update >"$state/update.log" 2>&1; then
		problem="the archive's lists cannot be read: $(grep -m 1 -E '^(E|Err)' "$state/update.log")"
		return 1
	fi
	touch "$state/updated"
	refresh=1
}

# Newest last. From 6.19 on the image is a package of its own next to an empty linux-image;
# a release whose parts are not all in the archive any more is left out.
list_releases() {
	apt-cache "${apt_options[@]}" pkgnames linux- | awk '
		/^linux-(image|binary|modules)-[0-9].*-cloud-amd64$/ {
			kind = $0; sub(/^linux-/, "", kind); sub(/-.*/, "", kind)
			release = $0; sub(/^linux-[a-z]*-/, "", release)
			has[release, kind] = 1; releases[release] = 1
		}
		END {
			for (release in releases) {
				if (release !~ /^[0-9]+\.[0-9]+.*[-+]/ || release ~ /^[0-9]+\.[0-9]+-cloud/)
					continue
				split(release, number, ".")
				if (number[1] > 6 || number[1] == 6 && number[2] + 0 >= 19) {
					if (has[release, "binary"] && has[release, "modules"])
						print release
				} else if (has[release, "image"])
					print release
			}
		}' | sort -V
}

release_of() { # ROLE
	case $1 in
	debian-12) grep -E '^6\.1\.' "$state/releases" | tail -1 ;;
	debian-13) grep -E '^6\.12\..*\+deb13' "$state/releases" | tail -1 ;;
	oldest-6.1) grep -E '^6\.1\.' "$state/releases" | head -1 ;;
	oldest-6.12) grep -E '^6\.12\.' "$state/releases" | head -1 ;;
	backports) grep -E '\+deb13' "$state/releases" | tail -1 ;;
	sid) grep -E '\+deb14' "$state/releases" | tail -1 ;;
	esac
}

fetch() { # RELEASE
	local release=$1 work=$kernels/$1.new package packages=() image modules
	for package in image binary modules; do
		! apt-cache "${apt_options[@]}" pkgnames "linux-$package-$release" | grep -qx "linux-$package-$release" ||
			packages+=("linux-$package-$release")
	done
	say "downloading ${packages[*]}"
	rm -rf "$work"
	mkdir -p "$work/unpacked"
	if ! (cd "$work" && apt-get "${apt_options[@]}" -qq download "${packages[@]}") >"$work/log" 2>&1; then
		problem="cannot be downloaded: $(tail -1 "$work/log")"
		return 1
	fi
	for package in "$work"/*.deb; do
		dpkg-deb -x "$package" "$work/unpacked" || { problem="$(basename "$package") cannot be unpacked"; return 1; }
		rm -f "$package"
	done
	image=$(find "$work/unpacked" -name "vmlinuz*" -type f | head -1)
	modules=$(find "$work/unpacked" -type d -path "*/lib/modules/$release" | head -1)
	[ -n "$image" ] && [ -d "$modules/kernel" ] || { problem="the packages hold no kernel"; return 1; }
	mkdir -p "$work/lib/modules"
	mv "$image" "$work/vmlinuz"
	mv "$modules" "$work/lib/modules/"
	rm -rf "$work/unpacked"
	depmod -b "$work" "$release" >>"$work/log" 2>&1 || { problem="depmod failed: $(tail -1 "$work/log")"; return 1; }
	rm -rf "${kernels:?}/$release"
	mv "$work" "$kernels/$release"
}

roles="debian-12 debian-13"
[ -z "$matrix" ] || roles="oldest-6.1 debian-12 oldest-6.12 debian-13 sid backports"
mkdir -p "$state" "$kernels"
problem=
# Lists are needed only for what was not settled within the last week.
needed=$refresh
for role in $roles; do
	[ -n "$(find "$kernels/$role.role" -mtime -7 2>/dev/null)" ] && [ -s "$kernels/$(cat "$kernels/$role.role")/vmlinuz" ] || needed=1
done
if [ -n "$needed" ] && update_lists; then
	list_releases >"$state/releases"
fi
seen=" "
for role in $roles; do
	reason=$problem
	known=$(cat "$kernels/$role.role" 2>/dev/null)
	release=$known
	if [ -n "$needed" ] && [ -z "$problem" ]; then
		release=$(release_of "$role")
		[ -n "$release" ] || reason="the archive has no such kernel"
	fi
	if [ -n "$release" ] && [ ! -s "$kernels/$release/vmlinuz" ] && [ -z "$reason" ]; then
		before=$problem
		fetch "$release" || { reason="$release: $problem"; rm -rf "$kernels/$release.new"; release=$known; }
		problem=$before
	fi
	if [ -z "$release" ] || [ ! -s "$kernels/$release/vmlinuz" ]; then
		printf '%s\t-\t%s\n' "$role" "${reason:-never downloaded}"
		continue
	fi
	[ -n "$reason" ] || printf '%s\n' "$release" >"$kernels/$role.role"
	[ -z "$reason" ] || say "$role: taking $release as before ($reason)"
	case $seen in *" $release "*) continue ;; esac
	seen="$seen$release "
	printf '%s\t%s\t%s\t%s\n' "$role" "$release" "$kernels/$release/vmlinuz" "$kernels/$release/lib/modules/$release"
done
