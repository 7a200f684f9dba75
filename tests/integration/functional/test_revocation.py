# SPDX-License-Identifier: Apache-2.0
"""What becomes of the connections of an operator whose certificate has left the
directory while they were open."""
import json
import time

import grpc

import hyperproto as proto
from stack import wait_until


def test_a_certificate_that_left_the_directory_ends_its_connection(stack, tmp_path):
    stack.start("sd", "hd-1")
    stack.setup_directory()
    stack.wait_for_ping(target="hd-1")
    records = json.loads((stack.settings / "directory" / "002_certificates.json").read_text())["records"]
    record = next(one for one in records if one["name"] == "hd-2")
    record["data"] = [item for item in record["data"] if item["key_usage"] != "encryption"]
    record["created_at"] = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    file = tmp_path / "records.json"
    file.write_text(json.dumps({"records": [record]}))
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
