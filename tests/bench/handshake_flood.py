# SPDX-License-Identifier: Apache-2.0
"""What others notice of a flood at the proxy's endpoints: a pair that chats on `copy` of the
same worker, and honest parties that join over TLS.

   handshake_flood.py FOLDER [SECONDS [KIND...]]

One relay worker. The flood comes from 127.0.0.2, as fast as one process makes it, at a low
priority: `quiet` is no flood; `plain` connects to the plain endpoint and says nothing, `half`
does so at the TLS endpoint with a part of a ClientHello; `hello` sends a whole one, for which
the relay signs, and waits; `wrong` ends the handshake with a certificate that no root knows.
The others are at 127.0.0.1. Best run in a network namespace of its own.
"""
import collections
import multiprocessing
import os
import pathlib
import socket
import ssl
import statistics
import subprocess
import sys
import time

from bench_stack import make_stack, stack_module

import relay_stand
from relay_client import WireParty

FLOODER = "127.0.0.2"
OPEN_MOST = 6000
KINDS = ["quiet", "plain", "half", "hello", "wrong"]


def client_hello():
    session = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out := ssl.MemoryBIO(), server_hostname="relay")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return out.read()


def flood_half_open(port, data, made):
    """Connections that go no further; of too many the oldest are closed here."""
    held = collections.deque()
    while True:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        one.bind((FLOODER, 0))
        try:
            one.connect(("127.0.0.1", port))
            one.sendall(data)
        except OSError:
            continue
        made.value += 1
        held.append(one)
        if len(held) > OPEN_MOST:
            held.popleft().close()


def flood_wrong(port, folder, made):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(folder / "stranger.crt", folder / "stranger.key")
    while True:
        try:
            raw = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(FLOODER, 0))
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            one = context.wrap_socket(raw)
            one.recv(1)
        except OSError:
            pass
        finally:
            raw.close()
        made.value += 1


def flood(kind, folder, made):
    os.nice(10)
    if kind == "plain":
        flood_half_open(stack_module.INTERNAL_PORT, b"", made)
    elif kind == "wrong":
        flood_wrong(stack_module.RELAY_TLS_PORT, folder, made)
    else:
        hello = client_hello()
        flood_half_open(stack_module.RELAY_TLS_PORT, hello if kind == "hello" else hello[:100], made)


def chat(one, other, seconds, result):
    """A byte there and one back, a thousand times a second; milliseconds of each."""
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.perf_counter()
        for source, target in ((one, other), (other, one)):
            source.sendall(b"x")
            target.recv(1)
        times.append((time.perf_counter() - started) * 1000)
        time.sleep(0.001)
    result.send(times)


def join(relay):
    """Milliseconds from dialling until both parties have been told."""
    token = relay.ticket()
    started = time.perf_counter()
    parties = [WireParty(relay.certs, name).hello(token) for name in ("hd-2", "hd-1")]
    for one in parties:
        assert one.answer().joined
    taken = (time.perf_counter() - started) * 1000
    for one in parties:
        one.close()
    return taken


def figures(times):
    times = sorted(times)
    return f"p50 {statistics.median(times):7.2f}  p99 {times[len(times) * 99 // 100]:7.2f}  most {times[-1]:8.2f}"


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(relay, kind, seconds, folder):
    made = multiprocessing.Value("q", 0, lock=False)
    flooder = multiprocessing.Process(target=flood, args=(kind, folder, made), daemon=True)
    here, there = multiprocessing.Pipe(False)
    token = relay.ticket()
    talker = multiprocessing.Process(target=chat, args=(relay.plain(token), relay.plain(token), seconds, there))
    pid = relay.stack.processes["proxy"].pid
    if kind != "quiet":
        flooder.start()
    time.sleep(1)  # the tables fill
    before, used, started = made.value, cpu_seconds(pid), time.monotonic()
    talker.start()
    joins, failed = [], 0
    while not here.poll(0):
        try:
            joins.append(join(relay))
        except (OSError, EOFError):
            failed += 1
    elapsed = time.monotonic() - started
    rate, share = (made.value - before) / elapsed, (cpu_seconds(pid) - used) / elapsed
    print(f"{kind:6} {rate:6.0f}/s  proxy {share:4.2f} cores  chat ms {figures(here.recv())}  "
          f"join ms {figures(joins or [0])}  ({len(joins)} joins, {failed} failed)", flush=True)
    if kind != "quiet":
        flooder.terminate()
        flooder.join()
    talker.join()
    relay.forget()
    time.sleep(2)  # what is half open has gone


def main():
    folder = pathlib.Path(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 5
    stack = make_stack(folder)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=stranger", "-days", "30",
                    "-keyout", folder / "stranger.key", "-out", folder / "stranger.crt"], check=True, stderr=subprocess.DEVNULL)
    relay = relay_stand.Relay(stack, "  rate_limit_loopback: false\nrelay:\n  workers: 1\n  planes: [copy]\n")
    try:
        for kind in sys.argv[3:] or KINDS:
            measure(relay, kind, seconds, folder)
    finally:
        relay.hyper.close()
        stack.stop()


if __name__ == "__main__":
    main()
