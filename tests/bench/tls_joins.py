# SPDX-License-Identifier: Apache-2.0
"""What a join costs the proxy when both parties come over TLS and are handed off, and how much of it
is the handshake.

   tls_joins.py FOLDER [ROUNDS]

`proxy` lines: CPU time of the relay's workers for one join, by the kind of the proxy's own key (the
parties have RSA). `handshake` lines: CPU time of a server, in memory with this Python's OpenSSL, for
one handshake with a client that shows a chain of two certificates: whole, and resumed (TLS 1.3, a
ticket, with a fresh key exchange), which is what session tickets would make of it.
Best run in a network namespace of its own.
"""
import multiprocessing
import pathlib
import ssl
import statistics
import subprocess
import sys
import time

from bench_stack import make_stack

import relay_client
import relay_stand

JOINS, CLIENTS, HANDSHAKES = 60, 2, 80
NAME = "public-proxy-1.ga"


def worker_seconds(pid):
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().startswith("relay-"):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def make_ec_certificate(certs):
    """Of the proxy, beside its RSA one."""
    key, request, leaf = (certs / f"ec.{end}" for end in ("key", "csr", "leaf"))
    (certs / "ec.extensions").write_text(f"subjectAltName=DNS:{NAME}\n")
    for command in (f"ecparam -name prime256v1 -genkey -noout -out {key}",
                    f"req -new -key {key} -subj /CN={NAME} -out {request}",
                    f"x509 -req -in {request} -CA {certs}/intermediate.crt -CAkey {certs}/intermediate.key -days 30"
                    f" -set_serial 7 -extfile {certs}/ec.extensions -out {leaf}"):
        subprocess.run(["openssl", *command.split()], check=True, stderr=subprocess.DEVNULL)
    (certs / "ec.crt").write_text(leaf.read_text() + (certs / "intermediate.crt").read_text())


def join_all(certs, tokens):
    contexts = {name: relay_client.client_context(certs, name) for name in ("hd-1", "hd-2")}
    relay_client.client_context = lambda _certs, name, *_rest: contexts[name]
    for token in tokens:
        parties = [relay_client.Party(certs, name).hello(token) for name in ("hd-2", "hd-1")]
        for one in parties:
            assert one.answer().joined
        for one in parties:
            one.hand_off()
        for one in parties:
            one.close()


def measure_proxy(folder, key, rounds):
    stack = make_stack(folder)
    make_ec_certificate(stack.certs)
    chosen = "ec" if key == "ec" else NAME
    relay = relay_stand.Relay(stack, f"  relay_tls:\n    certificate_file: {stack.certs}/{chosen}.crt\n"
                              f"    key_file: {stack.certs}/{chosen}.key\n    ca_certificate_files: [{stack.certs}/root.crt]\n"
                              "relay:\n  workers: 1\n", token_timeout=10)
    pid, costs = stack.processes["proxy"].pid, []
    try:
        for _ in range(rounds):
            tokens = [relay.ticket() for _ in range(JOINS)]
            before = worker_seconds(pid)
            clients = [multiprocessing.Process(target=join_all, args=(stack.certs, tokens[n::CLIENTS])) for n in range(CLIENTS)]
            for one in clients:
                one.start()
            for one in clients:
                one.join()
            time.sleep(0.3)
            costs.append((worker_seconds(pid) - before) / JOINS * 1e6)
    finally:
        relay.hyper.close()
        stack.stop()
    cost = statistics.median(costs)
    print(f"proxy {key:3}  {cost:5.0f} us per join ({min(costs):.0f}-{max(costs):.0f}), {1e6 / cost:.0f} joins/s for a core", flush=True)
    return stack.certs


def shake(server, client, session=None):
    """The server's CPU time in microseconds, and the session for the next time."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server, server_hostname=NAME, session=session),
            server.wrap_bio(to_server, to_client, server_side=True)]
    spent, unfinished = [0, 0], {0, 1}
    while unfinished:
        for which in sorted(unfinished):
            started = time.thread_time_ns()
            try:
                ends[which].do_handshake()
                unfinished.discard(which)
            except ssl.SSLWantReadError:
                pass
            spent[which] += time.thread_time_ns() - started
    assert ends[0].session_reused == (session is not None)
    ends[1].write(b"x")
    ends[0].read(1)  # and the ticket before it
    return spent[1] / 1000, ends[0].session


def measure_handshakes(certs, key):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chosen = "ec" if key == "ec" else NAME
    server.load_cert_chain(certs / f"{chosen}.crt", certs / f"{chosen}.key")
    server.load_verify_locations(certs / "root.crt")
    server.verify_mode = ssl.CERT_REQUIRED
    client = relay_client.client_context(certs, "hd-1", ssl.TLSVersion.TLSv1_3)
    whole = [shake(server, client) for _ in range(HANDSHAKES)]
    session, resumed = whole[-1][1], []
    for _ in range(HANDSHAKES):
        spent, session = shake(server, client, session)
        resumed.append(spent)
    print(f"handshake {key:3}  whole {statistics.median(spent for spent, _ in whole):5.0f} us, "
          f"resumed {statistics.median(resumed):5.0f} us", flush=True)


def main():
    folder, rounds = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    print(ssl.OPENSSL_VERSION)
    for key in ("rsa", "ec"):
        certs = measure_proxy(folder, key, rounds)
        measure_handshakes(certs, key)


if __name__ == "__main__":
    main()
