# SPDX-License-Identifier: Apache-2.0
"""What others notice of a flood at the proxy's endpoints: a pair that chats on `copy` of the
same worker, and honest parties that join over TLS.

   handshake_flood.py FOLDER [SECONDS [KIND...]]

One relay worker. `quiet` is no flood, the other kinds are those of flood.py among the functional
tests, from 127.0.0.2, as fast as one process makes it; the others are at 127.0.0.1. As root the
proxy and the pair run before everything else on the machine (SCHED_FIFO), so that what is measured
is the proxy's own delay. Best run in a network namespace of its own.
"""
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import time

from bench_stack import make_stack

import flood
import relay_stand
from relay_client import WireParty

KINDS = ["quiet", "plain", "half", "hello", "wrong"]


def hurry(pid):
    """Before all that is not hurried."""
    try:
        for task in os.listdir(f"/proc/{pid or os.getpid()}/task"):
            os.sched_setscheduler(int(task), os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        pass


def chat(one, other, seconds, result):
    """A byte there and one back, a thousand times a second; milliseconds of each."""
    hurry(0)
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


def accepted(relay):
    endpoint = relay.stack.p2pctl("status")["endpoint"]
    return endpoint["accepted"] + endpoint["tls"]["accepted"]


def measure(relay, kind, seconds, identity):
    here, there = multiprocessing.Pipe(False)
    token = relay.ticket()
    talker = multiprocessing.Process(target=chat, args=(relay.plain(token), relay.plain(token), seconds, there))
    pid = relay.stack.processes["proxy"].pid
    flooder = subprocess.Popen([sys.executable, flood.__file__, kind, *identity]) if kind != "quiet" else None
    try:
        time.sleep(2)  # the tables fill
        before, used, started = accepted(relay), cpu_seconds(pid), time.monotonic()
        talker.start()
        joins, failed = [], 0
        while not here.poll(0):
            try:
                joins.append(join(relay))
            except (OSError, EOFError, AssertionError):
                failed += 1
        elapsed = time.monotonic() - started
        rate, cores = (accepted(relay) - before - 2 * len(joins)) / elapsed, (cpu_seconds(pid) - used) / elapsed
    finally:
        if flooder:
            flooder.kill()
            flooder.wait()
    print(f"{kind:6} {rate:6.0f}/s  proxy {cores:4.2f} cores  chat ms {figures(here.recv())}  "
          f"join ms {figures(joins or [0])}  ({len(joins)} joins, {failed} failed)", flush=True)
    talker.join()
    relay.forget()
    time.sleep(2)  # what is half open has gone


def main():
    folder = pathlib.Path(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 5
    stack = make_stack(folder)
    identity = [str(folder / "stranger.crt"), str(folder / "stranger.key")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=stranger", "-days", "30",
                    "-out", identity[0], "-keyout", identity[1]], check=True, stderr=subprocess.DEVNULL)
    relay = relay_stand.Relay(stack, "relay:\n  workers: 1\n  planes: [copy]\n")
    hurry(stack.processes["proxy"].pid)
    try:
        for kind in sys.argv[3:] or KINDS:
            measure(relay, kind, seconds, identity)
    finally:
        relay.hyper.close()
        stack.stop()


if __name__ == "__main__":
    main()
