# SPDX-License-Identifier: Apache-2.0
"""What p2pctl prints, against a stand-in for the proxy: names of any length and kind,
addresses of IPv6, answers that are none."""
import contextlib
import json
import socket
import subprocess
import threading

import pytest

from stack import BIN

ADDRESSES = ("[2001:db8:1111:2222:3333:4444:5555:6666]:65535", "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65534")
LONG = "an-operator-whose-name-is-much-longer-than-any-column-" + "x" * 70


@contextlib.contextmanager
def proxy_that_says(path, answer):
    """Answers every line with `answer`: a result, or bytes as they are."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(8)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, client.makefile("rb") as lines:
                    request = json.loads(lines.readline())
                    client.sendall(answer if isinstance(answer, bytes) else json.dumps(
                        {"jsonrpc": "2.0", "id": request["id"], "result": answer}).encode() + b"\n")
    threading.Thread(target=serve, daemon=True).start()
    try:
        yield str(path)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def p2pctl(*arguments, status=0):
    done = subprocess.run([str(BIN / "p2pctl"), *arguments], timeout=30, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if not status else done.stderr


def test_help_is_a_word_too():
    text = p2pctl("--help")
    assert "Commands:" in text and text == p2pctl("help") == p2pctl("help", "pair") == p2pctl("pair", "--help")


def pair_of(*names):
    return {"id": 7, "worker": 1, "age_ms": 61000, "plane": "sockmap", "plane_reason": "both are plain TCP",
            "parties": [{"operator": name, "address": address, "transport": "plain", "identified": False}
                        for name, address in zip(names, ADDRESSES)],
            "directions": [{"bytes": 10 ** 15, "packets": 2 ** 40, "spilled_bytes": 0, "redirected_bytes": 10 ** 15,
                            "gate": "open", "credit_bytes": 65536, "closings": {"credit": 2 ** 40, "memory": 2 ** 40}}] * 2}


def assert_aligned(table):
    """Each left-aligned heading stands right above the cells of its column."""
    headings, *rows = table
    for heading in ("FROM", "TO", "GATE"):
        at = headings.index(heading)
        for row in rows:
            assert row[at - 1] == " " and row[at] != " ", f"{heading} at {at}:\n" + "\n".join(table)


@pytest.mark.parametrize("names", [("hd-1", "hd-2"), (LONG, "b"), ("", "ünïcode-ö€"), (LONG, LONG + "2")])
def test_pairs_stay_aligned(tmp_path, names):
    with proxy_that_says(tmp_path / "s", {"pairs": [pair_of(*names), pair_of("a", "b")]}) as path:
        lines = p2pctl("-s", path, "pairs").splitlines()
    table = [line for line in lines if not line.startswith("      plane ")]
    assert len(table) == 5 and len(lines) == 7
    assert_aligned(table)
    assert ADDRESSES[0] in lines[1] and ADDRESSES[1] in lines[2]
    assert max(map(len, table)) < 230
    for name, line in zip(names, lines[1:]):
        assert (name[:32] or "unknown") in line


def test_a_pair_is_shown_with_whole_names(tmp_path):
    with proxy_that_says(tmp_path / "s", pair_of(LONG, "")) as path:
        text = p2pctl("-s", path, "pair", "7")
    assert f"{LONG} at {ADDRESSES[0]}" in text and f"{LONG} to unknown\n" in text and f"unknown to {LONG}\n" in text


def test_no_terminal_obeys_a_name(tmp_path):
    evil = "a\x1b[31mb\x9bc\r\nd\x7f"
    for command, answer in ((["pairs"], {"pairs": [pair_of(evil, "b")]}), (["pair", "7"], pair_of(evil, "b")),
                            (["tickets"], {"tickets": [{"id": 1, "requester": evil, "callee": evil, "state": "open"}]})):
        with proxy_that_says(tmp_path / command[0], answer) as path:
            text = p2pctl("-s", path, *command)
        assert "a?[31mb?c??d?" in text and not set(text) & set("\x1b\x9b\r\x7f")


def test_tickets_stay_aligned(tmp_path):
    tickets = [{"id": number, "requester": requester, "callee": callee, "state": state, "age_ms": 5, "expires_in_ms": 9000}
               for number, requester, callee, state in ((1, "hd-1", "hd-2", "asking"), (2, LONG, LONG, "waiting"), (3, "ö", "ü", "x"))]
    with proxy_that_says(tmp_path / "s", {"tickets": tickets}) as path:
        headings, *rows = p2pctl("-s", path, "tickets").splitlines()
    for heading in ("REQUESTER", "CALLEE", "STATE"):
        at = headings.index(heading)
        assert all(row[at - 1] == " " and row[at] != " " for row in rows), rows
    assert {len(row) for row in rows} == {len(headings)}


def test_the_probe_s_names_fit(tmp_path):
    names = ["bpf", "ktls-1.3-chacha20-poly1305", "ktls-1.2-aes-128-gcm"]
    probe = {"planes": {"sockmap": True}, "items": [{"name": name, "state": state, "sentence": "it was tried"} for name, state in
                                                    zip(names, ("yes", "forbidden", "no"))]}
    with proxy_that_says(tmp_path / "s", probe) as path:
        _, headings, *rows = p2pctl("-s", path, "probe").splitlines()
    at = headings.index("WHAT")
    for row, name in zip(rows, names):
        assert row.startswith(name + "  ")
        assert row[at:] == "it was tried" and row[at - 1] == " "
    assert rows[-1].startswith("Planes for pairs:") and "sockmap yes" in rows[-1]


@pytest.mark.parametrize("answer, words", [
    (b"", "closed"), (b"no json\n", "p2pctl: "), (b'{"jsonrpc":"2.0","id":"x","result":[]}\n', "p2pctl: "),
    (b'{"jsonrpc":"2.0","id":"1","error":{"code":-32601,"message":"method not found","data":null}}\n', "p2pctl: "),
    (b"x" * 100000 + b"\n", "p2pctl: ")])
def test_answers_that_are_none(tmp_path, answer, words):
    with proxy_that_says(tmp_path / "s", answer) as path:
        for command in ("status", "pairs", "tickets"):
            said = p2pctl("-s", path, command, status=1)
            assert said.startswith("p2pctl: ") and said.count("\n") == 1 and words in said, said


@pytest.mark.parametrize("answer", [{}, {"pairs": 5, "tickets": 5, "endpoint": 5}, {"pairs": [5], "tickets": [[]]},
                                    {"parties": [{}], "directions": [{}, {}]}])
def test_answers_without_what_was_asked_for(tmp_path, answer):
    with proxy_that_says(tmp_path / "s", answer) as path:
        for command in (["status"], ["pairs"], ["pair", "7"], ["tickets"], ["--json", "pairs"]):
            said = p2pctl("-s", path, *command, status=1)
            assert said == "p2pctl: the proxy's answer is not what it should be; is it another version?\n", said


def test_without_a_proxy(tmp_path):
    for command in (["status"], ["pairs"], ["pair", "1"], ["tickets"]):
        said = p2pctl("-s", str(tmp_path / "nobody"), *command, status=1)
        assert said == f"p2pctl: no proxy listens on {tmp_path}/nobody: start it, or name the socket of its settings\n"
    assert p2pctl("-s", str(tmp_path / "nobody"), "probe").startswith("Probed now, with the privileges of this command:\n")


@pytest.mark.parametrize("where", [">/dev/full", ">&-"])
def test_an_output_that_cannot_be_written_is_a_failure(tmp_path, where):
    with proxy_that_says(tmp_path / "s", {"pairs": [pair_of("a", "b")]}) as path:
        for flags in ("", "--json"):
            done = subprocess.run(["sh", "-c", f"exec {BIN}/p2pctl -s {path} {flags} pairs {where}"], timeout=30,
                                  stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
            assert done.returncode == 1 and done.stderr.startswith("p2pctl: cannot write its output: "), done


@pytest.mark.parametrize("arguments, words", [
    (["pair"], "it is `p2pctl pair ID`"), (["pair", "x"], "not the number of a pair"), (["pair", "-1"], ""),
    (["status", "5"], "it is `p2pctl status`"), (["dance"], "there is no command 'dance'"), ([], "say what you want to see")])
def test_unusable_command_lines(arguments, words):
    assert words in p2pctl(*arguments, status=2)
