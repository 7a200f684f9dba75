// SPDX-License-Identifier: Apache-2.0
/* Reads and writes JSON-RPC 2.0 messages. Pure but for random ids.
 *
 * Envelopes are written by hand around the text of their values, in the member
 * order that existing programs use: an answer of many kilobytes is then not
 * wrapped into another JSON value first. */
#include "jsonrpc/message.h"

#include "base/cleanup.h"
#include "base/encoding.h"
#include "base/json.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <openssl/rand.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_METHOD_BYTES 100
#define MOST_ID_BYTES 1024
#define MOST_NUMBER_DIGITS 32
#define MOST_REQUEST_VALUES 200000 /* some 50 MB and a fifth of a second */

static char *printf_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *printf_text(const char *format, ...)
{
	char *text = NULL;
	va_list arguments;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	va_end(arguments);
	return text;
}

/* ---- ids ---- */

/* How many `n` stand before the colon of "nn:-5"; 0: another kind of text. */
static size_t count_marks(const char *id)
{
	size_t marks = strspn(id, "n"), digits;
	const char *number = id + marks + 1;

	if (marks == 0 || id[marks] != ':')
		return 0;
	if (*number == '-')
		number++;
	digits = strspn(number, "0123456789");
	return digits >= 1 && digits <= MOST_NUMBER_DIGITS && !number[digits] ? marks : 0;
}

static char *double_marks(const char *id, size_t marks)
{
	size_t length = strlen(id);
	char *text = malloc(marks + length + 1);

	if (text) {
		memset(text, 'n', marks);
		memcpy(text + marks, id, length + 1);
	}
	return text;
}

static char *random_id(void)
{
	uint8_t bytes[16];
	char *text = malloc(2 * sizeof(bytes) + 1);

	if (!text || RAND_bytes(bytes, sizeof(bytes)) != 1) {
		free(text);
		return NULL;
	}
	hex_encode(bytes, sizeof(bytes), text);
	return text;
}

static bool is_integer(const json_t *value, double least, double most)
{
	double number = json_number_value(value);

	return json_is_number(value) && number >= least && number <= most && number == trunc(number);
}

/* 0, -ENOMEM, or -EINVAL: neither of the allowed forms. */
static int read_id(const json_t *id, char **internal_id)
{
	const char *text = json_string_value(id);
	size_t marks;

	if (!id || json_is_null(id) || (text && json_string_length(id) == 0)) {
		*internal_id = random_id();
	} else if (text) {
		if (json_string_length(id) > MOST_ID_BYTES || strlen(text) != json_string_length(id))
			return -EINVAL;
		marks = count_marks(text);
		*internal_id = marks ? double_marks(text, marks) : strdup(text);
	} else if (is_integer(id, INT32_MIN, INT32_MAX)) {
		*internal_id = printf_text("n:%d", (int)json_number_value(id));
	} else {
		return -EINVAL;
	}
	return *internal_id ? 0 : -ENOMEM;
}

json_t *jsonrpc_id_to_json(const char *internal_id)
{
	size_t marks = internal_id ? count_marks(internal_id) : 0;

	if (!internal_id)
		return json_null();
	if (marks == 1) {
		errno = 0;
		long long number = strtoll(internal_id + 2, NULL, 10);
		if (errno == 0)
			return json_integer(number);
	} else if (marks % 2 == 0) {
		return json_string(internal_id + marks / 2);
	}
	return json_string(internal_id);
}

/* ---- requests ---- */

/* Steals the value; NULL if it is no object. */
static json_t *only_object(json_t *value)
{
	if (!json_is_object(value)) {
		json_decref(value);
		return NULL;
	}
	return value;
}

static void add_fault(json_t *faults, const char *field, const char *detail)
{
	json_object_set_new(faults, field, json_string(detail));
}

static int check_request(const json_t *object, bool needs_params, struct jsonrpc_request *request, json_t *faults)
{
	const json_t *version = json_object_get(object, "jsonrpc"), *method = json_object_get(object, "method");
	json_t *params = json_object_get(object, "params");
	size_t length = json_string_length(method);
	int error;

	if (!json_is_string(version))
		add_fault(faults, "jsonrpc", version ? "expected a string" : "is required");
	else if (strcmp(json_string_value(version), "2.0") != 0)
		add_fault(faults, "jsonrpc", "must be '2.0'");
	if (!json_is_string(method))
		add_fault(faults, "method", method ? "expected a string" : "is required");
	else if (length < 1 || length > MOST_METHOD_BYTES || strlen(json_string_value(method)) != length)
		add_fault(faults, "method", "must have 1 to 100 bytes");
	if (params ? !json_is_object(params) : needs_params)
		add_fault(faults, "params", params ? "expected an object" : "is required");
	error = read_id(json_object_get(object, "id"), &request->id);
	if (error == -EINVAL)
		add_fault(faults, "id", "must be a string of at most 1024 bytes or a 32-bit integer");
	if (json_object_size(faults) > 0)
		return JSONRPC_INVALID_REQUEST;
	request->method = strdup(json_string_value(method));
	request->params = params ? json_incref(params) : json_object();
	return error || !request->method || !request->params ? JSONRPC_INTERNAL_ERROR : 0;
}

static int parse(const char *text, size_t length, bool needs_params, struct jsonrpc_request *request, json_t **faults)
{
	json_error_t error;
	json_t *object = only_object(json_read_bounded(text, length, MOST_REQUEST_VALUES, &error));
	int code;

	memset(request, 0, sizeof(*request));
	*faults = NULL;
	if (!object)
		return JSONRPC_PARSE_ERROR;
	*faults = json_object();
	code = *faults ? check_request(object, needs_params, request, *faults) : JSONRPC_INTERNAL_ERROR;
	if (code != JSONRPC_INVALID_REQUEST) {
		json_decref(*faults);
		*faults = NULL;
	}
	json_decref(object);
	return code;
}

int jsonrpc_request_parse(const char *text, size_t length, struct jsonrpc_request *request, json_t **faults)
{
	return parse(text, length, true, request, faults);
}

int jsonrpc_request_read(const char *text, size_t length, struct jsonrpc_request *request, char **detail)
{
	json_t *faults, *form = NULL;
	int code = parse(text, length, false, request, &faults);

	*detail = NULL;
	if (code == JSONRPC_INVALID_REQUEST) {
		form = jsonrpc_form_error(faults);
		if (json_text(form, "message"))
			*detail = strdup(json_text(form, "message"));
	} else if (code) {
		*detail = strdup(code == JSONRPC_PARSE_ERROR ? "JSON required" : "internal server error");
	}
	json_decref(form);
	json_decref(faults);
	return code;
}

void jsonrpc_request_clear(struct jsonrpc_request *request)
{
	free(request->method);
	free(request->id);
	json_decref(request->params);
	memset(request, 0, sizeof(*request));
}

char *jsonrpc_request_text(const char *method, const json_t *params, const char *id, size_t *length)
{
	json_t *method_json = json_string(method), *id_json = json_string(id);
	_free_ char *method_text = method_json ? json_write(method_json, NULL) : NULL;
	_free_ char *id_text = id_json ? json_write(id_json, NULL) : NULL;
	_free_ char *params_text = params ? json_write(params, NULL) : strdup("{}");
	char *text = NULL;

	json_decref(method_json);
	json_decref(id_json);
	if (method_text && id_text && params_text)
		text = printf_text("{\"jsonrpc\":\"2.0\",\"method\":%s,\"params\":%s,\"id\":%s}", method_text, params_text,
				   id_text);
	if (text)
		*length = strlen(text);
	return text;
}

/* ---- answers ---- */

static char *id_text(const char *internal_id)
{
	json_t *id = jsonrpc_id_to_json(internal_id);
	char *text = id ? json_write(id, NULL) : NULL;

	json_decref(id);
	return text;
}

char *jsonrpc_result_text(const json_t *result, const char *internal_id, size_t *length)
{
	static const char head[] = "{\"jsonrpc\":\"2.0\"", member[] = ",\"result\":", tail[] = ",\"id\":";
	_free_ char *id = id_text(internal_id), *value = NULL;
	size_t value_length = 0;
	char *text, *at;

	if (result)
		value = json_write(result, &value_length);
	if (!id || (result && !value))
		return NULL;
	at = text = malloc(sizeof(head) + sizeof(member) + sizeof(tail) + value_length + strlen(id) + 1);
	if (!text)
		return NULL;
	at = stpcpy(at, head);
	if (value) {
		at = stpcpy(at, member);
		at = mempcpy(at, value, value_length);
	}
	at = stpcpy(stpcpy(stpcpy(at, tail), id), "}");
	*length = (size_t)(at - text);
	return text;
}

char *jsonrpc_error_text(int code, const char *message, const json_t *data, const char *internal_id, size_t *length)
{
	json_t *message_json = json_string(message);
	_free_ char *id = id_text(internal_id), *value = data ? json_write(data, NULL) : NULL;
	_free_ char *quoted = NULL;
	char *text = NULL;

	if (!message_json) /* not UTF-8 */
		message_json = json_string("error");
	quoted = message_json ? json_write(message_json, NULL) : NULL;
	json_decref(message_json);
	if (id && quoted && (value || !data))
		text = printf_text("{\"jsonrpc\":\"2.0\",\"error\":{\"code\":%d,\"message\":%s%s%s},\"id\":%s}", code, quoted,
				   value ? ",\"data\":" : "", value ? value : "", id);
	if (text)
		*length = strlen(text);
	return text;
}

static int append_fault(char **message, const char *field, const json_t *detail)
{
	_free_ char *nested = json_is_string(detail) ? NULL : json_write(detail, NULL);
	char *longer = printf_text("%s%s%s(%s)", *message ? *message : "", *message ? ", " : "", field,
				   nested ? nested : json_string_value(detail));

	free(*message);
	*message = longer;
	return longer ? 0 : -ENOMEM;
}

json_t *jsonrpc_form_error(const json_t *fields)
{
	_free_ char *list = NULL, *message = NULL;
	json_t *values = (json_t *)fields, *detail;
	const char *field;

	json_object_foreach(values, field, detail) {
		if (append_fault(&list, field, detail))
			return NULL;
	}
	message = printf_text("invalid input data: %s", list ? list : "");
	if (!message)
		return NULL;
	return json_pack("{s:s, s:s, s:O, s:[]}", "message", message, "code", "FORM-ERROR", "data", values, "traceback");
}

static int read_error(const json_t *error, struct jsonrpc_answer *answer)
{
	const json_t *code = json_object_get(error, "code"), *message = json_object_get(error, "message");

	if (!json_is_object(error) || (code && !is_integer(code, INT_MIN, INT_MAX)) ||
	    (message && !json_is_string(message)))
		return -EINVAL;
	answer->is_error = true;
	answer->code = code ? (int)json_number_value(code) : 0;
	answer->message = strdup(message ? json_string_value(message) : "");
	answer->data = json_incref(json_object_get(error, "data"));
	return answer->message ? 0 : -ENOMEM;
}

int jsonrpc_answer_read(const char *text, size_t length, struct jsonrpc_answer *answer, char **detail)
{
	json_error_t syntax;
	json_t *object = only_object(json_read(text, length, &syntax));
	const json_t *error = json_object_get(object, "error");
	int result = 0;

	memset(answer, 0, sizeof(*answer));
	*detail = NULL;
	if (!object) {
		*detail = strdup("the answer is no JSON object");
		return -EINVAL;
	}
	if (error && !json_is_null(error)) {
		result = read_error(error, answer);
		if (result)
			*detail = strdup("the answer has a malformed error");
	} else if (!error && !json_object_get(object, "result") && !json_object_get(object, "jsonrpc")) {
		/* `{"message":"not found"}` of a wrong path, for one. */
		result = -EINVAL;
		*detail = strdup("the answer is no JSON-RPC response");
	} else {
		answer->result = json_incref(json_object_get(object, "result"));
	}
	json_decref(object);
	return result;
}

void jsonrpc_answer_clear(struct jsonrpc_answer *answer)
{
	json_decref(answer->result);
	json_decref(answer->data);
	free(answer->message);
	memset(answer, 0, sizeof(*answer));
}
