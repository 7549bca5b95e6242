/* SPDX-License-Identifier: MIT */
/*
 * Sinks that fall behind, or stop altogether: all wait for them, or they are dropped, or what
 * they do not take goes to a file of a bounded size.
 */
#include "crowd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = (4 << 20) + 4321 };

static unsigned char content[BYTES];

static const enum end_kind stuck_kinds[] = {END_PIPE, END_TCP, END_UNIX};

enum { STUCK_KINDS = sizeof(stuck_kinds) / sizeof(stuck_kinds[0]) };

/* Sinks that go on, and one that nobody reads: its far end. Member 0 is that sink. */
static int open_stuck(struct crowd *crowd, enum end_kind source, enum end_kind stuck,
		      bool copies, const struct fid_fan_sink_options *options)
{
	struct fid_fan_options copying = {.size = sizeof(copying),
					  .routes = FID_ROUTE(FID_READ_WRITE)};
	int fds[2];

	crowd_open(crowd, source, content, BYTES, copies ? &copying : NULL);
	small_pair(stuck, 0, fds);
	crowd_add_fd(crowd, fds[1], options);
	crowd_add(crowd, END_PIPE, 0, true, NULL);
	crowd_add(crowd, END_PIPE, 1 << 20, false, NULL);
	crowd_add(crowd, END_TCP, 0, true, NULL);
	crowd_add(crowd, END_FILE, 0, false, NULL);
	return fds[0];
}

static bool others_are_done(struct crowd *crowd)
{
	for (unsigned i = 1; i < crowd->count; i++)
		if (fid_fan_sink_receipt(crowd->fan, (int)i)->bytes_out < crowd->size)
			return false;
	return true;
}

static void check_others(struct crowd *crowd)
{
	for (unsigned i = 1; i < crowd->count; i++)
		crowd_check_complete(crowd, (int)i, crowd->size);
}

/* Everything that arrives at the far end of a sink that is closed now. */
static size_t close_and_read(int sink, int far)
{
	struct peer peer = PEER_NONE;

	close(sink);
	peer_drain(&peer, far, content, BYTES, false);
	peer_join(&peer);
	CHECK(peer.wrong_at == SIZE_MAX);
	return peer.drained;
}

/* The sink was dropped, and its account is what its reader finds. */
static void check_dropped(struct crowd *crowd, int far)
{
	const struct fid_receipt *receipt = fid_fan_sink_receipt(crowd->fan, 0);
	uint64_t out = receipt->bytes_out;

	CHECK_EQUAL(receipt->error, -ETIMEDOUT);
	CHECK_EQUAL(receipt->error_side, FID_SIDE_SINK);
	CHECK(out < BYTES);
	crowd_salvage(crowd, 0);
	crowd_close(crowd);
	CHECK_EQUAL(close_and_read(crowd->member[0].fd, far), out);
}

static void dropped(void *argument)
{
	static const enum end_kind sources[] = {END_PIPE, END_FILE, END_TCP, END_VMSPLICED};

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (unsigned i = 0; i < 4 * STUCK_KINDS; i++) {
		struct fid_fan_sink_options options = {
			.size = sizeof(options), .on_slow = FID_SLOW_DROP, .stall_ms = 30};
		enum end_kind kind = stuck_kinds[i % STUCK_KINDS];
		enum end_kind source = sources[i / STUCK_KINDS];
		struct crowd crowd;
		int far;

		doing("source %d and a %s that nobody reads, dropped after 30 ms", (int)source,
		      end_name(kind));
		far = open_stuck(&crowd, source, kind, i & 1, &options);
		CHECK_EQUAL(crowd_drive(&crowd, (enum drive)(i % DRIVES)), 0);
		check_others(&crowd);
		check_dropped(&crowd, far);
	}
}

TEST(a_sink_that_takes_nothing_is_dropped_and_the_others_get_everything)
{
	test_seed();
	in_child(8, dropped, NULL);
}

/* It takes a little, often enough: for longer than the time after which it would go. */
static void slow_but_alive(void *argument)
{
	struct fid_fan_sink_options options = {
		.size = sizeof(options), .on_slow = FID_SLOW_DROP, .stall_ms = 1000};
	struct timespec now, end;
	struct crowd crowd;
	struct peer peer = PEER_NONE;
	size_t got = 0;
	int far;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	doing("a pipe that is read 4 KiB at a time");
	far = open_stuck(&crowd, END_PIPE, END_PIPE, false, &options);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += 2;
	do {
		unsigned char page[4096];
		int run = fid_fan_run(crowd.fan, 50);
		ssize_t part;

		doing("a pipe that is read 4 KiB at a time, %zu", got);
		CHECK_EQUAL(run, -ETIMEDOUT);
		CHECK_EQUAL(fid_fan_sink_receipt(crowd.fan, 0)->error, 0);
		part = read(far, page, sizeof(page));
		CHECK(part > 0 && memcmp(page, content + got, (size_t)part) == 0);
		got += (size_t)part;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < end.tv_sec ||
		 (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec));
	/* Now it is read as fast as it can be. */
	peer_drain(&peer, far, content + got, BYTES - got, false);
	CHECK_EQUAL(crowd_drive(&crowd, DRIVE_RUN), 0);
	crowd_check_complete(&crowd, 0, BYTES);
	check_others(&crowd);
	crowd_close(&crowd);
	close(crowd.member[0].fd);
	peer_join(&peer);
	CHECK(peer.wrong_at == SIZE_MAX);
	CHECK_EQUAL(peer.drained, BYTES - got);
}

TEST(a_sink_that_takes_a_little_in_time_is_not_dropped)
{
	test_seed();
	in_child(5, slow_but_alive, NULL);
}

static void waited_for(void *argument)
{
	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (unsigned i = 0; i < 2 * STUCK_KINDS; i++) {
		struct peer peer = PEER_NONE;
		struct crowd crowd;
		int far;

		doing("a %s that nobody reads, which all wait for",
		      end_name(stuck_kinds[i % STUCK_KINDS]));
		far = open_stuck(&crowd, END_PIPE, stuck_kinds[i % STUCK_KINDS],
				 i / STUCK_KINDS, NULL);
		CHECK_EQUAL(fid_fan_run(crowd.fan, 100), -ETIMEDOUT);
		crowd_check(&crowd);
		CHECK_EQUAL(fid_fan_receipt(crowd.fan)->error, 0);
		CHECK(!others_are_done(&crowd));
		peer_drain(&peer, far, content, BYTES, false);
		CHECK_EQUAL(crowd_drive(&crowd, DRIVE_STEP), 0);
		crowd_check_complete(&crowd, 0, BYTES);
		check_others(&crowd);
		crowd_close(&crowd);
		close(crowd.member[0].fd);
		peer_join(&peer);
		CHECK(peer.wrong_at == SIZE_MAX);
		CHECK_EQUAL(peer.drained, BYTES);
	}
}

TEST(all_wait_for_a_sink_that_is_to_be_waited_for)
{
	test_seed();
	in_child(5, waited_for, NULL);
}

/* ---- Spilling ---- */

static int open_spill(unsigned number)
{
	int fd;

	if (number & 1)
		return memfd_create("spill", MFD_CLOEXEC);
	fd = open(scratch("spill"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	unlink(scratch("spill"));
	return fd;
}

static uint64_t size_of(int fd)
{
	struct stat stat;

	CHECK(fstat(fd, &stat) == 0);
	return (uint64_t)stat.st_size;
}

static void spilled(void *argument)
{
	static const enum end_kind sources[] = {END_PIPE, END_FILE, END_TCP, END_VMSPLICED};
	uint64_t most = 0;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (unsigned i = 0; i < 4 * STUCK_KINDS; i++) {
		struct fid_fan_sink_options options = {.size = sizeof(options),
						       .on_slow = FID_SLOW_SPILL,
						       .spill = open_spill(i),
						       .spill_bytes_max = BYTES};
		enum end_kind kind = stuck_kinds[i % STUCK_KINDS];
		struct peer peer = PEER_NONE;
		struct crowd crowd;
		int far;

		doing("a %s that nobody reads, spilled", end_name(kind));
		CHECK(options.spill >= 0);
		far = open_stuck(&crowd, sources[i / STUCK_KINDS], kind, i & 1, &options);
		while (!others_are_done(&crowd)) {
			CHECK(crowd_step(&crowd) > 0);
			CHECK(size_of(options.spill) <= options.spill_bytes_max);
			most = size_of(options.spill) > most ? size_of(options.spill) : most;
		}
		CHECK_EQUAL(fid_fan_sink_receipt(crowd.fan, 0)->error, 0);
		CHECK_EQUAL(fid_fan_sink_receipt(crowd.fan, 0)->bytes_in, BYTES);
		CHECK(fid_fan_sink_receipt(crowd.fan, 0)->bytes_held > 0);
		if (i >= 2 * STUCK_KINDS) {
			/* What is in the file can be had without its sink. */
			uint64_t out = fid_fan_sink_receipt(crowd.fan, 0)->bytes_out;

			CHECK_EQUAL(out + crowd_salvage(&crowd, 0), BYTES);
			crowd_close(&crowd);
			CHECK_EQUAL(close_and_read(crowd.member[0].fd, far), out);
			continue;
		}
		/* It gets everything, when it wants. */
		peer_drain(&peer, far, content, BYTES, true);
		CHECK_EQUAL(crowd_drive(&crowd, (enum drive)(i % DRIVES)), 0);
		crowd_check_complete(&crowd, 0, BYTES);
		check_others(&crowd);
		crowd_close(&crowd);
		close(crowd.member[0].fd);
		peer_join(&peer);
		CHECK(peer.wrong_at == SIZE_MAX);
		CHECK_EQUAL(peer.drained, BYTES);
	}
	CHECK(most > BYTES / 4);
}

TEST(a_sink_that_spills_holds_up_nobody_and_gets_everything_later)
{
	test_seed();
	in_child(8, spilled, NULL);
}

static void spill_is_bounded(void *argument)
{
	enum { ROOM = 300000 };

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (unsigned i = 0; i < 4 * STUCK_KINDS; i++) {
		bool copies = i >= 2 * STUCK_KINDS;
		enum end_kind kind = stuck_kinds[i / 2 % STUCK_KINDS];
		struct fid_fan_sink_options options = {.size = sizeof(options),
						       .on_slow = FID_SLOW_SPILL,
						       .stall_ms = i & 1 ? 30 : 0,
						       .spill = open_spill(i / 2),
						       .spill_bytes_max = ROOM};
		struct peer peer = PEER_NONE;
		struct timespec now, end;
		struct crowd crowd;
		int far, got;

		doing("a %s that nobody reads and a small spill file, %s%s", end_name(kind),
		      i & 1 ? "dropped" : "waited for", copies ? ", copying" : "");
		far = open_stuck(&crowd, END_PIPE, kind, copies, &options);
		if (i & 1) {
			while ((got = crowd_step(&crowd)) > 0)
				CHECK(size_of(options.spill) <= ROOM);
			CHECK_EQUAL(got, 0);
			check_others(&crowd);
			CHECK(fid_fan_sink_receipt(crowd.fan, 0)->bytes_held > 0);
			check_dropped(&crowd, far);
			continue;
		}
		clock_gettime(CLOCK_MONOTONIC, &end);
		end.tv_nsec += 200000000;
		do {
			CHECK_EQUAL(fid_fan_run(crowd.fan, 10), -ETIMEDOUT);
			CHECK(size_of(options.spill) <= ROOM);
			clock_gettime(CLOCK_MONOTONIC, &now);
		} while (now.tv_nsec + (now.tv_sec - end.tv_sec) * 1000000000LL < end.tv_nsec);
		crowd_check(&crowd);
		CHECK(!others_are_done(&crowd));
		if (copies && kind == END_PIPE) {
			/* Left in the middle: some of it is in the file, some before it. */
			uint64_t out = fid_fan_sink_receipt(crowd.fan, 0)->bytes_out;

			CHECK(out + crowd_salvage(&crowd, 0) >=
			      fid_fan_receipt(crowd.fan)->bytes_out);
			CHECK(crowd_salvage(&crowd, -1) > 0);
			crowd_close(&crowd);
			CHECK_EQUAL(close_and_read(crowd.member[0].fd, far), out);
			continue;
		}
		peer_drain(&peer, far, content, BYTES, false);
		while ((got = crowd_step(&crowd)) > 0)
			CHECK(size_of(options.spill) <= ROOM);
		CHECK_EQUAL(got, 0);
		crowd_check_complete(&crowd, 0, BYTES);
		check_others(&crowd);
		crowd_close(&crowd);
		close(crowd.member[0].fd);
		peer_join(&peer);
		CHECK(peer.wrong_at == SIZE_MAX);
		CHECK_EQUAL(peer.drained, BYTES);
	}
}

TEST(a_spill_file_never_grows_beyond_its_bound)
{
	test_seed();
	in_child(8, spill_is_bounded, NULL);
}

/* A spill file on a disk that is full before its bound is a full spill file. */
static void disk_is_full(void *argument)
{
	char path[600];

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	snprintf(path, sizeof(path), "%s/spill", scratch_small(262144));
	for (unsigned i = 0; i < 2 * STUCK_KINDS; i++) {
		struct fid_fan_sink_options options = {
			.size = sizeof(options),
			.on_slow = FID_SLOW_SPILL,
			.stall_ms = 30,
			.spill = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
		const struct fid_receipt *receipt;
		struct crowd crowd;
		uint64_t out;
		int far;

		doing("a %s that nobody reads and a spill file on a full disk",
		      end_name(stuck_kinds[i / 2]));
		CHECK(options.spill >= 0);
		far = open_stuck(&crowd, i & 1 ? END_FILE : END_PIPE, stuck_kinds[i / 2], false,
				 &options);
		CHECK_EQUAL(crowd_drive(&crowd, (enum drive)(i % DRIVES)), 0);
		check_others(&crowd);
		receipt = fid_fan_sink_receipt(crowd.fan, 0);
		if (receipt->error != -ETIMEDOUT && receipt->error != -ENOSPC)
			FAIL("%s", fid_error_name(receipt->error));
		test_note("a spill file without room: %s after %llu bytes, %llu held",
			  fid_error_name(receipt->error),
			  (unsigned long long)receipt->bytes_out,
			  (unsigned long long)receipt->bytes_held);
		out = receipt->bytes_out;
		CHECK(crowd_salvage(&crowd, 0) > 0);
		crowd_close(&crowd);
		CHECK_EQUAL(close_and_read(crowd.member[0].fd, far), out);
	}
}

TEST(a_spill_file_on_a_full_disk_costs_its_sink_alone)
{
	test_seed();
	in_child(8, disk_is_full, NULL);
}
