# SPDX-License-Identifier: Apache-2.0
"""Bad input at every door: the documented answer (or a close), one log line that
names the peer and the reason, and everything goes on."""
import base64
import json
import os
import re
import socket
import subprocess
import time

import pytest

import hyperproto as proto
from peers import PythonA, dial_relay
from stack import ALL, BIN, COMMANDS, TOP, read_to_end, wait_until

PORTS = {"hd-1": 5555, "hd-2": 3334, "proxy-hyper": 5544, "proxy": 6655, "sd": 3322}


@pytest.fixture(params=PORTS, ids=list(PORTS))
def door(request):
    return request.param, PORTS[request.param]


def error_of(answer):
    status, body = answer
    return status, json.loads(body)


def wait_for_refusal(running, door, reason):
    line = rf"refused a request from 127\.0\.0\.1:\d+: {reason}"
    wait_until(lambda: re.search(line, running.log(door[0])), 10, line)


def test_wrong_content_type(running, door):
    status, answer = error_of(running.http(door[1], {}, content_type="text/plain"))
    assert status == 400
    assert answer == {"jsonrpc": "2.0", "error": {"code": -32700, "message": "JSON required", "data": None},
                      "id": None} or (answer["error"]["code"], answer["error"]["message"]) == (-32700, "JSON required")
    wait_for_refusal(running, door, "its Content-Type is not application/json")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[1,2]", b"null", b"\xff\xfe", b'{"jsonrpc":"2.0"' * 3, b"5"])
def test_malformed_json(running, door, body):
    status, answer = error_of(running.http(door[1], body))
    assert status == 400
    assert answer["jsonrpc"] == "2.0" and answer["id"] is None
    assert answer["error"]["code"] == -32700 and answer["error"]["message"] == "JSON required"
    wait_for_refusal(running, door, "the body is not a JSON object")


@pytest.mark.parametrize("change", [
    {"jsonrpc": "1.0"}, {"jsonrpc": None}, {"method": ""}, {"method": 5}, {"method": "x" * 101}, {"params": None},
    {"params": []}, {"params": "x"}, {"id": 1.5}, {"id": 2 ** 31}, {"id": "x" * 1025}, {"id": {}}, {"id": True}])
def test_invalid_request(running, change):
    request = {"jsonrpc": "2.0", "method": "hd-2._ping", "params": {}, "id": "1"}
    request.update(change)
    status, answer = error_of(running.http(5555, request))
    assert status == 400
    assert answer["error"]["code"] == -32600, answer
    assert answer["error"]["message"].startswith("invalid request: "), answer
    assert answer["id"] is None


def test_params_are_required(running):
    status, answer = error_of(running.http(5555, {"jsonrpc": "2.0", "method": "hd-2._ping", "id": "1"}))
    assert status == 400 and answer["error"]["code"] == -32600


def test_text_behind_the_first_value_is_accepted(running):
    body = json.dumps({"jsonrpc": "2.0", "method": "hd-2._ping", "params": {}, "id": "1"}).encode() + b" trailing"
    status, answer = error_of(running.http(5555, body))
    assert status == 200 and answer["id"] == "1"


@pytest.mark.parametrize("identifier, expected", [
    (5, 5), (-7, -7), ("n:5", "n:5"), ("nn:5", "nn:5"), ("abc", "abc"), ("n:-12", "n:-12"), (0, 0)])
def test_ids_come_back_as_they_were(running, identifier, expected):
    status, answer = error_of(running.http(5555, {"jsonrpc": "2.0", "method": "hd-2._ping", "params": {},
                                                  "id": identifier}))
    assert status == 200 and answer["id"] == expected and type(answer["id"]) is type(expected)


@pytest.mark.parametrize("request_id", [{}, {"id": None}, {"id": ""}], ids=["absent", "null", "empty"])
def test_absent_ids_become_random_ones(running, request_id):
    request = dict({"jsonrpc": "2.0", "method": "hd-2._ping", "params": {}}, **request_id)
    status, answer = error_of(running.http(5555, request))
    assert status == 200 and re.fullmatch("[0-9a-f]{32}", answer["id"])


def test_unknown_path(running, door):
    status, body = running.http(door[1], {}, path="/other")
    assert status == 404 and json.loads(body) == {"message": "not found"}


def test_query_is_ignored_and_any_method_accepted(running):
    for method in ("PUT", "PATCH", "POST"):
        status, body = running.http(5555, {"jsonrpc": "2.0", "method": "hd-2._ping", "params": {}, "id": "1"},
                                    path="/jsonrpc?x=y", method=method)
        assert status == 200, body


def test_body_over_the_limit(running, door):
    try:
        status, _ = running.http(door[1], b"[" + b" " * (40 << 20), timeout=60)
        assert status == 413
    except OSError:
        pass  # the server answered and closed while the body was still being sent
    assert "error" in running.rpc(door[1], "no.such", {})


def test_method_without_a_dot(running):
    answer = running.rpc(5555, "respond")
    assert answer.status == 400
    assert answer["error"]["code"] == 1
    assert answer["error"]["message"] == "error parsing address: invalid ID format"
    line = r"call respond\(\w+\) by hd-1 at 127\.0\.0\.1:\d+ failed: error parsing address"
    wait_until(lambda: re.search(line, running.log("hd-1")), 10, line)


@pytest.mark.parametrize("method", ["announceConnections", "getAnnouncements", "incomingConnection", "nothing"])
def test_methods_that_the_proxy_does_not_have(running, method):
    answer = running.rpc(6655, method, {}, name="public-proxy-1.ga")
    assert answer.status == 400
    assert answer["error"]["code"] == -32601 and answer["error"]["message"] == "method not found"


@pytest.mark.parametrize("params", [
    {}, {"to": "hd-2"}, {"to": 5, "channel": "grpc_server"}, {"to": "hd-2", "channel": "grpc_server"},
    {"to": "hd-2", "channel": "grpc_server", "_client": "hd-1"},
    {"to": "hd-2", "channel": "grpc_server", "_client": {"name": "hd-1"}},
    {"to": "hd-2", "channel": "grpc_server", "_client": {"name": "hd-1", "entry": {"name": "hd-1"}}}])
def test_request_connection_with_bad_params(running, params):
    answer = running.rpc(6655, "requestConnection", params, name="public-proxy-1.ga")
    assert answer["error"]["code"] == -32602, answer
    assert answer["error"]["message"] == "invalid params"
    data = answer["error"]["data"]
    assert data["code"] == "FORM-ERROR" and data["message"].startswith("invalid input data: ") and data["data"]


def test_request_connection_with_preferences_is_served(running):
    entry = {"name": "hd-1", "channels": [],
             "preferences": [{"operator": "", "service": "", "environment": "", "preferences": None}]}
    answer = running.rpc(6655, "requestConnection", {
        "to": "hd-2", "channel": "grpc_server", "_client": {"name": "hd-1", "entry": entry}}, name="public-proxy-1.ga")
    assert "result" in answer, answer


@pytest.mark.parametrize("method", ["getEntry", "getRecords", "submitRecords", "nothing"])
def test_sd_with_bad_params(running, method):
    params = {"getEntry": {"name": 5}, "getRecords": {"after": "xyz"}, "submitRecords": {"records": "x"}}.get(method, {})
    answer = running.rpc(3322, method, params)
    assert answer.status == 400
    assert answer["error"]["code"] == (-32601 if method == "nothing" else -32602), answer


def test_record_that_does_not_verify_is_refused_and_nothing_is_lost(running):
    before = running.rpc(3322, "getRecords", {"after": ""})["result"]
    tip = running.rpc(3322, "getTip")["result"]
    forged = json.loads(json.dumps(tip))
    forged["parent_hash"] = tip["hash"]
    forged["record"]["created_at"] = "2026-01-01T00:00:00Z"
    answer = running.rpc(3322, "submitRecords", {"records": [forged]})
    assert answer["error"]["code"] == -32603 and answer["error"]["message"] == "internal error"
    assert running.rpc(3322, "getRecords", {"after": ""})["result"] == before
    wait_until(lambda: re.search(r"127\.0\.0\.1:\d+", running.log("sd")), 5, "a log line with the peer")


def test_operator_that_is_no_admin_cannot_submit(running):
    """hd-2's signing certificate has no group: refused by the command or by sd, never accepted."""
    before = running.rpc(3322, "getTip")["result"]
    path = running.folder / "record.json"
    path.write_text(json.dumps({"records": [{"name": "hd-2", "section": "groups", "data": ["x"],
                                             "created_at": "2026-01-01T00:00:00Z"}]}))
    done = running.hyper("hd-2", "sd", "submit-records", str(path))
    assert done.returncode == 1
    assert running.rpc(3322, "getTip")["result"] == before


def test_sign_and_verify(running):
    document = running.folder / "document.json"
    document.write_text(json.dumps({"hello": ["world", 5, True]}))
    signed = running.hyper("hd-1", "sd", "sign", str(document))
    assert signed.returncode == 0, signed.stderr
    result = json.loads(signed.stdout)
    assert set(result) == {"signature", "data"} and set(result["signature"]) == {"r", "s", "c"}
    path = running.folder / "signed.json"
    path.write_text(signed.stdout)
    assert running.hyper("hd-1", "sd", "verify", str(path), "hd-1").returncode == 0
    assert running.hyper("hd-1", "sd", "verify", str(path), "hd-2").returncode == 1
    result["data"]["hello"][1] = 6
    path.write_text(json.dumps(result))
    assert running.hyper("hd-1", "sd", "verify", str(path), "hd-1").returncode == 1


# ---- control socket ----

def test_lines_of_a_control_client_do_not_flood_the_log(running):
    before = running.log("proxy").count("control: ")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(running.control))
        client.sendall(b"no JSON\n" * 500)
        answers = client.makefile("rb")
        for _ in range(500):
            assert b"JSON required" in answers.readline()
    assert running.p2pctl("status")["pid"] == running.processes["proxy"].pid
    assert running.log("proxy").count("control: ") - before < 100


# ---- TLS ----

def raw_tls(port, context):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        with context.wrap_socket(connection) as tls:
            tls.sendall(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            return tls.recv(100)


@pytest.mark.parametrize("name", ["sd", "proxy", "proxy-hyper", "hd-2"])
def test_client_certificate_is_demanded(running, name):
    with pytest.raises(OSError):
        data = raw_tls(PORTS[name], running.tls_context(None))
        raise OSError("closed") if not data else AssertionError(data)
    wait_until(lambda: re.search(r"127\.0\.0\.1:\d+.*certificate|certificate.*127\.0\.0\.1:\d+", running.log(name)), 5,
               "a log line with peer and reason")


def test_hd_1_needs_no_client_certificate(running):
    assert raw_tls(5555, running.tls_context(None)).startswith(b"HTTP/1.1 400")


def test_foreign_certificate_is_refused(running, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=hd-1"], check=True,
                   stderr=subprocess.DEVNULL)
    context = running.tls_context(None)
    context.load_cert_chain(certificate, key)
    with pytest.raises(OSError):
        data = raw_tls(3334, context)
        raise OSError("closed") if not data else AssertionError(data)


@pytest.mark.parametrize("port", [5555, 3334, 3322, 6655, 5544, 5556, 8889])
def test_plain_text_on_a_tls_port(running, port):
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        read_to_end(connection)
    running.check_alive()


@pytest.mark.parametrize("port", [5555, 5556])
def test_stalled_handshakes_delay_nobody(running, port):
    stalled = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
    for one in stalled:
        one.sendall(b"\x16\x03\x01\x02\x00\x01")
    started = time.monotonic()
    assert "result" in running.ping()
    assert time.monotonic() - started < 3
    for one in stalled:
        one.close()


def test_http2_garbage_behind_tls(running):
    context = running.tls_context("hd-1")
    context.set_alpn_protocols(["h2"])
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 500, os.urandom(3000)):
        with socket.create_connection(("127.0.0.1", 8889), timeout=15) as connection:
            with context.wrap_socket(connection) as tls:
                tls.sendall(junk)
                read_to_end(tls)
    assert "result" in running.ping()


# ---- internal endpoint ----

def refused(connection):
    connection.settimeout(15)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_unknown_token_is_closed_and_logged(running):
    connection = dial_relay("localhost:9999", os.urandom(32))
    port = connection.getsockname()[1]
    assert refused(connection)
    wait_until(lambda: re.search(rf"127\.0\.0\.1:{port}.*unknown-token|unknown-token.*127\.0\.0\.1:{port}",
                                 running.log("proxy")), 5, "a log line")


@pytest.mark.parametrize("junk", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 31])
def test_short_token_is_closed_after_its_deadline(running, junk):
    connection = socket.create_connection(("127.0.0.1", 9999))
    if junk:
        connection.sendall(junk)
    started = time.monotonic()
    assert refused(connection)
    assert 3 < time.monotonic() - started < 9


def test_garbage_is_closed_at_once(running):
    connection = dial_relay("localhost:9999", os.urandom(100000))
    assert refused(connection)


def test_flood_of_garbage_delays_nobody(running):
    held = [socket.create_connection(("127.0.0.1", 9999)) for _ in range(300)]
    started = time.monotonic()
    running.stop("hd-1")
    running.start("hd-1")
    running.wait_for_ping(10)
    assert time.monotonic() - started < 8
    for one in held:
        one.close()


def test_token_byte_by_byte_with_payload_behind(running):
    a = PythonA(proto.Credentials(running.certs, "hd-1"))
    result = proto.from_struct(a.request_connection("hd-2").result)
    token = base64.b64decode(result["token"])
    connection = socket.create_connection(("127.0.0.1", 9999))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in token:
        connection.sendall(bytes([byte]))
    answer = a.call_over(connection, "hd-2", "hd-2._ping(slow)", {})
    assert proto.from_struct(answer.result)["serverInfo"]["name"] == "hd-2"


def test_token_is_good_for_one_pair_only(running):
    a = PythonA(proto.Credentials(running.certs, "hd-1"))
    result = proto.from_struct(a.request_connection("hd-2").result)
    token = base64.b64decode(result["token"])
    first = dial_relay(result["endpoint"], token)
    wait_until(lambda: not running.p2pctl("tickets")["tickets"], 10, "the ticket to be used")
    assert refused(dial_relay(result["endpoint"], token))
    answer = a.call_over(first, "hd-2", "hd-2._ping(x)", {})
    assert answer.HasField("result")


def test_expired_token_is_refused(running):
    """Nobody dials for hd-2: the ticket goes when its time is over."""
    running.stop("hd-2")
    from peers import PythonB
    b = PythonB(proto.Credentials(running.certs, "hd-2"), dial=False)
    try:
        a = PythonA(proto.Credentials(running.certs, "hd-1"))
        wait_until(lambda: not (answers.append(a.request_connection("hd-2")) or answers[-1].HasField("error")), 20,
                   "the stream") if not (answers := []) else None
        token = base64.b64decode(proto.from_struct(answers[-1].result)["token"])
        assert running.p2pctl("tickets")["tickets"], "the ticket is not shown"
        shown = json.dumps(running.p2pctl("tickets"))
        assert base64.b64encode(token).decode() not in shown and token.hex() not in shown
        wait_until(lambda: not running.p2pctl("tickets")["tickets"], 25, "the ticket to expire")
        assert refused(dial_relay("localhost:9999", token))
    finally:
        b.close()
        running.start("hd-2")
        running.wait_for_ping(30)


# ---- settings ----

def run_with(stack, name, text, *arguments):
    folder = stack.folder / "bad"
    folder.mkdir(exist_ok=True)
    (folder / "bad.yml").write_text(text)
    variable, role, command = COMMANDS[name]
    environment = dict(os.environ)
    environment[variable] = f"{stack.settings / 'roles' / role}:{folder}"
    return subprocess.run([str(BIN / command[0]), *command[1:], *arguments], env=environment, timeout=20,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("name, text, line", [
    ("hd-1", "\nname!: 5\n", 2), ("hd-1", "channels: 7\n", 1), ("sd", "jsonrpc_server:\n  bind_address!: [1]\n", 2),
    ("proxy", "public:\n  accept_timeout: soon\n", 2), ("proxy", "relay:\n  planes: [warp]\n", 2),
    ("proxy", "a: b: c\n", 1)])
def test_wrong_settings_are_errors_with_file_and_line(stack, name, text, line):
    for arguments in ([], ["--check"]):
        done = run_with(stack, name, text, *arguments)
        assert done.returncode != 0, done.stdout
        assert re.search(rf"bad\.yml:{line}\b", done.stdout), done.stdout


def test_unknown_key_is_a_warning_with_file_and_line(stack):
    done = run_with(stack, "proxy", "public:\n  surprise: 1\n", "--check")
    assert done.returncode == 0, done.stdout
    assert re.search(r"bad\.yml:2\b", done.stdout) and "surprise" in done.stdout and "warn" in done.stdout.lower()


@pytest.mark.parametrize("name, text, words", [
    ("hd-1", "directory:\n  settings:\n    ca_certificate_files!: [/nowhere/root.crt]\n", "/nowhere/root.crt"),
    ("hd-1", "signing:\n  key_file: /nowhere/hd-1.key\n", "/nowhere/hd-1.key"),
    ("sd", "jsonrpc_server:\n  tls:\n    key_file: /nowhere/sd-1.key\n", "/nowhere/sd-1.key"),
    ("sd", "directory:\n  datastore:\n    settings:\n      filename: /dev/null/sd.records\n", "/dev/null/sd.records"),
    ("sd", "directory:\n  datastore:\n    settings:\n      filename: /proc/none/sd.records\n", "/proc/none/sd.records"),
    ("proxy", "control:\n  group: no-such-group\n", "no group no-such-group"),
    ("proxy", "public:\n  jsonrpc_server:\n    tls:\n      certificate_file: /nowhere/p.crt\n", "/nowhere/p.crt")])
def test_check_loads_what_the_settings_name(stack, name, text, words):
    done = run_with(stack, name, text, "--check")
    assert done.returncode == 1 and words in done.stdout and "settings are fine" not in done.stdout, done.stdout


@pytest.mark.parametrize("path, words", [
    ("folder", "a folder stands there"), ("file", "a plain file stands there"), ("link", "a symbolic link stands there"),
    ("file/control.sock", "Not a directory"), ("x" * 120, "File name too long")])
def test_a_control_path_that_cannot_hold_a_socket(stack, tmp_path, path, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to("nowhere")
    for arguments in ([], ["--check"]):
        done = run_with(stack, "proxy", f"control:\n  path: {tmp_path}/{path}\n", *arguments)
        assert done.returncode == 1 and f"control: cannot listen on {tmp_path}/{path}: {words}" in done.stdout, done.stdout
        assert "File exists" not in done.stdout and "level=fatal" not in done.stdout, done.stdout
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("damage, words", [
    (lambda stored: stored[:512] + bytes([stored[512] ^ 0xff]) + stored[513:], "damaged at byte 512"),
    (lambda stored: b"no records" * 100, "damaged at byte 0")])
def test_a_damaged_data_file_is_told_in_one_line(stack, tmp_path, damage, words):
    path = tmp_path / "sd.records"
    damaged = damage((TOP / "tests" / "vectors" / "service-directory.records").read_bytes())
    path.write_bytes(damaged)
    done = run_with(stack, "sd", f"directory:\n  datastore:\n    settings:\n      filename: {path}\n")
    assert done.returncode == 1 and done.stdout.count("level=error") == 1, done.stdout
    assert f"{path}: {words}; the file was left as it is" in done.stdout, done.stdout
    assert path.read_bytes() == damaged


def test_check_counts_warnings(stack):
    done = run_with(stack, "proxy", "public:\n  accept_timeout: 0\n  surprise: 1\n", "--check")
    assert done.returncode == 0 and "settings are fine, with 2 warnings" in done.stdout, done.stdout


def test_arguments_are_looked_at_before_settings():
    environment = dict(os.environ, HYPER_SETTINGS="/nonexistent/settings")
    done = subprocess.run([str(BIN / "hyper"), "sd", "sign"], env=environment, timeout=20, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 2 and done.stdout == "hyper sd sign: a file is missing\n", done.stdout


def test_settings_that_are_not_there(stack):
    for name, (variable, _, command) in COMMANDS.items():
        environment = {key: value for key, value in os.environ.items() if key != variable}
        for value in (None, "/nonexistent/settings"):
            if value:
                environment[variable] = value
            done = subprocess.run([str(BIN / command[0]), *command[1:]], env=environment, timeout=20,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert done.returncode != 0 and (variable in done.stdout or "nonexistent" in done.stdout), done.stdout


@pytest.mark.parametrize("text, role", [
    ("public:\n  datastore!:\n    type: redis\n    settings: {addresses: ['localhost:6379'], password: ''}\n", "proxy"),
    ("directory:\n  datastore!:\n    type: redis\n    settings: {addresses: ['localhost:6379'], password: ''}\n", "sd"),
    ("channels!:\n- name: q\n  type: quic\n", "hd-1")])
def test_types_that_are_not_in_this_version(stack, text, role):
    for arguments in ([], ["--check"]):
        done = run_with(stack, role, text, *arguments)
        assert done.returncode == 1 and re.search(r"bad\.yml:3: .*not in this version", done.stdout), done.stdout


def test_private_proxy_is_not_in_this_version(stack):
    environment = dict(os.environ, PROXY_SETTINGS=str(stack.settings / "roles" / "public-proxy-1"))
    done = subprocess.run([str(BIN / "proxy"), "run", "private"], env=environment, timeout=20,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 1 and "not in this version" in done.stdout, done.stdout


def test_no_daemon_said_a_secret(running):
    for name in ALL:
        assert "PRIVATE KEY" not in running.log(name)


def test_logs_have_no_sanitizer_reports(running):
    for name in ALL:
        log = running.log(name)
        assert "Sanitizer" not in log and "runtime error" not in log, log[-3000:]
