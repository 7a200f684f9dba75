# SPDX-License-Identifier: Apache-2.0
"""How relayed connections between our own programs end: in order, so that the
proxy's log says `happy`, not `reset-by-party`."""
import re

import pytest

from stack import ALL, Stack, wait_until


@pytest.fixture(scope="module")
def short_idle(made_certificates, tmp_path_factory):
    """The whole stack; hd-1 closes connections after a second without a call."""
    one = Stack(tmp_path_factory.mktemp("ends"), made_certificates)
    role = one.settings / "roles" / "hd-1" / "settings.yml"
    text = role.read_text()
    role.write_text(text.replace("useProxy: true\n", "useProxy: true\n      idle_timeout: 1\n"))
    assert role.read_text() != text
    one.start(*ALL)
    try:
        one.setup_directory()
        one.wait_for_ping()
        yield one
        one.check_alive()
    finally:
        one.stop(kill=True)


def pairs(stack):
    return [pair for pair in stack.p2pctl("pairs")["pairs"]
            if sorted(party["operator"] for party in pair["parties"]) == ["hd-1", "hd-2"]]


def expect_happy_end(stack, end):
    """A pair of hd-1 and hd-2 that is open now ends happily when `end()` has been called."""
    stack.wait_for_ping()
    identifier = pairs(stack)[-1]["id"]
    end()

    found = wait_until(lambda: re.search(rf"pair {identifier} ended .*", stack.log("proxy")), 30,
                       f"the end of pair {identifier}")
    assert found[0].startswith(f"pair {identifier} ended happy: "), found[0]


def test_an_idle_connection_ends_happily(short_idle):
    expect_happy_end(short_idle, lambda: None)


@pytest.mark.parametrize("name", ["hd-1", "hd-2"])
def test_a_stopped_server_ends_its_connections_happily(short_idle, name):
    expect_happy_end(short_idle, lambda: short_idle.stop(name))
    short_idle.start(name)
    short_idle.wait_for_ping()
