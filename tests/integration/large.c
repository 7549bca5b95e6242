/* SPDX-License-Identifier: MIT */
/*
 * Offsets and counts beyond 2 and 4 GiB. The file is all hole but for some marked blocks; the
 * program is built for 32 bits as well, where a wrong type would wrap.
 */
#include "ends.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GIB ((uint64_t)1 << 30)
#define SIZE (5 * GIB + 4321)

enum { MARK = 64 << 10, RANGE = 300001 };

static unsigned char mark[MARK];
static unsigned char got[RANGE], wanted[RANGE];

static const uint64_t places[] = {2 * GIB, 4 * GIB, SIZE - RANGE / 2};

enum { PLACES = sizeof(places) / sizeof(places[0]) };

static uint64_t begin_of(uint64_t place)
{
	return place + RANGE / 2 >= SIZE ? SIZE - RANGE : place - RANGE / 2;
}

static int open_large(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	if (ftruncate(fd, (off_t)SIZE) != 0)
		SKIP("no file of 5 GiB can be made at %s: %s", path, strerror(errno));
	return fd;
}

static int open_marked(const char *path)
{
	int fd = open_large(path);

	content_fill(mark, sizeof(mark), 7);
	for (size_t i = 0; i < PLACES; i++) {
		/* Each mark straddles its place. */
		CHECK_EQUAL(pwrite(fd, mark, MARK, (off_t)(places[i] - MARK / 2)), MARK);
	}
	CHECK_EQUAL(pwrite(fd, mark, 100, (off_t)(SIZE - 100)), 100);
	return fd;
}

static void read_range(int fd, uint64_t at, unsigned char *to)
{
	CHECK_EQUAL(pread(fd, to, RANGE, (off_t)at), RANGE);
}

static void ranges(void *argument)
{
	static const enum fid_method methods[] = {FID_COPY_FILE_RANGE, FID_SENDFILE,
						  FID_SPLICE_PIPE, FID_READ_WRITE};
	const char *(*place_for)(const char *) = argument ? scratch_shm : scratch;
	int source = open_marked(place_for("large"));

	for (size_t m = 0; m < sizeof(methods) / sizeof(methods[0]); m++) {
		int sink = open_large(place_for("copy"));

		for (size_t i = 0; i < PLACES; i++) {
			uint64_t at = begin_of(places[i]);
			struct fid_options options = {
				.size = sizeof(options),
				.routes = FID_ROUTE(methods[m]),
				.source_offset = at,
				.bytes_max = RANGE,
			};

			doing("%s around byte %llu", fid_method_name(methods[m]),
			      (unsigned long long)places[i]);
			read_range(source, at, wanted);
			/* At the same place, by the descriptor's offset. */
			CHECK_EQUAL(lseek(sink, (off_t)at, SEEK_SET), at);
			CHECK_EQUAL(fid_copy(source, sink, &options, NULL), RANGE);
			CHECK_EQUAL(lseek(sink, 0, SEEK_CUR), at + RANGE);
			read_range(sink, at, got);
			CHECK(memcmp(got, wanted, RANGE) == 0);
			if (methods[m] == FID_SENDFILE)
				continue;
			/* One GiB before it, by a given offset. */
			options.sink_offset = at - GIB;
			CHECK_EQUAL(fid_copy(source, sink, &options, NULL), RANGE);
			read_range(sink, at - GIB, got);
			CHECK(memcmp(got, wanted, RANGE) == 0);
		}
		/* Without a limit it ends where the file does. */
		CHECK_EQUAL(lseek(source, (off_t)(SIZE - 5000), SEEK_SET), SIZE - 5000);
		CHECK_EQUAL(lseek(sink, (off_t)(SIZE - 5000), SEEK_SET), SIZE - 5000);
		CHECK_EQUAL(fid_copy(source, sink, NULL, NULL), 5000);
		CHECK_EQUAL(lseek(source, 0, SEEK_CUR), SIZE);
		CHECK_EQUAL(lseek(sink, 0, SEEK_END), SIZE);
		close(sink);
	}
	close(source);
}

TEST(ranges_around_2_and_4_gib_are_copied_by_each_method)
{
	in_child(15, ranges, NULL);
}

TEST(ranges_around_2_and_4_gib_are_copied_on_tmpfs)
{
	in_child(15, ranges, mark);
}

static void ranges_to_streams(void *argument)
{
	static const enum end_kind kinds[] = {END_PIPE, END_TCP, END_UNIX};
	int source = open_marked(scratch("large"));

	(void)argument;
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		for (size_t i = 0; i < PLACES; i++) {
			uint64_t at = begin_of(places[i]);
			struct fid_options options = {
				.size = sizeof(options),
				.source_offset = at,
				.bytes_max = RANGE,
			};
			struct end sink;

			doing("%llu to %s", (unsigned long long)places[i], end_name(kinds[k]));
			read_range(source, at, wanted);
			end_open_sink(&sink, kinds[k], wanted, RANGE, false);
			CHECK_EQUAL(fid_copy(source, sink.fd, &options, NULL), RANGE);
			CHECK_EQUAL(end_close_sink(&sink, wanted, RANGE, 0), RANGE);
		}
	close(source);
}

TEST(ranges_around_2_and_4_gib_reach_streams)
{
	test_seed();
	in_child(15, ranges_to_streams, NULL);
}

struct hole {
	int fd;
	uint64_t swallowed;
};

/* Drains a pipe without looking at the bytes. */
static void *swallow(void *argument)
{
	struct hole *hole = argument;
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	ssize_t moved;

	while ((moved = splice(hole->fd, NULL, null, NULL, 1 << 20, 0)) > 0)
		hole->swallowed += (uint64_t)moved;
	close(null);
	close(hole->fd);
	return NULL;
}

/* On tmpfs a hole is one page of zeros, so that passing 5 GiB by reference costs little. */
static void whole(void *argument)
{
	struct fid_options options = {.size = sizeof(options), .flags = FID_GROW_PIPES};
	int source = open_marked(scratch_shm("large"));
	struct fid_receipt receipt;
	struct hole hole = {0};
	pthread_t thread;
	int ends[2];

	(void)argument;
	doing("5 GiB into a pipe");
	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	hole.fd = ends[0];
	CHECK(pthread_create(&thread, NULL, swallow, &hole) == 0);
	CHECK_EQUAL(fid_copy(source, ends[1], &options, &receipt), SIZE);
	close(ends[1]);
	pthread_join(thread, NULL);
	CHECK_EQUAL(hole.swallowed, SIZE);
	receipt_check(&receipt);
	CHECK_EQUAL(receipt.by_class[FID_BY_REFERENCE], SIZE);
	CHECK_EQUAL(lseek(source, 0, SEEK_CUR), SIZE);

	doing("a limit of more than 4 GiB");
	CHECK_EQUAL(lseek(source, 0, SEEK_SET), 0);
	options.bytes_max = 4 * GIB + 99;
	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	hole = (struct hole){.fd = ends[0]};
	CHECK(pthread_create(&thread, NULL, swallow, &hole) == 0);
	CHECK_EQUAL(fid_copy(source, ends[1], &options, &receipt), 4 * GIB + 99);
	close(ends[1]);
	pthread_join(thread, NULL);
	CHECK_EQUAL(hole.swallowed, 4 * GIB + 99);
	CHECK_EQUAL(lseek(source, 0, SEEK_CUR), 4 * GIB + 99);
	close(source);
}

TEST(five_gib_pass_through_a_pipe_and_are_counted)
{
	in_child(30, whole, NULL);
}

/* A limit that is no number of 32 bits, and a source that ends long before it. */
static void limited_fan(void *argument)
{
	static const uint64_t limits[] = {4 * GIB, 4 * GIB + 1, 4 * GIB + 100000, 8 * GIB,
					  UINT64_MAX - 1};

	(void)argument;
	content_fill(wanted, sizeof(wanted), test_seed());
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct fid_fan_options options = {.size = sizeof(options),
						  .bytes_max = limits[i],
						  .routes = i & 1 ? FID_ROUTE(FID_READ_WRITE)
								  : 0};
		struct end source, sinks[2];
		struct fid_fan *fan = NULL;

		doing("a fan with a limit of %llu bytes", (unsigned long long)limits[i]);
		end_open_source(&source, END_PIPE, wanted, RANGE, false);
		CHECK_EQUAL(fid_fan_new(&fan, source.fd, &options), 0);
		for (int k = 0; k < 2; k++) {
			end_open_sink(&sinks[k], k ? END_UNIX : END_PIPE, wanted, RANGE, false);
			CHECK_EQUAL(fid_fan_add(fan, sinks[k].fd, NULL), k);
		}
		CHECK_EQUAL(fid_fan_run(fan, -1), 0);
		CHECK_EQUAL(fid_fan_receipt(fan)->bytes_in, RANGE);
		fid_fan_free(fan);
		for (int k = 0; k < 2; k++)
			CHECK_EQUAL(end_close_sink(&sinks[k], wanted, RANGE, RANGE), RANGE);
		end_close_source(&source);
	}
}

TEST(a_limit_of_4_gib_and_more_does_not_stop_a_fan)
{
	test_seed();
	in_child(10, limited_fan, NULL);
}
