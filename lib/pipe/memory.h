/* SPDX-License-Identifier: MIT */
/*
 * Memory on any kernel.
 */
#ifndef FID_MEMORY_H
#define FID_MEMORY_H

#include "pipe/pipe.h"

/* fid_memory_new() on any kernel. options.pool must be of the same kernel. */
int fid_memory_new_on(struct fid_kernel *kernel, struct fid_memory **ret_memory, int sink,
		      const struct fid_memory_options *options);

/* Below this a step sends a copy, which costs less than new pages do (measured on 6.18). */
#define FID_FRESH_BYTES_MIN ((size_t)16 << 10)

#endif
