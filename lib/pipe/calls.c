/* SPDX-License-Identifier: MIT */
/*
 * The three calls as their manual pages give them. What the kernel takes costs a function call
 * more than the bare call; what it refuses is done by a stand-in, and a 0 is doubted.
 */
#include "pipe/calls.h"
#include "kernel/syscall.h"
#include "pipe/stand_in.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

bool fid_call_is_refused(ssize_t result)
{
	return result == -EPERM || result == -ENOSYS || result == -EOPNOTSUPP;
}

/* ---- A 0 that may not be the end ---- */

/* How often "ready" and 0 by turns are doubted. */
enum { DOUBTS_MAX = 16 };

/*
 * A pipe without a writer hangs up. One that has a writer and answers 0 is on gVisor, which
 * says so for an empty one. And a FIFO that never had a writer neither hangs up nor has one.
 * Returns 0 for the end, 1 to ask again, -EAGAIN for an empty pipe, or -EINTR.
 */
static int doubt_end_of_pipe(struct fid_kernel *kernel, int source, int sink, unsigned flags)
{
	struct pollfd wait = {.fd = source, .events = POLLIN};
	int got = kernel->poll(kernel, &wait, 1, 0);
	struct fid_facts facts;

	if (got < 0)
		return got;
	if (wait.revents & POLLIN) /* it came just now */
		return 1;
	if (wait.revents)
		return 0;
	/* Only gVisor is known to: nobody else is asked by what a sandbox may kill for. */
	if (kernel == fid_linux() && fid_splice_bytes_max(kernel) == FID_TRANSFER_MAX)
		return 0;
	fid_facts_of(kernel, &facts);
	if (!facts.splice_empty_is_eof)
		return 0;
	if (flags & SPLICE_F_NONBLOCK || kernel->status_flags(kernel, source) & O_NONBLOCK ||
	    kernel->status_flags(kernel, sink) & O_NONBLOCK)
		return -EAGAIN;
	return kernel->poll(kernel, &wait, 1, -1);
}

/*
 * splice believes st_size: on FUSE a wrong one ends a file early, and an error of the read
 * behind it comes out as 0 (measured on 6.18). read(2) is right about both.
 */
static ssize_t confirm_end_of_file(struct fid_kernel *kernel, struct fid_pool *pool, int source,
				   int64_t *source_offset, int sink, size_t bytes,
				   unsigned flags, struct fid_quiet *quiet)
{
	int64_t at = source_offset ? *source_offset : kernel->seek(kernel, source, 0, SEEK_CUR);
	char byte;
	ssize_t got = at < 0 ? 0 : kernel->read(kernel, source, &byte, 1, at);

	if (got <= 0)
		return got;
	return fid_stand_in_splice(kernel, pool, source, source_offset, sink, NULL, bytes,
				   flags, -EIO, quiet);
}

/* ---- splice ---- */

static ssize_t splice_once(struct fid_kernel *kernel, struct fid_pool *pool, int source,
			   int64_t *source_offset, int sink, int64_t *sink_offset, size_t bytes,
			   unsigned flags, struct fid_quiet *quiet)
{
	ssize_t moved =
		kernel->splice(kernel, source, source_offset, sink, sink_offset, bytes, flags);

	fid_quiet_note(quiet, moved, bytes);
	if (fid_call_is_refused(moved))
		moved = fid_stand_in_splice(kernel, pool, source, source_offset, sink,
					    sink_offset, bytes, flags, moved, quiet);
	return moved;
}

/* It said 0, and bytes were asked for. */
static ssize_t after_zero(struct fid_kernel *kernel, struct fid_pool *pool, int source,
			  int64_t *source_offset, int sink, int64_t *sink_offset, size_t bytes,
			  unsigned flags, struct fid_quiet *quiet)
{
	struct fid_stat stat;
	ssize_t moved = kernel->stat(kernel, source, &stat);

	if (moved < 0)
		return 0;
	if (S_ISREG(stat.mode))
		return confirm_end_of_file(kernel, pool, source, source_offset, sink, bytes,
					   flags, quiet);
	for (int doubts = 0; S_ISFIFO(stat.mode) && moved == 0 && doubts < DOUBTS_MAX;
	     doubts++) {
		int again = doubt_end_of_pipe(kernel, source, sink, flags);

		if (again <= 0)
			return again;
		moved = splice_once(kernel, pool, source, source_offset, sink, sink_offset,
				    bytes, flags, quiet);
	}
	return moved;
}

/*
 * There is no address here that could be at fault. gVisor says so when it finds a pipe full
 * after a look at a TCP socket (runsc 20221219); nothing has moved.
 */
static ssize_t after_fault(struct fid_kernel *kernel, int source, int sink, size_t bytes,
			   unsigned flags, struct fid_quiet *quiet)
{
	bool waits = !(flags & SPLICE_F_NONBLOCK) &&
		     !(kernel->status_flags(kernel, sink) & O_NONBLOCK);
	ssize_t moved = -EFAULT;

	for (int doubts = 0; moved == -EFAULT && doubts < DOUBTS_MAX; doubts++) {
		int ready = fid_wait_for(kernel, sink, POLLOUT, waits);

		if (ready < 0)
			return ready;
		/* It may say so again as soon as there is room for little. */
		if (waits && doubts > 0)
			kernel->poll(kernel, NULL, 0, 1);
		moved = kernel->splice(kernel, source, NULL, sink, NULL, bytes, flags);
		fid_quiet_note(quiet, moved, bytes);
	}
	return moved == -EFAULT && !waits ? -EAGAIN : moved;
}

/* The kernel's call has returned moved, which is no number of bytes. */
static ssize_t settle_splice(struct fid_kernel *kernel, struct fid_pool *pool, int source,
			     int64_t *source_offset, int sink, int64_t *sink_offset,
			     size_t bytes, unsigned flags, ssize_t moved,
			     struct fid_quiet *quiet)
{
	if (fid_call_is_refused(moved))
		moved = fid_stand_in_splice(kernel, pool, source, source_offset, sink,
					    sink_offset, bytes, flags, moved, quiet);
	else if (moved == -EFAULT && !source_offset && !sink_offset)
		moved = after_fault(kernel, source, sink, bytes, flags, quiet);
	if (moved == 0 && bytes > 0)
		moved = after_zero(kernel, pool, source, source_offset, sink, sink_offset,
				   bytes, flags, quiet);
	return moved;
}

ssize_t fid_splice_on(struct fid_kernel *kernel, struct fid_pool *pool, int source,
		      int64_t *source_offset, int sink, int64_t *sink_offset, size_t bytes,
		      unsigned flags)
{
	struct fid_quiet quiet = {.raised = false};
	ssize_t moved;

	/* With a file the kernel refuses what is above SSIZE_MAX. */
	if (bytes > FID_TRANSFER_MAX)
		bytes = FID_TRANSFER_MAX;
	if (bytes > FID_SPLICE_BYTES_SAFE && bytes > fid_splice_bytes_max(kernel))
		bytes = fid_splice_bytes_max(kernel);
	if (flags & FID_NOSIGNAL)
		fid_quiet_hold(kernel, &quiet);
	flags &= ~FID_NOSIGNAL;
	moved = kernel->splice(kernel, source, source_offset, sink, sink_offset, bytes, flags);
	fid_quiet_note(&quiet, moved, bytes);
	if (moved <= 0)
		moved = settle_splice(kernel, pool, source, source_offset, sink, sink_offset,
				      bytes, flags, moved, &quiet);
	fid_quiet_release(kernel, &quiet);
	return moved;
}

/* What is usual takes the shortest way: see kernel/syscall.h. */
ssize_t fid_splice(int source, int64_t *source_offset, int sink, int64_t *sink_offset,
		   size_t bytes, unsigned flags)
{
	struct fid_quiet loud = {.raised = false};
	ssize_t moved;

	if (bytes > FID_SPLICE_BYTES_SAFE || flags & FID_NOSIGNAL)
		return fid_splice_on(fid_linux(), NULL, source, source_offset, sink,
				     sink_offset, bytes, flags);
	moved = fid_now_splice(source, source_offset, sink, sink_offset, bytes, flags);
	if (moved > 0)
		return moved;
	return settle_splice(fid_linux(), NULL, source, source_offset, sink, sink_offset, bytes,
			     flags, moved, &loud);
}

/* ---- tee ---- */

/* The kernel's call has returned 0. */
static ssize_t settle_tee(struct fid_kernel *kernel, int source, int sink, size_t bytes,
			  unsigned flags, struct fid_quiet *quiet)
{
	ssize_t given = 0;

	for (int doubts = 0; given == 0 && bytes > 0 && doubts < DOUBTS_MAX; doubts++) {
		int again = doubt_end_of_pipe(kernel, source, sink, flags);

		if (again <= 0)
			return again;
		given = kernel->tee(kernel, source, sink, bytes, flags);
		fid_quiet_note(quiet, given, bytes);
	}
	return given;
}

ssize_t fid_tee_on(struct fid_kernel *kernel, int source, int sink, size_t bytes,
		   unsigned flags)
{
	struct fid_quiet quiet = {.raised = false};
	ssize_t given;

	if (bytes > FID_TRANSFER_MAX)
		bytes = FID_TRANSFER_MAX;
	if (flags & FID_NOSIGNAL)
		fid_quiet_hold(kernel, &quiet);
	flags &= ~FID_NOSIGNAL;
	given = kernel->tee(kernel, source, sink, bytes, flags);
	fid_quiet_note(&quiet, given, bytes);
	if (given == 0)
		given = settle_tee(kernel, source, sink, bytes, flags, &quiet);
	fid_quiet_release(kernel, &quiet);
	return given;
}

ssize_t fid_tee(int source, int sink, size_t bytes, unsigned flags)
{
	struct fid_quiet loud = {.raised = false};
	ssize_t given;

	if (bytes > FID_TRANSFER_MAX || flags & FID_NOSIGNAL)
		return fid_tee_on(fid_linux(), source, sink, bytes, flags);
	given = fid_now_tee(source, sink, bytes, flags);
	if (given != 0)
		return given;
	return settle_tee(fid_linux(), source, sink, bytes, flags, &loud);
}

/* ---- vmsplice ---- */

static bool any_is_too_long(const struct iovec *segments, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (segments[i].iov_len > SSIZE_MAX)
			return true;
	return false;
}

static bool is_all(ssize_t moved, const struct iovec *segments, size_t count)
{
	size_t bytes = 0;

	for (size_t i = 0; i < count && bytes <= (size_t)moved; i++)
		bytes += segments[i].iov_len;
	return bytes == (size_t)moved;
}

/* The flag is a hint that a kernel may not know any more. */
static ssize_t vmsplice_batch(struct fid_kernel *kernel, int pipe, const struct iovec *segments,
			      size_t count, unsigned flags)
{
	ssize_t moved = kernel->vmsplice(kernel, pipe, segments, count, flags);

	if (moved == -EOPNOTSUPP && flags & SPLICE_F_GIFT)
		moved = kernel->vmsplice(kernel, pipe, segments, count, flags & ~SPLICE_F_GIFT);
	return moved;
}

/* As if IOV_MAX did not exist: only the first batch may sleep, since it has moved nothing. */
static ssize_t vmsplice_batches(struct fid_kernel *kernel, int pipe,
				const struct iovec *segments, size_t count, unsigned flags)
{
	ssize_t total = 0;

	if (any_is_too_long(segments, count))
		return -EINVAL;
	while (count > 0) {
		size_t batch = count < FID_SEGMENTS_MAX ? count : FID_SEGMENTS_MAX;
		ssize_t moved = vmsplice_batch(kernel, pipe, segments, batch, flags);

		if (moved < 0)
			return total > 0 ? total : moved;
		total += moved;
		if (!is_all(moved, segments, batch))
			break;
		segments += batch;
		count -= batch;
		if (total > 0)
			flags |= SPLICE_F_NONBLOCK;
	}
	return total;
}

static ssize_t vmsplice_once(struct fid_kernel *kernel, int pipe, const struct iovec *segments,
			     size_t count, unsigned flags, struct fid_quiet *quiet)
{
	ssize_t moved = count <= FID_SEGMENTS_MAX
				? vmsplice_batch(kernel, pipe, segments, count, flags)
				: vmsplice_batches(kernel, pipe, segments, count, flags);

	if (fid_call_is_refused(moved))
		return fid_stand_in_vmsplice(kernel, pipe, segments, count, flags, quiet);
	if (quiet->sigpipe.held)
		quiet->raised = moved == -EPIPE ||
				(moved > 0 && !is_all(moved, segments, count));
	return moved;
}

ssize_t fid_vmsplice_on(struct fid_kernel *kernel, int pipe, const struct iovec *segments,
			size_t count, unsigned flags)
{
	struct fid_quiet quiet = {.raised = false};
	ssize_t moved;

	if (flags & FID_NOSIGNAL)
		fid_quiet_hold(kernel, &quiet);
	moved = vmsplice_once(kernel, pipe, segments, count, flags & ~FID_NOSIGNAL, &quiet);
	fid_quiet_release(kernel, &quiet);
	return moved;
}

ssize_t fid_vmsplice(int pipe, const struct iovec *segments, size_t count, unsigned flags)
{
	struct fid_quiet loud = {.raised = false};
	ssize_t moved;

	if (count > FID_SEGMENTS_MAX || flags & FID_NOSIGNAL)
		return fid_vmsplice_on(fid_linux(), pipe, segments, count, flags);
	moved = fid_now_vmsplice(pipe, segments, count, flags);
	if (moved >= 0 || !fid_call_is_refused(moved))
		return moved;
	/* Nothing has moved: the rest of the way begins with the same call. */
	return vmsplice_once(fid_linux(), pipe, segments, count, flags, &loud);
}
