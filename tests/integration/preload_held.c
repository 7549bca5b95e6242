/* SPDX-License-Identifier: MIT */
/*
 * Where tee is refused together with splice, bytes have to be taken from a pipe before anybody
 * knows how many its sink will take. What the sink did not take is not lost: whoever reads the
 * pipe next gets it first.
 */
#include "preloaded.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BYTES = 2000003, HELD_MAX = 64 };

static unsigned char content[BYTES];

/* A pipe with bytes in it, whose splice goes to a socket that does not block and takes little.
 */
struct strand {
	int pipe[2];
	int socket[2];
	size_t fed;     /* content up to here was put into the pipe */
	size_t taken;   /* up to here it was spliced or read, in this order */
	size_t drained; /* up to here the far end has seen it, if it was spliced */
	/* Which bytes went to the socket: the far end sees these alone. */
	unsigned char spliced[BYTES];
};

static struct strand strand;

static void strand_open(void)
{
	int small = 4096;

	memset(&strand, 0, sizeof(strand));
	CHECK(pipe2(strand.pipe, O_NONBLOCK | O_CLOEXEC) == 0);
	stream_pair(END_UNIX, strand.socket);
	CHECK(fcntl(strand.socket[0], F_SETFL, O_NONBLOCK) == 0);
	CHECK(fcntl(strand.socket[1], F_SETFL, O_NONBLOCK) == 0);
	CHECK(setsockopt(strand.socket[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)) == 0);
}

static void strand_feed(size_t bytes)
{
	ssize_t wrote;

	if (bytes > BYTES - strand.fed)
		bytes = BYTES - strand.fed;
	wrote = bytes ? write(strand.pipe[1], content + strand.fed, bytes) : 0;
	CHECK(wrote >= 0 || errno == EAGAIN);
	strand.fed += wrote > 0 ? (size_t)wrote : 0;
}

/* Bytes that the program has read itself must be the next ones. */
static void strand_check(const unsigned char *got, ssize_t bytes)
{
	if (bytes < 0) {
		CHECK_EQUAL(errno, EAGAIN);
		return;
	}
	if (memcmp(got, content + strand.taken, (size_t)bytes) != 0)
		FAIL("what was read at byte %zu is not what was written", strand.taken);
	strand.taken += (size_t)bytes;
}

static bool strand_splice(size_t bytes)
{
	ssize_t moved = splice(strand.pipe[0], NULL, strand.socket[1], NULL, bytes, 0);

	if (moved < 0) {
		CHECK_EQUAL(errno, EAGAIN);
		return false;
	}
	memset(strand.spliced + strand.taken, 1, (size_t)moved);
	strand.taken += (size_t)moved;
	return moved > 0;
}

static void strand_drain(size_t bytes)
{
	static unsigned char got[64 << 10];
	ssize_t came = recv(strand.socket[0], got, bytes < sizeof(got) ? bytes : sizeof(got),
			    MSG_DONTWAIT);

	for (ssize_t i = 0; i < came; i++) {
		while (strand.drained < BYTES && !strand.spliced[strand.drained])
			strand.drained++;
		if (strand.drained >= strand.taken || got[i] != content[strand.drained])
			FAIL("the far end got a wrong byte at %zu", strand.drained);
		strand.drained++;
	}
}

/* Fills the socket, so that the last splice has to leave something. */
static void strand_fill(void)
{
	do {
		strand_feed(60000);
	} while (strand_splice(60000));
}

static void read_somehow(uint64_t *random)
{
	unsigned char got[9000];
	size_t bytes = 1 + test_random(random) % sizeof(got);
	struct iovec segments[2] = {{got, bytes / 3}, {got + bytes / 3, bytes - bytes / 3}};

	switch (test_random(random) % 4) {
	case 0:
		strand_check(got, read(strand.pipe[0], got, bytes));
		break;
	case 1:
		strand_check(got, readv(strand.pipe[0], segments, 2));
		break;
	case 2:
		strand_check(got, read_fortified(strand.pipe[0], got, bytes));
		break;
	default:
		strand_check(got, vmsplice(strand.pipe[0], segments, 2, SPLICE_F_NONBLOCK));
		break;
	}
}

static void mixed(void *argument)
{
	uint64_t random = test_seed();

	(void)argument;
	needs_preload();
	content_fill(content, BYTES, random);
	strand_open();
	for (int idle = 0; strand.taken < BYTES; idle++) {
		size_t before = strand.taken;

		strand_feed(test_random(&random) % 70000);
		if (test_random(&random) % 3)
			strand_splice(1 + test_random(&random) % 300000);
		if (test_random(&random) % 4 == 0)
			read_somehow(&random);
		if (test_random(&random) % 2)
			strand_drain(test_random(&random) % 30000);
		/* A descriptor more or less does not matter: it is the pipe that counts. */
		if (test_random(&random) % 16 == 0) {
			int other = dup(strand.pipe[0]);

			CHECK(other >= 0 && close(strand.pipe[0]) == 0);
			strand.pipe[0] = other;
		}
		idle = strand.taken > before ? 0 : idle;
		if (idle > 10000)
			FAIL("nothing moves any more at %zu", strand.taken);
	}
	strand_drain(BYTES);
	CHECK_EQUAL(strand.fed, BYTES);
}

TEST(splices_and_reads_of_one_pipe_see_each_byte_once_and_in_order)
{
	in_child(10, mixed, NULL);
}

/* What is between the feeder and the reader and not in the pipe: held by the library. */
static size_t held(void)
{
	int there = 0;

	CHECK(ioctl(strand.pipe[0], FIONREAD, &there) == 0);
	return strand.fed - strand.taken - (size_t)there;
}

static void other_sink(void *argument)
{
	unsigned char *got = malloc(BYTES);
	size_t before;
	int file;

	(void)argument;
	needs_preload();
	content_fill(content, BYTES, test_seed());
	strand_open();
	strand_fill();
	/* Where nothing is refused nothing is held. */
	CHECK_EQUAL(held() > 0, splice_is_denied() && tee_is_denied());
	before = strand.taken;
	file = open(scratch("file"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	while (strand.taken < strand.fed) {
		ssize_t moved = splice(strand.pipe[0], NULL, file, NULL, 7777, 0);

		CHECK(moved > 0);
		strand.taken += (size_t)moved;
	}
	CHECK_EQUAL(pread(file, got, BYTES, 0), strand.fed - before);
	CHECK(memcmp(got, content + before, strand.fed - before) == 0);
	CHECK_EQUAL(splice(strand.pipe[0], NULL, file, NULL, 7777, 0), -1);
	CHECK_EQUAL(errno, EAGAIN);
	free(got);
}

TEST(what_one_sink_did_not_take_goes_to_the_next)
{
	in_child(10, other_sink, NULL);
}

static void fork_apart(void *argument)
{
	static unsigned char got[BYTES];
	size_t in_library, left;
	pid_t child;

	(void)argument;
	needs_preload();
	content_fill(content, BYTES, test_seed());
	strand_open();
	strand_fill();
	in_library = held();
	left = strand.fed - strand.taken;
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		ssize_t bytes = read(strand.pipe[0], got, sizeof(got));

		/* The pipe's are everybody's; those that are held are the parent's. */
		_exit(bytes == (ssize_t)(left - in_library) || (bytes < 0 && left == in_library)
			      ? 0
			      : 1);
	}
	CHECK_EQUAL(reap(child), 0);
	for (size_t total = 0; total < in_library;) {
		ssize_t bytes = read(strand.pipe[0], got, sizeof(got));

		CHECK(bytes > 0);
		strand_check(got, bytes);
		total += (size_t)bytes;
	}
	CHECK_EQUAL(read(strand.pipe[0], got, sizeof(got)), -1);
}

TEST(a_child_of_fork_does_not_get_a_byte_twice)
{
	in_child(10, fork_apart, NULL);
}

static void many(void *argument)
{
	int pipes[2 * HELD_MAX][2], refused = 0;
	char got[8];

	(void)argument;
	needs_preload();
	if (!splice_is_denied() || !tee_is_denied())
		SKIP("splice and tee are not both refused");
	for (int i = 0; i < 2 * HELD_MAX; i++) {
		CHECK(pipe2(pipes[i], O_NONBLOCK | O_CLOEXEC) == 0);
		CHECK_EQUAL(write(pipes[i][1], "fibres", 6), 6);
	}
	/* A sink that fails only when it is written to: a file that is full from the start. */
	for (int i = 0; i < 2 * HELD_MAX; i++) {
		int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

		CHECK(full >= 0);
		CHECK_EQUAL(splice(pipes[i][0], NULL, full, NULL, 100, 0), -1);
		if (errno != ENOSPC) {
			/* No room to hold any more: the refusal, and all is in the pipe. */
			CHECK(errno == EPERM || errno == ENOSYS || errno == EOPNOTSUPP);
			refused++;
		}
		close(full);
	}
	CHECK_EQUAL(refused, HELD_MAX);
	for (int i = 0; i < 2 * HELD_MAX; i += 2) {
		CHECK_EQUAL(read(pipes[i][0], got, sizeof(got)), 6);
		CHECK(memcmp(got, "fibres", 6) == 0);
	}
	/* What nobody can read any more makes room. */
	for (int i = 1; i < 2 * HELD_MAX; i += 2) {
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	for (int i = 0; i < 2 * HELD_MAX; i += 2) {
		int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

		CHECK_EQUAL(write(pipes[i][1], "fibres", 6), 6);
		CHECK_EQUAL(splice(pipes[i][0], NULL, full, NULL, 100, 0), -1);
		CHECK_EQUAL(errno, ENOSPC);
		close(full);
	}
}

TEST(many_pipes_at_once_are_refused_before_a_byte_is_taken)
{
	in_child(10, many, NULL);
}
