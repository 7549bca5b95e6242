/* SPDX-License-Identifier: MIT */
/* Flows in one process without peers: what fits into a pipe needs nobody at the far end. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <fid.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BYTES = 50000 };

static unsigned char content[BYTES];
static unsigned char arrived[BYTES + 1];

static int filled_memfd(void)
{
	uint64_t state = 1;
	int fd = memfd_create("source", MFD_CLOEXEC);

	CHECK(fd >= 0);
	for (size_t i = 0; i < BYTES; i++)
		content[i] = (unsigned char)test_random(&state);
	CHECK(write(fd, content, BYTES) == BYTES);
	CHECK(lseek(fd, 0, SEEK_SET) == 0);
	return fd;
}

static void open_pipe(int ends[2])
{
	CHECK(pipe2(ends, O_CLOEXEC) == 0);
}

TEST(fid_copy_fills_a_pipe_from_a_file_and_a_file_from_a_pipe)
{
	struct fid_receipt receipt;
	int source = filled_memfd();
	int sink = memfd_create("sink", MFD_CLOEXEC);
	int ends[2];

	open_pipe(ends);
	CHECK_EQUAL(fid_copy(source, ends[1], NULL, &receipt), BYTES);
	CHECK_EQUAL(receipt.bytes_in, BYTES);
	CHECK_EQUAL(receipt.bytes_out, BYTES);
	CHECK_EQUAL(receipt.bytes_held, 0);
	CHECK_EQUAL(receipt.error, 0);
	CHECK(receipt.reason[0] != 0);
	close(ends[1]);
	CHECK_EQUAL(fid_copy(ends[0], sink, NULL, NULL), BYTES);
	CHECK_EQUAL(pread(sink, arrived, sizeof(arrived), 0), BYTES);
	CHECK(memcmp(arrived, content, BYTES) == 0);
	close(ends[0]);
	close(source);
	close(sink);
}

TEST(a_small_limited_transfer_takes_one_read_and_one_write)
{
	struct fid_options options = {.size = sizeof(options), .bytes_max = 16384};
	struct fid_receipt receipt;
	int source = filled_memfd();
	int ends[2];

	open_pipe(ends);
	CHECK_EQUAL(fid_copy(source, ends[1], &options, &receipt), 16384);
	CHECK_EQUAL(receipt.calls[FID_READ_WRITE], 2);
	for (unsigned method = 0; method < FID_READ_WRITE; method++)
		CHECK_EQUAL(receipt.calls[method], 0);
	CHECK_EQUAL(receipt.pipe_bytes, 0);
	close(ends[0]);
	close(ends[1]);
	close(source);
}

TEST(a_flow_that_waits_names_what_it_waits_for)
{
	struct pollfd wait[2] = {{.fd = -2}, {.fd = -2}};
	struct fid_options options = {.size = sizeof(options), .flags = FID_NOWAIT};
	struct fid_flow *flow = NULL;
	int source[2], sink[2];
	ssize_t room = 0, moved;

	open_pipe(source);
	open_pipe(sink);
	CHECK_EQUAL(fid_flow_new(&flow, source[0], sink[1], &options, NULL), 0);
	CHECK_EQUAL(fid_flow_step(flow, wait), FID_WAIT);
	CHECK_EQUAL(wait[0].fd, source[0]);
	CHECK_EQUAL(wait[0].events, POLLIN);
	/* The sink is there too, for the news of its death. */
	CHECK_EQUAL(wait[1].fd, sink[1]);
	CHECK_EQUAL(wait[1].events, 0);

	/* A full sink is waited for instead. */
	CHECK(fcntl(sink[1], F_SETFL, O_NONBLOCK) == 0);
	while ((moved = write(sink[1], content, 4096)) > 0)
		room += moved;
	CHECK(fcntl(sink[1], F_SETFL, 0) == 0);
	CHECK(room > 0 && write(source[1], "abc", 3) == 3);
	CHECK_EQUAL(fid_flow_step(flow, wait), FID_WAIT);
	CHECK_EQUAL(wait[1].fd, sink[1]);
	CHECK_EQUAL(wait[1].events, POLLOUT);
	CHECK_EQUAL(wait[0].events, 0);
	CHECK(fid_flow_receipt(flow)->waits >= 2);

	/* Nothing to wait for at the end. */
	close(source[1]);
	while (room > 0 && (moved = read(sink[0], arrived, 4096)) > 0)
		room -= moved;
	while ((moved = fid_flow_step(flow, wait)) == FID_MORE)
		CHECK(wait[0].fd == -1 && wait[1].fd == -1);
	CHECK_EQUAL(moved, FID_DONE);
	CHECK(wait[0].fd == -1 && wait[1].fd == -1);
	CHECK_EQUAL(fid_flow_receipt(flow)->bytes_out, 3);
	CHECK(fid_flow_free(flow) == NULL);
	close(source[0]);
	close(sink[0]);
	close(sink[1]);
}

/* A sink that takes one byte more and then fails: a socket whose peer is gone. */
TEST(a_flow_keeps_what_it_holds_when_the_sink_is_gone_and_salvage_returns_it_in_pieces)
{
	struct fid_options options = {.size = sizeof(options),
				      .routes = FID_ROUTE(FID_READ_WRITE)};
	struct fid_flow *flow = NULL;
	size_t salvaged = 0;
	int source[2], sink[2];
	ssize_t piece;

	open_pipe(source);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sink) == 0);
	close(filled_memfd());
	CHECK(write(source[1], content, 1000) == 1000);
	close(source[1]);
	close(sink[1]);
	CHECK_EQUAL(fid_flow_new(&flow, source[0], sink[0], &options, NULL), 0);
	CHECK_EQUAL(fid_flow_run(flow, -1), -EPIPE);
	CHECK_EQUAL(fid_flow_receipt(flow)->bytes_in, 1000);
	CHECK_EQUAL(fid_flow_receipt(flow)->bytes_held, 1000);
	CHECK_EQUAL(fid_flow_receipt(flow)->error, -EPIPE);
	CHECK_EQUAL(fid_flow_receipt(flow)->error_side, FID_SIDE_SINK);
	CHECK_EQUAL(fid_flow_receipt(flow)->error_call, FID_CALL_WRITE);
	CHECK_EQUAL(fid_flow_salvage(flow, arrived, 0), 0);
	while ((piece = fid_flow_salvage(flow, arrived + salvaged, 7)) > 0) {
		CHECK(piece <= 7);
		salvaged += (size_t)piece;
		CHECK_EQUAL(fid_flow_receipt(flow)->bytes_salvaged, salvaged);
		CHECK_EQUAL(fid_flow_receipt(flow)->bytes_held, 1000 - salvaged);
	}
	CHECK_EQUAL(piece, 0);
	CHECK_EQUAL(salvaged, 1000);
	CHECK(memcmp(arrived, content, 1000) == 0);
	/* The error stays, and the receipt's sum still holds. */
	CHECK_EQUAL(fid_flow_run(flow, -1), -EPIPE);
	CHECK_EQUAL(fid_flow_step(flow, NULL), -EPIPE);
	CHECK(fid_flow_free(flow) == NULL);
	close(source[0]);
	close(sink[0]);
}

TEST(bytes_salvaged_from_a_waiting_flow_are_not_delivered_any_more)
{
	struct fid_options options = {.size = sizeof(options),
				      .routes = FID_ROUTE(FID_READ_WRITE),
				      .flags = FID_NOWAIT};
	struct fid_flow *flow = NULL;
	int source[2], sink[2];
	ssize_t room = 0, moved;

	open_pipe(source);
	open_pipe(sink);
	CHECK(fcntl(sink[1], F_SETFL, O_NONBLOCK) == 0);
	while ((moved = write(sink[1], content, 4096)) > 0)
		room += moved;
	CHECK(write(source[1], "abcdef", 6) == 6);
	CHECK_EQUAL(fid_flow_new(&flow, source[0], sink[1], &options, NULL), 0);
	CHECK_EQUAL(fid_flow_run(flow, 0), -ETIMEDOUT);
	CHECK_EQUAL(fid_flow_receipt(flow)->bytes_held, 6);
	CHECK_EQUAL(fid_flow_salvage(flow, arrived, 4), 4);
	CHECK(memcmp(arrived, "abcd", 4) == 0);
	close(source[1]);
	while (room > 0 && (moved = read(sink[0], arrived, 4096)) > 0)
		room -= moved;
	CHECK_EQUAL(fid_flow_run(flow, -1), 0);
	CHECK_EQUAL(read(sink[0], arrived, 100), 2);
	CHECK(memcmp(arrived, "ef", 2) == 0);
	CHECK_EQUAL(fid_flow_receipt(flow)->bytes_in, 6);
	CHECK_EQUAL(fid_flow_receipt(flow)->bytes_out, 2);
	CHECK_EQUAL(fid_flow_receipt(flow)->bytes_salvaged, 4);
	CHECK(fid_flow_free(flow) == NULL);
	close(source[0]);
	close(sink[0]);
	close(sink[1]);
}

TEST(a_pool_keeps_clean_pipes_and_closes_dirty_ones)
{
	struct fid_options options = {.size = sizeof(options),
				      .routes = FID_ROUTE(FID_SPLICE_PIPE)};
	struct fid_pool_stats stats;
	struct fid_pool *pool = NULL;
	struct fid_flow *flow = NULL;
	int sink[2];

	CHECK_EQUAL(fid_pool_new(&pool, NULL), 0);
	options.pool = pool;
	for (int i = 0; i < 3; i++) {
		int source = filled_memfd();
		int file = memfd_create("sink", MFD_CLOEXEC);

		CHECK_EQUAL(fid_copy(source, file, &options, NULL), BYTES);
		close(source);
		close(file);
		CHECK_EQUAL(fid_pool_stats(pool, &stats), 0);
		CHECK_EQUAL(stats.pipes_made, 1);
		CHECK_EQUAL(stats.pipes_reused, i);
		CHECK_EQUAL(stats.pipes_idle, 1);
		CHECK_EQUAL(stats.pipes_lent, 0);
	}
	/* A flow that ends with bytes in its pipe: nobody else may ever see them. */
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sink) == 0);
	close(sink[1]);
	for (int i = 0; i < 2; i++) {
		int source = filled_memfd();

		CHECK_EQUAL(fid_flow_new(&flow, source, sink[0], &options, NULL), 0);
		CHECK_EQUAL(fid_flow_run(flow, -1), -EPIPE);
		CHECK(fid_flow_receipt(flow)->bytes_held > 0);
		CHECK(fid_flow_free(flow) == NULL);
		close(source);
		CHECK_EQUAL(fid_pool_stats(pool, &stats), 0);
		CHECK_EQUAL(stats.pipes_closed_dirty, i + 1);
		CHECK_EQUAL(stats.pipes_idle, 0);
		CHECK_EQUAL(stats.pipes_lent, 0);
	}
	close(sink[0]);
	CHECK(fid_pool_free(pool) == NULL);
}

TEST(past_pipes_max_flows_copy_and_the_pool_counts_it)
{
	enum { LARGE = 2 << 20 };
	struct fid_pool_options pool_options = {.size = sizeof(pool_options), .pipes_max = 1};
	struct fid_options options = {.size = sizeof(options), .flags = FID_NOWAIT};
	struct fid_pool_stats stats;
	struct fid_pool *pool = NULL;
	struct fid_flow *flow[2] = {NULL, NULL};
	int sink[2][2], source[2];

	CHECK_EQUAL(fid_pool_new(&pool, &pool_options), 0);
	options.pool = pool;
	options.routes = FID_ROUTE(FID_SPLICE_PIPE) | FID_ROUTE(FID_READ_WRITE);
	for (int i = 0; i < 2; i++) {
		source[i] = filled_memfd();
		CHECK(ftruncate(source[i], LARGE) == 0);
		CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
				 sink[i]) == 0);
		CHECK_EQUAL(fid_flow_new(&flow[i], source[i], sink[i][0], &options, NULL), 0);
		CHECK_EQUAL(fid_flow_run(flow[i], 0), -ETIMEDOUT);
		CHECK(fid_flow_receipt(flow[i])->bytes_held > 0);
	}
	CHECK_EQUAL(fid_pool_stats(pool, &stats), 0);
	CHECK_EQUAL(stats.pipes_lent, 1);
	CHECK_EQUAL(stats.buffers_lent, 1);
	CHECK(stats.pipes_refused >= 1);
	CHECK_EQUAL(fid_flow_receipt(flow[1])->by_method[FID_SPLICE_PIPE], 0);
	for (int i = 0; i < 2; i++) {
		size_t done = 0;

		while (done < LARGE) {
			size_t at = done < BYTES ? done : 0;
			ssize_t moved = read(sink[i][1], arrived, BYTES - at);

			if (done < BYTES && moved > 0)
				CHECK(memcmp(arrived, content + done, (size_t)moved) == 0);
			if (moved > 0)
				done += (size_t)moved;
			else
				CHECK(fid_flow_run(flow[i], 0) == -ETIMEDOUT ||
				      errno == EAGAIN);
		}
		CHECK_EQUAL(done, LARGE);
		CHECK_EQUAL(fid_flow_run(flow[i], 0), 0);
		CHECK(fid_flow_free(flow[i]) == NULL);
		close(source[i]);
		close(sink[i][0]);
		close(sink[i][1]);
	}
	CHECK(fid_pool_free(pool) == NULL);
}

TEST(a_pipe_into_itself_is_refused_or_copied_and_loses_nothing)
{
	struct fid_options options = {.size = sizeof(options), .bytes_max = 6};
	int ends[2];

	open_pipe(ends);
	CHECK(write(ends[1], "abcdef", 6) == 6);
	CHECK_EQUAL(fid_copy(ends[0], ends[1], &options, NULL), 6);
	CHECK_EQUAL(read(ends[0], arrived, 100), 6);
	CHECK(memcmp(arrived, "abcdef", 6) == 0);
	close(ends[0]);
	close(ends[1]);
}

TEST(the_elapsed_time_of_a_flow_grows)
{
	struct fid_flow *flow = NULL;
	uint64_t first;
	int source[2], sink[2];

	open_pipe(source);
	open_pipe(sink);
	CHECK_EQUAL(fid_flow_new(&flow, source[0], sink[1], NULL, NULL), 0);
	CHECK(fid_flow_receipt(flow) != NULL);
	first = fid_flow_receipt(flow)->elapsed_ns;
	CHECK_EQUAL(fid_flow_run(flow, 20), -ETIMEDOUT);
	CHECK(fid_flow_receipt(flow)->elapsed_ns >= first + 19000000);
	CHECK(fid_flow_free(flow) == NULL);
	close(source[0]);
	close(source[1]);
	close(sink[0]);
	close(sink[1]);
}

TEST(an_offset_into_a_sink_that_appends_is_einval_and_nothing_is_written)
{
	static const struct fid_options wishes[] = {
		{.flags = FID_SINK_OFFSET},
		{.flags = FID_SINK_OFFSET, .sink_offset = 2},
		{.sink_offset = 2},
	};
	static const uint64_t limits[] = {4, 16384, 16385, 0};
	int source = filled_memfd();
	int sink = memfd_create("sink", MFD_CLOEXEC);
	char path[64];
	int appends;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", sink);
	appends = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
	CHECK(appends >= 0);
	CHECK(write(sink, "0123456789", 10) == 10);
	for (int i = 0; i < 24; i++) {
		struct fid_options options = wishes[i % 3];
		struct fid_receipt receipt = {0};

		options.size = sizeof(options);
		options.bytes_max = limits[i / 3 % 4];
		CHECK_EQUAL(fid_copy(source, appends, &options, i < 12 ? &receipt : NULL),
			    -EINVAL);
		CHECK_EQUAL(receipt.bytes_in, 0);
		CHECK_EQUAL(receipt.error_side, i < 12 ? FID_SIDE_SINK : FID_SIDE_NONE);
		CHECK_EQUAL(lseek(source, 0, SEEK_CUR), 0);
		CHECK_EQUAL(lseek(sink, 0, SEEK_END), 10);
	}
	close(source);
	close(sink);
	close(appends);
}
