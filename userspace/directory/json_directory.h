// SPDX-License-Identifier: Apache-2.0
#pragma once
/* A directory in files (protocol page 2.4): `{"records": […]}`, unsigned. */
#include <jansson.h>
#include <stddef.h>

#define JSON_DIRECTORY_REASON_SIZE 512

/* Reads the file, or the JSON files of the folder in name order. New object of
 * name -> entry, or NULL with a reason that names the file. */
json_t *json_directory_read(const char *path, char reason[JSON_DIRECTORY_REASON_SIZE]);
