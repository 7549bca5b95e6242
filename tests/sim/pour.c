/* SPDX-License-Identifier: MIT */
#include "pour.h"

#include "calls.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALLS_MAX = 20000, FAILURES_MAX = 3, SEGMENTS_MAX = 2500, UNTOUCHED = 0xa5 };

/* What vmsplice sends, and what it fills. */
static _Alignas(SIM_PAGE) unsigned char stream_memory[POUR_BYTES_MAX];
static _Alignas(SIM_PAGE) unsigned char filled_memory[POUR_BYTES_MAX];

static bool is_refusal(ssize_t error)
{
	return error == -EPERM || error == -ENOSYS || error == -EOPNOTSUPP;
}

static bool has_stash(const struct pour *pour)
{
	return pour->call == POUR_STASH_SPLICE || pour->call == POUR_STASH_TEE;
}

static bool is_tee(const struct pour *pour)
{
	return pour->call == POUR_TEE || pour->call == POUR_STASH_TEE;
}

void pour_describe(const struct pour *pour, char *text, size_t size)
{
	static const char *const calls[POUR_CALLS] = {
		"splice", "tee", "stash splice", "stash tee", "vmsplice in", "vmsplice out"};
	static const char *const kinds[SIM_KINDS] = {"file", "pipe", "tcp",  "unix",
						     "tty",  "null", "full", "directory"};

	snprintf(text, size,
		 "%s from %s%s to %s%s, flags %x%s, world \"%s\", seed %llu, call %llu says "
		 "%d%s",
		 calls[pour->call], pour->source_waits ? "waiting " : "",
		 kinds[pour->source_kind], pour->sink_waits ? "waiting " : "",
		 kinds[pour->sink_kind], pour->flags, pour->offsets ? ", offsets" : "",
		 pour->world && pour->world->name ? pour->world->name : "stock",
		 (unsigned long long)pour->seed, (unsigned long long)pour->fail_at,
		 pour->fail_error, pour->fail_sticky ? " always" : "");
}

#define WRONG(pour, ...)                                     \
	do {                                                 \
		char text_[256];                             \
		pour_describe((pour), text_, sizeof(text_)); \
		test_note("%s", text_);                      \
		sim_fail((pour)->sim, __VA_ARGS__);          \
	} while (0)

/* ---- What is known of the ends ---- */

static uint64_t random_below(struct pour *pour, uint64_t bound)
{
	return test_random(&pour->random) % bound;
}

/* How many bytes have left the source. */
static uint64_t taken(const struct pour *pour)
{
	const struct sim_object *object;

	switch (pour->source_kind) {
	case SIM_NULL:
		return 0;
	case SIM_REGULAR:
		return pour->offsets ? (uint64_t)pour->source_offset
				     : pour->sim->fd[pour->source - SIM_FD_FIRST].offset;
	default:
		object = sim_object(pour->sim, pour->source);
		return object->oracle.accepted - object->ring.bytes;
	}
}

static uint64_t available(const struct pour *pour)
{
	return pour->source_kind == SIM_NULL ? 0 : pour->bytes;
}

static uint64_t received(const struct pour *pour)
{
	return pour->call == POUR_VMSPLICE_OUT ? pour->delivered
					       : sim_received(pour->sim, pour->sink);
}

static uint64_t sink_position(const struct pour *pour)
{
	if (pour->offsets)
		return (uint64_t)pour->sink_offset;
	return pour->sim->fd[pour->sink - SIM_FD_FIRST].offset;
}

static bool is_pipe_or_file(enum sim_kind kind)
{
	return kind == SIM_FIFO || kind == SIM_REGULAR || kind == SIM_NULL;
}

/* Where neither end may make the call sleep. */
static bool may_not_sleep(const struct pour *pour)
{
	bool nonblocking = pour->flags & SPLICE_F_NONBLOCK;

	if (pour->call == POUR_VMSPLICE_IN || pour->call == POUR_VMSPLICE_OUT)
		return nonblocking;
	if (!pour->source_waits && !pour->sink_waits)
		return true;
	if (!nonblocking)
		return false;
	return (!pour->source_waits || is_pipe_or_file(pour->source_kind) ||
		pour->source_kind == SIM_UNIX) &&
	       (!pour->sink_waits || is_pipe_or_file(pour->sink_kind));
}

bool pour_may_be_refused(const struct pour *pour)
{
	const struct sim_world *world = &pour->sim->world;
	bool from_pipe = pour->source_kind == SIM_FIFO;

	switch (pour->call) {
	case POUR_SPLICE:
		if (!world->splice)
			return false;
		if (from_pipe)
			return world->tee || (pour->sink_kind != SIM_FIFO &&
					      (world->pipe || world->pipe_slots));
		return pour->source_kind == SIM_TERMINAL || pour->source_kind == SIM_NULL;
	case POUR_TEE:
		return world->tee != 0;
	default:
		return false;
	}
}

/* ---- The ends ---- */

static void open_source(struct pour *pour)
{
	struct sim *sim = pour->sim;
	int flags = pour->source_waits ? 0 : O_NONBLOCK;
	struct sim_object *object;

	switch (pour->source_kind) {
	case SIM_REGULAR:
		pour->source = sim_regular(sim, pour->bytes, O_RDONLY | flags);
		return;
	case SIM_NULL:
		pour->source = sim_device(sim, SIM_NULL, O_RDONLY | flags);
		return;
	default:
		pour->source = sim_source(sim, pour->source_kind, flags, pour->bytes,
					  pour->source_breaks ? SIM_END_RESET : SIM_END_CLOSE);
		object = sim_object(sim, pour->source);
		object->producer.bytes_max = 9000;
		object->producer.delay_ns = (uint32_t)random_below(pour, 20000);
		object->queue_bytes_max = 300 + random_below(pour, 40000);
		if (pour->source_kind == SIM_TCP || pour->source_kind == SIM_UNIX)
			object->segment_bytes = (uint32_t)random_below(pour, 3) * 1448;
		if (random_below(pour, 2))
			object->slots = 1u << random_below(pour, 9);
	}
}

static void open_sink(struct pour *pour)
{
	struct sim *sim = pour->sim;
	int flags = pour->sink_waits ? 0 : O_NONBLOCK;
	struct sim_object *object;

	switch (pour->sink_kind) {
	case SIM_REGULAR:
		pour->sink = sim_regular(sim, 500, O_RDWR | flags);
		sim->fd[pour->sink - SIM_FD_FIRST].offset = 100;
		break;
	case SIM_NULL:
		pour->sink = sim_device(sim, SIM_NULL, O_WRONLY | flags);
		break;
	default:
		pour->sink = sim_sink(sim, pour->sink_kind, flags);
		object = sim_far(sim, pour->sink);
		object->consumer.bytes_max = 7000;
		object->consumer.delay_ns = (uint32_t)random_below(pour, 20000);
		object->queue_bytes_max = 300 + random_below(pour, 40000);
		if (random_below(pour, 2))
			object->slots = 1u << random_below(pour, 9);
		if (pour->sink_dies_after != SIM_NEVER) {
			object->consumer.bytes_left = pour->sink_dies_after;
			object->consumer.end = SIM_END_CLOSE;
		}
	}
	sim_expect(sim, pour->sink, 0);
	if (pour->offsets && pour->sink_kind == SIM_REGULAR) {
		pour->sink_offset = 2000;
		sim_object(sim, pour->sink)->oracle.offset_first = 2000;
	}
}

static void begin(struct pour *pour)
{
	struct fid_pool_options options = {.size = sizeof(options)};
	struct sim *sim = pour->sim;

	sim_start(sim, pour->seed, pour->world);
	sim->may_sleep_on_shared = true;
	sim->takes_sigpipe = true;
	sim->is_sole_reader = true;
	sim->stable = true;
	pour->random = pour->seed;
	pour->stash = NULL;
	pour->source = pour->sink = -1;
	pour->source_offset = pour->sink_offset = 0;
	pour->delivered = pour->calls = pour->failures = pour->stashed = 0;
	if (pour->call != POUR_VMSPLICE_IN)
		open_source(pour);
	if (pour->call != POUR_VMSPLICE_OUT)
		open_sink(pour);
	if (pour->call == POUR_VMSPLICE_IN || pour->call == POUR_VMSPLICE_OUT) {
		CHECK(pour->bytes <= POUR_BYTES_MAX);
		sim_stream_fill(sim, SIM_STREAM_SOURCE, 0, stream_memory, pour->bytes);
	}
	pour->null = sim_device(sim, SIM_NULL, O_WRONLY);
	sim_expect(sim, pour->null, 0);
	CHECK_EQUAL(fid_pool_new_on(&sim->kernel, &pour->pool, &options), 0);
	if (has_stash(pour))
		CHECK_EQUAL(
			fid_stash_new_on(&sim->kernel, pour->pool, &pour->stash, pour->source),
			0);
	sim->calls = 0;
	sim->fail_at = pour->fail_at;
	sim->fail_error = -pour->fail_error;
	sim->fail_sticky = pour->fail_sticky;
}

/* ---- Calls ---- */

/* Cuts [at, at + bytes) into segments, some of which are empty; returns how many. */
static size_t cut(struct pour *pour, unsigned char *at, size_t bytes,
		  struct iovec segments[SEGMENTS_MAX])
{
	size_t most = pour->fail_at || random_below(pour, 3)
			      ? 1 + (size_t)random_below(pour, 20)
			      : SEGMENTS_MAX - 1;
	bool is_hollow = random_below(pour, 4) == 0;
	size_t piece = bytes / most + (is_hollow ? 400 : 1);
	size_t count = 0;

	while (bytes) {
		size_t part = 1 + (size_t)random_below(pour, 2 * piece);

		if (random_below(pour, 24) > 20 || (is_hollow && random_below(pour, 24)))
			part = 0;
		if (part > bytes || count + 1 == SEGMENTS_MAX)
			part = bytes;
		segments[count++] = (struct iovec){.iov_base = at, .iov_len = part};
		at += part;
		bytes -= part;
	}
	return count;
}

/* Where the kernel does not refuse, what is in the pipe last refers to the memory. */
static void check_reference(struct pour *pour)
{
	const struct sim_object *pipe = sim_object(pour->sim, pour->sink);
	const struct sim_ring *ring = &pipe->ring;

	if (pour->sim->world.vmsplice || pour->sim->world.vmsplice_copies || pour->fail_at)
		return;
	if (ring->count &&
	    ring->extent[(ring->head + ring->count - 1) % SIM_RING].what != SIM_MEMORY)
		WRONG(pour, "memory was copied that could be referred to");
}

static ssize_t make_vmsplice(struct pour *pour, size_t bytes)
{
	static struct iovec segments[SEGMENTS_MAX];
	struct fid_kernel *kernel = &pour->sim->kernel;
	size_t count;
	ssize_t got;

	if (pour->call == POUR_VMSPLICE_IN) {
		if (bytes > pour->bytes - pour->delivered)
			bytes = (size_t)(pour->bytes - pour->delivered);
		count = cut(pour, stream_memory + pour->delivered, bytes, segments);
		got = fid_vmsplice_on(kernel, pour->sink, segments, count, pour->flags);
		if (got > 0)
			check_reference(pour);
		return got;
	}
	memset(filled_memory, UNTOUCHED, bytes);
	count = cut(pour, filled_memory, bytes, segments);
	got = fid_vmsplice_on(kernel, pour->source, segments, count, pour->flags);
	for (size_t i = got > 0 ? (size_t)got : 0; i < bytes; i++)
		if (filled_memory[i] != UNTOUCHED)
			WRONG(pour, "it says %zd, and byte %zu of the memory was filled", got,
			      i);
	if (got > 0 && sim_stream_differs(pour->sim, SIM_STREAM_SOURCE, pour->delivered,
					  filled_memory, (size_t)got) < (size_t)got)
		WRONG(pour, "the memory is filled with wrong bytes");
	return got;
}

static ssize_t make(struct pour *pour, size_t bytes)
{
	struct fid_kernel *kernel = &pour->sim->kernel;
	int64_t *from = pour->offsets && pour->source_kind == SIM_REGULAR ? &pour->source_offset
									  : NULL;
	int64_t *to = pour->offsets && pour->sink_kind == SIM_REGULAR ? &pour->sink_offset
								      : NULL;

	switch (pour->call) {
	case POUR_SPLICE:
		return fid_splice_on(kernel, pour->pool, pour->source, from, pour->sink, to,
				     bytes, pour->flags);
	case POUR_TEE:
		return fid_tee_on(kernel, pour->source, pour->sink, bytes, pour->flags);
	case POUR_STASH_SPLICE:
		return fid_stash_splice(pour->stash, pour->sink, to, bytes, pour->flags);
	case POUR_STASH_TEE:
		return fid_stash_tee(pour->stash, pour->sink, bytes, pour->flags);
	default:
		return make_vmsplice(pour, bytes);
	}
}

/* vmsplice waits before its first byte only. */
static bool can_begin(const struct pour *pour)
{
	if (pour->call == POUR_VMSPLICE_IN)
		return !sim_pipe_is_full(sim_object(pour->sim, pour->sink));
	if (pour->call == POUR_VMSPLICE_OUT)
		return sim_object(pour->sim, pour->source)->ring.bytes > 0;
	return false;
}

static void check_error(struct pour *pour, ssize_t result)
{
	const struct sim *sim = pour->sim;
	bool was_injected = sim->fail_at && sim->calls >= sim->fail_at;

	if (result == -EAGAIN) {
		if (!may_not_sleep(pour) && pour->source_waits && pour->sink_waits &&
		    !(pour->flags & SPLICE_F_NONBLOCK) && !was_injected)
			WRONG(pour, "EAGAIN of a call that may wait");
		return;
	}
	if (is_refusal(result) && pour_may_be_refused(pour))
		return;
	if (result == -EPIPE && pour->sink_dies_after != SIM_NEVER)
		return;
	/* A terminal that hangs up. */
	if (result == -EIO && pour->sink_dies_after != SIM_NEVER)
		return;
	if (result == -ECONNRESET && pour->source_breaks)
		return;
	if (result == -EINVAL && pour->source_kind == SIM_NULL)
		return;
	if (result == -ENOMEM && sim->world.no_memory)
		return;
	if (was_injected &&
	    (result == sim->fail_error || result == -ENOMEM || is_refusal(result)))
		return;
	WRONG(pour, "error %zd from nowhere", result);
}

static void check(struct pour *pour, size_t bytes, uint64_t taken_before, size_t stash_before,
		  uint64_t position_before, uint64_t signals)
{
	struct sim *sim = pour->sim;
	ssize_t result = pour->last;
	uint64_t moved = result > 0 ? (uint64_t)result : 0;
	uint64_t taken_now = 0, given = received(pour) - pour->delivered;
	size_t stash = has_stash(pour) ? fid_stash_bytes(pour->stash) : 0;

	if (pour->call == POUR_VMSPLICE_OUT)
		given = moved;
	if (result > (ssize_t)bytes)
		WRONG(pour, "%zd of %zu bytes", result, bytes);
	if (given != moved)
		WRONG(pour, "it says %zd, and the sink got %llu", result,
		      (unsigned long long)given);
	pour->delivered += moved;
	if (pour->call != POUR_VMSPLICE_IN) {
		taken_now = taken(pour);
		if (taken_now - taken_before !=
		    (is_tee(pour) ? 0 : moved) + stash - stash_before)
			WRONG(pour,
			      "it says %zd, %llu bytes were taken, the stash had %zu and has "
			      "%zu",
			      result, (unsigned long long)(taken_now - taken_before),
			      stash_before, stash);
	}
	if (pour->sink_kind == SIM_REGULAR && sink_position(pour) != position_before + moved)
		WRONG(pour, "it says %zd, and the sink's offset moved by %llu", result,
		      (unsigned long long)(sink_position(pour) - position_before));
	if (pour->offsets && pour->source_kind == SIM_REGULAR &&
	    sim->fd[pour->source - SIM_FD_FIRST].offset)
		WRONG(pour, "an offset was given, and the source's own moved");
	if (pour->offsets && pour->sink_kind == SIM_REGULAR &&
	    sim->fd[pour->sink - SIM_FD_FIRST].offset != 100)
		WRONG(pour, "an offset was given, and the sink's own moved");
	if (result == 0 && (pour->call == POUR_VMSPLICE_IN || taken_now < available(pour)))
		WRONG(pour, "0 before the end");
	if (result == 0 && stash)
		WRONG(pour, "0 while the stash holds %zu", stash);
	if (signals && (pour->flags & FID_NOSIGNAL))
		WRONG(pour, "SIGPIPE with FID_NOSIGNAL");
	if (signals && result != -EPIPE && (result < 0 || moved == bytes))
		WRONG(pour, "SIGPIPE, and it says %zd of %zu", result, bytes);
	if (signals > 1)
		WRONG(pour, "SIGPIPE %llu times", (unsigned long long)signals);
	pour->stashed += stash > 0;
}

/* What a tee gave is taken away before the next one. */
static void take_away(struct pour *pour, size_t bytes)
{
	struct sim *sim = pour->sim;

	if (pour->call == POUR_TEE) {
		sim_stream_drop(sim, sim_object(sim, pour->source), bytes);
		return;
	}
	while (bytes) {
		ssize_t got = fid_stash_splice(pour->stash, pour->null, NULL, bytes,
					       pour->flags & FID_NOSIGNAL);

		if (got == -EINTR || (got < 0 && sim->calls >= sim->fail_at && sim->fail_at &&
				      !sim->fail_sticky))
			continue;
		if (got < 0 && sim->fail_at && sim->fail_sticky) {
			sim->fail_at = 0;
			continue;
		}
		/* The test goes on by itself where there is no way on. */
		if (got == -ENOMEM && sim->world.no_memory) {
			sim->world.no_memory = false;
			continue;
		}
		if (got <= 0)
			WRONG(pour, "%zu bytes were given by tee, and splice says %zd", bytes,
			      got);
		bytes -= (size_t)got;
	}
}

static void wait_for_ends(struct pour *pour)
{
	struct pollfd source = {.fd = pour->source, .events = POLLIN};
	struct pollfd sink = {.fd = pour->sink, .events = POLLOUT};

	if (!has_stash(pour) || !fid_stash_bytes(pour->stash))
		if (pour->source >= 0)
			sim_wait(pour->sim, &source, 1, -1);
	if (pour->sink >= 0)
		sim_wait(pour->sim, &sink, 1, -1);
}

/* One call. Returns whether there is a reason for another. */
static bool once(struct pour *pour)
{
	struct sim *sim = pour->sim;
	size_t bytes = 1 + (size_t)random_below(pour, pour->call_max);
	uint64_t taken_before = pour->call == POUR_VMSPLICE_IN ? 0 : taken(pour);
	uint64_t position = pour->sink_kind == SIM_REGULAR ? sink_position(pour) : 0;
	size_t stash = has_stash(pour) ? fid_stash_bytes(pour->stash) : 0;
	uint64_t signals = sim->sigpipes;

	if (++pour->calls > CALLS_MAX)
		WRONG(pour,
		      "it does not end: %llu of %llu bytes are delivered, the last call says "
		      "%zd",
		      (unsigned long long)pour->delivered, (unsigned long long)pour->bytes,
		      pour->last);
	if (pour->call == POUR_VMSPLICE_IN && bytes > pour->bytes - pour->delivered)
		bytes = (size_t)(pour->bytes - pour->delivered);
	if (pour->call == POUR_VMSPLICE_IN && !bytes)
		return false;
	sim->idle_calls = 0;
	sim->no_sleep = sim->no_poll_sleep = may_not_sleep(pour) || can_begin(pour);
	pour->last = make(pour, bytes);
	sim->no_sleep = sim->no_poll_sleep = false;
	check(pour, bytes, taken_before, stash, position, sim->sigpipes - signals);
	if (pour->last > 0) {
		pour->failures = 0;
		if (is_tee(pour))
			take_away(pour, (size_t)pour->last);
		return true;
	}
	if (pour->last == 0)
		return false;
	if (pour->last == -EINTR)
		return true;
	check_error(pour, pour->last);
	if (pour->last == -EAGAIN) {
		wait_for_ends(pour);
		return true;
	}
	return ++pour->failures < FAILURES_MAX;
}

/* What is in the stash comes next in the stream, and after it what is left in the source. */
static void check_salvage(struct pour *pour)
{
	static unsigned char bytes[FID_BUFFER_BYTES];
	size_t held = fid_stash_bytes(pour->stash);
	uint64_t position = taken(pour) - held;

	while (held) {
		size_t part = 1 + (size_t)random_below(pour, held);
		ssize_t got = fid_stash_salvage(pour->stash, bytes, part);

		if (got <= 0 || (size_t)got > part ||
		    fid_stash_bytes(pour->stash) != held - (size_t)got)
			WRONG(pour, "salvage of %zu of %zu says %zd", part, held, got);
		if (sim_stream_differs(pour->sim, SIM_STREAM_SOURCE, position, bytes,
				       (size_t)got) < (size_t)got)
			WRONG(pour, "salvage hands over wrong bytes");
		position += (uint64_t)got;
		held -= (size_t)got;
	}
	if (fid_stash_salvage(pour->stash, bytes, sizeof(bytes)))
		WRONG(pour, "salvage of nothing");
}

static void end(struct pour *pour)
{
	struct sim *sim = pour->sim;
	struct fid_pool_stats stats;

	if (pour->last == 0 && pour->delivered < available(pour))
		WRONG(pour, "the end after %llu bytes", (unsigned long long)pour->delivered);
	if (has_stash(pour)) {
		if (!is_tee(pour) && random_below(pour, 4))
			check_salvage(pour);
		fid_stash_free(pour->stash);
	}
	sim_settle(sim);
	fid_pool_stats(pour->pool, &stats);
	if (stats.pipes_lent || stats.buffers_lent)
		WRONG(pour, "%u pipes and %u buffers are lent after the end", stats.pipes_lent,
		      stats.buffers_lent);
	fid_pool_free(pour->pool);
	pour->pool = NULL;
	sim_finish(sim);
}

void pour(struct pour *pour)
{
	begin(pour);
	while (once(pour))
		;
	end(pour);
}
