/* SPDX-License-Identifier: MIT */
/*
 * One source into many sinks on this kernel: every sink of every kind gets each byte once and
 * in order, at its own speed.
 */
#include "crowd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { BYTES = (1 << 20) + 4321, MANY = FID_FAN_SINKS_MAX, MANY_BYTES = 150001 };

static unsigned char content[BYTES];
static unsigned char other[BYTES];

static const enum end_kind sources[] = {
	END_FILE, END_TMPFS, END_MEMFD, END_PIPE, END_VMSPLICED,
	END_FIFO, END_TCP,   END_UNIX,  END_PTY,  END_DIRECT,
};

enum { SOURCES = sizeof(sources) / sizeof(sources[0]) };

static const char *source_name(enum end_kind kind)
{
	return kind == END_VMSPLICED ? "pipe by vmsplice" : end_name(kind);
}

static void every_source(void *argument)
{
	static const uint32_t flags[] = {0, FID_STABLE, FID_NOWAIT, FID_GROW_PIPES,
					 FID_INTERRUPTIBLE | FID_STABLE};
	uint64_t random = test_seed(), by_method[FID_METHODS] = {0};
	unsigned sinks = 0;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (unsigned i = 0; i < 3 * SOURCES; i++) {
		unsigned wanted = i % 10 == 9 ? 40 : 2 + (unsigned)test_random(&random) % 12;
		struct fid_fan_options options = {
			.size = sizeof(options),
			.flags = flags[test_random(&random) % 5],
			.routes = test_random(&random) % 5 ? 0 : FID_ROUTE(FID_READ_WRITE),
			.pipe_bytes = test_random(&random) % 3 ? 0 : 65536,
		};
		enum end_kind kind = sources[i % SOURCES];
		enum drive drive = (enum drive)(test_random(&random) % DRIVES);
		struct crowd crowd;
		char *descriptors = descriptors_list();
		int end;

		CHECK_EQUAL(fid_pool_new(&options.pool, NULL), 0);
		doing("%s to %u sinks by %s, flags %#x%s, round %u, FID_SEED=%llu",
		      source_name(kind), wanted, drive_name(drive), options.flags,
		      options.routes ? ", copying" : "", i, (unsigned long long)test_seed());
		crowd_open(&crowd, kind, content, BYTES, &options);
		if (test_random(&random) & 1) {
			end_nonblocking(&crowd.source);
			crowd.source_flags = fcntl(crowd.source.fd, F_GETFL);
		}
		while (crowd.count < wanted)
			crowd_add_any(&crowd);
		/* A terminal ends with EIO. */
		end = kind == END_PTY ? -EIO : 0;
		CHECK_EQUAL(crowd_drive(&crowd, drive), end);
		CHECK_EQUAL(fid_fan_receipt(crowd.fan)->error, end);
		CHECK_EQUAL(fid_fan_receipt(crowd.fan)->bytes_in, BYTES);
		CHECK_EQUAL(fid_fan_receipt(crowd.fan)->bytes_out, BYTES);
		for (unsigned k = 0; k < crowd.count; k++) {
			const struct fid_receipt *receipt =
				fid_fan_sink_receipt(crowd.fan, (int)k);

			crowd_check_complete(&crowd, (int)k, BYTES);
			for (int m = 0; m < FID_METHODS; m++)
				by_method[m] += receipt->by_method[m];
			if (options.routes)
				CHECK_EQUAL(receipt->by_method[FID_READ_WRITE], BYTES);
			if (options.flags & FID_STABLE)
				CHECK(receipt->stable);
		}
		CHECK(fid_fan_sink_receipt(crowd.fan, (int)crowd.count) == NULL);
		CHECK(fid_fan_sink_receipt(crowd.fan, -1) == NULL);
		/* The end is repeated. */
		CHECK_EQUAL(fid_fan_step(crowd.fan, NULL), end);
		CHECK_EQUAL(fid_fan_salvage(crowd.fan, -1, other, 1), 0);
		if (kind == END_FILE || kind == END_TMPFS || kind == END_MEMFD)
			CHECK_EQUAL(lseek(crowd.source.fd, 0, SEEK_CUR), BYTES);
		sinks += crowd.count;
		crowd_close(&crowd);
		CHECK(fid_pool_free(options.pool) == NULL);
		descriptors_check(descriptors);
	}
	test_note("%u sinks; bytes by tee %llu, splice %llu, splice-pipe %llu, read-write %llu",
		  sinks, (unsigned long long)by_method[FID_TEE],
		  (unsigned long long)by_method[FID_SPLICE],
		  (unsigned long long)by_method[FID_SPLICE_PIPE],
		  (unsigned long long)by_method[FID_READ_WRITE]);
	CHECK(by_method[FID_TEE] > 0);
	CHECK(by_method[FID_READ_WRITE] > 0);
}

TEST(every_sink_of_a_fan_gets_every_byte_of_every_kind_of_source)
{
	test_seed();
	in_child(15, every_source, NULL);
}

/* The text of /proc is another one at each read: all sinks must have the same read's. */
static void proc_source(void *argument)
{
	static const enum end_kind kinds[] = {END_PROC_STATUS, END_PROC_MEMINFO,
					      END_PROC_CMDLINE};
	static const enum end_kind sinks[] = {END_PIPE, END_TCP, END_UNIX, END_FILE, END_PIPE};

	(void)argument;
	for (unsigned i = 0; i < 3; i++) {
		struct crowd crowd;
		size_t size;

		doing("%s to five sinks", end_name(kinds[i]));
		crowd_open(&crowd, kinds[i], NULL, 0, NULL);
		for (unsigned k = 0; k < 5; k++)
			crowd_add(&crowd, sinks[k], 0, k & 1, NULL);
		CHECK_EQUAL(crowd_drive(&crowd, DRIVE_RUN), 0);
		size = (size_t)fid_fan_receipt(crowd.fan)->bytes_out;
		CHECK(size > 0);
		for (unsigned k = 0; k < 5; k++)
			crowd_check_complete(&crowd, (int)k, size);
		crowd_close(&crowd);
		for (unsigned k = 0; k < 5; k++) {
			CHECK(memcmp(crowd.member[k].end.keep, crowd.member[0].end.keep,
				     size) == 0);
			if (k)
				free(crowd.member[k].end.keep);
		}
		free(crowd.member[0].end.keep);
	}
}

TEST(all_sinks_get_the_same_text_of_a_file_that_is_made_when_read)
{
	test_seed();
	in_child(5, proc_source, NULL);
}

/* ---- As many as there may be ---- */

static int many[MANY][2];
static size_t many_got[MANY];

/* Reads some of what is there from some of the pipes. */
static void read_some(uint64_t *random, bool all)
{
	static unsigned char buffer[128 << 10];

	for (unsigned i = 0; i < MANY; i++) {
		size_t want = 1 + test_random(random) % sizeof(buffer);
		ssize_t got;

		if (!all && test_random(random) % 3 == 0)
			continue;
		got = read(many[i][0], buffer, want);
		if (got < 0)
			CHECK_EQUAL(errno, EAGAIN);
		if (got <= 0)
			continue;
		CHECK(many_got[i] + (size_t)got <= MANY_BYTES);
		CHECK(memcmp(buffer, content + many_got[i], (size_t)got) == 0);
		many_got[i] += (size_t)got;
	}
}

static void raise_descriptors(rlim_t wanted)
{
	struct rlimit limit;

	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	if (limit.rlim_cur >= wanted)
		return;
	if (limit.rlim_max < wanted)
		SKIP("this process may have %llu descriptors only",
		     (unsigned long long)limit.rlim_max);
	limit.rlim_cur = wanted;
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

static void as_many_as_may_be(void *argument)
{
	uint64_t random = test_seed();
	struct fid_fan *fan = NULL;
	struct end source;
	int got;

	(void)argument;
	raise_descriptors(2 * MANY + 200);
	content_fill(content, sizeof(content), test_seed());
	doing("a pipe to %d pipes", MANY);
	end_open_source(&source, END_PIPE, content, MANY_BYTES, true);
	CHECK_EQUAL(fid_fan_new(&fan, source.fd, NULL), 0);
	for (unsigned i = 0; i < MANY; i++) {
		CHECK(pipe2(many[i], O_CLOEXEC) == 0);
		CHECK(fcntl(many[i][0], F_SETFL, O_NONBLOCK) == 0);
		if (i % 4)
			fcntl(many[i][1], F_SETPIPE_SZ, 4096 << i % 4);
		CHECK_EQUAL(fid_fan_add(fan, many[i][1], NULL), i);
	}
	CHECK_EQUAL(fid_fan_add(fan, many[0][1], NULL), -ENOSPC);
	while ((got = fid_fan_step(fan, NULL)) > 0) {
		doing("a pipe to %d pipes, %llu bytes", MANY,
		      (unsigned long long)fid_fan_receipt(fan)->bytes_out);
		read_some(&random, false);
	}
	CHECK_EQUAL(got, 0);
	for (unsigned i = 0; i < MANY; i++) {
		CHECK_EQUAL(fid_fan_sink_receipt(fan, (int)i)->bytes_out, MANY_BYTES);
		receipt_check(fid_fan_sink_receipt(fan, (int)i));
		close(many[i][1]);
	}
	CHECK(fid_fan_free(fan) == NULL);
	for (int i = 0; i < 3; i++)
		read_some(&random, true);
	for (unsigned i = 0; i < MANY; i++) {
		for (int k = 0; k < 40 && many_got[i] < MANY_BYTES; k++)
			read_some(&random, true);
		CHECK_EQUAL(many_got[i], MANY_BYTES);
		close(many[i][0]);
	}
	end_close_source(&source);
}

TEST(a_fan_serves_1024_pipes)
{
	test_seed();
	in_child(15, as_many_as_may_be, NULL);
}

/* ---- How much is taken ---- */

static void limited(void *argument)
{
	static const enum end_kind kinds[] = {END_PIPE, END_VMSPLICED, END_TCP,
					      END_UNIX, END_FILE,      END_MEMFD};
	static const size_t limits[] = {0, 1, 4097, 65536, 700001};

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (unsigned i = 0; i < 6 * 5; i++) {
		size_t limit = limits[i / 6];
		struct fid_fan_options options = {.size = sizeof(options),
						  .flags = limit ? 0 : FID_LIMIT_ZERO,
						  .bytes_max = limit};
		struct crowd crowd;

		doing("%s, at most %zu bytes", source_name(kinds[i % 6]), limit);
		crowd_open(&crowd, kinds[i % 6], content, BYTES, &options);
		crowd_add(&crowd, END_PIPE, 0, true, NULL);
		crowd_add(&crowd, END_PIPE, 1 << 20, false, NULL);
		crowd_add(&crowd, END_TCP, 0, true, NULL);
		crowd_add(&crowd, END_FILE, 0, false, NULL);
		CHECK_EQUAL(crowd_drive(&crowd, (enum drive)(i % DRIVES)), 0);
		for (int k = 0; k < 4; k++)
			crowd_check_complete(&crowd, k, limit);
		CHECK_EQUAL(fid_fan_receipt(crowd.fan)->bytes_in, limit);
		/* The source still has the rest, to the byte. */
		CHECK_EQUAL(end_leftover(&crowd.source, content + limit, BYTES - limit),
			    BYTES - limit);
		crowd_close(&crowd);
	}
}

TEST(a_fan_takes_no_byte_beyond_its_limit)
{
	test_seed();
	in_child(5, limited, NULL);
}

static void offsets(void *argument)
{
	enum { FROM = 12345, AT = 777 };
	struct fid_fan_options options = {
		.size = sizeof(options), .flags = FID_SOURCE_OFFSET, .source_offset = FROM};
	struct fid_fan_sink_options sink = {
		.size = sizeof(sink), .flags = FID_SINK_OFFSET, .sink_offset = AT};
	int file = open(scratch("at"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct crowd crowd;

	(void)argument;
	doing("a fan from an offset to an offset");
	CHECK(file >= 0);
	content_fill(content, sizeof(content), test_seed());
	crowd_open(&crowd, END_FILE, content, BYTES, &options);
	crowd.bytes = content + FROM;
	crowd.size = BYTES - FROM;
	CHECK_EQUAL(lseek(crowd.source.fd, 5, SEEK_SET), 5);
	crowd_add(&crowd, END_PIPE, 0, true, NULL);
	crowd_add_fd(&crowd, file, &sink);
	crowd_add(&crowd, END_APPEND, 0, true, NULL);
	CHECK_EQUAL(crowd_drive(&crowd, DRIVE_RUN), 0);
	for (int k = 0; k < 3; k++)
		crowd_check_complete(&crowd, k, BYTES - FROM);
	CHECK_EQUAL(lseek(crowd.source.fd, 0, SEEK_CUR), 5);
	CHECK_EQUAL(lseek(file, 0, SEEK_CUR), 0);
	CHECK_EQUAL(pread(file, other, BYTES, AT), BYTES - FROM);
	CHECK(memcmp(other, content + FROM, BYTES - FROM) == 0);
	crowd_close(&crowd);
	close(file);
}

TEST(a_fan_uses_the_offsets_that_it_is_given)
{
	test_seed();
	in_child(5, offsets, NULL);
}

/* ---- Stability ---- */

/* The file is written over after everything was delivered and before anything is read. */
static void overwritten(void *argument)
{
	enum { SIZE = 256 << 10 };
	/* The last is a pipe that was filled from a file by splice(2). */
	static const enum end_kind kinds[] = {END_FILE, END_TMPFS, END_MEMFD, END_PIPE};
	static const enum end_kind sinks[] = {END_PIPE, END_UNIX, END_TCP};
	unsigned seen = 0;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	content_fill(other, sizeof(other), test_seed() + 1);
	for (unsigned i = 0; i < 24; i++) {
		bool stable = i & 1;
		struct fid_fan_options options = {.size = sizeof(options),
						  .flags = stable ? FID_STABLE : 0};
		enum end_kind kind = kinds[i / 2 % 4];
		int fds[2][2], pipe[2] = {-1, -1}, file, got;
		int64_t from = 0;
		struct fid_fan *fan;

		doing("%s%s, written over, to two of %s", end_name(kind),
		      stable ? " stable" : "", end_name(sinks[i / 8]));
		file = kind == END_MEMFD ? memfd_create("source", MFD_CLOEXEC)
					 : open(kind == END_FILE ? scratch("changing")
								 : scratch_shm("changing"),
						O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		CHECK(file >= 0);
		CHECK_EQUAL(pwrite(file, content, SIZE, 0), SIZE);
		if (kind == END_PIPE) {
			CHECK(pipe2(pipe, O_CLOEXEC) == 0);
			CHECK(fcntl(pipe[1], F_SETPIPE_SZ, 1 << 20) > 0);
			CHECK_EQUAL(splice(file, &from, pipe[1], NULL, SIZE, 0), SIZE);
			close(pipe[1]);
		}
		CHECK_EQUAL(fid_fan_new(&fan, kind == END_PIPE ? pipe[0] : file, &options), 0);
		for (int k = 0; k < 2; k++) {
			stream_pair(sinks[i / 8], fds[k]);
			if (sinks[i / 8] == END_PIPE)
				CHECK(fcntl(fds[k][1], F_SETPIPE_SZ, 1 << 20) > 0);
			CHECK(fcntl(fds[k][0], F_SETFL, O_NONBLOCK) == 0);
			CHECK_EQUAL(fid_fan_add(fan, fds[k][1], NULL), k);
		}
		/* A socket may not take all of it unread. */
		got = fid_fan_run(fan, 30);
		CHECK(got == 0 || got == -ETIMEDOUT);
		CHECK_EQUAL(pwrite(file, other, SIZE, 0), SIZE);
		for (int k = 0; k < 2; k++) {
			const struct fid_receipt *receipt = fid_fan_sink_receipt(fan, k);
			size_t out = (size_t)receipt->bytes_out, at = 0;
			static unsigned char buffer[SIZE];
			ssize_t moved;

			CHECK(out > 0);
			while (at < out) {
				struct pollfd wait = {.fd = fds[k][0], .events = POLLIN};

				CHECK(poll(&wait, 1, 5000) == 1);
				moved = read(fds[k][0], buffer + at, SIZE - at);
				CHECK(moved > 0);
				at += (size_t)moved;
			}
			CHECK_EQUAL(at, out);
			CHECK(!stable || receipt->stable);
			if (memcmp(buffer, content, out) != 0) {
				CHECK(!receipt->stable);
				seen++;
			}
		}
		CHECK(fid_fan_free(fan) == NULL);
		for (int k = 0; k < 4; k++)
			close(fds[k / 2][k % 2]);
		if (kind == END_PIPE)
			close(pipe[0]);
		close(file);
	}
	test_note("later writes were seen by %u sinks of fans without FID_STABLE", seen);
}

TEST(what_a_stable_fan_delivered_does_not_change_with_its_source)
{
	test_seed();
	in_child(5, overwritten, NULL);
}

/* ---- What the calls refuse ---- */

static void refusals(void *argument)
{
	struct fid_fan_options options = {.size = sizeof(options), .flags = FID_SINK_OFFSET};
	struct fid_fan_sink_options sink = {.size = sizeof(sink)};
	int fds[2], spill = memfd_create("spill", MFD_CLOEXEC);
	struct fid_fan *fan = NULL;

	(void)argument;
	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	CHECK_EQUAL(fid_fan_new(&fan, -1, NULL), -EBADF);
	CHECK_EQUAL(fid_fan_new(&fan, fds[1], NULL), -EBADF);
	CHECK_EQUAL(fid_fan_new(&fan, fds[0], &options), -EINVAL);
	options.flags = FID_SOURCE_OFFSET;
	CHECK_EQUAL(fid_fan_new(&fan, fds[0], &options), -ESPIPE);
	CHECK(fan == NULL);
	CHECK_EQUAL(fid_fan_new(&fan, fds[0], NULL), 0);
	CHECK_EQUAL(fid_fan_add(fan, fds[1], NULL), -EINVAL); /* into itself */
	CHECK_EQUAL(fid_fan_add(fan, -1, NULL), -EBADF);
	CHECK_EQUAL(fid_fan_add(fan, fds[0], NULL), -EBADF);
	sink.on_slow = FID_SLOW_SPILL + 1;
	CHECK_EQUAL(fid_fan_add(fan, spill, &sink), -EINVAL);
	sink.on_slow = FID_SLOW_SPILL;
	sink.spill = -1;
	CHECK_EQUAL(fid_fan_add(fan, spill, &sink), -EBADF);
	sink.spill = fds[1];
	CHECK(fid_fan_add(fan, spill, &sink) < 0);
	CHECK_EQUAL(fid_fan_receipt(fan)->bytes_in, 0);
	CHECK(fid_fan_free(fan) == NULL);
	CHECK(fid_fan_free(NULL) == NULL);
	CHECK_EQUAL(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
	close(fds[0]);
	close(fds[1]);
	close(spill);
}

TEST(what_a_fan_cannot_do_is_said_before_a_byte_moves)
{
	in_child(5, refusals, NULL);
}
