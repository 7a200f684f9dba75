# SPDX-License-Identifier: Apache-2.0
"""Memory of idle pairs: the real `proxy`, with a stand-in for its operator's server, beside
HAProxy, and a direct connection for what the client's two sockets need.

   idle_memory.py FOLDER [RESULTS]

Each pair carries a byte each way, so that it is joined, and then nothing. Resident sets are
of the program measured; kernel memory is what MemAvailable lost beyond the resident sets of
that program and of this one. All four sockets of a pair are on this machine; the client's
two are in what a direct connection needs.
"""
import base64
import http.client
import json
import os
import pathlib
import resource
import socket
import subprocess
import sys
import time

from bench_stack import HAPROXY_SETTINGS, Figures, make_stack, stack_module, status_kilobytes

STEPS = [int(step) for step in os.environ.get("BENCH_IDLE_PAIRS", "1000,4000").split(",")]

FIRST = 50


def mem_available_kilobytes():
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1])
    raise KeyError("MemAvailable")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def pass_byte(one, other):
    for source, target in ((one, other), (other, one)):
        source.sendall(b"x")
        assert target.recv(1) == b"x"


class Direct:
    name, pid = "direct", None

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self.listener.getsockname()[1]

    def open_pair(self):
        one = socket.create_connection(("127.0.0.1", self.port))
        other, _ = self.listener.accept()
        return one, other

    def close(self):
        self.listener.close()


class Haproxy(Direct):
    name = "haproxy"

    def __init__(self, folder):
        super().__init__()
        back, self.port = self.port, free_port()
        text = HAPROXY_SETTINGS.read_text()
        for name, value in (("ADDRESS", "127.0.0.1"), ("SECOND", "127.0.0.1"), ("FRONT", self.port), ("BACK", back)):
            text = text.replace(f"@{name}@", str(value))
        settings = pathlib.Path(folder) / "haproxy.conf"
        settings.write_text(text)
        self.process = subprocess.Popen(["haproxy", "-db", "-q", "-f", str(settings)])
        self.pid = self.process.pid
        stack_module.wait_until(lambda: stack_module.is_listening(self.port), 20, "HAProxy")
        self.listener.accept()[0].close()  # the trial

    def close(self):
        super().close()
        self.process.terminate()
        self.process.wait()


class Proxy:
    name = "proxy"

    def __init__(self, folder):
        from peers import JsonRpcServer
        self.stack = make_stack(folder)
        (self.stack.overlay / "limits.yml").write_text(  # one requester holds all the pairs
            "public:\n  max_pairs_per_operator: 10000\n  max_tickets_per_operator: 10000\n")
        self.hyper = JsonRpcServer(stack_module.PROXY_HYPER_PORT, self.stack.certs, "public-proxy-1.ga")
        self.stack.start("proxy")
        self.pid = self.stack.processes["proxy"].pid
        stack_module.wait_until(lambda: stack_module.is_listening(stack_module.PROXY_PORT), 20, "the proxy")
        self.control = http.client.HTTPSConnection(
            "localhost", stack_module.PROXY_PORT, timeout=30, context=self.stack.tls_context("public-proxy-1.ga"))
        self.count = 0

    def token(self):
        self.count += 1
        self.control.request("POST", "/jsonrpc", headers={"Content-Type": "application/json"}, body=json.dumps({
            "jsonrpc": "2.0", "id": f"idle-{self.count}", "method": "requestConnection",
            "params": {"to": "hd-2", "channel": "grpc_server",
                       "_client": {"name": "hd-1", "entry": {"name": "hd-1", "channels": []}}}}))
        answer = json.loads(self.control.getresponse().read())
        if "result" not in answer:
            raise SystemExit(f"idle_memory: no ticket: {answer}; log: {self.stack.log(self.name)[-800:]}")
        return base64.b64decode(answer["result"]["token"])

    def open_pair(self):
        token = self.token()
        ends = []
        for _ in range(2):
            ends.append(socket.create_connection(("localhost", stack_module.INTERNAL_PORT)))
            ends[-1].sendall(token)
        return ends

    def check(self, pairs):
        """All pairs are live on sockmap. (Asking for each of them would leave a large heap behind.)"""
        stack_module.wait_until(lambda: self.stack.p2pctl("status")["pairs"]["by_plane"]["sockmap"] == pairs, 30,
                                f"{pairs} pairs on sockmap")

    def close(self):
        self.control.close()
        self.stack.stop(kill=True)
        self.hyper.close()


def snapshot(contender):
    """Resident set of the contender and kernel memory, in KB, when both have come to rest."""
    last = None
    for _ in range(20):
        resident = status_kilobytes(contender.pid) if contender.pid else 0
        now = (resident, -mem_available_kilobytes() - resident - status_kilobytes(os.getpid()))
        if last and abs(now[1] - last[1]) < 256:
            break
        last = now
        time.sleep(0.3)  # the interval of sampling
    return now


def open_pairs(contender, pairs, count):
    while len(pairs) < count:
        pair = contender.open_pair()
        pass_byte(*pair)
        pairs.append(pair)
    if isinstance(contender, Proxy):
        contender.check(count)


def measure(contender, figures):
    """Growth is taken from the first pairs on: they bring in pages of libraries, once."""
    pairs = []
    figures.add("idle", contender.name, "resident_kb", snapshot(contender)[0])
    try:
        open_pairs(contender, pairs, FIRST)
        start = snapshot(contender)
        for step in STEPS:
            open_pairs(contender, pairs, step)
            now = snapshot(contender)
            figures.add(f"idle-{step}", contender.name, "resident_kb_per_pair", (now[0] - start[0]) / (step - FIRST))
            figures.add(f"idle-{step}", contender.name, "kernel_kb_per_pair", (now[1] - start[1]) / (step - FIRST))
            figures.add(f"idle-{step}", contender.name, "resident_kb", now[0])
    finally:
        for pair in pairs:
            for end in pair:
                end.close()


def main():
    figures = Figures(sys.argv[2] if len(sys.argv) > 2 else None)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for make in (Direct, lambda: Haproxy(sys.argv[1]), lambda: Proxy(sys.argv[1])):
        contender = make()
        try:
            print(f"  idle memory: {contender.name}", file=sys.stderr)
            measure(contender, figures)
        finally:
            contender.close()


if __name__ == "__main__":
    main()
