# SPDX-License-Identifier: Apache-2.0
"""Our server with gRPC's own Python client (C core) as the caller."""
import queue
import time
from concurrent import futures

import grpc
import pytest
from google.protobuf import json_format
from grpc_kit import LIMIT, serving_peer

OPTIONS = [
    ("grpc.ssl_target_name_override", "callee"),
    ("grpc.max_receive_message_length", 8 << 20),
    ("grpc.enable_retries", 0),
]


class Client:
    def __init__(self, certificates, messages, port, name="caller", options=()):
        certificate, key, root = certificates.pem(name)
        credentials = grpc.ssl_channel_credentials(root, key, certificate)
        self.messages = messages
        self.channel = grpc.secure_channel(f"127.0.0.1:{port}", credentials, OPTIONS + list(options))
        self.call = self.channel.unary_unary(
            "/Hyper/Call", messages.Request.SerializeToString, messages.Response.FromString
        )
        self.server_call = self.channel.stream_stream(
            "/Hyper/ServerCall", messages.Response.SerializeToString, messages.Request.FromString
        )

    def request(self, method, params=None, number=1):
        request = self.messages.Request(method=method, id=f"{method}({number})", clientName="caller")
        if params is not None:
            json_format.ParseDict(params, request.params)
        return request

    def close(self):
        self.channel.close()


@pytest.fixture
def client(certificates, messages, server):
    client = Client(certificates, messages, server.port)
    yield client
    client.close()


def test_a_call_is_answered(client, server):
    params = {"text": "grüß € 🌍", "null": None, "list": [1, [], {"x": [None, True]}], "n": -0.5, "": ""}
    response = client.call(client.request("callee.echo", params), timeout=LIMIT)
    assert json_format.MessageToDict(response.result) == params
    assert response.id == "callee.echo(1)"
    assert not response.HasField("error")
    event = server.wait("called")
    assert event["client"] == "caller" and event["first_identity"] == "caller"


def test_a_response_without_result_leaves_the_field_unset(client):
    response = client.call(client.request("callee.none"), timeout=LIMIT)
    assert not response.HasField("result") and not response.HasField("error")


def test_missing_params_arrive_as_an_empty_map(client):
    response = client.call(client.request("callee.echo"), timeout=LIMIT)
    assert response.HasField("result") and not response.result.fields


def test_errors_carry_negative_codes_and_data(client):
    response = client.call(client.request("callee.error", {"a": 1}), timeout=LIMIT)
    assert response.error.code == -32603
    assert response.error.message == "grüß"
    assert response.error.data.fields["a"].number_value == 1


@pytest.mark.parametrize("text", ["plain", "100% of ü\nnext €", "", "x" * 20000])
def test_a_failure_brings_status_and_message(client, text):
    with pytest.raises(grpc.RpcError) as failure:
        client.call(client.request("callee.fail", {"text": text}), timeout=LIMIT)
    assert failure.value.code() == grpc.StatusCode.UNKNOWN
    details = failure.value.details()
    assert details == text if len(text) < 6000 else text.startswith(details) and len(details) > 5000


def test_unknown_methods_are_unimplemented(client):
    for path in "/Hyper/Nothing", "/Other/Call", "/" + "x" * 100:
        call = client.channel.unary_unary(path, lambda request: b"", lambda answer: answer)
        with pytest.raises(grpc.RpcError) as failure:
            call(None, timeout=LIMIT)
        assert failure.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_message_that_is_no_request_is_refused(client):
    call = client.channel.unary_unary("/Hyper/Call", lambda request: request, lambda answer: answer)
    with pytest.raises(grpc.RpcError) as failure:
        call(b"\xff\xff\xff", timeout=LIMIT)
    assert failure.value.code() == grpc.StatusCode.INTERNAL


def test_compressed_messages_are_unimplemented(client):
    with pytest.raises(grpc.RpcError) as failure:
        client.call(
            client.request("callee.echo", {"text": "a" * 10000}), timeout=LIMIT, compression=grpc.Compression.Gzip
        )
    assert failure.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_messages_of_nearly_four_mebibytes_pass_both_ways(client):
    text = "x" * ((4 << 20) - 200)
    response = client.call(client.request("callee.echo", {"text": text}), timeout=LIMIT)
    assert response.result.fields["text"].string_value == text


def test_a_larger_request_is_refused_and_the_connection_lives(client):
    with pytest.raises(grpc.RpcError) as failure:
        client.call(client.request("callee.echo", {"text": "x" * (5 << 20)}), timeout=LIMIT)
    assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert client.call(client.request("callee.echo", {"a": 1}), timeout=LIMIT).result.fields["a"].number_value == 1


def test_a_larger_response_is_refused(client):
    with pytest.raises(grpc.RpcError) as failure:
        client.call(client.request("callee.large", {"size": 5 << 20}), timeout=LIMIT)
    assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_hundred_calls_at_once(client):
    calls = [
        client.call.future(client.request("callee.echo", {"n": n, "text": "x" * 17000}, n), timeout=LIMIT)
        for n in range(100)
    ]
    assert [call.result().result.fields["n"].number_value for call in calls] == list(range(100))


def test_large_answers_at_once(client):
    calls = [client.call.future(client.request("callee.large", {"size": 3 << 20}), timeout=LIMIT) for _ in range(8)]
    assert {len(call.result().result.fields["text"].string_value) for call in calls} == {3 << 20}


def test_a_cancelled_call_disturbs_nobody(client, server):
    held = client.call.future(client.request("callee.hold"), timeout=LIMIT)
    server.wait("called")
    held.cancel()
    assert client.call(client.request("callee.echo", {"a": 1}), timeout=LIMIT).result.fields["a"].number_value == 1


def test_a_stopping_server_sends_goaway_and_finishes_open_calls(client, server, messages):
    stream = ReverseStream(client, "caller")
    server.wait("reverse_opened")
    held = client.call.future(client.request("callee.forward", {"to": "caller"}), timeout=LIMIT)
    request = stream.next()
    server.do("stop")
    end = time.monotonic() + LIMIT
    with pytest.raises(grpc.RpcError):
        # A new connection is refused; the old one takes no new calls once GOAWAY has arrived.
        while time.monotonic() < end:
            client.call(client.request("callee.echo"), timeout=LIMIT)
            time.sleep(0.02)
    stream.answer(messages.Response(id=request.id))
    assert held.result().id == request.id
    stream.end()


class ReverseStream:
    """A ServerCall stream of the Python client."""

    def __init__(self, client, name):
        self.client = client
        self.outgoing = queue.Queue()
        self.incoming = client.server_call(iter(self.outgoing.get, None))
        announcement = client.messages.Response(id="1")
        announcement.result.fields["name"].string_value = name
        self.answer(announcement)
        self.pool = futures.ThreadPoolExecutor(1)

    def answer(self, response):
        self.outgoing.put(response)

    def next(self):
        return self.pool.submit(next, self.incoming).result(LIMIT)

    def end(self):
        self.outgoing.put(None)

    def failure(self):
        with pytest.raises(grpc.RpcError) as failure:
            self.next()
        return failure.value.code(), failure.value.details()


def test_requests_go_out_over_a_reverse_stream_one_at_a_time(client, server, messages):
    stream = ReverseStream(client, "caller")
    assert server.wait("reverse_opened")["name"] == "caller"
    for number in range(3):
        server.do("send", to="caller", method="caller.f", id=f"caller.f({number})", params={"n": number})
    for number in range(3):
        request = stream.next()
        assert request.id == f"caller.f({number})" and request.clientName == "peer"
        response = messages.Response(id=request.id)
        response.result.fields["n"].number_value = number
        stream.answer(response)
        event = server.wait("reverse_done")
        assert event["response"] == {"id": request.id, "result": {"n": float(number)}}
    stream.end()
    server.wait("reverse_ended")


def test_calls_are_forwarded_over_a_reverse_stream(client, server, messages):
    stream = ReverseStream(client, "caller")
    server.wait("reverse_opened")
    call = client.call.future(client.request("callee.forward", {"to": "caller", "text": "z" * 100000}), timeout=LIMIT)
    request = stream.next()
    stream.answer(messages.Response(id=request.id, result=request.params))
    assert len(call.result().result.fields["text"].string_value) == 100000
    stream.end()


@pytest.mark.parametrize(
    "name, text", [("somebody", "invalid client name supplied"), ("", "invalid client name supplied"), (None, "invalid client announcement")]
)
def test_a_wrong_announcement_ends_the_stream(client, name, text, messages):
    stream = ReverseStream.__new__(ReverseStream)
    stream.outgoing = queue.Queue()
    stream.incoming = client.server_call(iter(stream.outgoing.get, None))
    stream.pool = futures.ThreadPoolExecutor(1)
    announcement = messages.Response(id="1")
    if name is not None:
        announcement.result.fields["name"].string_value = name
    stream.answer(announcement)
    assert stream.failure() == (grpc.StatusCode.UNKNOWN, text)
    stream.end()


def test_two_streams_of_one_name_are_separate(client, server, messages):
    old = ReverseStream(client, "caller")
    server.wait("reverse_opened")
    new = ReverseStream(client, "caller")
    server.wait("reverse_opened")
    old.end()
    server.wait("reverse_ended")
    server.do("send", to="caller", method="caller.f", id="caller.f(1)", params={})
    new.answer(messages.Response(id=new.next().id))
    assert server.wait("reverse_done")["response"]["id"] == "caller.f(1)"
    new.end()


def test_a_late_answer_ends_the_reverse_stream(client, server):
    stream = ReverseStream(client, "caller")
    server.wait("reverse_opened")
    server.do("send", to="caller", method="caller.f", id="caller.f(1)", params={}, timeout_ms=200)
    server.do("send", to="caller", method="caller.f", id="caller.f(2)", params={})
    stream.next()
    assert "in time" in server.wait("reverse_done")["failure"]
    assert server.wait("reverse_done")["failure"]
    server.wait("reverse_ended")
    assert stream.failure()[0] == grpc.StatusCode.DEADLINE_EXCEEDED
    stream.end()


def test_an_answer_without_a_request_ends_the_reverse_stream(client, server, messages):
    stream = ReverseStream(client, "caller")
    server.wait("reverse_opened")
    stream.answer(messages.Response(id="x"))
    server.wait("reverse_ended")
    assert stream.failure()[0] == grpc.StatusCode.UNKNOWN
    stream.end()


def test_a_client_that_disconnects_ends_its_reverse_stream(certificates, messages, server):
    client = Client(certificates, messages, server.port)
    stream = ReverseStream(client, "caller")
    server.wait("reverse_opened")
    server.do("send", to="caller", method="caller.f", id="caller.f(1)", params={})
    stream.next()
    client.close()
    assert server.wait("reverse_done")["failure"]
    server.wait("reverse_ended")
    stream.end()


def test_a_peer_without_entry_is_refused(certificates, messages):
    server = serving_peer(certificates, unknown_name="caller")
    client = Client(certificates, messages, server.port)
    with pytest.raises(grpc.RpcError) as failure:
        client.call(client.request("callee.echo"), timeout=LIMIT)
    assert failure.value.code() == grpc.StatusCode.UNAVAILABLE
    server.wait_for_log("no name matched")
    client.close()
    server.stop()
