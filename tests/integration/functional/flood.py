# SPDX-License-Identifier: Apache-2.0
"""Floods of connections from an address of their own. Run as a program it goes on until it is
ended or nobody listens any more, at a low priority:

   flood.py plain|half|hello|wrong [CERTIFICATE KEY]

`plain` connects to the plain endpoint and says nothing, `half` does so at the TLS endpoint with a
part of a ClientHello; `hello` sends a whole one, for which the relay signs, and waits; `wrong` ends
the handshake with the certificate, which no root knows.
"""
import collections
import os
import resource
import socket
import ssl
import struct
import sys

ADDRESS = "127.0.0.2"
PLAIN_PORT, TLS_PORT = 9999, 9998
OPEN_MOST = 8500


def raise_file_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def client_hello():
    outgoing = ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="public-proxy-1.ga")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("nobody has answered")


def dial(port, data=b"", address=ADDRESS):
    one = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(address, 0))
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.sendall(data)
    return one


def stay_half_open(port, data):
    """Of too many the oldest are closed here."""
    held, most = collections.deque(), min(OPEN_MOST, raise_file_limit() - 100)
    while True:
        try:
            held.append(dial(port, data))
        except ConnectionRefusedError:
            return
        except OSError:
            continue
        if len(held) > most:
            held.popleft().close()


def end_wrongly(certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(certificate, key)
    while True:
        try:
            with context.wrap_socket(dial(TLS_PORT)) as one:
                one.recv(1)
        except ConnectionRefusedError:
            return
        except OSError:
            pass


def main(kind, *identity):
    os.nice(10)
    if kind == "plain":
        stay_half_open(PLAIN_PORT, b"")
    elif kind == "wrong":
        end_wrongly(*identity)
    else:
        hello = client_hello()
        stay_half_open(TLS_PORT, hello if kind == "hello" else hello[:100])


if __name__ == "__main__":
    main(*sys.argv[1:])
