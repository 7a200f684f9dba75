# SPDX-License-Identifier: Apache-2.0
"""The wire format of operator-to-operator messages, written from the protocol
description alone: no code of this project is used. It gives Python peers that
speak gRPC (grpcio) with messages built from descriptors made here."""
import json

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, struct_pb2

_STRUCT = ".google.protobuf.Struct"
_TYPES = {"string": 9, "int32": 5}


def _message(file, name, fields):
    message = file.message_type.add(name=name)
    for number, (field, kind) in enumerate(fields, 1):
        entry = message.field.add(name=field, number=number, label=1)
        if kind in _TYPES:
            entry.type = _TYPES[kind]
        else:
            entry.type, entry.type_name = 11, kind


_file = descriptor_pb2.FileDescriptorProto(
    name="peer.proto", syntax="proto3", dependency=["google/protobuf/struct.proto"])
_message(_file, "Request", [("method", "string"), ("params", _STRUCT), ("id", "string"), ("clientName", "string")])
_message(_file, "Response", [("id", "string"), ("result", _STRUCT), ("error", ".Error")])
_message(_file, "Error", [("code", "int32"), ("message", "string"), ("data", _STRUCT)])
_pool = descriptor_pool.DescriptorPool()
_pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
_pool.Add(_file)
_factory = message_factory.MessageFactory(_pool)
Request = _factory.GetPrototype(_pool.FindMessageTypeByName("Request"))
Response = _factory.GetPrototype(_pool.FindMessageTypeByName("Response"))


def to_struct(value, target):
    json_format.ParseDict(value, target)


def from_struct(struct):
    return json_format.MessageToDict(struct)


def request(identifier, client, params=None, method=None):
    message = Request(id=identifier, clientName=client, method=method or identifier.split("(")[0])
    if params is not None:
        to_struct(params, message.params)
        message.params.SetInParent()
    return message


def response(identifier, result=None, error=None):
    message = Response(id=identifier)
    if result is not None:
        to_struct(result, message.result)
        message.result.SetInParent()
    if error is not None:
        message.error.code, message.error.message = error[0], error[1]
    return message


class Credentials:
    """Certificate, key and root of one operator, from a `certs` folder."""

    def __init__(self, certs, name, suffix=""):
        self.name = name
        self.root = (certs / "root.crt").read_bytes()
        self.certificate = (certs / f"{name}{suffix}.crt").read_bytes()
        self.key = (certs / f"{name}{suffix}.key").read_bytes()

    def channel(self, address, server_name):
        credentials = grpc.ssl_channel_credentials(self.root, self.key, self.certificate)
        return grpc.secure_channel(address, credentials, options=[
            ("grpc.ssl_target_name_override", server_name), ("grpc.default_authority", server_name),
            ("grpc.enable_http_proxy", 0)])

    def server_credentials(self):
        return grpc.ssl_server_credentials([(self.key, self.certificate)], self.root, True)


def call(channel):
    return channel.unary_unary("/Hyper/Call", Request.SerializeToString, Response.FromString)


def server_call(channel):
    return channel.stream_stream("/Hyper/ServerCall", Response.SerializeToString, Request.FromString)


class Service(grpc.GenericRpcHandler):
    """service Hyper of a Python operator. `on_call(request) -> Response`,
    `on_stream(responses) -> iterator of Request`."""

    def __init__(self, on_call=None, on_stream=None):
        self.on_call, self.on_stream = on_call, on_stream

    def service(self, details):
        if details.method == "/Hyper/Call" and self.on_call:
            return grpc.unary_unary_rpc_method_handler(
                lambda message, context: self.on_call(message), Request.FromString, Response.SerializeToString)
        if details.method == "/Hyper/ServerCall" and self.on_stream:
            return grpc.stream_stream_rpc_method_handler(
                lambda messages, context: self.on_stream(messages, context),
                Response.FromString, Request.SerializeToString)
        return None


def pretty(value):
    return json.dumps(value, indent=1, sort_keys=True)
