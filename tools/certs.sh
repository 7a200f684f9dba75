#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Development certificates for a settings folder: a root, an intermediate, and for
# each operator a TLS certificate, a signing certificate and a second one of each
# ("alt", for tests of pinning). Writes DIR/certs and, for the directory,
# DIR/directory/002_certificates.json. The root keeps its books as `openssl ca` does:
# index.txt, serial, and a copy of what it signed (1000.pem).
#   certs.sh DIR            DIR: settings/dev for instance
# Certificates that are valid for 30 days more are kept. FORCE=1 renews all and
# empties DIR/data, since the records there pin the old keys: not while an sd, which
# locks its data file, is using them.
set -eu
umask 077
names="op-1 op-2 hd-1 hd-2 ls-1 internal-server public-proxy-1.ga private-proxy-1.ga sd-1 demo-app quic-1 quic-2"
kinds="tls alt sign sign-alt"
subject="/C=DE/ST=Berlin/L=Berlin/O=IRIS/OU=IT"
keep_seconds=2592000

file_of() { # NAME KIND
	case $2 in tls) echo "$1" ;; *) echo "$1-$2" ;; esac
}
is_good() { # CRT
	[ -s "$1" ] && openssl x509 -noout -checkend $keep_seconds -in "$1" >/dev/null 2>&1
}
say() { printf '  %-9s %s\n' certs "$*"; }

# One certificate: key, public key, request, and last of all the certificate with
# the intermediate behind it, so that a run that is cut short leaves no half.
make_one() { # CERTS NAME KIND
	certs=$1 name=$2 kind=$3
	out=$certs/$(file_of "$name" "$kind")
	extensions=$out.extensions
	case $kind in
	sign*)
		group=
		[ "$name" != hd-1 ] || group=sd-admin
		openssl ecparam -name prime256v1 -genkey -noout -out "$out.key"
		printf '%s\n' "subjectAltName=URI:iris-name://$name,URI:iris-group://$group,DNS:$name" \
			keyUsage=digitalSignature >"$extensions"
		;;
	*)
		openssl genrsa -out "$out.key" 2048 2>/dev/null
		echo "subjectAltName=DNS:$name,DNS:*.$name.local" >"$extensions"
		;;
	esac
	printf '%s\n' subjectKeyIdentifier=hash authorityKeyIdentifier=keyid >>"$extensions"
	openssl pkey -in "$out.key" -pubout -out "$out.pub"
	openssl req -new -config "$certs/request.cnf" -key "$out.key" -subj "$subject/CN=$name" -out "$out.csr"
	openssl x509 -req -in "$out.csr" -CA "$certs/intermediate.crt" -CAkey "$certs/intermediate.key" -sha256 -days 500 \
		-extfile "$extensions" -out "$out.leaf" 2>/dev/null
	cat "$out.leaf" "$certs/intermediate.crt" >"$out.leaf+"
	chmod 644 "$out.leaf+" "$out.pub" "$out.csr"
	mv "$out.leaf+" "$out.crt"
	rm -f "$out.leaf" "$extensions"
}
if [ "${1-}" = --one ]; then
	make_one "$2" "${3%:*}" "${3#*:}"
	exit
fi

[ $# = 1 ] && [ -d "$1" ] || { echo "usage: certs.sh DIR (an existing settings folder)" >&2; exit 2; }
dir=$1
certs=$dir/certs
records=$dir/directory/002_certificates.json
mkdir -p "$certs" "$dir/directory"
chmod 755 "$certs"
if [ -n "${FORCE-}" ]; then
	find "$dir/data" -type f 2>/dev/null | while IFS= read -r file; do
		flock --nonblock "$file" true || {
			echo "certs: $file is in use, and FORCE=1 deletes it: stop sd first" >&2
			exit 1
		}
	done
	find "$certs" -mindepth 1 -delete
	rm -f "$records"
	[ ! -d "$dir/data" ] || find "$dir/data" -mindepth 1 -delete
	say "everything is renewed; the datastores are empty"
fi
trap 'rm -f "$certs/request.cnf" "$certs"/*.extensions "$certs"/*.leaf "$certs"/*.leaf+' EXIT
trap 'exit 130' INT TERM
printf '[req]\ndistinguished_name=name\nprompt=no\n[name]\n' >"$certs/request.cnf"

if ! is_good "$certs/root.crt" || ! is_good "$certs/intermediate.crt"; then
	say "root and intermediate"
	find "$certs" -mindepth 1 ! -name request.cnf -delete
	openssl genrsa -out "$certs/root.key" 2048 2>/dev/null
	openssl genrsa -out "$certs/intermediate.key" 2048 2>/dev/null
	openssl pkey -in "$certs/intermediate.key" -pubout -out "$certs/intermediate.pub"
	openssl req -x509 -new -config "$certs/request.cnf" -key "$certs/root.key" -sha256 -days 1024 \
		-subj "$subject/CN=Testing-Development" -addext basicConstraints=critical,CA:true \
		-addext subjectKeyIdentifier=hash -addext authorityKeyIdentifier=keyid:always -out "$certs/root.crt"
	openssl req -new -config "$certs/request.cnf" -key "$certs/intermediate.key" -subj "$subject/CN=intermediate" \
		-out "$certs/intermediate.csr"
	: >"$certs/index.txt"
	echo 1000 >"$certs/serial"
	# The policy leaves out L.
	cat >"$certs/ca.extensions" <<-END
		[ca]
		default_ca = root
		[root]
		certificate = $certs/root.crt
		private_key = $certs/root.key
		database = $certs/index.txt
		serial = $certs/serial
		new_certs_dir = $certs
		policy = names
		default_md = sha256
		default_days = 300
		x509_extensions = intermediate
		[names]
		countryName = match
		stateOrProvinceName = match
		organizationName = match
		organizationalUnitName = optional
		commonName = supplied
		[intermediate]
		basicConstraints = critical, CA:true, pathlen:0
		keyUsage = critical, digitalSignature, cRLSign, keyCertSign
		subjectKeyIdentifier = hash
		authorityKeyIdentifier = keyid:always
	END
	openssl ca -batch -notext -config "$certs/ca.extensions" -in "$certs/intermediate.csr" \
		-out "$certs/intermediate.leaf" >"$certs/ca.leaf" 2>&1 || { cat "$certs/ca.leaf" >&2; exit 1; }
	rm -f "$certs"/*.old
	chmod 644 "$certs/root.crt" "$certs/intermediate.leaf" "$certs/intermediate.pub" "$certs/intermediate.csr" \
		"$certs/1000.pem" "$certs/index.txt" "$certs/serial"
	mv "$certs/intermediate.leaf" "$certs/intermediate.crt"
fi

wanted=
kept=0
for name in $names; do
	for kind in $kinds; do
		file=$certs/$(file_of "$name" "$kind")
		if [ -s "$file.key" ] && is_good "$file.crt"; then
			kept=$((kept + 1))
		else
			wanted="$wanted $name:$kind"
		fi
	done
done
if [ -n "$wanted" ]; then
	say "$(set -- $wanted && echo $#) certificates of operators, $kept kept"
	printf '%s\n' $wanted | xargs -P "$(nproc)" -n 1 "$0" --one "$certs"
fi

if [ -n "$wanted" ] || [ ! -s "$records" ]; then
	say "directory records with the fingerprints"
	created=$(date +%Y-%m-%dT%H:%M:%S%:z)
	fingerprint() { openssl x509 -in "$1" -outform DER | sha256sum | cut -d' ' -f1; }
	{
		printf '{"records": [\n'
		comma=
		for name in $names; do
			printf '%s  {"name": "%s", "section": "certificates", "created_at": "%s", "data": [\n' "$comma" "$name" "$created"
			printf '    {"fingerprint": "%s", "key_usage": "signing"},\n' "$(fingerprint "$certs/$name-sign.crt")"
			printf '    {"fingerprint": "%s", "key_usage": "encryption"}]}' "$(fingerprint "$certs/$name.crt")"
			comma=',
'
		done
		printf '\n]}\n'
	} >"$records.new"
	chmod 644 "$records.new"
	mv "$records.new" "$records"
	case $wanted in
	*" hd-1:sign"*)
		if [ -n "$(find "$dir/data" -mindepth 1 -print -quit 2>/dev/null)" ]; then
			say "note: $dir/data may pin the old signing key of hd-1; FORCE=1 empties it"
		fi ;;
	esac
else
	say "all are valid for 30 days more"
fi
