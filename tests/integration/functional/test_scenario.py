# SPDX-License-Identifier: Apache-2.0
"""The main scenario: a ping from hd-1 to hd-2 that only the relay can carry."""
import json
import os
import subprocess

import pytest

from stack import ALL, BIN, TOP, is_listening, wait_until

VECTOR = json.loads((TOP / "tests" / "vectors" / "ping-answer.json").read_text())
VECTOR["result"]["version"] = "development"  # the recording was made with a marked build


def shape(value, key=None):
    """The answer with everything that differs from run to run blanked out."""
    if key in ("timestamp", "created_at", "hash", "parent_hash", "r", "s", "c", "fingerprint"):
        assert isinstance(value, str) and (value or key == "parent_hash"), key
        return f"<{key}>"
    if isinstance(value, dict):
        return {name: shape(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return value


@pytest.mark.parametrize("order", [
    ["sd", "proxy", "proxy-hyper", "hd-1", "hd-2", "SETUP"],
    ["hd-2", "hd-1", "proxy-hyper", "proxy", "sd", "SETUP"],
    ["hd-1", "hd-2", "sd", "SETUP", "proxy", "proxy-hyper"],
    ["sd", "SETUP", "hd-2", "hd-1", "proxy-hyper", "proxy"],
    ["proxy-hyper", "hd-2", "sd", "proxy", "SETUP", "hd-1"],
], ids=lambda order: "-".join(order))
def test_ping_is_answered_in_any_start_order(stack, order):
    for what in order:
        stack.setup_directory() if what == "SETUP" else stack.start(what)
    answer = stack.wait_for_ping(30)
    assert shape(answer) == shape(VECTOR)
    stack.check_alive()
    stack.stop()


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors_do_not_turn_into_the_data_file(stack, closed):
    """The log would go into it otherwise."""
    process = subprocess.Popen(["sh", "-c", f"exec {BIN}/sd run {closed}"],
                               env=dict(os.environ, SD_SETTINGS=str(stack.settings / "roles" / "sd-1")))
    try:
        wait_until(lambda: is_listening(3322), 20, "sd listening")
        assert os.readlink(f"/proc/{process.pid}/fd/2") == "/dev/null"
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert (stack.settings / "data" / "sd-1.records").read_bytes() == b""


def test_answer_text_is_compact_with_sorted_maps(running):
    status, body = running.http(5555, {"jsonrpc": "2.0", "method": "hd-2._ping", "params": {}, "id": 7})
    assert status == 200
    answer = json.loads(body)
    assert answer["id"] == 7
    assert b'": ' not in body and b'", ' not in body
    assert list(answer["result"]) == sorted(answer["result"])


def test_params_travel_to_the_callee_and_back(running):
    params = {"a": [1, 2.5, None, True, {"b": "ü", "empty": {}}], "n": 12345678901, "small": 1e-7}
    answer = running.rpc(5555, "hd-2._ping", params)
    echoed = answer["result"]["params"]
    assert echoed.pop("_client")["name"] == "hd-1"
    assert echoed == params


def test_the_other_way_round(running):
    answer = running.wait_for_ping(20, target="hd-1", port=3334)
    assert answer["result"]["serverInfo"]["name"] == "hd-1"


def test_pair_is_seen_with_operators_plane_and_redirected_bytes(running):
    for _ in range(5):
        assert "result" in running.ping()
    probe = running.p2pctl("probe")
    pairs = [pair for pair in running.p2pctl("pairs")["pairs"]
             if sorted(party["operator"] for party in pair["parties"]) == ["hd-1", "hd-2"]]
    assert pairs, "no pair with both operators"
    pair = pairs[-1]
    if not probe["planes"]["sockmap"]:
        pytest.skip("this kernel accepts no sockmap: " + json.dumps(probe))
    assert pair["plane"] == "sockmap", pair
    assert all(direction["redirected_bytes"] > 0 for direction in pair["directions"]), pair


def test_no_token_is_logged(running):
    logs = "".join(running.log(name) for name in ALL)
    assert "requestConnection" in logs or "hd-2" in logs
    import re
    assert not re.search(r"[A-Za-z0-9+/]{43}=", logs), "something that looks like a token was logged"
    assert "PRIVATE KEY" not in logs


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_ping_works_again_after_a_daemon_was_restarted(running, name, kill):
    running.wait_for_ping(20)
    running.stop(name, kill=kill)
    running.start(name)
    running.wait_for_ping(25)
    running.check_alive()


def test_calls_during_restarts_fail_or_are_right(running):
    """While the proxy restarts, callers get an answer or an error, in bounded time."""
    running.wait_for_ping(20)
    running.stop("proxy", kill=True)
    answer = running.ping()
    assert "result" in answer or answer["error"]["code"] == 500, answer
    running.start("proxy")
    running.wait_for_ping(25)


def test_check_says_that_the_dev_settings_are_fine(stack):
    from stack import COMMANDS
    import os
    for variable, role, command in COMMANDS.values():
        environment = dict(os.environ)
        environment[variable] = str(stack.settings / "roles" / role)
        done = subprocess.run([str(BIN / command[0]), *command[1:], "--check"], env=environment, timeout=20,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
        assert "warn" not in done.stdout.lower(), done.stdout


def test_second_daemon_on_a_taken_port_fails_with_its_name(stack):
    stack.start("sd")
    wait_until(lambda: is_listening(3322), 20, "sd listening")
    environment = dict(os.environ, SD_SETTINGS=str(stack.settings / "roles" / "sd-1"))
    done = subprocess.run([str(BIN / "sd"), "run"], env=environment, timeout=20, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 1
    assert "3322" in done.stdout or "records" in done.stdout
