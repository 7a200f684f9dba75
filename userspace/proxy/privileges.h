// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Giving up what only the start needed: kernel programs are loaded and attached,
 * ports bound, certificates read. Capabilities and no_new_privs belong to a
 * thread, so each thread of the process drops its own. */
#include <stddef.h>

#define PRIVILEGES_TEXT_SIZE 160

/* Drops every capability of the calling thread but CAP_SYS_RESOURCE, if it has that:
 * without it pipes of the splice planes beyond fs.pipe-user-pages-soft are too small to
 * be used. Neither this thread nor what it starts can gain others. 0 or a negative errno. */
int privileges_drop(void);

/* What the calling thread has, for the log. */
char *privileges_describe(char text[PRIVILEGES_TEXT_SIZE]);
