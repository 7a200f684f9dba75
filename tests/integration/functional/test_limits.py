# SPDX-License-Identifier: Apache-2.0
"""Limits of the proxy, each with settings of its own and nothing else running."""
import base64
import pathlib
import socket

from peers import JsonRpcServer
from stack import is_listening, wait_until


def test_tickets_per_requester_are_limited(make_stack):
    stack = make_stack()
    (stack.overlay / "limits.yml").write_text("public:\n  max_tickets_per_operator: 2\n  accept_timeout: 60.0\n")
    hyper = JsonRpcServer(5544, stack.certs, "public-proxy-1.ga")
    try:
        stack.start("proxy")
        wait_until(lambda: is_listening(6655), 20, "the proxy")

        def ask(name):
            return stack.rpc(6655, "requestConnection", {
                "to": "hd-2", "channel": "grpc_server",
                "_client": {"name": name, "entry": {"name": name, "channels": []}}}, name="public-proxy-1.ga")
        assert "result" in ask("hd-1") and "result" in ask("hd-1")
        refusal = ask("hd-1")
        assert "error" in refusal, refusal
        assert "result" in ask("other"), "one requester must not use up the others' tickets"
        assert "hd-1" in stack.log("proxy")
    finally:
        hyper.close()


def test_rate_limits_apply_when_they_are_set(make_stack):
    stack = make_stack()
    (stack.overlay / "limits.yml").write_text(
        "public:\n  rate_limit_loopback: true\n  tcp_rate_limits!:\n    - type: hour\n      limit: 3\n")
    stack.start("proxy")
    wait_until(lambda: is_listening(6655), 20, "the proxy")
    wait_until(lambda: "9999" in stack.log("proxy"), 10, "the internal endpoint")
    connections = [socket.create_connection(("127.0.0.1", 9999)) for _ in range(6)]
    for one in connections:
        one.settimeout(0.3)
    closed = 0
    for one in connections:
        try:
            closed += one.recv(1) == b""
        except (socket.timeout, ConnectionResetError) as error:
            closed += isinstance(error, ConnectionResetError)
    assert closed == 3
    wait_until(lambda: "rate-limited" in stack.log("proxy"), 5, "a log line")


def test_a_running_proxy_has_given_its_privileges_up(make_stack):
    stack = make_stack()
    stack.start("proxy")
    wait_until(lambda: "privileges given up" in stack.log("proxy"), 20, "a log line")
    tasks = pathlib.Path(f"/proc/{stack.processes['proxy'].pid}/task")

    def loose():  # threads of the relay do it first thing when they run
        found = []
        for task in tasks.iterdir():
            facts = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines() if ":" in line)
            resource = 1 << 24  # CAP_SYS_RESOURCE, for pipes, where the proxy was given it
            if int(facts["CapPrm"], 16) & ~resource or facts["NoNewPrivs"].strip() != "1":
                found.append(task.name)
        return found
    assert len(list(tasks.iterdir())) > 1
    wait_until(lambda: not loose(), 5, "all threads without privileges")


def test_pairs_per_requester_are_limited(make_stack):
    stack = make_stack()
    (stack.overlay / "limits.yml").write_text("public:\n  max_pairs_per_operator: 1\n")
    hyper = JsonRpcServer(5544, stack.certs, "public-proxy-1.ga")
    try:
        stack.start("proxy")
        wait_until(lambda: is_listening(6655) and is_listening(9999), 20, "the proxy")

        def ask(name):
            return stack.rpc(6655, "requestConnection", {
                "to": "hd-2", "channel": "grpc_server",
                "_client": {"name": name, "entry": {"name": name, "channels": []}}}, name="public-proxy-1.ga")
        answer = ask("hd-1")
        token = base64.b64decode(answer["result"]["token"])
        parties = [socket.create_connection(("127.0.0.1", 9999)) for _ in range(2)]
        for party in parties:
            party.sendall(token)
        parties[0].sendall(b"hello")
        assert parties[1].recv(5) == b"hello"
        refusal = ask("hd-1")
        assert refusal["error"]["code"] == 429, refusal
        assert "too many connections of this operator" in refusal["error"]["message"], refusal
        assert "result" in ask("other"), "one requester must not use up the others' pairs"
        for party in parties:
            party.close()
        wait_until(lambda: "result" in ask("hd-1"), 10, "a pair's end gives its place back")
    finally:
        hyper.close()
