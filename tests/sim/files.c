/* SPDX-License-Identifier: MIT */
/*
 * Calls that read a file within the kernel: sendfile, copy_file_range and FICLONE.
 */
#include "calls.h"

#include <errno.h>
#include <fcntl.h>

/* One run of a file into something that is not a pipe, and the sink's own offset. */
static ssize_t sendfile_part(struct sim *sim, const struct sim_port *source, uint64_t at,
			     const struct sim_port *sink, uint64_t bytes)
{
	struct sim_run run;
	ssize_t got = sim_file_peek(sim, source, at, bytes, false, &run);
	uint64_t to;

	if (got <= 0)
		return got;
	if (sink->object->kind != SIM_REGULAR)
		return sim_stream_put(sim, sink, &run, SIM_AS_SLOTS);
	to = sim_file_offset(sink, NULL);
	if (sim_is_misaligned(sink->fd, to, run.bytes, NULL))
		return -EINVAL;
	got = sim_file_put(sim, sink, to, &run);
	if (got > 0)
		sink->fd->offset = to + (uint64_t)got;
	return got;
}

static ssize_t sendfile_any(struct sim *sim, int source, int64_t *source_offset, int sink,
			    size_t bytes)
{
	struct sim_port from, to;
	ssize_t done = 0;
	uint64_t at;

	if (sim->world.sendfile)
		return sim->world.sendfile;
	from = sim_port_of(sim, source, SIM_SENDFILE);
	to = sim_port_of(sim, sink, SIM_SENDFILE);
	if (!from.fd || !to.fd || !from.fd->reads || !to.fd->writes)
		return -EBADF;
	if (!bytes)
		return 0;
	if (to.object->kind == SIM_FIFO)
		return sim_splice_to_pipe(sim, SIM_SENDFILE, &from, source_offset, &to, bytes,
					  0);
	if (from.object->kind != SIM_REGULAR || from.object->no_splice)
		return -EINVAL;
	if (sim_refusal(sim, &to))
		return sim_refused(sim, &to);
	if (sim_is_unlucky(sim, &to))
		return -EAGAIN;
	at = source_offset ? (uint64_t)*source_offset : from.fd->offset;
	if (from.fd->flags & O_DIRECT && at % SIM_ALIGNMENT && at < from.object->content.size)
		return -EINVAL;
	bytes = (size_t)sim_shorten(sim, bytes);
	while ((uint64_t)done < bytes) {
		ssize_t got = sendfile_part(sim, &from, at + (uint64_t)done, &to,
					    bytes - (uint64_t)done);

		if (got == -EAGAIN && !(to.fd->flags & O_NONBLOCK)) {
			if (sim_sleep(sim, SIM_SENDFILE, SIM_NEVER) < 0)
				got = -EINTR;
			else
				continue;
		}
		if (got < 0 && !done)
			return got;
		if (got == -EPIPE)
			sim_raise_sigpipe(sim, SIM_SENDFILE, sink);
		if (got <= 0)
			break;
		done += got;
	}
	if (source_offset)
		*source_offset += done;
	else
		from.fd->offset += (uint64_t)done;
	return done;
}

static ssize_t sim_sendfile(struct fid_kernel *kernel, int source, int64_t *source_offset,
			    int sink, size_t bytes)
{
	struct sim *sim = sim_of(kernel);
	ssize_t result = sim_enter(sim, SIM_SENDFILE, source, sink);

	if (!result)
		result = sendfile_any(sim, source, source_offset, sink, bytes);
	sim_signalling(sim, SIM_SENDFILE, sink, result, bytes);
	return sim_leave(sim, SIM_SENDFILE, source, sink, result);
}

static ssize_t copy_any(struct sim *sim, int source, int64_t *source_offset, int sink,
			int64_t *sink_offset, size_t bytes)
{
	struct sim_port from, to;
	struct sim_run run;
	uint64_t at, target;
	ssize_t got;

	if (sim->world.copy_file_range)
		return sim->world.copy_file_range;
	from = sim_port_of(sim, source, SIM_COPY_FILE_RANGE);
	to = sim_port_of(sim, sink, SIM_COPY_FILE_RANGE);
	if (!from.fd || !to.fd || !from.fd->reads || !to.fd->writes)
		return -EBADF;
	if (from.object->kind == SIM_DIRECTORY || to.object->kind == SIM_DIRECTORY)
		return -EISDIR;
	if (from.object->kind != SIM_REGULAR || to.object->kind != SIM_REGULAR)
		return -EINVAL;
	if (to.fd->flags & O_APPEND)
		return -EBADF;
	if (from.object->device != to.object->device)
		return -EXDEV;
	if (sim_refusal(sim, &to))
		return sim_refused(sim, &to);
	at = source_offset ? (uint64_t)*source_offset : from.fd->offset;
	target = sink_offset ? (uint64_t)*sink_offset : to.fd->offset;
	if (sim_is_misaligned(to.fd, target, 0, NULL))
		return -EINVAL;
	got = sim_file_peek(sim, &from, at, bytes, false, &run);
	if (got <= 0)
		return got;
	if (from.object == to.object && at < target + run.bytes && target < at + run.bytes)
		return -EINVAL;
	got = sim_file_put(sim, &to, target, &run);
	if (got <= 0)
		return got;
	if (source_offset)
		*source_offset += got;
	else
		from.fd->offset += (uint64_t)got;
	if (sink_offset)
		*sink_offset += got;
	else
		to.fd->offset += (uint64_t)got;
	return got;
}

static ssize_t sim_copy_file_range(struct fid_kernel *kernel, int source,
				   int64_t *source_offset, int sink, int64_t *sink_offset,
				   size_t bytes)
{
	struct sim *sim = sim_of(kernel);
	ssize_t result = sim_enter(sim, SIM_COPY_FILE_RANGE, source, sink);

	if (!result)
		result = copy_any(sim, source, source_offset, sink, sink_offset, bytes);
	return sim_leave(sim, SIM_COPY_FILE_RANGE, source, sink, result);
}

static int reflink_any(struct sim *sim, int source, int sink)
{
	struct sim_port from, to;
	struct sim_run run = {.count = 1};
	ssize_t put;

	if (sim->world.reflink)
		return sim->world.reflink;
	from = sim_port_of(sim, source, SIM_REFLINK);
	to = sim_port_of(sim, sink, SIM_REFLINK);
	if (!from.fd || !to.fd || !from.fd->reads || !to.fd->writes || to.fd->flags & O_APPEND)
		return -EBADF;
	if (from.object->kind == SIM_DIRECTORY || to.object->kind == SIM_DIRECTORY)
		return -EISDIR;
	if (from.object->kind != SIM_REGULAR || to.object->kind != SIM_REGULAR)
		return -EINVAL;
	if (from.object->device != to.object->device)
		return -EXDEV;
	if (!sim->world.reflinks)
		return -EOPNOTSUPP;
	run.bytes = from.object->content.size;
	if (to.object->room < run.bytes)
		return -to.object->room_error;
	run.extent[0] = (struct sim_extent){
		.what = SIM_FILE, .which = from.object->index, .bytes = run.bytes};
	/* No offset moves: ioctl(FICLONE) is about the files and not the descriptors. */
	put = sim_file_put(sim, &to, 0, &run);
	return put < 0 ? (int)put : 0;
}

static int sim_reflink(struct fid_kernel *kernel, int source, int sink)
{
	struct sim *sim = sim_of(kernel);
	int result = sim_enter(sim, SIM_REFLINK, source, sink);

	if (!result)
		result = reflink_any(sim, source, sink);
	if (!result)
		sim->idle_calls = 0;
	return (int)sim_leave(sim, SIM_REFLINK, source, sink, result);
}

void sim_table_files(struct fid_kernel *kernel)
{
	kernel->sendfile = sim_sendfile;
	kernel->copy_file_range = sim_copy_file_range;
	kernel->reflink = sim_reflink;
}
