/* SPDX-License-Identifier: MIT */
/*
 * What descriptors refer to, and who is at their other ends.
 *
 * Time is discrete: a peer acts at moments of its own choosing, and a call that sleeps moves
 * the clock to the next such moment. A peer that can do nothing before the flow does something
 * has no moment at all, so a sleep with no moment left is one that would last for ever.
 */
#include "calls.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define LONG_NS ((uint64_t)600 * 1000000000)

/* ---- Descriptors ---- */

struct sim_object *sim_object_new(struct sim *sim, enum sim_kind kind)
{
	struct sim_object *object = NULL;
	struct sim_ring ring;
	uint32_t index;

	for (index = 0; index < sim->objects; index++)
		if (!sim->object[index].in_use)
			break;
	if (index == SIM_OBJECTS)
		sim_fail(sim, "more than %d objects are in use", SIM_OBJECTS);
	if (index == sim->objects)
		sim->objects++;
	object = &sim->object[index];
	ring = object->ring;
	sim_content_clear(&object->content);
	*object = (struct sim_object){
		.in_use = true,
		.kind = (uint8_t)kind,
		.index = index,
		.other = index,
		.inode = 1000 + sim->objects_made++,
		.device = 1,
		/* btrfs where clones are asked for at all, ext4 elsewhere */
		.magic = sim->world.reflinks || sim->world.reflink ? 0x9123683E : 0xEF53,
		.room = SIM_NEVER,
		.room_error = ENOSPC,
		.size_told = -1,
		.error_at = SIM_NEVER,
		.refuses_from = SIM_NEVER,
		.queue_bytes_max = SIM_SEND_BYTES,
		.modified_ns = sim->now_ns,
		.producer = {.next_ns = SIM_NEVER},
		.consumer = {.next_ns = SIM_NEVER},
	};
	object->ring = (struct sim_ring){.extent = ring.extent};
	return object;
}

void sim_object_drop(struct sim *sim, struct sim_object *object)
{
	if (object->is_private)
		sim->slots_private -= object->slots;
	sim_ring_clear(object);
	sim_content_clear(&object->content);
	object->in_use = false;
}

int sim_fd_new(struct sim *sim, struct sim_object *object, bool reads, bool writes, int flags,
	       bool is_borrowed)
{
	/* Numbers are not used again soon, so that use after close is seen. */
	for (uint32_t i = 0; i < SIM_FDS; i++) {
		uint32_t slot = sim->fd_next++ % SIM_FDS;
		struct sim_fd *fd = &sim->fd[slot];

		if (fd->is_open)
			continue;
		*fd = (struct sim_fd){
			.is_open = true,
			.was_open = true,
			.is_borrowed = is_borrowed,
			.reads = reads,
			.writes = writes,
			.object = object->index,
			.flags = flags & (O_NONBLOCK | O_APPEND | O_DIRECT),
		};
		object->readers += reads;
		object->writers += writes;
		sim->fds_open++;
		return SIM_FD_FIRST + (int)slot;
	}
	sim_fail(sim, "more than %d descriptors are open", SIM_FDS);
}

static void shut(struct sim *sim, struct sim_object *object)
{
	struct sim_object *far = &sim->object[object->other];

	if (object->kind == SIM_FIFO || object->kind == SIM_REGULAR || far == object)
		return;
	if (!object->readers && !object->writers) {
		far->write_shut = true;
		far->read_shut = true;
	}
}

/* Whether a pipe or a socket refers to a file's pages, or the process has mapped them. */
static bool is_referred_to(const struct sim *sim, const struct sim_object *file)
{
	for (uint32_t i = 0; i < sim->maps; i++)
		if (sim->map[i].file == file)
			return true;
	for (uint32_t i = 0; i < sim->objects; i++) {
		const struct sim_ring *ring = &sim->object[i].ring;

		for (uint32_t n = 0; sim->object[i].in_use && n < ring->count; n++) {
			const struct sim_extent *extent =
				&ring->extent[(ring->head + n) % SIM_RING];

			if (extent->what == SIM_FILE && extent->which == file->index)
				return true;
			/* vmsplice of a map that is gone by now */
			if (extent->what == SIM_MEMORY &&
			    extent->at - (uintptr_t)file->memory < file->memory_bytes)
				return true;
		}
	}
	return false;
}

void sim_fd_close(struct sim *sim, int number)
{
	struct sim_fd *fd = &sim->fd[number - SIM_FD_FIRST];
	struct sim_object *object = &sim->object[fd->object];

	fd->is_open = false;
	sim->fds_open--;
	object->readers -= fd->reads;
	object->writers -= fd->writes;
	shut(sim, object);
	if (object->kind == SIM_FIFO && !object->readers && !object->writers)
		sim_object_drop(sim, object);
	if (object->is_memory && !object->readers && !object->writers &&
	    !is_referred_to(sim, object)) {
		sim_memory_file_drop(object);
		sim_object_drop(sim, object);
	}
}

static void allow(bool *reads, bool *writes, int flags)
{
	*reads = (flags & O_ACCMODE) != O_WRONLY;
	*writes = (flags & O_ACCMODE) != O_RDONLY;
}

int sim_regular(struct sim *sim, uint64_t size, int flags)
{
	struct sim_object *object = sim_object_new(sim, SIM_REGULAR);
	bool reads, writes;

	sim_content_write(&object->content, 0,
			  &(struct sim_extent){.what = SIM_STREAM,
					       .which = SIM_STREAM_SOURCE,
					       .bytes = size});
	allow(&reads, &writes, flags);
	return sim_fd_new(sim, object, reads, writes, flags, true);
}

int sim_reopen(struct sim *sim, int fd, int flags)
{
	bool reads, writes;

	allow(&reads, &writes, flags);
	return sim_fd_new(sim, sim_object(sim, fd), reads, writes, flags, true);
}

void sim_pipe_pair(struct sim *sim, int ends[2], int flags)
{
	struct sim_object *object = sim_object_new(sim, SIM_FIFO);

	object->slots = SIM_SLOTS;
	ends[0] = sim_fd_new(sim, object, true, false, flags, true);
	ends[1] = sim_fd_new(sim, object, false, true, flags, true);
}

static struct sim_object *far_end(struct sim *sim, struct sim_object *near)
{
	struct sim_object *far = sim_object_new(sim, near->kind);

	far->other = near->index;
	near->other = far->index;
	return far;
}

void sim_socket_pair(struct sim *sim, int ends[2], int flags)
{
	struct sim_object *near = sim_object_new(sim, SIM_UNIX);
	struct sim_object *far = far_end(sim, near);

	ends[0] = sim_fd_new(sim, near, true, true, flags, true);
	ends[1] = sim_fd_new(sim, far, true, true, flags, true);
}

static struct sim_peer peer_new(struct sim *sim, uint64_t bytes, enum sim_end end)
{
	return (struct sim_peer){
		.is_there = true,
		.end = (uint8_t)end,
		.next_ns = sim->now_ns,
		.bytes_left = bytes,
		.bytes_max = 64 << 10,
		.delay_ns = 10000,
	};
}

int sim_source(struct sim *sim, enum sim_kind kind, int flags, uint64_t bytes, enum sim_end end)
{
	struct sim_object *object = sim_object_new(sim, kind);
	int fd;

	if (kind == SIM_FIFO) {
		object->slots = SIM_SLOTS;
		object->writers = 1;
		fd = sim_fd_new(sim, object, true, false, flags, true);
	} else {
		struct sim_object *far = far_end(sim, object);

		far->readers = 1;
		far->writers = 1;
		fd = sim_fd_new(sim, object, true, true, flags, true);
	}
	object->producer = peer_new(sim, bytes, end);
	sim_peer_join(sim, object);
	return fd;
}

int sim_sink(struct sim *sim, enum sim_kind kind, int flags)
{
	struct sim_object *object = sim_object_new(sim, kind);
	struct sim_object *far = object;
	int fd;

	if (kind == SIM_FIFO) {
		object->slots = SIM_SLOTS;
		object->readers = 1;
		fd = sim_fd_new(sim, object, false, true, flags, true);
	} else {
		far = far_end(sim, object);
		far->readers = 1;
		far->writers = 1;
		fd = sim_fd_new(sim, object, true, true, flags, true);
	}
	far->consumer = peer_new(sim, SIM_NEVER, SIM_END_IDLE);
	sim_peer_join(sim, far);
	return fd;
}

int sim_device(struct sim *sim, enum sim_kind kind, int flags)
{
	bool reads, writes;

	allow(&reads, &writes, flags);
	return sim_fd_new(sim, sim_object_new(sim, kind), reads, writes, flags, true);
}

struct sim_object *sim_object(struct sim *sim, int fd)
{
	return &sim->object[sim->fd[fd - SIM_FD_FIRST].object];
}

struct sim_object *sim_far(struct sim *sim, int fd)
{
	return &sim->object[sim_object(sim, fd)->other];
}

void sim_close_borrowed(struct sim *sim, int fd)
{
	sim_fd_close(sim, fd);
}

void sim_overwrite(struct sim *sim, int fd, uint64_t offset, uint64_t bytes)
{
	struct sim_object *object = sim_object(sim, fd);

	sim_content_write(&object->content, offset,
			  &(struct sim_extent){.what = SIM_STREAM,
					       .which = SIM_STREAM_LATER,
					       .at = offset,
					       .bytes = bytes});
	object->modified_ns = sim->now_ns;
}

/* ---- Peers ---- */

void sim_peer_join(struct sim *sim, struct sim_object *object)
{
	sim->peers[sim->peer_count++] = object->index;
	sim->next_ns = 0;
}

static uint64_t delay(struct sim *sim, const struct sim_peer *peer)
{
	return sim->now_ns + 1 + (peer->delay_ns ? sim_random(sim) % peer->delay_ns : 0);
}

/* Something changed at object: peers that had nothing to do may have now. */
void sim_peer_wake(struct sim *sim, struct sim_object *object)
{
	struct sim_peer *both[] = {&object->producer, &object->consumer};

	for (int i = 0; i < 2; i++) {
		struct sim_peer *peer = both[i];

		if (!peer->is_there || peer->ended || peer->next_ns != SIM_NEVER)
			continue;
		peer->next_ns = delay(sim, peer);
		if (peer->next_ns < sim->next_ns)
			sim->next_ns = peer->next_ns;
	}
}

static void peer_end(struct sim_object *object, struct sim_peer *peer, bool produces)
{
	peer->ended = true;
	peer->next_ns = SIM_NEVER;
	if (peer->end == SIM_END_IDLE)
		return;
	if (object->kind == SIM_FIFO) {
		if (produces)
			object->writers--;
		else
			object->readers--;
	} else {
		object->write_shut = true;
	}
}

static void source_ends(struct sim_object *object)
{
	peer_end(object, &object->producer, true);
	if (object->kind != SIM_FIFO && object->producer.end == SIM_END_RESET)
		object->pending_error = ECONNRESET;
}

static void sink_ends(struct sim *sim, struct sim_object *object)
{
	struct sim_object *near = &sim->object[object->other];
	uint8_t end = object->consumer.end;

	object->consumer.ended = true;
	object->consumer.next_ns = SIM_NEVER;
	if (end == SIM_END_IDLE)
		return;
	if (object->kind == SIM_FIFO) {
		object->readers--;
		return;
	}
	near->read_shut = true;
	near->write_shut = true;
	if (end == SIM_END_RESET)
		near->pending_error = ECONNRESET;
}

static void produce(struct sim *sim, struct sim_object *object)
{
	struct sim_peer *peer = &object->producer;
	struct sim_run run = {.count = 1};
	uint64_t bytes = 1 + sim_random(sim) % peer->bytes_max;
	uint64_t put;

	if (!peer->bytes_left) {
		source_ends(object);
		return;
	}
	if (bytes > peer->bytes_left)
		bytes = peer->bytes_left;
	run.extent[0] = (struct sim_extent){
		.what = SIM_STREAM,
		.at = object->oracle.accepted, /* of a source: how much it has produced */
		.bytes = bytes,
	};
	run.bytes = bytes;
	if (object->kind == SIM_FIFO && peer->lends) {
		run.extent[0].what = SIM_FILE;
		run.extent[0].which = sim_object(sim, (int)peer->lends)->index;
		run.extent[0].phase = (uint16_t)(run.extent[0].at % SIM_PAGE);
		put = sim_pipe_put(object, &run, false);
	} else if (object->kind == SIM_FIFO)
		put = sim_pipe_write(object, run.extent[0], bytes);
	else
		put = sim_queue_put(object, &run);
	object->oracle.accepted += put;
	peer->bytes_left -= put;
	/* Full: it waits until something is read. */
	peer->next_ns = put || !peer->bytes_left ? delay(sim, peer) : SIM_NEVER;
}

static void consume(struct sim *sim, struct sim_object *object)
{
	struct sim_peer *peer = &object->consumer;
	struct sim_run run;
	uint64_t bytes = 1 + sim_random(sim) % peer->bytes_max;

	if (!peer->bytes_left) {
		sink_ends(sim, object);
		return;
	}
	if (bytes > peer->bytes_left)
		bytes = peer->bytes_left;
	sim_ring_peek(object, bytes, 0, &run);
	if (object->oracle.is_on)
		for (uint32_t i = 0; i < run.count; i++)
			sim_oracle_drain(sim, object, run.extent[i]);
	sim_ring_drop(object, run.bytes);
	if (peer->bytes_left != SIM_NEVER)
		peer->bytes_left -= run.bytes;
	peer->next_ns = run.bytes || !peer->bytes_left ? delay(sim, peer) : SIM_NEVER;
}

void sim_peers_run(struct sim *sim)
{
	uint64_t next = SIM_NEVER;

	sim->acted_ns = sim->now_ns;
	for (uint32_t i = 0; i < sim->peer_count; i++) {
		struct sim_object *object = &sim->object[sim->peers[i]];

		if (object->producer.next_ns <= sim->now_ns)
			produce(sim, object);
		if (object->consumer.next_ns <= sim->now_ns)
			consume(sim, object);
		if (object->producer.next_ns < next)
			next = object->producer.next_ns;
		if (object->consumer.next_ns < next)
			next = object->consumer.next_ns;
	}
	sim->next_ns = next;
}

int sim_sleep(struct sim *sim, enum sim_call call, uint64_t until_ns)
{
	uint64_t next = sim->next_ns < until_ns ? sim->next_ns : until_ns;

	if (call != SIM_POLL && sim->no_sleep)
		sim_fail(sim, "%s sleeps, which it must not", sim_call_name(call));
	if (call == SIM_POLL && sim->no_poll_sleep)
		sim_fail(sim, "poll sleeps, which it must not");
	if (next == SIM_NEVER)
		sim_fail(sim, "deadlock: %s sleeps and nobody will ever wake it",
			 sim_call_name(call));
	/* Short sleeps one after another, and no peer has anything to do. */
	if (sim->next_ns == SIM_NEVER && sim->now_ns - sim->acted_ns > LONG_NS)
		sim_fail(sim, "%s sleeps again and again, and nobody will ever wake it",
			 sim_call_name(call));
	sim->sleeps++;
	sim->idle_calls = 0;
	if (sim->signal_ns <= next) {
		if (sim->now_ns < sim->signal_ns)
			sim->now_ns = sim->signal_ns;
		sim->signal_ns = sim->now_ns + 1 + sim_random(sim) % sim->world.signal_every_ns;
		return -EINTR;
	}
	if (sim->now_ns < next)
		sim->now_ns = next;
	if (sim->next_ns <= sim->now_ns)
		sim_peers_run(sim);
	return 0;
}

void sim_settle(struct sim *sim)
{
	while (sim->next_ns != SIM_NEVER) {
		if (sim->now_ns < sim->next_ns)
			sim->now_ns = sim->next_ns;
		sim_peers_run(sim);
	}
}

/* ---- Readiness ---- */

static short ready_pipe(const struct sim_object *object, const struct sim_fd *fd)
{
	short events = 0;

	if (fd->reads) {
		events |= object->ring.bytes ? POLLIN | POLLRDNORM : 0;
		events |= object->writers ? 0 : POLLHUP;
	}
	if (fd->writes) {
		events |= sim_pipe_is_full(object) ? 0 : POLLOUT | POLLWRNORM;
		events |= object->readers ? 0 : POLLERR;
	}
	return events;
}

static short ready_socket(struct sim *sim, const struct sim_object *object)
{
	const struct sim_object *far = &sim->object[object->other];
	short events = 0;

	if (object->ring.bytes || object->write_shut || object->pending_error)
		events |= POLLIN | POLLRDNORM;
	/* A socket is writable once a third of its buffer is free: net/core/stream.c. */
	if (object->read_shut || sim_queue_room(far) * 3 >= far->queue_bytes_max)
		events |= POLLOUT | POLLWRNORM;
	if (object->write_shut)
		events |= POLLRDHUP;
	if (object->write_shut && object->read_shut)
		events |= POLLHUP;
	if (object->pending_error || object->noisy)
		events |= POLLERR;
	return events;
}

short sim_ready(struct sim *sim, const struct sim_fd *fd)
{
	struct sim_object *object = &sim->object[fd->object];

	switch (object->kind) {
	case SIM_FIFO:
		return ready_pipe(object, fd);
	case SIM_TCP:
	case SIM_UNIX:
	case SIM_TERMINAL:
		return ready_socket(sim, object);
	default:
		return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
	}
}

int sim_poll_now(struct sim *sim, struct pollfd *fds, size_t count)
{
	int ready = 0;

	for (size_t i = 0; i < count; i++) {
		struct pollfd *wait = &fds[i];
		const struct sim_fd *fd;

		wait->revents = 0;
		if (wait->fd < 0)
			continue;
		if (wait->fd < SIM_FD_FIRST || wait->fd >= SIM_FD_FIRST + SIM_FDS ||
		    !sim->fd[wait->fd - SIM_FD_FIRST].is_open)
			sim_fail(sim, "poll on descriptor %d, which is not open", wait->fd);
		fd = &sim->fd[wait->fd - SIM_FD_FIRST];
		wait->revents = (short)(sim_ready(sim, fd) &
					(wait->events | POLLERR | POLLHUP | POLLNVAL));
		if (wait->revents)
			ready++;
		if (wait->events && !(wait->revents & wait->events))
			sim->eagains++;
	}
	return ready;
}

int sim_wait(struct sim *sim, struct pollfd *fds, size_t count, int timeout_ms)
{
	uint64_t until = timeout_ms < 0 ? SIM_NEVER
					: sim->now_ns + (uint64_t)timeout_ms * 1000000;
	bool no_poll_sleep = sim->no_poll_sleep;
	int ready;

	sim->no_poll_sleep = false;
	for (;;) {
		ready = sim_poll_now(sim, fds, count);
		if (ready || sim->now_ns >= until)
			break;
		/* The caller's own poll is simply repeated after a signal. */
		sim_sleep(sim, SIM_POLL, until);
	}
	sim->no_poll_sleep = no_poll_sleep;
	return ready;
}
