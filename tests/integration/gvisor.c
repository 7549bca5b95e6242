/* SPDX-License-Identifier: MIT */
/*
 * On a kernel of another make. gVisor has no vmsplice and no copy_file_range, says 0 for an
 * empty pipe from which is spliced to a file, whoever still writes to it, and raises no SIGPIPE
 * (seen with runsc 20221219). gvisor.sh runs this there; on Linux the same facts hold.
 */
#include "ends.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { BYTES = 400003, SEGMENTS = 3000 };

static unsigned char content[BYTES];
static unsigned char got[BYTES];

static int sink_for(enum end_kind kind, int fds[2])
{
	if (kind == END_FILE) {
		fds[0] = open(scratch("sink"), O_RDONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		fds[1] = open(scratch("sink"), O_WRONLY | O_CLOEXEC);
	} else {
		stream_pair(kind, fds);
	}
	CHECK(fds[0] >= 0 && fds[1] >= 0);
	return fds[1];
}

static void empty_pipe(void *argument)
{
	static const enum end_kind sinks[] = {END_FILE, END_PIPE, END_UNIX};
	struct fid_facts facts;

	(void)argument;
	CHECK_EQUAL(fid_probe(&facts, 0), 0);
	test_note("splice %d, tee %d, vmsplice %d, copy_file_range %d, 0 for an empty pipe %u",
		  facts.splice, facts.tee, facts.vmsplice, facts.copy_file_range,
		  facts.splice_empty_is_eof);
	for (size_t i = 0; i < 2 * COUNT(sinks); i++) {
		enum end_kind kind = sinks[i / 2];
		unsigned flags = i % 2 ? 0 : SPLICE_F_NONBLOCK;
		struct fid_stash *stash;
		int source[2], fds[2], sink = sink_for(kind, fds);

		doing("an empty pipe to %s, %s", end_name(kind),
		      flags ? "SPLICE_F_NONBLOCK" : "O_NONBLOCK");
		CHECK(pipe2(source, O_CLOEXEC | (flags ? 0 : O_NONBLOCK)) == 0);
		CHECK_EQUAL(fid_stash_new(&stash, source[0]), 0);
		CHECK_EQUAL(fid_splice(source[0], NULL, sink, NULL, 100, flags), -EAGAIN);
		CHECK_EQUAL(fid_stash_splice(stash, sink, NULL, 100, flags), -EAGAIN);
		if (kind == END_PIPE) {
			CHECK_EQUAL(fid_tee(source[0], sink, 100, flags), -EAGAIN);
			CHECK_EQUAL(fid_stash_tee(stash, sink, 100, flags), -EAGAIN);
		}
		CHECK_EQUAL(write(source[1], "fid", 3), 3);
		CHECK_EQUAL(fid_splice(source[0], NULL, sink, NULL, 100, flags), 3);
		CHECK_EQUAL(read(fds[0], got, 100), 3);
		CHECK_EQUAL(fid_splice(source[0], NULL, sink, NULL, 100, flags), -EAGAIN);
		close(source[1]);
		CHECK_EQUAL(fid_splice(source[0], NULL, sink, NULL, 100, flags), 0);
		CHECK_EQUAL(fid_stash_splice(stash, sink, NULL, 100, flags), 0);
		fid_stash_free(stash);
		close(source[0]);
		close(fds[0]);
		close(fds[1]);
	}
}

TEST(an_empty_pipe_with_a_writer_is_never_the_end)
{
	in_child(10, empty_pipe, NULL);
}

/* ---- Streams ---- */

static const struct {
	enum end_kind source;
	enum end_kind sink;
} pairs[] = {
	{END_PIPE, END_FILE}, {END_PIPE, END_PIPE}, {END_PIPE, END_UNIX}, {END_PIPE, END_TCP},
	{END_FILE, END_PIPE}, {END_UNIX, END_PIPE}, {END_TCP, END_PIPE},  {END_FILE, END_FILE},
	{END_FILE, END_UNIX}, {END_TCP, END_TCP},   {END_TCP, END_FILE},  {END_UNIX, END_UNIX},
};

static int by_splice(int source, int sink, bool nonblock, size_t *moved)
{
	uint64_t random = test_seed();

	for (*moved = 0;;) {
		struct pollfd both[2] = {{.fd = source, .events = POLLIN},
					 {.fd = sink, .events = POLLOUT}};
		ssize_t result = fid_splice(source, NULL, sink, NULL,
					    test_random(&random) % 99999 + 1,
					    FID_NOSIGNAL | (nonblock ? SPLICE_F_NONBLOCK : 0));

		if (result == -EAGAIN && nonblock) {
			CHECK(poll(both, 2, 0) >= 0);
			for (int i = 0; i < 2; i++)
				if (!both[i].revents)
					CHECK(poll(&both[i], 1, -1) == 1);
			continue;
		}
		if (result <= 0)
			return (int)result;
		*moved += (size_t)result;
	}
}

/* Ways of moving: the call, blocking and not, and a flow. */
static void streams(void *argument)
{
	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (size_t i = 0; i < 3 * COUNT(pairs); i++) {
		enum end_kind from = pairs[i / 3].source, to = pairs[i / 3].sink;
		static const char *const ways[] = {"splice", "splice without sleep", "flow"};
		bool has_pipe = from == END_PIPE || to == END_PIPE;
		struct fid_receipt receipt;
		struct end source, sink;
		size_t moved = 0;

		if (i % 3 < 2 && !has_pipe)
			continue;
		doing("%s to %s by %s", end_name(from), end_name(to), ways[i % 3]);
		end_open_source(&source, from, content, BYTES, true);
		end_open_sink(&sink, to, content, BYTES, true);
		if (i % 3 == 1) {
			end_nonblocking(&source);
			end_nonblocking(&sink);
		}
		if (i % 3 < 2) {
			CHECK_EQUAL(by_splice(source.fd, sink.fd, i % 3, &moved), 0);
			CHECK_EQUAL(moved, BYTES);
		} else {
			CHECK_EQUAL(fid_copy(source.fd, sink.fd, NULL, &receipt), BYTES);
			receipt_check(&receipt);
		}
		end_close_source(&source);
		CHECK_EQUAL(end_close_sink(&sink, content, BYTES, BYTES), BYTES);
	}
}

TEST(every_byte_arrives_by_the_call_and_by_a_flow)
{
	test_seed();
	in_child(10, streams, NULL);
}

/*
 * There the bare call that splices more than 64 KiB at once from a pipe to TCP delivers other
 * bytes, with the right count and no error, from byte 65536 on.
 */
static void large_pieces(void *argument)
{
	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (int round = 0; round < 20; round++) {
		struct fid_options options = {.size = sizeof(options), .pipe_bytes = 1 << 20};
		size_t bytes = (size_t)(100000 + 7000 * round);
		struct end sink, source;
		int ends[2];

		doing("%zu bytes of a large pipe to TCP", bytes);
		CHECK(pipe2(ends, O_CLOEXEC) == 0);
		CHECK(fcntl(ends[1], F_SETPIPE_SZ, 1 << 20) == 1 << 20);
		CHECK_EQUAL(write(ends[1], content, bytes), bytes);
		end_open_sink(&sink, END_TCP, content, bytes, true);
		for (size_t done = 0; done < bytes;) {
			ssize_t moved =
				fid_splice(ends[0], NULL, sink.fd, NULL, bytes - done, 0);

			CHECK(moved > 0);
			done += (size_t)moved;
		}
		CHECK_EQUAL(end_close_sink(&sink, content, bytes, bytes), bytes);
		doing("%zu bytes of TCP to TCP by a flow with large pipes", bytes);
		end_open_source(&source, END_TCP, content, bytes, false);
		end_open_sink(&sink, END_TCP, content, bytes, true);
		CHECK_EQUAL(fid_copy(source.fd, sink.fd, &options, NULL), bytes);
		end_close_source(&source);
		CHECK_EQUAL(end_close_sink(&sink, content, bytes, bytes), bytes);
		close(ends[0]);
		close(ends[1]);
	}
}

TEST(large_pieces_from_a_pipe_to_tcp_are_the_bytes_that_were_in_it)
{
	test_seed();
	in_child(10, large_pieces, NULL);
}

/* ---- Memory ---- */

static void memory(void *argument)
{
	static struct iovec segments[SEGMENTS];
	struct iovec all = {got, BYTES};
	size_t bytes = 0, done = 0;
	int ends[2];

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	CHECK_EQUAL(fid_vmsplice(ends[0], &all, 1, SPLICE_F_NONBLOCK), -EAGAIN);
	for (size_t i = 0; i < SEGMENTS; i++) {
		segments[i] = (struct iovec){content + bytes, i % 7};
		bytes += i % 7;
	}
	for (size_t first = 0; first < SEGMENTS;) {
		ssize_t moved = fid_vmsplice(ends[1], segments + first, SEGMENTS - first,
					     SPLICE_F_GIFT);
		size_t left = (size_t)moved;

		CHECK(moved > 0);
		for (; first < SEGMENTS && left >= segments[first].iov_len; first++)
			left -= segments[first].iov_len;
		if (first < SEGMENTS) {
			segments[first].iov_base = (char *)segments[first].iov_base + left;
			segments[first].iov_len -= left;
		}
		CHECK_EQUAL(fid_vmsplice(ends[0], &all, 1, 0), moved);
		CHECK(memcmp(got, content + done, (size_t)moved) == 0);
		done += (size_t)moved;
	}
	CHECK_EQUAL(done, bytes);
	/* As much as there is room for, and then no sleep. */
	all.iov_base = content;
	done = (size_t)fid_vmsplice(ends[1], &all, 1, 0);
	CHECK(done >= 4096 && done < BYTES);
	CHECK_EQUAL(fid_vmsplice(ends[1], &all, 1, SPLICE_F_NONBLOCK), -EAGAIN);
	CHECK_EQUAL(read(ends[0], got, BYTES), done);
	CHECK(memcmp(got, content, done) == 0);
}

TEST(memory_goes_both_ways_whether_there_is_vmsplice_or_not)
{
	test_seed();
	in_child(10, memory, NULL);
}

/* ---- Errors ---- */

static void errors(void *argument)
{
	struct iovec one = {content, 1};
	int64_t offset = 0;
	int ends[2], dead[2], file;

	(void)argument;
	CHECK(pipe2(ends, O_CLOEXEC) == 0 && pipe2(dead, O_CLOEXEC) == 0);
	file = open(scratch("file"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	CHECK(file >= 0);
	CHECK_EQUAL(write(ends[1], "fid", 3), 3);
	close(dead[0]);
	CHECK_EQUAL(fid_splice(ends[0], NULL, dead[1], NULL, 3, FID_NOSIGNAL), -EPIPE);
	CHECK_EQUAL(fid_vmsplice(dead[1], &one, 1, FID_NOSIGNAL), -EPIPE);
	CHECK_EQUAL(fid_splice(ends[0], NULL, -1, NULL, 3, 0), -EBADF);
	CHECK_EQUAL(fid_splice(ends[0], &offset, file, NULL, 3, 0), -ESPIPE);
	CHECK_EQUAL(fid_splice(file, NULL, file, NULL, 3, 0), -EINVAL);
	CHECK_EQUAL(fid_splice(ends[0], NULL, ends[1], NULL, 3, 0), -EINVAL);
	CHECK_EQUAL(fid_tee(ends[0], file, 3, 0), -EINVAL);
	CHECK_EQUAL(fid_vmsplice(file, &one, 1, 0), -EBADF);
	CHECK_EQUAL(fid_vmsplice(ends[1], &one, 1, 0x20), -EINVAL);
	CHECK_EQUAL(read(ends[0], got, 100), 3);
}

TEST(errors_are_the_same_on_either_kernel)
{
	in_child(10, errors, NULL);
}
