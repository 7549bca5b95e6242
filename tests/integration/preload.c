/* SPDX-License-Identifier: MIT */
/*
 * The functions of libc under "fid run", whatever of them the kernel is told to refuse: they do
 * what their manual pages say.
 */
#include "deny.h"
#include "preloaded.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BYTES = 300007 };

static unsigned char content[BYTES];

TEST(the_functions_of_the_program_are_those_of_the_library)
{
	static const char *const names[] = {"splice",   "tee",        "vmsplice",
					    "sendfile", "sendfile64", "copy_file_range",
					    "read",     "readv",      "__read_chk"};

	needs_preload();
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!is_preloaded(names[i]))
			FAIL("%s is not of libfid-preload.so", names[i]);
	/* What fid is made of stays inside: the program may have another libfid. */
	CHECK(!is_preloaded("fid_splice") && !is_preloaded("fid_copy"));
}

/* ---- Every pair ---- */

static size_t splice_all(int source, int sink, uint64_t *random)
{
	size_t total = 0;

	for (;;) {
		unsigned flags = test_random(random) & (SPLICE_F_MOVE | SPLICE_F_MORE);
		ssize_t moved = splice(source, NULL, sink, NULL,
				       1 + test_random(random) % (256 << 10), flags);

		/* A terminal whose master is closed. */
		if (moved < 0 && errno == EIO && isatty(source))
			return total;
		if (moved < 0)
			FAIL("splice: %s after %zu bytes", strerror(errno), total);
		if (moved == 0)
			return total;
		total += (size_t)moved;
	}
}

static void every_pair(void *argument)
{
	static const enum end_kind sources[] = {END_FILE, END_TMPFS, END_MEMFD, END_PIPE,
						END_FIFO, END_TCP,   END_UNIX,  END_PTY};
	static const enum end_kind sinks[] = {END_FILE, END_TMPFS, END_MEMFD, END_PIPE,
					      END_FIFO, END_TCP,   END_UNIX,  END_NULL};
	uint64_t random = test_seed();

	(void)argument;
	needs_preload();
	content_fill(content, BYTES, random);
	for (size_t i = 0; i < 8; i++)
		for (size_t k = 0; k < 8; k++) {
			bool has_pipe = sources[i] == END_PIPE || sources[i] == END_FIFO ||
					sinks[k] == END_PIPE || sinks[k] == END_FIFO;
			size_t bytes = sources[i] == END_PTY ? 20000 : BYTES;
			struct end source, sink;

			if (!has_pipe)
				continue;
			doing("%s to %s", end_name(sources[i]), end_name(sinks[k]));
			end_open_source(&source, sources[i], content, bytes, false);
			end_open_sink(&sink, sinks[k], content, bytes, false);
			CHECK_EQUAL(splice_all(source.fd, sink.fd, &random), bytes);
			end_close_source(&source);
			CHECK_EQUAL(end_close_sink(&sink, content, bytes, bytes), bytes);
		}
}

TEST(every_byte_of_every_pair_that_splice_takes_arrives)
{
	in_child(15, every_pair, NULL);
}

static void offsets(void *argument)
{
	unsigned char got[3000];
	int ends[2], file;
	loff_t at = 100;

	(void)argument;
	needs_preload();
	content_fill(content, BYTES, test_seed());
	file = open(scratch("file"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(file >= 0 && write(file, content, 5000) == 5000 && pipe(ends) == 0);
	CHECK(lseek(file, 7, SEEK_SET) == 7);
	CHECK_EQUAL(splice(file, &at, ends[1], NULL, 2000, 0), 2000);
	CHECK_EQUAL(at, 2100);
	CHECK(read(ends[0], got, sizeof(got)) == 2000 && memcmp(got, content + 100, 2000) == 0);
	/* Its own offset was not moved; without one it is. */
	CHECK_EQUAL(splice(file, NULL, ends[1], NULL, 50, 0), 50);
	CHECK_EQUAL(lseek(file, 0, SEEK_CUR), 57);
	CHECK(read(ends[0], got, sizeof(got)) == 50 && memcmp(got, content + 7, 50) == 0);
	/* Beyond 4 GiB, on any machine. */
	at = ((loff_t)5 << 30) + 1;
	CHECK(write(ends[1], content, 1000) == 1000);
	CHECK_EQUAL(splice(ends[0], NULL, file, &at, 1000, 0), 1000);
	CHECK_EQUAL(at, ((loff_t)5 << 30) + 1001);
	CHECK_EQUAL(lseek(file, 0, SEEK_CUR), 57);
	CHECK(pread(file, got, 1000, ((loff_t)5 << 30) + 1) == 1000);
	CHECK(memcmp(got, content, 1000) == 0);
}

TEST(an_offset_is_used_and_moved_and_that_of_the_descriptor_stays)
{
	in_child(10, offsets, NULL);
}

/* ---- tee and vmsplice ---- */

static void tee_or_refusal(void *argument)
{
	int from[2], to[2];
	char got[16];
	bool denied;
	int refusal;
	ssize_t given;

	(void)argument;
	needs_preload();
	CHECK(pipe(from) == 0 && pipe(to) == 0 && write(from[1], "fibres", 6) == 6);
	errno = 0;
	denied = tee_is_denied();
	refusal = errno;
	errno = 0;
	given = tee(from[0], to[1], 100, 0);
	if (denied) {
		CHECK_EQUAL(given, -1);
		CHECK_EQUAL(errno, refusal);
	} else {
		CHECK_EQUAL(given, 6);
		CHECK(read(to[0], got, sizeof(got)) == 6 && memcmp(got, "fibres", 6) == 0);
	}
	CHECK(read(from[0], got, sizeof(got)) == 6 && memcmp(got, "fibres", 6) == 0);
}

TEST(tee_takes_nothing_away_and_a_refusal_stays_one)
{
	in_child(10, tee_or_refusal, NULL);
}

static void vmsplice_both_ways(void *argument)
{
	enum { SEGMENTS = 1500, EACH = 37 };
	static unsigned char got[SEGMENTS * EACH];
	static struct iovec segments[SEGMENTS];
	int ends[2];

	(void)argument;
	needs_preload();
	content_fill(content, BYTES, test_seed());
	CHECK(pipe(ends) == 0 && fcntl(ends[1], F_SETPIPE_SZ, 1 << 20) >= SEGMENTS * EACH);
	for (int i = 0; i < SEGMENTS; i++)
		segments[i] = (struct iovec){content + i * EACH, EACH};
	/* In pages of its own each segment takes a slot of the pipe, so not all may go. */
	for (size_t done = 0; done < sizeof(got);) {
		size_t from = done / EACH;
		ssize_t moved;

		segments[from].iov_base = content + done;
		segments[from].iov_len = EACH - done % EACH;
		moved = vmsplice(ends[1], segments + from, SEGMENTS - from,
				 SPLICE_F_GIFT | SPLICE_F_NONBLOCK);
		CHECK(moved > 0);
		CHECK_EQUAL(vmsplice(ends[0], &(struct iovec){got + done, sizeof(got) - done},
				     1, 0),
			    moved);
		done += (size_t)moved;
	}
	CHECK(memcmp(got, content, sizeof(got)) == 0);
}

TEST(vmsplice_gives_memory_to_a_pipe_and_fills_memory_from_it)
{
	in_child(10, vmsplice_both_ways, NULL);
}

/* ---- Errors ---- */

static volatile sig_atomic_t signals_seen;

static void see_signal(int signal)
{
	(void)signal;
	signals_seen++;
}

static void errors(void *argument)
{
	int ends[2], others[2], file, append;
	loff_t at = 0;

	(void)argument;
	needs_preload();
	signal(SIGPIPE, see_signal);
	file = open(scratch("file"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	append = open(scratch("file"), O_WRONLY | O_APPEND | O_CLOEXEC);
	CHECK(pipe(ends) == 0 && pipe2(others, O_NONBLOCK) == 0 && file >= 0 && append >= 0);
	CHECK(write(file, "text", 4) == 4 && write(ends[1], "text", 4) == 4);
#define FAILS(call, error)                 \
	do {                               \
		errno = 0;                 \
		CHECK_EQUAL(call, -1);     \
		CHECK_EQUAL(errno, error); \
	} while (0)
	FAILS(splice(-1, NULL, ends[1], NULL, 4, 0), EBADF);
	FAILS(splice(ends[0], NULL, -1, NULL, 4, 0), EBADF);
	FAILS(splice(ends[1], NULL, others[1], NULL, 4, 0), EBADF);
	FAILS(splice(file, NULL, file, NULL, 4, 0), EINVAL);
	FAILS(splice(ends[0], NULL, ends[1], NULL, 4, 0), EINVAL);
	FAILS(splice(ends[0], NULL, append, NULL, 4, 0), EINVAL);
	FAILS(splice(ends[0], &at, file, NULL, 4, 0), ESPIPE);
	FAILS(splice(ends[0], NULL, file, NULL, 4, 0x80), EINVAL);
	/* A flag of fid's own is none to a program that knows nothing of fid. */
	FAILS(splice(ends[0], NULL, file, NULL, 4, 0x10000), EINVAL);
	FAILS(vmsplice(ends[1], &(struct iovec){content, 1}, 1, 0x10000), EINVAL);
	FAILS(vmsplice(file, &(struct iovec){content, 1}, 1, 0), EBADF);
	FAILS(splice(others[0], NULL, file, NULL, 4, 0), EAGAIN);
	FAILS(splice(others[0], NULL, ends[1], NULL, 4, SPLICE_F_NONBLOCK), EAGAIN);
	CHECK_EQUAL(signals_seen, 0);
	close(others[0]);
	lseek(file, 0, SEEK_SET);
	FAILS(splice(file, NULL, others[1], NULL, 4, 0), EPIPE);
	CHECK_EQUAL(signals_seen, 1);
	FAILS(vmsplice(others[1], &(struct iovec){content, 1}, 1, 0), EPIPE);
	CHECK_EQUAL(signals_seen, 2);
	FAILS(sendfile(append, file, NULL, 4), EINVAL);
	FAILS(sendfile(-1, file, NULL, 4), EBADF);
	FAILS(copy_file_range(file, NULL, ends[1], NULL, 4, 0), EINVAL);
	FAILS(copy_file_range(file, NULL, append, NULL, 4, 0), EBADF);
	FAILS(copy_file_range(file, &at, file, &(loff_t){1}, 3, 0), EINVAL);
#undef FAILS
	/* Nothing was taken by any of these, and success does not touch errno. */
	errno = 77;
	CHECK_EQUAL(splice(ends[0], NULL, file, NULL, 100, 0), 4);
	CHECK_EQUAL(errno, 77);
	CHECK_EQUAL(splice(-1, NULL, -1, NULL, 0, 0), 0);
}

TEST(errors_are_those_of_the_kernel_and_success_leaves_errno_alone)
{
	in_child(10, errors, NULL);
}

static void sealed(void *argument)
{
	int ends[2], there = 0;
	int file = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char got[8];

	(void)argument;
	needs_preload();
	CHECK(file >= 0 && ftruncate(file, 100) == 0 && pipe(ends) == 0);
	CHECK(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE) == 0 && write(ends[1], "text", 4) == 4);
	errno = 0;
	CHECK_EQUAL(splice(ends[0], NULL, file, NULL, 4, 0), -1);
	CHECK_EQUAL(errno, EPERM);
	/* Where the call is not denied they were not even taken out of the pipe. */
	CHECK(ioctl(ends[0], FIONREAD, &there) == 0);
	CHECK(there == 4 || splice_is_denied());
	CHECK_EQUAL(read(ends[0], got, sizeof(got)), 4);
	CHECK(memcmp(got, "text", 4) == 0);
}

TEST(a_file_that_says_eperm_is_no_refused_call_and_costs_no_byte)
{
	in_child(10, sealed, NULL);
}

/* ---- Files ---- */

static void files(void *argument)
{
	static unsigned char got[BYTES];
	int from, to, pair[2];
	struct peer peer = PEER_NONE;
	off_t at = 5;
	loff_t wide = 7, target = 3;
	size_t total;

	(void)argument;
	needs_preload();
	content_fill(content, BYTES, test_seed());
	from = open(scratch("from"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	to = open(scratch("to"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(from >= 0 && to >= 0 && write(from, content, BYTES) == BYTES);
	CHECK(lseek(from, 11, SEEK_SET) == 11);
	CHECK_EQUAL(sendfile(to, from, &at, 200000), 200000);
	CHECK_EQUAL(at, 200005);
	CHECK_EQUAL(lseek(from, 0, SEEK_CUR), 11);
	CHECK(pread(to, got, 200000, 0) == 200000 && memcmp(got, content + 5, 200000) == 0);
	CHECK_EQUAL(sendfile(to, from, NULL, BYTES), BYTES - 11);
	CHECK_EQUAL(lseek(from, 0, SEEK_CUR), BYTES);
	CHECK_EQUAL(sendfile(to, from, NULL, BYTES), 0);
	CHECK_EQUAL(copy_file_range(from, &wide, to, &target, 1000, 0), 1000);
	CHECK(wide == 1007 && target == 1003);
	CHECK(pread(to, got, 1000, 3) == 1000 && memcmp(got, content + 7, 1000) == 0);
	CHECK(lseek(from, 0, SEEK_SET) == 0 && lseek(to, 0, SEEK_SET) == 0);
	CHECK_EQUAL(copy_file_range(from, NULL, to, NULL, BYTES, 0), BYTES);
	CHECK(lseek(from, 0, SEEK_CUR) == BYTES && lseek(to, 0, SEEK_CUR) == BYTES);
	CHECK(pread(to, got, BYTES, 0) == BYTES && memcmp(got, content, BYTES) == 0);
	/* A socket that does not block takes what it takes, and no byte is skipped. */
	stream_pair(END_UNIX, pair);
	CHECK(fcntl(pair[1], F_SETFL, O_NONBLOCK) == 0);
	peer_drain(&peer, pair[0], content, BYTES, false);
	for (at = 0, total = 0; total < BYTES;) {
		ssize_t sent = sendfile(pair[1], from, &at, BYTES - total);

		CHECK(sent > 0 || errno == EAGAIN);
		total += sent > 0 ? (size_t)sent : 0;
		CHECK_EQUAL(at, total);
	}
	close(pair[1]);
	peer_join(&peer);
	CHECK_EQUAL(peer.drained, BYTES);
	CHECK_EQUAL(peer.wrong_at, SIZE_MAX);
}

TEST(sendfile_and_copy_file_range_move_files_and_offsets)
{
	in_child(10, files, NULL);
}

/* ---- A filter that comes later, and threads ---- */

static void later(void *argument)
{
	static const int calls[] = {SYS_splice, SYS_vmsplice};
	char text[] = "fibres", got[8];
	int ends[2], others[2];

	(void)argument;
	needs_preload();
	CHECK(pipe(ends) == 0 && pipe(others) == 0);
	for (int round = 0; round < 2; round++) {
		CHECK_EQUAL(vmsplice(ends[1], &(struct iovec){text, 6}, 1, 0), 6);
		CHECK_EQUAL(splice(ends[0], NULL, others[1], NULL, 100, 0), 6);
		CHECK(read(others[0], got, 8) == 6 && memcmp(got, "fibres", 6) == 0);
		if (round == 0)
			deny(calls, 2, EPERM);
	}
	CHECK(splice_is_denied());
}

TEST(a_refusal_that_begins_while_the_program_runs_is_stood_in_for)
{
	in_child(10, later, NULL);
}

static void *move_through_pipes(void *argument)
{
	uint64_t random = (uint64_t)(uintptr_t)argument;
	struct end source, sink;
	int middle[2];

	CHECK(pipe(middle) == 0);
	end_open_source(&source, END_UNIX, content, BYTES, false);
	end_open_sink(&sink, END_FILE, content, BYTES, false);
	for (size_t total = 0; total < BYTES;) {
		ssize_t in = splice(source.fd, NULL, middle[1], NULL,
				    1 + test_random(&random) % 60000, 0);

		CHECK(in > 0);
		for (ssize_t out = 0; out < in;) {
			ssize_t moved =
				splice(middle[0], NULL, sink.fd, NULL, (size_t)(in - out), 0);

			CHECK(moved > 0);
			out += moved;
		}
		total += (size_t)in;
	}
	close(middle[0]);
	close(middle[1]);
	end_close_source(&source);
	CHECK_EQUAL(end_close_sink(&sink, content, BYTES, BYTES), BYTES);
	return NULL;
}

static void threads(void *argument)
{
	pthread_t thread[4];

	(void)argument;
	needs_preload();
	content_fill(content, BYTES, test_seed());
	for (uintptr_t i = 0; i < 4; i++)
		CHECK(pthread_create(&thread[i], NULL, move_through_pipes, (void *)(i + 1)) ==
		      0);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_join(thread[i], NULL) == 0);
}

TEST(threads_move_their_own_bytes_at_the_same_time)
{
	in_child(10, threads, NULL);
}
