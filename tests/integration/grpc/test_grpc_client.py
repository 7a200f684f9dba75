# SPDX-License-Identifier: Apache-2.0
"""Our client with gRPC's own Python server (C core) as the callee."""
import queue
import threading
import time
from concurrent import futures

import grpc
import pytest
from grpc_kit import LIMIT, calling_peer


class Service(grpc.GenericRpcHandler):
    def __init__(self, messages):
        self.messages = messages
        self.announced = queue.Queue()
        self.to_send = queue.Queue()
        self.answers = queue.Queue()
        self.metadata = None
        self.called = threading.Event()
        self.released = threading.Event()

    def service(self, details):
        self.metadata = {name: value for name, value in details.invocation_metadata}
        self.called.set()
        if details.method == "/Hyper/Call":
            return grpc.unary_unary_rpc_method_handler(
                self.call, self.messages.Request.FromString, lambda answer: answer
            )
        if details.method == "/Hyper/ServerCall":
            return grpc.stream_stream_rpc_method_handler(
                self.server_call, self.messages.Response.FromString, self.messages.Request.SerializeToString
            )
        return None

    def call(self, request, context):
        word = request.method.rsplit(".", 1)[-1]
        response = self.messages.Response(id=request.id)
        if word == "fail":
            context.abort(grpc.StatusCode.UNKNOWN, "100% of ü\nnext €")
        elif word == "hold":
            self.released.wait(LIMIT)
        elif word == "error":
            response.error.code = -100
            response.error.message = "no"
        elif word == "large":
            response.result.fields["text"].string_value = "y" * int(request.params.fields["size"].number_value)
        elif word == "garbage":
            return b"\xff\xff\xff"
        else:
            response.result.CopyFrom(request.params)
        return response.SerializeToString()

    def server_call(self, answers, context):
        self.announced.put(next(answers))

        def read():
            try:
                for answer in answers:
                    self.answers.put(answer)
            except grpc.RpcError:
                pass
            self.to_send.put(None)

        threading.Thread(target=read, daemon=True).start()
        for request in iter(self.to_send.get, None):
            if isinstance(request, str):
                context.abort(grpc.StatusCode.UNKNOWN, request)
            yield request


class Server:
    def __init__(self, certificates, messages, name="callee"):
        certificate, key, root = certificates.pem(name)
        self.service = Service(messages)
        self.pool = futures.ThreadPoolExecutor(120)
        self.server = grpc.server(
            self.pool,
            options=[("grpc.max_receive_message_length", 8 << 20), ("grpc.max_send_message_length", 8 << 20)],
        )
        self.server.add_generic_rpc_handlers((self.service,))
        credentials = grpc.ssl_server_credentials([(key, certificate)], root, True)
        self.port = self.server.add_secure_port("127.0.0.1:0", credentials)
        self.server.start()

    def wait_for_call(self):
        assert self.service.called.wait(LIMIT), "no call has arrived"


@pytest.fixture
def callee(certificates, messages):
    server = Server(certificates, messages)
    yield server
    server.service.released.set()
    server.service.to_send.put(None)
    server.server.stop(None).wait(LIMIT)


@pytest.fixture
def peer(certificates, callee):
    peer = calling_peer(certificates, callee.port)
    assert peer.wait("ready")["server"] == "callee"
    yield peer
    peer.stop()


def test_a_call_is_answered(peer, callee):
    params = {"text": "grüß € 🌍", "null": None, "list": [1.0, [], {"x": [None, True]}], "n": -0.5, "": ""}
    peer.call("callee.echo", params=params)
    event = peer.wait("done")
    assert event["status"] == "OK"
    assert event["response"] == {"id": "callee.echo(0)", "result": params}
    assert callee.service.metadata["user-agent"]


def test_a_failure_brings_status_and_message(peer):
    peer.call("callee.fail")
    event = peer.wait("done")
    assert (event["status"], event["message"]) == ("Unknown", "100% of ü\nnext €")
    assert not event["undelivered"]


def test_errors_carry_negative_codes(peer):
    peer.call("callee.error")
    assert peer.wait("done")["response"]["error"] == {"code": -100, "message": "no", "data": None}


def test_messages_of_nearly_four_mebibytes_pass_both_ways(peer):
    size = (4 << 20) - 200
    peer.call("callee.echo", size=size)
    assert len(peer.wait("done")["response"]["result"]["text"]) == size


def test_a_larger_response_is_refused_and_the_connection_lives(peer):
    peer.call("callee.large", params={"size": 5 << 20})
    event = peer.wait("done")
    assert event["status"] == "ResourceExhausted" and "larger than max" in event["message"]
    peer.call("callee.echo", params={"a": 1})
    assert peer.wait("done")["status"] == "OK"


def test_a_response_that_is_no_message_is_internal(peer):
    peer.call("callee.garbage")
    assert peer.wait("done")["status"] == "Internal"


def test_a_hundred_calls_at_once(peer):
    for number in range(100):
        peer.call("callee.echo", number, params={"n": number, "text": "x" * 17000})
    done = {}
    for _ in range(100):
        event = peer.wait("done")
        assert event["status"] == "OK"
        done[event["number"]] = event["response"]["result"]["n"]
    assert done == {number: float(number) for number in range(100)}


def test_a_deadline_cancels_the_call(peer):
    peer.call("callee.hold", timeout_ms=200)
    event = peer.wait("done")
    assert (event["status"], event["message"]) == ("DeadlineExceeded", "context deadline exceeded")
    peer.call("callee.echo")
    assert peer.wait("done")["status"] == "OK"


def test_a_stopping_server_lets_the_open_call_end(peer, callee):
    peer.call("callee.hold")
    callee.wait_for_call()
    callee.server.stop(LIMIT)
    end = time.monotonic() + LIMIT
    number = 0
    while True:  # until GOAWAY has arrived
        number += 1
        peer.call("callee.echo", number)
        event = peer.wait("done")
        if event["status"] != "OK":
            break
        assert time.monotonic() < end
    assert event["undelivered"]
    callee.service.released.set()
    event = peer.wait("done")
    assert event["number"] == 0 and event["status"] == "OK"
    peer.wait("closed")


def test_a_server_that_dies_ends_calls_and_connection(peer, callee):
    peer.call("callee.hold")
    callee.wait_for_call()
    callee.server.stop(0)
    event = peer.wait("done")
    assert event["status"] in ("Unavailable", "Canceled", "Unknown")
    assert peer.wait("closed")["reason"]


def test_requests_come_over_the_reverse_stream(peer, callee, messages):
    peer.do("reverse", name="caller")
    announcement = callee.service.announced.get(timeout=LIMIT)
    assert announcement.id == "1" and announcement.result.fields["name"].string_value == "caller"
    for number in range(5):
        request = messages.Request(method="caller.f", id=f"caller.f({number})", clientName="callee")
        request.params.fields["text"].string_value = "x" * 20000
        callee.service.to_send.put(request)
        assert peer.wait("requested")["id"] == request.id
        answer = callee.service.answers.get(timeout=LIMIT)
        assert answer.id == request.id and answer.result == request.params
    callee.service.to_send.put(messages.Request(method="caller.error", id="caller.error(1)"))
    assert callee.service.answers.get(timeout=LIMIT).error.code == 404
    callee.service.to_send.put(None)
    assert peer.wait("reverse_ended")["reason"] == "EOF"
    # A clean end is no end of the connection.
    peer.call("callee.echo")
    assert peer.wait("done")["status"] == "OK"


def test_a_refused_reverse_stream_says_why(peer, callee):
    peer.do("reverse", name="somebody")
    callee.service.announced.get(timeout=LIMIT)
    callee.service.to_send.put("invalid client name supplied")
    reason = peer.wait("reverse_ended")["reason"]
    assert reason == "rpc error: code = Unknown desc = invalid client name supplied"


def test_finish_closes_when_the_calls_have_ended(peer, callee):
    peer.call("callee.hold")
    peer.do("finish")
    callee.wait_for_call()
    callee.service.released.set()
    assert peer.wait("done")["status"] == "OK"
    peer.wait("closed")


def test_another_operators_server_is_refused(certificates, messages):
    server = Server(certificates, messages, "somebody")
    peer = calling_peer(certificates, server.port)
    assert peer.wait("closed")["reason"].startswith("authentication handshake failed: ")
    peer.stop()
    server.server.stop(None)


def test_a_server_without_entry_is_refused(certificates, callee):
    peer = calling_peer(certificates, callee.port, unknown_name="callee")
    assert peer.wait("closed")["reason"] == "authentication handshake failed: no name matched"
    peer.stop()
