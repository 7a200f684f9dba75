# SPDX-License-Identifier: Apache-2.0
"""Our programs against independent Python parties: two programs of one author
that agree with each other prove nothing."""
import base64
import socket
import threading

import grpc
import pytest

import hyperproto as proto
from peers import PythonA, PythonB, PythonProxyServer, dial_relay
from stack import wait_until


def credentials(stack, name):
    return proto.Credentials(stack.certs, name)


@pytest.fixture
def python_b(running):
    """hd-2 played by Python; our hd-2 is down meanwhile."""
    running.stop("hd-2")
    made = []

    def make(**arguments):
        made.append(PythonB(credentials(running, "hd-2"), **arguments))
        return made[-1]
    yield make
    for one in made:
        one.close()
    running.start("hd-2")
    running.wait_for_ping(30)


# ---- plain gRPC ----

def test_python_client_calls_our_server_directly(running):
    with credentials(running, "hd-1").channel("localhost:8889", "hd-2") as channel:
        answer = proto.call(channel)(proto.request("hd-2._ping(abc)", "hd-1", {"x": [1, "two", None]}), timeout=10)
    assert answer.id == "hd-2._ping(abc)"
    result = proto.from_struct(answer.result)
    assert result["serverInfo"]["name"] == "hd-2"
    assert result["params"]["x"] == [1, "two", None]
    assert result["params"]["_client"]["name"] == "hd-1"


def test_client_info_that_a_caller_sends_is_overwritten(running):
    forged = {"_client": {"name": "public-proxy-1.ga", "entry": {"groups": ["sd-admin"]}}}
    with credentials(running, "hd-1").channel("localhost:8889", "hd-2") as channel:
        answer = proto.call(channel)(proto.request("hd-2._ping(1)", "hd-1", forged), timeout=10)
    assert proto.from_struct(answer.result)["params"]["_client"]["name"] == "hd-1"


def test_empty_client_name_selects_the_first_identity(running):
    with credentials(running, "hd-1").channel("localhost:8889", "hd-2") as channel:
        answer = proto.call(channel)(proto.request("hd-2._ping(1)", "", {}), timeout=10)
    assert proto.from_struct(answer.result)["params"]["_client"]["name"] == "hd-1"


def test_foreign_client_name_is_refused(running):
    with credentials(running, "hd-1").channel("localhost:8889", "hd-2") as channel:
        with pytest.raises(grpc.RpcError) as error:
            proto.call(channel)(proto.request("hd-2._ping(1)", "public-proxy-1.ga", {}), timeout=10)
    assert error.value.code() == grpc.StatusCode.UNKNOWN
    assert error.value.details() == "no matching client found" or error.value.details() == "no matching client"


def test_method_that_is_not_permitted_is_a_403_response(running):
    with credentials(running, "public-proxy-1.ga").channel("localhost:8889", "hd-2") as channel:
        answer = proto.call(channel)(proto.request("hd-2._ping(1)", "public-proxy-1.ga", {}), timeout=10)
    assert answer.error.code == 403
    assert answer.error.message == "Permission denied for method '_ping' and client 'public-proxy-1.ga'"


def test_address_that_cannot_be_parsed_is_a_grpc_error(running):
    with credentials(running, "hd-1").channel("localhost:8889", "hd-2") as channel:
        with pytest.raises(grpc.RpcError) as error:
            proto.call(channel)(proto.request("nonsense", "hd-1", {}), timeout=10)
    assert error.value.code() == grpc.StatusCode.UNKNOWN
    assert error.value.details() == "error handling gRPC request: error parsing address: invalid ID format"


def test_request_for_a_third_operator_is_refused(running):
    with credentials(running, "hd-1").channel("localhost:8889", "hd-2") as channel:
        try:
            answer = proto.call(channel)(proto.request("public-proxy-1.ga._ping(1)", "hd-1", {}), timeout=10)
            assert answer.HasField("error")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNKNOWN


def test_unknown_grpc_method(running):
    with credentials(running, "hd-1").channel("localhost:8889", "hd-2") as channel:
        method = channel.unary_unary("/Hyper/Nothing", proto.Request.SerializeToString, proto.Response.FromString)
        with pytest.raises(grpc.RpcError) as error:
            method(proto.request("hd-2._ping(1)", "hd-1", {}), timeout=10)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_certificate_outside_the_directory_is_refused(running):
    """`-alt` certificates chain to the root but are not pinned."""
    alt = proto.Credentials(running.certs, "hd-1", "-alt")
    with alt.channel("localhost:8889", "hd-2") as channel:
        with pytest.raises(grpc.RpcError) as error:
            proto.call(channel)(proto.request("hd-2._ping(1)", "hd-1", {}), timeout=10)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    wait_until(lambda: "no name matched" in running.log("hd-2") or "fingerprint" in running.log("hd-2"), 5,
               "a log line with the reason")


def test_concurrent_calls_share_a_connection(running):
    with credentials(running, "hd-1").channel("localhost:8889", "hd-2") as channel:
        futures = [proto.call(channel).future(proto.request(f"hd-2._ping({n})", "hd-1", {"n": n}), timeout=20)
                   for n in range(64)]
        for n, future in enumerate(futures):
            assert proto.from_struct(future.result().result)["params"]["n"] == n


def test_reverse_stream_with_a_foreign_name_is_refused(running):
    with credentials(running, "hd-1").channel("localhost:5556", "public-proxy-1.ga") as channel:
        stream = proto.server_call(channel)(iter([proto.response("1", {"name": "hd-2"})]))
        with pytest.raises(grpc.RpcError) as error:
            next(stream)
    assert error.value.code() == grpc.StatusCode.UNKNOWN
    assert error.value.details() == "invalid client name supplied"


# ---- the whole of 7.2 ----

def test_python_a_reaches_our_callee_through_our_proxy(running):
    answer = PythonA(credentials(running, "hd-1")).call("hd-2", "_ping", {"hello": "relay"})
    result = proto.from_struct(answer.result)
    assert result["serverInfo"]["name"] == "hd-2"
    assert result["params"]["hello"] == "relay"


def test_our_caller_reaches_python_b_through_our_proxy(running, python_b):
    b = python_b()
    answer = running.wait_for_ping(20, params={"n": 5})
    assert answer["result"]["by"] == "hd-2"
    assert answer["result"]["echo"]["n"] == 5
    assert b.calls[-1].id.startswith("hd-2._ping(")
    assert b.calls[-1].clientName == "hd-1"
    params = proto.from_struct(b.requests[0].params)
    assert params["channel"] == "grpc_server" and params["client"]["name"] == "hd-1"
    assert params["_client"]["name"] == "public-proxy-1.ga"
    assert b.requests[0].clientName == "public-proxy-1.ga"


def test_python_a_reaches_python_b_through_our_proxy(running, python_b):
    python_b()
    a = PythonA(credentials(running, "hd-1"))

    def registered():
        return not a.request_connection("hd-2").HasField("error")
    wait_until(registered, 20, "the reverse stream of Python B")
    answer = a.call("hd-2", "anything", {"big": "x" * 300000})
    assert proto.from_struct(answer.result)["echo"]["big"] == "x" * 300000


def test_our_caller_shares_one_relayed_connection(running, python_b):
    b = python_b()
    running.wait_for_ping(20)
    before = len(b.requests)
    results = []
    # Equal ids over connections of their own: local programs know nothing of each other.
    threads = [threading.Thread(target=lambda: results.append(running.ping())) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("result" in one for one in results), results
    assert len(b.requests) - before <= 1, "each call asked for a connection of its own"


def test_our_callee_with_a_python_proxy_server(running):
    """Our hd-2 keeps its stream to a Python stand-in and answers over it; a
    recorded `_connectionRequest` makes it dial and show the token in one piece."""
    running.stop("proxy-hyper", "proxy")
    listener = socket.create_server(("127.0.0.1", 9999))
    server = PythonProxyServer(credentials(running, "public-proxy-1.ga"))
    try:
        _, _, announced = server.wait_for_stream("hd-2", 20)
        assert announced.id == "1" and proto.from_struct(announced.result) == {"name": "hd-2"}
        token = bytes(range(32))
        params = {"channel": "grpc_server", "endpoint": "localhost:9999", "token": base64.b64encode(token).decode(),
                  "client": {"name": "hd-1", "entry": {"name": "hd-1", "channels": []}}}
        dialled = []

        def accept():
            connection, _ = listener.accept()
            dialled.append(connection.recv(4096))
            dialled.append(connection)
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        answer = server.ask("hd-2", proto.request("hd-2._connectionRequest(77)", "public-proxy-1.ga", params))
        assert answer.id == "hd-2._connectionRequest(77)"
        assert not answer.HasField("error") and not answer.HasField("result"), answer
        thread.join(10)
        assert dialled[0] == token, "the token must come alone, in one piece, before any TLS"
        # What came out of the socket is a TLS server for hd-2.
        a = PythonA(credentials(running, "hd-1"))
        result = a.call_over(dialled[1], "hd-2", "hd-2._ping(9)", {})
        assert proto.from_struct(result.result)["serverInfo"]["name"] == "hd-2"
        # Requests over the stream are answered in order, with results (not only over Call).
        other = server.ask("hd-2", proto.request("hd-2._ping(2)", "public-proxy-1.ga", {}))
        assert other.error.code == 403
        for broken, text in (({"channel": "grpc_server"}, "error handling internal request"),
                             (dict(params, token="AAAA"), "error handling internal request"),
                             (dict(params, channel="quic"), "no channel accepted the request"),
                             (dict(params, endpoint="localhost:1"), "error handling internal request")):
            answer = server.ask("hd-2", proto.request("hd-2._connectionRequest(78)", "public-proxy-1.ga", broken))
            assert answer.error.code == -100 and text in answer.error.message, answer
        answer = server.ask("hd-2", proto.request("hd-2._ping(3)", "hd-1", {}))
        assert answer.error.code == 404 and "no matching client" in answer.error.message
    finally:
        server.close()
        listener.close()
        running.start("proxy-hyper", "proxy")
        running.wait_for_ping(30)


def test_our_caller_with_a_python_proxy_server(running):
    """Our hd-1 asks a Python stand-in for a connection: what it sends, and that
    it shows the token alone and then speaks TLS with the callee's name."""
    running.stop("proxy-hyper", "proxy")
    token = bytes(reversed(range(32)))
    listener = socket.create_server(("127.0.0.1", 0))
    endpoint = f"localhost:{listener.getsockname()[1]}"
    server = PythonProxyServer(credentials(running, "public-proxy-1.ga"), on_call=lambda message: proto.response(
        message.id, {"token": base64.b64encode(token).decode(), "endpoint": endpoint}))
    try:
        answers = []
        thread = threading.Thread(target=lambda: answers.append(running.ping()), daemon=True)
        thread.start()
        call = server.calls.get(timeout=20)
        assert call.clientName == "hd-1" and call.method == "public-proxy-1.ga.requestConnection"
        import re
        assert re.fullmatch(r"public-proxy-1\.ga\.requestConnection\([0-9a-f]{16}\)", call.id)
        params = proto.from_struct(call.params)
        assert params["to"] == "hd-2" and params["channel"] == "grpc_server"
        assert params["_client"]["name"] == "hd-1" and len(params["_client"]["entry"]["records"]) == 5
        listener.settimeout(20)
        connection, _ = listener.accept()
        connection.settimeout(20)
        first = b""
        while len(first) < 32 + 200:  # MSG_WAITALL does nothing on a socket with a timeout
            some = connection.recv(32 + 200 - len(first))
            assert some, f"{len(first)} bytes, then the end"
            first += some
        assert first[:32] == token
        assert first[32:35] == b"\x16\x03\x01" and b"hd-2" in first[32:]
        connection.close()
        thread.join(30)
        assert answers[0]["error"]["code"] == 500
        assert "transport: authentication handshake failed" in answers[0]["error"]["message"]
    finally:
        server.close()
        listener.close()
        running.start("proxy-hyper", "proxy")
        running.wait_for_ping(30)


def test_relay_survives_longer_than_five_seconds(running):
    """Deadlines of the joining phase are gone once joined."""
    a = PythonA(credentials(running, "hd-1"))
    result = proto.from_struct(a.request_connection("hd-2").result)
    connection = dial_relay(result["endpoint"], base64.b64decode(result["token"]))
    done = threading.Event()
    assert not done.wait(12)
    answer = a.call_over(connection, "hd-2", "hd-2._ping(late)", {})
    assert proto.from_struct(answer.result)["serverInfo"]["name"] == "hd-2"
