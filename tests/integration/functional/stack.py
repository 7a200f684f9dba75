# SPDX-License-Identifier: Apache-2.0
"""Starts and stops the daemons under test with settings of their own folder."""
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request

TOP = pathlib.Path(__file__).resolve().parents[3]
BIN = pathlib.Path(os.environ.get("P2P_BIN", TOP / "build" / "bin"))
HD1_PORT, HD2_PORT, PROXY_HYPER_PORT, PROXY_PORT, SD_PORT = 5555, 3334, 5544, 6655, 3322
INTERNAL_PORT, PROXY_GRPC_PORT, HD2_GRPC_PORT, RELAY_TLS_PORT = 9999, 5556, 8889, 9998

COMMANDS = {
    "sd": ("SD_SETTINGS", "sd-1", ["sd", "run"]),
    "proxy": ("PROXY_SETTINGS", "public-proxy-1", ["proxy", "run", "public"]),
    "proxy-hyper": ("HYPER_SETTINGS", "public-proxy-hyper-1", ["hyper", "server", "run"]),
    "hd-1": ("HYPER_SETTINGS", "hd-1", ["hyper", "server", "run"]),
    "hd-2": ("HYPER_SETTINGS", "hd-2", ["hyper", "server", "run"]),
}
ALL = ["sd", "proxy", "proxy-hyper", "hd-1", "hd-2"]


def wait_until(condition, seconds=30, what="condition"):
    """Polls until `condition()` is true; returns its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        time.sleep(0.02)  # the pace of polling, not a synchronisation


def is_listening(port, host="127.0.0.1"):
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def read_to_end(connection, seconds=15):
    """Everything until the other side closes or resets."""
    deadline = time.monotonic() + seconds
    data = b""
    try:
        while True:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            part = connection.recv(65536)
            if not part:
                break
            data += part
            assert time.monotonic() < deadline, f"the connection is still open after {seconds} s"
    except (TimeoutError, socket.timeout):
        raise AssertionError(f"the connection is still open after {seconds} s") from None
    except OSError:
        pass
    return data


class Rpc(dict):
    """A JSON-RPC answer with its HTTP status."""

    status = 0


class Stack:
    def __init__(self, folder, certs_from=None):
        self.folder = pathlib.Path(folder)
        self.settings = self.folder / "settings"
        shutil.copytree(TOP / "settings" / "dev", self.settings,
                        ignore=shutil.ignore_patterns("certs", "data"), dirs_exist_ok=True)
        if certs_from:
            shutil.copytree(certs_from / "certs", self.settings / "certs", dirs_exist_ok=True)
            shutil.copy(certs_from / "directory" / "002_certificates.json", self.settings / "directory")
        self.certs = self.settings / "certs"
        self.overlay = self.folder / "overlay"
        self.overlay.mkdir(exist_ok=True)
        self.control = self.folder / "control.sock"
        (self.overlay / "control.yml").write_text(f"control:\n  path: {self.control}\n")
        self.processes = {}
        self.environment = {}

    # ---- processes ----
    def start(self, *names, extra=""):
        for name in names:
            variable, role, command = COMMANDS[name]
            path = str(self.settings / "roles" / role)
            if name == "proxy":
                path += f":{self.overlay}"
            if extra:
                path += f":{extra}"
            environment = dict(os.environ, **self.environment)
            environment[variable] = path
            log = open(self.folder / f"{name}.log", "ab")
            self.processes[name] = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]], env=environment, stdout=log, stderr=log)
            log.close()
        return self

    def stop(self, *names, kill=False):
        for name in names or list(self.processes):
            process = self.processes.pop(name, None)
            if process is None:
                continue
            process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            try:
                status = process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(f"{name} did not stop: {self.log(name)[-2000:]}")
            if not kill:
                assert status == 0, f"{name} ended with {status}: {self.log(name)[-3000:]}"

    def log(self, name):
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def check_alive(self):
        for name, process in self.processes.items():
            assert process.poll() is None, f"{name} died with {process.returncode}: {self.log(name)[-3000:]}"

    # ---- directory ----
    def setup_directory(self):
        environment = dict(os.environ, PATH=f"{BIN}:{os.environ['PATH']}")
        done = subprocess.run([str(TOP / "tools" / "sd-setup.sh"), str(self.settings)], env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=90)
        assert done.returncode == 0, done.stdout.decode(errors="replace")

    def hyper(self, role, *arguments):
        environment = dict(os.environ, HYPER_SETTINGS=str(self.settings / "roles" / role))
        return subprocess.run([str(BIN / "hyper"), *arguments], env=environment, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    # ---- calls ----
    def tls_context(self, name="hd-1"):
        context = ssl.create_default_context(cafile=str(self.certs / "root.crt"))
        context.check_hostname = False
        if name:
            context.load_cert_chain(self.certs / f"{name}.crt", self.certs / f"{name}.key")
        return context

    def http(self, port, body, name="hd-1", content_type="application/json", path="/jsonrpc", method="POST",
             headers=None, timeout=40):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        request = urllib.request.Request(f"https://localhost:{port}{path}", data=body, method=method)
        if content_type:
            request.add_header("Content-Type", content_type)
        for key, value in (headers or {}).items():
            request.add_header(key, value)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.tls_context(name)))
        try:
            with opener.open(request, timeout=timeout) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def rpc(self, port, method, params=None, identifier="1", name="hd-1", timeout=40):
        status, body = self.http(port, {"jsonrpc": "2.0", "method": method, "params": params or {},
                                        "id": identifier}, name=name, timeout=timeout)
        answer = Rpc(json.loads(body))
        answer.status = status
        return answer

    def ping(self, target="hd-2", port=HD1_PORT, params=None):
        try:
            return self.rpc(port, f"{target}._ping", params)
        except (OSError, ValueError) as error:
            return Rpc(error={"message": f"{type(error).__name__}: {error}"})

    def wait_for_ping(self, seconds=30, **arguments):
        last = {}

        def answered():
            last.clear()
            last.update(self.ping(**arguments))
            return "result" in last
        try:
            wait_until(answered, seconds, "a ping with an answer")
        except AssertionError as error:
            logs = "\n".join(f"--- {name}\n{self.log(name)[-1500:]}" for name in self.processes)
            raise AssertionError(f"{error}; last: {last}\n{logs}") from None
        return dict(last)

    def p2pctl(self, *arguments):
        done = subprocess.run([str(BIN / "p2pctl"), "--socket", str(self.control), "--json", *arguments],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
