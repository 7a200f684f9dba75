# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 by hand (python3-h2) over TLS: either end, with every freedom."""
import socket
import ssl
import struct
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from grpc_kit import LIMIT

HEADERS = [
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/Hyper/Call"),
    (":authority", "callee"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


def frame(message, flag=0):
    return struct.pack(">BI", flag, len(message)) + message


def replaced(name, value):
    return [(key, value if key == name else old) for key, old in HEADERS]


def tls(certificates, name, server_side):
    certificate, key, root = certificates.leaf(name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(root)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    return context


def wait_until_closed(sock):
    """Reads and forgets until the other side closes or resets."""
    end = time.monotonic() + LIMIT
    sock.settimeout(LIMIT)
    try:
        while sock.recv(65536):
            assert time.monotonic() < end, "the connection stays open"
    except ConnectionError:
        pass


class End:
    """One end of a connection; `events` gathers what came."""

    def __init__(self, sock, client_side):
        self.socket = sock
        self.socket.settimeout(LIMIT)
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=client_side, validate_outbound_headers=False, normalize_outbound_headers=False
            )
        )
        self.events = []
        self.is_closed = False

    def begin(self):
        self.h2.initiate_connection()
        self.flush()
        return self

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.socket.sendall(data)

    def receive(self):
        try:
            data = self.socket.recv(65536)
        except (ConnectionError, ssl.SSLError):
            data = b""
        if not data:
            self.is_closed = True
            return
        self.events += self.h2.receive_data(data)
        try:
            self.flush()
        except OSError:
            self.is_closed = True

    def wait(self, kind, stream=None, limit=LIMIT):
        """The next event of the class, removed; None when the connection ended before."""
        end = time.monotonic() + limit
        while True:
            for event in self.events:
                if isinstance(event, kind) and (stream is None or getattr(event, "stream_id", None) == stream):
                    self.events.remove(event)
                    return event
            if self.is_closed:
                return None
            assert time.monotonic() < end, f"no {kind.__name__}; came: {self.events}"
            self.receive()

    def wait_until_closed(self):
        end = time.monotonic() + LIMIT
        while not self.is_closed:
            assert time.monotonic() < end
            self.receive()

    def open(self, headers=None, end_stream=False):
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, headers or HEADERS, end_stream=end_stream)
        self.flush()
        return stream

    def send(self, stream, data, end_stream=True, piece=16384, padding=None):
        end = time.monotonic() + LIMIT
        for at in range(0, max(len(data), 1), piece):
            part = data[at : at + piece]
            while self.h2.local_flow_control_window(stream) < len(part) + (padding or 0) + 1:
                if any(isinstance(event, h2.events.StreamReset) and event.stream_id == stream for event in self.events):
                    raise h2.exceptions.StreamClosedError(stream)
                assert time.monotonic() < end and not self.is_closed, "no window to send in"
                self.receive()
            self.h2.send_data(stream, part, end_stream=end_stream and at + piece >= len(data), pad_length=padding)
            self.flush()

    def trailers(self, stream):
        """Status and message of an answer: it has headers, and mostly trailers."""
        for _ in range(2):
            event = self.wait((h2.events.ResponseReceived, h2.events.TrailersReceived, h2.events.StreamReset), stream)
            if event is None or isinstance(event, h2.events.StreamReset):
                return event
            headers = {name.decode(): value.decode() for name, value in event.headers}
            if "grpc-status" in headers:
                return int(headers["grpc-status"]), headers.get("grpc-message", "")
        raise AssertionError("an answer without a status")

    def close(self):
        self.socket.close()


def connect(certificates, port, begin=True):
    context = tls(certificates, "caller", False)
    sock = context.wrap_socket(socket.create_connection(("127.0.0.1", port), LIMIT), server_hostname="callee")
    end = End(sock, True)
    return end.begin() if begin else end


class Listener:
    """Accepts one connection at a time, as the server."""

    def __init__(self, certificates, name="callee"):
        self.context = tls(certificates, name, True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(LIMIT)
        self.port = self.listener.getsockname()[1]

    def accept_tcp(self):
        sock = self.listener.accept()[0]
        sock.settimeout(LIMIT)
        return sock

    def accept(self, begin=True):
        end = End(self.context.wrap_socket(self.accept_tcp(), server_side=True), False)
        return end.begin() if begin else end

    def close(self):
        self.listener.close()
