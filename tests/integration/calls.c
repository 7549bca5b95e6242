/* SPDX-License-Identifier: MIT */
/*
 * The three calls, statement by statement of splice(2), tee(2) and vmsplice(2), with the errors
 * by their names; and where fid.h promises something else than the kernel does, both of them.
 *
 * One error of the pages is not here: ENOMEM. Nothing makes a real kernel run out of memory in
 * these calls whenever it is asked to; the tests on the simulated kernel do.
 */
#include "deny.h"
#include "scene.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { BYTES = 1 << 20 };

static unsigned char content[BYTES];
static unsigned char got[BYTES];

static const struct scene_end memory = {"memory", BASE_MEMORY, 0};

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

static void close_both(const int fds[2])
{
	close(fds[0]);
	close(fds[1]);
}

/* ---- Each error of the manual pages ---- */

static const struct scene_end held = {"a pipe that holds bytes", BASE_PIPE, SCENE_HELD};
static const struct scene_end empty = {"an empty pipe", BASE_PIPE, 0};
static const struct scene_end empty_nonblock = {"an empty O_NONBLOCK pipe", BASE_PIPE,
						SCENE_NONBLOCK};
static const struct scene_end ended = {"an ended pipe", BASE_PIPE, SCENE_GONE};
static const struct scene_end wrong = {"the other end of a pipe", BASE_PIPE,
				       SCENE_HELD | SCENE_WRONG};
static const struct scene_end wrong_sink = {"the read end of a pipe", BASE_PIPE, SCENE_WRONG};
static const struct scene_end full = {"a full pipe", BASE_SMALL_PIPE, SCENE_HELD};
static const struct scene_end full_nonblock = {"a full O_NONBLOCK pipe", BASE_SMALL_PIPE,
					       SCENE_HELD | SCENE_NONBLOCK};
static const struct scene_end unread = {"a pipe without a reader", BASE_PIPE, SCENE_GONE};
static const struct scene_end file = {"a file", BASE_FILE, SCENE_HELD};
static const struct scene_end write_only = {"a file open for writing", BASE_FILE, SCENE_WRONG};
static const struct scene_end file_sink = {"a file", BASE_FILE, 0};
static const struct scene_end read_only = {"a file open for reading", BASE_FILE, SCENE_WRONG};
static const struct scene_end append = {"an O_APPEND file", BASE_APPEND, 0};
static const struct scene_end none = {"no descriptor", BASE_NONE, 0};
static const struct scene_end path = {"O_PATH", BASE_PATH, 0};
static const struct scene_end tcp = {"TCP", BASE_TCP, 0};
static const struct scene_end tcp_held = {"TCP that holds bytes", BASE_TCP, SCENE_HELD};
static const struct scene_end tcp_closed = {"closed TCP", BASE_TCP, SCENE_GONE};
static const struct scene_end unix_nonblock = {"idle O_NONBLOCK unix", BASE_UNIX,
					       SCENE_NONBLOCK};
static const struct scene_end unix_full = {"full O_NONBLOCK unix", BASE_UNIX,
					   SCENE_HELD | SCENE_NONBLOCK};
static const struct scene_end eventfd_end = {"an eventfd", BASE_EVENTFD, SCENE_NONBLOCK};
static const struct scene_end directory = {"a directory", BASE_DIRECTORY, 0};
static const struct scene_end dev_full = {"/dev/full", BASE_FULL, 0};

enum { NONBLOCK = SPLICE_F_NONBLOCK, UNKNOWN = 0x20 };

/* Offsets are bits: 1 the source's, 2 the sink's. -EINTR is a call that sleeps. */
static const struct listed {
	enum scene_call call;
	const struct scene_end *source;
	const struct scene_end *sink;
	int offsets;
	unsigned flags;
	int result;
} listed[] = {
	/* splice(2) */
	{SCENE_SPLICE, &empty, &tcp, 0, NONBLOCK, -EAGAIN},
	{SCENE_SPLICE, &empty_nonblock, &tcp, 0, 0, -EAGAIN},
	{SCENE_SPLICE, &empty, &tcp, 0, 0, -EINTR},
	{SCENE_SPLICE, &file, &full, 0, NONBLOCK, -EAGAIN},
	{SCENE_SPLICE, &file, &full_nonblock, 0, 0, -EAGAIN},
	{SCENE_SPLICE, &file, &full, 0, 0, -EINTR},
	{SCENE_SPLICE, &held, &full_nonblock, 0, 0, -EAGAIN},
	{SCENE_SPLICE, &unix_nonblock, &empty, 0, 0, -EAGAIN},
	{SCENE_SPLICE, &held, &unix_full, 0, 0, -EAGAIN},
	{SCENE_SPLICE, &none, &empty, 0, 0, -EBADF},
	{SCENE_SPLICE, &held, &none, 0, 0, -EBADF},
	{SCENE_SPLICE, &wrong, &file_sink, 0, 0, -EBADF},
	{SCENE_SPLICE, &held, &wrong_sink, 0, 0, -EBADF},
	{SCENE_SPLICE, &write_only, &empty, 0, 0, -EBADF},
	{SCENE_SPLICE, &held, &read_only, 0, 0, -EBADF},
	{SCENE_SPLICE, &path, &empty, 0, 0, -EBADF},
	{SCENE_SPLICE, &held, &dev_full, 0, 0, -EINVAL}, /* does not splice */
	{SCENE_SPLICE, &directory, &empty, 0, 0, -EINVAL},
	{SCENE_SPLICE, &held, &append, 0, 0, -EINVAL},
	{SCENE_SPLICE, &file, &file_sink, 0, 0, -EINVAL}, /* no pipe */
	{SCENE_SPLICE, &file, &tcp, 0, 0, -EINVAL},
	{SCENE_SPLICE, &held, &tcp, 2, 0, -EINVAL}, /* an offset, and not seekable */
	{SCENE_SPLICE, &tcp_held, &empty, 1, 0, -EINVAL},
	{SCENE_SPLICE, &held, &empty, 0, UNKNOWN, -EINVAL},
	{SCENE_SPLICE, &held, &file_sink, 1, 0, -ESPIPE},
	{SCENE_SPLICE, &file, &empty, 2, 0, -ESPIPE},
	{SCENE_SPLICE, &held, &unread, 0, 0, -EPIPE},
	{SCENE_SPLICE, &file, &unread, 0, 0, -EPIPE},
	{SCENE_SPLICE, &held, &tcp_closed, 0, 0, -EPIPE},
	{SCENE_SPLICE, &ended, &file_sink, 0, 0, 0},
	/* tee(2) */
	{SCENE_TEE, &empty, &empty, 0, NONBLOCK, -EAGAIN},
	{SCENE_TEE, &empty_nonblock, &empty, 0, 0, -EAGAIN},
	{SCENE_TEE, &empty, &empty, 0, 0, -EINTR},
	{SCENE_TEE, &held, &full, 0, NONBLOCK, -EAGAIN},
	{SCENE_TEE, &held, &full_nonblock, 0, 0, -EAGAIN},
	{SCENE_TEE, &held, &full, 0, 0, -EINTR},
	{SCENE_TEE, &file, &empty, 0, 0, -EINVAL},
	{SCENE_TEE, &held, &file_sink, 0, 0, -EINVAL},
	{SCENE_TEE, &held, &empty, 0, UNKNOWN, -EINVAL},
	{SCENE_TEE, &none, &empty, 0, 0, -EBADF},
	{SCENE_TEE, &held, &none, 0, 0, -EBADF},
	{SCENE_TEE, &wrong, &empty, 0, 0, -EBADF},
	{SCENE_TEE, &held, &unread, 0, 0, -EPIPE},
	{SCENE_TEE, &ended, &empty, 0, 0, 0},
	/* vmsplice(2); O_NONBLOCK of its pipe means nothing to it */
	{SCENE_VMSPLICE, &memory, &full, 0, NONBLOCK, -EAGAIN},
	{SCENE_VMSPLICE, &memory, &full, 0, 0, -EINTR},
	{SCENE_VMSPLICE, &memory, &full_nonblock, 0, 0, -EINTR},
	{SCENE_VMSPLICE, &empty, &memory, 0, NONBLOCK, -EAGAIN},
	{SCENE_VMSPLICE, &empty, &memory, 0, 0, -EINTR},
	{SCENE_VMSPLICE, &empty_nonblock, &memory, 0, 0, -EINTR},
	{SCENE_VMSPLICE, &memory, &none, 0, 0, -EBADF},
	{SCENE_VMSPLICE, &memory, &file_sink, 0, 0, -EBADF},
	{SCENE_VMSPLICE, &memory, &eventfd_end, 0, 0, -EBADF},
	{SCENE_VMSPLICE, &tcp_held, &memory, 0, 0, -EBADF},
	{SCENE_VMSPLICE, &memory, &empty, 0, UNKNOWN, -EINVAL},
	{SCENE_VMSPLICE, &memory, &unread, 0, 0, -EPIPE},
	{SCENE_VMSPLICE, &ended, &memory, 0, 0, 0},
};

static void play_listed(void *argument)
{
	(void)argument;
	scene_prepare();
	for (size_t i = 0; i < COUNT(listed); i++) {
		const struct listed *one = &listed[i];
		struct scene scene = {one->call,
				      one->source,
				      one->sink,
				      (one->offsets & 1) != 0,
				      (one->offsets & 2) != 0,
				      5000,
				      one->flags};
		struct outcome bare, fid;

		doing("%s", scene_name(&scene));
		scene_play(&scene, SCENE_BARE, &bare);
		CHECK_EQUAL(bare.result, one->result);
		scene_play(&scene, SCENE_FID, &fid);
		outcome_check(&fid, &scene);
		CHECK_EQUAL(fid.result, one->result);
		CHECK_EQUAL(fid.signals, one->result == -EPIPE);
		if (one->call == SCENE_VMSPLICE)
			continue;
		/* With a stash it is the same, but for what no stash can stand before. */
		scene_play(&scene, SCENE_STASH, &fid);
		if (!scene.source_offset)
			CHECK_EQUAL(fid.result, one->result);
	}
}

TEST(each_error_that_the_manual_pages_list_is_returned_where_they_say_so)
{
	test_seed();
	in_child(5, play_listed, NULL);
}

static void same_pipe(void *argument)
{
	char name[64];
	int ends[2], again;

	(void)argument;
	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	CHECK_EQUAL(write(ends[1], "fid", 3), 3);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", ends[1]);
	again = open(name, O_WRONLY | O_CLOEXEC);
	CHECK(again >= 0);
	CHECK_EQUAL(bare_splice(ends[0], NULL, ends[1], NULL, 3, 0), -EINVAL);
	CHECK_EQUAL(fid_splice(ends[0], NULL, ends[1], NULL, 3, 0), -EINVAL);
	CHECK_EQUAL(fid_splice(ends[0], NULL, again, NULL, 3, 0), -EINVAL);
	CHECK_EQUAL(fid_tee(ends[0], ends[1], 3, 0), -EINVAL);
	CHECK_EQUAL(fid_tee(ends[0], again, 3, 0), -EINVAL);
}

TEST(a_pipe_is_not_its_own_sink)
{
	test_seed();
	in_child(5, same_pipe, NULL);
}

static void bad_memory(void *argument)
{
	long page = sysconf(_SC_PAGESIZE);
	unsigned char *two = mmap(NULL, 2 * (size_t)page, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec bad[2] = {{two, (size_t)page}, {two + page, (size_t)page}};
	int ends[2];

	(void)argument;
	CHECK(two != MAP_FAILED);
	CHECK(mprotect(two + page, (size_t)page, PROT_NONE) == 0);
	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	for (int fid = 0; fid < 2; fid++) {
		ssize_t (*call)(int, const struct iovec *, size_t, unsigned) =
			fid ? fid_vmsplice : bare_vmsplice;

		CHECK_EQUAL(call(ends[1], bad + 1, 1, 0), -EFAULT);
		CHECK_EQUAL(call(ends[1], NULL, 1, 0), -EFAULT);
		CHECK_EQUAL(call(ends[1], (struct iovec *)(two + page), 2, 0), -EFAULT);
		/* What comes before the hole is moved, and no more. */
		CHECK_EQUAL(call(ends[1], bad, 2, 0), page);
		CHECK_EQUAL(call(ends[0], bad + 1, 1, 0), -EFAULT);
		CHECK_EQUAL(call(ends[0], bad, 2, 0), page);
		CHECK_EQUAL(call(ends[0], bad, 2, SPLICE_F_NONBLOCK), -EAGAIN);
		CHECK_EQUAL(call(ends[1], NULL, 0, 0), 0);
		CHECK_EQUAL(call(ends[1], &(struct iovec){two, (size_t)SSIZE_MAX + 1}, 1, 0),
			    -EINVAL);
		/* Unaligned is fine, although the page says otherwise of SPLICE_F_GIFT. */
		CHECK_EQUAL(call(ends[1], &(struct iovec){two + 1, 7}, 1, SPLICE_F_GIFT), 7);
		CHECK_EQUAL(read(ends[0], got, 7), 7);
	}
}

TEST(vmsplice_returns_efault_for_memory_that_is_not_there)
{
	test_seed();
	in_child(5, bad_memory, NULL);
}

static void both_directions(void *argument)
{
	struct iovec out = {content, 5000}, in = {got, 5000};
	int ends[2];

	(void)argument;
	fill();
	CHECK(mkfifo(scratch("fifo"), 0600) == 0);
	ends[0] = open(scratch("fifo"), O_RDWR | O_CLOEXEC);
	ends[1] = open(scratch("fifo"), O_RDONLY | O_CLOEXEC);
	CHECK(ends[0] >= 0 && ends[1] >= 0);
	/* A descriptor for both is written to. */
	CHECK_EQUAL(fid_vmsplice(ends[0], &out, 1, 0), 5000);
	CHECK_EQUAL(fid_vmsplice(ends[1], &in, 1, 0), 5000);
	CHECK(memcmp(got, content, 5000) == 0);
}

TEST(vmsplice_writes_to_a_fifo_that_is_open_both_ways)
{
	test_seed();
	in_child(5, both_directions, NULL);
}

/* ---- Flags ---- */

static int kept_back(int socket)
{
	int bytes = -1;

	CHECK(ioctl(socket, SIOCOUTQNSD, &bytes) == 0);
	return bytes;
}

static void more(void *argument)
{
	(void)argument;
	for (int fid = 0; fid < 2; fid++) {
		ssize_t (*call)(int, int64_t *, int, int64_t *, size_t, unsigned) =
			fid ? fid_splice : bare_splice;
		int ends[2], sockets[2];

		stream_pair(END_TCP, sockets);
		CHECK(pipe2(ends, O_CLOEXEC) == 0);
		CHECK_EQUAL(write(ends[1], "1234567", 7), 7);
		CHECK_EQUAL(call(ends[0], NULL, sockets[0], NULL, 3, 0), 3);
		CHECK_EQUAL(kept_back(sockets[0]), 0);
		CHECK_EQUAL(call(ends[0], NULL, sockets[0], NULL, 3, SPLICE_F_MORE), 3);
		CHECK_EQUAL(kept_back(sockets[0]), 3);
		CHECK_EQUAL(call(ends[0], NULL, sockets[0], NULL, 1, SPLICE_F_MOVE), 1);
		CHECK_EQUAL(kept_back(sockets[0]), 0);
		close_both(ends);
		close_both(sockets);
	}
}

TEST(splice_f_more_keeps_a_part_of_a_packet_back_until_more_comes)
{
	test_seed();
	in_child(5, more, NULL);
}

/* ---- Signals ---- */

enum { CALLS = 5 };

/* Each call into a sink without a reader. */
static ssize_t call_unread(int call, unsigned flags)
{
	struct iovec one = {content, 1};
	struct fid_stash *stash;
	int ends[2], sink[2];
	ssize_t result;

	CHECK(pipe2(ends, O_CLOEXEC) == 0 && pipe2(sink, O_CLOEXEC) == 0);
	CHECK_EQUAL(write(ends[1], "fid", 3), 3);
	CHECK_EQUAL(fid_stash_new(&stash, ends[0]), 0);
	close(sink[0]);
	switch (call) {
	case 0:
		result = fid_splice(ends[0], NULL, sink[1], NULL, 3, flags);
		break;
	case 1:
		result = fid_tee(ends[0], sink[1], 3, flags);
		break;
	case 2:
		result = fid_vmsplice(sink[1], &one, 1, flags);
		break;
	case 3:
		result = fid_stash_splice(stash, sink[1], NULL, 3, flags);
		break;
	default:
		result = fid_stash_tee(stash, sink[1], 3, flags);
		break;
	}
	CHECK(fid_stash_free(stash) == NULL);
	CHECK_EQUAL(read(ends[0], got, 4), 3);
	close_both(ends);
	close(sink[1]);
	return result;
}

static bool is_pending(void)
{
	sigset_t pending;

	CHECK(sigpending(&pending) == 0);
	return sigismember(&pending, SIGPIPE) == 1;
}

static bool is_blocked(void)
{
	sigset_t mask;

	CHECK(sigprocmask(SIG_SETMASK, NULL, &mask) == 0);
	return sigismember(&mask, SIGPIPE) == 1;
}

static void take_pending(void)
{
	struct timespec now = {0};
	sigset_t pipe_signal;

	sigemptyset(&pipe_signal);
	sigaddset(&pipe_signal, SIGPIPE);
	CHECK_EQUAL(sigtimedwait(&pipe_signal, NULL, &now), SIGPIPE);
}

static void signals(void *argument)
{
	sigset_t pipe_signal;

	(void)argument;
	sigemptyset(&pipe_signal);
	sigaddset(&pipe_signal, SIGPIPE);
	for (int call = 0; call < CALLS; call++) {
		pid_t child = fork();

		doing("call %d", call);
		CHECK(child >= 0);
		if (child == 0) {
			signal(SIGPIPE, SIG_DFL);
			call_unread(call, 0);
			_exit(0);
		}
		/* The default action, as with the bare call. */
		CHECK_EQUAL(reap(child), SIGPIPE);
		signal(SIGPIPE, SIG_DFL);
		CHECK_EQUAL(call_unread(call, FID_NOSIGNAL), -EPIPE);
		CHECK(!is_blocked() && !is_pending());
		/* Blocked: one is pending after the plain call, and none after the other. */
		CHECK(sigprocmask(SIG_BLOCK, &pipe_signal, NULL) == 0);
		CHECK_EQUAL(call_unread(call, FID_NOSIGNAL), -EPIPE);
		CHECK(is_blocked() && !is_pending());
		CHECK_EQUAL(call_unread(call, 0), -EPIPE);
		CHECK(is_blocked() && is_pending());
		/* One that was pending before is the caller's and stays. */
		CHECK_EQUAL(call_unread(call, FID_NOSIGNAL), -EPIPE);
		CHECK(is_blocked() && is_pending());
		take_pending();
		CHECK(sigprocmask(SIG_UNBLOCK, &pipe_signal, NULL) == 0);
		signal(SIGPIPE, SIG_IGN);
		CHECK_EQUAL(call_unread(call, 0), -EPIPE);
		CHECK_EQUAL(call_unread(call, FID_NOSIGNAL), -EPIPE);
	}
}

TEST(sigpipe_is_raised_as_by_the_kernel_and_not_at_all_with_fid_nosignal)
{
	test_seed();
	in_child(5, signals, NULL);
}

/* ---- A stash where nothing is refused ---- */

static void idle_stash(void *argument)
{
	char *descriptors = descriptors_list();
	struct fid_stash *stash = NULL;
	int ends[2], other[2], write_end;

	(void)argument;
	fill();
	CHECK(pipe2(ends, O_CLOEXEC) == 0 && pipe2(other, O_CLOEXEC) == 0);
	write_end = ends[1];
	CHECK_EQUAL(fid_stash_new(&stash, -1), -EBADF);
	CHECK_EQUAL(fid_stash_new(&stash, write_end), -EBADF);
	CHECK_EQUAL(fid_stash_new(NULL, ends[0]), -EINVAL);
	CHECK(stash == NULL && fid_stash_free(NULL) == NULL);
	CHECK_EQUAL(fid_stash_new(&stash, ends[0]), 0);
	CHECK_EQUAL(write(write_end, content, 9000), 9000);
	CHECK_EQUAL(fid_stash_tee(stash, other[1], 5000, 0), 5000);
	CHECK_EQUAL(fid_stash_splice(stash, other[1], NULL, 4000, 0), 4000);
	CHECK_EQUAL(fid_stash_bytes(stash), 0);
	CHECK_EQUAL(fid_stash_salvage(stash, got, sizeof(got)), 0);
	CHECK_EQUAL(read(other[0], got, sizeof(got)), 9000);
	CHECK(memcmp(got, content, 5000) == 0 && memcmp(got + 5000, content, 4000) == 0);
	CHECK_EQUAL(read(ends[0], got, sizeof(got)), 5000);
	CHECK(memcmp(got, content + 4000, 5000) == 0);
	CHECK(fid_stash_free(stash) == NULL);
	close_both(ends);
	close_both(other);
	descriptors_check(descriptors);
}

TEST(a_stash_stays_empty_where_nothing_is_refused)
{
	test_seed();
	in_child(5, idle_stash, NULL);
}

/* ---- A sandbox that kills ---- */

/* Nothing is asked of the kernel but what is needed to move the bytes. */
static void no_other_calls(void *argument)
{
	static const int killing[] = {SYS_tee, SYS_vmsplice, SYS_memfd_create};
	struct fid_receipt receipt;
	int ends[2], other[2], sockets[2], fifo;

	(void)argument;
	fill();
	CHECK(pipe2(ends, O_CLOEXEC) == 0 && pipe2(other, O_CLOEXEC) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
	CHECK(mkfifo(scratch("fifo"), 0600) == 0);
	fifo = open(scratch("fifo"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	CHECK(fifo >= 0);
	deny(killing, COUNT(killing), DENY_KILLS);
	for (size_t bytes = 1 << 15; bytes <= 1 << 21; bytes *= 2) {
		doing("a splice of up to %zu bytes", bytes);
		CHECK_EQUAL(write(ends[1], content, 100), 100);
		CHECK_EQUAL(fid_splice(ends[0], NULL, other[1], NULL, bytes, 0), 100);
		CHECK_EQUAL(fid_splice(other[0], NULL, sockets[1], NULL, bytes, 0), 100);
		CHECK_EQUAL(read(sockets[0], got, sizeof(got)), 100);
		CHECK(memcmp(got, content, 100) == 0);
	}
	doing("a FIFO that never had a writer");
	CHECK_EQUAL(fid_splice(fifo, NULL, other[1], NULL, 100, SPLICE_F_NONBLOCK), 0);
	doing("a flow into a socket");
	CHECK_EQUAL(write(ends[1], content, 9000), 9000);
	close(ends[1]);
	CHECK_EQUAL(fid_copy(ends[0], sockets[1], NULL, &receipt), 9000);
	CHECK_EQUAL(read(sockets[0], got, sizeof(got)), 9000);
	CHECK(memcmp(got, content, 9000) == 0);
}

TEST(a_sandbox_that_kills_for_other_calls_lets_splice_and_flows_live)
{
	test_seed();
	in_child(5, no_other_calls, NULL);
}
