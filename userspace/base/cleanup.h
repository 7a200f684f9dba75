// SPDX-License-Identifier: Apache-2.0
#pragma once
/* Scope-bound ownership: `_free_ char *text = NULL;` is released on every path
 * out of the block. Preset the variable; `steal_pointer()` hands it on. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free(void *pointer) { free(*(void **)pointer); }
static inline void cleanup_close(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
static inline void cleanup_fclose(FILE **file)
{
	if (*file)
		fclose(*file);
}

#define _free_ __attribute__((cleanup(cleanup_free)))
#define _close_ __attribute__((cleanup(cleanup_close)))
#define _fclose_ __attribute__((cleanup(cleanup_fclose)))

#define steal_pointer(variable) \
	({ \
		__typeof__(variable) stolen_ = (variable); \
		(variable) = NULL; \
		stolen_; \
	})
