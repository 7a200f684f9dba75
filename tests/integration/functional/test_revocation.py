# SPDX-License-Identifier: Apache-2.0
"""What becomes of the connections of an operator whose certificate has left the
directory while they were open."""
import json
import time

import grpc

import hyperproto as proto
from stack import PROXY_HYPER_PORT, wait_until


def without_encryption_certificate(stack, name, folder):
    """A file of the record that takes the operator's TLS certificate out of the directory."""
    records = json.loads((stack.settings / "directory" / "002_certificates.json").read_text())["records"]
    record = next(one for one in records if one["name"] == name)
    record["data"] = [item for item in record["data"] if item["key_usage"] != "encryption"]
    record["created_at"] = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    file = folder / "records.json"
    file.write_text(json.dumps({"records": [record]}))
    return file


def test_a_certificate_that_left_the_directory_ends_its_connection(stack, tmp_path):
    stack.start("sd", "hd-1")
    stack.setup_directory()
    stack.wait_for_ping(target="hd-1")
    file = without_encryption_certificate(stack, "hd-2", tmp_path)
    with proto.Credentials(stack.certs, "hd-2").channel("localhost:8888", "hd-1") as channel:
        ping = proto.call(channel)

        def last_status():
            try:
                ping(proto.request("hd-1._ping(1)", "hd-2", {}), timeout=10)
                return grpc.StatusCode.OK
            except grpc.RpcError as error:
                return error.code()
        assert last_status() == grpc.StatusCode.OK
        done = stack.hyper("hd-1", "sd", "submit-records", str(file))
        assert done.returncode == 0, done.stderr
        # By the call that meets the changed directory, and by the handshake from then on.
        seen = []
        wait_until(lambda: seen.append(last_status()) or seen[-1] != grpc.StatusCode.OK, 20, "the refusal of a call")
        assert seen[-1] == grpc.StatusCode.UNAUTHENTICATED, seen[-1]
        wait_until(lambda: last_status() == grpc.StatusCode.UNAVAILABLE, 20, "the refusal of a connection")


def test_a_certificate_that_left_the_directory_ends_its_reverse_stream(stack, tmp_path):
    """hd-2 keeps a reverse stream to the proxy's operator, over which it gets requests."""
    stack.start("sd", "proxy-hyper", "hd-2")
    stack.setup_directory()

    def error():
        return stack.ping(port=PROXY_HYPER_PORT).get("error", {})
    # hd-2 permits nothing to the proxy's operator, and says so: requests reach it.
    wait_until(lambda: error().get("code") == 403, 30, "an answer of hd-2")
    file = without_encryption_certificate(stack, "hd-2", tmp_path)
    done = stack.hyper("hd-1", "sd", "submit-records", str(file))
    assert done.returncode == 0, done.stderr
    wait_until(lambda: "no channel can deliver" in error().get("message", ""), 20, "a request without a way")
    assert "reverse stream from hd-2 is ended: the directory lists the certificate no longer" in stack.log("proxy-hyper")
    wait_until(lambda: "reverse stream from hd-2 ended" in stack.log("proxy-hyper"), 10, "the end of the stream")


def test_an_operator_hears_that_the_directory_does_not_list_its_certificate(stack, tmp_path):
    records = json.loads((stack.settings / "directory" / "002_certificates.json").read_text())["records"]
    original = next(one for one in records if one["name"] == "hd-1")
    own = next(item["fingerprint"] for item in original["data"] if item["key_usage"] == "encryption")
    stack.start("sd", "hd-1")
    stack.setup_directory()
    stack.wait_for_ping(target="hd-1")

    def times_said(words):
        stack.ping(target="hd-1")  # somebody has to ask for the directory
        return stack.log("hd-1").count(words)
    for data, words in ((None, f"its fingerprint is {own[:16]}..., the service directory lists none"),
                        (original["data"], f"the service directory lists its certificate {own[:16]}... now")):
        file = without_encryption_certificate(stack, "hd-1", tmp_path)
        if data:
            record = dict(original, created_at=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()))
            file.write_text(json.dumps({"records": [record]}))
        before = times_said(words)
        done = stack.hyper("hd-1", "sd", "submit-records", str(file))
        assert done.returncode == 0, done.stderr
        wait_until(lambda: times_said(words) == before + 1, 20, words)
