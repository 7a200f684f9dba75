# SPDX-License-Identifier: Apache-2.0
"""Recorded exchanges of another implementation, replayed against ours."""
import base64
import json
import re
import subprocess


import pytest

import hyperproto as proto
from peers import JsonRpcServer, PythonB, dial_relay
from stack import TOP, is_listening, wait_until

VECTORS = TOP / "tests" / "vectors"


def recorded_bodies(name):
    """The JSON bodies of a recorded exchange. The capture has a line with the
    length of each segment between the pieces; those are not part of the text."""
    text = (VECTORS / name).read_text()
    text = re.sub(r"\n\t?\d+\n(?=\S)", lambda match: "\n" if "HTTP" in text[match.end():match.end() + 60] else "", text)
    decoder = json.JSONDecoder()
    return [decoder.raw_decode(text, match.start())[0] for match in re.finditer(r'\{"jsonrpc"', text)]


def test_recorded_request_gives_the_recorded_connection_request(stack):
    request, answer = recorded_bodies("http-requestConnection.txt")
    expected, _ = recorded_bodies("http-_connectionRequest.txt")
    (stack.overlay / "plain.yml").write_text("public:\n  relay_tls_bind_address: \"\"\n")
    hyper = JsonRpcServer(5544, stack.certs, "public-proxy-1.ga", lambda call: {"result": {}})
    try:
        stack.start("proxy")
        wait_until(lambda: is_listening(6655), 20, "the proxy's JSON-RPC server")
        status, body = stack.http(6655, request)
        sent, headers = hyper.calls.get(timeout=10)
        reply = json.loads(body)
        assert status == 200
        assert reply["id"] == answer["id"]
        assert reply["result"]["endpoint"] == answer["result"]["endpoint"]
        token = base64.b64decode(reply["result"]["token"], validate=True)
        assert len(token) == 32 and len(reply["result"]["token"]) == 44
        assert sent["params"]["token"] == reply["result"]["token"]
        for message in (sent, expected):
            del message["params"]["token"], message["params"]["endpoint"]
        assert sent == expected, proto.pretty(sent)
        assert headers["Content-Type"] == "application/json" and headers["Accept"] == "application/json"
        assert headers["Host"] == "localhost:5544"
        # The token works at the internal endpoint: first and second party are joined.
        one = dial_relay("localhost:9999", token)
        other = dial_relay("localhost:9999", token)
        one.sendall(b"hello from one")
        assert other.recv(100) == b"hello from one"
        other.sendall(b"hello from other")
        assert one.recv(100) == b"hello from other"
        third = dial_relay("localhost:9999", token)
        assert third.recv(1) == b"", "a used token must be refused"
    finally:
        hyper.close()


def test_recorded_data_file_is_taken_over(stack):
    """An existing sd's data file and the chain that signed it: getRecords gives the recorded answer."""
    data = stack.folder / "taken-over.records"
    data.write_bytes((VECTORS / "service-directory.records").read_bytes())
    overlay = stack.folder / "sd-overlay"
    overlay.mkdir()
    (overlay / "sd.yml").write_text(f"""
directory:
  datastore!:
    type: file
    settings:
      filename: {data}
  ca_certificate_files!: [ {VECTORS / 'root.crt'} ]
  ca_intermediate_certificate_files!: [ {VECTORS / 'intermediate.crt'} ]
""")
    expires = subprocess.run(["openssl", "x509", "-in", VECTORS / "intermediate.crt", "-noout", "-checkend", "60"],
                             stdout=subprocess.DEVNULL)
    if expires.returncode:
        pytest.skip("the recorded certificates have expired")
    stack.start("sd", extra=str(overlay))
    wait_until(lambda: is_listening(3322), 20, "sd")
    recorded = json.loads((VECTORS / "records.json").read_text())
    records = recorded["result"] if isinstance(recorded, dict) else recorded
    answer = stack.rpc(3322, "getRecords", {"after": ""})
    assert answer["result"] == records
    tip = stack.rpc(3322, "getTip")["result"]
    assert tip == records[-1]
    assert stack.rpc(3322, "getRecords", {"after": records[9]["hash"]})["result"] == records[10:]
    assert stack.rpc(3322, "getRecords", {"after": tip["hash"]})["result"] == []
    assert stack.rpc(3322, "getRecords", {"after": "0" * 64})["result"] == records
    names = {entry["name"] for entry in stack.rpc(3322, "getEntries")["result"]}
    assert {"hd-1", "hd-2", "public-proxy-1.ga"} <= names
    vector = json.loads((VECTORS / "ping-answer.json").read_text())
    hd2 = stack.rpc(3322, "getEntry", {"name": "hd-2"})["result"]
    recorded_hd2 = vector["result"]["serverInfo"]  # of another run of the same set-up: other keys and hashes
    for member in ("name", "groups", "channels", "services", "settings", "preferences", "properties"):
        assert hd2[member] == recorded_hd2[member]
    assert hd2["records"] == [record for record in records if record["record"]["name"] == "hd-2"]
    missing = stack.rpc(3322, "getEntry", {"name": "nobody"})
    assert missing["error"]["code"] == 404 and missing["error"]["message"] == "not found"
    assert data.read_bytes() == (VECTORS / "service-directory.records").read_bytes(), "reading changed the file"


def recorded_messages():
    """(kind, message as a dict) of every recorded gRPC message."""
    text = (VECTORS / "grpc-messages.txt").read_text()
    for match in re.finditer(r"gRPC (Request|Response) (\d+) bytes.*\n\s+(\{.*\})", text):
        yield match.group(1), int(match.group(2)), json.loads(match.group(3))


def test_recorded_callee_messages_are_understood(running):
    """The recorded `_connectionRequest` and ping go to our hd-2 as they were."""
    requests = [message for kind, _, message in recorded_messages() if kind == "Request"]
    ping = next(message for message in requests if message["id"].startswith("hd-2._ping("))
    credentials = proto.Credentials(running.certs, "hd-1")
    with credentials.channel("localhost:8889", "hd-2") as channel:
        answer = proto.call(channel)(proto.request(ping["id"], ping["clientName"], ping["params"], ping.get("method")),
                                     timeout=10)
    assert answer.id == ping["id"]
    result = proto.from_struct(answer.result)
    recorded = next(message for kind, _, message in recorded_messages()
                    if kind == "Response" and message["id"] == ping["id"])
    assert set(result) == set(recorded["result"])
    assert set(result["serverInfo"]) == set(recorded["result"]["serverInfo"])


def test_recorded_announcement_registers_a_stream(running):
    announcement = next(message for kind, _, message in recorded_messages()
                        if kind == "Response" and message["id"] == "1" and message["result"].get("name") == "hd-2")
    frame = bytes.fromhex("0a0131" "1210" "0a0e" "0a046e616d65" "1206" "1a0468642d32")
    assert proto.response("1", announcement["result"]).SerializeToString() == frame
    running.stop("hd-2")
    b = PythonB(proto.Credentials(running.certs, "hd-2"))
    try:
        running.wait_for_ping(20)
    finally:
        b.close()
        running.start("hd-2")
        running.wait_for_ping(30)
