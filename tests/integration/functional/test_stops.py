# SPDX-License-Identifier: Apache-2.0
"""A hyper that is told to stop while others still have its requests."""
import http.client
import json
import signal

from stack import PROXY_HYPER_PORT, wait_until


def test_a_request_under_way_over_a_reverse_stream(stack):
    """hd-2 is frozen while it has a request; the hyper that sent it still stops in order."""
    stack.start("sd", "proxy-hyper", "hd-2")
    stack.setup_directory()
    # hd-2 permits nothing to the proxy's operator, and says so.
    wait_until(lambda: stack.ping(port=PROXY_HYPER_PORT).get("error", {}).get("code") == 403, 30, "an answer of hd-2")
    frozen = stack.processes["hd-2"]
    frozen.send_signal(signal.SIGSTOP)
    try:
        under_way = http.client.HTTPSConnection("localhost", PROXY_HYPER_PORT, timeout=30, context=stack.tls_context())
        under_way.request("POST", "/jsonrpc", json.dumps({"jsonrpc": "2.0", "method": "hd-2._ping", "params": {}, "id": "1"}),
                          {"Content-Type": "application/json"})
        for _ in range(3):  # it has arrived when later ones have been answered
            assert "result" in stack.rpc(PROXY_HYPER_PORT, "public-proxy-1.ga._ping")
        stack.stop("proxy-hyper")
        assert "the server is stopping" in json.load(under_way.getresponse())["error"]["message"]
        under_way.close()
    finally:
        frozen.send_signal(signal.SIGCONT)
