# SPDX-License-Identifier: Apache-2.0
"""Every error path that a caller can see when something on the way is missing
or refuses (protocol description, 7.7)."""
import base64
import json
import re
import socket
import threading
import time

import pytest

import hyperproto as proto
from peers import JsonRpcServer, PythonA, PythonB, PythonProxyServer
from stack import wait_until

DIALING = ('Channel {n} encountered an error delivering the message: error sending request: error performing gRPC call: '
           'rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing ')


def assert_dial_error(answer, pattern):
    assert answer.get("error"), answer
    error = answer["error"]
    assert error["code"] == 500 and error["data"] is None, answer
    assert error["message"].startswith(DIALING.format(n=2)), error["message"]
    text = error["message"][len(DIALING.format(n=2)):]
    assert re.search(pattern, text), text


def fresh(running):
    """Restarts hd-1 so that it keeps no connection from earlier tests."""
    running.stop("hd-1")
    running.start("hd-1")
    from stack import is_listening
    wait_until(lambda: is_listening(5555), 20, "hd-1")


def submit(running, name, section, data):
    path = running.folder / "records.json"
    path.write_text(json.dumps({"records": [{"name": name, "section": section, "data": data,
                                             "created_at": "2026-01-01T00:00:00Z"}]}))
    done = running.hyper("hd-1", "sd", "submit-records", str(path))
    assert done.returncode == 0, done.stderr


def services(running, name):
    done = running.hyper("hd-1", "sd", "get-entries", "--name", name)
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)
    return [dict(service, methods=[{"name": method["name"], "permissions": method["permissions"]}
                                   for method in service["methods"]]) for service in entries[0]["services"]]


@pytest.fixture
def changed_services(running):
    """Changes an operator's services for one test; daemons see it within 2 * cache time."""
    saved = {}

    def change(name, new):
        saved.setdefault(name, services(running, name))
        submit(running, name, "services", new)
    yield change
    for name, old in saved.items():
        submit(running, name, "services", old)
    fresh(running)
    running.wait_for_ping(30)


def ping_until(running, pattern, seconds=30):
    """Directory changes arrive with the caches: ping until the error is the expected one."""
    last = {}

    def right():
        last.clear()
        last.update(running.ping())
        return re.search(pattern, last.get("error", {}).get("message", ""))
    try:
        wait_until(right, seconds, f"an error like {pattern!r}")
    except AssertionError as error:
        raise AssertionError(f"{error}; last: {last}") from None
    return dict(last)


def wait_for_refused_request(running, pattern):
    """A kept connection hides the change from hd-1: ask as a Python caller until it has arrived everywhere."""
    a = PythonA(proto.Credentials(running.certs, "hd-1"))
    wait_until(lambda: re.search(pattern, a.request_connection("hd-2").error.message), 30, pattern)
    fresh(running)


def test_caller_may_not_request_connections(running, changed_services):
    changed_services("public-proxy-1.ga", [service for service in services(running, "public-proxy-1.ga")
                                           if service["name"] != "hd-proxy"])
    wait_for_refused_request(running, "Permission denied for method 'requestConnection'")
    answer = running.ping()
    assert_dial_error(answer, "Permission denied for method 'requestConnection' and client 'hd-1'")


def test_proxy_may_not_ask_the_callee(running, changed_services):
    changed_services("hd-2", [service for service in services(running, "hd-2")
                              if service["name"] != "connection-requests"])
    wait_for_refused_request(running, "Permission denied for method '_connectionRequest'")
    answer = running.ping()
    assert_dial_error(answer, "Permission denied for method '_connectionRequest' and client 'public-proxy-1.ga'")


def test_caller_may_not_call_the_method(running, changed_services):
    changed_services("hd-2", [service for service in services(running, "hd-2") if service["name"] != "internals"])
    answer = ping_until(running, "Permission denied for method '_ping'")
    assert answer["error"]["code"] == 403
    assert answer["error"]["message"] == "Permission denied for method '_ping' and client 'hd-1'"


def test_method_that_nobody_lists(running):
    answer = running.rpc(5555, "hd-2.nothing")
    assert answer.status == 400
    assert answer["error"]["code"] == 403
    assert answer["error"]["message"] == "Permission denied for method 'nothing' and client 'hd-1'"


def test_proxy_server_is_down(running):
    running.stop("proxy-hyper")
    fresh(running)
    answer = running.ping()
    assert_dial_error(answer, r"Channel 2 encountered an error .*Unavailable")
    running.start("proxy-hyper")
    running.wait_for_ping(30)


def test_proxy_daemon_is_down(running):
    running.stop("proxy")
    fresh(running)
    answer = running.ping()
    assert_dial_error(answer, r"Channel 3 encountered an error .*error calling JSON-RPC server")
    running.start("proxy")
    running.wait_for_ping(30)


def test_callee_has_no_reverse_stream(running):
    running.stop("hd-2")
    fresh(running)
    answer = ping_until(running, "no channel can deliver this request", 20)
    assert_dial_error(answer, "no channel can deliver this request")
    running.start("hd-2")
    running.wait_for_ping(30)


def test_recipient_without_an_entry(running):
    answer = running.rpc(5555, "nobody._ping")
    assert answer.status == 400
    assert answer["error"]["code"] == 1
    assert answer["error"]["message"] == \
        "error retrieving directory entry for recipient 'nobody': no directory entry found"


def test_operators_that_are_their_own_proxies(running):
    """The question for a connection would wait for that connection: it is not asked."""
    for name, proxy in {"loop-1": "loop-1", "loop-2": "loop-3", "loop-3": "loop-2"}.items():
        submit(running, name, "channels",
               [{"type": "grpc_server", "settings": {"address": "localhost:1", "proxy": proxy}}])

    fresh(running)  # reads the directory anew
    began = time.monotonic()
    for name, proxy in {"loop-1": "the operator itself as its proxy",
                        "loop-2": "loop-3 as its proxy, which is reachable only"}.items():
        text = running.ping(name)["error"]["message"]
        assert f"the directory entry of {name} is wrong: its grpc_server channel names {proxy}" in text, text
    assert time.monotonic() - began < 10
    running.check_alive()
    running.wait_for_ping()


def test_recipient_that_no_channel_reaches(running):
    """op-1 has only a certificates record in the dev directory: no channel at all."""
    answer = running.rpc(5555, "op-1._ping")
    assert answer["error"]["code"] == 1
    assert answer["error"]["message"] == "no channel can deliver this request"


def test_local_service_that_is_not_there(running):
    """jsonrpc_client of hd-1 leads to http on its own TLS port, which answers nothing useful."""
    answer = running.rpc(5555, "hd-1.service")
    assert answer["error"]["code"] == 500
    assert "error calling JSON-RPC server" in answer["error"]["message"]


def test_proxy_cannot_reach_its_server(running):
    """The proxy's own hyper is replaced by nobody while a Python caller asks the proxy directly."""
    running.stop("proxy-hyper")
    answer = running.rpc(6655, "requestConnection", {
        "to": "hd-2", "channel": "grpc_server",
        "_client": {"name": "hd-1", "entry": {"name": "hd-1", "channels": []}}}, name="public-proxy-1.ga")
    assert answer.status == 400
    assert answer["error"]["code"] == -32603 and answer["error"]["message"] == "internal error"
    assert running.p2pctl("tickets")["tickets"] == [], "a failed request must leave no ticket"
    running.start("proxy-hyper")
    running.wait_for_ping(30)


@pytest.fixture
def python_b(running):
    running.stop("hd-2")
    made = []

    def make(**arguments):
        made.append(PythonB(proto.Credentials(running.certs, "hd-2"), **arguments))
        return made[-1]
    yield make
    for one in made:
        one.close()
    running.start("hd-2")
    fresh(running)
    running.wait_for_ping(30)


def test_callee_refuses(running, python_b):
    python_b(refuse=(-100, "error handling internal request: cannot connect"))
    fresh(running)
    answer = ping_until(running, "error handling internal request", 20)
    assert_dial_error(answer, "error handling internal request: cannot connect")


def test_callee_does_not_know_the_proxy(running, python_b):
    python_b(refuse=(404, "no matching client found"))
    fresh(running)
    answer = ping_until(running, "no matching client found", 20)
    assert_dial_error(answer, "no matching client found")


def test_callee_never_dials(running, python_b):
    """B says yes but never comes: the caller's handshake fails when the ticket expires."""
    python_b(dial=False)
    fresh(running)
    answer = ping_until(running, "authentication handshake failed|Error while dialing", 40)
    assert answer["error"]["code"] == 500
    wait_until(lambda: "lonely" in running.log("proxy"), 20, "the outcome in the proxy's log")


def test_callee_with_the_wrong_certificate(running):
    """B's certificate chains to the root but is not the one of the directory."""
    running.stop("hd-2")
    b = PythonB(proto.Credentials(running.certs, "hd-2"))
    wrong = PythonB.__new__(PythonB)
    from concurrent import futures
    import grpc
    wrong_server = grpc.server(futures.ThreadPoolExecutor(4))
    wrong_server.add_generic_rpc_handlers((proto.Service(on_call=b.echo),))
    b.port = wrong_server.add_secure_port(
        "127.0.0.1:0", proto.Credentials(running.certs, "hd-2", "-alt").server_credentials())
    wrong_server.start()
    fresh(running)
    try:
        answer = ping_until(running, "handshake failed", 20)
        assert answer["error"]["code"] == 500
        assert not b.calls, "the call must not reach a callee with a wrong fingerprint"
    finally:
        del wrong
        wrong_server.stop(0)
        b.close()
        running.start("hd-2")
        fresh(running)
        running.wait_for_ping(30)


def test_caller_cannot_connect_to_the_endpoint(running):
    running.stop("proxy-hyper", "proxy")
    server = PythonProxyServer(proto.Credentials(running.certs, "public-proxy-1.ga"),
                               on_call=lambda message: proto.response(
                                   message.id, {"token": base64.b64encode(bytes(32)).decode(), "endpoint": "localhost:1"}))
    try:
        fresh(running)
        assert_dial_error(running.ping(), r"localhost:1|127\.0\.0\.1:1")
    finally:
        server.close()
        running.start("proxy-hyper", "proxy")
        running.wait_for_ping(30)


def test_token_that_the_relay_does_not_know(running):
    """As after a ticket that has expired or is used: the relay closes, the caller's handshake fails."""
    running.stop("proxy-hyper")
    server = PythonProxyServer(proto.Credentials(running.certs, "public-proxy-1.ga"),
                               on_call=lambda message: proto.response(message.id, {
                                   "token": base64.b64encode(bytes(32)).decode(), "endpoint": "localhost:9999"}))
    try:
        fresh(running)
        answer = running.ping()
        assert answer["error"]["code"] == 500 and answer["error"]["data"] is None, answer
        assert "transport: authentication handshake failed: " in answer["error"]["message"], answer
        assert "unknown-token" in running.log("proxy")
    finally:
        server.close()
        running.start("proxy-hyper")
        running.wait_for_ping(30)


@pytest.mark.parametrize("change, words", [
    ({"endpoint": "localhost:1"}, r"localhost:1"), ({"endpoint": None}, r"endpoint"),
    ({"token": base64.b64encode(bytes(31)).decode()}, r"token"), ({"channel": "quic"}, r"no channel accepted the request$")])
def test_callee_cannot_come(running, change, words):
    """Our own callee: its error goes back to the proxy over the reverse stream as it is."""
    params = {"channel": "grpc_server", "endpoint": "localhost:9999", "token": base64.b64encode(bytes(32)).decode(),
              "client": {"name": "hd-1", "entry": {"name": "hd-1", "channels": []}}}
    answer = running.rpc(5544, "hd-2._connectionRequest", params | change, name="public-proxy-1.ga")
    assert answer["error"]["code"] == -100, answer
    assert re.match(r"error handling internal request: .*" + words, answer["error"]["message"]), answer


@pytest.mark.parametrize("result", [
    {"token": "AAAA", "endpoint": "localhost:9999"}, {"endpoint": "localhost:9999"},
    {"token": base64.b64encode(bytes(32)).decode()}, {"token": "*", "endpoint": 5}, {}])
def test_proxy_answers_nonsense(running, result):
    running.stop("proxy-hyper")
    server = PythonProxyServer(proto.Credentials(running.certs, "public-proxy-1.ga"),
                               on_call=lambda message: proto.response(message.id, result))
    try:
        fresh(running)
        answer = running.ping()
        assert answer["error"]["code"] == 500, answer
    finally:
        server.close()
        running.start("proxy-hyper")
        running.wait_for_ping(30)


def test_proxy_that_cuts_after_five_seconds_costs_no_call(running, python_b):
    """Some proxies in service cut every relayed connection 5 s after accepting
    its socket. Callers that call all the time must not notice."""
    running.stop("proxy")
    internal = socket.create_server(("127.0.0.1", 9999))
    waiting, stop = {}, threading.Event()

    def cut(*sockets):
        stop.wait(4.99)
        for one in sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
                one.close()
            except OSError:
                pass

    def serve(connection):
        from peers import bridge
        token = connection.recv(32)
        threading.Thread(target=cut, args=(connection,), daemon=True).start()
        other = waiting.setdefault(token, connection)  # one step: both parties may be here at once
        if other is not connection:
            bridge(connection, other)

    def accept():
        while True:
            try:
                connection, _ = internal.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    b = python_b()

    def answer(call):
        token = base64.b64encode(__import__("os").urandom(32)).decode()
        hyper = running.rpc(5544, "hd-2._connectionRequest", {
            "channel": "grpc_server", "endpoint": "localhost:9999", "token": token,
            "client": {"name": "hd-1", "entry": {"name": "hd-1", "channels": []}}}, name="public-proxy-1.ga")
        return {"error": hyper["error"]} if "error" in hyper else {"result": {"token": token, "endpoint": "localhost:9999"}}
    stand_in = JsonRpcServer(6655, running.certs, "public-proxy-1.ga", answer)
    try:
        fresh(running)
        running.wait_for_ping(20)
        until = time.monotonic() + 14
        count = 0
        while time.monotonic() < until:
            answered = running.ping()
            assert "result" in answered, answered
            count += 1
        assert count > 50
        assert len(b.requests) >= 3, "connections were not renewed in time"
    finally:
        stand_in.close()
        internal.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
        internal.close()
        stop.set()
        running.start("proxy")
        running.wait_for_ping(30)
