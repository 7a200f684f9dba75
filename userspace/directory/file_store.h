// SPDX-License-Identifier: Apache-2.0
#pragma once
/* The embedded datastore: one append-only file (protocol page 9.2), owned by one
 * process at a time through a lock on it. Every entry is on the disk when
 * file_store_append() returns. Problems are logged with the file's name. */
#include "directory/store_format.h"

struct file_store;

/* Called for every complete entry in order while the file is opened; the entry
 * is borrowed. Non-zero ends the opening with that error; -EBADMSG must have been logged. */
typedef int (*file_store_each)(const struct store_entry *entry, void *context);

/* Opens or creates the file (and missing directories), locks it and reads it.
 * 0; -EBUSY: another process has it; -EBADMSG: it is damaged other than at its
 * end, and was left alone; or another negative errno. */
int file_store_open(const char *filename, file_store_each each, void *context, struct file_store **result);
void file_store_close(struct file_store *store);

/* Could the file be opened or made? Takes no lock and makes nothing. 0 or a negative errno. */
int file_store_check(const char *filename);

/* Appends one entry under a new random id, behind cutting off a torn tail. When
 * it fails the file is as it was before; if that cannot be had, every later
 * append fails too. 0 or a negative errno. */
int file_store_append(struct file_store *store, uint8_t type, const void *data, size_t size);
