/* SPDX-License-Identifier: MIT */
/*
 * The pool on the simulated kernel: bounded, clean, alone, and content with small pipes.
 */
#include "pipe/pipe.h"
#include "sim.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { KIB = 1 << 10 };

static struct fid_pool *pool_of(struct sim *sim, uint32_t pipes_max, uint32_t pipes_idle_max)
{
	struct fid_pool_options options = {
		.size = sizeof(options),
		.pipes_max = pipes_max,
		.pipes_idle_max = pipes_idle_max,
	};
	struct fid_pool *pool;

	CHECK_EQUAL(fid_pool_new_on(&sim->kernel, &pool, &options), 0);
	return pool;
}

static struct fid_pool_stats stats_of(struct fid_pool *pool)
{
	struct fid_pool_stats stats;

	CHECK_EQUAL(fid_pool_stats(pool, &stats), 0);
	return stats;
}

static uint32_t fds_open(const struct sim *sim)
{
	return sim->fds_open;
}

TEST(a_pool_takes_no_descriptor_before_it_lends_one)
{
	struct sim *sim = sim_new();
	struct fid_pool *pool = pool_of(sim, 0, 0);

	CHECK_EQUAL(fds_open(sim), 0);
	CHECK_EQUAL(sim->calls, 0);
	fid_pool_free(pool);
	sim_finish(sim);
	sim_free(sim);
}

TEST(a_pool_lends_no_more_pipes_than_pipes_max)
{
	struct sim *sim = sim_new();
	struct fid_pool *pool = pool_of(sim, 3, 0);
	struct fid_pipe pipes[4];

	for (int i = 0; i < 3; i++)
		CHECK_EQUAL(fid_pool_pipe_take(pool, 64 * KIB, &pipes[i]), 0);
	pipes[3] = FID_PIPE_NONE;
	CHECK_EQUAL(fid_pool_pipe_take(pool, 64 * KIB, &pipes[3]), -ENOBUFS);
	CHECK(!fid_pipe_is_open(&pipes[3]));
	CHECK_EQUAL(stats_of(pool).pipes_lent, 3);
	CHECK_EQUAL(stats_of(pool).pipes_refused, 1);
	fid_pool_pipe_give(pool, &pipes[1]);
	CHECK(!fid_pipe_is_open(&pipes[1]));
	CHECK_EQUAL(fid_pool_pipe_take(pool, 64 * KIB, &pipes[3]), 0);
	CHECK_EQUAL(stats_of(pool).pipes_reused, 1);
	CHECK_EQUAL(stats_of(pool).pipes_made, 3);
	fid_pool_pipe_give(pool, &pipes[0]);
	fid_pool_pipe_give(pool, &pipes[2]);
	fid_pool_pipe_give(pool, &pipes[3]);
	CHECK_EQUAL(stats_of(pool).pipes_lent, 0);
	fid_pool_free(pool);
	sim_finish(sim);
	sim_free(sim);
}

TEST(a_pool_keeps_no_more_pipes_than_pipes_idle_max)
{
	struct sim *sim = sim_new();
	struct fid_pool *pool = pool_of(sim, 8, 2);
	struct fid_pipe pipes[5];

	for (int i = 0; i < 5; i++)
		CHECK_EQUAL(fid_pool_pipe_take(pool, 64 * KIB, &pipes[i]), 0);
	for (int i = 0; i < 5; i++)
		fid_pool_pipe_give(pool, &pipes[i]);
	CHECK_EQUAL(stats_of(pool).pipes_idle, 2);
	CHECK_EQUAL(stats_of(pool).pipe_bytes_idle, 2 * 64 * KIB);
	CHECK_EQUAL(stats_of(pool).pipes_closed_dirty, 0);
	CHECK_EQUAL(fds_open(sim), 4);
	fid_pool_free(pool);
	CHECK_EQUAL(fds_open(sim), 0);
	sim_finish(sim);
	sim_free(sim);
}

TEST(a_pipe_that_holds_a_byte_is_closed_and_never_lent_again)
{
	struct sim *sim = sim_new();
	struct fid_pool *pool = pool_of(sim, 0, 0);
	struct fid_pipe pipe;
	char byte;

	CHECK_EQUAL(fid_pool_pipe_take(pool, 64 * KIB, &pipe), 0);
	CHECK_EQUAL(sim->kernel.write(&sim->kernel, pipe.write_end, "x", 1, FID_OWN_OFFSET, 0),
		    1);
	pipe.held = 1;
	fid_pool_pipe_give(pool, &pipe);
	CHECK_EQUAL(stats_of(pool).pipes_closed_dirty, 1);
	CHECK_EQUAL(stats_of(pool).pipes_idle, 0);
	CHECK_EQUAL(fds_open(sim), 0);
	CHECK_EQUAL(fid_pool_pipe_take(pool, 64 * KIB, &pipe), 0);
	CHECK_EQUAL(pipe.held, 0);
	CHECK_EQUAL(sim_object(sim, pipe.read_end)->ring.bytes, 0);
	CHECK_EQUAL(sim->kernel.write(&sim->kernel, pipe.write_end, "y", 1, FID_OWN_OFFSET, 0),
		    1);
	CHECK_EQUAL(sim->kernel.read(&sim->kernel, pipe.read_end, &byte, 1, FID_OWN_OFFSET), 1);
	CHECK_EQUAL(byte, 'y');
	fid_pool_pipe_give(pool, &pipe);
	fid_pool_free(pool);
	sim_finish(sim);
	sim_free(sim);
}

TEST(a_pipe_in_doubt_is_closed)
{
	struct sim *sim = sim_new();
	struct fid_pool *pool = pool_of(sim, 0, 0);
	struct fid_pipe pipe;

	CHECK_EQUAL(fid_pool_pipe_take(pool, 64 * KIB, &pipe), 0);
	pipe.doubtful = true;
	fid_pool_pipe_give(pool, &pipe);
	CHECK_EQUAL(stats_of(pool).pipes_closed_dirty, 1);
	CHECK_EQUAL(stats_of(pool).pipes_idle, 0);
	CHECK_EQUAL(fds_open(sim), 0);
	fid_pool_free(pool);
	sim_finish(sim);
	sim_free(sim);
}

TEST(giving_back_nothing_is_nothing)
{
	struct sim *sim = sim_new();
	struct fid_pool *pool = pool_of(sim, 0, 0);
	struct fid_pipe pipe = FID_PIPE_NONE;

	fid_pool_pipe_give(pool, &pipe);
	fid_pool_buffer_give(pool, NULL);
	CHECK_EQUAL(stats_of(pool).pipes_lent, 0);
	CHECK_EQUAL(stats_of(pool).buffers_lent, 0);
	CHECK_EQUAL(sim->calls, 0);
	CHECK(fid_pool_free(pool) == NULL);
	CHECK(fid_pool_free(NULL) == NULL);
	sim_finish(sim);
	sim_free(sim);
}

/* H17: idle pipes and buffers of the parent are not lent in the child. */
TEST(after_a_fork_idle_pipes_are_closed_and_not_lent)
{
	struct sim *sim = sim_new();
	struct fid_pool *pool = pool_of(sim, 0, 0);
	struct fid_pipe before[3], after;
	uint32_t parents[3];

	for (int i = 0; i < 3; i++)
		CHECK_EQUAL(fid_pool_pipe_take(pool, 64 * KIB, &before[i]), 0);
	for (int i = 0; i < 3; i++)
		parents[i] = (uint32_t)sim_object(sim, before[i].read_end)->inode;
	fid_pool_pipe_give(pool, &before[0]);
	fid_pool_pipe_give(pool, &before[1]);
	CHECK_EQUAL(stats_of(pool).pipes_idle, 2);

	sim->generation++;
	CHECK_EQUAL(fid_pool_pipe_take(pool, 64 * KIB, &after), 0);
	for (int i = 0; i < 3; i++)
		CHECK((uint32_t)sim_object(sim, after.read_end)->inode != parents[i]);
	CHECK_EQUAL(stats_of(pool).pipes_idle, 0);
	CHECK_EQUAL(stats_of(pool).pipes_reused, 0);
	CHECK_EQUAL(stats_of(pool).pipes_lent, 1);
	/* One that was lent then is the parent's, too. */
	fid_pool_pipe_give(pool, &before[2]);
	CHECK_EQUAL(stats_of(pool).pipes_idle, 0);
	fid_pool_pipe_give(pool, &after);
	CHECK_EQUAL(stats_of(pool).pipes_idle, 1);
	CHECK_EQUAL(fds_open(sim), 2);
	fid_pool_free(pool);
	sim_finish(sim);
	sim_free(sim);
}

TEST(a_pipe_lent_before_a_fork_is_not_kept_even_if_the_fork_is_noticed_at_its_return)
{
	struct sim *sim = sim_new();
	struct fid_pool *pool = pool_of(sim, 0, 0);
	struct fid_pipe pipe;

	CHECK_EQUAL(fid_pool_pipe_take(pool, 64 * KIB, &pipe), 0);
	sim->generation++;
	fid_pool_pipe_give(pool, &pipe);
	CHECK_EQUAL(stats_of(pool).pipes_idle, 0);
	CHECK_EQUAL(stats_of(pool).pipes_lent, 0);
	CHECK_EQUAL(fds_open(sim), 0);
	fid_pool_free(pool);
	sim_finish(sim);
	sim_free(sim);
}

TEST(a_pipe_grows_as_far_as_the_kernel_lets_it)
{
	struct sim *sim = sim_new();
	struct fid_pool *pool;
	struct fid_pipe pipe;

	/* 48 slots are left to a pipe that has 16: it asks for 256, 128, 64 and gets 32. */
	sim_start(sim, 1, &(struct sim_world){.slots_budget = 48});
	pool = pool_of(sim, 0, 0);
	CHECK_EQUAL(fid_pool_pipe_take(pool, KIB * KIB, &pipe), 0);
	CHECK_EQUAL(pipe.capacity, 128 * KIB);
	CHECK_EQUAL(stats_of(pool).pipes_small, 1);
	fid_pool_pipe_give(pool, &pipe);
	fid_pool_free(pool);
	sim_finish(sim);

	sim_start(sim, 1, NULL);
	pool = pool_of(sim, 0, 0);
	CHECK_EQUAL(fid_pool_pipe_take(pool, KIB * KIB, &pipe), 0);
	CHECK_EQUAL(pipe.capacity, KIB * KIB);
	CHECK_EQUAL(stats_of(pool).pipes_small, 0);
	fid_pool_pipe_give(pool, &pipe);
	fid_pool_free(pool);
	sim_finish(sim);
	sim_free(sim);
}

TEST(a_pipe_that_is_too_small_is_closed_and_refused)
{
	struct sim *sim = sim_new();
	struct fid_pool *pool;
	struct fid_pipe pipe;

	sim_start(sim, 1, &(struct sim_world){.pipe_slots = 2, .pipe_grow = -EPERM});
	pool = pool_of(sim, 0, 0);
	CHECK_EQUAL(fid_pool_pipe_take(pool, KIB * KIB, &pipe), -ENOSPC);
	CHECK_EQUAL(stats_of(pool).pipes_refused, 1);
	CHECK_EQUAL(stats_of(pool).pipes_lent, 0);
	CHECK_EQUAL(fds_open(sim), 0);
	fid_pool_free(pool);
	sim_finish(sim);
	sim_free(sim);
}

TEST(a_pool_says_what_pipe2_said)
{
	static const int errors[] = {-EMFILE, -ENFILE, -EPERM};
	struct sim *sim = sim_new();

	for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		struct fid_pool *pool;
		struct fid_pipe pipe;

		sim_start(sim, 1, &(struct sim_world){.pipe = errors[i]});
		pool = pool_of(sim, 0, 0);
		CHECK_EQUAL(fid_pool_pipe_take(pool, KIB * KIB, &pipe), errors[i]);
		CHECK_EQUAL(stats_of(pool).pipes_lent, 0);
		CHECK_EQUAL(stats_of(pool).pipes_refused, 1);
		fid_pool_free(pool);
		sim_finish(sim);
	}
	sim_free(sim);
}

TEST(an_idle_pipe_that_is_large_enough_is_preferred)
{
	struct sim *sim = sim_new();
	struct fid_pool *pool = pool_of(sim, 0, 0);
	struct fid_pipe small, large, pipe;
	int large_end;

	CHECK_EQUAL(fid_pool_pipe_take(pool, 256 * KIB, &large), 0);
	CHECK_EQUAL(fid_pool_pipe_take(pool, 64 * KIB, &small), 0);
	large_end = large.read_end;
	fid_pool_pipe_give(pool, &large);
	fid_pool_pipe_give(pool, &small);
	CHECK_EQUAL(stats_of(pool).pipe_bytes_idle, 320 * KIB);
	CHECK_EQUAL(fid_pool_pipe_take(pool, 256 * KIB, &pipe), 0);
	CHECK_EQUAL(pipe.read_end, large_end);
	CHECK_EQUAL(stats_of(pool).pipe_bytes_idle, 64 * KIB);
	fid_pool_pipe_give(pool, &pipe);
	/* With only a small one it grows. */
	CHECK_EQUAL(fid_pool_pipe_take(pool, 256 * KIB, &large), 0);
	CHECK_EQUAL(fid_pool_pipe_take(pool, 512 * KIB, &small), 0);
	CHECK_EQUAL(small.capacity, 512 * KIB);
	CHECK_EQUAL(stats_of(pool).pipes_made, 2);
	fid_pool_pipe_give(pool, &large);
	fid_pool_pipe_give(pool, &small);
	fid_pool_free(pool);
	sim_finish(sim);
	sim_free(sim);
}

TEST(buffers_are_kept_up_to_buffers_idle_max_and_dropped_after_a_fork)
{
	struct sim *sim = sim_new();
	struct fid_pool_options options = {.size = sizeof(options), .buffers_idle_max = 2};
	struct fid_pool *pool;
	void *buffers[3];

	CHECK_EQUAL(fid_pool_new_on(&sim->kernel, &pool, &options), 0);
	for (int i = 0; i < 3; i++) {
		buffers[i] = fid_pool_buffer_take(pool);
		CHECK(buffers[i]);
		CHECK_EQUAL((uintptr_t)buffers[i] % 4096, 0);
		memset(buffers[i], i, FID_BUFFER_BYTES);
	}
	CHECK_EQUAL(stats_of(pool).buffers_lent, 3);
	for (int i = 0; i < 3; i++)
		fid_pool_buffer_give(pool, buffers[i]);
	CHECK_EQUAL(stats_of(pool).buffers_idle, 2);
	CHECK_EQUAL(sim->maps, 2);
	CHECK(fid_pool_buffer_take(pool) == buffers[1]);
	fid_pool_buffer_give(pool, buffers[1]);
	sim->generation++;
	CHECK_EQUAL(stats_of(pool).buffers_idle, 0);
	CHECK_EQUAL(sim->maps, 0);
	fid_pool_free(pool);
	sim_finish(sim);
	sim_free(sim);
}

TEST(without_memory_a_pool_lends_no_buffer)
{
	struct sim *sim = sim_new();
	struct fid_pool *pool = pool_of(sim, 0, 0);

	sim->fail_at = sim->calls + 1;
	sim->fail_error = -ENOMEM;
	CHECK(fid_pool_buffer_take(pool) == NULL);
	CHECK_EQUAL(stats_of(pool).buffers_lent, 0);
	fid_pool_free(pool);
	sim_finish(sim);
	sim_free(sim);
}

/* Random takes and gives: what the pool says is what the kernel sees, and bounds hold. */
TEST(random_takes_and_gives_keep_the_account)
{
	enum { HELD_MAX = 12 };
	uint64_t random = test_seed();
	struct sim *sim = sim_new();

	for (int round = 0; round < 300; round++) {
		struct sim_world world = {
			.slots_budget = (uint32_t)(test_random(&random) % 400),
			.pipe_grow = test_random(&random) % 4 ? 0 : -EPERM,
		};
		uint32_t pipes_max = 1 + (uint32_t)(test_random(&random) % HELD_MAX);
		uint32_t idle_max = 1 + (uint32_t)(test_random(&random) % 6);
		struct fid_pipe held[HELD_MAX + 1];
		struct fid_pool *pool;
		unsigned count = 0;

		sim_start(sim, test_random(&random), &world);
		pool = pool_of(sim, pipes_max, idle_max);
		for (int i = 0; i < 100; i++) {
			struct fid_pool_stats stats;
			struct fid_pipe pipe;

			sim->idle_calls = 0;
			if (test_random(&random) % 2 && count <= pipes_max) {
				size_t want = test_random(&random) % (2 << 20);

				if (fid_pool_pipe_take(pool, want, &pipe) == 0) {
					struct sim_object *object =
						sim_object(sim, pipe.read_end);

					CHECK_EQUAL(pipe.held, 0);
					CHECK(!pipe.doubtful);
					CHECK_EQUAL(object->ring.bytes, 0);
					CHECK_EQUAL(pipe.capacity,
						    (uint64_t)object->slots * SIM_PAGE);
					CHECK(pipe.capacity >= FID_PIPE_BYTES_MIN);
					held[count++] = pipe;
				}
			} else if (count) {
				unsigned which = (unsigned)(test_random(&random) % count);

				pipe = held[which];
				held[which] = held[--count];
				if (test_random(&random) % 4 == 0) {
					pipe.held = 1 + test_random(&random) % 100;
					sim->kernel.write(&sim->kernel, pipe.write_end, "x", 1,
							  FID_OWN_OFFSET, 0);
				}
				fid_pool_pipe_give(pool, &pipe);
			}
			stats = stats_of(pool);
			CHECK_EQUAL(stats.pipes_lent, count);
			CHECK(stats.pipes_lent <= pipes_max);
			CHECK(stats.pipes_idle <= idle_max);
			CHECK_EQUAL(sim->fds_open, 2 * (stats.pipes_lent + stats.pipes_idle));
		}
		while (count)
			fid_pool_pipe_give(pool, &held[--count]);
		fid_pool_free(pool);
		sim_finish(sim);
	}
	sim_free(sim);
}
