/* SPDX-License-Identifier: MIT */
#include "pipe/stand_in.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum {
	/* What is looked at in one call: a pipe of the kernel's usual size. */
	LOOK_BYTES = 64 << 10,
	/* Looks for packets: a read may be short for another reason as well. */
	GLANCES = 8,
	/* Documentation/admin-guide/devices.txt */
	MEMORY_MAJOR = 1,
	ZERO_MINOR = 5,
	RANDOM_MINOR = 8,
	URANDOM_MINOR = 9,
};

/* ---- The arguments ---- */

static int examine_end(struct fid_kernel *kernel, int fd, int64_t *offset,
		       struct fid_splice_end *ret_end)
{
	struct fid_socket socket = {0};
	struct fid_stat stat;
	int got = kernel->stat(kernel, fd, &stat);

	if (got < 0)
		return got;
	got = kernel->status_flags(kernel, fd);
	if (got < 0)
		return got;
	if (got & O_PATH)
		return -EBADF;
	*ret_end = (struct fid_splice_end){
		.fd = fd,
		.offset = offset,
		.mode = stat.mode & S_IFMT,
		.device = stat.device,
		.inode = stat.inode,
		.rdevice = stat.rdevice,
		.status = got,
		.is_pipe = S_ISFIFO(stat.mode),
	};
	if (S_ISSOCK(stat.mode) && kernel->socket(kernel, fd, &socket) == 0) {
		ret_end->is_stream = socket.type == SOCK_STREAM;
		ret_end->domain = socket.domain;
	}
	return 0;
}

/* What has no offsets is told so by EINVAL, and so is who gives a negative one. */
static bool takes_offset(struct fid_kernel *kernel, const struct fid_splice_end *end)
{
	if (!end->offset || S_ISREG(end->mode))
		return !end->offset || *end->offset >= 0;
	return *end->offset >= 0 && kernel->seek(kernel, end->fd, 0, SEEK_CUR) >= 0;
}

/* do_splice() in fs/splice.c, Linux 6.18: what it checks, in its order. */
int fid_splice_examine(struct fid_kernel *kernel, int source, int64_t *source_offset, int sink,
		       int64_t *sink_offset, unsigned flags, struct fid_quiet *quiet,
		       struct fid_splice_pair *ret_pair)
{
	struct fid_splice_end *from = &ret_pair->source, *to = &ret_pair->sink;
	int got;

	if (flags & ~(unsigned)FID_SPLICE_FLAGS)
		return -EINVAL;
	ret_pair->kernel = kernel;
	ret_pair->flags = flags;
	ret_pair->quiet = quiet;
	got = examine_end(kernel, source, source_offset, from);
	if (got < 0)
		return got;
	got = examine_end(kernel, sink, sink_offset, to);
	if (got < 0)
		return got;
	if ((from->is_pipe && source_offset) || (to->is_pipe && sink_offset))
		return -ESPIPE;
	if ((from->status & O_ACCMODE) == O_WRONLY || (to->status & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	if (!from->is_pipe && !to->is_pipe)
		return -EINVAL;
	if (from->is_pipe && to->is_pipe && from->device == to->device &&
	    from->inode == to->inode)
		return -EINVAL;
	if (!takes_offset(kernel, from) || !takes_offset(kernel, to))
		return -EINVAL;
	if (S_ISDIR(from->mode) || (!to->is_pipe && to->status & O_APPEND))
		return -EINVAL;
	return 0;
}

/*
 * O_NONBLOCK of a pipe counts for both ends of a splice; that of a socket for the socket alone,
 * and of the sockets only unix ones look at SPLICE_F_NONBLOCK (measured on 6.18).
 */
bool fid_splice_source_waits(const struct fid_splice_pair *pair)
{
	const struct fid_splice_end *source = &pair->source, *sink = &pair->sink;

	if (source->status & O_NONBLOCK)
		return false;
	if (source->is_pipe)
		return !(pair->flags & SPLICE_F_NONBLOCK) &&
		       !(sink->is_pipe && sink->status & O_NONBLOCK);
	return source->domain != AF_UNIX ||
	       !(pair->flags & SPLICE_F_NONBLOCK || sink->status & O_NONBLOCK);
}

bool fid_splice_sink_waits(const struct fid_splice_pair *pair)
{
	const struct fid_splice_end *source = &pair->source, *sink = &pair->sink;

	if (sink->status & O_NONBLOCK)
		return false;
	return !sink->is_pipe || (!(pair->flags & SPLICE_F_NONBLOCK) &&
				  !(source->is_pipe && source->status & O_NONBLOCK));
}

/* ---- Waiting and writing ---- */

int fid_wait_for(struct fid_kernel *kernel, int fd, short events, bool waits)
{
	struct pollfd wait = {.fd = fd, .events = events};
	int got = kernel->poll(kernel, &wait, 1, waits ? -1 : 0);

	if (got < 0)
		return got;
	return got == 0 ? -EAGAIN : wait.revents;
}

/*
 * POLLOUT promises one page and so a write of PIPE_BUF bytes, which is atomic: it does not
 * sleep, whatever O_NONBLOCK says, unless another writer was quicker.
 */
ssize_t fid_write_to_pipe(struct fid_kernel *kernel, int pipe, const void *from, size_t bytes,
			  struct fid_quiet *quiet)
{
	size_t total = 0;

	while (total < bytes) {
		size_t piece = bytes - total < PIPE_BUF ? bytes - total : PIPE_BUF;
		ssize_t written = kernel->write(kernel, pipe, (const char *)from + total, piece,
						FID_OWN_OFFSET, 0);

		fid_quiet_note(quiet, written, piece);
		if (written <= 0)
			return total ? (ssize_t)total : written;
		total += (size_t)written;
		if (total < bytes && fid_wait_for(kernel, pipe, POLLOUT, false) != POLLOUT)
			break;
	}
	return (ssize_t)total;
}

ssize_t fid_splice_write(const struct fid_splice_pair *pair, const void *from, size_t bytes)
{
	const struct fid_splice_end *sink = &pair->sink;
	struct fid_kernel *kernel = pair->kernel;
	ssize_t written;

	if (sink->is_pipe)
		return fid_write_to_pipe(kernel, sink->fd, from, bytes, pair->quiet);
	written = kernel->write(kernel, sink->fd, from, bytes,
				sink->offset ? *sink->offset : FID_OWN_OFFSET, 0);
	fid_quiet_note(pair->quiet, written, bytes);
	if (written > 0 && sink->offset)
		*sink->offset += written;
	return written;
}

/* Takes bytes that are known to be there, and forgets them. */
static void drop(struct fid_kernel *kernel, int source, unsigned char *buffer, size_t bytes)
{
	while (bytes > 0) {
		size_t want = bytes < FID_BUFFER_BYTES ? bytes : FID_BUFFER_BYTES;
		ssize_t got = kernel->read(kernel, source, buffer, want, FID_OWN_OFFSET);

		if (got == -EINTR)
			continue;
		if (got <= 0)
			break;
		bytes -= (size_t)got;
	}
}

/* ---- From a pipe ---- */

/* Reads from a pipe of our own what is there, in one call. */
static ssize_t read_look(struct fid_kernel *kernel, struct fid_pipe *look, unsigned char *to,
			 size_t bytes)
{
	ssize_t got;

	if (fid_wait_for(kernel, look->read_end, POLLIN, false) <= 0)
		return 0;
	do
		got = kernel->read(kernel, look->read_end, to, bytes, FID_OWN_OFFSET);
	while (got == -EINTR);
	if (got > 0)
		look->held -= (size_t)got;
	return got > 0 ? got : 0;
}

/*
 * Whether the source begins with a packet (pipe(2), O_DIRECT). The read end does not tell, but
 * of a packet of which one byte is read the next is gone, and a read of two stops behind a
 * packet of one.
 */
static bool begins_with_packet(const struct fid_splice_pair *pair, struct fid_pipe *look)
{
	struct fid_kernel *kernel = pair->kernel;
	unsigned char bytes[2];

	for (int glance = 0; glance < GLANCES; glance++) {
		size_t first = glance == 0 ? 1 : 2;
		ssize_t teed = kernel->tee(kernel, pair->source.fd, look->write_end, 2,
					   pair->flags | SPLICE_F_NONBLOCK);

		look->held += teed > 0 ? (size_t)teed : 0;
		if (read_look(kernel, look, bytes, first) == 2 || teed < 2)
			return false;
		if (read_look(kernel, look, bytes, 1) != 1)
			return true;
	}
	return true;
}

/*
 * Reads all that was looked at, which is one byte more than bytes if there is more. Of a packet
 * that is read in part the rest is lost, so the source is not for us (-EMSGSIZE) if something
 * is gone, or if it begins with one.
 */
static ssize_t read_all(const struct fid_splice_pair *pair, struct fid_pipe *look,
			unsigned char *to, size_t bytes)
{
	size_t teed = look->held;
	size_t whole = teed < bytes ? teed : bytes;
	size_t total = 0;
	unsigned char more;

	for (ssize_t got = 1; total < whole && got > 0;) {
		got = read_look(pair->kernel, look, to + total, whole - total);
		total += (size_t)got;
	}
	if (total < whole || (teed > bytes && read_look(pair->kernel, look, &more, 1) != 1))
		return -EMSGSIZE;
	if (whole > 1 && begins_with_packet(pair, look))
		return -EMSGSIZE;
	return (ssize_t)whole;
}

/*
 * Looks at what the source has, at most bytes, through a pipe of our own. Returns how much,
 * what tee says, -EMSGSIZE for packets, or the refusal where a look cannot be had.
 */
static ssize_t look_into(const struct fid_splice_pair *pair, struct fid_pool *pool,
			 unsigned char *buffer, size_t bytes, ssize_t refusal)
{
	struct fid_pipe look = FID_PIPE_NONE;
	ssize_t got = fid_pool_pipe_take(pool, LOOK_BYTES, &look);

	if (got < 0)
		return refusal;
	if (bytes >= LOOK_BYTES)
		bytes = LOOK_BYTES - 1;
	got = pair->kernel->tee(pair->kernel, pair->source.fd, look.write_end, bytes + 1,
				pair->flags);
	if (fid_call_is_refused(got))
		got = refusal;
	if (got > 0) {
		look.held = (size_t)got;
		got = read_all(pair, &look, buffer, bytes);
	}
	look.doubtful = look.held > 0;
	fid_pool_pipe_give(pool, &look);
	return got;
}

/* Whether what comes first in the source are packets, as far as a look can be had. */
static bool gives_packets(const struct fid_splice_pair *pair, struct fid_pool *pool,
			  unsigned char *buffer, size_t bytes)
{
	struct fid_splice_pair glance = *pair;

	glance.flags |= SPLICE_F_NONBLOCK;
	return look_into(&glance, pool, buffer, bytes < PIPE_BUF ? bytes : PIPE_BUF, -ENOMEM) ==
	       -EMSGSIZE;
}

/* Gives the sink references with tee and then takes as much away: by reference still. */
static ssize_t pipe_to_pipe(const struct fid_splice_pair *pair, struct fid_pool *pool,
			    unsigned char *buffer, size_t bytes, ssize_t refusal)
{
	struct fid_kernel *kernel = pair->kernel;
	ssize_t given;

	if (gives_packets(pair, pool, buffer, bytes))
		return refusal;
	given = kernel->tee(kernel, pair->source.fd, pair->sink.fd, bytes, pair->flags);
	fid_quiet_note(pair->quiet, given, bytes);
	if (given > 0)
		drop(kernel, pair->source.fd, buffer, (size_t)given);
	return fid_call_is_refused(given) ? refusal : given;
}

/* Looks into the source with tee, writes, and takes away what was written. */
static ssize_t pipe_to_other(const struct fid_splice_pair *pair, struct fid_pool *pool,
			     unsigned char *buffer, size_t bytes, ssize_t refusal)
{
	ssize_t moved = look_into(pair, pool, buffer, bytes, refusal);

	if (moved == -EMSGSIZE)
		return refusal;
	if (moved > 0)
		moved = fid_splice_write(pair, buffer, (size_t)moved);
	if (moved > 0)
		drop(pair->kernel, pair->source.fd, buffer, (size_t)moved);
	return moved;
}

/* ---- Into a pipe ---- */

static bool gives_without_end(const struct fid_splice_end *end)
{
	unsigned which = minor(end->rdevice);

	return S_ISCHR(end->mode) && major(end->rdevice) == MEMORY_MAJOR &&
	       (which == ZERO_MINOR || which == RANDOM_MINOR || which == URANDOM_MINOR);
}

/* What the source has, left there. at: where in a file. */
static ssize_t look(const struct fid_splice_pair *pair, void *to, size_t bytes, int64_t at)
{
	const struct fid_splice_end *source = &pair->source;
	struct fid_kernel *kernel = pair->kernel;
	bool waits = fid_splice_source_waits(pair);

	if (!source->is_stream)
		return kernel->read(kernel, source->fd, to, bytes, at);
	for (;;) {
		ssize_t got = kernel->peek(kernel, source->fd, to, bytes);
		int ready;

		if (got != -EAGAIN || !waits)
			return got;
		ready = fid_wait_for(kernel, source->fd, POLLIN, true);
		if (ready < 0)
			return ready;
	}
}

/*
 * The sink has nobody to read it: the kernel says so before it looks at the source. A write of
 * something raises SIGPIPE; if a reader has come since, it has had one byte.
 */
static ssize_t write_to_nobody(const struct fid_splice_pair *pair, void *buffer, int64_t at)
{
	struct fid_kernel *kernel = pair->kernel;
	const struct fid_splice_end *source = &pair->source;
	ssize_t got = source->is_stream ? kernel->peek(kernel, source->fd, buffer, 1)
					: kernel->read(kernel, source->fd, buffer, 1, at);

	return got == 1 ? fid_write_to_pipe(kernel, pair->sink.fd, buffer, 1, pair->quiet)
			: -EPIPE;
}

static ssize_t look_and_write(const struct fid_splice_pair *pair, void *buffer, size_t bytes,
			      int64_t at)
{
	ssize_t got = look(pair, buffer, bytes < LOOK_BYTES ? bytes : LOOK_BYTES, at);

	return got > 0 ? fid_write_to_pipe(pair->kernel, pair->sink.fd, buffer, (size_t)got,
					   pair->quiet)
		       : got;
}

static ssize_t other_to_pipe(const struct fid_splice_pair *pair, unsigned char *buffer,
			     size_t bytes, ssize_t refusal)
{
	const struct fid_splice_end *source = &pair->source;
	struct fid_kernel *kernel = pair->kernel;
	int64_t at = FID_OWN_OFFSET;
	ssize_t moved;

	if (S_ISREG(source->mode) || S_ISBLK(source->mode)) {
		at = source->offset ? *source->offset
				    : kernel->seek(kernel, source->fd, 0, SEEK_CUR);
		if (at < 0)
			return at;
	} else if (!source->is_stream && !gives_without_end(source)) {
		return refusal;
	}
	moved = fid_wait_for(kernel, pair->sink.fd, POLLOUT, fid_splice_sink_waits(pair));
	if (moved < 0)
		return moved;
	if (moved & POLLERR)
		moved = write_to_nobody(pair, buffer, at);
	else
		moved = look_and_write(pair, buffer, bytes, at);
	if (moved <= 0)
		return moved;
	if (source->is_stream)
		drop(kernel, source->fd, buffer, (size_t)moved);
	else if (source->offset)
		*source->offset += moved;
	else if (at >= 0)
		kernel->seek(kernel, source->fd, at + moved, SEEK_SET);
	return moved;
}

/* ---- The calls ---- */

ssize_t fid_stand_in_splice(struct fid_kernel *kernel, struct fid_pool *pool, int source,
			    int64_t *source_offset, int sink, int64_t *sink_offset,
			    size_t bytes, unsigned flags, ssize_t refusal,
			    struct fid_quiet *quiet)
{
	struct fid_splice_pair pair;
	unsigned char *buffer;
	ssize_t moved;

	if (bytes == 0)
		return 0;
	moved = fid_splice_examine(kernel, source, source_offset, sink, sink_offset, flags,
				   quiet, &pair);
	if (moved < 0)
		return moved;
	/* A datagram socket would send and receive other messages than with splice. */
	if ((S_ISSOCK(pair.source.mode) && !pair.source.is_stream) ||
	    (S_ISSOCK(pair.sink.mode) && !pair.sink.is_stream))
		return refusal;
	if (!pool)
		pool = fid_pool_default();
	buffer = pool ? fid_pool_buffer_take(pool) : NULL;
	if (!buffer)
		return -ENOMEM;
	if (pair.source.is_pipe && pair.sink.is_pipe)
		moved = pipe_to_pipe(&pair, pool, buffer, bytes, refusal);
	else if (pair.source.is_pipe)
		moved = pipe_to_other(&pair, pool, buffer, bytes, refusal);
	else
		moved = other_to_pipe(&pair, buffer, bytes, refusal);
	fid_pool_buffer_give(pool, buffer);
	return moved;
}

static ssize_t fill_memory(struct fid_kernel *kernel, int pipe, const struct iovec *segments,
			   size_t count)
{
	ssize_t total = 0;

	for (size_t i = 0; i < count; i++) {
		ssize_t got;

		if (segments[i].iov_len == 0)
			continue;
		if (total > 0 && fid_wait_for(kernel, pipe, POLLIN, false) < 0)
			break;
		got = kernel->read(kernel, pipe, segments[i].iov_base, segments[i].iov_len,
				   FID_OWN_OFFSET);
		if (got <= 0)
			return total ? total : got;
		total += got;
		if ((size_t)got < segments[i].iov_len)
			break;
	}
	return total;
}

static ssize_t write_memory(struct fid_kernel *kernel, int pipe, const struct iovec *segments,
			    size_t count, struct fid_quiet *quiet)
{
	ssize_t total = 0;

	for (size_t i = 0; i < count; i++) {
		ssize_t written;

		if (segments[i].iov_len == 0)
			continue;
		if (total > 0 && fid_wait_for(kernel, pipe, POLLOUT, false) != POLLOUT)
			break;
		written = fid_write_to_pipe(kernel, pipe, segments[i].iov_base,
					    segments[i].iov_len, quiet);
		if (written < 0)
			return total ? total : written;
		total += written;
		if ((size_t)written < segments[i].iov_len)
			break;
	}
	return total;
}

/* As vmsplice(2), it sleeps at most before the first byte, and O_NONBLOCK does not count. */
ssize_t fid_stand_in_vmsplice(struct fid_kernel *kernel, int pipe, const struct iovec *segments,
			      size_t count, unsigned flags, struct fid_quiet *quiet)
{
	bool waits = !(flags & SPLICE_F_NONBLOCK);
	struct fid_splice_end end;
	bool writes;
	size_t bytes = 0;
	int got;

	if (flags & ~(unsigned)FID_SPLICE_FLAGS)
		return -EINVAL;
	got = examine_end(kernel, pipe, NULL, &end);
	if (got < 0)
		return got;
	for (size_t i = 0; i < count; i++) {
		if (segments[i].iov_len > SSIZE_MAX)
			return -EINVAL;
		bytes |= segments[i].iov_len;
	}
	if (bytes == 0)
		return 0;
	if (!end.is_pipe)
		return -EBADF;
	writes = (end.status & O_ACCMODE) != O_RDONLY;
	got = fid_wait_for(kernel, pipe, writes ? POLLOUT : POLLIN, waits);
	if (got < 0)
		return got;
	return writes ? write_memory(kernel, pipe, segments, count, quiet)
		      : fill_memory(kernel, pipe, segments, count);
}
