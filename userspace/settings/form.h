// SPDX-License-Identifier: Apache-2.0
#pragma once
/* From maps to typed structs by tables. A shape lists the keys that a map may
 * have, how each is read, where it goes and what holds if it is absent; absent
 * is also what is null or "" (protocol page, conventions). Every fault is
 * reported with the place of the value, or of the map that lacks a key; keys
 * that no table knows are warnings. Inside of userspace/settings only. */
#include "settings/reading.h"
#include "settings/settings.h"

struct form {
	struct reading *reading;
	char path[256]; /* dotted, of the value that is read: "channels[2].settings.tls" */
};

struct form_field;
typedef void form_reader(struct form *form, const struct setting *value, const struct form_field *field, void *target);

struct form_field {
	const char *key;
	form_reader *read; /* NULL: known, not used */
	size_t offset;
	bool required;
	double least, most;              /* of a number; of a list its length (most 0: any) */
	double fallback;                 /* of a number or flag, in the unit of the file */
	const char *fallback_text;       /* of a text; NULL: absent is NULL */
	const struct form_shape *shape;  /* of a map */
};

struct form_shape {
	const struct form_field *fields; /* ends with key == NULL */
	size_t size;                     /* of the struct that is filled */
	/* What no table can say; may be NULL. */
	void (*check)(struct form *form, const struct setting *map, void *object);
};

#define FORM_FIELD(structure, member) .key = #member, .offset = offsetof(structure, member)

/* Fills defaults and reads what the map has. `map` NULL: only the defaults. */
void form_fill(struct form *form, const struct setting *map, const struct form_shape *shape, void *object);

/* Path, then the text; `node` says where. */
void form_error(struct form *form, const struct setting *node, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* "must be `wanted`, not …" */
void form_refuse_type(struct form *form, const struct setting *node, const char *wanted);

/* Adds a component to the path and returns what form_leave() needs. */
size_t form_enter(struct form *form, const char *key);
size_t form_enter_item(struct form *form, size_t index);
void form_leave(struct form *form, size_t mark);

/* Readers. Targets in brackets. */
form_reader read_text;         /* [char *] */
form_reader read_bind_address; /* [char *] host:port */
form_reader read_url;          /* [char *] http:// or https:// */
form_reader read_proxy_url;    /* [char *] http:// */
form_reader read_flag;         /* [bool] */
form_reader read_inverse_flag; /* [bool] what the key denies */
form_reader read_count;        /* [unsigned] */
form_reader read_large_count;  /* [uint64_t] */
form_reader read_size;         /* [uint64_t] bytes, or "32MiB" */
form_reader read_seconds;      /* [unsigned] milliseconds */
form_reader read_texts;        /* [struct string_list] */
form_reader read_urls;         /* [struct string_list] */
form_reader read_map;          /* the struct itself */
form_reader read_new_map;      /* [pointer to a struct] */

/* Shapes that several programs have (connection_shapes.c). */
extern const struct form_shape tls_shape, jsonrpc_server_shape, jsonrpc_client_shape, grpc_server_shape,
	grpc_client_shape, datastore_shape, metrics_shape;
form_reader read_rate_limits; /* [struct rate_limit_settings] */
form_reader read_directory;   /* [struct directory_settings] (directory_shapes.c) */
/* Of a map with `type` and `settings`: the word at `key`, or NULL after a report. */
const char *form_word(struct form *form, const struct setting *map, const char *key);
/* The map at `settings`; one without members in its place if there is none. */
const struct setting *form_settings(const struct setting *map, struct setting *empty);

/* Loads the tree, fills the object and gives it to the caller together with
 * its tree; NULL after every problem was reported. */
void *form_load(const char *search_path, settings_report report, void *context, const struct form_shape *shape);
void *form_load_tree(struct settings_tree *tree, settings_report report, void *context,
		     const struct form_shape *shape);
void form_free(void *object);

/* The shapes of the three programs, for tests on trees of their own. */
extern const struct form_shape hyper_shape, proxy_shape, sd_shape;
