// SPDX-License-Identifier: Apache-2.0
#pragma once
/* One question to the proxy. */
#include "command.h"

#include <stdint.h>

/* Whether an answer, an object, has the members that the command is about. */
typedef bool (*answer_check)(const json_t *answer);

/* Steals `params` (NULL: none). Returns the result (new reference), or NULL
 * after a sentence on standard error. */
json_t *ask(const struct options *options, const char *method, json_t *params, answer_check is_sound);

/* As ask(), but says nothing: for callers that can do without the proxy. */
json_t *ask_quietly(const struct options *options, const char *method, answer_check is_sound);

/* For checks: a list of objects. */
bool has_list(const json_t *object, const char *key);

/* Prints the value as JSON. Returns the exit status. */
int print_json(const json_t *value);

/* Members of an answer; absent or of another type: 0, "" or an empty object. */
uint64_t number_of(const json_t *object, const char *key);
const char *text_of(const json_t *object, const char *key);
