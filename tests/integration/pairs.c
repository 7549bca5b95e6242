/* SPDX-License-Identifier: MIT */
/*
 * Every kind of source into every kind of sink on the real kernel: the bytes arrive exactly, or
 * the receipt names the side and the call that failed and nothing is lost. What arrived, what
 * is salvaged and what the source still has are together what went in.
 */
#include "ends.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SPARE = 1000, CONTENT_MAX = (1 << 20) + 13 + SPARE };

static const size_t sizes[] = {0, 1, 4095, 4096, 65537, (1 << 20) + 13};

enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static const enum end_kind sinks[] = {
	END_FILE, END_TMPFS, END_APPEND, END_DIRECT, END_MEMFD, END_PIPE, END_FIFO,
	END_TCP,  END_UNIX,  END_PTY,    END_ZERO,   END_NULL,  END_FULL, END_EVENTFD,
};

enum { SINKS = sizeof(sinks) / sizeof(sinks[0]) };

/* The ways to drive a flow to its end. */
enum drive { DRIVE_COPY, DRIVE_RUN, DRIVE_STEP, DRIVE_SLICES, DRIVES };

static const char *const drive_names[] = {"fid_copy", "run", "step", "run in slices of 1 ms"};

struct run {
	enum end_kind source;
	enum end_kind sink;
	bool source_nonblocking;
	bool sink_nonblocking;
	size_t size;
	bool limited;
	bool stable;
	bool nowait;
	enum drive drive;
};

/* What may come out. Every result but 0 must name its side. */
struct outcome {
	size_t bytes; /* that the source gives, if nothing fails */
	bool exactly; /* else at most so many */
	int source_error;
	bool source_must_fail;
	int sink_error;
	bool sink_must_fail;
	size_t sink_unit; /* the sink takes multiples of this */
};

static unsigned char content[CONTENT_MAX];
static unsigned char words[CONTENT_MAX];
static unsigned char zeros[CONTENT_MAX];
static unsigned flow_count;

static bool is_proc(enum end_kind kind)
{
	return kind == END_PROC_STATUS || kind == END_PROC_MEMINFO || kind == END_PROC_CMDLINE;
}

static bool is_endless(enum end_kind kind)
{
	return kind == END_ZERO || kind == END_FULL || kind == END_EVENTFD;
}

static const unsigned char *content_of(const struct run *run)
{
	if (run->source == END_ZERO || run->source == END_FULL)
		return zeros;
	return run->sink == END_EVENTFD || run->source == END_EVENTFD ? words : content;
}

static struct outcome expect(const struct run *run)
{
	struct outcome outcome = {.bytes = run->size, .exactly = true, .sink_unit = 1};

	switch (run->source) {
	case END_NULL:
		outcome.bytes = 0;
		break;
	case END_PTY:
		if (!run->limited) {
			outcome.source_error = -EIO;
			outcome.source_must_fail = true;
		}
		break;
	case END_DIRECT:
		/* A read of part of a block may be refused, and so then is the tail of a limit.
		 */
		if (run->limited && run->size % 4096)
			outcome.source_error = -EINVAL;
		break;
	case END_EVENTFD:
		if (run->size % 8) {
			outcome.source_error = -EINVAL;
			outcome.source_must_fail = true;
		}
		break;
	case END_PROC_STATUS:
	case END_PROC_MEMINFO:
	case END_PROC_CMDLINE:
		outcome.exactly = false;
		break;
	default:
		break;
	}
	switch (run->sink) {
	case END_FULL:
		outcome.sink_error = -ENOSPC;
		outcome.sink_must_fail = true;
		break;
	case END_DIRECT:
		/* A write of part of a block may be refused; only a file comes in whole blocks.
		 */
		if (end_is_stream(run->source) || is_proc(run->source) || run->size % 4096)
			outcome.sink_error = -EINVAL;
		break;
	case END_EVENTFD:
		/* A word and nothing else; kernels before 6.9 took the first word of more. */
		outcome.sink_unit = 8;
		if (end_is_stream(run->source) || run->size != 8)
			outcome.sink_error = -EINVAL;
		outcome.sink_must_fail = run->size % 8 != 0;
		break;
	default:
		break;
	}
	return outcome;
}

static void check_idle(const struct pollfd wait[2])
{
	CHECK_EQUAL(wait[0].fd, -1);
	CHECK_EQUAL(wait[1].fd, -1);
}

/* An event loop, as a user would write it, with an eye on spinning and stalling. */
static int drive_steps(struct fid_flow *flow)
{
	unsigned fruitless = 0;
	uint64_t progress = 0;

	for (;;) {
		struct pollfd wait[2] = {{.fd = -2}, {.fd = -2}};
		int result = fid_flow_step(flow, wait);
		const struct fid_receipt *receipt = fid_flow_receipt(flow);

		receipt_check(receipt);
		if (receipt->bytes_in + receipt->bytes_out == progress) {
			if (++fruitless > 200)
				FAIL("%u steps without progress", fruitless);
		} else {
			fruitless = 0;
		}
		progress = receipt->bytes_in + receipt->bytes_out;
		if (result == FID_WAIT) {
			CHECK(wait[0].fd >= 0 || wait[1].fd >= 0);
			if (poll(wait, 2, 5000) == 0)
				FAIL("nothing happens on what it waits for: events %#x, %#x",
				     wait[0].events, wait[1].events);
			continue;
		}
		check_idle(wait);
		if (result != FID_MORE)
			return result;
	}
}

static int drive_slices(struct fid_flow *flow)
{
	int result;

	do {
		result = fid_flow_run(flow, 1);
		receipt_check(fid_flow_receipt(flow));
	} while (result == -ETIMEDOUT);
	return result;
}

/* Takes everything that is held, in pieces, and compares it. */
static size_t salvage_all(struct fid_flow *flow, const unsigned char *bytes)
{
	uint64_t held = fid_flow_receipt(flow)->bytes_held;
	unsigned char *buffer = malloc(held + 1);
	size_t salvaged = 0;
	ssize_t piece;

	CHECK(buffer);
	do {
		size_t ask = salvaged == 0 ? held / 3 + 1 : held - salvaged + 1;

		piece = fid_flow_salvage(flow, buffer + salvaged,
					 ask <= held + 1 - salvaged ? ask : 1);
		CHECK(piece >= 0);
		salvaged += (size_t)piece;
		CHECK(salvaged <= held);
	} while (piece > 0);
	CHECK_EQUAL(salvaged, held);
	CHECK_EQUAL(fid_flow_receipt(flow)->bytes_held, 0);
	CHECK_EQUAL(fid_flow_receipt(flow)->bytes_salvaged, held);
	if (bytes)
		CHECK(memcmp(buffer, bytes, salvaged) == 0);
	free(buffer);
	return salvaged;
}

static void check_result(const struct run *run, int64_t result, struct outcome outcome,
			 const struct fid_receipt *receipt)
{
	receipt_check(receipt);
	CHECK_EQUAL(receipt->error, result < 0 ? result : 0);
	if (result < 0) {
		CHECK(receipt->error_call != FID_CALL_NONE);
		CHECK(receipt->error_call < FID_CALLS);
		if (receipt->error_side == FID_SIDE_SINK)
			CHECK_EQUAL(result, outcome.sink_error);
		else if (receipt->error_side == FID_SIDE_SOURCE)
			CHECK_EQUAL(result, outcome.source_error);
		else
			FAIL("%s has no side", fid_error_name((int)result));
	} else {
		CHECK_EQUAL(receipt->bytes_held, 0);
		CHECK(!outcome.source_must_fail);
		CHECK(!outcome.sink_must_fail || receipt->bytes_in == 0);
		if (outcome.exactly)
			CHECK_EQUAL(receipt->bytes_out, outcome.bytes);
		else if (run->limited)
			CHECK(receipt->bytes_out <= run->size);
	}
	if (outcome.exactly)
		CHECK(receipt->bytes_in <= outcome.bytes);
	CHECK_EQUAL(receipt->bytes_out % outcome.sink_unit, 0);
	if (run->stable)
		CHECK(receipt->stable || receipt->bytes_out == 0);
	if (run->sink == END_FULL)
		CHECK_EQUAL(receipt->bytes_out, 0);
}

/* The bytes of /proc vary from one read to the next, but not in their number and kind. */
static size_t proc_bytes(const struct run *run, unsigned char *buffer, size_t capacity)
{
	struct end again;
	size_t total = 0;
	ssize_t moved;

	end_open_source(&again, run->source, NULL, 0, false);
	while ((moved = read(again.fd, buffer + total, capacity - total)) > 0)
		total += (size_t)moved;
	CHECK(moved == 0);
	end_close_source(&again);
	return total;
}

static bool keeps(enum end_kind sink)
{
	return end_is_stream(sink) || sink <= END_MEMFD;
}

static bool varies(char c)
{
	return (c >= '0' && c <= '9') || c == ' ' || c == '\t';
}

/* Compares texts of /proc, where a run of digits and spaces is equal to any other. */
static void proc_compare(const char *got, size_t got_count, const char *wanted,
			 size_t wanted_count, bool is_part)
{
	size_t g = 0, w = 0;

	while (g < got_count && w < wanted_count) {
		if (got[g] != wanted[w] && !(varies(got[g]) && varies(wanted[w])))
			FAIL("byte %zu of %zu is not as in the text before", g, got_count);
		if (varies(got[g])) {
			while (g < got_count && varies(got[g]))
				g++;
			while (w < wanted_count && varies(wanted[w]))
				w++;
		} else {
			g++;
			w++;
		}
	}
	CHECK_EQUAL(g, got_count);
	if (!is_part)
		CHECK_EQUAL(w, wanted_count);
}

static void run_one(const struct run *run, struct fid_pool *pool)
{
	const unsigned char *bytes = content_of(run);
	bool has_spare = run->limited && !is_endless(run->source) && run->source != END_NULL;
	size_t count = run->size + (has_spare ? SPARE : 0);
	struct fid_options options = {.size = sizeof(options), .pool = pool};
	struct outcome outcome = expect(run);
	static unsigned char proc[64 << 10];
	struct fid_receipt receipt;
	struct end source, sink;
	size_t arrived, salvaged = 0;
	int64_t result;
	bool slow = run->size > 4096;

	doing("%s%s to %s%s, %zu bytes%s%s%s by %s, FID_SEED=%llu", end_name(run->source),
	      run->source_nonblocking ? " O_NONBLOCK" : "", end_name(run->sink),
	      run->sink_nonblocking ? " O_NONBLOCK" : "", run->size,
	      run->limited ? " limited" : "", run->stable ? " stable" : "",
	      run->nowait ? " nowait" : "", drive_names[run->drive],
	      (unsigned long long)test_seed());
	flow_count++;
	if (is_proc(run->source)) {
		count = proc_bytes(run, proc, sizeof(proc));
		bytes = proc;
	}
	end_open_source(&source, run->source, bytes, count, slow);
	end_open_sink(&sink, run->sink, is_proc(run->source) ? NULL : bytes, run->size, slow);
	if (run->source_nonblocking)
		end_nonblocking(&source);
	if (run->sink_nonblocking)
		end_nonblocking(&sink);
	if (run->limited) {
		options.bytes_max = run->size;
		options.flags |= run->size == 0 ? FID_LIMIT_ZERO : 0;
	}
	options.flags |= run->stable ? FID_STABLE : 0;
	options.flags |= run->nowait ? FID_NOWAIT : 0;
	if (run->drive == DRIVE_COPY) {
		result = fid_copy(source.fd, sink.fd, &options, &receipt);
		if (result >= 0) {
			CHECK_EQUAL(result, receipt.bytes_out);
			result = 0;
		}
		check_result(run, result, outcome, &receipt);
	} else {
		struct fid_flow *flow = NULL;

		CHECK_EQUAL(fid_flow_new(&flow, source.fd, sink.fd, &options, NULL), 0);
		if (run->drive == DRIVE_RUN)
			result = fid_flow_run(flow, -1);
		else
			result = run->drive == DRIVE_STEP ? drive_steps(flow)
							  : drive_slices(flow);
		check_result(run, result, outcome, fid_flow_receipt(flow));
		/* The end of a flow is repeated. */
		CHECK_EQUAL(fid_flow_step(flow, NULL), result);
		salvaged = salvage_all(
			flow, is_proc(run->source) ? NULL
						   : bytes + fid_flow_receipt(flow)->bytes_out);
		receipt = *fid_flow_receipt(flow);
		receipt_check(&receipt);
		CHECK(fid_flow_free(flow) == NULL);
	}
	CHECK_EQUAL(receipt.bytes_salvaged, salvaged);
	if (!is_endless(run->source) && run->source != END_NULL && !is_proc(run->source) &&
	    !(run->source == END_DIRECT && receipt.bytes_in % 512)) {
		size_t left = end_leftover(&source, bytes + receipt.bytes_in,
					   count - (size_t)receipt.bytes_in);

		CHECK_EQUAL(receipt.bytes_in + left, count);
	}
	end_close_source(&source);
	arrived = end_close_sink(&sink, bytes, count, (size_t)receipt.bytes_out);
	CHECK_EQUAL(arrived, receipt.bytes_out);
	if (!sink.keep)
		return;
	if (keeps(run->sink))
		proc_compare((const char *)sink.keep, arrived, (const char *)proc, count,
			     run->limited || result < 0);
	free(sink.keep);
}

static bool makes_sense(const struct run *run)
{
	if (is_endless(run->source) && !run->limited)
		return false;
	/* One word is what an eventfd gives before it waits for the next. */
	if (run->source == END_EVENTFD && run->size > 8)
		return false;
	/* Text as numbers overflows the counter, which then waits for a reader. */
	if (is_proc(run->source) && run->sink == END_EVENTFD)
		return run->limited && run->size <= 8;
	return true;
}

/* With FID_THOROUGH set each pair meets every set of flags in every mode and size. */
static bool is_thorough(void)
{
	return getenv("FID_THOROUGH") != NULL;
}

static size_t size_of(const struct run *run, unsigned number)
{
	static const size_t words_only[] = {0, 1, 8, 8, 8, 1};
	static const size_t words_and_more[] = {0, 1, 8, 8, 4096, 65537};

	if (run->source == END_EVENTFD)
		return words_only[number];
	return run->sink == END_EVENTFD ? words_and_more[number] : sizes[number];
}

static void run_source(void *argument)
{
	enum end_kind kind = *(const enum end_kind *)argument;
	struct fid_pool_stats stats;
	struct fid_pool *pool;
	struct timespec begin, end;
	char *descriptors;
	unsigned combination = (unsigned)kind;
	unsigned pairs = 0;

	content_fill(content, sizeof(content), test_seed());
	content_fill_words(words, sizeof(words), test_seed());
	clock_gettime(CLOCK_MONOTONIC, &begin);
	descriptors = descriptors_list();
	CHECK_EQUAL(fid_pool_new(&pool, NULL), 0);
	for (unsigned s = 0; s < SINKS; s++) {
		unsigned flows = flow_count;

		for (unsigned i = 0; i < 4u * SIZES * (is_thorough() ? 8 : 2); i++) {
			struct run run = {
				.source = kind,
				.sink = sinks[s],
				.source_nonblocking = i & 1,
				.sink_nonblocking = i & 2,
				.drive = (enum drive)(combination / 3 % DRIVES),
			};
			unsigned flags = is_thorough() ? i / (4 * SIZES) : combination;

			run.size = size_of(&run, i / 4 % SIZES);
			run.limited = flags & 1 || is_endless(kind);
			run.stable = flags & 2;
			run.nowait = flags & 4;
			/* An odd stride meets all flags with all sizes and all drives. */
			combination += 5;
			if (makes_sense(&run))
				run_one(&run, pool);
		}
		pairs += flow_count > flows;
	}
	CHECK_EQUAL(fid_pool_stats(pool, &stats), 0);
	CHECK_EQUAL(stats.pipes_lent, 0);
	CHECK_EQUAL(stats.buffers_lent, 0);
	CHECK(fid_pool_free(pool) == NULL);
	descriptors_check(descriptors);
	clock_gettime(CLOCK_MONOTONIC, &end);
	test_note("%u pairs from %s, %u flows, %.1f s", pairs, end_name(kind), flow_count,
		  (double)(end.tv_sec - begin.tv_sec) +
			  (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
}

static void name_file_system(void *argument)
{
	struct end end;

	(void)argument;
	end_open_source(&end, END_FILE, content, 1, false);
	test_note("the regular files are on %s", file_system_name(end.fd));
	end_close_source(&end);
}

static void every_sink(enum end_kind source)
{
	test_seed();
	in_child(30, run_source, &source);
}

TEST(bytes_of_a_file_reach_every_sink)
{
	in_child(5, name_file_system, NULL);
	every_sink(END_FILE);
}

TEST(bytes_of_a_tmpfs_file_reach_every_sink)
{
	every_sink(END_TMPFS);
}

TEST(bytes_of_an_o_direct_file_reach_every_sink)
{
	every_sink(END_DIRECT);
}

TEST(bytes_of_a_memfd_reach_every_sink)
{
	every_sink(END_MEMFD);
}

TEST(bytes_of_a_pipe_reach_every_sink)
{
	every_sink(END_PIPE);
}

TEST(bytes_of_a_fifo_reach_every_sink)
{
	every_sink(END_FIFO);
}

TEST(bytes_of_a_tcp_socket_reach_every_sink)
{
	every_sink(END_TCP);
}

TEST(bytes_of_a_unix_socket_reach_every_sink)
{
	every_sink(END_UNIX);
}

TEST(bytes_of_a_terminal_reach_every_sink)
{
	every_sink(END_PTY);
}

TEST(bytes_of_dev_zero_reach_every_sink)
{
	every_sink(END_ZERO);
}

TEST(dev_null_ends_at_once_into_every_sink)
{
	every_sink(END_NULL);
}

TEST(bytes_of_dev_full_reach_every_sink)
{
	every_sink(END_FULL);
}

TEST(bytes_of_proc_self_status_reach_every_sink)
{
	every_sink(END_PROC_STATUS);
}

TEST(bytes_of_proc_meminfo_reach_every_sink)
{
	every_sink(END_PROC_MEMINFO);
}

TEST(bytes_of_proc_self_cmdline_reach_every_sink)
{
	every_sink(END_PROC_CMDLINE);
}

TEST(the_word_of_an_eventfd_reaches_every_sink)
{
	every_sink(END_EVENTFD);
}
