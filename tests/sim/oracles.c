/* SPDX-License-Identifier: MIT */
/*
 * The simulator's judgements: each wrong deed is noticed, and a right one beside it is not.
 * Without these tests a silent oracle would look like a perfect engine. Then the worlds: what
 * fid_probe() would find in each is what that world says.
 */
#include "sim.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <string.h>

typedef void deed(struct sim *sim);

/* What the simulator says about a deed; "" when it has nothing to say. */
static const char *judged(struct sim *sim, deed *act)
{
	jmp_buf catch;

	sim_start(sim, 5, NULL);
	sim->catch = &catch;
	if (setjmp(catch) == 0) {
		act(sim);
		sim_finish(sim);
	}
	sim->catch = NULL;
	return sim->failure;
}

static void check_wrong(deed *wrong, const char *words)
{
	struct sim *sim = sim_new();
	const char *said = judged(sim, wrong);

	if (!strstr(said, words))
		FAIL("the simulator says \"%s\" and not \"%s\"", said, words);
	sim_free(sim);
}

static void check_right(deed *right)
{
	struct sim *sim = sim_new();
	const char *said = judged(sim, right);

	if (said[0])
		FAIL("the simulator says \"%s\"", said);
	sim_free(sim);
}

/* A file of the stream, a pipe with a reader that expects it, and a buffer between them. */
struct stage {
	struct sim *sim;
	struct fid_kernel *kernel;
	int file;
	int pipe;
	unsigned char buffer[8192];
};

static struct stage stage_of(struct sim *sim)
{
	struct stage stage = {.sim = sim, .kernel = &sim->kernel};

	stage.file = sim_regular(sim, 100000, O_RDONLY);
	stage.pipe = sim_sink(sim, SIM_FIFO, 0);
	sim_expect(sim, stage.pipe, 0);
	stage.kernel->read(stage.kernel, stage.file, stage.buffer, 8192, 0);
	return stage;
}

static ssize_t put(struct stage *stage, const void *from, size_t bytes)
{
	return stage->kernel->write(stage->kernel, stage->pipe, from, bytes, FID_OWN_OFFSET,
				    FID_WRITE_NOSIGNAL);
}

static void right_bytes(struct sim *sim)
{
	struct stage stage = stage_of(sim);

	put(&stage, stage.buffer, 1000);
	put(&stage, stage.buffer + 1000, 7192);
	sim_settle(sim);
	CHECK_EQUAL(sim_received(sim, stage.pipe), 8192);
}

static void missing_byte(struct sim *sim)
{
	struct stage stage = stage_of(sim);

	put(&stage, stage.buffer, 1000);
	put(&stage, stage.buffer + 1001, 100);
}

static void doubled_byte(struct sim *sim)
{
	struct stage stage = stage_of(sim);

	put(&stage, stage.buffer, 1000);
	put(&stage, stage.buffer + 999, 100);
}

static void swapped_bytes(struct sim *sim)
{
	struct stage stage = stage_of(sim);
	unsigned char byte = stage.buffer[5000];

	stage.buffer[5000] = stage.buffer[5001] ^ 1;
	stage.buffer[5001] = byte;
	put(&stage, stage.buffer, 8192);
}

static void wrong_splice(struct sim *sim)
{
	struct stage stage = stage_of(sim);
	int64_t offset = 1;

	stage.kernel->sigpipe_hold(stage.kernel, &(struct fid_sigpipe){0});
	stage.kernel->splice(stage.kernel, stage.file, &offset, stage.pipe, NULL, 100, 0);
}

static void wrong_offset(struct sim *sim)
{
	struct stage stage = stage_of(sim);
	int sink = sim_regular(sim, 0, O_WRONLY);

	sim_expect(sim, sink, 0);
	stage.kernel->write(stage.kernel, sink, stage.buffer, 100, 4, 0);
}

TEST(a_byte_out_of_place_is_noticed)
{
	check_right(right_bytes);
	check_wrong(missing_byte, "differs from the stream at 1000");
	check_wrong(doubled_byte, "differs from the stream at 1000");
	check_wrong(swapped_bytes, "differs from the stream at 5000");
	check_wrong(wrong_splice, "expects byte 0 of the stream and gets the file at 1");
	check_wrong(wrong_offset, "is written to offset 4, not 0");
}

static void later_write(struct sim *sim, bool stable)
{
	struct stage stage = stage_of(sim);
	struct fid_sigpipe sigpipe;
	int64_t offset = 0;

	sim_object(sim, stage.pipe)->consumer.next_ns = SIM_NEVER;
	stage.kernel->sigpipe_hold(stage.kernel, &sigpipe);
	stage.kernel->splice(stage.kernel, stage.file, &offset, stage.pipe, NULL, 100, 0);
	stage.kernel->sigpipe_release(stage.kernel, &sigpipe, false);
	sim->stable = stable;
	sim_overwrite(sim, stage.file, 10, 20);
	sim_settle(sim);
	CHECK_EQUAL(sim->changed, 20);
}

static void later_write_stable(struct sim *sim)
{
	later_write(sim, true);
}

static void later_write_live(struct sim *sim)
{
	later_write(sim, false);
}

TEST(bytes_that_change_after_delivery_are_noticed_where_they_must_not)
{
	check_right(later_write_live);
	check_wrong(later_write_stable, "byte 10 changed after it was delivered");
}

static void pipe_made_and_closed(struct sim *sim)
{
	int ends[2];

	sim->kernel.pipe(&sim->kernel, ends);
	sim->kernel.close(&sim->kernel, ends[0]);
	sim->kernel.close(&sim->kernel, ends[1]);
}

static void pipe_leaked(struct sim *sim)
{
	int ends[2];

	sim->kernel.pipe(&sim->kernel, ends);
	sim->kernel.close(&sim->kernel, ends[0]);
}

static void closed_twice(struct sim *sim)
{
	int ends[2];

	sim->kernel.pipe(&sim->kernel, ends);
	sim->kernel.close(&sim->kernel, ends[0]);
	sim->kernel.close(&sim->kernel, ends[0]);
}

static void used_after_close(struct sim *sim)
{
	int ends[2];

	sim->kernel.pipe(&sim->kernel, ends);
	sim->kernel.close(&sim->kernel, ends[0]);
	sim->kernel.read(&sim->kernel, ends[0], ends, 1, FID_OWN_OFFSET);
}

static void closed_the_callers(struct sim *sim)
{
	sim->kernel.close(&sim->kernel, sim_regular(sim, 1, O_RDONLY));
}

static void mapping_leaked(struct sim *sim)
{
	sim->kernel.map(&sim->kernel, 100);
}

static void mapping_of_another_size(struct sim *sim)
{
	sim->kernel.unmap(&sim->kernel, sim->kernel.map(&sim->kernel, 100), 200);
}

TEST(what_is_taken_and_not_given_back_is_noticed)
{
	check_right(pipe_made_and_closed);
	check_wrong(pipe_leaked, "was not closed");
	check_wrong(closed_twice, "which was closed");
	check_wrong(used_after_close, "which was closed");
	check_wrong(closed_the_callers, "which is the caller's");
	check_wrong(mapping_leaked, "not unmapped");
	check_wrong(mapping_of_another_size, "unmap of 200 bytes where 100 are mapped");
}

/* A pipe without a reader. */
static int broken_pipe(struct sim *sim)
{
	int ends[2];

	sim_pipe_pair(sim, ends, O_NONBLOCK);
	sim_close_borrowed(sim, ends[0]);
	return ends[1];
}

static void write_broken(struct sim *sim)
{
	sim->kernel.write(&sim->kernel, broken_pipe(sim), "a", 1, FID_OWN_OFFSET, 0);
}

static void write_broken_without_signal(struct sim *sim)
{
	CHECK_EQUAL(sim->kernel.write(&sim->kernel, broken_pipe(sim), "a", 1, FID_OWN_OFFSET,
				      FID_WRITE_NOSIGNAL),
		    -EPIPE);
}

static void write_broken_held(struct sim *sim)
{
	struct fid_sigpipe sigpipe;

	sim->kernel.sigpipe_hold(&sim->kernel, &sigpipe);
	CHECK_EQUAL(
		sim->kernel.write(&sim->kernel, broken_pipe(sim), "a", 1, FID_OWN_OFFSET, 0),
		-EPIPE);
	sim->kernel.sigpipe_release(&sim->kernel, &sigpipe, true);
}

static void write_broken_not_taken(struct sim *sim)
{
	struct fid_sigpipe sigpipe;

	sim->kernel.sigpipe_hold(&sim->kernel, &sigpipe);
	sim->kernel.write(&sim->kernel, broken_pipe(sim), "a", 1, FID_OWN_OFFSET, 0);
	sim->kernel.sigpipe_release(&sim->kernel, &sigpipe, false);
}

static void held_for_ever(struct sim *sim)
{
	struct fid_sigpipe sigpipe;

	sim->kernel.sigpipe_hold(&sim->kernel, &sigpipe);
}

static void held_twice(struct sim *sim)
{
	struct fid_sigpipe sigpipe;

	sim->kernel.sigpipe_hold(&sim->kernel, &sigpipe);
	sim->kernel.sigpipe_hold(&sim->kernel, &sigpipe);
}

static void taken_without_reason(struct sim *sim)
{
	struct fid_sigpipe sigpipe;

	sim->kernel.sigpipe_hold(&sim->kernel, &sigpipe);
	sim->kernel.sigpipe_release(&sim->kernel, &sigpipe, true);
}

static void callers_own_is_kept(struct sim *sim)
{
	sim->sigpipe_blocked = sim->sigpipe_blocked_first = true;
	sim->sigpipe_pending = sim->sigpipe_pending_first = true;
	write_broken_held(sim);
}

/* A blocking write that has moved some bytes when the reader goes away. */
static void write_breaks_half_way(struct sim *sim, bool held)
{
	static unsigned char bytes[100000];
	struct fid_sigpipe sigpipe = {0};
	int sink = sim_sink(sim, SIM_FIFO, 0);

	sim_object(sim, sink)->consumer.bytes_left = 0;
	sim_object(sim, sink)->consumer.end = SIM_END_CLOSE;
	sim_object(sim, sink)->consumer.next_ns = sim->now_ns + 1000000;
	if (held)
		sim->kernel.sigpipe_hold(&sim->kernel, &sigpipe);
	CHECK_EQUAL(
		sim->kernel.write(&sim->kernel, sink, bytes, sizeof(bytes), FID_OWN_OFFSET, 0),
		65536);
	if (held) {
		CHECK(sim->sigpipe_pending);
		sim->kernel.sigpipe_release(&sim->kernel, &sigpipe, true);
	}
}

static void write_breaks_half_way_held(struct sim *sim)
{
	write_breaks_half_way(sim, true);
}

static void write_breaks_half_way_open(struct sim *sim)
{
	write_breaks_half_way(sim, false);
}

TEST(a_sigpipe_that_reaches_the_caller_is_noticed)
{
	check_right(write_breaks_half_way_held);
	check_wrong(write_breaks_half_way_open, "SIGPIPE of write reached the caller");
	check_right(write_broken_without_signal);
	check_right(write_broken_held);
	check_right(callers_own_is_kept);
	check_wrong(write_broken, "SIGPIPE of write reached the caller");
	check_wrong(write_broken_not_taken, "reached the caller when it was let through");
	check_wrong(held_for_ever, "still held back");
	check_wrong(held_twice, "held back twice");
	check_wrong(taken_without_reason, "although no call can have raised it");
}

static void read_that_is_woken(struct sim *sim)
{
	char byte;
	int source = sim_source(sim, SIM_FIFO, 0, 1, SIM_END_CLOSE);

	sim_object(sim, source)->producer.next_ns = sim->now_ns + 1000000;
	CHECK_EQUAL(sim->kernel.read(&sim->kernel, source, &byte, 1, FID_OWN_OFFSET), 1);
	CHECK_EQUAL(sim->kernel.read(&sim->kernel, source, &byte, 1, FID_OWN_OFFSET), 0);
}

static void read_for_ever(struct sim *sim)
{
	char byte;
	int source = sim_source(sim, SIM_FIFO, 0, 0, SIM_END_IDLE);

	sim->kernel.read(&sim->kernel, source, &byte, 1, FID_OWN_OFFSET);
}

static void poll_for_ever(struct sim *sim)
{
	struct pollfd wait = {.fd = sim_source(sim, SIM_TCP, 0, 0, SIM_END_IDLE),
			      .events = POLLIN};

	sim->kernel.poll(&sim->kernel, &wait, 1, -1);
}

static void poll_that_ends(struct sim *sim)
{
	struct pollfd wait = {.fd = sim_source(sim, SIM_TCP, 0, 0, SIM_END_IDLE),
			      .events = POLLIN};
	uint64_t before = sim->now_ns;

	CHECK_EQUAL(sim->kernel.poll(&sim->kernel, &wait, 1, 20), 0);
	CHECK(sim->now_ns >= before + 20000000);
}

static void sleep_where_none_is_allowed(struct sim *sim)
{
	char byte;
	int source = sim_source(sim, SIM_FIFO, 0, 1, SIM_END_CLOSE);

	sim->no_sleep = true;
	sim_object(sim, source)->producer.next_ns = sim->now_ns + 1000000;
	sim->kernel.read(&sim->kernel, source, &byte, 1, FID_OWN_OFFSET);
}

TEST(a_sleep_without_end_is_noticed)
{
	check_right(read_that_is_woken);
	check_right(poll_that_ends);
	check_wrong(read_for_ever, "deadlock: read sleeps");
	check_wrong(poll_for_ever, "deadlock: poll sleeps");
	check_wrong(sleep_where_none_is_allowed, "read sleeps, which it must not");
}

/* A splice from a blocking socket that has nothing yet, into a pipe. */
static void splice_sleeps(struct sim *sim, int pipe)
{
	int source = sim_source(sim, SIM_TCP, 0, 10, SIM_END_CLOSE);
	struct fid_sigpipe sigpipe;

	sim_object(sim, source)->producer.next_ns = sim->now_ns + 1000000;
	sim->kernel.sigpipe_hold(&sim->kernel, &sigpipe);
	CHECK_EQUAL(sim->kernel.splice(&sim->kernel, source, NULL, pipe, NULL, 10,
				       SPLICE_F_NONBLOCK),
		    10);
	sim->kernel.sigpipe_release(&sim->kernel, &sigpipe, false);
}

static void splice_sleeps_on_shared(struct sim *sim)
{
	splice_sleeps(sim, sim_sink(sim, SIM_FIFO, 0));
}

static void splice_sleeps_on_private(struct sim *sim)
{
	int ends[2];

	sim->kernel.pipe(&sim->kernel, ends);
	splice_sleeps(sim, ends[1]);
	sim->kernel.close(&sim->kernel, ends[0]);
	sim->kernel.close(&sim->kernel, ends[1]);
}

TEST(a_sleep_on_a_pipe_that_others_share_is_noticed)
{
	check_right(splice_sleeps_on_private);
	check_wrong(splice_sleeps_on_shared, "holds the lock of a pipe that others share");
}

static void spin(struct sim *sim)
{
	char byte;
	int source = sim_source(sim, SIM_FIFO, O_NONBLOCK, 0, SIM_END_IDLE);

	for (int i = 0; i < SIM_IDLE_CALLS_MAX + 1; i++)
		sim->kernel.read(&sim->kernel, source, &byte, 1, FID_OWN_OFFSET);
}

static void work(struct sim *sim)
{
	char byte;
	int source = sim_regular(sim, 1000, O_RDONLY);

	for (int i = 0; i < 1000; i++)
		sim->kernel.read(&sim->kernel, source, &byte, 1, FID_OWN_OFFSET);
}

TEST(calls_without_end_that_move_nothing_are_noticed)
{
	check_right(work);
	check_wrong(spin, "spinning");
}

/* ---- Worlds ---- */

static struct fid_facts probed(struct sim_world world)
{
	struct sim *sim = sim_new();
	struct fid_facts facts;

	sim_start(sim, 3, &world);
	fid_kernel_probe(&sim->kernel, &facts);
	sim_finish(sim);
	sim_free(sim);
	return facts;
}

TEST(probe_finds_what_each_world_allows)
{
	struct fid_facts facts = probed((struct sim_world){0});

	CHECK_EQUAL(facts.splice, 0);
	CHECK_EQUAL(facts.tee, 0);
	CHECK_EQUAL(facts.vmsplice, 0);
	CHECK_EQUAL(facts.vmsplice_gift, 0);
	CHECK_EQUAL(facts.sendfile, 0);
	CHECK_EQUAL(facts.copy_file_range, 0);
	CHECK_EQUAL(facts.write_nosignal, 0);
	CHECK_EQUAL(facts.pipe, 0);
	CHECK_EQUAL(facts.pipe_grow, 0);
	CHECK_EQUAL(facts.vmsplice_meaning, FID_VMSPLICE_BY_REFERENCE);
	CHECK_EQUAL(facts.vmsplice_fresh, 1);
	CHECK_EQUAL(facts.splice_empty_is_eof, 0);
	CHECK_EQUAL(facts.pipe_bytes, 65536);
	CHECK_EQUAL(facts.pipe_bytes_grown, 1 << 20);

	facts = probed((struct sim_world){.splice = -EPERM, .tee = -ENOSYS});
	CHECK_EQUAL(facts.splice, -EPERM);
	CHECK_EQUAL(facts.tee, -ENOSYS);
	facts = probed((struct sim_world){.sendfile = -ENOSYS, .copy_file_range = -EPERM});
	CHECK_EQUAL(facts.sendfile, -ENOSYS);
	CHECK_EQUAL(facts.copy_file_range, -EPERM);
	facts = probed(
		(struct sim_world){.vmsplice_copies = true, .vmsplice_gift = -EOPNOTSUPP});
	CHECK_EQUAL(facts.vmsplice, 0);
	CHECK_EQUAL(facts.vmsplice_meaning, FID_VMSPLICE_COPIES);
	CHECK_EQUAL(facts.vmsplice_gift, -EOPNOTSUPP);
	facts = probed((struct sim_world){.vmsplice = -ENOSYS, .empty_pipe_says_zero = true});
	CHECK_EQUAL(facts.vmsplice, -ENOSYS);
	CHECK_EQUAL(facts.vmsplice_meaning, FID_VMSPLICE_REFUSED);
	CHECK_EQUAL(facts.splice_empty_is_eof, 1);
	facts = probed((struct sim_world){.pipe = -EMFILE});
	CHECK_EQUAL(facts.pipe, -EMFILE);
	CHECK_EQUAL(facts.splice, 0);
	facts = probed((struct sim_world){.pipe_grow = -EPERM, .no_write_nosignal = true});
	CHECK_EQUAL(facts.pipe_grow, -EPERM);
	CHECK_EQUAL(facts.pipe_bytes_grown, 65536);
	CHECK_EQUAL(facts.write_nosignal, -EOPNOTSUPP);
	facts = probed((struct sim_world){.slots_budget = 1});
	CHECK_EQUAL(facts.pipe_bytes, 8192);
	CHECK_EQUAL(facts.pipe_grow, -EPERM);
}

/* Whatever call of the probe fails, it comes back and gives back what it took. */
TEST(probe_survives_the_failure_of_every_call)
{
	static const int errors[] = {-EPERM, -ENOSYS, -EMFILE, -EINVAL, -EAGAIN, -ENOMEM};
	struct sim *sim = sim_new();
	struct fid_facts facts;
	uint64_t calls;

	sim_start(sim, 3, NULL);
	fid_kernel_probe(&sim->kernel, &facts);
	calls = sim->calls;
	for (uint64_t fail_at = 1; fail_at <= calls; fail_at++) {
		for (unsigned i = 0; i < 2 * sizeof(errors) / sizeof(errors[0]); i++) {
			sim_start(sim, 3, NULL);
			sim->fail_at = fail_at;
			sim->fail_error = errors[i / 2];
			sim->fail_sticky = i % 2;
			sim->no_sleep = sim->no_poll_sleep = true;
			fid_kernel_probe(&sim->kernel, &facts);
			sim_finish(sim);
		}
	}
	sim_free(sim);
}
