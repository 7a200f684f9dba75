# SPDX-License-Identifier: Apache-2.0
"""Our client against servers that do HTTP/2 by hand: what a call's status is,
and when it may be repeated elsewhere."""
import h2.errors
import h2.events
import h2.settings
import pytest
from grpc_kit import calling_peer
from h2_kit import Listener, frame

ANSWER = [(":status", "200"), ("content-type", "application/grpc")]
OK = [("grpc-status", "0"), ("grpc-message", "")]


@pytest.fixture
def listener(certificates):
    listener = Listener(certificates)
    yield listener
    listener.close()


@pytest.fixture
def pair(certificates, listener):
    """The calling peer, ready, and the server's end of its connection."""
    peer = calling_peer(certificates, listener.port)
    end = listener.accept()
    end.wait(h2.events.SettingsAcknowledged)
    peer.wait("ready")
    yield peer, end
    peer.stop()
    end.close()


def request(pair, **fields):
    peer, end = pair
    peer.call("callee.f", **fields)
    return end.wait(h2.events.RequestReceived)


def answer(pair, stream, *parts):
    """Parts are header lists or DATA bytes; the last one ends the stream."""
    peer, end = pair
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        if isinstance(part, bytes):
            end.h2.send_data(stream, part, end_stream=is_last)
        else:
            end.h2.send_headers(stream, part, end_stream=is_last)
    end.flush()
    return peer.wait("done")


def test_request_headers_are_those_of_the_page(pair):
    headers = dict(request(pair).headers)
    assert headers[b":method"] == b"POST" and headers[b":scheme"] == b"https"
    assert headers[b":path"] == b"/Hyper/Call" and headers[b":authority"] == b"callee"
    assert headers[b"content-type"] == b"application/grpc" and headers[b"te"] == b"trailers"
    assert headers[b"user-agent"] and b"grpc-timeout" not in headers


def test_ready_waits_for_the_servers_settings(certificates, listener):
    peer = calling_peer(certificates, listener.port)
    end = listener.accept(begin=False)
    with pytest.raises(AssertionError):
        peer.wait("ready", 0.3)
    end.begin()
    peer.wait("ready")
    peer.stop()
    end.close()


def test_a_server_that_closes_before_settings(certificates, listener):
    peer = calling_peer(certificates, listener.port)
    listener.accept(begin=False).close()
    assert peer.wait("closed")["reason"].startswith("error reading server preface: ")
    peer.stop()


def test_a_server_that_never_shakes_hands(certificates, listener):
    peer = calling_peer(certificates, listener.port)
    sock = listener.accept_tcp()
    assert peer.wait("closed")["reason"] == "authentication handshake failed: context deadline exceeded"
    sock.close()
    peer.stop()


def test_a_server_that_closes_at_once(certificates, listener):
    peer = calling_peer(certificates, listener.port)
    sock = listener.accept_tcp()
    sock.recv(1000)
    sock.close()
    assert peer.wait("closed")["reason"].startswith("authentication handshake failed: ")
    peer.stop()


@pytest.mark.parametrize(
    "parts, status",
    [
        ((ANSWER, frame(b""), OK), "OK"),
        ((ANSWER, b"\0", frame(b"\x0a\x01x")[1:4], frame(b"\x0a\x01x")[4:], OK), "OK"),
        ((ANSWER, OK), "Internal"),
        ((ANSWER, frame(b""), frame(b""), OK), "Internal"),
        ((ANSWER, frame(b""), [("grpc-status", "2"), ("grpc-message", "x")]), "Unknown"),
        ((ANSWER, frame(b""), [("grpc-status", "nonsense")]), "Unknown"),
        ((ANSWER, frame(b"")), "Internal"),
        ((ANSWER, frame(b"abc")[:-1], OK), "Internal"),
        ((ANSWER, frame(b"", 1), OK), "Unimplemented"),
        ((ANSWER, b"\0\xff\xff\xff\xff", OK), "ResourceExhausted"),
        ((ANSWER + [("grpc-status", "14"), ("grpc-message", "a%20b%zz%")],), "Unavailable"),
        (([(":status", "404"), ("content-type", "text/html")], b"<html>"), "Unimplemented"),
        (([(":status", "503"), ("content-type", "text/html")],), "Unavailable"),
        (([(":status", "200"), ("content-type", "text/html")], b"<html>"), "Unknown"),
        (([(":status", "100")], ANSWER, frame(b""), OK), "OK"),
    ],
)
def test_every_answer_has_a_status(pair, parts, status):
    if parts[0][0][1] == "100":
        pair[1].h2.config.validate_outbound_headers = False
        stream = request(pair).stream_id
        pair[1].h2.send_headers(stream, parts[0])
        parts = parts[1:]
    else:
        stream = request(pair).stream_id
    event = answer(pair, stream, *parts)
    assert event["status"] == status and not event["undelivered"]


def test_messages_with_wrong_escapes_stay_readable(pair):
    event = answer(pair, request(pair).stream_id, ANSWER + [("grpc-status", "2"), ("grpc-message", "a%20b%zz%c3%bc%ff%")])
    assert event["message"].startswith("a b%zz")


@pytest.mark.parametrize(
    "code, status, undelivered",
    [
        (h2.errors.ErrorCodes.REFUSED_STREAM, "Unavailable", True),
        (h2.errors.ErrorCodes.CANCEL, "Canceled", False),
        (h2.errors.ErrorCodes.ENHANCE_YOUR_CALM, "ResourceExhausted", False),
        (h2.errors.ErrorCodes.PROTOCOL_ERROR, "Internal", False),
    ],
)
def test_a_reset_stream_has_a_status(pair, code, status, undelivered):
    peer, end = pair
    stream = request(pair).stream_id
    end.h2.reset_stream(stream, code)
    end.flush()
    event = peer.wait("done")
    assert (event["status"], event["undelivered"]) == (status, undelivered)


def test_calls_above_goaways_last_stream_are_undelivered(pair):
    peer, end = pair
    first = request(pair, number=1).stream_id
    request(pair, number=2)
    end.h2.close_connection(last_stream_id=first)
    end.flush()
    event = peer.wait("done")
    assert event["number"] == 2 and event["undelivered"] and event["status"] == "Unavailable"
    # h2 itself sends nothing more after GOAWAY; the first call ends with the connection.
    end.close()
    event = peer.wait("done")
    assert event["number"] == 1 and not event["undelivered"] and event["status"] == "Unavailable"
    peer.wait("closed")


def test_a_call_whose_connection_is_cut_may_have_been_delivered(pair):
    peer, end = pair
    request(pair)
    end.close()
    event = peer.wait("done")
    assert event["status"] == "Unavailable" and not event["undelivered"]
    assert peer.wait("closed")["reason"].startswith("error reading from server: ")


def test_a_closed_window_does_not_stop_deadlines(certificates, listener):
    peer = calling_peer(certificates, listener.port)
    end = listener.accept(begin=False)
    end.h2.local_settings = h2.settings.Settings(
        client=False, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0}
    )
    end.begin()
    end.wait(h2.events.SettingsAcknowledged)
    peer.wait("ready")
    peer.call("callee.f", params={"a": 1}, timeout_ms=300)
    stream = end.wait(h2.events.RequestReceived).stream_id
    assert peer.wait("done")["status"] == "DeadlineExceeded"
    assert end.wait(h2.events.StreamReset, stream).error_code == h2.errors.ErrorCodes.CANCEL
    # With a window the next call goes through.
    peer.call("callee.f", params={"a": 1})
    stream = end.wait(h2.events.RequestReceived).stream_id
    end.h2.increment_flow_control_window(1000, stream)
    end.flush()
    end.wait(h2.events.StreamEnded, stream)
    assert answer((peer, end), stream, ANSWER, frame(b""), OK)["status"] == "OK"
    peer.stop()
    end.close()


def test_calls_beyond_the_servers_stream_limit_wait(certificates, listener):
    peer = calling_peer(certificates, listener.port)
    end = listener.accept(begin=False)
    end.h2.local_settings = h2.settings.Settings(
        client=False, initial_values={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1}
    )
    end.begin()
    end.wait(h2.events.SettingsAcknowledged)
    peer.wait("ready")
    peer.call("callee.f", 1)
    peer.call("callee.f", 2, timeout_ms=300)
    peer.call("callee.f", 3)
    stream = end.wait(h2.events.RequestReceived).stream_id
    event = peer.wait("done")
    assert event["number"] == 2 and event["status"] == "DeadlineExceeded" and event["undelivered"]
    assert answer((peer, end), stream, ANSWER, frame(b""), OK)["number"] == 1
    event = end.wait(h2.events.RequestReceived)
    assert answer((peer, end), event.stream_id, ANSWER, frame(b""), OK)["number"] == 3
    peer.stop()
    end.close()


def test_garbage_ends_the_connection(pair):
    peer, end = pair
    request(pair)
    end.socket.sendall(b"\xff" * 1000)
    assert peer.wait("done")["status"] == "Unavailable"
    assert "protocol error" in peer.wait("closed")["reason"]


def test_pings_are_answered(pair):
    peer, end = pair
    end.h2.ping(b"12345678")
    end.flush()
    assert end.wait(h2.events.PingAckReceived).ping_data == b"12345678"
