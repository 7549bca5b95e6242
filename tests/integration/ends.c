/* SPDX-License-Identifier: MIT */
#include "ends.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <termios.h>
#include <unistd.h>

static const char *const names[END_KINDS] = {
	[END_FILE] = "file",
	[END_TMPFS] = "tmpfs",
	[END_APPEND] = "O_APPEND",
	[END_DIRECT] = "O_DIRECT",
	[END_MEMFD] = "memfd",
	[END_PIPE] = "pipe",
	[END_FIFO] = "FIFO",
	[END_TCP] = "TCP",
	[END_UNIX] = "unix",
	[END_PTY] = "pty",
	[END_ZERO] = "/dev/zero",
	[END_NULL] = "/dev/null",
	[END_FULL] = "/dev/full",
	[END_PROC_STATUS] = "/proc/self/status",
	[END_PROC_MEMINFO] = "/proc/meminfo",
	[END_PROC_CMDLINE] = "/proc/self/cmdline",
	[END_EVENTFD] = "eventfd",
};

const char *end_name(enum end_kind kind)
{
	return names[kind];
}

bool end_is_stream(enum end_kind kind)
{
	return kind == END_PIPE || kind == END_FIFO || kind == END_TCP || kind == END_UNIX ||
	       kind == END_PTY;
}

void content_fill(unsigned char *bytes, size_t count, uint64_t seed)
{
	for (size_t i = 0; i < count; i += 8) {
		uint64_t word = test_random(&seed);

		memcpy(bytes + i, &word, count - i < 8 ? count - i : 8);
	}
}

void content_fill_words(unsigned char *bytes, size_t count, uint64_t seed)
{
	for (size_t i = 0; i < count; i += 8) {
		uint64_t word = test_random(&seed) >> 24;

		memcpy(bytes + i, &word, count - i < 8 ? count - i : 8);
	}
}

const char *file_system_name(int fd)
{
	struct statfs about;
	static char number[32];

	if (fstatfs(fd, &about) != 0)
		return "unknown";
	switch ((unsigned long)about.f_type) {
	case 0xef53:
		return "ext4";
	case 0x01021994:
		return "tmpfs";
	case 0x58465342:
		return "xfs";
	case 0x9123683e:
		return "btrfs";
	case 0x794c7630:
		return "overlayfs";
	}
	snprintf(number, sizeof(number), "%#lx", (unsigned long)about.f_type);
	return number;
}

/* ---- Peers ---- */

/* A few naps per transfer are enough to let every buffer on the way run full and empty. */
enum { NAPS = 3 };

static size_t random_chunk(struct peer *peer, size_t left)
{
	uint64_t number = test_random(&peer->random);
	size_t most = number & 1 ? 256 << 10 : number & 2 ? 64 << 10 : 7000;
	size_t chunk = (number >> 8) % most + 1;

	return chunk < left ? chunk : left;
}

/* A peer looks up from time to time whether it is told to stop. */
static void wait_for(int fd, short events)
{
	struct pollfd waits = {.fd = fd, .events = events};

	poll(&waits, 1, 20);
}

/*
 * The master of a terminal may miss the last bytes when the slave is closed at the wrong moment
 * (a race of the kernel's between the line discipline's full buffer and TTY_OTHER_CLOSED, seen
 * on Linux 6.18 without fid), so the slave stays open until the master's buffer is empty.
 */
static void linger(struct peer *peer)
{
	int empty = 0;

	while (peer->watch >= 0 && !peer->stop && empty < 3) {
		int waiting = 0;

		if (ioctl(peer->watch, FIONREAD, &waiting) != 0)
			break;
		empty = waiting ? 0 : empty + 1;
		usleep(300);
	}
	if (peer->watch >= 0)
		close(peer->watch);
}

static void maybe_nap(struct peer *peer, int *naps)
{
	if (peer->slow && *naps < NAPS && test_random(&peer->random) % 3 == 0) {
		(*naps)++;
		usleep((useconds_t)(test_random(&peer->random) % 700));
	}
}

/* A signal for this process must not run into a peer that is not prepared for it. */
static void hold_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	sigdelset(&all, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
}

static void *feed(void *argument)
{
	struct peer *peer = argument;
	size_t done = 0;
	int naps = 0;

	hold_signals();
	while (done < peer->count && !peer->stop) {
		ssize_t moved;

		maybe_nap(peer, &naps);
		moved = write(peer->fd, peer->bytes + done,
			      random_chunk(peer, peer->count - done));
		if (moved > 0)
			done += (size_t)moved;
		else if (moved < 0 && errno == EAGAIN)
			wait_for(peer->fd, POLLOUT);
		else if (moved < 0 && errno != EINTR)
			break;
	}
	peer->drained = done;
	linger(peer);
	close(peer->fd);
	return NULL;
}

static void *drain(void *argument)
{
	struct peer *peer = argument;
	unsigned char *buffer = malloc(256 << 10);
	int naps = 0;

	hold_signals();
	peer->wrong_at = SIZE_MAX;
	for (;;) {
		size_t known = peer->drained < peer->count ? peer->count - peer->drained : 0;
		ssize_t moved;

		maybe_nap(peer, &naps);
		moved = read(peer->fd, buffer, random_chunk(peer, 256 << 10));
		if (moved < 0 && errno == EINTR)
			continue;
		if (moved < 0 && errno == EAGAIN) {
			wait_for(peer->fd, POLLIN);
			continue;
		}
		if (moved <= 0)
			break;
		if (peer->keep && peer->drained + (size_t)moved <= KEEP_BYTES)
			memcpy(peer->keep + peer->drained, buffer, (size_t)moved);
		for (size_t i = 0;
		     !peer->keep && i < (size_t)moved && peer->wrong_at == SIZE_MAX; i++) {
			if (i >= known || buffer[i] != peer->bytes[peer->drained + i])
				peer->wrong_at = peer->drained + i;
			else if (i == 0 && (size_t)moved <= known &&
				 memcmp(buffer, peer->bytes + peer->drained, (size_t)moved) ==
					 0)
				break;
		}
		peer->drained += (size_t)moved;
	}
	free(buffer);
	close(peer->fd);
	return NULL;
}

static void peer_start(struct peer *peer, void *(*run)(void *), int fd,
		       const unsigned char *bytes, size_t count, bool slow)
{
	static _Atomic uint64_t number;
	pthread_attr_t small;
	int error;

	*peer = (struct peer){.fd = fd,
			      .bytes = bytes,
			      .count = count,
			      .slow = slow,
			      .keep = peer->keep,
			      .watch = peer->watch};
	peer->random = test_seed() + ++number;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 << 10);
	error = pthread_create(&peer->thread, &small, run, peer);
	pthread_attr_destroy(&small);
	if (error)
		FAIL("pthread_create: %s", strerror(error));
	peer->runs = true;
}

unsigned pipes_exhaust(int (*pipes)[2], unsigned most)
{
	for (unsigned made = 0; made < most; made++) {
		int *ends = pipes[made];

		if (pipe2(ends, O_CLOEXEC) != 0)
			return 0;
		fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
		if (fcntl(ends[1], F_GETPIPE_SZ) <= 8192)
			return made;
	}
	return 0;
}

void peer_feed(struct peer *peer, int fd, const unsigned char *bytes, size_t count, bool slow)
{
	peer_start(peer, feed, fd, bytes, count, slow);
}

void peer_drain(struct peer *peer, int fd, const unsigned char *bytes, size_t count, bool slow)
{
	peer_start(peer, drain, fd, bytes, count, slow);
}

void peer_join(struct peer *peer)
{
	if (peer->runs)
		pthread_join(peer->thread, NULL);
	peer->runs = false;
}

/* ---- Pairs of descriptors ---- */

void tcp_pair(int ret_fds[2])
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(listener >= 0);
	CHECK(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0);
	CHECK(listen(listener, 1) == 0);
	CHECK(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
	ret_fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(ret_fds[0] >= 0);
	CHECK(connect(ret_fds[0], (struct sockaddr *)&address, sizeof(address)) == 0);
	ret_fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(ret_fds[1] >= 0);
	for (int i = 0; i < 2; i++)
		CHECK(setsockopt(ret_fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0);
	close(listener);
}

void stream_pair(enum end_kind kind, int fds[2])
{
	switch (kind) {
	case END_PIPE:
		CHECK(pipe2(fds, O_CLOEXEC) == 0);
		break;
	case END_TCP:
		tcp_pair(fds);
		break;
	default:
		CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
		break;
	}
}

void small_pair(enum end_kind kind, int pipe_bytes, int fds[2])
{
	int size = 64 << 10;

	stream_pair(kind, fds);
	if (kind != END_PIPE) {
		setsockopt(fds[0], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
		setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	} else if (pipe_bytes) {
		CHECK(fcntl(fds[1], F_SETPIPE_SZ, pipe_bytes) > 0);
	}
}

void pty_pair(int *ret_master, int *ret_slave)
{
	struct termios raw;

	if (openpty(ret_master, ret_slave, NULL, NULL, NULL) != 0)
		SKIP("no terminal can be had: %s", strerror(errno));
	CHECK(tcgetattr(*ret_slave, &raw) == 0);
	cfmakeraw(&raw);
	CHECK(tcsetattr(*ret_slave, TCSANOW, &raw) == 0);
}

/* The end for the flow and the far end, of a stream in the wanted direction. */
static void open_stream(struct end *end, bool is_source, int *ret_far)
{
	enum end_kind kind = end->kind;
	int fds[2];

	/* In a sandbox without pipe2 a FIFO is as good. */
	if (kind == END_PIPE && pipe2(fds, O_CLOEXEC) != 0)
		kind = END_FIFO;
	switch (kind) {
	case END_PIPE:
		end->fd = fds[is_source ? 0 : 1];
		*ret_far = fds[is_source ? 1 : 0];
		break;
	case END_FIFO:
		snprintf(end->path, sizeof(end->path), "%s",
			 scratch(is_source ? "fifo-source" : "fifo-sink"));
		CHECK(mkfifo(end->path, 0600) == 0);
		/* Opening one end waits for the other, unless that one is not asked to. */
		fds[0] = open(end->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		fds[1] = open(end->path, O_WRONLY | O_CLOEXEC);
		CHECK(fds[0] >= 0 && fds[1] >= 0);
		CHECK(fcntl(fds[0], F_SETFL, 0) == 0);
		unlink(end->path);
		end->fd = fds[is_source ? 0 : 1];
		*ret_far = fds[is_source ? 1 : 0];
		break;
	case END_TCP:
		tcp_pair(fds);
		end->fd = fds[0];
		*ret_far = fds[1];
		break;
	case END_UNIX:
		CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
		end->fd = fds[0];
		*ret_far = fds[1];
		break;
	default: /* END_PTY */
		pty_pair(&fds[0], &fds[1]);
		/*
		 * A terminal has no end of file of its own: when the slave is closed the master
		 * reads what is left and then gets EIO, and loses nothing.
		 */
		end->fd = fds[is_source ? 0 : 1];
		*ret_far = fds[is_source ? 1 : 0];
		break;
	}
}

static int open_filled(const char *path, int flags, const unsigned char *bytes, size_t count)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat about;

	CHECK(fd >= 0);
	CHECK(fstat(fd, &about) == 0);
	if ((size_t)about.st_size != count) {
		CHECK(ftruncate(fd, 0) == 0);
		for (size_t done = 0; done < count;) {
			ssize_t moved = pwrite(fd, bytes + done, count - done, (off_t)done);

			CHECK(moved > 0);
			done += (size_t)moved;
		}
	}
	close(fd);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0 && (flags & O_DIRECT))
		SKIP("%s: O_DIRECT is refused", path);
	CHECK(fd >= 0);
	return fd;
}

void end_open_source(struct end *end, enum end_kind kind, const unsigned char *bytes,
		     size_t count, bool slow)
{
	uint64_t word = 0;
	char name[64];
	int far;

	*end = (struct end){.kind = kind, .fd = -1};
	if (end_is_stream(kind)) {
		open_stream(end, true, &far);
		end->peer.watch = -1;
		if (kind == END_PTY) {
			CHECK(fcntl(far, F_SETFL, O_NONBLOCK) == 0);
			end->peer.watch = fcntl(end->fd, F_DUPFD_CLOEXEC, 3);
			CHECK(end->peer.watch >= 0);
		}
		peer_feed(&end->peer, far, bytes, count, slow);
		return;
	}
	/* Files are filled once for each size and content, and stay. */
	snprintf(name, sizeof(name), "source-%zu-%02x", count, count ? bytes[0] : 0);
	switch (kind) {
	case END_FILE:
	case END_APPEND:
		end->fd = open_filled(scratch(name), O_RDONLY, bytes, count);
		break;
	case END_DIRECT:
		end->fd = open_filled(scratch(name), O_RDONLY | O_DIRECT, bytes, count);
		break;
	case END_TMPFS:
		end->fd = open_filled(scratch_shm(name), O_RDONLY, bytes, count);
		break;
	case END_MEMFD:
		end->fd = memfd_create("source", MFD_CLOEXEC);
		CHECK(end->fd >= 0);
		CHECK(count == 0 || pwrite(end->fd, bytes, count, 0) == (ssize_t)count);
		break;
	case END_EVENTFD:
		memcpy(&word, bytes, count < sizeof(word) ? count : sizeof(word));
		end->fd = eventfd(0, EFD_CLOEXEC);
		CHECK(end->fd >= 0);
		if (word)
			CHECK(write(end->fd, &word, sizeof(word)) == sizeof(word));
		break;
	default: /* the others are paths, which are also their names */
		end->fd = open(names[kind], O_RDONLY | O_CLOEXEC);
		CHECK(end->fd >= 0);
		break;
	}
}

void end_open_sink(struct end *end, enum end_kind kind, const unsigned char *bytes,
		   size_t count, bool slow)
{
	int flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC;
	static _Atomic unsigned number;
	char name[32];
	int far;

	*end = (struct end){.kind = kind, .fd = -1};
	/* Several sinks may be open at once. */
	snprintf(name, sizeof(name), "sink-%u", number++);
	if (!bytes) {
		end->keep = malloc(KEEP_BYTES);
		CHECK(end->keep);
	}
	if (end_is_stream(kind)) {
		open_stream(end, false, &far);
		end->peer.keep = end->keep;
		peer_drain(&end->peer, far, bytes, count, slow);
		return;
	}
	switch (kind) {
	case END_APPEND:
		flags |= O_APPEND;
		/* fall through */
	case END_FILE:
		snprintf(end->path, sizeof(end->path), "%s", scratch(name));
		break;
	case END_DIRECT:
		flags |= O_DIRECT;
		snprintf(end->path, sizeof(end->path), "%s", scratch(name));
		break;
	case END_TMPFS:
		snprintf(end->path, sizeof(end->path), "%s", scratch_shm(name));
		break;
	case END_MEMFD:
		end->fd = memfd_create("sink", MFD_CLOEXEC);
		break;
	case END_EVENTFD:
		end->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		CHECK(fcntl(end->fd, F_SETFL, 0) == 0);
		break;
	default:
		flags = O_WRONLY | O_CLOEXEC;
		snprintf(end->path, sizeof(end->path), "%s", names[kind]);
		break;
	}
	if (end->fd < 0)
		end->fd = open(end->path, flags, 0600);
	if (end->fd < 0 && kind == END_DIRECT)
		SKIP("%s: O_DIRECT is refused: %s", end->path, strerror(errno));
	CHECK(end->fd >= 0);
}

void end_nonblocking(struct end *end)
{
	CHECK(fcntl(end->fd, F_SETFL, fcntl(end->fd, F_GETFL) | O_NONBLOCK) == 0);
}

size_t end_leftover(struct end *source, const unsigned char *bytes, size_t count)
{
	/* Aligned and a whole number of blocks, for O_DIRECT. */
	static _Alignas(4096) unsigned char buffer[64 << 10];
	size_t total = 0;

	for (;;) {
		ssize_t moved = read(source->fd, buffer, sizeof(buffer));

		if (moved < 0 && errno == EAGAIN) {
			wait_for(source->fd, POLLIN);
			continue;
		}
		/* EIO is the end of a terminal. */
		if (moved == 0 || (moved < 0 && errno == EIO && source->kind == END_PTY))
			return total;
		if (moved < 0)
			FAIL("read of what is left: %s", strerror(errno));
		CHECK((size_t)moved <= count - total);
		CHECK(memcmp(buffer, bytes + total, (size_t)moved) == 0);
		total += (size_t)moved;
	}
}

void end_close_source(struct end *source)
{
	close(source->fd);
	source->peer.stop = true;
	peer_join(&source->peer);
	source->fd = -1;
}

static size_t check_file(int fd, const unsigned char *bytes, size_t count, unsigned char *keep)
{
	unsigned char *buffer;
	struct stat about;
	size_t size;

	CHECK(fstat(fd, &about) == 0);
	size = (size_t)about.st_size;
	if (keep) {
		CHECK(size <= KEEP_BYTES);
		CHECK(pread(fd, keep, size, 0) == (ssize_t)size);
		return size;
	}
	CHECK(size <= count);
	buffer = malloc(size + 1);
	CHECK(buffer);
	CHECK(pread(fd, buffer, size, 0) == (ssize_t)size);
	CHECK(memcmp(buffer, bytes, size) == 0);
	free(buffer);
	return size;
}

size_t end_close_sink(struct end *sink, const unsigned char *bytes, size_t count,
		      size_t delivered)
{
	size_t arrived = delivered;
	uint64_t word = 0, sum = 0;

	switch (sink->kind) {
	case END_FILE:
	case END_APPEND:
	case END_TMPFS:
	case END_MEMFD:
		arrived = check_file(sink->fd, bytes, count, sink->keep);
		break;
	case END_DIRECT:
		CHECK(fcntl(sink->fd, F_SETFL, 0) == 0);
		arrived = check_file(sink->fd, bytes, count, sink->keep);
		break;
	case END_EVENTFD:
		/* It keeps the sum of the words that were written. */
		CHECK(delivered % 8 == 0);
		if (sink->keep)
			break;
		CHECK(delivered <= count);
		for (size_t i = 0; i + 8 <= delivered; i += 8) {
			memcpy(&word, bytes + i, 8);
			sum += word;
		}
		CHECK(fcntl(sink->fd, F_SETFL, O_NONBLOCK) == 0);
		if (read(sink->fd, &word, 8) != 8)
			word = 0;
		CHECK(word == sum);
		break;
	default:
		break;
	}
	/* For the same reason as in linger(). */
	for (int ms = 0; sink->kind == END_PTY && sink->peer.drained < delivered && ms < 2000;
	     ms++)
		usleep(1000);
	close(sink->fd);
	sink->fd = -1;
	if (end_is_stream(sink->kind)) {
		peer_join(&sink->peer);
		if (sink->peer.wrong_at != SIZE_MAX)
			FAIL("byte %zu of %zu that arrived is not the expected one",
			     sink->peer.wrong_at, sink->peer.drained);
		arrived = sink->peer.drained;
	} else if (sink->path[0] && sink->kind <= END_DIRECT) {
		unlink(sink->path);
	}
	return arrived;
}

void receipt_check(const struct fid_receipt *receipt)
{
	uint64_t by_method = 0;

	CHECK_EQUAL(receipt->bytes_in,
		    receipt->bytes_out + receipt->bytes_held + receipt->bytes_salvaged);
	CHECK_EQUAL(receipt->bytes_out,
		    receipt->by_class[0] + receipt->by_class[1] + receipt->by_class[2]);
	for (int i = 0; i < FID_METHODS; i++)
		by_method += receipt->by_method[i];
	CHECK_EQUAL(receipt->bytes_out, by_method);
	CHECK(receipt->demotions <= FID_DEMOTIONS_MAX);
	CHECK(receipt->error <= 0);
	CHECK((receipt->error != 0) == (receipt->error_side != FID_SIDE_NONE));
	CHECK(receipt->reason != NULL);
	/* It stands in JSON as it is. */
	CHECK(strpbrk(receipt->reason, "\"\\\n\t") == NULL);
}
