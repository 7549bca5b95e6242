/* SPDX-License-Identifier: MIT */
/*
 * What memory promises, one fact at a time, on the simulated kernel.
 */
#include "pipe/memory.h"
#include "sim.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* A socket to which nothing more can be sent, and whose error queue holds something. */
static int noisy_full_socket(struct sim *sim, int flags)
{
	static unsigned char bytes[1 << 16];
	int fd = sim_sink(sim, SIM_TCP, O_NONBLOCK);
	struct sim_object *far = sim_far(sim, fd);

	far->consumer.is_there = false;
	far->consumer.next_ns = SIM_NEVER;
	sim_object(sim, fd)->noisy = true;
	while (sim->kernel.write(&sim->kernel, fd, bytes, sizeof(bytes), FID_OWN_OFFSET, 0) > 0)
		;
	sim->fd[fd - SIM_FD_FIRST].flags = flags;
	return fd;
}

/* poll(2) says at once, and for ever, that such a socket has news. */
TEST(a_run_to_a_full_socket_with_an_error_queue_sleeps)
{
	for (int mode = FID_MEMORY_COPY; mode <= FID_MEMORY_FRESH; mode++) {
		struct fid_memory_options options = {.size = sizeof(options)};
		struct sim *sim = sim_new();
		struct fid_memory *memory;
		uint64_t began;
		void *at;

		sim_start(sim, 3, NULL);
		CHECK_EQUAL(fid_pool_new_on(&sim->kernel, &options.pool, NULL), 0);
		options.mode = (uint32_t)mode;
		CHECK_EQUAL(fid_memory_new_on(&sim->kernel, &memory,
					      noisy_full_socket(sim, O_NONBLOCK), &options),
			    0);
		CHECK(fid_memory_reserve(memory, 1000, &at) >= 1000);
		memset(at, 0, 1000);
		CHECK_EQUAL(fid_memory_commit(memory, 1000), 0);
		began = sim->now_ns;
		sim->idle_calls = 0;
		CHECK_EQUAL(fid_memory_run(memory, 1000), -ETIMEDOUT);
		CHECK(sim->now_ns - began >= 1000000000);
		CHECK_EQUAL(fid_memory_receipt(memory)->bytes_held, 1000);
		fid_memory_free(memory);
		fid_pool_free(options.pool);
		sim_finish(sim);
		sim_free(sim);
	}
}

static const char *reason_in(const struct sim_world *world)
{
	struct fid_memory_options options = {.size = sizeof(options), .mode = FID_MEMORY_FRESH};
	struct sim *sim = sim_new();
	struct fid_memory *memory;
	const char *reason;
	void *at;
	int sink;

	sim_start(sim, 5, world);
	CHECK_EQUAL(fid_pool_new_on(&sim->kernel, &options.pool, NULL), 0);
	sink = sim_sink(sim, SIM_FIFO, 0);
	sim_expect(sim, sink, 0);
	CHECK_EQUAL(fid_memory_new_on(&sim->kernel, &memory, sink, &options), 0);
	for (int i = 0; i < 3; i++) {
		CHECK(fid_memory_reserve(memory, 50000, &at) >= 50000);
		sim_stream_fill(sim, SIM_STREAM_SOURCE, (uint64_t)i * 50000, at, 50000);
		CHECK_EQUAL(fid_memory_commit(memory, 50000), 0);
		CHECK_EQUAL(fid_memory_run(memory, -1), 0);
	}
	CHECK_EQUAL(fid_memory_receipt(memory)->by_method[FID_READ_WRITE], 150000);
	reason = fid_memory_receipt(memory)->reason; /* a literal */
	fid_memory_free(memory);
	fid_pool_free(options.pool);
	sim_finish(sim);
	sim_free(sim);
	return reason;
}

TEST(fresh_memory_that_copies_says_why)
{
	CHECK(strstr(reason_in(&(struct sim_world){.no_slabs = true}), "no memory for slabs"));
	CHECK(strstr(reason_in(&(struct sim_world){.no_huge_pages = true}), "huge pages"));
	CHECK(strstr(reason_in(&(struct sim_world){.vmsplice = -EPERM}), "refuses vmsplice"));
	CHECK(strstr(reason_in(&(struct sim_world){.vmsplice_copies = true}),
		     "vmsplice copies"));
}
