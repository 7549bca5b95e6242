/* SPDX-License-Identifier: MIT */
/*
 * The calls. What each answers follows Linux 6.18; conformance.c compares the two.
 *
 * Every call that moves bytes takes the same three steps: list what the source has, offer it to
 * the sink, and drop from the source what the sink took.
 */
#include "calls.h"

#include <errno.h>
#include <fcntl.h>

int sim_enter(struct sim *sim, enum sim_call call, int first, int second)
{
	sim->calls++;
	sim->calls_ever++;
	sim->guilty = -1;
	sim->now_ns += 100;
	if (sim->next_ns <= sim->now_ns)
		sim_peers_run(sim);
	if (++sim->idle_calls > SIM_IDLE_CALLS_MAX)
		sim_fail(sim, "spinning: %d calls in a row moved nothing, the last is %s",
			 SIM_IDLE_CALLS_MAX, sim_call_name(call));
	if (sim->log && sim->calls <= sim->log_size)
		sim->log[sim->calls - 1] = (uint8_t)call;
	if (!sim->fail_at || sim->calls < sim->fail_at)
		return 0;
	if (sim->calls == sim->fail_at) {
		sim->fail_call = call;
		sim->fail_fd[0] = first;
		sim->fail_fd[1] = second;
		return sim->fail_error;
	}
	return sim->fail_sticky && call == sim->fail_call ? sim->fail_error : 0;
}

/*
 * Pipes and sockets send the signal; a file whose server says EPIPE does not, and a private
 * pipe never lacks a reader.
 */
void sim_raise_sigpipe(struct sim *sim, enum sim_call call, int fd)
{
	const struct sim_object *sink = sim_object(sim, fd);

	if (sink->is_private)
		return;
	if (sink->kind != SIM_FIFO && sink->kind != SIM_TCP && sink->kind != SIM_UNIX)
		return;
	if (!sim->sigpipe_blocked && !sim->takes_sigpipe)
		sim_fail(sim, "SIGPIPE of %s reached the caller", sim_call_name(call));
	if (sim->sigpipe_blocked)
		sim->sigpipe_pending = true;
	else
		sim->sigpipes++;
}

/*
 * What a call that can raise the signal answers. From a count that is not all of what was asked
 * nobody can tell whether it did.
 */
ssize_t sim_signalling(struct sim *sim, enum sim_call call, int fd, ssize_t result,
		       size_t bytes)
{
	sim->sigpipe_maybe |= result != (ssize_t)bytes;
	if (result == -EPIPE)
		sim_raise_sigpipe(sim, call, fd);
	return result;
}

static bool is_slow(int error)
{
	return error == -EAGAIN || error == -EINTR;
}

/* Accounts for what a call answers. */
ssize_t sim_leave(struct sim *sim, enum sim_call call, int first, int second, ssize_t result)
{
	if (result > 0 && call <= SIM_COPY_FILE_RANGE)
		sim->idle_calls = 0;
	sim->eagains += result == -EAGAIN;
	/* close(2) has done its work all the same. */
	sim->eintrs += result == -EINTR && call != SIM_CLOSE;
	if (result >= 0 || is_slow((int)result))
		return result;
	sim->error_before = sim->last_error;
	sim->last_error = (struct sim_error){call, (int)result, {first, second}, sim->guilty};
	return result;
}

/* The port of a descriptor number, or one without an object: EBADF. */
struct sim_port sim_port_of(struct sim *sim, int number, enum sim_call call)
{
	struct sim_fd *fd;

	if (number < SIM_FD_FIRST || number >= SIM_FD_FIRST + SIM_FDS)
		return (struct sim_port){0};
	fd = &sim->fd[number - SIM_FD_FIRST];
	if (!fd->is_open) {
		if (fd->was_open)
			sim_fail(sim, "%s on descriptor %d, which was closed",
				 sim_call_name(call), number);
		return (struct sim_port){0};
	}
	return (struct sim_port){fd, &sim->object[fd->object]};
}

uint64_t sim_shorten(struct sim *sim, uint64_t bytes)
{
	const struct sim_world *world = &sim->world;

	if (world->chunk_bytes_max && bytes > world->chunk_bytes_max)
		bytes = world->chunk_bytes_max;
	if (bytes > 1 && world->short_permille) {
		uint64_t random = sim_random(sim);

		if (random % 1000 < world->short_permille) {
			uint64_t most = random >> 63 && bytes > 64 ? 64 : bytes;

			bytes = 1 + (random >> 16) % most;
		}
	}
	return bytes;
}

/* A ready descriptor of the caller's may still say EAGAIN: somebody else was faster. */
bool sim_is_unlucky(struct sim *sim, const struct sim_port *port)
{
	return sim->world.again_permille && port->fd->flags & O_NONBLOCK &&
	       !port->object->is_private && sim_is_queue(port->object) &&
	       sim_random(sim) % 1000 < sim->world.again_permille;
}

void sim_table_fill(struct fid_kernel *kernel)
{
	sim_table_ports(kernel);
	sim_table_splice(kernel);
	sim_table_files(kernel);
	sim_table_facts(kernel);
	sim_table_mappings(kernel);
}
