/* SPDX-License-Identifier: MIT */
/*
 * What does the work of the three calls where the kernel refuses them. Nothing leaves a source
 * before it is in the sink: a file is read where it is, a socket and a pipe are looked into
 * first and emptied then. What cannot be looked into needs a stash.
 */
#ifndef FID_STAND_IN_H
#define FID_STAND_IN_H

#include "pipe/pipe.h"
#include "pipe/quiet.h"

/* SPLICE_F_MOVE, _NONBLOCK, _MORE, _GIFT: what the kernel knows. */
enum { FID_SPLICE_FLAGS = 0xf };

/* EPERM, ENOSYS, EOPNOTSUPP: the call itself is refused, and nothing has moved. */
bool fid_call_is_refused(ssize_t result);

/*
 * The contract of splice(2), checked in the kernel's order. refusal is what the kernel said,
 * and what is returned where there is no way. What may have raised SIGPIPE is noted in quiet.
 */
ssize_t fid_stand_in_splice(struct fid_kernel *kernel, struct fid_pool *pool, int source,
			    int64_t *source_offset, int sink, int64_t *sink_offset,
			    size_t bytes, unsigned flags, ssize_t refusal,
			    struct fid_quiet *quiet);
ssize_t fid_stand_in_vmsplice(struct fid_kernel *kernel, int pipe, const struct iovec *segments,
			      size_t count, unsigned flags, struct fid_quiet *quiet);

/* ---- What a stash is made of, too ---- */

/* One end of a splice. */
struct fid_splice_end {
	int fd;
	int64_t *offset; /* NULL: its own */
	uint32_t mode;   /* st_mode */
	uint64_t device;
	uint64_t inode;
	uint64_t rdevice;
	int status;     /* F_GETFL */
	int domain;     /* of a socket */
	bool is_pipe;   /* or a FIFO */
	bool is_stream; /* a stream socket */
};

struct fid_splice_pair {
	struct fid_kernel *kernel;
	struct fid_splice_end source;
	struct fid_splice_end sink;
	unsigned flags;
	struct fid_quiet *quiet;
};

/* Fills *ret_pair. Returns 0, or the error that splice(2) has for such arguments. */
int fid_splice_examine(struct fid_kernel *kernel, int source, int64_t *source_offset, int sink,
		       int64_t *sink_offset, unsigned flags, struct fid_quiet *quiet,
		       struct fid_splice_pair *ret_pair);

/* Whether waiting for that end is wanted. */
bool fid_splice_source_waits(const struct fid_splice_pair *pair);
bool fid_splice_sink_waits(const struct fid_splice_pair *pair);

/* Waits for events of fd. Returns the events, -EAGAIN where they are not there, or -errno. */
int fid_wait_for(struct fid_kernel *kernel, int fd, short events, bool waits);

/*
 * Writes what a pipe takes without sleeping, which is known to have room for something. Returns
 * how much that was, or the error of the first write.
 */
ssize_t fid_write_to_pipe(struct fid_kernel *kernel, int pipe, const void *from, size_t bytes,
			  struct fid_quiet *quiet);

/* Writes to the sink of a pair, a pipe or not; its offset is moved on. */
ssize_t fid_splice_write(const struct fid_splice_pair *pair, const void *from, size_t bytes);

#endif
