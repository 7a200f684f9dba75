# SPDX-License-Identifier: Apache-2.0
"""Our server against clients that do HTTP/2 by hand, rightly or wrongly. After
each of them it must still serve others."""
import os
import socket
import struct
import time

import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import pytest
from grpc_kit import LIMIT
from h2_kit import HEADERS, connect, frame, replaced, wait_until_closed


@pytest.fixture(autouse=True)
def serves_others_afterwards(server, certificates, messages):
    yield
    end = connect(certificates, server.port)
    outcome = ask(end, messages)
    # What the test left under way counts until the server has noticed that its connection is gone.
    deadline = time.monotonic() + 10
    while outcome[0] == TOO_MUCH and time.monotonic() < deadline:
        time.sleep(0.05)
        outcome = ask(end, messages)
    assert outcome == (0, "")
    end.close()


TOO_MUCH = 8  # RESOURCE_EXHAUSTED


def ask(end, messages):
    stream = end.open()
    end.send(stream, frame(echo(messages)))
    return end.trailers(stream)


def echo(messages, size=3):
    request = messages.Request(method="callee.echo", id="callee.echo(1)", clientName="caller")
    request.params.fields["text"].string_value = "x" * size
    return request.SerializeToString()


def rss_kb(process):
    if "GRPC_PEER" in os.environ:
        return 0  # built with a sanitizer, whose memory says nothing
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_settings_come_before_the_client_says_anything(server, certificates):
    end = connect(certificates, server.port, begin=False)
    assert end.socket.recv(9)[3] == 4  # SETTINGS
    end.close()


def test_pings_are_answered(server, certificates):
    end = connect(certificates, server.port)
    end.h2.ping(b"12345678")
    end.flush()
    assert end.wait(h2.events.PingAckReceived).ping_data == b"12345678"
    end.close()


@pytest.mark.parametrize("padding", [None, 7])
@pytest.mark.parametrize("piece", [1, 4, 5, 6, 100])
def test_a_message_may_be_cut_anywhere(server, certificates, messages, piece, padding):
    end = connect(certificates, server.port)
    stream = end.open()
    end.send(stream, frame(echo(messages)), piece=piece, padding=padding)
    assert end.trailers(stream) == (0, "")
    end.close()


@pytest.mark.parametrize(
    "headers",
    [replaced(":method", "GET"), replaced(":method", "PUT"), replaced("content-type", "application/json")]
    + [replaced("content-type", "application/grpcx"), [pair for pair in HEADERS if pair[0] != "content-type"]],
)
def test_wrong_method_or_content_type_is_reset(server, certificates, headers):
    end = connect(certificates, server.port)
    stream = end.open(headers)
    assert end.wait(h2.events.StreamReset).error_code == h2.errors.ErrorCodes.PROTOCOL_ERROR
    end.close()
    assert stream == 1


def test_content_type_with_suffix_is_taken(server, certificates, messages):
    end = connect(certificates, server.port)
    stream = end.open(replaced("content-type", "application/grpc+proto"))
    end.send(stream, frame(echo(messages)))
    assert end.trailers(stream) == (0, "")
    end.close()


def test_a_wrong_path_is_answered_by_trailers_only(server, certificates):
    end = connect(certificates, server.port)
    stream = end.open(replaced(":path", "/Other/Call"))
    event = end.wait(h2.events.ResponseReceived, stream)
    assert (b"grpc-status", b"12") in event.headers and event.stream_ended
    end.close()


@pytest.mark.parametrize(
    "data, status",
    [
        (b"", 13),
        (b"\0\0\0", 13),
        (frame(b"abc")[:-1], 13),
        (frame(b"") * 2, 13),
        (frame(b"\xff" * 3), 13),
        (frame(b"", 1), 12),
        (frame(b"", 2), 13),
        (b"\0\0\x40\0\1", 8),
        (b"\0\xff\xff\xff\xff", 8),
    ],
)
def test_what_is_no_request_gets_a_status(server, certificates, data, status):
    end = connect(certificates, server.port)
    stream = end.open()
    end.send(stream, data)
    assert end.trailers(stream)[0] == status
    end.close()


def test_an_early_refusal_stops_the_sender(server, certificates):
    end = connect(certificates, server.port)
    stream = end.open()
    end.send(stream, b"\0\xff\xff\xff\xff", end_stream=False)
    assert end.trailers(stream)[0] == 8
    assert end.wait(h2.events.StreamReset, stream).error_code == h2.errors.ErrorCodes.NO_ERROR
    end.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: callee\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"\0" * 1000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\1\5\0\0\0\1",
    ],
)
def test_a_wrong_preface_closes_the_connection(server, certificates, data):
    end = connect(certificates, server.port, begin=False)
    end.socket.sendall(data)
    wait_until_closed(end.socket)
    end.close()
    server.wait_for_log("protocol error")


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 200])
def test_no_tls_at_all_closes_the_connection(server, data):
    with socket.create_connection(("127.0.0.1", server.port), LIMIT) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        wait_until_closed(sock)
    server.wait_for_log("authentication handshake failed")


def test_a_frame_of_wrong_size_ends_the_connection(server, certificates):
    end = connect(certificates, server.port)
    end.wait(h2.events.RemoteSettingsChanged)
    end.socket.sendall(struct.pack(">I", 7)[1:] + b"\x06\0" + bytes(4) + b"1234567")  # a PING of 7 bytes
    end.wait_until_closed()
    server.wait_for_log("FRAME_SIZE_ERROR")
    end.close()


def test_too_many_headers_are_refused(server, certificates):
    end = connect(certificates, server.port)
    stream = end.open(HEADERS + [(f"x-{number}", "v" * 200) for number in range(200)])
    event = end.wait((h2.events.StreamReset, h2.events.ConnectionTerminated))
    assert event is not None and stream == 1
    end.close()


def test_endless_continuation_frames_end_the_connection(server, certificates):
    end = connect(certificates, server.port)
    end.wait(h2.events.RemoteSettingsChanged)
    block = end.h2.encoder.encode(HEADERS)
    try:
        end.socket.sendall(struct.pack(">I", len(block))[1:] + b"\x01\0" + struct.pack(">I", 1) + block)
        for number in range(10000):
            part = b"\0\1a" + b"\x7f\x80\x01" + b"b" * 255
            end.socket.sendall(struct.pack(">I", len(part))[1:] + b"\x09\0" + struct.pack(">I", 1) + part)
    except OSError:
        pass
    end.wait_until_closed()
    end.close()


def test_streams_that_are_reset_at_once_end_the_connection(server, certificates):
    end = connect(certificates, server.port)
    end.wait(h2.events.RemoteSettingsChanged)
    try:
        for _ in range(5000):
            stream = end.open()
            end.h2.reset_stream(stream)
            end.flush()
    except OSError:
        pass
    end.wait_until_closed()
    end.close()


def test_only_a_thousand_streams_at_once(server, certificates):
    end = connect(certificates, server.port)
    end.wait(h2.events.RemoteSettingsChanged)
    assert end.h2.remote_settings.max_concurrent_streams == 1000
    end.h2.remote_settings.acknowledge()
    for _ in range(1000):
        end.open()
    # One more, past h2's own check.
    end.h2.remote_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = 2000
    end.h2.remote_settings.acknowledge()
    stream = end.open()
    event = end.wait((h2.events.StreamReset, h2.events.ConnectionTerminated))
    assert event is None or isinstance(event, h2.events.ConnectionTerminated) or event.stream_id == stream
    end.close()


def test_too_many_pings_are_answered_by_goaway(server, certificates):
    end = connect(certificates, server.port)
    for _ in range(4):
        end.h2.ping(b"12345678")
        end.flush()
    event = end.wait(h2.events.ConnectionTerminated)
    assert event.error_code == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
    assert event.additional_data == b"too_many_pings"
    end.wait_until_closed()
    end.close()


def test_pings_after_answers_are_no_strikes(server, certificates, messages):
    end = connect(certificates, server.port)
    for _ in range(6):
        stream = end.open()
        end.send(stream, frame(echo(messages)))
        assert end.trailers(stream) == (0, "")
        end.h2.ping(b"12345678")
        end.flush()
        assert end.wait(h2.events.PingAckReceived)
    end.close()


def test_the_answer_waits_for_the_window(server, certificates, messages):
    end = connect(certificates, server.port, begin=False)
    end.h2.local_settings = h2.settings.Settings(
        client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10}
    )
    end.begin()
    stream = end.open()
    end.send(stream, frame(echo(messages, 1000)))
    end.wait(h2.events.ResponseReceived, stream)
    data = b""
    while len(data) < 1000:
        event = end.wait(h2.events.DataReceived, stream)
        assert len(event.data) <= 10
        data += event.data
        end.h2.increment_flow_control_window(10, stream)
        end.flush()
    end.h2.increment_flow_control_window(1000, stream)
    end.flush()
    assert end.trailers(stream) == (0, "")
    end.close()


def test_what_a_connection_may_leave_waiting_is_limited(server, certificates):
    end = connect(certificates, server.port)
    end.wait(h2.events.RemoteSettingsChanged)
    part = b"\0\0\x40\0\0" + b"x" * (3 << 20)
    refused = 0
    before = rss_kb(server.process)
    for _ in range(40):
        stream = end.open()
        try:
            end.send(stream, part, end_stream=False)
        except h2.exceptions.StreamClosedError:
            refused += 1
    end.h2.ping(b"12345678")
    end.flush()
    end.wait(h2.events.PingAckReceived)
    assert refused >= 15
    assert rss_kb(server.process) - before < 120 << 10
    end.close()


def test_answers_that_nobody_takes_are_limited(server, certificates, messages):
    end = connect(certificates, server.port, begin=False)
    end.h2.local_settings = h2.settings.Settings(
        client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0}
    )
    end.begin()
    request = messages.Request(method="callee.large", id="1", clientName="caller")
    request.params.fields["size"].number_value = 3 << 20
    streams = []
    for _ in range(40):
        streams.append(end.open())
        end.send(streams[-1], frame(request.SerializeToString()))
    statuses = [status for status in (trailers_now(end, stream) for stream in streams) if status is not None]
    assert statuses and set(statuses) == {8}
    assert rss_kb(server.process) < 160 << 10
    end.close()


def trailers_now(end, stream):
    """The status of a trailers-only answer, None for an answer with a body that waits."""
    event = end.wait(h2.events.ResponseReceived, stream)
    return next((int(value) for name, value in event.headers if name == b"grpc-status"), None)


def test_a_reset_call_is_forgotten(server, certificates, messages):
    end = connect(certificates, server.port)
    request = messages.Request(method="callee.hold", id="1").SerializeToString()
    stream = end.open()
    end.send(stream, frame(request))
    server.wait("called")
    end.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
    end.flush()
    stream = end.open()
    end.send(stream, frame(echo(messages)))
    assert end.trailers(stream) == (0, "")
    end.close()


def test_a_client_that_vanishes_is_forgotten(server, certificates, messages):
    end = connect(certificates, server.port)
    stream = end.open()
    end.send(stream, frame(messages.Request(method="callee.hold", id="1").SerializeToString()))
    server.wait("called")
    end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
    server.wait_for_log("ended:")


def test_descriptors_are_given_back(server, certificates):
    folder = f"/proc/{server.process.pid}/fd"
    before = len(os.listdir(folder))
    for _ in range(30):
        connect(certificates, server.port).close()
    end = time.monotonic() + LIMIT
    while len(os.listdir(folder)) > before:
        assert time.monotonic() < end
        time.sleep(0.02)
