/* SPDX-License-Identifier: MIT */
/*
 * What the simulator knows about memory: who still refers to a page, and what they read when it
 * is written again, dropped or sealed.
 */
#include "sim.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { LENT = 100000 };

/* A slab that holds the stream, and a pipe whose reader expects it and is late. */
struct stage {
	struct sim *sim;
	struct fid_kernel *kernel;
	unsigned char *slab;
	int pipe;
};

static struct stage stage_new(const struct sim_world *world)
{
	struct stage stage = {.sim = sim_new()};

	sim_start(stage.sim, 5, world);
	stage.kernel = &stage.sim->kernel;
	stage.pipe = sim_sink(stage.sim, SIM_FIFO, O_NONBLOCK);
	sim_object(stage.sim, stage.pipe)->slots = 256;
	sim_object(stage.sim, stage.pipe)->consumer.next_ns = SIM_NEVER;
	sim_expect(stage.sim, stage.pipe, 0);
	stage.slab = stage.kernel->slab_map(stage.kernel, FID_SLAB_BYTES);
	if (stage.slab)
		sim_stream_fill(stage.sim, SIM_STREAM_SOURCE, 0, stage.slab, FID_SLAB_BYTES);
	return stage;
}

static void lend(struct stage *stage, const unsigned char *from, size_t bytes)
{
	struct iovec segment = {.iov_base = (void *)(uintptr_t)from, .iov_len = bytes};
	struct fid_sigpipe sigpipe;

	stage->kernel->sigpipe_hold(stage->kernel, &sigpipe);
	CHECK_EQUAL(stage->kernel->vmsplice(stage->kernel, stage->pipe, &segment, 1,
					    SPLICE_F_NONBLOCK),
		    bytes);
	stage->kernel->sigpipe_release(stage->kernel, &sigpipe, false);
}

/* The reader takes everything; so many bytes had changed by then. */
static void check_changed(struct stage *stage, uint64_t bytes)
{
	struct sim *sim = stage->sim;

	sim_object(sim, stage->pipe)->consumer.next_ns = sim->now_ns;
	sim->next_ns = sim->now_ns;
	sim_settle(sim);
	CHECK_EQUAL(sim->changed, bytes);
	if (stage->slab)
		stage->kernel->unmap(stage->kernel, stage->slab, FID_SLAB_BYTES);
	sim_finish(sim);
	sim_free(sim);
}

TEST(a_later_store_to_lent_memory_is_seen_by_the_reader)
{
	struct stage stage = stage_new(NULL);

	lend(&stage, stage.slab, LENT);
	stage.slab[LENT - 1] ^= 1;
	stage.slab[LENT] ^= 1;
	check_changed(&stage, 1);
}

TEST(a_kernel_whose_vmsplice_copies_shows_no_later_store)
{
	struct stage stage = stage_new(&(struct sim_world){.vmsplice_copies = true});

	lend(&stage, stage.slab, LENT);
	memset(stage.slab, 0, LENT);
	check_changed(&stage, 0);
}

TEST(pages_that_were_dropped_keep_the_bytes_of_that_moment)
{
	struct stage stage = stage_new(NULL);

	lend(&stage, stage.slab + 100, 0);
	lend(&stage, stage.slab, LENT);
	CHECK_EQUAL(stage.kernel->discard(stage.kernel, stage.slab, FID_SLAB_BYTES), 0);
	CHECK_EQUAL(stage.slab[0] | stage.slab[LENT - 1] | stage.slab[LENT], 0);
	memset(stage.slab, 0x55, FID_SLAB_BYTES);
	check_changed(&stage, 0);
}

TEST(only_the_pages_that_were_dropped_keep_them)
{
	struct stage stage = stage_new(NULL);

	lend(&stage, stage.slab, LENT);
	CHECK_EQUAL(stage.kernel->discard(stage.kernel, stage.slab + 8192, 4096), 0);
	CHECK_EQUAL(sim_object(stage.sim, stage.pipe)->slots_used, 25);
	memset(stage.slab + 8192, 0x55, 4096);
	stage.slab[8191] ^= 1;
	check_changed(&stage, 1);
}

TEST(memory_that_was_unmapped_keeps_its_bytes)
{
	struct stage stage = stage_new(NULL);

	lend(&stage, stage.slab, LENT);
	stage.kernel->unmap(stage.kernel, stage.slab, FID_SLAB_BYTES);
	stage.slab = NULL;
	check_changed(&stage, 0);
}

TEST(locked_memory_is_not_dropped)
{
	struct stage stage = stage_new(&(struct sim_world){.discard = -EINVAL});

	lend(&stage, stage.slab, LENT);
	CHECK_EQUAL(stage.kernel->discard(stage.kernel, stage.slab, FID_SLAB_BYTES), -EINVAL);
	stage.slab[5] ^= 1;
	check_changed(&stage, 1);
}

TEST(a_reference_travels_from_pipe_to_socket_and_not_into_a_file)
{
	struct stage stage = stage_new(NULL);
	struct sim *sim = stage.sim;
	int socket = sim_sink(sim, SIM_TCP, O_NONBLOCK);
	int file = sim_regular(sim, 0, O_RDWR);
	struct fid_sigpipe sigpipe;
	unsigned char byte;
	int ends[2];

	sim_object(sim, stage.pipe)->oracle.is_on = false;
	sim_far(sim, socket)->consumer.next_ns = SIM_NEVER;
	sim_expect(sim, socket, 0);
	stage.kernel->pipe(stage.kernel, ends);
	stage.pipe = ends[1];
	lend(&stage, stage.slab, 1000);
	stage.kernel->sigpipe_hold(stage.kernel, &sigpipe);
	CHECK_EQUAL(stage.kernel->splice(stage.kernel, ends[0], NULL, socket, NULL, 500, 0),
		    500);
	CHECK_EQUAL(stage.kernel->splice(stage.kernel, ends[0], NULL, file, NULL, 500, 0), 500);
	stage.kernel->sigpipe_release(stage.kernel, &sigpipe, false);
	stage.kernel->close(stage.kernel, ends[0]);
	stage.kernel->close(stage.kernel, ends[1]);
	for (int i = 0; i < 1000; i++)
		stage.slab[i] ^= 1;
	CHECK_EQUAL(stage.kernel->read(stage.kernel, file, &byte, 1, 0), 1);
	CHECK_EQUAL(sim_stream_differs(sim, SIM_STREAM_SOURCE, 500, &byte, 1), 1);
	sim_far(sim, socket)->consumer.next_ns = sim->now_ns;
	sim->next_ns = sim->now_ns;
	stage.pipe = sim_sink(sim, SIM_FIFO, 0);
	check_changed(&stage, 500);
}

TEST(a_pipe_of_small_pieces_tells_how_many_huge_pages_it_holds)
{
	struct stage stage = stage_new(NULL);
	struct sim_object *pipe = sim_object(stage.sim, stage.pipe);

	lend(&stage, stage.slab, 100);
	lend(&stage, stage.slab + 100, 100);
	CHECK_EQUAL(sim_slabs_referenced(stage.sim, pipe), 1);
	CHECK_EQUAL(stage.kernel->discard(stage.kernel, stage.slab, FID_SLAB_BYTES), 0);
	sim_stream_fill(stage.sim, SIM_STREAM_SOURCE, 200, stage.slab, 100);
	lend(&stage, stage.slab, 100);
	CHECK_EQUAL(sim_slabs_referenced(stage.sim, pipe), 2);
	check_changed(&stage, 0);
}

TEST(a_sealed_file_in_memory_cannot_change)
{
	struct stage stage = stage_new(NULL);
	struct fid_kernel *kernel = stage.kernel;
	int file = kernel->memory_file(kernel, LENT);
	unsigned char *map = kernel->memory_file_map(kernel, file, LENT, true);
	unsigned char byte;

	CHECK(map && file >= 0);
	sim_stream_fill(stage.sim, SIM_STREAM_SOURCE, 0, map, LENT);
	CHECK_EQUAL(kernel->memory_file_seal(kernel, file, LENT - 1), -EBUSY);
	kernel->unmap(kernel, map, LENT);
	CHECK_EQUAL(kernel->memory_file_seal(kernel, file, LENT - 1), 0);
	CHECK(!kernel->memory_file_map(kernel, file, LENT - 1, true));
	CHECK_EQUAL(kernel->write(kernel, file, "a", 1, 0, 0), -EPERM);
	map = kernel->memory_file_map(kernel, file, LENT - 1, false);
	CHECK(map);
	lend(&stage, map, LENT - 1);
	CHECK_EQUAL(kernel->read(kernel, file, &byte, 1, LENT - 2), 1);
	CHECK(byte == map[LENT - 2]);
	CHECK_EQUAL(kernel->read(kernel, file, &byte, 1, LENT - 1), 0);
	kernel->unmap(kernel, map, LENT - 1);
	kernel->close(kernel, file);
	check_changed(&stage, 0);
}

TEST(a_kernel_may_refuse_any_kind_of_memory)
{
	struct stage stage = stage_new(&(struct sim_world){.no_memory = true,
							   .no_slabs = true,
							   .no_huge_pages = true,
							   .memory_file = -ENOSYS});

	CHECK(!stage.slab);
	CHECK(!stage.kernel->map(stage.kernel, 10));
	CHECK_EQUAL(stage.kernel->memory_file(stage.kernel, 10), -ENOSYS);
	stage.sim->world.no_slabs = false;
	stage.slab = stage.kernel->slab_map(stage.kernel, FID_SLAB_BYTES);
	CHECK_EQUAL(stage.kernel->slab_is_huge(stage.kernel, stage.slab), 0);
	stage.sim->world.no_huge_pages = false;
	CHECK_EQUAL(stage.kernel->slab_is_huge(stage.kernel, stage.slab), 1);
	check_changed(&stage, 0);
}

TEST(memory_that_is_not_there_is_efault_after_what_is)
{
	struct stage stage = stage_new(NULL);
	struct iovec segments[] = {{stage.slab, 100}, {stage.slab + 100, 100}};

	stage.sim->hole = (uintptr_t)stage.slab + 150;
	stage.sim->hole_bytes = 4096;
	stage.sim->takes_sigpipe = true;
	CHECK_EQUAL(stage.kernel->vmsplice(stage.kernel, stage.pipe, segments, 2, 0), 150);
	CHECK_EQUAL(stage.kernel->write(stage.kernel, stage.pipe, stage.slab + 150, 100,
					FID_OWN_OFFSET, 0),
		    -EFAULT);
	segments[0].iov_base = stage.slab + 150;
	CHECK_EQUAL(stage.kernel->vmsplice(stage.kernel, stage.pipe, segments, 2, 0), -EFAULT);
	check_changed(&stage, 0);
}
