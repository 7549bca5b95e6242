/* SPDX-License-Identifier: MIT */
/*
 * The three calls in every kernel that refuses some of them, between every pair of kinds, with
 * every way to say whether they may wait; and with every call that they make failing.
 */
#include "pour.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static const int refusals[] = {0, -EPERM, -ENOSYS, -EOPNOTSUPP};

static const enum sim_kind sources[] = {SIM_REGULAR, SIM_FIFO,     SIM_TCP,
					SIM_UNIX,    SIM_TERMINAL, SIM_NULL};
static const enum sim_kind sinks[] = {SIM_REGULAR, SIM_FIFO,     SIM_TCP,
				      SIM_UNIX,    SIM_TERMINAL, SIM_NULL};
static const unsigned flags[] = {0, SPLICE_F_NONBLOCK, FID_NOSIGNAL,
				 SPLICE_F_NONBLOCK | FID_NOSIGNAL | SPLICE_F_MOVE |
					 SPLICE_F_GIFT};

enum { KINDS = 6, FLAGS = 4, REFUSALS = 4 };

/* What each world is like besides what it refuses. */
static const struct sim_world manners[] = {
	{.name = "stock"},
	{.name = "unkind",
	 .short_permille = 300,
	 .again_permille = 300,
	 .chunk_bytes_max = 5000},
	{.name = "gVisor", .empty_pipe_says_zero = true, .no_write_nosignal = true},
	{.name = "pipes of one slot", .pipe_slots = 1, .pipe_grow = -EPERM},
	{.name = "no pipes", .pipe = -EMFILE},
	{.name = "no memory", .no_memory = true},
	{.name = "signals", .signal_every_ns = 30000},
	{.name = "GIFT is refused", .vmsplice_gift = -EOPNOTSUPP},
	{.name = "vmsplice copies", .vmsplice_copies = true, .vmsplice_gift = -EOPNOTSUPP},
};

enum { MANNERS = sizeof(manners) / sizeof(manners[0]) };

static struct sim_world world_of(const struct sim_world *manner, int splice, int tee,
				 int vmsplice)
{
	static char name[128];
	struct sim_world world = *manner;

	world.splice = splice;
	world.tee = tee;
	world.vmsplice = vmsplice;
	snprintf(name, sizeof(name), "%s, splice %d, tee %d, vmsplice %d", manner->name, splice,
		 tee, vmsplice);
	world.name = name;
	return world;
}

/* Each pair of kinds that the call is for. */
static bool is_pair(enum pour_call call, enum sim_kind source, enum sim_kind sink)
{
	switch (call) {
	case POUR_SPLICE:
		return source == SIM_FIFO || sink == SIM_FIFO;
	case POUR_STASH_SPLICE:
		return (source == SIM_FIFO || sink == SIM_FIFO) && source != SIM_REGULAR &&
		       source != SIM_NULL;
	case POUR_VMSPLICE_IN:
		return source == SIM_NULL && sink == SIM_FIFO;
	case POUR_VMSPLICE_OUT:
		return source == SIM_FIFO && sink == SIM_NULL;
	default:
		return source == SIM_FIFO && sink == SIM_FIFO;
	}
}

/* Runs a pour for each way to wait, each set of flags and with offsets given or not. */
static uint64_t pour_all(struct sim *sim, enum pour_call call, const struct sim_world *world,
			 uint64_t *seed, void (*each)(struct pour *))
{
	struct pour one = {.sim = sim, .call = call, .world = world};
	uint64_t count = 0;

	for (int pair = 0; pair < KINDS * KINDS; pair++) {
		one.source_kind = sources[pair / KINDS];
		one.sink_kind = sinks[pair % KINDS];
		if (!is_pair(call, one.source_kind, one.sink_kind))
			continue;
		for (int way = 0; way < 4 * FLAGS * 2; way++, count++) {
			one.source_waits = way & 1;
			one.sink_waits = way & 2;
			one.offsets = way & 4;
			one.flags = flags[way / 8];
			one.sink_dies_after = SIM_NEVER;
			one.source_breaks = false;
			one.bytes = 30011;
			one.call_max = 20000;
			one.seed = ++*seed;
			each(&one);
		}
	}
	return count;
}

/* Calls after which a stash held something. */
static uint64_t stashed;

static void as_it_is(struct pour *one)
{
	pour(one);
	stashed += one->stashed;
	if (one->last < 0 && !pour_may_be_refused(one) && one->source_kind != SIM_NULL &&
	    !(one->last == -ENOMEM && one->world->no_memory))
		FAIL("it ended with %zd", one->last);
}

static void with_a_sink_that_dies(struct pour *one)
{
	one->sink_dies_after = one->seed * 7919 % one->bytes;
	one->source_breaks = one->seed % 3 == 0;
	pour(one);
}

static void in_all_worlds(enum pour_call call, void (*each)(struct pour *))
{
	struct sim *sim = sim_new();
	uint64_t count = 0, seed = test_seed();

	for (int manner = 0; manner < MANNERS; manner++)
		for (int splice = 0; splice < REFUSALS; splice++)
			for (int tee = 0; tee < 2; tee++) {
				struct sim_world world =
					world_of(&manners[manner], refusals[splice],
						 tee ? refusals[1 + splice % 3] : 0,
						 refusals[(splice + 2 * tee) % 4]);

				count += pour_all(sim, call, &world, &seed, each);
			}
	test_note("%llu transfers", (unsigned long long)count);
	sim_free(sim);
}

TEST(splice_moves_every_byte_in_every_world)
{
	in_all_worlds(POUR_SPLICE, as_it_is);
}

TEST(tee_gives_every_byte_in_every_world)
{
	in_all_worlds(POUR_TEE, as_it_is);
}

TEST(a_stash_splices_every_byte_in_every_world)
{
	stashed = 0;
	in_all_worlds(POUR_STASH_SPLICE, as_it_is);
	CHECK(stashed > 0);
}

TEST(a_stash_tees_every_byte_in_every_world)
{
	in_all_worlds(POUR_STASH_TEE, as_it_is);
}

TEST(vmsplice_sends_any_number_of_segments_in_every_world)
{
	in_all_worlds(POUR_VMSPLICE_IN, as_it_is);
}

TEST(vmsplice_fills_any_number_of_segments_in_every_world)
{
	in_all_worlds(POUR_VMSPLICE_OUT, as_it_is);
}

TEST(splice_is_exact_when_an_end_breaks)
{
	in_all_worlds(POUR_SPLICE, with_a_sink_that_dies);
}

TEST(tee_is_exact_when_an_end_breaks)
{
	in_all_worlds(POUR_TEE, with_a_sink_that_dies);
}

TEST(a_stash_is_exact_when_an_end_breaks)
{
	in_all_worlds(POUR_STASH_SPLICE, with_a_sink_that_dies);
	in_all_worlds(POUR_STASH_TEE, with_a_sink_that_dies);
}

TEST(vmsplice_is_exact_when_the_reader_goes_away)
{
	in_all_worlds(POUR_VMSPLICE_IN, with_a_sink_that_dies);
}
