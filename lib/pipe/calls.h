/* SPDX-License-Identifier: MIT */
/*
 * The three calls on any kernel. pool lends the stand-ins what they need; NULL: the pool of the
 * process.
 */
#ifndef FID_CALLS_H
#define FID_CALLS_H

#include "pipe/pipe.h"

ssize_t fid_splice_on(struct fid_kernel *kernel, struct fid_pool *pool, int source,
		      int64_t *source_offset, int sink, int64_t *sink_offset, size_t bytes,
		      unsigned flags);
ssize_t fid_tee_on(struct fid_kernel *kernel, int source, int sink, size_t bytes,
		   unsigned flags);
ssize_t fid_vmsplice_on(struct fid_kernel *kernel, int pipe, const struct iovec *segments,
			size_t count, unsigned flags);
int fid_stash_new_on(struct fid_kernel *kernel, struct fid_pool *pool,
		     struct fid_stash **ret_stash, int source);

#endif
