#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Loads the records of a settings folder into a running sd, as operator hd-1.
#   sd-setup.sh DIR         DIR: settings/dev for instance
# The certificates come first and start the directory anew, so that this can be
# run again. SD=name takes DIR/directory/name instead of DIR/directory/default.
# Needs `hyper` on PATH; waits 30 s for sd.
set -eu
[ $# = 1 ] && [ -d "$1" ] || { echo "usage: sd-setup.sh DIR (an existing settings folder)" >&2; exit 2; }
dir=$1
more=$dir/directory/${SD:-default}
[ -s "$dir/directory/002_certificates.json" ] || { echo "sd-setup: $dir has no certificates yet: make certs" >&2; exit 1; }
[ -d "$more" ] || { echo "sd-setup: there is no $more" >&2; exit 1; }
command -v hyper >/dev/null || { echo "sd-setup: hyper is not on PATH: make, then eval \"\$(make env)\"" >&2; exit 1; }
export HYPER_SETTINGS="$dir/roles/hd-1"
hyper sd get-entries >/dev/null || { echo "sd-setup: sd cannot be asked" >&2; exit 1; }
reset=--reset
for file in "$dir"/directory/*.json "$more"/*.json; do
	[ -f "$file" ] || continue
	printf '  %-9s %s\n' directory "$file"
	hyper --level warn sd submit-records $reset "$file" || { echo "sd-setup: $file was not accepted" >&2; exit 1; }
	reset=
done
