# SPDX-License-Identifier: Apache-2.0
"""What the settings say about the relay's TLS endpoint: where the proxy knows the
operators from, and whether a hyper uses the endpoint."""
import json

import pytest

from relay_stand import Relay, fingerprint, refused
from stack import ALL, wait_until


@pytest.fixture
def make_relay(make_stack):
    made = []

    def make(settings=""):
        made.append(Relay(make_stack(), settings))
        return made[-1]
    yield make
    for one in made:
        one.forget()
        one.hyper.close()


# ---- the proxy ----

def test_a_directory_that_does_not_answer_is_an_outcome(make_relay):
    relay = make_relay()
    relay.directory_answers = False
    refused(relay.party("hd-1").hello(relay.ticket()), "unidentified")
    relay.wait_for_log("unidentified", "the directory cannot be asked")
    relay.directory_answers = True
    relay.assert_works()


def test_the_directory_is_asked_once_for_a_while(make_relay):
    relay = make_relay()
    for _ in range(4):
        relay.assert_works()
    assert sorted(relay.looked_up) == ["hd-1", "hd-2"]


def test_a_directory_of_the_proxy_s_own(make_relay, tmp_path):
    settings = "  directory:\n    type: json\n    settings:\n      path: {}\n"
    relay = make_relay(settings.format(tmp_path))
    records = [{"name": name, "section": "certificates", "created_at": "2026-01-01T00:00:00Z", "data": [
        {"fingerprint": fingerprint(relay.certs, name), "key_usage": "encryption"}]} for name in ("hd-1", "hd-2")]
    (tmp_path / "records.json").write_text(json.dumps({"records": records}))
    relay.assert_works()
    assert relay.looked_up == []
    refused(relay.party("hd-1", suffix="-alt").hello(relay.ticket()), "unidentified")


def test_stopping_tells_those_who_wait(make_relay):
    relay = make_relay()
    party = relay.party("hd-2").hello(relay.ticket())
    wait_until(lambda: relay.stack.p2pctl("status")["endpoint"]["waiting"] == 1, 10, "the party")
    relay.stack.stop("proxy")
    refused(party, "shutdown")


# ---- hyper ----

def start_with(stack, proxy="", **use):
    """The whole stack with `relay_tls` of the two servers as given."""
    if proxy:
        (stack.overlay / "tls.yml").write_text(proxy)
    for name in ALL:
        if name.replace("-", "") in use:
            role = stack.settings / "roles" / name / "settings.yml"
            role.write_text(role.read_text().replace(
                "      useProxy: true\n", f"      useProxy: true\n      relay_tls: {use[name.replace('-', '')]}\n"))
            assert "relay_tls" in role.read_text()
        stack.start(name)
    stack.setup_directory()


def told(stack):
    pairs = stack.p2pctl("pairs")["pairs"]
    assert pairs
    return {party["operator"]: (party["identified"], party["transport"]) for party in pairs[-1]["parties"]}


IDENTIFIED, TOKEN_ONLY = (True, "handed off"), (False, "plain TCP")


@pytest.mark.parametrize("hd1, hd2, expected", [
    ("prefer", "prefer", (IDENTIFIED, IDENTIFIED)),
    ("require", "require", (IDENTIFIED, IDENTIFIED)),
    ("off", "off", (TOKEN_ONLY, TOKEN_ONLY)),
    ("off", "prefer", (TOKEN_ONLY, IDENTIFIED)),
    ("require", "off", (IDENTIFIED, TOKEN_ONLY)),
])
def test_each_server_chooses_for_itself(stack, hd1, hd2, expected):
    start_with(stack, hd1=hd1, hd2=hd2)
    stack.wait_for_ping()
    assert told(stack) == {"hd-1": expected[0], "hd-2": expected[1]}
    stack.check_alive()
    stack.stop()


NO_TLS = "public:\n  relay_tls_bind_address: \"\"\n"


def failure_of(stack, text):
    """Waits for a ping that fails with that text."""
    last = {}

    def failed():
        last.clear()
        last.update(stack.ping())
        return text in last.get("error", {}).get("message", "")
    wait_until(failed, 30, f"a ping that fails with '{text}'")


@pytest.mark.parametrize("who", ["hd1", "hd2"])
def test_require_without_an_offer_is_an_error_that_says_so(stack, who):
    start_with(stack, proxy=NO_TLS, **{who: "require"})
    failure_of(stack, "relay_tls is set to require, but the proxy offers no TLS endpoint")
    assert stack.p2pctl("pairs")["pairs"] == []


def test_prefer_without_an_offer_uses_the_plain_endpoint(stack):
    start_with(stack, proxy=NO_TLS)
    stack.wait_for_ping()
    assert told(stack) == {"hd-1": TOKEN_ONLY, "hd-2": TOKEN_ONLY}


def test_allowed_relay_endpoints_hold_for_the_tls_endpoint_too(stack):
    role = stack.settings / "roles" / "hd-2" / "settings.yml"
    role.write_text(role.read_text().replace(
        "      useProxy: true\n", "      useProxy: true\n      allowed_relay_endpoints: ['localhost:9999']\n"))
    assert "allowed_relay" in role.read_text()
    start_with(stack)
    failure_of(stack, "the endpoint is not allowed here")


def test_a_relay_with_another_operator_s_certificate_gets_no_token(stack):
    certs = stack.certs
    start_with(stack, proxy=f"""
public:
  relay_tls:
    ca_certificate_files: [{certs / 'root.crt'}]
    certificate_file: {certs / 'op-1.crt'}
    key_file: {certs / 'op-1.key'}
""")
    failure_of(stack, "TLS handshake with the relay failed")
    status = stack.p2pctl("status")["endpoint"]
    assert status["tls"]["accepted"] > 0 and status["waiting"] == 0


def test_a_relay_whose_certificate_is_not_in_the_directory_gets_no_token(stack):
    certs = stack.certs
    start_with(stack, proxy=f"""
public:
  relay_tls:
    ca_certificate_files: [{certs / 'root.crt'}]
    certificate_file: {certs / 'public-proxy-1.ga-alt.crt'}
    key_file: {certs / 'public-proxy-1.ga-alt.key'}
""")
    failure_of(stack, "the relay's certificate is not that of public-proxy-1.ga in the service directory")
    assert stack.p2pctl("status")["endpoint"]["waiting"] == 0
