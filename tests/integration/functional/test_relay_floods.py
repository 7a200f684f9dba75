# SPDX-License-Identifier: Apache-2.0
"""Connections that go no further, from one address, at full tables: parties from another
address are joined as ever. Only the proxy runs, with one worker."""
import pathlib
import subprocess
import sys
import time

import pytest

import flood
import stack as stack_module
from relay_client import WireParty
from relay_stand import TLS_HELLO, Relay
from stack import wait_until

MORE = 300  # than there is room for


@pytest.fixture(scope="module")
def relay(made_certificates, tmp_path_factory):
    flood.raise_file_limit()
    one = Relay(stack_module.Stack(tmp_path_factory.mktemp("floods"), made_certificates),
                "relay:\n  workers: 1\n", token_timeout=30)
    try:
        yield one
        one.stack.check_alive()
    finally:
        one.hyper.close()
        one.stack.stop()


def rooms(relay):
    """Of connections without a token, and of half-open handshakes."""
    for line in pathlib.Path(f"/proc/{relay.stack.processes['proxy'].pid}/limits").read_text().splitlines():
        if line.startswith("Max open files"):
            most = min(8192, int(line.split()[3]) // 4)
            return most - min(1024, most // 2), min(1024, most // 2)
    raise AssertionError("no limit of files")


def reading(relay):
    return relay.stack.p2pctl("status")["endpoint"]["reading_token"]


def evicted(relay):
    """Counted, because log lines are held back in a flood."""
    return relay.stack.p2pctl("status")["endpoint"]["refused"].get("no-resources", 0)


def test_half_a_token_outlives_a_flood(relay):
    token, room, before = relay.ticket(), rooms(relay)[0], evicted(relay)
    parties = [relay.plain(token[:16]) for _ in range(2)]
    held = [flood.dial(flood.PLAIN_PORT) for _ in range(room + MORE)]
    wait_until(lambda: evicted(relay) >= before + MORE, 20, "evictions")
    relay.wait_for_log("no-resources", "most are from there", flood.ADDRESS)  # the first of them
    assert reading(relay) <= room
    for one in parties:
        one.sendall(token[16:])
    parties[0].sendall(b"one")
    parties[1].settimeout(10)
    assert parties[1].recv(3) == b"one"
    for one in held:
        one.close()
    relay.forget()


class SlowParty(WireParty):
    """Sends half of its ClientHello, and the rest when it is told to go on."""

    is_slow = True

    def flush(self, behind=b"", one_by_one=False):
        if not self.is_slow:
            return super().flush(behind, one_by_one)
        data = self.outgoing.read()
        self.socket.sendall(data[:100])
        self.rest, self.is_slow = data[100:], False
        raise InterruptedError

    def run(self, step):
        try:
            return super().run(step)
        except InterruptedError:
            return None

    def go_on(self):
        self.socket.sendall(self.rest)
        self.run(self.session.do_handshake)
        return self


def test_half_a_handshake_outlives_a_flood(relay):
    token, room, hello, before = relay.ticket(), rooms(relay)[1], flood.client_hello(), evicted(relay)
    parties = [relay.party(name, SlowParty) for name in ("hd-2", "hd-1")]
    held = [flood.dial(flood.TLS_PORT, hello) for _ in range(room + MORE)]
    wait_until(lambda: evicted(relay) >= before + MORE, 20, "evictions")
    assert reading(relay) <= room
    for one in parties:
        one.go_on().hello(token)
    for one in parties:
        assert one.answer().joined
    for one in held:
        one.close()
    relay.forget()


def plain_join(relay):
    token = relay.ticket()
    started = time.monotonic()
    one, other = relay.plain(token), relay.plain(token)
    one.sendall(b"one")
    other.settimeout(20)
    assert other.recv(3) == b"one"
    return time.monotonic() - started


def tls_join(relay):
    token = relay.ticket()
    started = time.monotonic()
    one, other = [relay.party(name).hello(token) for name in ("hd-2", "hd-1")]
    assert one.answer().joined and other.answer().joined
    one.hand_off()
    other.hand_off()
    one.send(TLS_HELLO)
    assert other.read_exactly(3) == TLS_HELLO
    return time.monotonic() - started


def median(relay, join):
    taken = sorted(join(relay) for _ in range(9))
    relay.forget()
    return taken[4]


@pytest.mark.parametrize("kind", ["plain", "half", "hello"])
@pytest.mark.parametrize("join", [plain_join, tls_join], ids=["plain-join", "tls-join"])
def test_joins_take_their_normal_time_in_a_flood(relay, kind, join):
    wait_until(lambda: reading(relay) < 100, 40, "the end of the flood before")
    usual = median(relay, join)
    room = rooms(relay)[kind != "plain"]
    flooder = subprocess.Popen([sys.executable, flood.__file__, kind])
    try:
        wait_until(lambda: reading(relay) > room * 0.9, 30, "full tables")
        taken = median(relay, join)
        assert flooder.poll() is None
        # Programs of the machine that the tests share come and go.
        assert taken < usual * 4 + 0.5, (usual, taken)
    finally:
        flooder.kill()
        flooder.wait()
