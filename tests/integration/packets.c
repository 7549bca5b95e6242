/* SPDX-License-Identifier: MIT */
/*
 * Pipes of packets: O_DIRECT in pipe2(2). A read of one that is shorter than the packet throws
 * the rest of it away, so that whoever takes or salvages a part must take it whole.
 */
#include "ends.h"
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { PACKETS = 6, BYTES = 10 + 4096 + 1 + 3000 + 4000 + 2 };

/* A packet of one byte looks like a byte. */
static const size_t orders[][PACKETS] = {
	{10, 4096, 1, 3000, 4000, 2},
	{1, 10, 4000, 2, 3000, 4096},
	{2, 4096, 4000, 3000, 10, 1},
	{1, 4095, 4096, 2000, 915, 2},
};

static unsigned char content[BYTES];
static unsigned char got[BYTES + 1];

/* Puts all packets into a new pipe, whose writer leaves. */
static int open_packets(const size_t *packets)
{
	size_t done = 0;
	int ends[2];

	if (pipe2(ends, O_DIRECT | O_NONBLOCK | O_CLOEXEC) != 0)
		SKIP("pipes of packets are refused: %s", strerror(errno));
	for (size_t i = 0; i < PACKETS; i++) {
		CHECK_EQUAL(write(ends[1], content + done, packets[i]), packets[i]);
		done += packets[i];
	}
	CHECK_EQUAL(done, BYTES);
	close(ends[1]);
	return ends[0];
}

static void fill(void)
{
	content_fill(content, sizeof(content), test_seed());
}

/* Takes what has come, which is what follows the first bytes; a read takes one packet. */
static void read_next(int fd, size_t done, size_t count)
{
	CHECK(done + count <= BYTES);
	for (size_t had = 0; had < count;) {
		ssize_t more = read(fd, got, sizeof(got));

		CHECK(more > 0 && had + (size_t)more <= count);
		CHECK(memcmp(got, content + done + had, (size_t)more) == 0);
		had += (size_t)more;
	}
}

/* ---- The calls ---- */

static const enum end_kind sinks[] = {END_PIPE, END_UNIX};
static const size_t lengths[] = {1, 5, 4095, 4096, 10000, 1 << 20};

/* Moves everything, unless the first call is refused and nothing was taken. */
static void splice_all(const size_t *packets, enum end_kind kind, size_t bytes, bool by_stash)
{
	int source = open_packets(packets);
	struct fid_stash *stash = NULL;
	size_t done = 0;
	ssize_t moved;
	int fds[2], left;

	stream_pair(kind, fds);
	CHECK(!by_stash || fid_stash_new(&stash, source) == 0);
	do {
		moved = by_stash ? fid_stash_splice(stash, fds[1], NULL, bytes, 0)
				 : fid_splice(source, NULL, fds[1], NULL, bytes, 0);
		if (moved <= 0)
			break;
		read_next(fds[0], done, (size_t)moved);
		done += (size_t)moved;
	} while (moved > 0);
	if (moved == 0)
		CHECK_EQUAL(done, BYTES);
	if (moved < 0) {
		CHECK_EQUAL(moved, -EPERM);
		CHECK(!by_stash);
		CHECK(ioctl(source, FIONREAD, &left) == 0);
		CHECK_EQUAL(done + (size_t)left, BYTES);
	}
	fid_stash_free(stash);
	close(source);
	close(fds[0]);
	close(fds[1]);
}

struct trial {
	unsigned refused;
	bool by_stash;
};

static void splice_in_sandbox(void *argument)
{
	const struct trial *trial = argument;

	fill();
	sandbox_enter(trial->refused, EPERM);
	for (size_t i = 0; i < COUNT(orders) * COUNT(sinks); i++)
		for (size_t k = 0; k < COUNT(lengths); k++) {
			const size_t *packets = orders[i / COUNT(sinks)];
			enum end_kind sink = sinks[i % COUNT(sinks)];

			doing("packets of %zu, %zu ... to a %s in calls of %zu bytes where %s",
			      packets[0], packets[1], end_name(sink), lengths[k],
			      sandbox_name(trial->refused, EPERM));
			splice_all(packets, sink, lengths[k], trial->by_stash);
		}
}

TEST(a_stash_takes_packets_whole)
{
	test_seed();
	in_child(5, splice_in_sandbox, &(struct trial){REFUSE_SPLICE | REFUSE_TEE, true});
}

TEST(splice_takes_no_part_of_a_packet_that_it_cannot_deliver)
{
	test_seed();
	in_child(5, splice_in_sandbox, &(struct trial){0, false});
	in_child(5, splice_in_sandbox, &(struct trial){REFUSE_SPLICE, false});
	in_child(5, splice_in_sandbox, &(struct trial){REFUSE_SPLICE | REFUSE_VMSPLICE, false});
	in_child(5, splice_in_sandbox, &(struct trial){REFUSE_SPLICE | REFUSE_TEE, false});
}

/* A file that takes five bytes. */
static void splice_to_small_file(void *argument)
{
	const struct trial *trial = argument;

	fill();
	CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	CHECK(setrlimit(RLIMIT_FSIZE, &(struct rlimit){5, 5}) == 0);
	sandbox_enter(trial->refused, EPERM);
	for (size_t i = 0; i < COUNT(orders); i++) {
		int source = open_packets(orders[i]), left;
		int sink = open(scratch("sink"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		size_t done = 0;
		ssize_t moved;

		doing("packets of %zu, %zu ... to a small file where %s", orders[i][0],
		      orders[i][1], sandbox_name(trial->refused, EPERM));
		CHECK(sink >= 0);
		while ((moved = fid_splice(source, NULL, sink, NULL, BYTES, 0)) > 0)
			done += (size_t)moved;
		CHECK(moved == -EFBIG || (moved == -EPERM && trial->refused));
		CHECK(ioctl(source, FIONREAD, &left) == 0);
		CHECK_EQUAL(done + (size_t)left, BYTES);
		CHECK_EQUAL(pread(sink, got, sizeof(got), 0), done);
		CHECK(memcmp(got, content, done) == 0);
		close(source);
		close(sink);
	}
}

TEST(splice_leaves_the_part_of_a_packet_that_its_sink_does_not_take)
{
	test_seed();
	in_child(5, splice_to_small_file, &(struct trial){0, false});
	in_child(5, splice_to_small_file, &(struct trial){REFUSE_SPLICE, false});
	in_child(5, splice_to_small_file,
		 &(struct trial){REFUSE_SPLICE | REFUSE_VMSPLICE, false});
}

static void tee_in_sandbox(void *argument)
{
	int source, fds[2];
	struct fid_stash *stash = NULL;

	(void)argument;
	fill();
	sandbox_enter(REFUSE_SPLICE | REFUSE_TEE, EPERM);
	source = open_packets(orders[0]);
	stream_pair(END_PIPE, fds);
	CHECK_EQUAL(fid_stash_new(&stash, source), 0);
	CHECK_EQUAL(fid_stash_tee(stash, fds[1], 5, 0), 5);
	read_next(fds[0], 0, 5);
	for (size_t done = 0; done < BYTES; done++) {
		ssize_t given = fid_stash_tee(stash, fds[1], 3, 0);

		CHECK(given > 0);
		read_next(fds[0], done, (size_t)given);
		CHECK_EQUAL(fid_stash_splice(stash, fds[1], NULL, 1, 0), 1);
		read_next(fds[0], done, 1);
	}
	CHECK_EQUAL(fid_stash_splice(stash, fds[1], NULL, 1, 0), 0);
	fid_stash_free(stash);
	close(source);
	close(fds[0]);
	close(fds[1]);
}

TEST(a_stash_that_tees_and_splices_takes_packets_whole)
{
	test_seed();
	in_child(5, tee_in_sandbox, NULL);
}

/* ---- Salvage ---- */

static const size_t capacities[] = {1, 5, 4095, 4096, 10000, 1 << 20};

static void salvage_flow(size_t capacity)
{
	struct fid_options options = {.size = sizeof(options),
				      .routes = FID_ROUTE(FID_SPLICE_PIPE),
				      .pipe_bytes = 1 << 16};
	unsigned char *buffer = malloc(capacity);
	int source = open_packets(orders[1]), result = FID_MORE;
	int sink = open(scratch("sink"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct fid_flow *flow = NULL;
	size_t done;

	CHECK(sink >= 0 && buffer != NULL);
	CHECK_EQUAL(fid_flow_new(&flow, source, sink, &options, NULL), 0);
	while (result == FID_MORE)
		result = fid_flow_step(flow, NULL);
	CHECK_EQUAL(result, -EFBIG);
	done = (size_t)fid_flow_receipt(flow)->bytes_out;
	CHECK(fid_flow_receipt(flow)->bytes_held > 0);
	while (fid_flow_receipt(flow)->bytes_held > 0) {
		ssize_t more = fid_flow_salvage(flow, buffer, capacity);

		CHECK(more > 0);
		CHECK(done + (size_t)more <= BYTES);
		CHECK(memcmp(buffer, content + done, (size_t)more) == 0);
		done += (size_t)more;
	}
	CHECK_EQUAL(done, fid_flow_receipt(flow)->bytes_in);
	CHECK_EQUAL(fid_flow_salvage(flow, buffer, capacity), 0);
	fid_flow_free(flow);
	close(source);
	close(sink);
	free(buffer);
}

static void salvage_flows(void *argument)
{
	(void)argument;
	fill();
	/* The file takes a part of the first packet. */
	CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	CHECK(setrlimit(RLIMIT_FSIZE, &(struct rlimit){4, 4}) == 0);
	for (size_t i = 0; i < COUNT(capacities); i++) {
		doing("salvage of a flow's packets by %zu bytes", capacities[i]);
		salvage_flow(capacities[i]);
	}
}

TEST(packets_of_a_flow_are_salvaged_whole)
{
	test_seed();
	in_child(5, salvage_flows, NULL);
}

static void salvage_fan(size_t capacity)
{
	static unsigned char full[1 << 20];
	unsigned char *buffer = malloc(capacity);
	int source = open_packets(orders[2]), fds[2], other[2];
	struct fid_fan *fan = NULL;
	size_t done = 0;
	int result = FID_MORE;

	CHECK(buffer != NULL);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	CHECK(pipe2(other, O_CLOEXEC) == 0);
	while (write(fds[1], full, sizeof(full)) > 0)
		;
	CHECK_EQUAL(fid_fan_new(&fan, source, NULL), 0);
	CHECK_EQUAL(fid_fan_add(fan, fds[1], NULL), 0);
	CHECK_EQUAL(fid_fan_add(fan, other[1], NULL), 1);
	while (result == FID_MORE)
		result = fid_fan_step(fan, NULL);
	CHECK_EQUAL(result, FID_WAIT);
	CHECK_EQUAL(fid_fan_sink_receipt(fan, 0)->bytes_held, BYTES);
	while (done < BYTES) {
		ssize_t more = fid_fan_salvage(fan, 0, buffer, capacity);

		CHECK(more > 0);
		CHECK(done + (size_t)more <= BYTES);
		CHECK(memcmp(buffer, content + done, (size_t)more) == 0);
		done += (size_t)more;
	}
	CHECK_EQUAL(fid_fan_salvage(fan, 0, buffer, capacity), 0);
	fid_fan_free(fan);
	close(source);
	for (int i = 0; i < 2; i++) {
		close(fds[i]);
		close(other[i]);
	}
	free(buffer);
}

static void salvage_fans(void *argument)
{
	(void)argument;
	fill();
	for (size_t i = 0; i < COUNT(capacities); i++) {
		doing("salvage of a fan's packets by %zu bytes", capacities[i]);
		salvage_fan(capacities[i]);
	}
}

TEST(packets_of_a_fan_are_salvaged_whole)
{
	test_seed();
	in_child(5, salvage_fans, NULL);
}
