/* SPDX-License-Identifier: MIT */
/*
 * Calls that move no bytes: facts about descriptors, pipes, readiness, time, signals.
 */
#include "calls.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIPE_BYTES_MAX = 1 << 20 };

/* ---- Facts about a descriptor ---- */

static uint32_t mode_of(const struct sim_object *object)
{
	switch (object->kind) {
	case SIM_REGULAR:
		return S_IFREG | 0644;
	case SIM_FIFO:
		return S_IFIFO | 0600;
	case SIM_TCP:
	case SIM_UNIX:
		return S_IFSOCK | 0777;
	case SIM_DIRECTORY:
		return S_IFDIR | 0755;
	default:
		return S_IFCHR | 0666;
	}
}

static uint64_t rdevice_of(const struct sim_object *object)
{
	switch (object->kind) {
	case SIM_NULL:
		return 1 << 8 | 3;
	case SIM_FULL:
		return 1 << 8 | 7;
	case SIM_TERMINAL:
		return 136 << 8;
	default:
		return 0;
	}
}

static int sim_stat(struct fid_kernel *kernel, int fd, struct fid_stat *ret_stat)
{
	struct sim *sim = sim_of(kernel);
	int result = sim_enter(sim, SIM_STAT, fd, -1);
	struct sim_port port;

	if (!result) {
		port = sim_port_of(sim, fd, SIM_STAT);
		if (!port.fd)
			result = -EBADF;
	}
	if (!result) {
		struct sim_object *object = port.object;
		uint64_t size = object->kind == SIM_REGULAR ? object->content.size : 0;

		*ret_stat = (struct fid_stat){
			.mode = mode_of(object),
			.device = object->device,
			.inode = object->inode,
			.rdevice = rdevice_of(object),
			.size = object->size_told >= 0 ? object->size_told : (int64_t)size,
			.modified_ns = (int64_t)object->modified_ns,
			.changed_ns = (int64_t)object->modified_ns,
		};
	}
	return (int)sim_leave(sim, SIM_STAT, fd, -1, result);
}

static int sim_status_flags(struct fid_kernel *kernel, int fd)
{
	struct sim *sim = sim_of(kernel);
	int result = sim_enter(sim, SIM_STATUS_FLAGS, fd, -1);

	if (!result) {
		struct sim_port port = sim_port_of(sim, fd, SIM_STATUS_FLAGS);

		if (!port.fd)
			result = -EBADF;
		else if (port.fd->reads && port.fd->writes)
			result = O_RDWR | port.fd->flags;
		else
			result = (port.fd->writes ? O_WRONLY : O_RDONLY) | port.fd->flags;
	}
	return (int)sim_leave(sim, SIM_STATUS_FLAGS, fd, -1, result);
}

static int sim_socket(struct fid_kernel *kernel, int fd, struct fid_socket *ret_socket)
{
	struct sim *sim = sim_of(kernel);
	int result = sim_enter(sim, SIM_SOCKET, fd, -1);

	if (!result) {
		struct sim_port port = sim_port_of(sim, fd, SIM_SOCKET);

		if (!port.fd)
			result = -EBADF;
		else if (!sim_is_socket(port.object))
			result = -ENOTSOCK;
		else
			*ret_socket = (struct fid_socket){
				port.object->kind == SIM_TCP ? AF_INET : AF_UNIX, SOCK_STREAM};
	}
	return (int)sim_leave(sim, SIM_SOCKET, fd, -1, result);
}

static int sim_socket_error(struct fid_kernel *kernel, int fd)
{
	struct sim *sim = sim_of(kernel);
	int result = sim_enter(sim, SIM_SOCKET_ERROR, fd, -1);

	if (!result) {
		struct sim_port port = sim_port_of(sim, fd, SIM_SOCKET_ERROR);

		if (!port.fd)
			result = -EBADF;
		else if (!sim_is_socket(port.object))
			result = -ENOTSOCK;
		else {
			result = -port.object->pending_error;
			port.object->pending_error = 0;
		}
	}
	return (int)sim_leave(sim, SIM_SOCKET_ERROR, fd, -1, result);
}

static int sim_is_terminal(struct fid_kernel *kernel, int fd)
{
	struct sim *sim = sim_of(kernel);
	int result = sim_enter(sim, SIM_IS_TERMINAL, fd, -1);

	if (!result) {
		struct sim_port port = sim_port_of(sim, fd, SIM_IS_TERMINAL);

		result = port.fd && port.object->kind == SIM_TERMINAL;
	} else {
		result = 0;
	}
	return result;
}

static int sim_file_system(struct fid_kernel *kernel, int fd, uint64_t *ret_magic)
{
	struct sim *sim = sim_of(kernel);
	int result = sim_enter(sim, SIM_FILE_SYSTEM, fd, -1);

	if (!result) {
		struct sim_port port = sim_port_of(sim, fd, SIM_FILE_SYSTEM);

		if (port.fd)
			*ret_magic = port.object->magic;
		else
			result = -EBADF;
	}
	return (int)sim_leave(sim, SIM_FILE_SYSTEM, fd, -1, result);
}

static int64_t seek_any(struct sim *sim, int fd, int64_t offset, int whence)
{
	struct sim_port port = sim_port_of(sim, fd, SIM_SEEK);
	int64_t from = 0;

	if (!port.fd)
		return -EBADF;
	if (!sim_is_seekable(port.object))
		return -ESPIPE;
	if (port.object->kind != SIM_REGULAR)
		return 0;
	if (whence == SEEK_CUR)
		from = (int64_t)port.fd->offset;
	else if (whence == SEEK_END)
		from = (int64_t)port.object->content.size;
	else if (whence != SEEK_SET)
		return -EINVAL;
	if (from + offset < 0)
		return -EINVAL;
	port.fd->offset = (uint64_t)(from + offset);
	return from + offset;
}

static int64_t sim_seek(struct fid_kernel *kernel, int fd, int64_t offset, int whence)
{
	struct sim *sim = sim_of(kernel);
	int64_t result = sim_enter(sim, SIM_SEEK, fd, -1);

	if (!result)
		result = seek_any(sim, fd, offset, whence);
	sim_leave(sim, SIM_SEEK, fd, -1, result < 0 ? (ssize_t)result : 0);
	return result;
}

/* ---- Pipes ---- */

static int pipe_any(struct sim *sim, int ends[2])
{
	const struct sim_world *world = &sim->world;
	struct sim_object *pipe;

	if (world->pipe)
		return world->pipe;
	pipe = sim_object_new(sim, SIM_FIFO);
	pipe->is_private = true;
	pipe->slots = world->pipe_slots ? world->pipe_slots : SIM_SLOTS;
	/* Past the user's budget a new pipe has two slots: pipe(7). */
	if (world->slots_budget && sim->slots_private + pipe->slots > world->slots_budget)
		pipe->slots = pipe->slots < 2 ? pipe->slots : 2;
	sim->slots_private += pipe->slots;
	ends[0] = sim_fd_new(sim, pipe, true, false, 0, false);
	ends[1] = sim_fd_new(sim, pipe, false, true, 0, false);
	return 0;
}

static int sim_pipe(struct fid_kernel *kernel, int ends[2])
{
	struct sim *sim = sim_of(kernel);
	int result = sim_enter(sim, SIM_PIPE, -1, -1);

	if (!result)
		result = pipe_any(sim, ends);
	return (int)sim_leave(sim, SIM_PIPE, -1, -1, result);
}

static int resize_any(struct sim *sim, int fd, size_t bytes)
{
	const struct sim_world *world = &sim->world;
	struct sim_port port = sim_port_of(sim, fd, SIM_PIPE_RESIZE);
	struct sim_object *pipe = port.object;
	uint32_t slots = 1;

	if (!port.fd || pipe->kind != SIM_FIFO)
		return -EBADF;
	if (bytes > (size_t)1 << 31)
		return -EINVAL;
	while ((uint64_t)slots * SIM_PAGE < bytes)
		slots *= 2;
	if (slots > pipe->slots) {
		uint32_t more = slots - pipe->slots;

		if (world->pipe_grow)
			return world->pipe_grow;
		if ((uint64_t)slots * SIM_PAGE > PIPE_BYTES_MAX)
			return -EPERM;
		if (world->slots_budget && pipe->is_private &&
		    sim->slots_private + more > world->slots_budget)
			return -EPERM;
	}
	if (slots < pipe->slots_used)
		return -EBUSY;
	if (pipe->is_private)
		sim->slots_private += slots - pipe->slots;
	pipe->slots = slots;
	return (int)(slots * SIM_PAGE);
}

static int sim_pipe_resize(struct fid_kernel *kernel, int fd, size_t bytes)
{
	struct sim *sim = sim_of(kernel);
	int result = sim_enter(sim, SIM_PIPE_RESIZE, fd, -1);

	if (!result)
		result = resize_any(sim, fd, bytes);
	return (int)sim_leave(sim, SIM_PIPE_RESIZE, fd, -1, result);
}

static int sim_pipe_size(struct fid_kernel *kernel, int fd)
{
	struct sim *sim = sim_of(kernel);
	int result = sim_enter(sim, SIM_PIPE_SIZE, fd, -1);

	if (!result) {
		struct sim_port port = sim_port_of(sim, fd, SIM_PIPE_SIZE);

		result = port.fd && port.object->kind == SIM_FIFO
				 ? (int)(port.object->slots * SIM_PAGE)
				 : -EBADF;
	}
	return (int)sim_leave(sim, SIM_PIPE_SIZE, fd, -1, result);
}

static int sim_close(struct fid_kernel *kernel, int fd)
{
	struct sim *sim = sim_of(kernel);
	/* close(2) releases the descriptor whatever it answers. */
	int result = sim_enter(sim, SIM_CLOSE, fd, -1);
	struct sim_port port = sim_port_of(sim, fd, SIM_CLOSE);

	if (!port.fd)
		sim_fail(sim, "close of descriptor %d, which was never open", fd);
	if (port.fd->is_borrowed)
		sim_fail(sim, "close of descriptor %d, which is the caller's", fd);
	sim_fd_close(sim, fd);
	return (int)sim_leave(sim, SIM_CLOSE, fd, -1, result);
}

/* ---- Readiness, time, signals ---- */

static int sim_poll(struct fid_kernel *kernel, struct pollfd *fds, size_t count, int timeout_ms)
{
	struct sim *sim = sim_of(kernel);
	int result = sim_enter(sim, SIM_POLL, count > 0 ? fds[0].fd : -1, -1);
	uint64_t until = timeout_ms < 0 ? SIM_NEVER
					: sim->now_ns + (uint64_t)timeout_ms * 1000000;

	while (!result) {
		result = sim_poll_now(sim, fds, count);
		if (result || sim->now_ns >= until)
			break;
		result = sim_sleep(sim, SIM_POLL, until);
	}
	return (int)sim_leave(sim, SIM_POLL, -1, -1, result);
}

static uint64_t sim_now_ns(struct fid_kernel *kernel)
{
	struct sim *sim = sim_of(kernel);

	sim->now_ns += 10;
	return sim->now_ns;
}

static void sim_sigpipe_hold(struct fid_kernel *kernel, struct fid_sigpipe *sigpipe)
{
	struct sim *sim = sim_of(kernel);

	if (sim->sigpipe_held)
		sim_fail(sim, "SIGPIPE is held back twice");
	sim->sigpipe_held = true;
	sim->sigpipe_maybe = false;
	*sigpipe = (struct fid_sigpipe){
		.held = true,
		.was_blocked = sim->sigpipe_blocked,
		.was_pending = sim->sigpipe_pending,
	};
	sim->sigpipe_blocked = true;
}

static void sim_sigpipe_release(struct fid_kernel *kernel, struct fid_sigpipe *sigpipe,
				bool raised)
{
	struct sim *sim = sim_of(kernel);

	if (!sigpipe->held)
		return;
	if (!sim->sigpipe_held)
		sim_fail(sim, "SIGPIPE is released twice");
	/* It would take away a signal that somebody sent to the caller. */
	if (raised && !sim->sigpipe_maybe)
		sim_fail(sim, "SIGPIPE is taken away although no call can have raised it");
	sigpipe->held = false;
	sim->sigpipe_held = false;
	if (raised && !sigpipe->was_pending)
		sim->sigpipe_pending = false;
	sim->sigpipe_blocked = sigpipe->was_blocked;
	if (!sim->sigpipe_pending || sim->sigpipe_blocked)
		return;
	if (!sim->takes_sigpipe)
		sim_fail(sim, "SIGPIPE reached the caller when it was let through again");
	sim->sigpipe_pending = false;
	sim->sigpipes++;
}

static uint32_t sim_generation(struct fid_kernel *kernel)
{
	return sim_of(kernel)->generation;
}

void sim_table_facts(struct fid_kernel *kernel)
{
	kernel->stat = sim_stat;
	kernel->status_flags = sim_status_flags;
	kernel->socket = sim_socket;
	kernel->socket_error = sim_socket_error;
	kernel->is_terminal = sim_is_terminal;
	kernel->file_system = sim_file_system;
	kernel->seek = sim_seek;
	kernel->pipe = sim_pipe;
	kernel->pipe_resize = sim_pipe_resize;
	kernel->pipe_size = sim_pipe_size;
	kernel->close = sim_close;
	kernel->poll = sim_poll;
	kernel->now_ns = sim_now_ns;
	kernel->sigpipe_hold = sim_sigpipe_hold;
	kernel->sigpipe_release = sim_sigpipe_release;
	kernel->generation = sim_generation;
}
