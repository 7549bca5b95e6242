/* SPDX-License-Identifier: MIT */
/*
 * Random schedules: kinds, sizes, kernels, options, short transfers, EAGAIN, EINTR, hang-ups,
 * pipes that run out, several flows that share a pool. FID_SEED=N replays a run; a failure
 * prints the seed of its round, which FID_ROUND=N replays alone. FID_STEPS=N changes how long
 * it storms.
 */
#include "sim.h"
#include "test.h"
#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { FLOWS_MAX = 3, STEPS = 60000000, STEPS_TELLING = 20000000 };

static const struct sim_world worlds[] = {
	{.name = "stock"},
	{.name = "stock with reflinks", .reflinks = true},
	{.name = "stock with reflinks", .reflinks = true},
	{.name = "stock with reflinks", .reflinks = true},
	{.name = "stock, and no RWF_NOSIGNAL", .no_write_nosignal = true},
	{.name = "splice is EPERM", .splice = -EPERM, .no_write_nosignal = true},
	{.name = "splice is ENOSYS", .splice = -ENOSYS},
	{.name = "splice is EOPNOTSUPP", .splice = -EOPNOTSUPP},
	{.name = "splice is EINVAL", .splice = -EINVAL, .sendfile = -EINVAL},
	{.name = "sendfile is EPERM", .sendfile = -EPERM},
	{.name = "sendfile is ENOSYS", .sendfile = -ENOSYS, .copy_file_range = -EOPNOTSUPP},
	{.name = "copy_file_range is ENOSYS", .copy_file_range = -ENOSYS},
	{.name = "copy_file_range is EPERM", .copy_file_range = -EPERM, .sendfile = -EPERM},
	{.name = "nothing but read and write",
	 .splice = -EPERM,
	 .sendfile = -EPERM,
	 .copy_file_range = -EPERM,
	 .reflink = -EPERM,
	 .pipe = -EPERM,
	 .no_write_nosignal = true},
	{.name = "no descriptors left", .pipe = -EMFILE},
	{.name = "no files left", .pipe = -ENFILE},
	{.name = "pipes do not grow", .pipe_grow = -EPERM},
	{.name = "the budget of pipes is gone", .slots_budget = 1, .pipe_grow = -EPERM},
	{.name = "the budget of pipes is small", .slots_budget = 48},
	{.name = "pipes of one slot", .pipe_slots = 1, .pipe_grow = -EPERM},
	{.name = "gVisor",
	 .vmsplice = -ENOSYS,
	 .copy_file_range = -ENOSYS,
	 .empty_pipe_says_zero = true,
	 .no_write_nosignal = true},
};

enum { WORLDS = sizeof(worlds) / sizeof(worlds[0]) };

/* Chance: once in so many. */
static bool once_in(uint64_t *random, uint64_t many)
{
	return test_random(random) % many == 0;
}

static uint64_t random_size(uint64_t *random)
{
	uint64_t choice = test_random(random);

	switch (choice % 16) {
	case 0:
		return 0;
	case 1:
		return 1;
	case 2:
	case 3:
		return (choice >> 8) % 5000;
	case 4:
	case 5:
		return (choice >> 8) % (64 << 10);
	case 6:
		return (64 << 10) - 2 + (choice >> 8) % 5;
	case 7:
		return (16 << 10) - 2 + (choice >> 8) % 5;
	case 8:
		return (choice >> 8) % (8 << 20);
	default:
		return (choice >> 8) % (512 << 10);
	}
}

static struct sim_world random_world(uint64_t *random)
{
	static const uint64_t chunks[] = {0, 0, 0, 1 << 20, 64 << 10, 9000, 4096, 4096, 1500};
	struct sim_world world = worlds[test_random(random) % WORLDS];

	if (once_in(random, 3))
		world = worlds[0];
	if (!once_in(random, 4))
		world.short_permille = (uint32_t)(test_random(random) % 1000);
	if (once_in(random, 3))
		world.again_permille = (uint32_t)(test_random(random) % 300);
	world.chunk_bytes_max = chunks[test_random(random) % 9];
	if (once_in(random, 3))
		world.signal_every_ns = 1 + test_random(random) % 100000;
	return world;
}

static void random_peer(struct sim_peer *peer, uint64_t *random)
{
	static const uint32_t most[] = {1 << 20, 1 << 20, 64 << 10, 16 << 10,
					4096,    4096,    1000,     100};

	peer->bytes_max = most[test_random(random) % 8];
	peer->delay_ns = once_in(random, 2) ? 200 : (uint32_t)(test_random(random) % 50000);
}

/* Small pieces make many steps; a transfer of them should not be long as well. */
static uint64_t bounded(uint64_t size, uint32_t piece)
{
	uint64_t most = (uint64_t)piece * 300;

	return size < most ? size : most;
}

static void random_source(struct transfer *transfer, uint64_t *random)
{
	static const enum sim_kind kinds[] = {SIM_REGULAR, SIM_REGULAR, SIM_FIFO,    SIM_FIFO,
					      SIM_TCP,     SIM_UNIX,    SIM_TERMINAL};
	struct sim *sim = transfer->sim;
	enum sim_kind kind = kinds[test_random(random) % 7];
	uint64_t size = random_size(random);
	int flags = once_in(random, 2) ? O_NONBLOCK : 0;
	struct sim_object *object;

	transfer->source_kind = kind;
	if (kind != SIM_REGULAR) {
		enum sim_end end = once_in(random, 6) ? SIM_END_RESET : SIM_END_CLOSE;
		struct sim_peer pace;

		random_peer(&pace, random);
		size = bounded(size, pace.bytes_max);
		transfer->source = sim_source(sim, kind, flags, size, end);
		transfer->available = size;
		object = sim_object(sim, transfer->source);
		object->producer.bytes_max = pace.bytes_max;
		object->producer.delay_ns = pace.delay_ns;
		object->queue_bytes_max = 1 + test_random(random) % (256 << 10);
		if (kind == SIM_FIFO && once_in(random, 4))
			object->slots = 1u << test_random(random) % 9;
		if (kind == SIM_TCP || kind == SIM_UNIX)
			object->segment_bytes =
				once_in(random, 2) ? 0
						   : 1 + (uint32_t)(test_random(random) % 8000);
		if (end == SIM_END_RESET &&
		    (kind == SIM_TCP || kind == SIM_UNIX || kind == SIM_TERMINAL))
			transfer->faults |= FAULT_SOURCE;
		return;
	}
	size = bounded(size, sim->world.chunk_bytes_max ? (uint32_t)sim->world.chunk_bytes_max
							: 1 << 20);
	transfer->source = sim_regular(sim, size, O_RDWR | (flags & O_NONBLOCK));
	transfer->available = size;
	object = sim_object(sim, transfer->source);
	transfer->overwrites = once_in(random, 3);
	if (once_in(random, 4) && size) {
		uint64_t start = test_random(random) % size;

		if (once_in(random, 2)) {
			transfer->options.source_offset = start;
			transfer->options.flags |= FID_SOURCE_OFFSET;
		} else {
			sim->fd[transfer->source - SIM_FD_FIRST].offset = start;
		}
		transfer->available = size - start;
	} else if (once_in(random, 8)) {
		transfer->options.flags |= FID_SOURCE_OFFSET;
	}
	if (once_in(random, 5)) {
		object->magic = 0x65735546; /* FUSE */
		object->size_told = (int64_t)(test_random(random) % (size + 1000));
		object->early_end = once_in(random, 2);
		object->hides_error = once_in(random, 2);
	} else if (once_in(random, 8)) {
		object->magic = 0x9fa0; /* proc */
		object->size_told = 0;
		object->no_splice = once_in(random, 2);
	}
	if (once_in(random, 8)) {
		object->error = EIO;
		object->error_at = test_random(random) % (size + 1);
		if (object->error_at < transfer->options.source_offset)
			object->error_at = transfer->options.source_offset;
		transfer->faults |= FAULT_SOURCE;
	}
}

static void random_sink(struct transfer *transfer, uint64_t *random)
{
	static const enum sim_kind kinds[] = {SIM_REGULAR, SIM_REGULAR, SIM_FIFO,     SIM_FIFO,
					      SIM_TCP,     SIM_UNIX,    SIM_TERMINAL, SIM_NULL};
	struct sim *sim = transfer->sim;
	enum sim_kind kind = kinds[test_random(random) % 8];
	int flags = once_in(random, 2) ? O_NONBLOCK : 0;
	struct sim_object *object;

	if (once_in(random, 64))
		kind = SIM_FULL;
	transfer->sink_kind = kind;
	switch (kind) {
	case SIM_NULL:
	case SIM_FULL:
		transfer->sink = sim_device(sim, kind, O_WRONLY);
		transfer->faults |= kind == SIM_FULL ? FAULT_SINK : 0;
		break;
	case SIM_REGULAR:
		if (once_in(random, 4))
			flags |= O_APPEND;
		transfer->sink =
			sim_regular(sim, once_in(random, 3) ? 5000 : 0, O_RDWR | flags);
		object = sim_object(sim, transfer->sink);
		if (once_in(random, 4) && !(flags & O_APPEND)) {
			transfer->options.sink_offset = test_random(random) % 10000;
			transfer->options.flags |= FID_SINK_OFFSET;
		} else if (once_in(random, 4)) {
			sim->fd[transfer->sink - SIM_FD_FIRST].offset =
				test_random(random) % 10000;
		}
		if (once_in(random, 4))
			object->device = 2; /* another file system than the source's */
		if (once_in(random, 8)) {
			object->room = test_random(random) % (transfer->available + 10000);
			object->room_error = once_in(random, 2) ? ENOSPC : EIO;
			transfer->faults |= FAULT_SINK;
		}
		break;
	default:
		transfer->sink = sim_sink(sim, kind, flags);
		object = sim_far(sim, transfer->sink);
		random_peer(&object->consumer, random);
		object->queue_bytes_max = 1 + test_random(random) % (256 << 10);
		if (kind == SIM_FIFO && once_in(random, 4))
			object->slots = 1u << test_random(random) % 9;
		if (object->consumer.bytes_max * 300u < transfer->available)
			object->consumer.bytes_max = 1 << 20;
		if (once_in(random, 6)) {
			object->consumer.bytes_left =
				test_random(random) % (transfer->available + 1000);
			object->consumer.end = once_in(random, 2) ? SIM_END_RESET
								  : SIM_END_CLOSE;
			transfer->faults |= FAULT_SINK;
		}
	}
	if (once_in(random, 8)) {
		static const int errors[] = {-EINVAL, -EPERM, -ENOSYS, -EOPNOTSUPP,
					     SIM_SAYS_ZERO};

		object = sim_object(sim, transfer->sink);
		object->refuses_from = test_random(random) % (transfer->available + 1);
		object->refuses_error = errors[test_random(random) % 5];
	}
}

static void random_options(struct transfer *transfer, uint64_t *random)
{
	struct fid_options *options = &transfer->options;

	if (once_in(random, 4))
		options->flags |= FID_STABLE;
	if (once_in(random, 4))
		options->flags |= FID_NOWAIT;
	if (once_in(random, 3))
		options->flags |= FID_INTERRUPTIBLE;
	if (once_in(random, 8))
		options->flags |= FID_GROW_PIPES;
	if (once_in(random, 6)) {
		options->flags |= FID_PACED;
		transfer->grants_max = 1 + random_size(random);
	}
	if (once_in(random, 3))
		options->bytes_max = random_size(random);
	if (once_in(random, 12))
		options->flags |= FID_LIMIT_ZERO;
	if (once_in(random, 4))
		options->pipe_bytes = random_size(random);
	if (once_in(random, 4)) {
		options->routes = (uint32_t)(test_random(random) % (1u << FID_ROUTES));
		if (once_in(random, 2))
			options->routes |= FID_ROUTE(FID_READ_WRITE);
		if (options->routes)
			transfer->faults |= FAULT_ROUTES;
	}
	if (once_in(random, 8)) {
		options->require = (uint32_t)(test_random(random) % 3);
		if (options->require)
			transfer->faults |= FAULT_ROUTES;
	}
}

/* A whole file into an empty one, as a clone needs it. */
static void whole_file(struct transfer *transfer, uint64_t *random)
{
	transfer->source_kind = transfer->sink_kind = SIM_REGULAR;
	transfer->available = (FID_SMALL_BYTES + 1) + test_random(random) % (1 << 20);
	transfer->source = sim_regular(transfer->sim, transfer->available, O_RDONLY);
	transfer->sink = sim_regular(transfer->sim, 0, O_WRONLY);
}

static void random_transfer(struct transfer *transfer, uint64_t *random)
{
	if (transfer->sim->world.reflinks && once_in(random, 4)) {
		whole_file(transfer, random);
		return;
	}
	random_source(transfer, random);
	random_sink(transfer, random);
	random_options(transfer, random);
}

/* What the storms have seen. */
struct tally {
	uint64_t rounds;
	uint64_t flows;
	uint64_t steps;
	uint64_t waits;
	uint64_t interruptions;
	uint64_t timeouts;
	uint64_t bytes;
	uint64_t changed;
	uint64_t salvaged;
	uint64_t demotions;
	uint64_t refused_late; /* demotions after the first byte */
	uint64_t pipes_reused;
	uint64_t pipes_refused;
	uint64_t by_method[FID_ROUTES];
	uint64_t by_call[FID_CALLS]; /* flows that ended with an error of this call */
};

static struct fid_pool *random_pool(struct sim *sim, uint64_t *random)
{
	struct fid_pool_options options = {.size = sizeof(options)};
	struct fid_pool *pool;

	if (once_in(random, 3)) {
		options.pipes_max = 1 + (uint32_t)(test_random(random) % 2);
		options.pipes_idle_max = 1 + (uint32_t)(test_random(random) % 2);
		options.buffers_idle_max = 1;
	}
	CHECK_EQUAL(fid_pool_new_on(&sim->kernel, &pool, &options), 0);
	return pool;
}

/* Pipes and buffers are lent only to flows that hold bytes or can go on at once. */
static void check_lent(struct transfer *transfers, unsigned count)
{
	struct fid_pool_stats stats;
	unsigned borrowers = 0;

	for (unsigned i = 0; i < count; i++)
		borrowers += transfers[i].flow &&
			     (transfers[i].last.bytes_held ||
			      (!transfers[i].is_over && transfers[i].result != FID_WAIT));
	CHECK_EQUAL(fid_pool_stats(transfers[0].pool, &stats), 0);
	if (stats.pipes_lent > borrowers || stats.buffers_lent > borrowers)
		sim_fail(transfers[0].sim,
			 "%u pipes and %u buffers are lent, and %u flows could use them",
			 stats.pipes_lent, stats.buffers_lent, borrowers);
}

/* A flow that waits is stepped when it is time to, and now and then when it is not. */
static bool may_go_on(struct transfer *transfer, uint64_t *random)
{
	if (transfer->result != FID_WAIT || sim_wait(transfer->sim, transfer->wait, 2, 0))
		return true;
	transfer->idle_steps = 0;
	return once_in(random, 8);
}

static void advance(struct transfer *transfer, uint64_t *random)
{
	static const int timeouts[] = {-1, -1, 0, 1, 5, 1000};

	if (!may_go_on(transfer, random))
		return;
	if (once_in(random, 8))
		transfer_run(transfer, timeouts[test_random(random) % 6]);
	else
		transfer_step(transfer);
}

/* All flows that can go on do; when none can, everybody waits. */
static void storm(struct sim *sim, struct transfer *transfers, unsigned count, uint64_t *random)
{
	for (;;) {
		struct pollfd wait[2 * FLOWS_MAX];
		unsigned waiting = 0, over = 0;

		for (unsigned i = 0; i < count; i++) {
			struct transfer *transfer = &transfers[i];

			if (!transfer->is_over)
				advance(transfer, random);
			check_lent(transfers, count);
			over += transfer->is_over;
			if (transfer->is_over || transfer->result != FID_WAIT)
				continue;
			wait[2 * waiting] = transfer->wait[0];
			wait[2 * waiting + 1] = transfer->wait[1];
			waiting++;
		}
		if (over == count)
			break;
		if (waiting && waiting + over == count)
			sim_wait(sim, wait, 2 * waiting, -1);
	}
}

static void tally_up(struct tally *tally, const struct transfer *transfer)
{
	tally->flows++;
	tally->steps += transfer->steps;
	tally->bytes += transfer->last.bytes_out;
	tally->waits += transfer->last.waits;
	tally->interruptions += transfer->eintrs;
	if (transfer->is_over && transfer->result)
		tally->by_call[transfer->last.error_call]++;
	tally->timeouts += transfer->timeouts;
	tally->demotions += transfer->last.demotions;
	for (uint32_t i = 0; i < transfer->last.demotions; i++)
		tally->refused_late += transfer->last.demotion[i].at_bytes != 0;
	tally->salvaged += transfer->salvaged;
	for (int i = 0; i < FID_ROUTES; i++)
		tally->by_method[i] += transfer->last.by_method[i] != 0;
}

static void round_of_flows(struct sim *sim, uint64_t *random, struct tally *tally)
{
	struct transfer transfers[FLOWS_MAX] = {0};
	unsigned count = once_in(random, 4) ? 2 + (unsigned)(test_random(random) % 2) : 1;
	struct fid_pool *pool = random_pool(sim, random);
	struct fid_pool_stats stats;

	for (unsigned i = 0; i < count; i++) {
		struct transfer *transfer = &transfers[i];

		transfer->sim = sim;
		transfer->pool = pool;
		transfer->shares_pool = count > 1;
		random_transfer(transfer, random);
		/* Delivered bytes of one flow are not to be judged by another one's demand. */
		if (i > 0)
			transfer->options.flags = (transfer->options.flags & ~FID_STABLE) |
						  (transfers[0].options.flags & FID_STABLE);
		transfer_begin(transfer);
	}
	storm(sim, transfers, count, random);
	for (unsigned i = 0; i < count; i++) {
		transfers[i].abandons = once_in(random, 4);
		transfer_end(&transfers[i]);
		tally_up(tally, &transfers[i]);
	}
	CHECK_EQUAL(fid_pool_stats(pool, &stats), 0);
	tally->pipes_reused += stats.pipes_reused;
	tally->pipes_refused += stats.pipes_refused;
	fid_pool_free(pool);
}

static void round_of_copy(struct sim *sim, uint64_t *random, struct tally *tally)
{
	struct transfer transfer = {.sim = sim};

	transfer.pool = random_pool(sim, random);
	random_transfer(&transfer, random);
	transfer.overwrites = false;
	transfer.options.flags &= ~FID_PACED;
	if (once_in(random, 4))
		transfer.options.timeout_ms = 1 + (int32_t)(test_random(random) % 1000);
	transfer_copy(&transfer, !once_in(random, 3));
	tally_up(tally, &transfer);
	fid_pool_free(transfer.pool);
}

static uint64_t steps_wanted(void)
{
	const char *given = getenv("FID_STEPS");

	return given ? strtoull(given, NULL, 0) : STEPS;
}

static void report(const struct sim *sim, const struct tally *tally)
{
	typedef unsigned long long ull;

	test_note("%llu steps; a step is a call that the engine makes to the kernel",
		  (ull)sim->calls_ever);
	test_note("%llu fid_flow_step and fid_flow_run calls, %llu flows, %llu rounds",
		  (ull)tally->steps, (ull)tally->flows, (ull)tally->rounds);
	test_note("%llu bytes delivered, %llu salvaged, %llu changed after delivery where "
		  "FID_STABLE was not given",
		  (ull)tally->bytes, (ull)tally->salvaged, (ull)tally->changed);
	test_note(
		"%llu waits, %llu interruptions, %llu time-outs, %llu demotions, %llu of them "
		"after the first byte, %llu pipes reused, %llu refused",
		(ull)tally->waits, (ull)tally->interruptions, (ull)tally->timeouts,
		(ull)tally->demotions, (ull)tally->refused_late, (ull)tally->pipes_reused,
		(ull)tally->pipes_refused);
	for (int i = 0; i < FID_ROUTES; i++)
		test_note("%llu flows moved bytes by %s", (ull)tally->by_method[i],
			  fid_method_name((enum fid_method)i));
	for (int i = 0; i < FID_CALLS; i++)
		if (tally->by_call[i])
			test_note("%llu flows ended with an error of %s",
				  (ull)tally->by_call[i], fid_call_name((enum fid_call)i));
}

static void check_coverage(const struct tally *tally)
{
	for (int i = 0; i < FID_ROUTES; i++)
		CHECK(tally->by_method[i] > 0);
	CHECK(tally->waits > 0);
	CHECK(tally->interruptions > 0);
	CHECK(tally->timeouts > 0);
	CHECK(tally->changed > 0);
	CHECK(tally->salvaged > 0);
	CHECK(tally->demotions > 0);
	CHECK(tally->refused_late > 0);
	CHECK(tally->pipes_reused > 0);
	CHECK(tally->pipes_refused > 0);
	CHECK(tally->by_call[FID_CALL_POLL] > 0);
	CHECK(tally->by_call[FID_CALL_SPLICE] > 0);
	CHECK(tally->by_call[FID_CALL_SENDFILE] > 0);
	CHECK(tally->by_call[FID_CALL_READ] > 0);
	CHECK(tally->by_call[FID_CALL_WRITE] > 0);
}

static void round_of(struct sim *sim, uint64_t seed, struct tally *tally)
{
	uint64_t random = seed;
	struct sim_world world = random_world(&random);

	sim_start(sim, seed, &world);
	sim->sigpipe_blocked = sim->sigpipe_blocked_first = once_in(&random, 4);
	sim->sigpipe_pending = sim->sigpipe_pending_first = sim->sigpipe_blocked &&
							    once_in(&random, 2);
	if (once_in(&random, 6))
		round_of_copy(sim, &random, tally);
	else
		round_of_flows(sim, &random, tally);
	sim_finish(sim);
	tally->rounds++;
	tally->changed += sim->changed;
}

TEST(flows_lose_double_and_reorder_no_byte_in_any_storm)
{
	const char *only = getenv("FID_ROUND");
	uint64_t seeds = only ? 0 : test_seed();
	uint64_t wanted = only ? 0 : steps_wanted();
	struct sim *sim = sim_new();
	struct tally tally = {0};

	if (only)
		round_of(sim, strtoull(only, NULL, 0), &tally);
	while (sim->calls_ever < wanted)
		round_of(sim, test_random(&seeds), &tally);
	report(sim, &tally);
	/* The storm is worth its name only if it has been everywhere. */
	if (wanted >= STEPS_TELLING)
		check_coverage(&tally);
	sim_free(sim);
}
