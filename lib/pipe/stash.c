/* SPDX-License-Identifier: MIT */
/*
 * A stash: what had to be taken from a source to be moved, kept until it is delivered.
 */
#include "pipe/calls.h"
#include "pipe/stand_in.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct fid_stash {
	struct fid_kernel *kernel;
	struct fid_pool *pool;
	int source;
	unsigned char *buffer; /* of the pool, while something is in it */
	size_t at;
	size_t held;
};

int fid_stash_new_on(struct fid_kernel *kernel, struct fid_pool *pool,
		     struct fid_stash **ret_stash, int source)
{
	struct fid_stash *stash;
	int status = kernel->status_flags(kernel, source);

	if (!ret_stash)
		return -EINVAL;
	if (status < 0)
		return status;
	if (status & O_PATH || (status & O_ACCMODE) == O_WRONLY)
		return -EBADF;
	stash = calloc(1, sizeof(*stash));
	if (!stash)
		return -ENOMEM;
	stash->kernel = kernel;
	stash->pool = pool;
	stash->source = source;
	*ret_stash = stash;
	return 0;
}

int fid_stash_new(struct fid_stash **ret_stash, int source)
{
	struct fid_pool *pool = fid_pool_default();

	if (!pool)
		return -ENOMEM;
	return fid_stash_new_on(fid_linux(), pool, ret_stash, source);
}

static void release(struct fid_stash *stash)
{
	if (stash->held == 0) {
		fid_pool_buffer_give(stash->pool, stash->buffer);
		stash->buffer = NULL;
		stash->at = 0;
	}
}

static void leave(struct fid_stash *stash, size_t bytes)
{
	stash->at += bytes;
	stash->held -= bytes;
	release(stash);
}

/* Takes bytes or a page more from the source, behind what is held. Returns what read(2) does.
 */
static ssize_t take(struct fid_stash *stash, size_t bytes)
{
	struct fid_kernel *kernel = stash->kernel;
	size_t room = FID_BUFFER_BYTES - stash->held;
	ssize_t got;

	/* Of a packet that is not read whole the rest is lost: pipe(2), O_DIRECT. */
	if (bytes < PIPE_BUF)
		bytes = PIPE_BUF;
	if (room < PIPE_BUF)
		return 0;
	if (!stash->buffer)
		stash->buffer = fid_pool_buffer_take(stash->pool);
	if (!stash->buffer)
		return -ENOMEM;
	if (stash->at > 0)
		memmove(stash->buffer, stash->buffer + stash->at, stash->held);
	stash->at = 0;
	got = kernel->read(kernel, stash->source, stash->buffer + stash->held,
			   bytes < room ? bytes : room, FID_OWN_OFFSET);
	if (got > 0)
		stash->held += (size_t)got;
	release(stash);
	return got;
}

/*
 * Waits as splice(2) would and takes. A sink that is a pipe is looked at first, unless the
 * source is one as well. Nothing is taken for a sink that is full.
 */
static ssize_t take_for(struct fid_stash *stash, const struct fid_splice_pair *pair,
			size_t bytes)
{
	struct fid_kernel *kernel = stash->kernel;
	bool sink_waits = fid_splice_sink_waits(pair);
	bool source_waits = fid_splice_source_waits(pair);
	int sink = 0, source;

	if (pair->sink.is_pipe && !pair->source.is_pipe) {
		sink = fid_wait_for(kernel, pair->sink.fd, POLLOUT, sink_waits);
		if (sink < 0)
			return sink;
		/* A pipe without a reader is told by a write, if there is something to. */
		source_waits &= !(sink & POLLERR);
	}
	source = fid_wait_for(kernel, stash->source, POLLIN, source_waits);
	if (source < 0)
		return sink & POLLERR ? -EPIPE : source;
	if (pair->sink.is_pipe && pair->source.is_pipe)
		sink = fid_wait_for(kernel, pair->sink.fd, POLLOUT, false);
	if (!(source & POLLIN))
		return sink > 0 && sink & POLLERR ? -EPIPE : take(stash, bytes);
	if (sink <= 0)
		sink = fid_wait_for(kernel, pair->sink.fd, POLLOUT, sink_waits);
	return sink < 0 ? sink : take(stash, bytes);
}

static ssize_t splice_once(struct fid_stash *stash, int sink, int64_t *sink_offset,
			   size_t bytes, unsigned flags, struct fid_quiet *quiet)
{
	struct fid_kernel *kernel = stash->kernel;
	struct fid_splice_pair pair;
	ssize_t moved;

	if (bytes == 0)
		return 0;
	moved = fid_splice_examine(kernel, stash->source, NULL, sink, sink_offset, flags, quiet,
				   &pair);
	if (moved < 0)
		return moved;
	if (stash->held == 0)
		moved = take_for(stash, &pair, bytes);
	else if (pair.sink.is_pipe)
		moved = fid_wait_for(kernel, sink, POLLOUT, fid_splice_sink_waits(&pair));
	if (moved < 0 || stash->held == 0)
		return moved;
	moved = fid_splice_write(&pair, stash->buffer + stash->at,
				 bytes < stash->held ? bytes : stash->held);
	if (moved > 0)
		leave(stash, (size_t)moved);
	return moved;
}

/* What is held is what the source begins with. */
static ssize_t tee_once(struct fid_stash *stash, int sink, size_t bytes, unsigned flags,
			struct fid_quiet *quiet)
{
	struct fid_kernel *kernel = stash->kernel;
	struct fid_splice_pair pair;
	ssize_t given;

	if (bytes == 0)
		return flags & ~(unsigned)FID_SPLICE_FLAGS ? -EINVAL : 0;
	given = fid_splice_examine(kernel, stash->source, NULL, sink, NULL, flags, quiet,
				   &pair);
	if (given == 0 && (!pair.source.is_pipe || !pair.sink.is_pipe))
		given = -EINVAL;
	if (given < 0)
		return given;
	if (stash->held == 0)
		given = take_for(stash, &pair, bytes);
	else
		given = fid_wait_for(kernel, sink, POLLOUT, fid_splice_sink_waits(&pair));
	if (given < 0 || stash->held == 0)
		return given;
	if (bytes > stash->held && stash->held < FID_BUFFER_BYTES &&
	    fid_wait_for(kernel, stash->source, POLLIN, false) > 0)
		take(stash, bytes - stash->held);
	return fid_splice_write(&pair, stash->buffer + stash->at,
				bytes < stash->held ? bytes : stash->held);
}

/* The kernel's call while the stash is empty, and the stash's after a refusal. */
ssize_t fid_stash_splice(struct fid_stash *stash, int sink, int64_t *sink_offset, size_t bytes,
			 unsigned flags)
{
	struct fid_quiet quiet = {.raised = false};
	ssize_t moved = -EOPNOTSUPP;

	if (stash->held == 0)
		moved = fid_splice_on(stash->kernel, stash->pool, stash->source, NULL, sink,
				      sink_offset, bytes, flags);
	if (!fid_call_is_refused(moved))
		return moved;
	if (flags & FID_NOSIGNAL)
		fid_quiet_hold(stash->kernel, &quiet);
	moved = splice_once(stash, sink, sink_offset, bytes, flags & ~FID_NOSIGNAL, &quiet);
	fid_quiet_release(stash->kernel, &quiet);
	return moved;
}

ssize_t fid_stash_tee(struct fid_stash *stash, int sink, size_t bytes, unsigned flags)
{
	struct fid_quiet quiet = {.raised = false};
	ssize_t given = -EOPNOTSUPP;

	if (stash->held == 0)
		given = fid_tee_on(stash->kernel, stash->source, sink, bytes, flags);
	if (!fid_call_is_refused(given))
		return given;
	if (flags & FID_NOSIGNAL)
		fid_quiet_hold(stash->kernel, &quiet);
	given = tee_once(stash, sink, bytes, flags & ~FID_NOSIGNAL, &quiet);
	fid_quiet_release(stash->kernel, &quiet);
	return given;
}

size_t fid_stash_bytes(const struct fid_stash *stash)
{
	return stash->held;
}

ssize_t fid_stash_salvage(struct fid_stash *stash, void *buffer, size_t capacity)
{
	size_t taken = stash->held < capacity ? stash->held : capacity;

	if (taken == 0)
		return 0;
	memcpy(buffer, stash->buffer + stash->at, taken);
	leave(stash, taken);
	return (ssize_t)taken;
}

struct fid_stash *fid_stash_free(struct fid_stash *stash)
{
	if (!stash)
		return NULL;
	stash->held = 0;
	release(stash);
	free(stash);
	return NULL;
}
