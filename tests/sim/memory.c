/* SPDX-License-Identifier: MIT */
/*
 * Storms over memory: random records, steps, waits and time-outs, slow, short and dying
 * readers, vmsplice refused in the middle, kernels without huge pages, without slabs, with
 * locked pages, and a caller who scribbles over all memory that was not committed. The reader
 * checks every byte when it comes in and again when it is read, which may be long after the
 * pages went.
 */
#include "pipe/memory.h"
#include "calls.h"
#include "sim.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum {
	ROUNDS = 1500,
	ROUNDS_TELLING = 500, /* from so many on each thing must have happened */
	LENT_BYTES = 1 << 20,
	SEGMENTS = 3000,
	HOARD_SLOTS = 8192,
	SLABS_MAX = 3, /* that one pipe may refer to */
};

static const struct sim_world worlds[] = {
	{.name = "stock"},
	{.name = "stock"},
	{.name = "stock"},
	{.name = "stock"},
	{.name = "locked", .discard = -EINVAL},
	{.name = "unkind",
	 .short_permille = 300,
	 .again_permille = 200,
	 .chunk_bytes_max = 50000},
	{.name = "signals", .signal_every_ns = 20000, .short_permille = 100},
	{.name = "vmsplice copies", .vmsplice_copies = true, .vmsplice_gift = -EOPNOTSUPP},
	{.name = "GIFT is refused", .vmsplice_gift = -EOPNOTSUPP},
	{.name = "vmsplice is EPERM", .vmsplice = -EPERM},
	{.name = "gVisor",
	 .vmsplice = -ENOSYS,
	 .empty_pipe_says_zero = true,
	 .no_write_nosignal = true},
	{.name = "no huge pages", .no_huge_pages = true},
	{.name = "no slabs", .no_slabs = true},
	{.name = "no memory", .no_memory = true},
	{.name = "no files in memory", .memory_file = -ENOSYS},
	{.name = "no maps of files", .no_memory_file_map = true},
	{.name = "no seals", .memory_file_seal = -EPERM},
	{.name = "no nosignal", .no_write_nosignal = true},
};

enum { WORLDS = sizeof(worlds) / sizeof(worlds[0]) };

/* What the storms have seen. */
struct tally {
	uint64_t rounds;
	uint64_t bytes;
	uint64_t by_method[FID_METHODS];
	uint64_t waits;
	uint64_t timeouts;
	uint64_t interruptions;
	uint64_t errors;
	uint64_t salvaged;
	uint64_t demotions;
	uint64_t scribbles_after; /* over room whose slab is gone */
	uint64_t slabs_most;
	uint64_t seals;
	uint64_t faults; /* EFAULT */
};

struct user {
	struct sim *sim;
	struct fid_pool *pool;
	struct fid_memory *memory;
	struct tally *tally;
	struct fid_memory_options options;
	enum sim_kind kind;
	int sink;
	bool waits; /* the sink has no O_NONBLOCK */
	bool dies;
	bool records_are_small;
	bool hoards;
	uint64_t random;
	uint64_t committed; /* position in the stream of the next byte */
	uint64_t delivered; /* before the present sim_expect() */
	uint64_t salvaged;
	unsigned char *at; /* what reserve gave and commit has not taken */
	size_t room;
	unsigned char *lent;
	int error; /* that ended it */
};

static uint64_t below(struct user *user, uint64_t bound)
{
	return test_random(&user->random) % bound;
}

static bool once_in(struct user *user, uint64_t many)
{
	return below(user, many) == 0;
}

/* ---- What must hold ---- */

static void check_account(struct user *user)
{
	const struct fid_receipt *receipt = fid_memory_receipt(user->memory);
	uint64_t out = user->delivered + sim_received(user->sim, user->sink);
	struct sim_object *far = sim_far(user->sim, user->sink);
	uint32_t slabs = sim_slabs_referenced(user->sim, far);

	if (receipt->bytes_out != out)
		sim_fail(user->sim, "%llu bytes out, and the sink got %llu",
			 (unsigned long long)receipt->bytes_out, (unsigned long long)out);
	if (user->options.mode != FID_MEMORY_CONST && receipt->bytes_in != user->committed)
		sim_fail(user->sim, "%llu bytes in, and %llu were committed",
			 (unsigned long long)receipt->bytes_in,
			 (unsigned long long)user->committed);
	if (receipt->bytes_in !=
		    receipt->bytes_out + receipt->bytes_held + receipt->bytes_salvaged ||
	    receipt->bytes_salvaged != user->salvaged)
		sim_fail(user->sim, "%llu in, %llu out, %llu held, %llu salvaged",
			 (unsigned long long)receipt->bytes_in,
			 (unsigned long long)receipt->bytes_out,
			 (unsigned long long)receipt->bytes_held,
			 (unsigned long long)receipt->bytes_salvaged);
	if (receipt->error != user->error)
		sim_fail(user->sim, "the receipt says error %d, not %d", receipt->error,
			 user->error);
	if (user->options.mode == FID_MEMORY_FRESH && slabs > SLABS_MAX && !user->hoards)
		sim_fail(user->sim, "%u huge pages are kept alive by %llu bytes", slabs,
			 (unsigned long long)far->ring.bytes);
	if (slabs > user->tally->slabs_most)
		user->tally->slabs_most = slabs;
}

static bool was_injected(const struct user *user)
{
	return user->sim->fail_at && user->sim->calls >= user->sim->fail_at;
}

/* An error of the memory itself: from here on it only repeats it. */
static void ends_with(struct user *user, int error)
{
	const struct sim_world *world = &user->sim->world;
	bool is_known =
		(user->dies && (error == -EPIPE || error == -EIO)) ||
		(error == -ENOMEM && world->no_memory_file_map) ||
		(error == -EFAULT && user->sim->hole_bytes) ||
		(error == world->memory_file_seal && error) ||
		(was_injected(user) && (error == user->sim->fail_error || error == -ENOMEM));

	if (!is_known)
		sim_fail(user->sim, "error %d from nowhere", error);
	if (error == -EFAULT && fid_memory_receipt(user->memory)->error_side != FID_SIDE_SOURCE)
		sim_fail(user->sim, "EFAULT is not the source's");
	user->tally->faults += error == -EFAULT;
	user->error = error;
	user->tally->errors++;
}

/* ---- A hostile caller ---- */

static bool is_mapped(const struct sim *sim, const unsigned char *at, size_t bytes)
{
	for (uint32_t i = 0; i < sim->maps; i++) {
		const unsigned char *memory = sim->map[i].memory;

		if (at >= memory && at + bytes <= memory + sim->map[i].bytes)
			return true;
	}
	return false;
}

/* Writes anything to a part of what is not committed, most often to its ends. */
static void scribble(struct user *user)
{
	size_t part;

	if (!user->room || !is_mapped(user->sim, user->at, user->room))
		return;
	part = 1 + (size_t)below(user, user->room < 9000 ? user->room : 9000);
	memset(user->at, (int)below(user, 256), part);
	memset(user->at + user->room - part, (int)below(user, 256), part);
	memset(user->at + below(user, user->room - part + 1), (int)below(user, 256), part);
}

static size_t record_size(struct user *user)
{
	if (user->hoards && once_in(user, 2))
		return FID_MEMORY_RESERVE_MAX / 2 +
		       (size_t)below(user, FID_MEMORY_RESERVE_MAX / 2);
	switch (user->records_are_small ? below(user, 3) : below(user, 8)) {
	case 0:
		return (size_t)below(user, 2);
	case 1:
		return (size_t)below(user, 200);
	case 2:
	case 3:
		return (size_t)below(user, 5000);
	case 4:
		return 4096 * (size_t)below(user, 17);
	case 5:
		return (size_t)below(user, FID_MEMORY_RESERVE_MAX + 1);
	default:
		return (size_t)below(user, 40000);
	}
}

static void reserve(struct user *user)
{
	struct sim *sim = user->sim;
	size_t bytes = once_in(user, 50) ? FID_MEMORY_RESERVE_MAX + 1 : record_size(user);
	uint64_t held = fid_memory_receipt(user->memory)->bytes_held;
	void *at = NULL;
	ssize_t room = fid_memory_reserve(user->memory, bytes, &at);

	if (user->error) {
		if (room != user->error)
			sim_fail(sim, "reserve says %zd after error %d", room, user->error);
		return;
	}
	if (bytes > FID_MEMORY_RESERVE_MAX) {
		if (room != -EMSGSIZE)
			sim_fail(sim, "reserve of %zu says %zd", bytes, room);
		return;
	}
	if (room < 0) {
		bool is_fair =
			(room == -EAGAIN && held) ||
			(room == -ENOSPC && user->options.mode == FID_MEMORY_CONST) ||
			(room == -ENOMEM && (sim->world.no_memory || was_injected(user)));

		if (!is_fair)
			sim_fail(sim, "reserve of %zu with %llu held says %zd", bytes,
				 (unsigned long long)held, room);
		user->room = 0;
		return;
	}
	if ((size_t)room < bytes || room == 0 || !is_mapped(sim, at, (size_t)room))
		sim_fail(sim, "reserve of %zu gives %zd", bytes, room);
	user->at = at;
	user->room = (size_t)room;
	scribble(user);
}

static void commit(struct user *user)
{
	struct sim *sim = user->sim;
	size_t bytes = record_size(user);

	if (!user->room)
		return;
	if (fid_memory_commit(user->memory, user->room + 1) != -EINVAL)
		sim_fail(sim, "commit of more than was reserved");
	if (bytes > user->room)
		bytes = user->room;
	/* The room may have gone with its slab; the caller learns that by reserving again. */
	if (!is_mapped(sim, user->at, user->room))
		sim_fail(sim, "what was reserved is not there any more");
	sim_stream_fill(sim, SIM_STREAM_SOURCE, user->committed, user->at, bytes);
	if (fid_memory_commit(user->memory, bytes))
		sim_fail(sim, "commit of %zu of %zu is refused", bytes, user->room);
	user->committed += bytes;
	user->at += bytes;
	user->room -= bytes;
	scribble(user);
}

static void lend(struct user *user)
{
	static struct iovec segments[SEGMENTS];
	struct sim *sim = user->sim;
	uint64_t held = fid_memory_receipt(user->memory)->bytes_held;
	uint64_t left = LENT_BYTES - user->committed;
	uint64_t bytes = below(user, 10) ? below(user, 200000) : 0;
	unsigned char *at = user->lent + user->committed;
	size_t most = once_in(user, 4) ? SEGMENTS : 1 + (size_t)below(user, 9);
	size_t count = 0;
	int got;

	if (bytes > left)
		bytes = left;
	left = bytes;
	while (left && count < most) {
		uint64_t part = below(user, 2 * bytes / most + 2);

		if (part > left || count + 1 == most)
			part = left;
		segments[count++] = (struct iovec){.iov_base = at, .iov_len = (size_t)part};
		at += part;
		left -= part;
	}
	got = fid_memory_lend(user->memory, segments, count);
	memset(segments, 0, sizeof(segments));
	if (user->error ? got != user->error : got != (held ? -EAGAIN : 0))
		sim_fail(sim, "lend with %llu held says %d", (unsigned long long)held, got);
	if (got == 0)
		user->committed += bytes;
}

/* ---- Sending ---- */

/* What a write to a terminal that waits may do, whatever is asked. */
static bool may_sleep_anyhow(const struct user *user)
{
	return user->kind == SIM_TERMINAL && user->waits;
}

static void take_result(struct user *user, int result, bool may_time_out)
{
	const struct fid_receipt *receipt = fid_memory_receipt(user->memory);
	struct sim *sim = user->sim;

	if (user->error) {
		if (result != user->error)
			sim_fail(sim, "%d after error %d", result, user->error);
		return;
	}
	user->tally->timeouts += result == -ETIMEDOUT;
	user->tally->interruptions += result == -EINTR;
	if (result == FID_DONE && receipt->bytes_held)
		sim_fail(sim, "done, and %llu bytes are held",
			 (unsigned long long)receipt->bytes_held);
	if (result >= 0 || (result == -ETIMEDOUT && may_time_out))
		return;
	if (result == -EINTR && user->options.flags & FID_INTERRUPTIBLE)
		return;
	ends_with(user, result);
}

/* What is too little for new pages is copied. */
static void check_method(struct user *user, uint64_t held, uint64_t by_reference)
{
	const struct fid_receipt *receipt = fid_memory_receipt(user->memory);

	if (user->options.mode == FID_MEMORY_FRESH && held < FID_FRESH_BYTES_MIN &&
	    receipt->by_method[FID_VMSPLICE] != by_reference)
		sim_fail(user->sim, "%llu bytes were sent by reference",
			 (unsigned long long)held);
	if (user->options.mode == FID_MEMORY_COPY && receipt->by_method[FID_VMSPLICE])
		sim_fail(user->sim, "a copy was asked for, and references were passed");
}

static void step(struct user *user)
{
	struct sim *sim = user->sim;
	struct pollfd wait = {.fd = -2};
	const struct fid_receipt *receipt = fid_memory_receipt(user->memory);
	uint64_t before = receipt->bytes_out, held = receipt->bytes_held;
	uint64_t by_reference = receipt->by_method[FID_VMSPLICE];
	bool never = (user->options.flags & FID_NOWAIT || !user->waits) &&
		     !may_sleep_anyhow(user);
	int result;

	sim->no_sleep = sim->no_poll_sleep = never;
	result = fid_memory_step(user->memory, once_in(user, 8) ? NULL : &wait);
	sim->no_sleep = sim->no_poll_sleep = false;
	take_result(user, result, false);
	check_method(user, held, by_reference);
	if (result == FID_MORE && fid_memory_receipt(user->memory)->bytes_out > before)
		sim->idle_calls = 0;
	if (result == FID_WAIT) {
		user->tally->waits++;
		if (wait.fd != -2 && (wait.fd != user->sink || wait.events != POLLOUT))
			sim_fail(sim, "it waits for descriptor %d", wait.fd);
		if (wait.fd == user->sink && once_in(user, 2))
			sim_wait(sim, &wait, 1, once_in(user, 2) ? -1 : 1);
		sim->idle_calls = 0;
	} else if (wait.fd != -2 && wait.fd != -1) {
		sim_fail(sim, "%d, and it names descriptor %d", result, wait.fd);
	}
}

static void run(struct user *user)
{
	static const int timeouts[] = {-1, -1, 0, 1, 3, 1000};
	int timeout = timeouts[below(user, 6)];
	struct sim *sim = user->sim;
	uint64_t before = sim->now_ns;
	bool waits_in_poll = timeout >= 0 || user->options.flags & FID_NOWAIT;
	int result;

	sim->no_sleep = waits_in_poll && !may_sleep_anyhow(user);
	sim->no_poll_sleep = timeout == 0;
	result = fid_memory_run(user->memory, timeout);
	sim->no_sleep = sim->no_poll_sleep = false;
	sim->idle_calls = 0;
	if (result == FID_MORE || result == FID_WAIT)
		sim_fail(sim, "run says %d", result);
	take_result(user, result, timeout >= 0);
	if (result == -ETIMEDOUT && sim->now_ns < before + (uint64_t)timeout * 1000000)
		sim_fail(sim, "it timed out too early");
}

/* ---- Constants ---- */

static void seal(struct user *user)
{
	struct sim *sim = user->sim;
	int got;

	if (fid_memory_descriptor(user->memory) != -EINVAL ||
	    fid_memory_queue(user->memory, 0, 0) != -EINVAL)
		sim_fail(sim, "a constant can be used before it is sealed");
	got = fid_memory_seal(user->memory);
	user->room = 0;
	if (got < 0) {
		ends_with(user, got);
		return;
	}
	user->tally->seals++;
	if (!sim_object(sim, fid_memory_descriptor(user->memory))->sealed)
		sim_fail(sim, "a constant that can still be written to");
	if (fid_memory_reserve(user->memory, 1, (void *[]){NULL}) != -EINVAL ||
	    fid_memory_queue(user->memory, 1, user->committed) != -EINVAL ||
	    fid_memory_queue(user->memory, user->committed + 1, 0) != -EINVAL)
		sim_fail(sim, "a sealed constant can still grow");
}

/* Any part, when all before is delivered: the reader gets it as often as it was sent. */
static void queue(struct user *user)
{
	struct sim *sim = user->sim;
	uint64_t held = fid_memory_receipt(user->memory)->bytes_held;
	uint64_t offset = below(user, user->committed + 1);
	uint64_t bytes = below(user, user->committed - offset + 1);
	unsigned char byte;
	int got, file = fid_memory_descriptor(user->memory);
	uint64_t fail_at;

	if (!held && !user->error) {
		sim_settle(sim);
		user->delivered += sim_received(sim, user->sink);
		sim_expect(sim, user->sink, offset);
	}
	got = fid_memory_queue(user->memory, offset, bytes);
	if (user->error ? got != user->error : got != (held ? -EAGAIN : 0))
		sim_fail(sim, "queue with %llu held says %d", (unsigned long long)held, got);
	if (offset == user->committed)
		return;
	/* The test's own call does not fail. */
	fail_at = sim->fail_at;
	sim->fail_at = 0;
	if (sim->kernel.read(&sim->kernel, file, &byte, 1, (int64_t)offset) != 1 ||
	    sim_stream_differs(sim, SIM_STREAM_SOURCE, offset, &byte, 1) < 1)
		sim_fail(sim, "the descriptor's byte %llu is wrong",
			 (unsigned long long)offset);
	sim->fail_at = fail_at;
}

/* ---- Rounds ---- */

static void open_sink(struct user *user)
{
	static const enum sim_kind kinds[] = {SIM_FIFO, SIM_FIFO, SIM_FIFO,     SIM_FIFO,
					      SIM_FIFO, SIM_TCP,  SIM_UNIX,     SIM_REGULAR,
					      SIM_NULL, SIM_FIFO, SIM_TERMINAL, SIM_FIFO};
	struct sim *sim = user->sim;
	struct sim_object *far;
	int flags;

	user->kind = kinds[below(user, 12)];
	user->waits = once_in(user, 2);
	flags = user->waits ? 0 : O_NONBLOCK;
	if (user->kind == SIM_REGULAR) {
		user->sink = sim_regular(sim, 0, O_RDWR | flags);
	} else if (user->kind == SIM_NULL) {
		user->sink = sim_device(sim, SIM_NULL, O_WRONLY | flags);
	} else {
		user->sink = sim_sink(sim, user->kind, flags);
		far = sim_far(sim, user->sink);
		if (user->kind == SIM_FIFO && once_in(user, 2))
			far->slots = 1u << below(user, 9);
		far->queue_bytes_max = 1000 + below(user, 200000);
		far->consumer.bytes_max = once_in(user, 2) ? 100000 : 3000;
		far->consumer.delay_ns = once_in(user, 2) ? 1000000 : 5000;
		/*
		 * A reader who passes references on into something large: what was sent stays
		 * unread while megabytes are sent after it.
		 */
		user->hoards = user->kind == SIM_FIFO && once_in(user, 3);
		if (user->hoards) {
			far->slots = HOARD_SLOTS;
			far->consumer.bytes_max = 100000;
			far->consumer.delay_ns = 50000000;
			far->consumer.next_ns = sim->now_ns + 50000000;
		}
		user->dies = once_in(user, 6);
		if (user->dies) {
			far->consumer.bytes_left = below(user, 1000000);
			far->consumer.end = SIM_END_CLOSE;
		}
	}
	sim_expect(sim, user->sink, 0);
}

/* vmsplice may be refused at any time, and any one call may fail. */
static void random_faults(struct user *user)
{
	static const int errors[] = {EPERM, ENOSYS, EINVAL, EIO, ENOMEM, EOPNOTSUPP};
	struct sim *sim = user->sim;

	if (!once_in(user, 3))
		return;
	sim->fail_at = sim->calls + 1 + below(user, 150);
	sim->fail_error = -errors[below(user, 6)];
	sim->fail_sticky = once_in(user, 2);
}

static bool begin(struct user *user)
{
	struct fid_pool_options pool = {.size = sizeof(pool)};
	struct sim *sim = user->sim;
	const struct sim_world *world = &sim->world;
	int got;

	open_sink(user);
	CHECK_EQUAL(fid_pool_new_on(&sim->kernel, &user->pool, &pool), 0);
	user->options.size = sizeof(user->options);
	user->options.pool = user->pool;
	user->options.mode =
		(uint32_t)(once_in(user, 2) ? FID_MEMORY_FRESH : below(user, FID_MEMORY_MODES));
	user->options.flags = (once_in(user, 2) ? FID_NOWAIT : 0) |
			      (once_in(user, 3) ? FID_INTERRUPTIBLE : 0);
	if (user->options.mode == FID_MEMORY_CONST)
		user->options.bytes_max = 1 + below(user, 600000);
	user->records_are_small = once_in(user, 3);
	if (user->options.mode == FID_MEMORY_LEND) {
		sim_stream_fill(sim, SIM_STREAM_SOURCE, 0, user->lent, LENT_BYTES);
		if (once_in(user, 8)) {
			sim->hole = (uintptr_t)user->lent + below(user, LENT_BYTES);
			sim->hole_bytes = 4096;
		}
	}
	got = fid_memory_new_on(&sim->kernel, &user->memory, user->sink, &user->options);
	if (got == 0)
		return true;
	if (got != world->memory_file &&
	    !(got == -ENOMEM && (world->no_memory || world->no_memory_file_map)))
		sim_fail(sim, "a new memory says %d", got);
	fid_pool_free(user->pool);
	return false;
}

static void act(struct user *user)
{
	const unsigned mode = user->options.mode;
	bool is_sealed = mode == FID_MEMORY_CONST && fid_memory_descriptor(user->memory) >= 0;
	uint64_t choice = below(user, 16);

	if (choice < 4) {
		step(user);
	} else if (choice == 4) {
		run(user);
	} else if (choice == 5) {
		scribble(user);
	} else if (mode == FID_MEMORY_LEND) {
		lend(user);
	} else if (is_sealed) {
		queue(user);
	} else if (mode == FID_MEMORY_CONST && !user->error && choice == 6 &&
		   once_in(user, 4)) {
		seal(user);
	} else if (choice < 10 || !user->room) {
		user->room = 0;
		reserve(user);
	} else {
		commit(user);
	}
	/* What it reserved may have gone by now. */
	user->tally->scribbles_after += user->room > 0;
	if (user->room && once_in(user, 3))
		scribble(user);
}

static void salvage(struct user *user)
{
	static unsigned char bytes[100000];
	const struct fid_receipt *receipt = fid_memory_receipt(user->memory);
	uint64_t position = sim_received(user->sim, user->sink) +
			    sim_far(user->sim, user->sink)->oracle.first;

	if (user->options.mode == FID_MEMORY_LEND)
		return;
	while (receipt->bytes_held) {
		size_t part = 1 + (size_t)below(user, sizeof(bytes));
		uint64_t held = receipt->bytes_held;
		ssize_t got = fid_memory_salvage(user->memory, bytes, part);

		if (got <= 0 || (size_t)got > part || (uint64_t)got > held)
			sim_fail(user->sim, "salvage of %zu of %llu says %zd", part,
				 (unsigned long long)held, got);
		if (sim_stream_differs(user->sim, SIM_STREAM_SOURCE, position, bytes,
				       (size_t)got) < (size_t)got)
			sim_fail(user->sim, "salvage hands over wrong bytes");
		position += (uint64_t)got;
		user->salvaged += (uint64_t)got;
		check_account(user);
	}
	if (fid_memory_salvage(user->memory, bytes, sizeof(bytes)))
		sim_fail(user->sim, "salvage of nothing");
}

static void tally_up(struct user *user)
{
	const struct fid_receipt *receipt = fid_memory_receipt(user->memory);
	struct tally *tally = user->tally;

	tally->bytes += receipt->bytes_out;
	tally->salvaged += user->salvaged;
	tally->demotions += receipt->demotions;
	for (int i = 0; i < FID_METHODS; i++)
		tally->by_method[i] += receipt->by_method[i] > 0;
}

static void finish(struct user *user)
{
	struct fid_pool_stats stats;

	if (once_in(user, 2)) {
		while (!user->error && fid_memory_receipt(user->memory)->bytes_held) {
			run(user);
			check_account(user);
		}
	}
	if (once_in(user, 2))
		salvage(user);
	tally_up(user);
	fid_memory_free(user->memory);
	CHECK_EQUAL(fid_pool_stats(user->pool, &stats), 0);
	if (stats.buffers_lent || stats.pipes_lent)
		sim_fail(user->sim, "%u buffers and %u pipes of the pool are still lent",
			 stats.buffers_lent, stats.pipes_lent);
	fid_pool_free(user->pool);
	/* Whoever is slow reads what is left after all that. */
	sim_settle(user->sim);
}

static void round_of(struct sim *sim, uint64_t seed, struct tally *tally)
{
	static unsigned char *lent;
	struct user user = {.sim = sim, .tally = tally, .random = seed};
	unsigned actions;

	if (!lent)
		lent = aligned_alloc(SIM_PAGE, LENT_BYTES);
	CHECK(lent);
	user.lent = lent;
	sim_start(sim, seed, &worlds[below(&user, WORLDS)]);
	sim->stable = true;
	tally->rounds++;
	if (!begin(&user)) {
		sim_finish(sim);
		return;
	}
	random_faults(&user);
	actions = 20 + (unsigned)below(&user, user.hoards ? 800 : 300);
	while (actions-- > 0) {
		act(&user);
		check_account(&user);
		if (once_in(&user, 200))
			sim->world.vmsplice = once_in(&user, 2) ? -EPERM : -ENOSYS;
	}
	finish(&user);
	sim_finish(sim);
}

static uint64_t rounds_wanted(void)
{
	const char *given = getenv("FID_ROUNDS");

	return given ? strtoull(given, NULL, 0) : ROUNDS;
}

static void report(const struct tally *tally)
{
	typedef unsigned long long ull;

	test_note("%llu rounds, %llu bytes, %llu rounds by vmsplice, %llu by write",
		  (ull)tally->rounds, (ull)tally->bytes, (ull)tally->by_method[FID_VMSPLICE],
		  (ull)tally->by_method[FID_READ_WRITE]);
	test_note("%llu waits, %llu time-outs, %llu interruptions, %llu errors, %llu of them "
		  "EFAULT",
		  (ull)tally->waits, (ull)tally->timeouts, (ull)tally->interruptions,
		  (ull)tally->errors, (ull)tally->faults);
	test_note("%llu bytes salvaged, %llu demotions, %llu seals, %llu huge pages in one "
		  "pipe at most",
		  (ull)tally->salvaged, (ull)tally->demotions, (ull)tally->seals,
		  (ull)tally->slabs_most);
}

TEST(memory_that_was_sent_never_changes_in_any_storm)
{
	const char *only = getenv("FID_ROUND");
	uint64_t seeds = only ? 0 : test_seed();
	uint64_t wanted = only ? 0 : rounds_wanted();
	struct sim *sim = sim_new();
	struct tally tally = {0};

	if (only)
		round_of(sim, strtoull(only, NULL, 0), &tally);
	while (tally.rounds < wanted)
		round_of(sim, test_random(&seeds), &tally);
	report(&tally);
	if (wanted >= ROUNDS_TELLING) {
		CHECK(tally.by_method[FID_VMSPLICE] && tally.by_method[FID_READ_WRITE]);
		CHECK(tally.waits && tally.timeouts && tally.interruptions && tally.errors);
		CHECK(tally.salvaged && tally.demotions && tally.seals && tally.faults);
	}
	sim_free(sim);
}
