/* SPDX-License-Identifier: MIT */
#include "scene.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* HELD fits every buffer but a terminal's; AT is where the offsets that are given begin. */
enum { HELD = 10000, HELD_PTY = 3000, MEMORY = 1 << 20, AT = 2000, POSITION = 100 };

const struct scene_end scene_sources[] = {
	{"a pipe that holds bytes", BASE_PIPE, SCENE_HELD},
	{"the rest of a pipe", BASE_PIPE, SCENE_HELD | SCENE_GONE},
	{"an empty pipe", BASE_PIPE, 0},
	{"an empty O_NONBLOCK pipe", BASE_PIPE, SCENE_NONBLOCK},
	{"an ended pipe", BASE_PIPE, SCENE_GONE},
	{"the write end of a pipe", BASE_PIPE, SCENE_HELD | SCENE_WRONG},
	{"TCP that holds bytes", BASE_TCP, SCENE_HELD},
	{"the rest of TCP", BASE_TCP, SCENE_HELD | SCENE_GONE},
	{"idle TCP", BASE_TCP, 0},
	{"idle O_NONBLOCK TCP", BASE_TCP, SCENE_NONBLOCK},
	{"ended TCP", BASE_TCP, SCENE_GONE},
	{"unix that holds bytes", BASE_UNIX, SCENE_HELD},
	{"idle unix", BASE_UNIX, 0},
	{"idle O_NONBLOCK unix", BASE_UNIX, SCENE_NONBLOCK},
	{"ended unix", BASE_UNIX, SCENE_GONE},
	{"a terminal that holds bytes", BASE_PTY, SCENE_HELD},
	{"an idle terminal", BASE_PTY, 0},
	{"an idle O_NONBLOCK terminal", BASE_PTY, SCENE_NONBLOCK},
	{"a terminal that was hung up", BASE_PTY, SCENE_GONE},
	{"a file", BASE_FILE, SCENE_HELD},
	{"the end of a file", BASE_FILE, 0},
	{"a file open for writing", BASE_FILE, SCENE_WRONG},
	{"/dev/zero", BASE_ZERO, 0},
	{"/dev/null", BASE_NULL, 0},
	{"/proc/self/status", BASE_STATUS, 0},
	{"a directory", BASE_DIRECTORY, 0},
	{"an eventfd", BASE_EVENTFD, SCENE_NONBLOCK},
	{"O_PATH", BASE_PATH, 0},
	{"no descriptor", BASE_NONE, 0},
};
const size_t scene_sources_count = sizeof(scene_sources) / sizeof(scene_sources[0]);

const struct scene_end scene_sinks[] = {
	{"a pipe", BASE_PIPE, 0},
	{"a pipe of one slot", BASE_SMALL_PIPE, 0},
	{"a full pipe", BASE_SMALL_PIPE, SCENE_HELD},
	{"a full O_NONBLOCK pipe", BASE_SMALL_PIPE, SCENE_HELD | SCENE_NONBLOCK},
	{"a pipe without a reader", BASE_PIPE, SCENE_GONE},
	{"the read end of a pipe", BASE_PIPE, SCENE_WRONG},
	{"TCP", BASE_TCP, 0},
	{"full TCP", BASE_TCP, SCENE_HELD},
	{"full O_NONBLOCK TCP", BASE_TCP, SCENE_HELD | SCENE_NONBLOCK},
	{"closed TCP", BASE_TCP, SCENE_GONE},
	{"unix", BASE_UNIX, 0},
	{"full unix", BASE_UNIX, SCENE_HELD},
	{"full O_NONBLOCK unix", BASE_UNIX, SCENE_HELD | SCENE_NONBLOCK},
	{"closed unix", BASE_UNIX, SCENE_GONE},
	{"a terminal", BASE_PTY, 0},
	{"a file", BASE_FILE, 0},
	{"a file open for reading", BASE_FILE, SCENE_WRONG},
	{"an O_APPEND file", BASE_APPEND, 0},
	{"/dev/null", BASE_NULL, 0},
	{"/dev/full", BASE_FULL, 0},
	{"a directory", BASE_DIRECTORY, 0},
	{"an eventfd", BASE_EVENTFD, SCENE_NONBLOCK},
	{"O_PATH", BASE_PATH, 0},
	{"no descriptor", BASE_NONE, 0},
};
const size_t scene_sinks_count = sizeof(scene_sinks) / sizeof(scene_sinks[0]);

/* One end of a scene. */
struct stage {
	const struct scene_end *end;
	int fd;
	int far;
	size_t filled; /* bytes in it before the call */
};

static unsigned char content[MEMORY];
static unsigned char memory[MEMORY];
static unsigned char seen[MEMORY];
static volatile sig_atomic_t pipe_signals;
static timer_t timer;

static void count_signal(int number)
{
	(void)number;
	pipe_signals++;
}

static void wake(int number)
{
	(void)number;
}

void scene_prepare(void)
{
	struct sigaction wakes = {.sa_handler = wake}, counts = {.sa_handler = count_signal};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	int fd = open(scratch("scene"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	content_fill(content, sizeof(content), test_seed());
	CHECK(fd >= 0);
	CHECK_EQUAL(write(fd, content, HELD), HELD);
	close(fd);
	CHECK(sigaction(SIGUSR1, &wakes, NULL) == 0);
	CHECK(sigaction(SIGPIPE, &counts, NULL) == 0);
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
}

/* The first signal comes after that time; 0: none does any more. */
static void wake_later(long first_ns)
{
	struct itimerspec spec = {.it_value.tv_nsec = first_ns,
				  .it_interval.tv_nsec = first_ns ? 2000000 : 0};

	CHECK(timer_settime(timer, 0, &spec, NULL) == 0);
}

/* ---- Ends ---- */

static void nonblocking(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	CHECK(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) == 0);
}

static void small_buffers(int fd)
{
	int size = 16 << 10;

	CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) == 0);
}

/* Writes to a stream until it takes no more, and none later either: TCP moves a little. */
static size_t fill_up(int fd, enum scene_base base)
{
	static const unsigned char filler[4096];
	int refusals = 0, enough = base == BASE_TCP ? 3 : 1;
	size_t filled = 0;

	nonblocking(fd, true);
	while (refusals < enough) {
		ssize_t moved = write(fd, filler, refusals ? 1 : sizeof(filler));

		CHECK(moved > 0 || errno == EAGAIN);
		if (moved > 0)
			filled += (size_t)moved;
		else if (++refusals < enough)
			usleep(100);
	}
	nonblocking(fd, false);
	return filled;
}

static void wait_until_held(int fd, int bytes)
{
	for (int held = 0; held < bytes;) {
		CHECK(ioctl(fd, FIONREAD, &held) == 0);
		if (held < bytes)
			usleep(100);
	}
}

static int open_kind(const struct scene_end *end, bool is_source)
{
	bool writes = is_source == !!(end->traits & SCENE_WRONG);
	int flags = (writes ? O_WRONLY : O_RDONLY) | O_CLOEXEC;

	switch (end->base) {
	case BASE_FILE:
		if (is_source)
			return open(scratch("scene"), flags);
		close(open(scratch("scene-sink"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
			   0600));
		return open(scratch("scene-sink"), flags);
	case BASE_APPEND:
		return open(scratch("scene-sink"),
			    O_WRONLY | O_APPEND | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	case BASE_ZERO:
		return open("/dev/zero", flags);
	case BASE_NULL:
		return open("/dev/null", flags);
	case BASE_FULL:
		return open("/dev/full", flags);
	case BASE_STATUS:
		return open("/proc/self/status", flags);
	case BASE_DIRECTORY:
		return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case BASE_EVENTFD:
		return eventfd(0, EFD_CLOEXEC);
	case BASE_PATH:
		return open(scratch("scene"), O_PATH | O_CLOEXEC);
	default:
		return -1;
	}
}

static void set_up(struct stage *stage, const struct scene_end *end, bool is_source)
{
	bool swaps = is_source == !!(end->traits & SCENE_WRONG);
	int held = end->base == BASE_PTY ? HELD_PTY : HELD;
	int fds[2];

	*stage = (struct stage){.end = end, .fd = -1, .far = -1};
	switch (end->base) {
	case BASE_PIPE:
	case BASE_SMALL_PIPE:
		stream_pair(END_PIPE, fds);
		stage->fd = fds[swaps];
		stage->far = fds[!swaps];
		if (end->base == BASE_SMALL_PIPE)
			CHECK(fcntl(fds[1], F_SETPIPE_SZ, 4096) == 4096);
		break;
	case BASE_TCP:
	case BASE_UNIX:
		stream_pair(end->base == BASE_TCP ? END_TCP : END_UNIX, fds);
		stage->fd = fds[0];
		stage->far = fds[1];
		if (!is_source && (end->traits & SCENE_HELD)) {
			small_buffers(fds[0]);
			small_buffers(fds[1]);
		}
		break;
	case BASE_DATAGRAM:
		CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds) == 0);
		stage->fd = fds[0];
		stage->far = fds[1];
		break;
	case BASE_PTY:
		pty_pair(&fds[0], &fds[1]);
		stage->fd = fds[is_source ? 0 : 1];
		stage->far = fds[is_source ? 1 : 0];
		break;
	case BASE_NONE:
	case BASE_MEMORY:
		return;
	default:
		stage->fd = open_kind(end, is_source);
		CHECK(stage->fd >= 0);
		break;
	}
	if (is_source && end->base == BASE_FILE) {
		stage->filled = HELD;
		CHECK(lseek(stage->fd, end->traits & SCENE_HELD ? 0 : HELD, SEEK_SET) >= 0);
	} else if (!is_source && end->base == BASE_FILE) {
		CHECK(lseek(stage->fd, POSITION, SEEK_SET) == POSITION);
	} else if (is_source && (end->traits & SCENE_HELD)) {
		int to = end->traits & SCENE_WRONG ? stage->fd : stage->far;

		CHECK_EQUAL(write(to, content, (size_t)held), held);
		stage->filled = (size_t)held;
		if (!(end->traits & SCENE_WRONG))
			wait_until_held(stage->fd, held);
	} else if (end->traits & SCENE_HELD) {
		stage->filled = fill_up(stage->fd, end->base);
	}
	if (end->traits & SCENE_GONE) {
		/* A TCP peer that is gone resets at some later time; one's own end knows. */
		if (end->base == BASE_TCP)
			shutdown(is_source ? stage->far : stage->fd, SHUT_WR);
		else {
			close(stage->far);
			stage->far = -1;
		}
		if (is_source && end->base == BASE_TCP && !(end->traits & SCENE_HELD)) {
			struct pollfd ends = {.fd = stage->fd, .events = POLLIN};

			CHECK(poll(&ends, 1, 5000) == 1);
		}
	}
	if (end->traits & SCENE_NONBLOCK)
		nonblocking(stage->fd, true);
}

/* No port waits for a while after a test that makes thousands of them. */
static void close_end(int fd)
{
	struct linger now = {.l_onoff = 1};

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

/* Reads what is there to seen, and waits only for what must come: a terminal delivers late. */
static size_t look(int fd, size_t already, size_t at_least)
{
	size_t done = already;

	nonblocking(fd, true);
	while (done < sizeof(seen)) {
		struct pollfd more = {.fd = fd, .events = POLLIN};
		ssize_t moved = read(fd, seen + done, sizeof(seen) - done);

		if (moved > 0)
			done += (size_t)moved;
		else if (moved == 0 || (errno != EAGAIN && errno != EINTR))
			break;
		else if (done >= at_least || poll(&more, 1, 2000) == 0)
			break;
	}
	return done;
}

/* ---- The call ---- */

static int64_t *pointer(int64_t *offset)
{
	return *offset < 0 ? NULL : offset;
}

static ssize_t negated(long result)
{
	return result < 0 ? -errno : (ssize_t)result;
}

static ssize_t call_bare(const struct scene *scene, int source, int64_t *source_offset,
			 int sink, int64_t *sink_offset, const struct iovec *segments)
{
	unsigned flags = scene->flags;

	switch (scene->call) {
	case SCENE_SPLICE:
		return negated(syscall(SYS_splice, source, source_offset, sink, sink_offset,
				       scene->bytes, flags));
	case SCENE_TEE:
		return negated(syscall(SYS_tee, source, sink, scene->bytes, flags));
	default:
		return negated(syscall(SYS_vmsplice,
				       scene->source->base == BASE_MEMORY ? sink : source,
				       segments, 3L, flags));
	}
}

static ssize_t call_fid(const struct scene *scene, int source, int64_t *source_offset, int sink,
			int64_t *sink_offset, const struct iovec *segments)
{
	unsigned flags = scene->flags;

	switch (scene->call) {
	case SCENE_SPLICE:
		return fid_splice(source, source_offset, sink, sink_offset, scene->bytes,
				  flags);
	case SCENE_TEE:
		return fid_tee(source, sink, scene->bytes, flags);
	default:
		return fid_vmsplice(scene->source->base == BASE_MEMORY ? sink : source,
				    segments, 3, flags);
	}
}

static ssize_t call_stash(const struct scene *scene, struct fid_stash *stash, int sink,
			  int64_t *sink_offset)
{
	if (scene->call == SCENE_TEE)
		return fid_stash_tee(stash, sink, scene->bytes, scene->flags);
	return fid_stash_splice(stash, sink, sink_offset, scene->bytes, scene->flags);
}

static int64_t position(int fd)
{
	return fd < 0 ? -1 : lseek(fd, 0, SEEK_CUR);
}

/* ---- What it did ---- */

/* The bytes that the source had to give, or NULL where nobody knows. */
static const unsigned char *expected(const struct scene *scene)
{
	static const unsigned char zeros[MEMORY];

	switch (scene->source->base) {
	case BASE_ZERO:
		return zeros;
	case BASE_FILE:
		return content + (scene->source_offset                 ? AT
				  : scene->source->traits & SCENE_HELD ? 0
								       : HELD);
	case BASE_STATUS:
		return NULL;
	default:
		return content;
	}
}

static void look_at_source(const struct scene *scene, struct stage *stage,
			   struct fid_stash *stash, struct outcome *outcome)
{
	bool is_stream = stage->end->base <= BASE_PTY;
	size_t stashed = 0, gone, found;

	if (!is_stream)
		return;
	if (stash) {
		outcome->stashed = (int64_t)fid_stash_bytes(stash);
		stashed = (size_t)fid_stash_salvage(stash, seen, sizeof(seen));
		CHECK_EQUAL(stashed, outcome->stashed);
	}
	gone = outcome->result > 0 && scene->call != SCENE_TEE ? (size_t)outcome->result : 0;
	outcome->held = (int64_t)stage->filled;
	found = look(stage->end->traits & SCENE_WRONG ? stage->far : stage->fd, stashed,
		     stage->filled - gone);
	outcome->left = (int64_t)found;
	if (found + gone <= stage->filled && memcmp(seen, content + gone, found) != 0)
		outcome->wrong = true;
}

static void look_at_sink(const struct scene *scene, struct stage *stage,
			 struct outcome *outcome)
{
	const unsigned char *wanted = expected(scene);
	size_t moved = outcome->result > 0 ? (size_t)outcome->result : 0;
	size_t from, found;

	switch (stage->end->base) {
	case BASE_MEMORY:
		outcome->arrived = (int64_t)moved;
		outcome->wrong |= moved > 0 && memcmp(memory, wanted, moved) != 0;
		return;
	case BASE_FILE:
	case BASE_APPEND: {
		int fd = open(scratch("scene-sink"), O_RDONLY | O_CLOEXEC);

		from = stage->end->base == BASE_APPEND ? 0 : scene->sink_offset ? AT : POSITION;
		found = look(fd, 0, 0);
		close(fd);
		outcome->arrived = found > from ? (int64_t)(found - from) : 0;
		break;
	}
	default:
		if (stage->end->base > BASE_PTY || stage->far < 0 ||
		    (stage->end->traits & SCENE_WRONG))
			return;
		/* The window of a TCP that was full opens by a timer of 200 ms. */
		if (stage->end->base == BASE_TCP && (stage->end->traits & SCENE_HELD))
			return;
		/* SPLICE_F_MORE keeps what is no full packet for 200 ms. */
		if (stage->end->base == BASE_TCP)
			setsockopt(stage->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
		from = stage->filled;
		found = look(stage->far, 0, from + moved);
		outcome->arrived = (int64_t)found - (int64_t)from;
		break;
	}
	if (wanted && outcome->arrived == outcome->result)
		outcome->wrong |= memcmp(seen + from, wanted, moved) != 0;
}

static void play_once(const struct scene *scene, enum scene_way way, long first_ns,
		      struct outcome *ret_outcome)
{
	size_t half = scene->bytes / 2;
	struct iovec segments[3] = {
		{memory, half}, {memory + half, 0}, {memory + half, scene->bytes - half}};
	struct fid_stash *stash = NULL;
	struct outcome outcome = {.source_offset = scene->source_offset ? AT : -1,
				  .sink_offset = scene->sink_offset ? AT : -1,
				  .left = -1,
				  .held = -1,
				  .arrived = -1};
	int64_t *source_offset = pointer(&outcome.source_offset);
	int64_t *sink_offset = pointer(&outcome.sink_offset);
	struct stage source, sink;

	set_up(&source, scene->source, true);
	set_up(&sink, scene->sink, false);
	if (scene->source->base == BASE_MEMORY)
		memcpy(memory, content, sizeof(memory));
	else if (scene->sink->base == BASE_MEMORY)
		memset(memory, 0, sizeof(memory));
	if (way == SCENE_STASH)
		outcome.result = fid_stash_new(&stash, source.fd);
	pipe_signals = 0;
	wake_later(first_ns);
	if (way == SCENE_BARE)
		outcome.result = call_bare(scene, source.fd, source_offset, sink.fd,
					   sink_offset, segments);
	else if (way == SCENE_FID)
		outcome.result = call_fid(scene, source.fd, source_offset, sink.fd, sink_offset,
					  segments);
	else if (stash)
		outcome.result = call_stash(scene, stash, sink.fd, sink_offset);
	wake_later(0);
	outcome.signals = pipe_signals;
	outcome.source_position = position(source.fd);
	outcome.sink_position = position(sink.fd);
	look_at_sink(scene, &sink, &outcome);
	look_at_source(scene, &source, stash, &outcome);
	fid_stash_free(stash);
	close_end(source.fd);
	close_end(source.far);
	close_end(sink.fd);
	close_end(sink.far);
	*ret_outcome = outcome;
}

/*
 * A call that sleeps does so for ever, so that it is always a signal that ends it, however slow
 * the machine is. One that needs no sleep is over before the first signal, unless somebody else
 * had the processor just then: whatever was interrupted has to be so after a longer time, too.
 */
void scene_play(const struct scene *scene, enum scene_way way, struct outcome *ret_outcome)
{
	play_once(scene, way, 150000, ret_outcome);
	if (ret_outcome->result == -EINTR)
		play_once(scene, way, 2000000, ret_outcome);
}

const char *scene_name(const struct scene *scene)
{
	static const char *const names[] = {"splice", "tee", "vmsplice"};
	static char name[256];

	snprintf(name, sizeof(name), "%s from %s to %s, %zu bytes, flags %#x%s%s",
		 names[scene->call], scene->source->name, scene->sink->name, scene->bytes,
		 scene->flags, scene->source_offset ? ", source offset" : "",
		 scene->sink_offset ? ", sink offset" : "");
	return name;
}

void outcome_check(const struct outcome *outcome, const struct scene *scene)
{
	int64_t moved = outcome->result > 0 ? outcome->result : 0;

	CHECK(!outcome->wrong);
	CHECK(outcome->result <= (int64_t)scene->bytes);
	if (outcome->arrived >= 0)
		CHECK_EQUAL(outcome->arrived, moved);
	if (outcome->left >= 0)
		CHECK_EQUAL(outcome->left,
			    outcome->held - (scene->call == SCENE_TEE ? 0 : moved));
	/* A device does not count what is read from it or written to it. */
	if (outcome->source_offset >= 0 && scene->source->base == BASE_FILE)
		CHECK_EQUAL(outcome->source_offset, AT + moved);
	if (outcome->sink_offset >= 0 && scene->sink->base == BASE_FILE)
		CHECK_EQUAL(outcome->sink_offset, AT + moved);
	if (scene->sink->base == BASE_FILE)
		CHECK_EQUAL(outcome->sink_position,
			    POSITION + (scene->sink_offset ? 0 : moved));
	if (scene->source->base == BASE_FILE)
		CHECK_EQUAL(outcome->source_position,
			    (scene->source->traits & SCENE_HELD ? 0 : HELD) +
				    (scene->source_offset ? 0 : moved));
}

void outcome_same(const struct outcome *got, const struct outcome *bare,
		  const struct scene *scene)
{
	outcome_alike(got, bare);
	/* How much a terminal takes at once depends on a worker of the kernel's. */
	if (scene->sink->base == BASE_PTY)
		return;
	CHECK_EQUAL(got->result, bare->result);
	CHECK_EQUAL(got->source_offset, bare->source_offset);
	CHECK_EQUAL(got->sink_offset, bare->sink_offset);
	CHECK_EQUAL(got->source_position, bare->source_position);
	CHECK_EQUAL(got->sink_position, bare->sink_position);
	CHECK_EQUAL(got->left, bare->left);
	CHECK_EQUAL(got->arrived, bare->arrived);
}

void outcome_alike(const struct outcome *got, const struct outcome *bare)
{
	if (got->result <= 0 || bare->result <= 0)
		CHECK_EQUAL(got->result, bare->result);
	CHECK_EQUAL(got->signals, bare->signals);
}
