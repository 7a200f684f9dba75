# SPDX-License-Identifier: Apache-2.0
"""A proxy with its TLS endpoint and a stand-in for its hyper, for tests that play
both parties."""
import base64
import hashlib
import ssl
import time

from peers import JsonRpcServer, dial_relay
from relay_client import Party
from stack import is_listening, wait_until

TLS_HELLO = b"\x16\x03\x01"  # how payload that is TLS begins


def fingerprint(certs, name):
    der = ssl.PEM_cert_to_DER_cert((certs / f"{name}.crt").read_text().split("-----END")[0] + "-----END CERTIFICATE-----\n")
    return hashlib.sha256(der).hexdigest()


class Relay:
    """The proxy with a stand-in for its hyper, which plays the directory."""

    def __init__(self, stack, settings="", token_timeout=1):
        self.stack, self.certs = stack, stack.certs
        self.looked_up, self.directory_answers, self.refusal = [], True, None
        (stack.overlay / "test.yml").write_text(f"public:\n  token_timeout: {token_timeout}\n  accept_timeout: 4.0\n" + settings)
        self.hyper = JsonRpcServer(5544, stack.certs, "public-proxy-1.ga", self.answer)
        stack.start("proxy")
        wait_until(lambda: is_listening(6655) and is_listening(9998), 20, "the proxy")
        self.open = []

    def answer(self, call):
        if call["method"] == "public-proxy-1.ga._directory":
            name = call["params"]["operator"]
            self.looked_up.append(name)
            if not self.directory_answers:
                return {"error": {"code": -32603, "message": "no directory", "data": None}}
            entries = [{"name": name, "certificates": [
                {"fingerprint": fingerprint(self.certs, name), "key_usage": "encryption"}]}]
            return {"result": {"entries": entries if (self.certs / f"{name}.crt").exists() else []}}
        if self.refusal:
            return {"error": {"code": self.refusal, "message": "not now", "data": None}}
        self.offered = call["params"].get("relay_tls")
        self.token = base64.b64decode(call["params"]["token"])
        if self.on_request:
            self.on_request(self.token)
        return {"result": {}}

    on_request = None

    def ticket(self, requester="hd-1", callee="hd-2"):
        reply = self.stack.rpc(6655, "requestConnection", {
            "to": callee, "channel": "grpc_server",
            "_client": {"name": requester, "entry": {"name": requester, "channels": []}}}, name="public-proxy-1.ga")
        assert "result" in reply, reply
        assert reply["result"]["relay_tls"] == {"endpoint": "localhost:9998", "server_name": "public-proxy-1.ga",
                                                "version": 1}
        return base64.b64decode(reply["result"]["token"])

    def party(self, name, kind=Party, **arguments):
        self.open.append(kind(self.certs, name, **arguments))
        return self.open[-1]

    def plain(self, token):
        self.open.append(dial_relay("localhost:9999", token))
        return self.open[-1]

    def joined(self, first="hd-2", second="hd-1", kind=Party, **fields):
        """Two parties that were told that they are joined."""
        token = self.ticket()
        parties = [self.party(name, kind).hello(token, **fields) for name in (first, second)]
        for one in parties:
            answer = one.answer()
            assert answer.joined and answer.version == 1, answer
            assert answer.handed_off == fields.get("payload_encrypted", True)
        return parties

    def pairs(self):
        return self.stack.p2pctl("pairs")["pairs"]

    def wait_for_pair(self):
        return wait_until(lambda: self.pairs(), 10, "a pair")[-1]

    def log(self):
        return self.stack.log("proxy")

    def wait_for_log(self, *texts):
        """Waits for a line with all of them, since the last forget()."""
        def is_there():
            return any(all(text in line for text in texts) for line in self.log()[self.forgotten:].splitlines())
        wait_until(is_there, 10, f"a log line with {texts}")

    def assert_works(self, seconds=3):
        """Two honest parties are joined, and soon."""
        started = time.monotonic()
        one, other = self.joined()
        for party in (one, other):
            party.hand_off()
        one.send(TLS_HELLO + b"one")
        assert other.read_exactly(6) == TLS_HELLO + b"one"
        other.send(TLS_HELLO + b"two")
        assert one.read_exactly(6) == TLS_HELLO + b"two"
        assert time.monotonic() - started < seconds
        one.close()
        other.close()

    forgotten = 0

    def forget(self):
        for one in self.open:
            one.close()
        self.open.clear()
        self.forgotten = len(self.log())


def refused(party, outcome):
    answer = party.answer()
    assert not answer.joined and not answer.handed_off
    assert answer.outcome == outcome, answer
    assert answer.detail
    assert party.socket.recv(1) == b""  # an orderly end: close_notify
    return answer
