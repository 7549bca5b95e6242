/* SPDX-License-Identifier: MIT */
/*
 * Which kinds of descriptors splice takes here, as source and as sink of a pipe.
 */
#include "doctor.h"
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum want {
	NOT_ASKED = 0, /* what is written there could do harm */
	NEVER,         /* refused by every kernel */
	MAY,           /* by old ones: fid copies, and nothing is amiss */
	MUST,          /* refused by none that has splice */
};

/* Both ends of what is asked about; of a file and the like there is one. */
struct pair {
	int fd;
	int peer; /* -1: none */
};

static int open_memory(struct pair *pair)
{
	pair->fd = memfd_create("fid", MFD_CLOEXEC);
	return pair->fd < 0 || pwrite(pair->fd, "fid\n", 4, 0) != 4 ? -errno : 0;
}

static int open_pipe(struct pair *pair, bool sink)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pair->fd = ends[sink];
	pair->peer = ends[!sink];
	return 0;
}

static int open_tcp(struct pair *pair)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	pair->peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || pair->peer < 0 ||
	    bind(listener, (struct sockaddr *)&address, length) < 0 ||
	    listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &length) < 0 ||
	    connect(pair->peer, (struct sockaddr *)&address, length) < 0)
		return -errno;
	pair->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	return pair->fd < 0 ? -errno : 0;
}

static int open_sockets(struct pair *pair, int type)
{
	int ends[2];

	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	pair->fd = ends[0];
	pair->peer = ends[1];
	return 0;
}

static int open_terminal(struct pair *pair)
{
	const char *name;

	pair->peer = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (pair->peer < 0 || grantpt(pair->peer) < 0 || unlockpt(pair->peer) < 0)
		return -errno;
	name = ptsname(pair->peer);
	pair->fd = name ? open(name, O_RDWR | O_NOCTTY | O_CLOEXEC) : -1;
	return pair->fd < 0 ? -errno : 0;
}

/* The first disk that this user may read. */
static int open_disk(struct pair *pair)
{
	FILE *list = fopen("/proc/partitions", "re");
	char line[256], name[128], path[160];

	while (list && pair->fd < 0 && fgets(line, sizeof(line), list)) {
		if (sscanf(line, "%*u %*u %*u %127s", name) != 1)
			continue;
		snprintf(path, sizeof(path), "/dev/%s", name);
		pair->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	}
	if (list)
		fclose(list);
	return pair->fd < 0 ? -ENXIO : 0;
}

static int open_path(struct pair *pair, const char *path, int mode)
{
	pair->fd = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return pair->fd < 0 ? -errno : 0;
}

enum kind {
	END_FILE,
	END_PIPE,
	END_TCP,
	END_UNIX,
	END_DATAGRAM,
	END_TERMINAL,
	END_NULL,
	END_ZERO,
	END_FULL,
	END_RANDOM,
	END_PROC,
	END_BLOCK,
	END_EVENT,
	END_DIRECTORY,
	KINDS,
};

static const struct end {
	const char *keys[2];
	const char *title;
	enum want want[2]; /* as source, as sink */
	const char *path;
} ends[KINDS] = {
	[END_FILE] = {{"source_file", "sink_file"}, "file", {MUST, MUST}, NULL},
	[END_PIPE] = {{"source_pipe", "sink_pipe"}, "pipe", {MUST, MUST}, NULL},
	[END_TCP] = {{"source_tcp", "sink_tcp"}, "TCP", {MUST, MUST}, NULL},
	[END_UNIX] = {{"source_unix", "sink_unix"}, "unix", {MUST, MUST}, NULL},
	[END_DATAGRAM] = {{"source_datagram", "sink_datagram"}, "datagrams", {MAY, MAY}, NULL},
	[END_TERMINAL] = {{"source_terminal", "sink_terminal"}, "terminal", {MAY, MAY}, NULL},
	[END_NULL] = {{"source_null", "sink_null"}, "/dev/null", {NEVER, MUST}, "/dev/null"},
	[END_ZERO] = {{"source_zero", "sink_zero"}, "/dev/zero", {MAY, MAY}, "/dev/zero"},
	[END_FULL] = {{"source_full", "sink_full"}, "/dev/full", {MAY, NEVER}, "/dev/full"},
	[END_RANDOM] = {{"source_urandom", NULL},
			"/dev/urandom",
			{MAY, NOT_ASKED},
			"/dev/urandom"},
	[END_PROC] = {{"source_proc", NULL}, "/proc", {MAY, NOT_ASKED}, "/proc/cpuinfo"},
	[END_BLOCK] = {{"source_block", NULL}, "block device", {MAY, NOT_ASKED}, NULL},
	[END_EVENT] = {{"source_eventfd", "sink_eventfd"}, "eventfd", {NEVER, NEVER}, NULL},
	[END_DIRECTORY] = {{"source_directory", NULL}, "directory", {NEVER, NOT_ASKED}, "/"},
};

struct about {
	enum kind kind;
	bool sink;
};

static int open_end(struct pair *pair, const struct about *about)
{
	switch (about->kind) {
	case END_FILE:
		return open_memory(pair);
	case END_PIPE:
		return open_pipe(pair, about->sink);
	case END_TCP:
		return open_tcp(pair);
	case END_UNIX:
		return open_sockets(pair, SOCK_STREAM);
	case END_DATAGRAM:
		return open_sockets(pair, SOCK_DGRAM);
	case END_TERMINAL:
		return open_terminal(pair);
	case END_BLOCK:
		return open_disk(pair);
	case END_EVENT:
		pair->fd = eventfd(1, EFD_CLOEXEC);
		return pair->fd < 0 ? -errno : 0;
	default:
		return open_path(pair, ends[about->kind].path,
				 about->sink ? O_WRONLY : O_RDONLY);
	}
}

/* ---- A byte through it ---- */

static bool ready(int fd, short events)
{
	struct pollfd wait = {.fd = fd, .events = events};

	return poll(&wait, 1, 1000) == 1;
}

/* A byte from the end into the pipe; number[0] is what splice said, yes: it was the right one.
 */
static void take_byte(struct answer *answer, const struct pair *pair, const int through[2])
{
	char got = 0;

	if (pair->peer >= 0 && write(pair->peer, "fid\n", 4) != 4)
		answer->error = errno;
	if (pair->peer >= 0)
		ready(pair->fd, POLLIN);
	answer->number[0] =
		kernel_splice(pair->fd, NULL, through[1], NULL, 1, SPLICE_F_NONBLOCK);
	answer->yes = answer->number[0] != 1 ||
		      (read(through[0], &got, 1) == 1 && (pair->peer < 0 || got == 'f'));
}

static void give_byte(struct answer *answer, const struct pair *pair, const int through[2])
{
	char got = 0;

	if (write(through[1], "f", 1) != 1)
		answer->error = errno;
	answer->number[0] =
		kernel_splice(through[0], NULL, pair->fd, NULL, 1, SPLICE_F_NONBLOCK);
	answer->yes =
		answer->number[0] != 1 || pair->peer < 0 ||
		(ready(pair->peer, POLLIN) && read(pair->peer, &got, 1) == 1 && got == 'f');
}

static void try_end(struct answer *answer, const void *argument)
{
	const struct about *about = argument;
	struct pair pair = {-1, -1};
	int through[2], got = open_end(&pair, about);

	answer->error = -got;
	if (got < 0)
		return;
	if (pipe2(through, O_CLOEXEC) < 0) {
		answer->error = errno;
		return;
	}
	/* SPLICE_F_NONBLOCK does not cover a socket or a terminal (6.18). */
	fcntl(pair.fd, F_SETFL, fcntl(pair.fd, F_GETFL) | O_NONBLOCK);
	if (about->sink)
		give_byte(answer, &pair, through);
	else
		take_byte(answer, &pair, through);
}

/* ---- What it means ---- */

static void judge(struct finding *finding, const struct answer *answer, enum want want)
{
	int64_t said = answer->number[0];

	if (answer->error) {
		finding->error = answer->error;
		finding_is(finding, STATE_UNKNOWN, "there is none to ask: %s",
			   strerror(answer->error));
		return;
	}
	finding_truth(finding, said >= 0);
	if (said >= 0 && !answer->yes) {
		finding_is(finding, STATE_MISSING, "splice delivers other bytes");
	} else if (said >= 0) {
		finding_is(finding, STATE_OK, "spliced");
	} else if (want == MUST) {
		finding_refused(finding, "splice", (int)said);
	} else if (want == NEVER || said == -EINVAL) {
		finding->error = (int)-said;
		finding_is(finding, STATE_OK, "refused with %s, and copied",
			   fid_error_name((int)said));
	} else {
		finding->error = (int)-said;
		finding_is(finding, STATE_LIMITED, "refused with %s, and copied",
			   fid_error_name((int)said));
	}
}

static void add_end(struct group *group, const struct facts *facts, const struct about *about)
{
	const struct end *end = &ends[about->kind];
	struct finding *finding = finding_add(group, end->keys[about->sink], end->title);
	enum want want = end->want[about->sink];
	struct answer answer;
	const char *why = facts->of.splice < 0 ? "splice is refused"
			  : facts->of.pipe < 0 ? "there is no pipe"
			  : about->kind == END_FILE && facts->of.memory_seal < 0
				  ? "memfd_create is refused"
				  : NULL;

	if (why) {
		finding_blocked(finding, why);
		return;
	}
	ask(&answer, try_end, about);
	if (finding_answered(finding, &answer, NULL))
		judge(finding, &answer, want);
	/* A sandbox need not have a network or terminals. */
	finding->informs = finding->state == STATE_UNKNOWN || want != MUST;
}

void check_ends(struct group *group, const struct facts *facts)
{
	for (int sink = 0; sink < 2; sink++)
		for (int kind = 0; kind < KINDS; kind++)
			if (ends[kind].want[sink] != NOT_ASKED)
				add_end(group, facts,
					&(struct about){(enum kind)kind, sink == 1});
}
