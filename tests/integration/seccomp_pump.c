/* SPDX-License-Identifier: MIT */
/*
 * Whole streams through the three calls in every sandbox, against peers that come and go as
 * they like: each byte arrives once and in order, and when a sink fails in the middle what was
 * delivered, what a stash holds and what is left in the source are the stream.
 */
#include "sandbox.h"

#include "ends.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { BYTES = 3 << 20, BYTES_PTY = 100000, BYTES_SHORT = 300007 };

static unsigned char content[BYTES];
static unsigned char zeros[BYTES];
static unsigned char got[BYTES];
static uint64_t numbers;

struct sandbox {
	unsigned refused;
	int error;
};

struct pump {
	enum end_kind source;
	enum end_kind sink;
	bool nonblock;
	bool offsets;
	bool by_stash;
	bool refusal; /* there is no stand-in: nothing moves */
};

static size_t random_bytes(void)
{
	uint64_t number = test_random(&numbers);
	size_t most = number % 4 == 0 ? 100 : number % 4 == 1 ? 5000 : 300000;

	return (size_t)(number >> 8) % most + 1;
}

/* Which end an EAGAIN means, nobody tells. */
static void wait_for_ends(int source, int sink, size_t stashed)
{
	struct pollfd both[2] = {{.fd = source, .events = POLLIN},
				 {.fd = sink, .events = POLLOUT}};
	int first = stashed ? 1 : 0;

	CHECK(poll(both, 2, 0) >= 0);
	for (int i = first; i < 2; i++)
		if (!both[i].revents) {
			CHECK(poll(&both[i], 1, -1) == 1);
			return;
		}
	sched_yield();
}

/* Pumps until the end, an error or limit bytes. Returns the error; *moved is what went. */
static int run(const struct pump *pump, struct fid_stash *stash, int source, int sink,
	       size_t limit, size_t *moved)
{
	unsigned flags = FID_NOSIGNAL | (pump->nonblock ? SPLICE_F_NONBLOCK : 0);
	int64_t from = 0, to = 0;
	int64_t *source_offset = pump->offsets && pump->source <= END_TMPFS ? &from : NULL;
	int64_t *sink_offset = pump->offsets && pump->sink <= END_TMPFS ? &to : NULL;

	for (*moved = 0; *moved < limit;) {
		size_t bytes = random_bytes();
		ssize_t result;

		bytes = bytes < limit - *moved ? bytes : limit - *moved;
		result = stash ? fid_stash_splice(stash, sink, sink_offset, bytes, flags)
			       : fid_splice(source, source_offset, sink, sink_offset, bytes,
					    flags);
		CHECK(result <= (ssize_t)bytes);
		if (result == -EAGAIN) {
			CHECK(pump->nonblock);
			wait_for_ends(source, sink, stash ? fid_stash_bytes(stash) : 0);
			continue;
		}
		if (result <= 0)
			return (int)result;
		*moved += (size_t)result;
		if (source_offset)
			CHECK_EQUAL(from, *moved);
		if (sink_offset)
			CHECK_EQUAL(to, *moved);
	}
	if (source_offset)
		CHECK_EQUAL(lseek(source, 0, SEEK_CUR), 0);
	if (sink_offset)
		CHECK_EQUAL(lseek(sink, 0, SEEK_CUR), 0);
	return 0;
}

static void pump_one(const struct pump *pump, const struct sandbox *sandbox, size_t count)
{
	const unsigned char *expected = pump->source == END_ZERO ? zeros : content;
	struct fid_stash *stash = NULL;
	struct end source, sink;
	size_t moved, limit;
	int result;

	if (pump->source == END_PTY && count > BYTES_PTY)
		count = BYTES_PTY;
	limit = pump->source == END_ZERO ? count : SIZE_MAX;
	doing("%s to %s%s%s%s where %s", end_name(pump->source), end_name(pump->sink),
	      pump->nonblock ? ", non-blocking" : "", pump->offsets ? ", offsets" : "",
	      pump->by_stash ? ", by a stash" : "",
	      sandbox_name(sandbox->refused, sandbox->error));
	end_open_source(&source, pump->source, content, count, true);
	end_open_sink(&sink, pump->sink, expected, count, true);
	if (pump->nonblock) {
		end_nonblocking(&source);
		end_nonblocking(&sink);
	}
	if (pump->by_stash)
		CHECK_EQUAL(fid_stash_new(&stash, source.fd), 0);
	result = run(pump, stash, source.fd, sink.fd, limit, &moved);
	if (pump->sink == END_APPEND) {
		CHECK_EQUAL(result, -EINVAL);
		CHECK_EQUAL(moved, 0);
		CHECK_EQUAL(end_leftover(&source, content, count), count);
	} else if (pump->refusal) {
		CHECK_EQUAL(result, -sandbox->error);
		CHECK_EQUAL(moved, 0);
		if (pump->source != END_PTY)
			CHECK_EQUAL(end_leftover(&source, content, count), count);
	} else {
		CHECK_EQUAL(result, pump->source == END_PTY ? -EIO : 0);
		CHECK_EQUAL(moved, count);
	}
	if (stash)
		CHECK_EQUAL(fid_stash_bytes(stash), 0);
	fid_stash_free(stash);
	end_close_source(&source);
	CHECK_EQUAL(end_close_sink(&sink, expected, count, moved), moved);
}

static const struct {
	enum end_kind source;
	enum end_kind sink;
} pairs[] = {
	{END_PIPE, END_PIPE},   {END_PIPE, END_FILE},  {END_PIPE, END_TMPFS},
	{END_PIPE, END_APPEND}, {END_PIPE, END_TCP},   {END_PIPE, END_UNIX},
	{END_FILE, END_PIPE},   {END_TMPFS, END_PIPE}, {END_TCP, END_PIPE},
	{END_UNIX, END_PIPE},   {END_PTY, END_PIPE},   {END_ZERO, END_PIPE},
	{END_FIFO, END_FIFO},
};

static void pump_all(void *argument)
{
	const struct sandbox *sandbox = argument;
	bool no_splice = (sandbox->refused & REFUSE_SPLICE) != 0;
	bool no_tee = (sandbox->refused & REFUSE_TEE) != 0;

	content_fill(content, sizeof(content), test_seed());
	numbers = test_seed();
	sandbox_enter(sandbox->refused, sandbox->error);
	for (size_t i = 0; i < COUNT(pairs); i++)
		for (int variant = 0; variant < 8; variant++) {
			struct pump pump = {.source = pairs[i].source,
					    .sink = pairs[i].sink,
					    .nonblock = (variant & 1) != 0,
					    .offsets = (variant & 2) != 0,
					    .by_stash = (variant & 4) != 0};
			bool from_pipe = pump.source == END_PIPE || pump.source == END_FIFO;

			if (pump.offsets && pump.source > END_TMPFS && pump.sink > END_TMPFS)
				continue;
			if (pump.by_stash && !end_is_stream(pump.source))
				continue;
			pump.refusal = no_splice && !pump.by_stash &&
				       (pump.source == END_PTY || (from_pipe && no_tee));
			pump_one(&pump, sandbox, no_splice ? BYTES : BYTES_SHORT);
		}
}

static void in_each_sandbox(void (*body)(void *))
{
	test_seed();
	for (unsigned refused = 0; refused <= REFUSE_ALL; refused++)
		for (int e = 0; e < (refused ? 3 : 1); e++) {
			struct sandbox sandbox = {refused, sandbox_errors[e]};

			in_child(10, body, &sandbox);
		}
}

TEST(streams_arrive_whole_by_splice_alone_in_each_sandbox)
{
	in_each_sandbox(pump_all);
}

/* ---- tee ---- */

static void tee_all(void *argument)
{
	const struct sandbox *sandbox = argument;
	unsigned flags = FID_NOSIGNAL;

	content_fill(content, sizeof(content), test_seed());
	numbers = test_seed();
	sandbox_enter(sandbox->refused, sandbox->error);
	for (int nonblock = 0; nonblock < 2; nonblock++) {
		struct fid_stash *stash;
		struct end source, copy, rest;
		size_t total = 0;

		doing("tee and splice by a stash%s where %s", nonblock ? ", non-blocking" : "",
		      sandbox_name(sandbox->refused, sandbox->error));
		flags |= nonblock ? SPLICE_F_NONBLOCK : 0;
		end_open_source(&source, END_PIPE, content, BYTES, true);
		end_open_sink(&copy, END_PIPE, content, BYTES, true);
		end_open_sink(&rest, nonblock ? END_TCP : END_FILE, content, BYTES, true);
		CHECK_EQUAL(fid_stash_new(&stash, source.fd), 0);
		for (;;) {
			ssize_t given = fid_stash_tee(stash, copy.fd, random_bytes(), flags);
			ssize_t moved = 0;

			if (given == -EAGAIN) {
				CHECK(nonblock);
				wait_for_ends(source.fd, copy.fd, fid_stash_bytes(stash));
				continue;
			}
			CHECK(given >= 0);
			if (given == 0)
				break;
			while (moved < given) {
				ssize_t piece = fid_stash_splice(
					stash, rest.fd, NULL, (size_t)(given - moved), flags);

				CHECK(piece > 0);
				moved += piece;
			}
			total += (size_t)given;
		}
		CHECK_EQUAL(total, BYTES);
		CHECK_EQUAL(fid_stash_bytes(stash), 0);
		fid_stash_free(stash);
		end_close_source(&source);
		CHECK_EQUAL(end_close_sink(&copy, content, BYTES, BYTES), BYTES);
		CHECK_EQUAL(end_close_sink(&rest, content, BYTES, BYTES), BYTES);
	}
}

TEST(a_stash_gives_two_sinks_the_same_stream_in_each_sandbox)
{
	in_each_sandbox(tee_all);
}

/* ---- vmsplice ---- */

enum { SEGMENTS = 2000 };

/* A random number of segments of random sizes, empty ones among them. */
static size_t cut(struct iovec *segments, unsigned char *bytes, size_t count)
{
	size_t many = test_random(&numbers) % 8 ? 10 : SEGMENTS;
	size_t used = 0, at = 0;

	for (; used < many && at < count; used++) {
		size_t piece = test_random(&numbers) % (many == 10 ? 20000 : 40);

		piece = piece < count - at ? piece : count - at;
		segments[used] = (struct iovec){bytes + at, piece};
		at += piece;
	}
	/* A call of empty ones would say 0 and mean nothing. */
	if (at == 0)
		segments[used++] = (struct iovec){bytes, 1};
	return used;
}

static void vmsplice_all(void *argument)
{
	static struct iovec segments[SEGMENTS + 1];
	const struct sandbox *sandbox = argument;

	content_fill(content, sizeof(content), test_seed());
	numbers = test_seed();
	sandbox_enter(sandbox->refused, sandbox->error);
	for (int variant = 0; variant < 4; variant++) {
		unsigned flags = variant & 1 ? SPLICE_F_NONBLOCK : 0;
		bool writes = (variant & 2) != 0;
		struct end end;
		size_t done = 0;

		doing("vmsplice %s a pipe%s where %s", writes ? "into" : "out of",
		      flags ? ", non-blocking" : "",
		      sandbox_name(sandbox->refused, sandbox->error));
		memset(got, 0, sizeof(got));
		if (writes)
			end_open_sink(&end, END_PIPE, content, BYTES, true);
		else
			end_open_source(&end, END_PIPE, content, BYTES, true);
		while (done < BYTES) {
			unsigned char *bytes = (writes ? content : got) + done;
			size_t count = cut(segments, bytes, BYTES - done);
			ssize_t moved = fid_vmsplice(end.fd, segments, count, flags);

			if (moved == -EAGAIN) {
				struct pollfd wait = {.fd = end.fd,
						      .events = writes ? POLLOUT : POLLIN};

				CHECK(flags);
				CHECK(poll(&wait, 1, -1) == 1);
				continue;
			}
			CHECK(moved > 0);
			done += (size_t)moved;
		}
		if (writes) {
			CHECK_EQUAL(end_close_sink(&end, content, BYTES, BYTES), BYTES);
			continue;
		}
		CHECK_EQUAL(fid_vmsplice(end.fd, &(struct iovec){got, 1}, 1, 0), 0);
		CHECK(memcmp(got, content, BYTES) == 0);
		end_close_source(&end);
	}
}

TEST(memory_arrives_whole_by_vmsplice_alone_in_each_sandbox)
{
	in_each_sandbox(vmsplice_all);
}
