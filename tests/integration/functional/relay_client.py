# SPDX-License-Identifier: Apache-2.0
"""A party at the relay's TLS endpoint, written from docs/relay-tls.md with the
standard library only: no code of ours, no protobuf library."""
import select
import socket
import ssl
import struct
import time


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def hello_message(token, version=1, payload_encrypted=True):
    message = b"\x08" + varint(version) + b"\x12" + varint(len(token)) + token
    return message + (b"\x18\x01" if payload_encrypted else b"")


def framed(message):
    return struct.pack(">I", len(message)) + message


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


class Answer:
    """version, joined, outcome, detail, handed_off of a RelayAnswer."""

    def __init__(self, message):
        self.version, self.joined, self.outcome, self.detail, self.handed_off = 0, False, "", "", False
        at = 0
        while at < len(message):
            key, at = read_varint(message, at)
            if key & 7 == 0:
                value, at = read_varint(message, at)
            else:
                assert key & 7 == 2, key
                size, at = read_varint(message, at)
                value, at = message[at:at + size], at + size
            if key >> 3 == 1:
                self.version = value
            elif key >> 3 == 2:
                self.joined = bool(value)
            elif key >> 3 == 3:
                self.outcome = value.decode()
            elif key >> 3 == 4:
                self.detail = value.decode()
            elif key >> 3 == 5:
                self.handed_off = bool(value)

    def __repr__(self):
        return f"Answer(joined={self.joined}, {self.outcome!r}, {self.detail!r}, handed_off={self.handed_off})"


def client_context(certs, name, version=None, suffix=""):
    context = ssl.create_default_context(cafile=str(certs / "root.crt"))
    if name:
        context.load_cert_chain(certs / f"{name}{suffix}.crt", certs / f"{name}{suffix}.key")
    if version:
        context.minimum_version = context.maximum_version = version
    return context


class Party:
    """The ordinary client: SSLSocket, and unwrap() for the hand-off."""

    def __init__(self, certs, name, port=9998, server_name="public-proxy-1.ga", version=None, suffix="", timeout=15):
        raw = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = client_context(certs, name, version, suffix).wrap_socket(raw, server_hostname=server_name)

    def hello(self, token, behind=b"", **fields):
        self.socket.sendall(framed(hello_message(token, **fields)) + behind)
        return self

    def read_exactly(self, size):
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise EOFError(f"{len(data)} of {size} bytes came")
            data += piece
        return data

    def answer(self):
        return Answer(self.read_exactly(struct.unpack(">I", self.read_exactly(4))[0]))

    def hand_off(self):
        """close_notify both ways; the socket is plain afterwards."""
        self.socket = self.socket.unwrap()
        return self

    def send(self, data):
        self.socket.sendall(data)

    def close(self):
        self.socket.close()


class WireParty:
    """The same with the session in memory, so that every byte on the wire, and when
    it goes, is the test's to choose."""

    def __init__(self, certs, name, port=9998, server_name="public-proxy-1.ga", version=None, suffix=""):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=15)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = client_context(certs, name, version, suffix).wrap_bio(
            self.incoming, self.outgoing, server_hostname=server_name)
        self.run(self.session.do_handshake)

    def raw(self, size):
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise EOFError(f"{len(data)} of {size} bytes came")
            data += piece
        return data

    def flush(self, behind=b"", one_by_one=False):
        data = self.outgoing.read() + behind
        for piece in ([data[i:i + 1] for i in range(len(data))] if one_by_one else [data]):
            self.socket.sendall(piece)

    def feed_record(self):
        """Exactly one TLS record, as a library without read-ahead takes it."""
        head = self.raw(5)
        self.incoming.write(head + self.raw(struct.unpack(">H", head[3:])[0]))

    def run(self, step):
        while True:
            try:
                result = step()
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                self.feed_record()

    def hello(self, token, **fields):
        self.session.write(framed(hello_message(token, **fields)))
        self.flush()
        return self

    def answer(self):
        data = b""
        while len(data) < 4 or len(data) < 4 + struct.unpack(">I", data[:4])[0]:
            data += self.run(lambda: self.session.read(4096))
        return Answer(data[4:])

    def close_sending(self, behind=b"", one_by_one=False):
        try:
            self.session.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush(behind, one_by_one)

    def close_receiving(self):
        self.run(self.session.unwrap)

    def send(self, data):
        self.socket.sendall(data)

    def read_exactly(self, size):
        return self.raw(size)

    def close(self):
        self.socket.close()


def ending(connection, seconds=10):
    """How the connection ends for a reader: "end", "reset", or "open" if it does not."""
    raw = connection.socket if hasattr(connection, "socket") else connection
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            raw.settimeout(max(0.01, deadline - time.monotonic()))
            if not raw.recv(65536):
                return "end"
        return "open"
    except (ConnectionResetError, BrokenPipeError):
        return "reset"
    except (socket.timeout, TimeoutError):
        return "open"
    except ssl.SSLEOFError:
        return "cut"
    except OSError as error:
        return type(error).__name__


def is_quiet(connection, seconds):
    return not select.select([connection], [], [], seconds)[0]
