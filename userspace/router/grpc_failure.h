// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The texts in which a failed gRPC call reaches a caller, as programs in
 * service print them (protocol page 6.6, 7.7). Pure; every result is malloc'd,
 * NULL without memory. */

/* A connection could not be made: `connection error: desc = "transport: <text>"`,
 * quoted as Go's %q does. */
char *grpc_failure_connection(const char *text);

/* `Error while dialing <text>`. */
char *grpc_failure_dial(const char *text);

/* Whole detail of a channel error: `error sending request: error performing gRPC
 * call: rpc error: code = <Name> desc = <message>`. */
char *grpc_failure_call(int status, const char *message);
