// SPDX-License-Identifier: Apache-2.0
/* Readers of single values. A number that came from JSON is a double: where a
 * whole one is wanted, an integral double is as good. */
#include "base/address.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "settings/form.h"

#include <errno.h>
#include <event2/http.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void read_text(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	(void)field;
	if (value->type == SETTING_STRING)
		*(char **)target = value->string;
	else
		form_refuse_type(form, value, "text");
}

void read_bind_address(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	_free_ char *host = NULL;
	uint16_t port;

	read_text(form, value, field, target);
	if (value->type == SETTING_STRING && address_split(value->string, &host, &port))
		form_error(form, value, "must be host:port, not '%s'", value->string);
}

/* What http/url.c can call: told here with its line, and before anything runs. */
static bool is_url(const char *text, bool is_proxy)
{
	struct evhttp_uri *uri = evhttp_uri_parse(text);
	const char *scheme = uri ? evhttp_uri_get_scheme(uri) : NULL, *host = uri ? evhttp_uri_get_host(uri) : NULL;
	bool fits = scheme && host && *host && evhttp_uri_get_port(uri) != 0 &&
		    (!strcasecmp(scheme, "http") || (!is_proxy && !strcasecmp(scheme, "https"))) &&
		    (is_proxy || !evhttp_uri_get_userinfo(uri));

	if (uri)
		evhttp_uri_free(uri);
	return fits;
}

/* The messages do not repeat the URL: it may hold a password. */
void read_url(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	read_text(form, value, field, target);
	if (value->type == SETTING_STRING && !is_url(value->string, false))
		form_error(form, value, "must be a URL such as https://host:port/path, without a user");
}

void read_proxy_url(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	read_text(form, value, field, target);
	if (value->type == SETTING_STRING && !is_url(value->string, true))
		form_error(form, value, "must be a URL such as http://host:port, without TLS");
}

void read_flag(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	(void)field;
	if (value->type == SETTING_BOOL)
		*(bool *)target = value->boolean;
	else
		form_refuse_type(form, value, "true or false");
}

void read_inverse_flag(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	bool flag = true;

	read_flag(form, value, field, &flag);
	*(bool *)target = !flag;
}

/* False after a report. */
static bool number_of(struct form *form, const struct setting *value, const struct form_field *field, bool whole,
		      double *number)
{
	char least[32], most[32];

	if (value->type == SETTING_INT) {
		*number = (double)value->integer;
	} else if (value->type == SETTING_FLOAT && (!whole || value->real == trunc(value->real))) {
		*number = value->real;
	} else if (value->type == SETTING_FLOAT) {
		form_error(form, value, "must be a whole number, not %s", json_number_text(value->real, least));
		return false;
	} else {
		form_refuse_type(form, value, whole ? "a whole number" : "a number");
		return false;
	}
	if (*number >= field->least && *number <= field->most) /* false for NaN */
		return true;
	form_error(form, value, "must be %s to %s", json_number_text(field->least, least),
		   json_number_text(field->most, most));
	return false;
}

void read_count(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	double number;

	if (number_of(form, value, field, true, &number))
		*(unsigned *)target = (unsigned)number;
}

void read_large_count(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	double number;

	if (number_of(form, value, field, true, &number))
		*(uint64_t *)target = (uint64_t)number;
}

void read_seconds(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	double number;

	if (!number_of(form, value, field, false, &number))
		return;
	/* Zero often means "off": what is just above it must not become it. */
	*(unsigned *)target = number > 0 && number < 0.001 ? 1 : (unsigned)lround(number * 1000);
}

/* "32MiB", "64 KiB", "4096". */
static int parse_size(const char *text, double *bytes)
{
	static const struct {
		const char *unit;
		double factor;
	} units[] = { { "", 1 }, { "B", 1 }, { "KiB", 1024 }, { "MiB", 1048576 }, { "GiB", 1073741824 } };
	size_t digits = strspn(text, "0123456789");
	double number = strtod(text, NULL); /* digits only, or zero */

	if (!digits || digits > 15)
		return -EINVAL;
	text += digits;
	text += *text == ' ';
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(text, units[i].unit))
			continue;
		*bytes = number * units[i].factor;
		return 0;
	}
	return -EINVAL;
}

void read_size(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	struct setting parsed = *value;

	if (value->type == SETTING_STRING) {
		parsed.type = SETTING_FLOAT;
		if (parse_size(value->string, &parsed.real)) {
			form_error(form, value, "must be a number of bytes or a text such as 32MiB, not '%s'",
				   value->string);
			return;
		}
	}
	read_large_count(form, &parsed, field, target);
}

static void read_list(struct form *form, const struct setting *value, const struct form_field *field, void *target,
		      form_reader *read_item)
{
	struct string_list *list = target;

	if (value->type != SETTING_LIST) {
		form_refuse_type(form, value, "a list of texts");
		return;
	}
	if (value->count < field->least)
		form_error(form, value, "must have at least %.0f item", field->least);
	list->items = arena_alloc(&form->reading->tree->arena, value->count * sizeof(list->items[0]));
	for (size_t i = 0; i < value->count; i++) {
		size_t mark = form_enter_item(form, i);

		read_item(form, value->items[i], field, &list->items[list->count]);
		list->count += list->items[list->count] != NULL;
		form_leave(form, mark);
	}
}

void read_texts(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	read_list(form, value, field, target, read_text);
}

void read_urls(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	read_list(form, value, field, target, read_url);
}

void read_map(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	form_fill(form, value, field->shape, target);
}

void read_new_map(struct form *form, const struct setting *value, const struct form_field *field, void *target)
{
	void *object = arena_alloc(&form->reading->tree->arena, field->shape->size);

	form_fill(form, value, field->shape, object);
	*(void **)target = object;
}
