// SPDX-License-Identifier: Apache-2.0
/* Asking over the control socket, and reading what comes back. Numbers may
 * arrive as reals (JSON knows no other). */
#include "ask.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "jsonrpc/control.h"

#include <stdio.h>

#define TIMEOUT_MS 5000

static json_t *ask_for(const struct options *options, const char *method, json_t *params, answer_check is_sound,
		       bool is_quiet)
{
	struct jsonrpc_answer answer = {0};
	_free_ char *reason = NULL;
	json_t *result = NULL;

	if (!params)
		params = json_object();
	int error = control_call(options->socket, method, params, TIMEOUT_MS, &answer, &reason);
	json_decref(params);
	if (!error && !answer.is_error && json_is_object(answer.result) && is_sound(answer.result))
		result = json_incref(answer.result);
	else if (!is_quiet && error)
		fprintf(stderr, "p2pctl: %s\n", reason ? reason : "the proxy cannot be asked");
	else if (!is_quiet && answer.is_error)
		fprintf(stderr, "p2pctl: the proxy says: %s\n", answer.message ? answer.message : "error");
	else if (!is_quiet)
		fprintf(stderr, "p2pctl: the proxy's answer is not what it should be; is it another version?\n");
	if (!error)
		jsonrpc_answer_clear(&answer);
	return result;
}

json_t *ask(const struct options *options, const char *method, json_t *params, answer_check is_sound)
{
	return ask_for(options, method, params, is_sound, false);
}

json_t *ask_quietly(const struct options *options, const char *method, answer_check is_sound)
{
	return ask_for(options, method, NULL, is_sound, true);
}

bool has_list(const json_t *object, const char *key)
{
	const json_t *list = json_object_get(object, key), *item;
	size_t index;

	json_array_foreach((json_t *)list, index, item)
		if (!json_is_object(item))
			return false;
	return json_is_array(list);
}

int print_json(const json_t *value)
{
	_free_ char *text = json_write_indented(value);

	if (!text)
		return 1;
	puts(text);
	return 0;
}

uint64_t number_of(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	double number = json_number_value(value);

	if (json_is_integer(value))
		return (uint64_t)json_integer_value(value);
	return number > 0 && number < 1.8e19 ? (uint64_t)number : 0;
}

const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_text(object, key);

	return text ? text : "";
}
