/* SPDX-License-Identifier: MIT */
/*
 * Sources and sinks as every call sees them, and the two calls that are no more than that: read
 * and write.
 */
#include "calls.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* ---- Sources ---- */

bool sim_is_misaligned(const struct sim_fd *fd, uint64_t offset, uint64_t bytes,
		       const void *memory)
{
	return fd->flags & O_DIRECT &&
	       ((offset | bytes | (uintptr_t)memory) % SIM_ALIGNMENT) != 0;
}

/*
 * What a regular file has at an offset. by_read: read(2), which sees the end of file where it
 * is and reports errors. Returns bytes listed in run, 0 at end of file, or -errno.
 */
ssize_t sim_file_peek(struct sim *sim, const struct sim_port *port, uint64_t offset,
		      uint64_t bytes, bool by_read, struct sim_run *run)
{
	struct sim_object *file = port->object;
	uint64_t size = file->content.size;

	run->count = 0;
	run->bytes = 0;
	if (!by_read && file->early_end && file->size_told >= 0 &&
	    (uint64_t)file->size_told < size)
		size = (uint64_t)file->size_told;
	if (offset >= file->error_at) {
		sim->guilty = 0;
		return !by_read && file->hides_error ? 0 : -file->error;
	}
	if (size > file->error_at)
		size = file->error_at;
	if (offset >= size || !bytes)
		return 0;
	if (bytes > size - offset)
		bytes = size - offset;
	bytes = sim_shorten(sim, bytes);
	run->extent[0] = (struct sim_extent){
		.what = SIM_FILE,
		.which = file->index,
		.at = offset,
		.phase = (uint16_t)(offset % SIM_PAGE),
		.bytes = bytes,
	};
	/* O_DIRECT reads into pages of its own: fs/splice.c, copy_splice_read(). */
	if (port->fd->flags & O_DIRECT) {
		run->extent[0] = sim_extent_resolve(sim, &run->extent[0]);
		run->extent[0].phase = 0;
		bytes = run->extent[0].bytes;
	}
	run->count = 1;
	run->bytes = bytes;
	return (ssize_t)bytes;
}

/* What a pipe, socket or terminal has: the same answers, and -EAGAIN when it would sleep. */
ssize_t sim_stream_peek(struct sim *sim, const struct sim_port *port, uint64_t bytes,
			uint32_t segment_bytes, struct sim_run *run)
{
	struct sim_object *object = port->object;

	run->count = 0;
	run->bytes = 0;
	if (object->ring.bytes) {
		sim_ring_peek(object, sim_shorten(sim, bytes), segment_bytes, run);
		return (ssize_t)run->bytes;
	}
	if (object->kind == SIM_FIFO)
		return object->writers ? -EAGAIN : 0;
	if (object->pending_error) {
		int error = object->pending_error;

		object->pending_error = 0;
		sim->guilty = 0;
		return -error;
	}
	return object->write_shut ? 0 : -EAGAIN;
}

void sim_stream_drop(struct sim *sim, struct sim_object *object, uint64_t bytes)
{
	if (!bytes)
		return;
	sim_ring_drop(object, bytes);
	sim_peer_wake(sim, object);
}

static ssize_t read_file(struct sim *sim, const struct sim_port *port, void *to, size_t bytes,
			 int64_t offset)
{
	uint64_t at = offset < 0 ? port->fd->offset : (uint64_t)offset;
	struct sim_run run;
	ssize_t got;

	if (sim_is_misaligned(port->fd, at, bytes, to) && at < port->object->content.size)
		return -EINVAL;
	got = sim_file_peek(sim, port, at, bytes, true, &run);
	if (got <= 0)
		return got;
	sim_extent_fill(sim, &run.extent[0], to);
	if (offset < 0)
		port->fd->offset += (uint64_t)got;
	return got;
}

static ssize_t read_stream(struct sim *sim, const struct sim_port *port, void *to, size_t bytes)
{
	struct sim_run run;
	unsigned char *target = to;
	ssize_t got;

	if (!sim->is_sole_reader && sim_is_unlucky(sim, port))
		return -EAGAIN;
	for (;;) {
		got = sim_stream_peek(sim, port, bytes, 0, &run);
		if (got != -EAGAIN || port->fd->flags & O_NONBLOCK)
			break;
		if (sim_sleep(sim, SIM_READ, SIM_NEVER) < 0)
			return -EINTR;
	}
	if (got <= 0)
		return got;
	for (uint32_t i = 0; i < run.count; i++) {
		sim_extent_fill(sim, &run.extent[i], target);
		target += run.extent[i].bytes;
	}
	sim_stream_drop(sim, port->object, run.bytes);
	return (ssize_t)run.bytes;
}

static ssize_t read_any(struct sim *sim, int fd, void *to, size_t bytes, int64_t offset)
{
	struct sim_port port = sim_port_of(sim, fd, SIM_READ);

	if (!port.fd || !port.fd->reads)
		return -EBADF;
	if (offset >= 0 && !sim_is_seekable(port.object))
		return -ESPIPE;
	switch (port.object->kind) {
	case SIM_DIRECTORY:
		return -EISDIR;
	case SIM_NULL:
		return 0;
	case SIM_FULL:
		memset(to, 0, bytes);
		return (ssize_t)bytes;
	case SIM_REGULAR:
		return read_file(sim, &port, to, bytes, offset);
	default:
		return bytes ? read_stream(sim, &port, to, bytes) : 0;
	}
}

static ssize_t sim_read(struct fid_kernel *kernel, int fd, void *to, size_t bytes,
			int64_t offset)
{
	struct sim *sim = sim_of(kernel);
	ssize_t result = sim_enter(sim, SIM_READ, fd, -1);

	if (sim->calls == sim->fail_at)
		sim->fail_bytes = bytes;
	if (!result)
		result = read_any(sim, fd, to, bytes, offset);
	/* A look at one byte of a file that is interrupted need not be told to anybody. */
	if (result == -EINTR && bytes == 1 && offset >= 0)
		return result;
	return sim_leave(sim, SIM_READ, fd, -1, result);
}

/* ---- Sinks ---- */

/* Where a write to a regular file goes. */
uint64_t sim_file_offset(const struct sim_port *port, const int64_t *offset)
{
	if (port->fd->flags & O_APPEND)
		return port->object->content.size;
	return offset ? (uint64_t)*offset : port->fd->offset;
}

/* Puts extents into a regular file: copies, whatever they referred to. */
ssize_t sim_file_put(struct sim *sim, const struct sim_port *port, uint64_t offset,
		     const struct sim_run *run)
{
	struct sim_object *file = port->object;
	uint64_t room = file->room > offset ? file->room - offset : 0;
	uint64_t put = 0;

	if (file->sealed)
		return -EPERM;
	if (!room) {
		sim->guilty = 1;
		return -file->room_error;
	}
	for (uint32_t i = 0; i < run->count && room; i++) {
		struct sim_extent rest = run->extent[i];

		if (rest.bytes > room)
			rest.bytes = room;
		room -= rest.bytes;
		sim_oracle_accept(sim, file, &rest, rest.bytes, offset + put);
		while (rest.bytes) {
			struct sim_extent part = sim_extent_own(sim, &rest);

			if (file->is_memory)
				sim_extent_fill(sim, &part, file->memory + offset + put);
			else
				sim_content_write(&file->content, offset + put, &part);
			put += part.bytes;
			sim_extent_skip(&rest, part.bytes);
		}
	}
	file->modified_ns = sim->now_ns;
	return (ssize_t)put;
}

static void accept_run(struct sim *sim, struct sim_object *object, const struct sim_run *run,
		       uint64_t bytes)
{
	for (uint32_t i = 0; i < run->count && bytes; i++) {
		uint64_t part = run->extent[i].bytes < bytes ? run->extent[i].bytes : bytes;

		sim_oracle_accept(sim, object, &run->extent[i], part, 0);
		bytes -= part;
	}
}

/*
 * Puts extents into a pipe, socket, terminal or /dev/null; what it answers to a call that does
 * not sleep. way: SIM_AS_SLOTS, SIM_AS_MOVED_SLOTS or the size of the write(2) that brings
 * them.
 */
ssize_t sim_stream_put(struct sim *sim, const struct sim_port *port, const struct sim_run *run,
		       uint64_t way)
{
	struct sim_object *near = port->object;
	struct sim_object *object = &sim->object[near->other];
	struct sim_run copy;
	uint64_t put;

	switch (near->kind) {
	case SIM_NULL:
		accept_run(sim, near, run, run->bytes);
		return (ssize_t)run->bytes;
	case SIM_FIFO:
		if (!near->readers) {
			sim->guilty = 1;
			return -EPIPE;
		}
		if (way == SIM_AS_SLOTS || way == SIM_AS_MOVED_SLOTS)
			put = sim_pipe_put(near, run, way == SIM_AS_MOVED_SLOTS);
		else
			put = sim_pipe_write(near, run->extent[0], way);
		break;
	default:
		if (near->pending_error) {
			int error = near->pending_error;

			near->pending_error = 0;
			sim->guilty = 1;
			return -error;
		}
		if (near->read_shut) {
			sim->guilty = 1;
			return near->kind == SIM_TERMINAL ? -EIO : -EPIPE;
		}
		copy = *run;
		/* A terminal keeps bytes and not references. */
		if (near->kind == SIM_TERMINAL)
			for (uint32_t i = 0; i < copy.count; i++) {
				struct sim_extent *extent = &copy.extent[i];
				uint64_t whole = extent->bytes;

				*extent = sim_extent_own(sim, extent);
				if (extent->bytes < whole)
					copy.count = i + 1;
			}
		put = sim_queue_put(object, &copy);
	}
	if (!put)
		return -EAGAIN;
	accept_run(sim, object, run, put);
	sim_peer_wake(sim, object);
	return (ssize_t)put;
}

/* What lies in memory, as an extent: the sink's next bytes, if the test said what they are. */
static struct sim_extent memory_extent(struct sim *sim, struct sim_object *sink,
				       const unsigned char *from, uint64_t bytes)
{
	struct sim_oracle *oracle = &sim->object[sink->other].oracle;

	if (oracle->is_on)
		return (struct sim_extent){
			.what = SIM_STREAM, .at = oracle->accepted, .bytes = bytes};
	return (struct sim_extent){
		.what = SIM_LITERAL,
		.at = (uintptr_t)sim_literal(sim, from, (size_t)bytes),
		.bytes = bytes,
	};
}

/* The bytes that were taken from memory must be the sink's next ones. */
static void memory_check(struct sim *sim, const struct sim_extent *extent,
			 const unsigned char *from, size_t bytes)
{
	size_t same;

	if (extent->what != SIM_STREAM)
		return;
	same = sim_stream_differs(sim, SIM_STREAM_SOURCE, extent->at, from, bytes);
	if (same < bytes)
		sim_fail(sim, "a write of %zu bytes differs from the stream at %llu", bytes,
			 (unsigned long long)(extent->at + same));
}

static ssize_t write_file(struct sim *sim, const struct sim_port *port, const void *from,
			  size_t bytes, int64_t offset)
{
	uint64_t at = sim_file_offset(port, offset < 0 ? NULL : &offset);
	struct sim_run run = {.count = 1};
	ssize_t put;

	if (sim_is_misaligned(port->fd, at, bytes, from))
		return -EINVAL;
	if (!bytes)
		return 0;
	bytes = (size_t)sim_shorten(sim, bytes);
	run.extent[0] = memory_extent(sim, port->object, from, bytes);
	run.bytes = bytes;
	put = sim_file_put(sim, port, at, &run);
	if (put < 0)
		return put;
	memory_check(sim, &run.extent[0], from, (size_t)put);
	if (offset < 0)
		port->fd->offset = at + (uint64_t)put;
	return put;
}

/* A blocking write goes on until all is written or something happens. */
static ssize_t write_stream(struct sim *sim, int fd, const struct sim_port *port,
			    const unsigned char *from, size_t bytes, unsigned flags)
{
	bool nonblocking = port->fd->flags & O_NONBLOCK ||
			   (flags & FID_WRITE_SOCKET && flags & FID_WRITE_NOWAIT);
	bool is_pipe = port->object->kind == SIM_FIFO;
	size_t wanted = (size_t)sim_shorten(sim, bytes);
	size_t done = 0;

	if (sim_is_unlucky(sim, port))
		return -EAGAIN;
	while (done < wanted) {
		struct sim_run run = {.count = 1, .bytes = wanted - done};
		ssize_t put;

		run.extent[0] = memory_extent(sim, port->object, from + done, run.bytes);
		put = sim_stream_put(sim, port, &run, is_pipe ? bytes - done : SIM_AS_SLOTS);
		if (put > 0) {
			memory_check(sim, &run.extent[0], from + done, (size_t)put);
			done += (size_t)put;
			continue;
		}
		/* fs/pipe.c, pipe_write(): the reader went away half way; the signal comes,
		 * too. */
		if (put == -EPIPE && done && is_pipe && !(flags & FID_WRITE_NOSIGNAL))
			sim_raise_sigpipe(sim, SIM_WRITE, fd);
		if (put != -EAGAIN || nonblocking)
			return done ? (ssize_t)done : put;
		if (sim_sleep(sim, SIM_WRITE, SIM_NEVER) < 0)
			return done ? (ssize_t)done : -EINTR;
	}
	return (ssize_t)done;
}

static ssize_t write_any(struct sim *sim, int fd, const void *from, size_t bytes,
			 int64_t offset, unsigned flags)
{
	struct sim_port port = sim_port_of(sim, fd, SIM_WRITE);
	size_t there;

	if (flags & FID_WRITE_NOSIGNAL && !(flags & FID_WRITE_SOCKET) &&
	    sim->world.no_write_nosignal)
		return -EOPNOTSUPP;
	if (!port.fd)
		return -EBADF;
	if (flags & FID_WRITE_SOCKET && !sim_is_socket(port.object))
		return -ENOTSOCK;
	if (!port.fd->writes)
		return -EBADF;
	if (offset >= 0 && !sim_is_seekable(port.object))
		return -ESPIPE;
	switch (port.object->kind) {
	case SIM_FULL:
		return bytes ? -ENOSPC : 0;
	case SIM_REGULAR:
		there = sim_memory_there(sim, from, bytes);
		if (bytes && !there)
			return -EFAULT;
		return write_file(sim, &port, from, there, offset);
	case SIM_NULL:
		return write_stream(sim, fd, &port, from, bytes, flags);
	default:
		there = sim_memory_there(sim, from, bytes);
		if (bytes && !there)
			return -EFAULT;
		bytes = there;
		return write_stream(sim, fd, &port, from, bytes, flags);
	}
}

static ssize_t sim_write(struct fid_kernel *kernel, int fd, const void *from, size_t bytes,
			 int64_t offset, unsigned flags)
{
	struct sim *sim = sim_of(kernel);
	ssize_t result = sim_enter(sim, SIM_WRITE, -1, fd);

	if (!result)
		result = write_any(sim, fd, from, bytes, offset, flags);
	if (!(flags & (FID_WRITE_NOSIGNAL | FID_WRITE_SOCKET)))
		sim_signalling(sim, SIM_WRITE, fd, result, bytes);
	else
		sim->sigpipe_maybe |= result == -EPIPE;
	return sim_leave(sim, SIM_WRITE, -1, fd, result);
}

static ssize_t peek_any(struct sim *sim, int socket, unsigned char *to, size_t bytes)
{
	struct sim_port port = sim_port_of(sim, socket, SIM_PEEK);
	struct sim_run run;
	ssize_t got;

	if (!port.fd)
		return -EBADF;
	if (!sim_is_socket(port.object))
		return -ENOTSOCK;
	if (!bytes)
		return 0;
	if (sim_is_unlucky(sim, &port))
		return -EAGAIN;
	got = sim_stream_peek(sim, &port, bytes, 0, &run);
	for (uint32_t i = 0; got > 0 && i < run.count; i++) {
		sim_extent_fill(sim, &run.extent[i], to);
		to += run.extent[i].bytes;
	}
	return got;
}

static ssize_t sim_peek(struct fid_kernel *kernel, int socket, void *to, size_t bytes)
{
	struct sim *sim = sim_of(kernel);
	ssize_t result = sim_enter(sim, SIM_PEEK, socket, -1);

	if (!result)
		result = peek_any(sim, socket, to, bytes);
	return sim_leave(sim, SIM_PEEK, socket, -1, result);
}

void sim_table_ports(struct fid_kernel *kernel)
{
	kernel->peek = sim_peek;
	kernel->read = sim_read;
	kernel->write = sim_write;
}
