// SPDX-License-Identifier: Apache-2.0
/* Settings of `sd` (protocol page 2.7). `metrics` belongs to the top level; in
 * `directory`, where existing files have it, it is known and without effect. */
#include "settings/form.h"

static const struct form_field directory_fields[] = {
	{ FORM_FIELD(struct sd_settings, datastore), .read = read_map, .required = true, .shape = &datastore_shape },
	{ FORM_FIELD(struct sd_settings, ca_certificate_files), .read = read_texts, .required = true },
	{ FORM_FIELD(struct sd_settings, ca_intermediate_certificate_files), .read = read_texts },
	{ .key = "metrics" },
	{ 0 },
};
static const struct form_shape directory_shape = { directory_fields, sizeof(struct sd_settings), NULL };

static const struct form_field sd_fields[] = {
	{ FORM_FIELD(struct sd_settings, jsonrpc_server), .read = read_new_map, .required = true,
	  .shape = &jsonrpc_server_shape },
	/* its keys go into the same struct */
	{ .key = "directory", .offset = 0, .read = read_map, .required = true, .shape = &directory_shape },
	{ FORM_FIELD(struct sd_settings, metrics), .read = read_new_map, .shape = &metrics_shape },
	{ 0 },
};
const struct form_shape sd_shape = { sd_fields, sizeof(struct sd_settings), NULL };

struct sd_settings *sd_settings_load(const char *search_path, settings_report report, void *context)
{
	return form_load(search_path, report, context, &sd_shape);
}

void sd_settings_free(struct sd_settings *settings)
{
	form_free(settings);
}
