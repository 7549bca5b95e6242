/* SPDX-License-Identifier: MIT */
/*
 * Single cases on the simulated kernel: the hazards that storms meet only by chance, each with
 * exact numbers.
 */
#include "sim.h"
#include "test.h"
#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { KIB = 1 << 10, MS = 1000000, FUSE = 0x65735546 };

static const enum sim_kind streams[] = {SIM_FIFO, SIM_TCP, SIM_UNIX, SIM_TERMINAL};

enum { STREAMS = sizeof(streams) / sizeof(streams[0]) };

static struct fid_pool *pool_of(struct sim *sim)
{
	struct fid_pool *pool;

	CHECK_EQUAL(fid_pool_new_on(&sim->kernel, &pool, NULL), 0);
	return pool;
}

/* A transfer between a file and a file, to be changed by the test. */
static struct transfer transfer_of(struct sim *sim, const struct sim_world *world)
{
	struct transfer transfer = {.sim = sim};

	sim_start(sim, 11, world);
	transfer.pool = pool_of(sim);
	return transfer;
}

static void from_file(struct transfer *transfer, uint64_t bytes, int flags)
{
	transfer->source_kind = SIM_REGULAR;
	transfer->source = sim_regular(transfer->sim, bytes, O_RDONLY | flags);
	transfer->available = bytes;
}

static void from_stream(struct transfer *transfer, enum sim_kind kind, uint64_t bytes,
			int flags, enum sim_end end)
{
	transfer->source_kind = kind;
	transfer->source = sim_source(transfer->sim, kind, flags, bytes, end);
	transfer->available = bytes;
}

static void to_file(struct transfer *transfer, int flags)
{
	transfer->sink_kind = SIM_REGULAR;
	transfer->sink = sim_regular(transfer->sim, 0, O_RDWR | flags);
}

static void to_stream(struct transfer *transfer, enum sim_kind kind, int flags)
{
	transfer->sink_kind = kind;
	transfer->sink = kind == SIM_NULL ? sim_device(transfer->sim, kind, O_WRONLY)
					  : sim_sink(transfer->sim, kind, flags);
}

static void end(struct transfer *transfer)
{
	transfer_end(transfer);
	fid_pool_free(transfer->pool);
	sim_finish(transfer->sim);
}

static void carry_out(struct transfer *transfer)
{
	CHECK_EQUAL(transfer_begin(transfer), 0);
	transfer_finish(transfer);
	end(transfer);
}

/* ---- Ends ---- */

TEST(a_sink_that_dies_ends_a_flow_whose_source_is_idle)
{
	struct sim *sim = sim_new();

	for (int a = 0; a < STREAMS; a++)
		for (int b = 0; b < STREAMS; b++)
			for (int by_run = 0; by_run < 2; by_run++) {
				struct transfer transfer = transfer_of(sim, NULL);
				struct sim_object *far;

				from_stream(&transfer, streams[a], 20000, O_NONBLOCK,
					    SIM_END_IDLE);
				to_stream(&transfer, streams[b], O_NONBLOCK);
				transfer.faults = FAULT_SINK;
				far = sim_far(sim, transfer.sink);
				far->consumer.bytes_left = 20000;
				far->consumer.end = SIM_END_CLOSE;
				CHECK_EQUAL(transfer_begin(&transfer), 0);
				if (by_run)
					transfer_run(&transfer, -1);
				else
					transfer_finish(&transfer);
				CHECK_EQUAL(transfer.last.bytes_out, 20000);
				CHECK(transfer.result < 0);
				CHECK_EQUAL(transfer.last.error_side, FID_SIDE_SINK);
				end(&transfer);
			}
	sim_free(sim);
}

/* Time stamps, MSG_ZEROCOPY and IP_RECVERR: POLLERR, and SO_ERROR is 0. */
TEST(a_socket_whose_error_queue_has_news_is_neither_dead_nor_ready)
{
	struct sim *sim = sim_new();

	for (int a = 0; a < STREAMS; a++)
		for (int how = 0; how < 16; how++) {
			struct transfer transfer = transfer_of(sim, NULL);
			struct sim_object *source;
			int flags = how & 1 ? O_NONBLOCK : 0;

			from_stream(&transfer, streams[a], 50000, flags, SIM_END_CLOSE);
			to_stream(&transfer, SIM_TCP, flags);
			source = sim_object(sim, transfer.source);
			source->producer.next_ns = sim->now_ns + 500 * MS;
			source->noisy = how & 2 && streams[a] == SIM_TCP;
			sim_object(sim, transfer.sink)->noisy = !source->noisy || how & 4;
			transfer.options.flags = flags ? 0 : FID_NOWAIT;
			CHECK_EQUAL(transfer_begin(&transfer), 0);
			if (how & 8) {
				CHECK_EQUAL(transfer_run(&transfer, -1), 0);
			} else {
				while (!transfer.is_over) {
					transfer_step(&transfer);
					/* A loop that backs off, since poll tells nothing. */
					if (transfer.result == FID_WAIT)
						sim_wait(sim, NULL, 0, 1);
					transfer.idle_steps = 0;
				}
				CHECK_EQUAL(transfer.result, 0);
			}
			CHECK_EQUAL(transfer.last.bytes_out, 50000);
			CHECK_EQUAL(transfer.last.demotions, 0);
			end(&transfer);
		}
	sim_free(sim);
}

/* The same for a small copy, which has not looked what its sink is. */
TEST(a_small_copy_to_a_socket_whose_error_queue_has_news_goes_on)
{
	struct sim *sim = sim_new();

	for (int receipt = 0; receipt < 2; receipt++) {
		struct transfer transfer = transfer_of(sim, NULL);

		from_stream(&transfer, SIM_FIFO, 10, O_NONBLOCK, SIM_END_CLOSE);
		to_stream(&transfer, SIM_TCP, O_NONBLOCK);
		sim_object(sim, transfer.source)->producer.bytes_max = 5;
		sim_object(sim, transfer.source)->producer.next_ns = sim->now_ns + 500 * MS;
		sim_object(sim, transfer.sink)->noisy = true;
		transfer.options.bytes_max = 100;
		CHECK_EQUAL(transfer_copy(&transfer, receipt), 10);
		fid_pool_free(transfer.pool);
		sim_finish(sim);
	}
	sim_free(sim);
}

TEST(a_reset_source_is_the_sources_fault_after_its_last_byte)
{
	struct sim *sim = sim_new();

	for (int flags = 0; flags <= O_NONBLOCK; flags += O_NONBLOCK) {
		struct transfer transfer = transfer_of(sim, NULL);

		from_stream(&transfer, SIM_TCP, 300 * KIB, flags, SIM_END_RESET);
		to_file(&transfer, 0);
		transfer.faults = FAULT_SOURCE;
		CHECK_EQUAL(transfer_begin(&transfer), 0);
		CHECK_EQUAL(transfer_finish(&transfer), -ECONNRESET);
		CHECK_EQUAL(transfer.last.bytes_out, 300 * KIB);
		CHECK_EQUAL(transfer.last.error_side, FID_SIDE_SOURCE);
		end(&transfer);
	}
	sim_free(sim);
}

/* What the sink has taken is out; what lies in the private pipe is held and salvaged. */
TEST(a_full_disk_leaves_the_rest_to_salvage)
{
	struct sim *sim = sim_new();
	struct transfer transfer = transfer_of(sim, NULL);

	from_stream(&transfer, SIM_TCP, 600 * KIB, 0, SIM_END_CLOSE);
	to_file(&transfer, 0);
	sim_object(sim, transfer.source)->queue_bytes_max = 256 * KIB;
	sim_object(sim, transfer.source)->producer.bytes_max = 256 * KIB;
	sim_object(sim, transfer.source)->producer.delay_ns = 0;
	sim_object(sim, transfer.sink)->room = 301 * KIB;
	transfer.faults = FAULT_SINK;
	transfer.options.routes = FID_ROUTE(FID_SPLICE_PIPE);
	CHECK_EQUAL(transfer_begin(&transfer), 0);
	CHECK_EQUAL(transfer_finish(&transfer), -ENOSPC);
	CHECK_EQUAL(transfer.last.bytes_out, 301 * KIB);
	CHECK(transfer.last.bytes_held > 0);
	CHECK_EQUAL(transfer.last.error_side, FID_SIDE_SINK);
	CHECK_EQUAL(transfer.last.error_call, FID_CALL_SPLICE);
	end(&transfer);
	CHECK(transfer.salvaged > 0);
	sim_free(sim);
}

/* splice to a pipe waits for room before it looks whether the file has ended. */
TEST(a_file_that_just_fills_a_pipe_nobody_reads_is_done)
{
	struct sim *sim = sim_new();

	for (int flags = 0; flags <= O_NONBLOCK; flags += O_NONBLOCK) {
		struct transfer transfer = transfer_of(sim, NULL);
		int ends[2];

		from_file(&transfer, 64 * KIB, 0);
		sim_pipe_pair(sim, ends, flags);
		transfer.sink_kind = SIM_FIFO;
		transfer.sink = ends[1];
		CHECK_EQUAL(transfer_begin(&transfer), 0);
		CHECK_EQUAL(transfer_step(&transfer), FID_DONE);
		end(&transfer);
	}
	sim_free(sim);
}

/* ---- Time ---- */

TEST(a_run_that_times_out_is_intact_and_goes_on)
{
	struct sim *sim = sim_new();

	for (int a = 0; a < STREAMS; a++)
		for (int flags = 0; flags <= O_NONBLOCK; flags += O_NONBLOCK) {
			struct transfer transfer = transfer_of(sim, NULL);
			struct sim_object *source;
			uint64_t begun;

			from_stream(&transfer, streams[a], 50000, flags, SIM_END_CLOSE);
			to_file(&transfer, 0);
			source = sim_object(sim, transfer.source);
			source->producer.next_ns = sim->now_ns + 500 * MS;
			CHECK_EQUAL(transfer_begin(&transfer), 0);
			begun = sim->now_ns;
			CHECK_EQUAL(transfer_run(&transfer, 100), -ETIMEDOUT);
			CHECK(sim->now_ns >= begun + 100 * MS);
			CHECK(sim->now_ns <= begun + 102 * MS);
			CHECK_EQUAL(transfer.last.error, 0);
			CHECK_EQUAL(transfer_run(&transfer, 0), -ETIMEDOUT);
			CHECK_EQUAL(transfer_run(&transfer, -1), 0);
			CHECK_EQUAL(transfer.last.bytes_out, 50000);
			end(&transfer);
		}
	sim_free(sim);
}

TEST(an_interruption_is_told_once_and_only_when_asked_for)
{
	struct sim *sim = sim_new();

	for (int told = 0; told < 2; told++) {
		struct transfer transfer =
			transfer_of(sim, &(struct sim_world){.signal_every_ns = 1000 * MS});

		from_stream(&transfer, SIM_TCP, 50000, O_NONBLOCK, SIM_END_CLOSE);
		to_file(&transfer, 0);
		transfer.options.flags = told ? FID_INTERRUPTIBLE : 0;
		sim_object(sim, transfer.source)->producer.next_ns = sim->now_ns + 500 * MS;
		sim->signal_ns = sim->now_ns + 100 * MS;
		CHECK_EQUAL(transfer_begin(&transfer), 0);
		if (told) {
			CHECK_EQUAL(transfer_run(&transfer, -1), -EINTR);
			sim->signal_ns = SIM_NEVER;
		}
		CHECK_EQUAL(transfer_run(&transfer, -1), 0);
		end(&transfer);
	}
	sim_free(sim);
}

/*
 * A flow with FID_NOWAIT on blocking descriptors, where nothing is ready until later. The call
 * of number at, counted once it waits, is interrupted. Returns 0 if there is no such flow.
 */
static uint64_t interrupt_at(struct sim *sim, struct transfer *transfer, uint64_t at)
{
	uint64_t waits_from;

	if (transfer_begin(transfer) != 0)
		return 0;
	while (transfer_step(transfer) == FID_MORE)
		;
	CHECK_EQUAL(transfer->result, FID_WAIT);
	waits_from = sim->calls;
	sim->fail_at = at ? waits_from + at : 0;
	sim->fail_error = -EINTR;
	for (int i = 0; i < 4; i++)
		transfer_step(transfer);
	sim->fail_at = 0;
	transfer_finish(transfer);
	CHECK_EQUAL(transfer->result, 0);
	return waits_from;
}

/* From a stream that is empty for half a second, or into one that is full for so long. */
static struct transfer slow_transfer(struct sim *sim, enum sim_kind kind, bool is_sink,
				     uint32_t way, uint32_t flags)
{
	struct transfer transfer = transfer_of(sim, NULL);
	uint64_t later = sim->now_ns + 500 * MS;

	transfer.options.flags = FID_NOWAIT | flags;
	transfer.options.routes = way;
	transfer.faults = FAULT_ROUTES;
	if (is_sink) {
		from_file(&transfer, 300 * KIB, 0);
		to_stream(&transfer, kind, 0);
		sim_far(sim, transfer.sink)->consumer.next_ns = later;
		return transfer;
	}
	from_stream(&transfer, kind, 50000, 0, SIM_END_CLOSE);
	sim_object(sim, transfer.source)->producer.next_ns = later;
	if (way == FID_ROUTE(FID_SPLICE))
		to_stream(&transfer, SIM_FIFO, 0);
	else
		to_file(&transfer, 0);
	return transfer;
}

/*
 * poll(2) with a time-out of 0 answers EINTR when a signal is pending. That is no readiness: a
 * call on a blocking descriptor after it could sleep for ever.
 */
TEST(a_poll_that_is_interrupted_has_found_nothing_ready)
{
	static const uint32_t ways[] = {0, FID_ROUTE(FID_READ_WRITE),
					FID_ROUTE(FID_SPLICE_PIPE), FID_ROUTE(FID_SPLICE)};
	struct sim *sim = sim_new();
	uint8_t log[1024];
	unsigned polls = 0;

	for (int i = 0; i < STREAMS * 4 * 2 * 2; i++) {
		enum sim_kind kind = streams[i % STREAMS];
		uint32_t way = ways[i / STREAMS % 4];
		bool is_sink = i / STREAMS / 4 % 2;
		uint32_t flags = i / STREAMS / 4 / 2 ? FID_INTERRUPTIBLE : 0;
		struct transfer transfer = slow_transfer(sim, kind, is_sink, way, flags);
		uint64_t waits_from;

		/* What is called while it waits is the same at each try. */
		memset(log, 0, sizeof(log));
		sim->log = log;
		sim->log_size = sizeof(log);
		waits_from = interrupt_at(sim, &transfer, 0);
		sim->log = NULL;
		end(&transfer);
		for (uint64_t at = 1; waits_from && at < 16; at++) {
			CHECK(waits_from + at < sizeof(log));
			if (log[waits_from + at - 1] != SIM_POLL)
				continue;
			transfer = slow_transfer(sim, kind, is_sink, way, flags);
			CHECK_EQUAL(interrupt_at(sim, &transfer, at), waits_from);
			polls += sim->fail_call == SIM_POLL;
			end(&transfer);
		}
	}
	CHECK(polls > 50);
	sim_free(sim);
}

/* ---- Pages ---- */

/* H1: delivers a file to a sink whose peer reads only after the file was overwritten. */
static uint64_t changed_bytes(struct sim *sim, enum sim_kind kind, uint32_t options)
{
	struct transfer transfer = transfer_of(sim, NULL);
	struct sim_object *far;
	uint64_t changed;

	from_file(&transfer, 40000, 0);
	to_stream(&transfer, kind, O_NONBLOCK);
	far = sim_far(sim, transfer.sink);
	far->consumer.next_ns = SIM_NEVER;
	far->consumer.is_there = false;
	transfer.options.flags = options;
	CHECK_EQUAL(transfer_begin(&transfer), 0);
	CHECK_EQUAL(transfer_finish(&transfer), 0);
	CHECK_EQUAL(transfer.last.stable, options & FID_STABLE ? 1 : 0);
	sim_overwrite(sim, transfer.source, 1000, 5000);
	far->consumer.is_there = true;
	sim_peer_wake(sim, far);
	sim_settle(sim);
	changed = sim->changed;
	end(&transfer);
	return changed;
}

TEST(what_was_delivered_changes_without_stable_and_does_not_with_it)
{
	static const enum sim_kind kinds[] = {SIM_FIFO, SIM_TCP, SIM_UNIX};
	struct sim *sim = sim_new();

	for (int i = 0; i < 3; i++) {
		CHECK_EQUAL(changed_bytes(sim, kinds[i], 0), 5000);
		CHECK_EQUAL(changed_bytes(sim, kinds[i], FID_STABLE), 0);
	}
	sim_free(sim);
}

TEST(a_source_that_changed_meanwhile_is_reported)
{
	struct sim *sim = sim_new();

	for (int changes = 0; changes < 2; changes++) {
		struct transfer transfer = transfer_of(sim, NULL);

		from_file(&transfer, 300 * KIB, 0);
		to_stream(&transfer, SIM_FIFO, O_NONBLOCK);
		CHECK_EQUAL(transfer_begin(&transfer), 0);
		transfer_step(&transfer);
		if (changes)
			sim_overwrite(sim, transfer.source, 0, 10);
		transfer_wait(&transfer);
		CHECK_EQUAL(transfer_finish(&transfer), 0);
		CHECK_EQUAL(transfer.last.source_changed, changes);
		end(&transfer);
	}
	sim_free(sim);
}

/* ---- Kernels ---- */

/* H5: 200 segments of 100 bytes fill a pipe of 16 slots 13 times, and none is lost. */
TEST(a_pipe_that_is_full_of_small_segments_loses_none)
{
	struct sim *sim = sim_new();

	for (int flags = 0; flags <= O_NONBLOCK; flags += O_NONBLOCK) {
		struct transfer transfer =
			transfer_of(sim, &(struct sim_world){.pipe_grow = -EPERM});

		from_stream(&transfer, SIM_TCP, 20000, flags, SIM_END_CLOSE);
		sim_object(sim, transfer.source)->segment_bytes = 100;
		to_stream(&transfer, SIM_FIFO, flags);
		transfer.options.routes = FID_ROUTE(FID_SPLICE) | FID_ROUTE(FID_SPLICE_PIPE);
		carry_out(&transfer);
		CHECK_EQUAL(transfer.result, 0);
	}
	sim_free(sim);
}

/* H6: with one pipe for three flows, the others copy and all of them end. */
TEST(flows_that_find_no_pipe_in_the_pool_copy)
{
	enum { FLOWS = 3 };
	struct sim *sim = sim_new();
	struct fid_pool_options options = {.size = sizeof(options), .pipes_max = 1};
	struct transfer transfers[FLOWS];
	struct fid_pool_stats stats;
	struct fid_pool *pool;
	unsigned over = 0;
	uint64_t copied = 0;

	sim_start(sim, 11, NULL);
	CHECK_EQUAL(fid_pool_new_on(&sim->kernel, &pool, &options), 0);
	for (int i = 0; i < FLOWS; i++) {
		transfers[i] = (struct transfer){.sim = sim, .pool = pool, .shares_pool = true};
		from_file(&transfers[i], 900 * KIB, 0);
		transfers[i].options.routes = FID_ROUTE(FID_SPLICE_PIPE) |
					      FID_ROUTE(FID_READ_WRITE);
		to_stream(&transfers[i], SIM_TCP, O_NONBLOCK);
		CHECK_EQUAL(transfer_begin(&transfers[i]), 0);
	}
	while (over < FLOWS) {
		struct pollfd wait[2 * FLOWS];

		over = 0;
		for (int i = 0; i < FLOWS; i++) {
			if (!transfers[i].is_over)
				transfer_step(&transfers[i]);
			over += transfers[i].is_over;
			wait[2 * i] = transfers[i].wait[0];
			wait[2 * i + 1] = transfers[i].wait[1];
		}
		if (over < FLOWS)
			sim_wait(sim, wait, 2 * FLOWS, 1);
		for (int i = 0; i < FLOWS; i++)
			transfers[i].idle_steps = 0;
	}
	for (int i = 0; i < FLOWS; i++) {
		CHECK_EQUAL(transfers[i].result, 0);
		copied += transfers[i].last.by_class[FID_USER_COPY];
		transfer_end(&transfers[i]);
	}
	CHECK_EQUAL(fid_pool_stats(pool, &stats), 0);
	CHECK(stats.pipes_refused > 0);
	CHECK(copied > 0);
	fid_pool_free(pool);
	sim_finish(sim);
	sim_free(sim);
}

/* H9: 10,000 bytes behind an st_size of 100, by each way that there is. */
TEST(a_wrong_size_ends_no_transfer_early)
{
	struct sim *sim = sim_new();

	for (int method = 0; method < FID_READ_WRITE; method++)
		for (int stream = 0; stream < 2; stream++) {
			struct transfer transfer = transfer_of(sim, NULL);
			struct sim_object *source;

			from_file(&transfer, 100000, 0);
			source = sim_object(sim, transfer.source);
			source->size_told = 30000;
			source->early_end = true;
			source->magic = FUSE;
			if (stream)
				to_stream(&transfer, SIM_TCP, O_NONBLOCK);
			else
				to_file(&transfer, 0);
			transfer.options.routes = FID_ROUTE(method) | FID_ROUTE(FID_READ_WRITE);
			carry_out(&transfer);
			CHECK_EQUAL(transfer.result, 0);
			CHECK_EQUAL(transfer.last.bytes_out, 100000);
		}
	sim_free(sim);
}

/*
 * A bounded run looks for ways that do not sleep, and may find read and write alone, just after
 * sendfile has said "end of file" too early.
 */
TEST(a_wrong_size_ends_no_transfer_that_goes_on_without_sleeping)
{
	struct sim *sim = sim_new();

	for (uint64_t chunk = 500; chunk < 4000; chunk += 100)
		for (unsigned steps = 1; steps < 4; steps++) {
			const struct sim_world world = {.chunk_bytes_max = chunk};
			struct transfer transfer = transfer_of(sim, &world);
			struct sim_object *source;

			from_file(&transfer, 60000, 0);
			source = sim_object(sim, transfer.source);
			source->size_told = 30000;
			source->early_end = true;
			source->magic = FUSE;
			to_stream(&transfer, SIM_TCP, 0);
			CHECK_EQUAL(transfer_begin(&transfer), 0);
			for (unsigned i = 0; i < steps && !transfer.is_over; i++)
				transfer_step(&transfer);
			if (!transfer.is_over)
				transfer_run(&transfer, 100000);
			CHECK_EQUAL(transfer.result, 0);
			CHECK_EQUAL(transfer.last.bytes_out, 60000);
			end(&transfer);
		}
	sim_free(sim);
}

TEST(an_error_that_splice_hides_is_reported)
{
	struct sim *sim = sim_new();

	for (int stream = 0; stream < 2; stream++) {
		struct transfer transfer = transfer_of(sim, NULL);
		struct sim_object *source;

		from_file(&transfer, 100000, 0);
		source = sim_object(sim, transfer.source);
		source->error_at = 40960;
		source->error = EIO;
		source->hides_error = true;
		source->magic = FUSE;
		transfer.faults = FAULT_SOURCE;
		if (stream)
			to_stream(&transfer, SIM_TCP, O_NONBLOCK);
		else
			to_file(&transfer, 0);
		carry_out(&transfer);
		CHECK_EQUAL(transfer.result, -EIO);
		CHECK_EQUAL(transfer.last.bytes_out, 40960);
		CHECK_EQUAL(transfer.last.error_side, FID_SIDE_SOURCE);
		CHECK_EQUAL(transfer.last.error_call, FID_CALL_READ);
	}
	sim_free(sim);
}

/* H15: every refusal before the first byte is the same news, and the receipt lists them. */
TEST(refusals_before_the_first_byte_are_demotions_and_not_errors)
{
	static const int errors[] = {-EPERM, -ENOSYS, -EOPNOTSUPP, -EINVAL};
	struct sim *sim = sim_new();

	for (int i = 0; i < 4; i++) {
		const struct sim_world world = {
			.splice = errors[i],
			.sendfile = errors[i],
			.copy_file_range = errors[i],
			.reflink = errors[i],
			.no_write_nosignal = true,
		};
		struct transfer transfer = transfer_of(sim, &world);

		from_file(&transfer, 100000, 0);
		to_file(&transfer, 0);
		carry_out(&transfer);
		CHECK_EQUAL(transfer.result, 0);
		CHECK_EQUAL(transfer.last.by_class[FID_USER_COPY], 100000);
		CHECK(transfer.last.demotions >= 3);
		for (uint32_t n = 0; n < transfer.last.demotions; n++) {
			CHECK_EQUAL(transfer.last.demotion[n].error, errors[i]);
			CHECK_EQUAL(transfer.last.demotion[n].at_bytes, 0);
		}
	}
	sim_free(sim);
}

/* The sink takes some bytes by splice and then no more: what the pipe holds goes first. */
TEST(a_refusal_in_the_middle_loses_nothing)
{
	struct sim *sim = sim_new();

	for (uint64_t after = 1; after < 200000; after += 7777) {
		struct transfer transfer = transfer_of(sim, NULL);

		from_stream(&transfer, SIM_TCP, 300 * KIB, O_NONBLOCK, SIM_END_CLOSE);
		to_stream(&transfer, SIM_UNIX, O_NONBLOCK);
		sim_object(sim, transfer.source)->producer.delay_ns = 0;
		sim_object(sim, transfer.sink)->refuses_from = after;
		carry_out(&transfer);
		CHECK_EQUAL(transfer.result, 0);
		CHECK_EQUAL(transfer.last.bytes_out, 300 * KIB);
	}
	sim_free(sim);
}

/* O_APPEND: the kernel refuses everything but write, and the sink's flags stay. */
TEST(a_sink_with_o_append_is_appended_to)
{
	struct sim *sim = sim_new();
	struct transfer transfer = transfer_of(sim, NULL);

	from_file(&transfer, 100000, 0);
	transfer.sink_kind = SIM_REGULAR;
	transfer.sink = sim_regular(sim, 3000, O_WRONLY | O_APPEND);
	carry_out(&transfer);
	CHECK_EQUAL(transfer.result, 0);
	CHECK_EQUAL(transfer.last.by_class[FID_USER_COPY], 100000);
	CHECK_EQUAL(transfer.last.demotions, 0);
	CHECK_EQUAL(sim_object(sim, transfer.sink)->content.size, 103000);
	sim_free(sim);
}

TEST(an_aligned_file_with_o_direct_goes_anywhere)
{
	struct sim *sim = sim_new();

	for (int method = 0; method < FID_ROUTES; method++)
		for (int sink = 0; sink < 4; sink++) {
			struct transfer transfer = transfer_of(sim, NULL);

			from_file(&transfer, 300 * KIB + 512, O_DIRECT);
			transfer.options.routes = FID_ROUTE(method) | FID_ROUTE(FID_READ_WRITE);
			if (sink == 0)
				to_file(&transfer, 0);
			else if (sink == 1)
				to_file(&transfer, O_DIRECT);
			else
				to_stream(&transfer, sink == 2 ? SIM_FIFO : SIM_TCP, 0);
			carry_out(&transfer);
			CHECK_EQUAL(transfer.result, 0);
		}
	sim_free(sim);
}

/* gVisor says 0 for an empty pipe; a flow that believed it would end here. */
TEST(an_empty_pipe_that_says_zero_is_not_the_end)
{
	const struct sim_world world = {
		.empty_pipe_says_zero = true,
		.no_write_nosignal = true,
		.copy_file_range = -ENOSYS,
	};
	struct sim *sim = sim_new();

	for (int nowait = 0; nowait < 2; nowait++)
		for (int flags = 0; flags <= O_NONBLOCK; flags += O_NONBLOCK) {
			struct transfer transfer = transfer_of(sim, &world);

			from_stream(&transfer, SIM_FIFO, 300 * KIB, flags, SIM_END_CLOSE);
			to_stream(&transfer, SIM_FIFO, flags);
			transfer.options.flags = nowait ? FID_NOWAIT : 0;
			carry_out(&transfer);
			CHECK_EQUAL(transfer.result, 0);
		}
	sim_free(sim);
}

/* ---- Signals ---- */

/*
 * A blocking call that has moved some bytes when the sink's peer goes returns their count and
 * has raised the signal as well. Whichever call of a step it is, no signal gets through.
 */
TEST(a_short_count_with_a_signal_behind_it_does_not_reach_the_caller)
{
	static const struct {
		enum fid_method method;
		enum sim_kind source, sink;
	} ways[] = {
		{FID_SENDFILE, SIM_REGULAR, SIM_TCP}, {FID_SENDFILE, SIM_REGULAR, SIM_UNIX},
		{FID_SPLICE_PIPE, SIM_UNIX, SIM_TCP}, {FID_READ_WRITE, SIM_UNIX, SIM_FIFO},
		{FID_READ_WRITE, SIM_FIFO, SIM_FIFO},
	};
	const struct sim_world world = {.chunk_bytes_max = 3000, .no_write_nosignal = true};
	struct sim *sim = sim_new();

	for (int i = 0; i < 5; i++)
		for (uint64_t taken = 0; taken < 100000; taken += 700) {
			struct transfer transfer = transfer_of(sim, &world);
			struct sim_object *far;

			if (ways[i].source == SIM_REGULAR)
				from_file(&transfer, 200000, 0);
			else
				from_stream(&transfer, ways[i].source, 200000, 0,
					    SIM_END_CLOSE);
			to_stream(&transfer, ways[i].sink, 0);
			far = sim_far(sim, transfer.sink);
			far->consumer.bytes_left = taken;
			far->consumer.bytes_max = 700;
			far->consumer.delay_ns = 1000000;
			far->consumer.end = SIM_END_CLOSE;
			far->queue_bytes_max = 2000;
			far->slots = 1;
			transfer.faults = FAULT_SINK;
			transfer.options.routes = FID_ROUTE(ways[i].method);
			CHECK_EQUAL(transfer_begin(&transfer), 0);
			CHECK_EQUAL(transfer_finish(&transfer), -EPIPE);
			end(&transfer);
		}
	sim_free(sim);
}

/* ---- Small and whole ---- */

TEST(a_small_copy_by_limit_is_a_read_and_a_write)
{
	struct sim *sim = sim_new();
	uint8_t log[16] = {0};

	for (int a = 0; a < STREAMS; a++)
		for (int b = 0; b < 2 * STREAMS; b++) {
			struct transfer transfer = transfer_of(sim, NULL);
			bool receipt = b % 2;

			from_stream(&transfer, streams[a], 5000, 0, SIM_END_CLOSE);
			to_stream(&transfer, streams[b / 2], 0);
			sim_object(sim, transfer.source)->producer.bytes_max = 1 << 20;
			sim_peers_run(sim);
			transfer.options.bytes_max = 1;
			sim->log = log;
			sim->log_size = sizeof(log);
			CHECK_EQUAL(transfer_copy(&transfer, receipt), 1);
			sim->log = NULL;
			CHECK_EQUAL(sim->calls, 2);
			CHECK_EQUAL(log[0], SIM_READ);
			CHECK_EQUAL(log[1], SIM_WRITE);
			fid_pool_free(transfer.pool);
			sim_finish(sim);
		}
	sim_free(sim);
}

TEST(a_clone_moves_both_offsets_to_the_end)
{
	struct sim *sim = sim_new();
	struct transfer transfer = transfer_of(sim, &(struct sim_world){.reflinks = true});

	from_file(&transfer, 70000, 0);
	to_file(&transfer, 0);
	carry_out(&transfer);
	CHECK_EQUAL(transfer.result, 0);
	CHECK_EQUAL(transfer.last.by_method[FID_REFLINK], 70000);
	CHECK_EQUAL(transfer.last.calls[FID_REFLINK], 1);
	sim_free(sim);
}

/* A descriptor that stands elsewhere, and a sink that is not empty, are not cloned. */
TEST(only_a_whole_file_into_an_empty_one_is_cloned)
{
	struct sim *sim = sim_new();

	for (int i = 0; i < 4; i++) {
		struct transfer transfer =
			transfer_of(sim, &(struct sim_world){.reflinks = true});

		from_file(&transfer, 70000, 0);
		transfer.sink_kind = SIM_REGULAR;
		transfer.sink = sim_regular(sim, i == 0 ? 10 : 0, O_RDWR);
		if (i == 1) {
			sim->fd[transfer.source - SIM_FD_FIRST].offset = 7;
			transfer.available -= 7;
		}
		if (i == 2)
			sim->fd[transfer.sink - SIM_FD_FIRST].offset = 7;
		if (i == 3)
			transfer.options.bytes_max = 69999;
		carry_out(&transfer);
		CHECK_EQUAL(transfer.result, 0);
		CHECK_EQUAL(transfer.last.by_method[FID_REFLINK], 0);
	}
	sim_free(sim);
}

/* ---- Pace ---- */

TEST(a_paced_flow_takes_what_is_granted_and_not_a_byte_more)
{
	static const uint64_t grants[] = {1, 4096, 100000, 16 << 10, UINT64_MAX};
	struct sim *sim = sim_new();
	struct transfer transfer = transfer_of(sim, &(struct sim_world){.reflinks = true});
	uint64_t granted = 0;

	from_file(&transfer, 300000, 0);
	to_file(&transfer, 0);
	transfer.options.flags = FID_PACED;
	CHECK_EQUAL(transfer_begin(&transfer), 0);
	CHECK_EQUAL(fid_flow_step(transfer.flow, transfer.wait), FID_PAUSED);
	CHECK_EQUAL(fid_flow_run(transfer.flow, 10), FID_PAUSED);
	for (int i = 0; i < 4; i++) {
		granted += grants[i];
		CHECK_EQUAL(fid_flow_grant(transfer.flow, grants[i]), 0);
		CHECK_EQUAL(fid_flow_run(transfer.flow, -1), FID_PAUSED);
		CHECK_EQUAL(fid_flow_receipt(transfer.flow)->bytes_out, granted);
		CHECK_EQUAL(fid_flow_receipt(transfer.flow)->bytes_in, granted);
	}
	/* More than there can be does not overflow. */
	CHECK_EQUAL(fid_flow_grant(transfer.flow, grants[4]), 0);
	CHECK_EQUAL(fid_flow_grant(transfer.flow, grants[4]), 0);
	transfer.granted = UINT64_MAX;
	CHECK_EQUAL(transfer_run(&transfer, -1), FID_DONE);
	CHECK_EQUAL(transfer.last.by_method[FID_REFLINK], 0);
	end(&transfer);
	sim_free(sim);
}

/* Nobody would grant a byte that is not there. */
TEST(a_paced_flow_ends_with_the_last_byte_of_its_file)
{
	struct sim *sim = sim_new();
	struct transfer transfer = transfer_of(sim, NULL);

	from_file(&transfer, 300000, 0);
	to_stream(&transfer, SIM_TCP, O_NONBLOCK);
	transfer.options.flags = FID_PACED;
	CHECK_EQUAL(transfer_begin(&transfer), 0);
	CHECK_EQUAL(fid_flow_grant(transfer.flow, 300000), 0);
	transfer.granted = 300000;
	CHECK_EQUAL(transfer_run(&transfer, -1), FID_DONE);
	end(&transfer);
	sim_free(sim);
}

TEST(a_flow_without_a_pace_takes_no_grant_and_a_copy_no_pace)
{
	struct sim *sim = sim_new();
	struct transfer transfer = transfer_of(sim, NULL);
	struct fid_receipt receipt;

	from_file(&transfer, 300000, 0);
	to_file(&transfer, 0);
	CHECK_EQUAL(transfer_begin(&transfer), 0);
	CHECK_EQUAL(fid_flow_grant(transfer.flow, 1), -EINVAL);
	transfer.options.flags = FID_PACED;
	CHECK_EQUAL(fid_copy_on(&sim->kernel, transfer.source, transfer.sink, &transfer.options,
				&receipt),
		    -EINVAL);
	CHECK_EQUAL(receipt.error, -EINVAL);
	CHECK(strstr(receipt.reason, "paced") != NULL);
	transfer.options.flags = 0;
	transfer_finish(&transfer);
	end(&transfer);
	sim_free(sim);
}
