// SPDX-License-Identifier: Apache-2.0
#pragma once
/* JSON-RPC 2.0 messages as pure functions (protocol page 4.1, 4.2). */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define JSONRPC_PARSE_ERROR (-32700)
#define JSONRPC_INVALID_REQUEST (-32600)
#define JSONRPC_METHOD_NOT_FOUND (-32601)
#define JSONRPC_INVALID_PARAMS (-32602)
#define JSONRPC_INTERNAL_ERROR (-32603)

struct jsonrpc_request {
	char *method;
	json_t *params; /* an object */
	char *id;       /* internal id of 4.2: "n:5", "nn:5", text, or 32 random hex digits */
};

/* Reads one request. Returns 0, or JSONRPC_PARSE_ERROR / JSONRPC_INVALID_REQUEST
 * (JSONRPC_INTERNAL_ERROR: no memory or randomness)
 * with a malloc'd detail. Clear the request in every case. Absent params are an
 * empty object, as JSON-RPC 2.0 has it. */
int jsonrpc_request_read(const char *text, size_t length, struct jsonrpc_request *request, char **detail);
/* As other Hyper programs read a request: params are required. The faults of an
 * invalid request as field -> detail, for jsonrpc_form_error(): a new reference, else NULL. */
int jsonrpc_request_parse(const char *text, size_t length, struct jsonrpc_request *request, json_t **faults);
void jsonrpc_request_clear(struct jsonrpc_request *request);

/* Internal id to the `id` member of an answer. */
json_t *jsonrpc_id_to_json(const char *internal_id);

/* Whole answer as text. `result` NULL: the member is omitted. `id` NULL: null. */
char *jsonrpc_result_text(const json_t *result, const char *internal_id, size_t *length);
char *jsonrpc_error_text(int code, const char *message, const json_t *data, const char *internal_id, size_t *length);

/* {"message":"invalid input data: field(detail), …","code":"FORM-ERROR","data":{field: detail},"traceback":[]}
 * from an object of field -> detail. New reference. */
json_t *jsonrpc_form_error(const json_t *fields);

/* One answer read by a client. */
struct jsonrpc_answer {
	json_t *result; /* NULL if absent; null stays JSON null */
	bool is_error;
	int code;
	char *message;
	json_t *data;
};
int jsonrpc_answer_read(const char *text, size_t length, struct jsonrpc_answer *answer, char **detail);
void jsonrpc_answer_clear(struct jsonrpc_answer *answer);

/* Request text: members jsonrpc, method, params, id (always present). */
char *jsonrpc_request_text(const char *method, const json_t *params, const char *id, size_t *length);
