# SPDX-License-Identifier: Apache-2.0
"""What tools/certs.sh writes (protocol page, 10.1): `openssl ca` goes on with the root's books."""
import shutil
import subprocess

import pytest

from stack import TOP

CONFIG = """
[ca]
default_ca = root
[root]
certificate = {0}/root.crt
private_key = {0}/root.key
database = {0}/index.txt
serial = {0}/serial
new_certs_dir = {0}
policy = any
default_md = sha256
default_days = 10
default_crl_days = 1
[any]
commonName = supplied
"""


@pytest.fixture
def certs(made_certificates, tmp_path):
    shutil.copytree(made_certificates / "certs", tmp_path / "certs")
    (tmp_path / "ca.cnf").write_text(CONFIG.format(tmp_path / "certs"))
    return tmp_path / "certs"


def openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stdout
    return done.stdout


def ca(certs, *arguments):
    return openssl("ca", "-batch", "-config", certs.parent / "ca.cnf", *arguments)


def test_the_root_has_signed_the_intermediate_in_its_books(certs):
    status, expiry, revoked, serial, file, subject = (certs / "index.txt").read_text().rstrip("\n").split("\t")
    assert (status, revoked, serial, file) == ("V", "", "1000", "unknown")
    assert subject == "/C=DE/ST=Berlin/O=IRIS/OU=IT/CN=intermediate" and expiry.endswith("Z")
    assert (certs / "serial").read_text() == "1001\n"
    assert (certs / "1000.pem").read_text() == (certs / "intermediate.crt").read_text()
    # OpenSSL 3.0 ends `-status` with 1 whatever it says.
    shown = subprocess.run(["openssl", "ca", "-config", certs.parent / "ca.cnf", "-status", "1000"], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=60)
    assert "1000=Valid" in shown.stdout, shown.stdout


def test_the_next_certificate_gets_the_next_number(certs):
    ca(certs, "-in", certs / "hd-1.csr", "-out", certs / "next.crt", "-notext")
    assert openssl("x509", "-in", certs / "next.crt", "-noout", "-serial") == "serial=1001\n"
    assert (certs / "1001.pem").exists() and (certs / "serial").read_text() == "1002\n"


def test_the_intermediate_can_be_revoked(certs):
    ca(certs, "-revoke", certs / "1000.pem")
    ca(certs, "-gencrl", "-out", certs / "root.crl")
    assert "Serial Number: 1000" in openssl("crl", "-in", certs / "root.crl", "-noout", "-text")
    done = subprocess.run(["openssl", "verify", "-crl_check", "-CAfile", certs / "root.crt", "-CRLfile", certs / "root.crl",
                           certs / "intermediate.crt"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert done.returncode != 0 and "certificate revoked" in done.stdout, done.stdout


def test_operators_have_their_names(certs):
    openssl("verify", "-CAfile", certs / "root.crt", "-untrusted", certs / "intermediate.crt", certs / "hd-2.crt")
    assert "DNS:hd-2, DNS:*.hd-2.local" in openssl("x509", "-in", certs / "hd-2.crt", "-noout", "-ext", "subjectAltName")
    for name, group in (("hd-1", "sd-admin"), ("hd-2", "")):
        shown = openssl("x509", "-in", certs / f"{name}-sign.crt", "-noout", "-ext", "subjectAltName")
        assert f"URI:iris-name://{name}, URI:iris-group://{group}, DNS:{name}" in shown


def test_a_second_run_keeps_everything(certs):
    before = {file.name: file.read_bytes() for file in certs.iterdir()}
    subprocess.run([str(TOP / "tools" / "certs.sh"), str(certs.parent)], check=True, timeout=180, stdout=subprocess.DEVNULL)
    assert {file.name: file.read_bytes() for file in certs.iterdir()} == before
