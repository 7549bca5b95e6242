/* SPDX-License-Identifier: MIT */
/*
 * Offsets at every border, and lengths and numbers of segments beyond what the kernel takes:
 * where fid.h promises something else than the kernel does, both of them are shown.
 */
#include "ends.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { BYTES = 1 << 20 };

static unsigned char content[BYTES];
static unsigned char got[BYTES];

static ssize_t errno_of(long result)
{
	return result < 0 ? -errno : (ssize_t)result;
}

static ssize_t bare_splice(int source, int64_t *source_offset, int sink, int64_t *sink_offset,
			   size_t bytes, unsigned flags)
{
	return errno_of(
		syscall(SYS_splice, source, source_offset, sink, sink_offset, bytes, flags));
}

static ssize_t bare_vmsplice(int pipe, const struct iovec *segments, size_t count,
			     unsigned flags)
{
	return errno_of(syscall(SYS_vmsplice, pipe, segments, count, flags));
}

static void fill(void)
{
	content_fill(content, sizeof(content), test_seed());
}

static int content_file(void)
{
	int fd = open(scratch("content"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	CHECK_EQUAL(write(fd, content, BYTES), BYTES);
	CHECK_EQUAL(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static void close_both(const int fds[2])
{
	close(fds[0]);
	close(fds[1]);
}

static void large_pipe(int ends[2])
{
	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	CHECK(fcntl(ends[1], F_SETPIPE_SZ, BYTES) == BYTES);
}

/* ---- Offsets and lengths ---- */

static void odd_offsets(void *argument)
{
	static const int64_t offsets[] = {0,  1,  4095,    BYTES - 1, BYTES,         BYTES + 1,
					  -1, -2, INT_MAX, INT64_MIN, INT64_MAX - 1, INT64_MAX};
	int from, to;

	(void)argument;
	fill();
	from = content_file();
	to = open(scratch("to"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	CHECK(to >= 0);
	for (size_t i = 0; i < COUNT(offsets); i++)
		for (int side = 0; side < 2; side++) {
			int64_t at[2] = {offsets[i], offsets[i]};
			ssize_t results[2];
			int ends[2];

			doing("%s offset %lld", side ? "sink" : "source",
			      (long long)offsets[i]);
			CHECK(pipe2(ends, O_CLOEXEC) == 0);
			CHECK(!side || write(ends[1], content, 6) == 6);
			for (int fid = 0; fid < 2; fid++) {
				ssize_t (*call)(int, int64_t *, int, int64_t *, size_t,
						unsigned) = fid ? fid_splice : bare_splice;

				results[fid] = side ? call(ends[0], NULL, to, &at[fid], 3, 0)
						    : call(from, &at[fid], ends[1], NULL, 3, 0);
			}
			CHECK_EQUAL(results[1], results[0]);
			CHECK_EQUAL(at[1], at[0]);
			close_both(ends);
		}
	CHECK_EQUAL(lseek(from, 0, SEEK_CUR), 0);
	CHECK_EQUAL(lseek(to, 0, SEEK_CUR), 0);
}

TEST(offsets_at_and_beyond_every_border_are_answered_as_by_the_kernel)
{
	test_seed();
	in_child(5, odd_offsets, NULL);
}

/* The kernel says EINVAL for a file and any of these lengths; fid cuts them to what it can. */
static void huge_lengths(void *argument)
{
	static const size_t lengths[] = {(size_t)1 << 31, (size_t)SSIZE_MAX,
					 (size_t)SSIZE_MAX + 1, SIZE_MAX - 4095, SIZE_MAX};
	int from, to = open(scratch("to"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	(void)argument;
	fill();
	from = content_file();
	for (size_t i = 0; i < COUNT(lengths); i++) {
		int64_t zero = 0;
		int ends[2], second[2];
		ssize_t bare;

		doing("%zu bytes", lengths[i]);
		large_pipe(ends);
		large_pipe(second);
		bare = bare_splice(from, &zero, ends[1], NULL, lengths[i], SPLICE_F_NONBLOCK);
		/* To a program of 32 bits a kernel of 64 bits has no such border. */
		if (lengths[i] > SSIZE_MAX && sizeof(size_t) == 8)
			CHECK_EQUAL(bare, -EINVAL);
		else
			CHECK_EQUAL(read(ends[0], got, BYTES), bare);
		CHECK_EQUAL(lseek(from, 0, SEEK_SET), 0);
		CHECK_EQUAL(fid_splice(from, NULL, ends[1], NULL, lengths[i], 0), BYTES);
		CHECK_EQUAL(fid_tee(ends[0], second[1], lengths[i], 0), BYTES);
		CHECK_EQUAL(read(second[0], got, BYTES), BYTES);
		CHECK(memcmp(got, content, BYTES) == 0);
		CHECK_EQUAL(fid_splice(ends[0], NULL, second[1], NULL, lengths[i], 0), BYTES);
		zero = 0;
		CHECK_EQUAL(fid_splice(second[0], NULL, to, &zero, lengths[i], 0), BYTES);
		CHECK_EQUAL(zero, BYTES);
		close_both(ends);
		close_both(second);
	}
}

TEST(a_length_of_any_size_is_taken_also_to_and_from_files)
{
	test_seed();
	in_child(5, huge_lengths, NULL);
}

/* ---- Segments ---- */

enum { SEGMENTS = 3000 };

static struct iovec segments[SEGMENTS];

/* 3000 pieces of 0 to 9 bytes. Returns how many bytes they are. */
static size_t cut(unsigned char *bytes, size_t count)
{
	size_t at = 0;

	for (size_t i = 0; i < count; i++) {
		segments[i] = (struct iovec){bytes + at, i % 10};
		at += i % 10;
	}
	return at;
}

static void many_segments(void *argument)
{
	size_t bytes;
	int ends[2];

	(void)argument;
	fill();
	large_pipe(ends);
	/* A slot a segment: 256 pages hold 256 of them. */
	bytes = cut(content, SEGMENTS);
	CHECK_EQUAL(bare_vmsplice(ends[1], segments, 1025, 0), -EINVAL);
	for (size_t done = 0, first = 0; first < SEGMENTS;) {
		ssize_t moved = fid_vmsplice(ends[1], segments + first, SEGMENTS - first, 0);
		size_t left = (size_t)moved;

		CHECK(moved > 0);
		for (; first < SEGMENTS && left >= segments[first].iov_len; first++)
			left -= segments[first].iov_len;
		CHECK_EQUAL(left, 0);
		CHECK_EQUAL(read(ends[0], got, BYTES), moved);
		CHECK(memcmp(got, content + done, (size_t)moved) == 0);
		done += (size_t)moved;
	}
	/* The other way all of them are filled at once. */
	CHECK_EQUAL(write(ends[1], content, bytes), bytes);
	memset(got, 0, bytes);
	cut(got, SEGMENTS);
	CHECK_EQUAL(bare_vmsplice(ends[0], segments, 1025, 0), -EINVAL);
	CHECK_EQUAL(fid_vmsplice(ends[0], segments, SEGMENTS, 0), bytes);
	CHECK(memcmp(got, content, bytes) == 0);
	/* Fewer bytes than there is room for, in the first 1024 segments and behind them. */
	for (size_t held_bytes = 50; held_bytes < bytes; held_bytes += 4000) {
		CHECK_EQUAL(write(ends[1], content, held_bytes), held_bytes);
		memset(got, 0, bytes);
		CHECK_EQUAL(fid_vmsplice(ends[0], segments, SEGMENTS, 0), held_bytes);
		CHECK(memcmp(got, content, held_bytes) == 0);
	}
	CHECK_EQUAL(fid_vmsplice(ends[0], segments, SEGMENTS, SPLICE_F_NONBLOCK), -EAGAIN);
}

TEST(vmsplice_takes_more_segments_than_the_kernel)
{
	test_seed();
	in_child(5, many_segments, NULL);
}

/* The kernel's own limit falls where the pipe is just full, or just empty. */
static void border(void *argument)
{
	size_t bytes;
	int ends[2];

	(void)argument;
	fill();
	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	CHECK(fcntl(ends[1], F_SETPIPE_SZ, 4096) == 4096);
	for (size_t i = 0; i < SEGMENTS; i++)
		segments[i] = (struct iovec){content, i == 1000 || i == 1500};
	CHECK_EQUAL(fid_vmsplice(ends[1], segments, SEGMENTS, 0), 1);
	CHECK_EQUAL(fid_vmsplice(ends[1], segments, SEGMENTS, SPLICE_F_NONBLOCK), -EAGAIN);
	CHECK_EQUAL(read(ends[0], got, BYTES), 1);
	/* Where it is empty segments that come first, the call may sleep for the others. */
	segments[1000].iov_len = 0;
	CHECK_EQUAL(fid_vmsplice(ends[1], segments, SEGMENTS, 0), 1);
	CHECK_EQUAL(fid_vmsplice(ends[1], segments, SEGMENTS, SPLICE_F_NONBLOCK), -EAGAIN);
	CHECK_EQUAL(read(ends[0], got, BYTES), 1);
	bytes = cut(got, 1024);
	cut(got, SEGMENTS);
	CHECK(fcntl(ends[1], F_SETPIPE_SZ, BYTES) == BYTES);
	CHECK_EQUAL(write(ends[1], content, bytes), bytes);
	CHECK_EQUAL(fid_vmsplice(ends[0], segments, SEGMENTS, 0), bytes);
	CHECK(memcmp(got, content, bytes) == 0);
}

TEST(vmsplice_of_many_segments_sleeps_at_most_before_the_first_byte)
{
	test_seed();
	in_child(5, border, NULL);
}

static void empty_segments(void *argument)
{
	int ends[2];

	(void)argument;
	fill();
	large_pipe(ends);
	/* 2999 empty ones before the only byte, which waits for nothing. */
	for (size_t i = 0; i < SEGMENTS; i++)
		segments[i] = (struct iovec){content, i == SEGMENTS - 1};
	CHECK_EQUAL(fid_vmsplice(ends[1], segments, SEGMENTS, 0), 1);
	CHECK_EQUAL(fid_vmsplice(ends[1], segments, SEGMENTS - 1, 0), 0);
	segments[SEGMENTS - 1].iov_base = got;
	CHECK_EQUAL(fid_vmsplice(ends[0], segments, SEGMENTS, 0), 1);
	CHECK_EQUAL(got[0], content[0]);
	/* A segment that is too long moves nothing, wherever it stands. */
	segments[0].iov_len = 1;
	segments[SEGMENTS - 1].iov_len = (size_t)SSIZE_MAX + 1;
	CHECK_EQUAL(fid_vmsplice(ends[1], segments, SEGMENTS, 0), -EINVAL);
	CHECK_EQUAL(fid_vmsplice(ends[0], segments, SEGMENTS, SPLICE_F_NONBLOCK), -EINVAL);
	CHECK_EQUAL(read(ends[0], got, 0), 0);
	CHECK_EQUAL(fid_vmsplice(ends[0], &(struct iovec){got, 1}, 1, SPLICE_F_NONBLOCK),
		    -EAGAIN);
}

TEST(empty_segments_and_segments_that_are_too_long_count_as_one_call_would)
{
	test_seed();
	in_child(5, empty_segments, NULL);
}

static void signal_behind_bytes(void *argument)
{
	sigset_t pending;
	int ends[2];

	(void)argument;
	signal(SIGPIPE, SIG_DFL);
	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	close(ends[0]);
	cut(content, SEGMENTS);
	CHECK_EQUAL(fid_vmsplice(ends[1], segments, SEGMENTS, FID_NOSIGNAL), -EPIPE);
	CHECK(sigpending(&pending) == 0);
	CHECK(sigismember(&pending, SIGPIPE) == 0);
}

TEST(no_signal_comes_from_a_vmsplice_of_many_segments_with_fid_nosignal)
{
	test_seed();
	in_child(5, signal_behind_bytes, NULL);
}
