/* SPDX-License-Identifier: MIT */
/*
 * What the three calls promise when somebody else acts in the middle of a stand-in, one fact at
 * a time.
 */
#include "pipe/calls.h"
#include "sim.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>

enum { BYTES = 3000 };

static ssize_t (*write_of_sim)(struct fid_kernel *kernel, int fd, const void *from,
			       size_t bytes, int64_t offset, unsigned flags);
static int late_sink;

/* Somebody opens the FIFO to read just before the first write. */
static ssize_t write_to_late_reader(struct fid_kernel *kernel, int fd, const void *from,
				    size_t bytes, int64_t offset, unsigned flags)
{
	if (fd == late_sink)
		sim_far(sim_of(kernel), fd)->readers = 1;
	return write_of_sim(kernel, fd, from, bytes, offset, flags);
}

static void splice_to_late_reader(struct sim *sim, enum sim_kind kind)
{
	const struct sim_world world = {.splice = -EPERM};
	struct sim_object *fifo;
	struct fid_pool *pool;
	uint64_t moved = 0;
	int source;

	sim_start(sim, 11, &world);
	write_of_sim = sim->kernel.write;
	sim->kernel.write = write_to_late_reader;
	CHECK_EQUAL(fid_pool_new_on(&sim->kernel, &pool, NULL), 0);
	source = kind == SIM_REGULAR ? sim_regular(sim, BYTES, O_RDONLY)
				     : sim_source(sim, kind, 0, BYTES, SIM_END_CLOSE);
	late_sink = sim_sink(sim, SIM_FIFO, 0);
	fifo = sim_far(sim, late_sink);
	fifo->consumer.is_there = false;
	fifo->readers = 0;
	sim_expect(sim, late_sink, 0);
	sim_settle(sim);
	for (int i = 0; i < 10 && moved < BYTES; i++) {
		ssize_t got = fid_splice_on(&sim->kernel, pool, source, NULL, late_sink, NULL,
					    BYTES, 0);

		moved += got > 0 ? (uint64_t)got : 0;
		CHECK_EQUAL(fifo->ring.bytes, moved);
		/* The reader has come, and there is room. */
		CHECK(got > 0);
	}
	CHECK_EQUAL(moved, BYTES);
	CHECK_EQUAL(sim_received(sim, late_sink), BYTES);
	fid_pool_free(pool);
	sim->kernel.write = write_of_sim;
	sim_finish(sim);
}

TEST(a_reader_that_opens_a_fifo_during_a_splice_gets_each_byte_once)
{
	static const enum sim_kind kinds[] = {SIM_REGULAR, SIM_TCP, SIM_UNIX};
	struct sim *sim = sim_new();

	for (int i = 0; i < 3; i++)
		splice_to_late_reader(sim, kinds[i]);
	sim_free(sim);
}
