/* SPDX-License-Identifier: MIT */
/*
 * A private pipe with its own byte account, and the pool that lends such pipes and buffers.
 */
#ifndef FID_PIPE_H
#define FID_PIPE_H

#include "kernel/kernel.h"

/* The size of every buffer that a pool lends. */
#define FID_BUFFER_BYTES ((size_t)256 << 10)

/* A pipe below this is not worth the calls: it is closed, and the flow copies (hazard: slots).
 */
#define FID_PIPE_BYTES_MIN ((size_t)64 << 10)

/*
 * Nobody else has the ends of this pipe, so "held" is exact: what went in and has not come out.
 * It counts bytes. The kernel's limit is slots, so a pipe may be full at any number of bytes.
 */
struct fid_pipe {
	int read_end;
	int write_end;
	size_t capacity;
	size_t held;
	uint32_t generation; /* of the process that it was lent in */
	bool doubtful; /* a call failed in a way that leaves the contents unknown: never pool it
			*/
};

/* A pipe that is not there. */
#define FID_PIPE_NONE ((struct fid_pipe){.read_end = -1, .write_end = -1})

/*
 * Makes a pipe and grows it towards bytes, halving the wish while the kernel says EPERM (the
 * user's budget, pipe(7)). *ret_pipe is set on success only.
 */
int fid_pipe_open(struct fid_kernel *kernel, size_t bytes, struct fid_pipe *ret_pipe);

/*
 * Grows a pipe of the caller's to bytes. A refusal is no harm: the budget is gone, or the pipe
 * is somebody else's limit.
 */
void fid_pipe_grow(struct fid_kernel *kernel, int fd, uint64_t bytes);

/* Closes both ends; what it held is gone. */
void fid_pipe_close(struct fid_kernel *kernel, struct fid_pipe *pipe);

static inline bool fid_pipe_is_open(const struct fid_pipe *pipe)
{
	return pipe->read_end >= 0;
}

/* fid_pool_new() on any kernel. */
int fid_pool_new_on(struct fid_kernel *kernel, struct fid_pool **ret_pool,
		    const struct fid_pool_options *options);

/* The pool of the process, on the real kernel. NULL: no memory. */
struct fid_pool *fid_pool_default(void);

/*
 * Lends an empty pipe of at least FID_PIPE_BYTES_MIN and if possible of bytes. *ret_pipe is set
 * on success only. Returns 0; -ENOBUFS at pipes_max; -ENOSPC when the kernel's pipes are too
 * small by now; or what pipe2(2) said.
 */
int fid_pool_pipe_take(struct fid_pool *pool, size_t bytes, struct fid_pipe *ret_pipe);

/* Takes it back. Kept if it is empty and beyond doubt, closed otherwise; *pipe is none after.
 */
void fid_pool_pipe_give(struct fid_pool *pool, struct fid_pipe *pipe);

/* Lends FID_BUFFER_BYTES of page aligned memory with any contents. NULL: none left. */
void *fid_pool_buffer_take(struct fid_pool *pool);
void fid_pool_buffer_give(struct fid_pool *pool, void *buffer);

#endif
