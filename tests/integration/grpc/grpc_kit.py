# SPDX-License-Identifier: Apache-2.0
"""Certificates, generated messages, and our grpc_peer as a child process."""
import datetime
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TOP = Path(__file__).resolve().parents[3]
PEER = Path(os.environ.get("GRPC_PEER", TOP / "build/tests/bin/grpc_peer"))
LIMIT = 15  # seconds that anything may take


class Certificates:
    """A root and leaves for operators, as PEM files in one folder."""

    def __init__(self, folder):
        self.folder = folder
        self.key, self.root = self._make("root", None, None)

    def _make(self, name, issuer_key, issuer):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.utcnow()
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=2))
        )
        if issuer:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
        else:
            builder = builder.add_extension(x509.BasicConstraints(True, None), True)
        certificate = builder.sign(issuer_key or key, hashes.SHA256())
        self.crt(name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key_file(name).write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return key, certificate

    def crt(self, name):
        return self.folder / f"{name}.crt"

    def key_file(self, name):
        return self.folder / f"{name}.key"

    def leaf(self, name):
        if not self.crt(name).exists():
            self._make(name, self.key, self.root)
        return str(self.crt(name)), str(self.key_file(name)), str(self.crt("root"))

    def pem(self, name):
        return tuple(Path(file).read_bytes() for file in self.leaf(name))


def load_messages(folder):
    """hyper.proto by protoc's Python generator."""
    subprocess.run(
        ["protoc", f"--proto_path={TOP / 'proto'}", "--proto_path=/usr/include", f"--python_out={folder}", "hyper.proto"],
        check=True,
    )
    sys.path.insert(0, str(folder))
    try:
        import hyper_pb2
    finally:
        sys.path.pop(0)
    return hyper_pb2


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Peer:
    """grpc_peer: `do()` sends a command, `wait()` returns the next event of a kind."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [str(PEER), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.events = queue.Queue()
        self.put_back = []
        self.log = []
        for source, handler in (
            (self.process.stdout, lambda line: self.events.put(json.loads(line))),
            (self.process.stderr, self.log.append),
        ):
            threading.Thread(target=self._read, args=(source, handler), daemon=True).start()

    @staticmethod
    def _read(source, handler):
        for line in source:
            handler(line)

    def do(self, verb, **fields):
        self.process.stdin.write(json.dumps({"do": verb, **fields}) + "\n")
        self.process.stdin.flush()

    def wait(self, kind, limit=LIMIT):
        for index, event in enumerate(self.put_back):
            if event["event"] == kind:
                return self.put_back.pop(index)
        end = time.monotonic() + limit
        while True:
            try:
                event = self.events.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no event '{kind}'; log: {''.join(self.log[-20:])}") from None
            if event["event"] == kind:
                return event
            self.put_back.append(event)

    def wait_for_log(self, text, limit=LIMIT):
        end = time.monotonic() + limit
        while not any(text in line for line in list(self.log)):
            assert self.process.poll() is None, "grpc_peer has ended"
            assert time.monotonic() < end, f"no log line with '{text}': {''.join(self.log[-20:])}"
            time.sleep(0.02)

    def call(self, method, number=0, **fields):
        self.do("call", method=method, id=f"{method}({number})", number=number, **fields)

    def stop(self):
        """Ends it; a crash or a leak that a sanitizer found fails the test."""
        self.process.stdin.close()
        try:
            status = self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert status == 0, f"grpc_peer ended with {status}: {''.join(self.log[-40:])}"


def serving_peer(certificates, name="callee", unknown_name=None):
    port = free_port()
    arguments = ["serve", f"127.0.0.1:{port}", *certificates.leaf(name)]
    peer = Peer(*arguments, *([unknown_name] if unknown_name else []))
    peer.wait("serving")
    peer.port = port
    return peer


def calling_peer(certificates, port, server_name="callee", name="caller", unknown_name=None):
    arguments = ["call", f"127.0.0.1:{port}", *certificates.leaf(name), server_name]
    return Peer(*arguments, *([unknown_name] if unknown_name else []))
