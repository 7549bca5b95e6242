/* SPDX-License-Identifier: MIT */
/*
 * splice, tee and vmsplice: what the kernel's fs/splice.c does with pipes.
 */
#include "calls.h"

#include <errno.h>
#include <fcntl.h>

enum { SEGMENTS_MAX = 1024 /* UIO_MAXIOV */ };

static const unsigned FLAGS = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT;

/* From some byte on a sink may refuse what it took before. */
int sim_refusal(struct sim *sim, const struct sim_port *sink)
{
	const struct sim_object *object = &sim->object[sink->object->other];
	const struct sim_oracle *oracle = &object->oracle;

	if (sink->object->kind == SIM_FULL || sink->object->kind == SIM_DIRECTORY)
		return -EINVAL;
	if (sink->fd->flags & O_APPEND && sink->object->kind != SIM_FIFO)
		return -EINVAL;
	if (oracle->accepted - oracle->first >= sink->object->refuses_from)
		return sink->object->refuses_error ? sink->object->refuses_error : -EINVAL;
	return 0;
}

/* What a call that the sink refuses answers. */
int sim_refused(struct sim *sim, const struct sim_port *sink)
{
	int error = sim_refusal(sim, sink);

	return error == SIM_SAYS_ZERO ? 0 : error;
}

/*
 * A splice that sleeps on a socket or a terminal holds the lock of the pipe at its other end
 * meanwhile, and whoever else touches that pipe sleeps too, beyond the reach of SIGKILL.
 */
static int sleep_on_far_side(struct sim *sim, enum sim_call call, const struct sim_object *pipe)
{
	if (!pipe->is_private && !sim->may_sleep_on_shared)
		sim_fail(sim, "%s sleeps while it holds the lock of a pipe that others share",
			 sim_call_name(call));
	return sim_sleep(sim, call, SIM_NEVER);
}

/* Waits until a pipe has a byte: 1, 0 at its end, or -errno. */
static int wait_for_bytes(struct sim *sim, enum sim_call call, struct sim_object *pipe,
			  bool nonblocking)
{
	while (!pipe->ring.bytes) {
		if (!pipe->writers)
			return 0;
		if (nonblocking)
			return sim->world.empty_pipe_says_zero && call != SIM_VMSPLICE
				       ? 0
				       : -EAGAIN;
		if (sim_sleep(sim, call, SIM_NEVER) < 0)
			return -EINTR;
	}
	return 1;
}

/* Waits until a pipe has a free slot. */
static int wait_for_room(struct sim *sim, enum sim_call call, struct sim_object *pipe,
			 bool nonblocking)
{
	for (;;) {
		if (!pipe->readers)
			return -EPIPE;
		if (!sim_pipe_is_full(pipe))
			return 0;
		if (nonblocking)
			return -EAGAIN;
		if (sim_sleep(sim, call, SIM_NEVER) < 0)
			return -EINTR;
	}
}

/*
 * What splice and tee of two pipes have in common: both wait for the source first, then for the
 * sink, and then look who is there. run becomes what was put into the sink.
 */
static ssize_t between_pipes(struct sim *sim, enum sim_call call, const struct sim_port *source,
			     const struct sim_port *sink, size_t bytes, unsigned flags,
			     struct sim_run *run)
{
	struct sim_object *from = source->object;
	struct sim_object *to = sink->object;
	bool nonblocking = (source->fd->flags | sink->fd->flags) & O_NONBLOCK ||
			   flags & SPLICE_F_NONBLOCK;
	int ready;

	do {
		ready = wait_for_bytes(sim, call, from, nonblocking);
		if (ready < 0)
			return ready;
		if (ready == 0 && from->writers)
			return 0;
		ready = wait_for_room(sim, call, to, nonblocking);
		if (ready < 0)
			return ready;
		/* Somebody else may have taken them while it slept. */
	} while (!from->ring.bytes && from->writers);
	if (!from->ring.bytes)
		return 0;
	sim_ring_peek(from, sim_shorten(sim, bytes), 0, run);
	return sim_stream_put(sim, sink, run,
			      call == SIM_TEE ? SIM_AS_SLOTS : SIM_AS_MOVED_SLOTS);
}

static ssize_t splice_pipes(struct sim *sim, const struct sim_port *source,
			    const struct sim_port *sink, size_t bytes, unsigned flags)
{
	struct sim_run run;
	ssize_t put;

	if (source->object == sink->object)
		return -EINVAL;
	if (sim_refusal(sim, sink))
		return sim_refused(sim, sink);
	put = between_pipes(sim, SIM_SPLICE, source, sink, bytes, flags, &run);
	if (put > 0)
		sim_stream_drop(sim, source->object, (uint64_t)put);
	return put;
}

static ssize_t splice_to_file(struct sim *sim, const struct sim_port *source,
			      const struct sim_port *sink, int64_t *sink_offset,
			      const struct sim_run *run)
{
	uint64_t at = sim_file_offset(sink, sink_offset);
	ssize_t put;

	if (sim_is_misaligned(sink->fd, at, run->bytes, NULL))
		return -EINVAL;
	put = sim_file_put(sim, sink, at, run);
	if (put <= 0)
		return put;
	if (sink_offset)
		*sink_offset = (int64_t)(at + (uint64_t)put);
	else
		sink->fd->offset = at + (uint64_t)put;
	sim_stream_drop(sim, source->object, (uint64_t)put);
	return put;
}

static ssize_t splice_from_pipe(struct sim *sim, const struct sim_port *source,
				const struct sim_port *sink, int sink_number,
				int64_t *sink_offset, size_t bytes, unsigned flags)
{
	struct sim_object *from = source->object;
	bool nonblocking = source->fd->flags & O_NONBLOCK || flags & SPLICE_F_NONBLOCK;
	uint64_t left = sim_shorten(sim, bytes);
	ssize_t done = 0;
	int ready;

	if (sink_offset && !sim_is_seekable(sink->object))
		return -EINVAL;
	if (sim_refusal(sim, sink))
		return sim_refused(sim, sink);
	ready = wait_for_bytes(sim, SIM_SPLICE, from, nonblocking);
	if (ready <= 0)
		return ready;
	if (sim_is_unlucky(sim, sink))
		return -EAGAIN;
	while (left && from->ring.bytes) {
		struct sim_run run;
		ssize_t put;

		sim_ring_peek(from, left, 0, &run);
		if (sink->object->kind == SIM_REGULAR) {
			put = splice_to_file(sim, source, sink, sink_offset, &run);
			return put;
		}
		put = sim_stream_put(sim, sink, &run, SIM_AS_SLOTS);
		if (put > 0) {
			sim_stream_drop(sim, from, (uint64_t)put);
			left -= (uint64_t)put;
			done += put;
			continue;
		}
		/* net/socket.c, splice_to_socket(): one send of many fails. */
		if (put == -EPIPE && done)
			sim_raise_sigpipe(sim, SIM_SPLICE, sink_number);
		if (put != -EAGAIN || sink->fd->flags & O_NONBLOCK)
			return done ? done : put;
		if (sleep_on_far_side(sim, SIM_SPLICE, from) < 0)
			return done ? done : -EINTR;
	}
	return done;
}

/* From a regular file into a pipe; sendfile(2) does it in the same way. */
static ssize_t file_to_pipe(struct sim *sim, const struct sim_port *source,
			    int64_t *source_offset, const struct sim_port *sink, uint64_t bytes)
{
	uint64_t at = source_offset ? (uint64_t)*source_offset : source->fd->offset;
	struct sim_run run;
	ssize_t got;

	if (source->fd->flags & O_DIRECT && at % SIM_ALIGNMENT &&
	    at < source->object->content.size)
		return -EINVAL;
	got = sim_file_peek(sim, source, at, bytes, false, &run);
	if (got <= 0)
		return got;
	got = sim_stream_put(sim, sink, &run, SIM_AS_SLOTS);
	if (got <= 0)
		return got;
	if (source_offset)
		*source_offset += got;
	else
		source->fd->offset += (uint64_t)got;
	return got;
}

ssize_t sim_splice_to_pipe(struct sim *sim, enum sim_call call, const struct sim_port *source,
			   int64_t *source_offset, const struct sim_port *sink, size_t bytes,
			   unsigned flags)
{
	struct sim_object *to = sink->object;
	struct sim_object *from = source->object;
	bool nonblocking = sink->fd->flags & O_NONBLOCK || flags & SPLICE_F_NONBLOCK;
	struct sim_run run;
	uint64_t room;
	ssize_t got;

	if (source_offset && !sim_is_seekable(from))
		return call == SIM_SENDFILE ? -ESPIPE : -EINVAL;
	if (sim_refusal(sim, sink))
		return sim_refused(sim, sink);
	got = wait_for_room(sim, call, to, nonblocking);
	if (got < 0)
		return got;
	if (from->kind == SIM_NULL || from->kind == SIM_DIRECTORY || from->no_splice ||
	    from->kind == SIM_FIFO)
		return -EINVAL;
	room = (uint64_t)(to->slots - to->slots_used) * SIM_PAGE;
	if (bytes > room)
		bytes = (size_t)room;
	if (from->kind == SIM_REGULAR)
		return file_to_pipe(sim, source, source_offset, sink, bytes);
	if (from->kind == SIM_FULL) {
		run = (struct sim_run){.count = 1, .bytes = bytes};
		run.extent[0] = (struct sim_extent){.what = SIM_ZEROS, .bytes = bytes};
		return sim_stream_put(sim, sink, &run, SIM_AS_SLOTS);
	}
	if (sim_is_unlucky(sim, source))
		return -EAGAIN;
	for (;;) {
		got = sim_stream_peek(sim, source, bytes, from->segment_bytes, &run);
		if (got != -EAGAIN || source->fd->flags & O_NONBLOCK)
			break;
		/* Only unix sockets ask the flag, which the pipe's O_NONBLOCK sets, too. */
		if (from->kind == SIM_UNIX && nonblocking)
			break;
		if (sleep_on_far_side(sim, call, to) < 0)
			return -EINTR;
	}
	if (got <= 0)
		return got;
	got = sim_stream_put(sim, sink, &run, SIM_AS_SLOTS);
	if (got > 0)
		sim_stream_drop(sim, from, (uint64_t)got);
	return got;
}

static ssize_t splice_any(struct sim *sim, int source, int64_t *source_offset, int sink,
			  int64_t *sink_offset, size_t bytes, unsigned flags)
{
	struct sim_port from, to;

	if (sim->world.splice)
		return sim->world.splice;
	if (!bytes)
		return 0;
	if (flags & ~FLAGS)
		return -EINVAL;
	from = sim_port_of(sim, source, SIM_SPLICE);
	to = sim_port_of(sim, sink, SIM_SPLICE);
	if (!from.fd || !to.fd || !from.fd->reads || !to.fd->writes)
		return -EBADF;
	if (from.object->kind == SIM_FIFO) {
		if (source_offset || (sink_offset && to.object->kind == SIM_FIFO))
			return -ESPIPE;
		if (to.object->kind == SIM_FIFO)
			return splice_pipes(sim, &from, &to, bytes, flags);
		return splice_from_pipe(sim, &from, &to, sink, sink_offset, bytes, flags);
	}
	if (to.object->kind != SIM_FIFO)
		return -EINVAL;
	if (sink_offset)
		return -ESPIPE;
	return sim_splice_to_pipe(sim, SIM_SPLICE, &from, source_offset, &to, bytes, flags);
}

static ssize_t sim_splice(struct fid_kernel *kernel, int source, int64_t *source_offset,
			  int sink, int64_t *sink_offset, size_t bytes, unsigned flags)
{
	struct sim *sim = sim_of(kernel);
	ssize_t result = sim_enter(sim, SIM_SPLICE, source, sink);

	if (!result)
		result =
			splice_any(sim, source, source_offset, sink, sink_offset, bytes, flags);
	sim_signalling(sim, SIM_SPLICE, sink, result, bytes);
	/* Without more to come the tail would wait for 200 ms. */
	if (result > 0 && flags & SPLICE_F_MORE && !sim_object(sim, source)->ring.bytes)
		sim_fail(sim, "SPLICE_F_MORE, and there is no more");
	return sim_leave(sim, SIM_SPLICE, source, sink, result);
}

static ssize_t tee_any(struct sim *sim, int source, int sink, size_t bytes, unsigned flags)
{
	struct sim_port from, to;
	struct sim_run run;

	if (sim->world.tee)
		return sim->world.tee;
	if (flags & ~FLAGS)
		return -EINVAL;
	if (!bytes)
		return 0;
	from = sim_port_of(sim, source, SIM_TEE);
	to = sim_port_of(sim, sink, SIM_TEE);
	if (!from.fd || !to.fd || !from.fd->reads || !to.fd->writes)
		return -EBADF;
	if (from.object->kind != SIM_FIFO || to.object->kind != SIM_FIFO ||
	    from.object == to.object)
		return -EINVAL;
	return between_pipes(sim, SIM_TEE, &from, &to, bytes, flags, &run);
}

static ssize_t sim_tee(struct fid_kernel *kernel, int source, int sink, size_t bytes,
		       unsigned flags)
{
	struct sim *sim = sim_of(kernel);
	ssize_t result = sim_enter(sim, SIM_TEE, source, sink);

	if (!result)
		result = tee_any(sim, source, sink, bytes, flags);
	sim_signalling(sim, SIM_TEE, sink, result, bytes);
	return sim_leave(sim, SIM_TEE, source, sink, result);
}

/* lib/iov_iter.c, import_iovec(): how many bytes the segments name, or -EINVAL. */
static ssize_t total_of(const struct iovec *segments, size_t count)
{
	size_t total = 0;

	if (count > SEGMENTS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		if ((ssize_t)segments[i].iov_len < 0)
			return -EINVAL;
		if (segments[i].iov_len > FID_TRANSFER_MAX - total)
			total = FID_TRANSFER_MAX;
		else
			total += segments[i].iov_len;
	}
	return (ssize_t)total;
}

/* The part of a segment that one extent can stand for: it lies on one huge page. */
static struct sim_run memory_run(struct sim *sim, const unsigned char *at, size_t bytes)
{
	size_t page = FID_SLAB_BYTES - (uintptr_t)at % FID_SLAB_BYTES;
	struct sim_run run = {.count = 1, .bytes = bytes < page ? bytes : page};

	run.extent[0] = (struct sim_extent){
		.what = SIM_MEMORY,
		.which = sim_memory_pages(sim, at),
		.at = (uintptr_t)at,
		.phase = (uint16_t)((uintptr_t)at % SIM_PAGE),
		.bytes = run.bytes,
	};
	if (!sim->world.vmsplice_copies)
		return run;
	run.extent[0].what = SIM_LITERAL;
	run.extent[0].which = 0;
	run.extent[0].at = (uintptr_t)sim_literal(sim, at, (size_t)run.bytes);
	return run;
}

/* Memory into a pipe: it waits for the first slot only, and then takes what there is. */
static ssize_t vmsplice_in(struct sim *sim, const struct sim_port *port,
			   const struct iovec *segments, size_t left, unsigned flags)
{
	size_t within = 0;
	ssize_t done = 0;
	int ready = wait_for_room(sim, SIM_VMSPLICE, port->object, flags & SPLICE_F_NONBLOCK);

	if (ready < 0)
		return ready;
	sim->lends_memory = true;
	while (left) {
		const unsigned char *at = (const unsigned char *)segments->iov_base + within;
		size_t bytes = segments->iov_len - within;
		struct sim_run run;
		ssize_t put;

		if (!bytes) {
			segments++;
			within = 0;
			continue;
		}
		if (bytes > left)
			bytes = left;
		if (bytes > (size_t)SIM_SLOTS_MAX * SIM_PAGE)
			bytes = (size_t)SIM_SLOTS_MAX * SIM_PAGE;
		bytes = sim_memory_there(sim, at, bytes);
		if (!bytes)
			return done ? done : -EFAULT;
		run = memory_run(sim, at, bytes);
		put = sim_stream_put(sim, port, &run, SIM_AS_SLOTS);
		if (put < 0)
			return done ? done : put;
		done += put;
		left -= (size_t)put;
		within += (size_t)put;
		if ((uint64_t)put < run.bytes)
			break;
	}
	return done;
}

/* A pipe into memory: always a copy. */
static ssize_t vmsplice_out(struct sim *sim, const struct sim_port *port,
			    const struct iovec *segments, size_t left, unsigned flags)
{
	size_t within = 0;
	ssize_t done = 0;
	int ready = wait_for_bytes(sim, SIM_VMSPLICE, port->object, flags & SPLICE_F_NONBLOCK);

	if (ready <= 0)
		return ready;
	while (left && port->object->ring.bytes) {
		unsigned char *at = (unsigned char *)segments->iov_base + within;
		size_t bytes = segments->iov_len - within;
		struct sim_run run;

		if (!bytes) {
			segments++;
			within = 0;
			continue;
		}
		bytes = sim_memory_there(sim, at, bytes < left ? bytes : left);
		if (!bytes)
			return done ? done : -EFAULT;
		sim_ring_peek(port->object, bytes, 0, &run);
		for (uint32_t i = 0; i < run.count; i++) {
			sim_extent_fill(sim, &run.extent[i], at);
			at += run.extent[i].bytes;
		}
		sim_stream_drop(sim, port->object, run.bytes);
		done += (ssize_t)run.bytes;
		left -= (size_t)run.bytes;
		within += (size_t)run.bytes;
	}
	return done;
}

static ssize_t vmsplice_any(struct sim *sim, int fd, const struct iovec *segments, size_t count,
			    unsigned flags)
{
	struct sim_port port;
	ssize_t total;

	if (sim->world.vmsplice)
		return sim->world.vmsplice;
	if (flags & ~FLAGS)
		return -EINVAL;
	if (flags & SPLICE_F_GIFT && sim->world.vmsplice_gift)
		return sim->world.vmsplice_gift;
	port = sim_port_of(sim, fd, SIM_VMSPLICE);
	if (!port.fd)
		return -EBADF;
	total = total_of(segments, count);
	if (total <= 0)
		return total;
	if (port.object->kind != SIM_FIFO)
		return -EBADF;
	total = (ssize_t)sim_shorten(sim, (uint64_t)total);
	if (port.fd->writes)
		return vmsplice_in(sim, &port, segments, (size_t)total, flags);
	return vmsplice_out(sim, &port, segments, (size_t)total, flags);
}

static ssize_t sim_vmsplice(struct fid_kernel *kernel, int fd, const struct iovec *segments,
			    size_t count, unsigned flags)
{
	struct sim *sim = sim_of(kernel);
	ssize_t result = sim_enter(sim, SIM_VMSPLICE, -1, fd);

	if (!result)
		result = vmsplice_any(sim, fd, segments, count, flags);
	sim_signalling(sim, SIM_VMSPLICE, fd, result, 0);
	return sim_leave(sim, SIM_VMSPLICE, -1, fd, result);
}

void sim_table_splice(struct fid_kernel *kernel)
{
	kernel->splice = sim_splice;
	kernel->tee = sim_tee;
	kernel->vmsplice = sim_vmsplice;
}
