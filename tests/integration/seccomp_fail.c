/* SPDX-License-Identifier: MIT */
/*
 * Sinks that fail in the middle where calls are refused, and calls that have to sleep: what was
 * delivered, what a stash holds and what is left in the source are always the whole stream.
 */
#include "sandbox.h"

#include "ends.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { BYTES = 1 << 20, FILE_MAX = 300001, READ_MAX = 200000 };

/* Whole pages, so that as many of them as of the pipe's slots fill it. */
static _Alignas(4096) unsigned char content[BYTES];
static unsigned char salvaged[BYTES];
static uint64_t numbers;

struct sandbox {
	unsigned refused;
	int error;
};

static void enter(const struct sandbox *sandbox)
{
	content_fill(content, sizeof(content), test_seed());
	numbers = test_seed();
	sandbox_enter(sandbox->refused, sandbox->error);
}

/* Without tee only a stash gets anything out of a pipe. */
static bool needs_stash(const struct sandbox *sandbox)
{
	return (sandbox->refused & (REFUSE_SPLICE | REFUSE_TEE)) ==
	       (REFUSE_SPLICE | REFUSE_TEE);
}

/* Moves until it fails, and finds every byte again. Returns the error. */
static int move_and_account(struct end *source, int sink, bool by_stash, size_t *ret_moved)
{
	struct fid_stash *stash = NULL;
	size_t moved = 0, stashed = 0;
	ssize_t result;

	if (by_stash)
		CHECK_EQUAL(fid_stash_new(&stash, source->fd), 0);
	do {
		size_t bytes = test_random(&numbers) % 100000 + 1;

		result = stash ? fid_stash_splice(stash, sink, NULL, bytes, FID_NOSIGNAL)
			       : fid_splice(source->fd, NULL, sink, NULL, bytes, FID_NOSIGNAL);
		moved += result > 0 ? (size_t)result : 0;
	} while (result > 0);
	if (stash) {
		stashed = fid_stash_bytes(stash);
		CHECK_EQUAL(fid_stash_salvage(stash, salvaged, 100),
			    stashed < 100 ? stashed : 100);
		if (stashed > 100)
			CHECK_EQUAL(fid_stash_salvage(stash, salvaged + 100, BYTES - 100),
				    stashed - 100);
		CHECK_EQUAL(fid_stash_bytes(stash), 0);
		CHECK(memcmp(salvaged, content + moved, stashed) == 0);
		fid_stash_free(stash);
	}
	CHECK_EQUAL(end_leftover(source, content + moved + stashed, BYTES - moved - stashed),
		    BYTES - moved - stashed);
	*ret_moved = moved;
	return (int)result;
}

/* ---- Sinks that fail ---- */

static void full_file(const struct sandbox *sandbox, const char *path, int error)
{
	for (int by_stash = needs_stash(sandbox); by_stash < 2; by_stash++) {
		int sink = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		struct end source;
		struct stat about;
		size_t moved;

		doing("%s%s where %s", fid_error_name(error), by_stash ? ", by a stash" : "",
		      sandbox_name(sandbox->refused, sandbox->error));
		CHECK(sink >= 0);
		end_open_source(&source, END_PIPE, content, BYTES, true);
		CHECK_EQUAL(move_and_account(&source, sink, by_stash, &moved), error);
		CHECK(moved > 0);
		CHECK(fstat(sink, &about) == 0);
		CHECK_EQUAL(about.st_size, moved);
		CHECK_EQUAL(pread(sink, salvaged, BYTES, 0), moved);
		CHECK(memcmp(salvaged, content, moved) == 0);
		end_close_source(&source);
		close(sink);
	}
}

static void file_limit(void *argument)
{
	struct rlimit limit = {FILE_MAX, FILE_MAX};

	enter(argument);
	signal(SIGXFSZ, SIG_IGN);
	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	full_file(argument, scratch("limited"), -EFBIG);
}

static void small_disk(void *argument)
{
	char path[600];

	CHECK(mkdir(scratch("disk"), 0700) == 0);
	if (unshare(CLONE_NEWNS) != 0 || mount("", "/", NULL, MS_PRIVATE | MS_REC, NULL) != 0 ||
	    mount("tmpfs", scratch("disk"), "tmpfs", 0, "size=300k") != 0)
		SKIP("no file system can be mounted: %s", strerror(errno));
	enter(argument);
	snprintf(path, sizeof(path), "%s/full", scratch("disk"));
	full_file(argument, path, -ENOSPC);
}

struct leaver {
	pthread_t thread;
	int fd;
	size_t seen;
	bool wrong;
};

/* Reads a part of the stream and leaves. */
static void *read_and_leave(void *argument)
{
	struct leaver *leaver = argument;
	unsigned char buffer[5000];

	while (leaver->seen < READ_MAX) {
		ssize_t moved = read(leaver->fd, buffer, sizeof(buffer));

		if (moved <= 0)
			break;
		leaver->wrong |= memcmp(buffer, content + leaver->seen, (size_t)moved) != 0;
		leaver->seen += (size_t)moved;
	}
	close(leaver->fd);
	return NULL;
}

static void reader_leaves(void *argument)
{
	static const enum end_kind sources[] = {END_PIPE, END_TCP, END_UNIX, END_FILE};
	static const enum end_kind sinks[] = {END_PIPE, END_UNIX};
	const struct sandbox *sandbox = argument;

	enter(sandbox);
	for (size_t i = 0; i < COUNT(sources) * COUNT(sinks) * 2; i++) {
		enum end_kind from = sources[i / 4], to = sinks[i / 2 % 2];
		bool by_stash = i % 2;
		struct leaver leaver = {0};
		struct end source;
		size_t moved;
		int fds[2], error;

		if ((from != END_PIPE && to != END_PIPE) || (by_stash && from == END_FILE) ||
		    (!by_stash && from == END_PIPE && needs_stash(sandbox)))
			continue;
		doing("%s to %s whose reader leaves%s where %s", end_name(from), end_name(to),
		      by_stash ? ", by a stash" : "",
		      sandbox_name(sandbox->refused, sandbox->error));
		stream_pair(to, fds);
		leaver.fd = fds[0];
		CHECK(pthread_create(&leaver.thread, NULL, read_and_leave, &leaver) == 0);
		end_open_source(&source, from, content, BYTES, true);
		error = move_and_account(&source, fds[1], by_stash, &moved);
		/* A unix socket that is closed with bytes in it is reset. */
		CHECK(error == -EPIPE || (error == -ECONNRESET && to == END_UNIX));
		pthread_join(leaver.thread, NULL);
		CHECK(!leaver.wrong);
		CHECK(leaver.seen >= READ_MAX && moved >= leaver.seen);
		end_close_source(&source);
		close(fds[1]);
	}
}

static void in_each_sandbox(void (*body)(void *))
{
	test_seed();
	for (unsigned refused = 0; refused <= (REFUSE_SPLICE | REFUSE_TEE); refused++)
		for (int e = 0; e < (refused ? 3 : 1); e++) {
			struct sandbox sandbox = {refused, sandbox_errors[e]};

			in_child(10, body, &sandbox);
		}
}

TEST(no_byte_is_lost_in_each_sandbox_when_a_file_reaches_its_limit)
{
	in_each_sandbox(file_limit);
}

TEST(no_byte_is_lost_in_each_sandbox_when_the_disk_is_full)
{
	in_each_sandbox(small_disk);
}

TEST(no_byte_is_lost_in_each_sandbox_when_the_reader_leaves)
{
	in_each_sandbox(reader_leaves);
}

/* ---- How much at once, and who sleeps ---- */

static void large_call(void *argument)
{
	const struct sandbox *sandbox = argument;
	struct iovec all = {content, BYTES};
	struct end source;
	int ends[2], large[2];

	enter(sandbox);
	doing("1 MiB into an empty pipe where %s",
	      sandbox_name(sandbox->refused, sandbox->error));
	CHECK(pipe2(ends, O_CLOEXEC) == 0 && pipe2(large, O_CLOEXEC) == 0);
	CHECK(fcntl(ends[1], F_SETPIPE_SZ, 64 << 10) == 64 << 10);
	CHECK(fcntl(large[1], F_SETPIPE_SZ, BYTES) == BYTES);
	end_open_source(&source, END_FILE, content, BYTES, false);
	/* Each of them fills the pipe, and comes back although nobody reads. */
	CHECK_EQUAL(fid_splice(source.fd, NULL, ends[1], NULL, BYTES, 0), 64 << 10);
	CHECK_EQUAL(read(ends[0], salvaged, BYTES), 64 << 10);
	CHECK(memcmp(salvaged, content, 64 << 10) == 0);
	CHECK_EQUAL(fid_vmsplice(ends[1], &all, 1, 0), 64 << 10);
	CHECK_EQUAL(read(ends[0], salvaged, BYTES), 64 << 10);
	CHECK(memcmp(salvaged, content, 64 << 10) == 0);
	CHECK_EQUAL(write(large[1], content, BYTES), BYTES);
	if (!needs_stash(sandbox)) {
		CHECK_EQUAL(fid_splice(large[0], NULL, ends[1], NULL, BYTES, 0), 64 << 10);
		CHECK_EQUAL(read(ends[0], salvaged, BYTES), 64 << 10);
		CHECK(memcmp(salvaged, content, 64 << 10) == 0);
	}
	end_close_source(&source);
}

TEST(a_call_for_more_than_the_pipe_takes_fills_it_and_does_not_sleep)
{
	in_each_sandbox(large_call);
	in_child(10, large_call, &(struct sandbox){REFUSE_VMSPLICE, EPERM});
	in_child(10, large_call, &(struct sandbox){REFUSE_ALL, ENOSYS});
}

struct waker {
	pthread_t thread;
	pid_t sleeper;
	int fd;
	bool reads;
};

static char state_of(pid_t thread)
{
	char path[64], text[128] = "";
	char *end;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	end = strrchr(text, ')');
	return end ? end[2] : '?';
}

/* Writes to or empties the far end once the other thread sleeps. */
static void *wake(void *argument)
{
	struct waker *waker = argument;
	unsigned char buffer[64 << 10];

	while (state_of(waker->sleeper) != 'S')
		usleep(100);
	if (waker->reads)
		CHECK(read(waker->fd, buffer, sizeof(buffer)) > 0);
	else
		CHECK_EQUAL(write(waker->fd, content, 700), 700);
	return NULL;
}

static void woken(const struct sandbox *sandbox, enum end_kind from, bool by_stash, bool full)
{
	struct fid_stash *stash = NULL;
	struct waker waker = {.sleeper = (pid_t)syscall(SYS_gettid), .reads = full};
	int source[2], sink[2];
	ssize_t moved;

	doing("%s to pipe, %s%s where %s", end_name(from), full ? "full" : "empty",
	      by_stash ? ", by a stash" : "", sandbox_name(sandbox->refused, sandbox->error));
	stream_pair(from, source);
	stream_pair(END_PIPE, sink);
	CHECK(fcntl(sink[1], F_SETPIPE_SZ, 4096) == 4096);
	if (full) {
		CHECK_EQUAL(write(sink[1], content, 4096), 4096);
		CHECK_EQUAL(write(source[1], content, 700), 700);
	}
	waker.fd = full ? sink[0] : source[1];
	if (by_stash)
		CHECK_EQUAL(fid_stash_new(&stash, source[0]), 0);
	CHECK(pthread_create(&waker.thread, NULL, wake, &waker) == 0);
	moved = stash ? fid_stash_splice(stash, sink[1], NULL, 5000, 0)
		      : fid_splice(source[0], NULL, sink[1], NULL, 5000, 0);
	pthread_join(waker.thread, NULL);
	CHECK_EQUAL(moved, 700);
	CHECK_EQUAL(read(sink[0], salvaged, 5000), 700);
	CHECK(memcmp(salvaged, content, 700) == 0);
	fid_stash_free(stash);
	for (int i = 0; i < 2; i++) {
		close(source[i]);
		close(sink[i]);
	}
}

static void sleepers(void *argument)
{
	static const enum end_kind sources[] = {END_PIPE, END_TCP, END_UNIX};
	const struct sandbox *sandbox = argument;

	enter(sandbox);
	for (size_t i = 0; i < COUNT(sources) * 4; i++)
		if (sources[i / 4] != END_PIPE || i & 1 || !needs_stash(sandbox))
			woken(sandbox, sources[i / 4], i & 1, (i & 2) != 0);
}

TEST(a_blocking_call_sleeps_until_there_is_something_or_room_for_it)
{
	in_each_sandbox(sleepers);
}
