# SPDX-License-Identifier: Apache-2.0
"""Independent Python parties of the relay scenario: an A that asks for a
connection and uses it, a B that keeps a reverse stream and dials out, and a
stand-in for the proxy operator's own server. Sockets, grpcio and the standard
library only."""
import base64
import json
import queue
import socket
import ssl
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

import hyperproto as proto


def pump(source, target):
    """Copies one direction until its end, then passes the end on."""
    try:
        while True:
            data = source.recv(65536)
            if not data:
                break
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for one in (source, target):
            # Closing alone sends nothing while the other thread still reads from it.
            for end in (lambda: one.shutdown(socket.SHUT_RDWR), one.close):
                try:
                    end()
                except OSError:
                    pass


def bridge(one, other):
    for source, target in ((one, other), (other, one)):
        threading.Thread(target=pump, args=(source, target), daemon=True).start()


def dial_relay(endpoint, token):
    host, port = endpoint.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.settimeout(None)
    connection.sendall(token)
    return connection


class PythonA:
    """Caller: one gRPC call per request, each over a relayed connection of its own."""

    def __init__(self, credentials, proxy_address="localhost:5556", proxy="public-proxy-1.ga"):
        self.credentials, self.proxy_address, self.proxy = credentials, proxy_address, proxy

    def request_connection(self, to, channel="grpc_server", timeout=20):
        params = {"to": to, "channel": channel,
                  "_client": {"name": self.credentials.name, "entry": {"name": self.credentials.name}}}
        identifier = f"{self.proxy}.requestConnection({'0123456789abcdef'})"
        with self.credentials.channel(self.proxy_address, self.proxy) as channel_:
            return proto.call(channel_)(proto.request(identifier, self.credentials.name, params), timeout=timeout)

    def call_over(self, relay_socket, to, identifier, params, timeout=20):
        """A gRPC call whose TLS runs over an already dialled socket: grpcio dials
        a local listener that is bridged to it once."""
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]

        def serve():
            local, _ = listener.accept()
            listener.close()
            bridge(local, relay_socket)
        threading.Thread(target=serve, daemon=True).start()
        with self.credentials.channel(f"127.0.0.1:{port}", to) as channel:
            return proto.call(channel)(proto.request(identifier, self.credentials.name, params), timeout=timeout)

    def call(self, to, method, params, identifier="1"):
        answer = self.request_connection(to)
        assert not answer.HasField("error"), answer
        result = proto.from_struct(answer.result)
        token = base64.b64decode(result["token"], validate=True)
        assert len(token) == 32
        return self.call_over(dial_relay(result["endpoint"], token), to, f"{to}.{method}({identifier})", params)


class PythonB:
    """Callee: reverse stream to the proxy's server, dials the relay on request and
    serves gRPC there (a local grpcio server behind a bridge)."""

    def __init__(self, credentials, proxy_address="localhost:5556", proxy="public-proxy-1.ga", on_call=None,
                 refuse=None, dial=True):
        self.credentials, self.refuse, self.dial = credentials, refuse, dial
        self.requests, self.calls = [], []
        self.on_call = on_call or self.echo
        self.server = grpc.server(futures.ThreadPoolExecutor(8))
        self.server.add_generic_rpc_handlers((proto.Service(on_call=self._called),))
        self.port = self.server.add_secure_port("127.0.0.1:0", credentials.server_credentials())
        self.server.start()
        self.channel = credentials.channel(proxy_address, proxy)
        self.answers = queue.Queue()
        self.answers.put(proto.response("1", {"name": credentials.name}))
        self.stream = proto.server_call(self.channel)(iter(self.answers.get, None), wait_for_ready=True)
        threading.Thread(target=self._serve_stream, daemon=True).start()

    def echo(self, message):
        return proto.response(message.id, {"echo": proto.from_struct(message.params), "by": self.credentials.name})

    def _called(self, message):
        self.calls.append(message)
        return self.on_call(message)

    def _serve_stream(self):
        try:
            for message in self.stream:
                self.requests.append(message)
                self.answers.put(self._answer(message))
        except grpc.RpcError:
            pass

    def _answer(self, message):
        if self.refuse:
            return proto.response(message.id, error=self.refuse)
        if not message.id.split("(")[0].endswith("._connectionRequest"):
            return proto.response(message.id, error=(404, "unknown method"))
        params = proto.from_struct(message.params)
        if self.dial:
            relay = dial_relay(params["endpoint"], base64.b64decode(params["token"], validate=True))
            local = socket.create_connection(("127.0.0.1", self.port))
            bridge(relay, local)
        return proto.response(message.id)

    def close(self):
        self.answers.put(None)
        self.stream.cancel()
        self.channel.close()
        self.server.stop(0)


class JsonRpcServer:
    """HTTPS JSON-RPC server that records calls: the stand-in for an operator's
    own hyper (as the proxy sees it) or for its local service."""

    def __init__(self, port, certs=None, name=None, answer=None):
        self.calls = queue.Queue()
        self.answer = answer or (lambda call: {"result": {}})
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner.calls.put((call, dict(self.headers.items())))
                reply = owner.answer(call)
                if isinstance(reply, dict):
                    reply = json.dumps(dict({"jsonrpc": "2.0", "id": call.get("id") or "x"}, **reply)).encode()
                self.send_response(400 if b'"error"' in reply else 200)
                self.send_header("Content-Type", "application/json; charset=utf-8")
                self.send_header("Content-Length", str(len(reply)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *arguments):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request, client_address):
                pass
        self.server = Server(("127.0.0.1", port), Handler)
        if certs:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certs / f"{name}.crt", certs / f"{name}.key")
            context.load_verify_locations(certs / "root.crt")
            context.verify_mode = ssl.CERT_REQUIRED
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class PythonProxyServer:
    """Stand-in for the proxy operator's gRPC server: records unary calls, keeps
    reverse streams, sends requests over them."""

    def __init__(self, credentials, address="localhost:5556", on_call=None):
        self.credentials = credentials
        self.on_call = on_call or (lambda message: proto.response(message.id, error=(404, "nobody")))
        self.streams, self.calls = {}, queue.Queue()
        self.changed = threading.Condition()
        self.server = grpc.server(futures.ThreadPoolExecutor(16))
        self.server.add_generic_rpc_handlers((proto.Service(self._called, self._stream),))
        assert self.server.add_secure_port(address, credentials.server_credentials())
        self.server.start()

    def _called(self, message):
        self.calls.put(message)
        return self.on_call(message)

    def _stream(self, messages, context):
        announced = next(messages)
        name = proto.from_struct(announced.result)["name"]
        outgoing, incoming = queue.Queue(), queue.Queue()

        def read():
            try:
                for message in messages:
                    incoming.put(message)
            except Exception:
                pass
            incoming.put(None)
            outgoing.put(None)
        threading.Thread(target=read, daemon=True).start()
        with self.changed:
            self.streams[name] = (outgoing, incoming, announced)
            self.changed.notify_all()
        yield from iter(outgoing.get, None)

    def wait_for_stream(self, name, seconds=20):
        with self.changed:
            assert self.changed.wait_for(lambda: name in self.streams, seconds), f"{name} opened no reverse stream"
        return self.streams[name]

    def ask(self, name, message, seconds=20):
        outgoing, incoming, _ = self.wait_for_stream(name, seconds)
        outgoing.put(message)
        return incoming.get(timeout=seconds)

    def close(self):
        for outgoing, _, _ in self.streams.values():
            outgoing.put(None)
        self.server.stop(0)
