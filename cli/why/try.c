/* SPDX-License-Identifier: MIT */
/*
 * A transfer for show: the very flow that a copy would make, between ends that are nobody's
 * loss. A file is opened again, so that no offset moves, and what it would be written to is a
 * file without a name beside the sink. A pipe, a socket or a terminal has a reader and a writer
 * who would miss bytes, so new ones that are made alike take their places, with a process at
 * the far end of each.
 *
 * All that happens in a process of its own. It has not asked yet what the kernel refuses, as a
 * copy has not, and where it sleeps for ever an alarm ends it, as it does when the process that
 * wants to know is gone.
 */
#include "unnamed.h"
#include "why.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum {
	TRY_BYTES = 1 << 20,
	TERMINAL_BYTES = 64 << 10, /* a line discipline takes 4 KiB at a time */
	PIECE_BYTES = 64 << 10,
	TRY_SECONDS = 10,
};

/* One end of the trial. */
struct stage {
	const struct look *look;
	int fd;         /* what the flow has */
	int peer;       /* the far end; -1: none is needed */
	pid_t child;    /* who is there */
	uint64_t bytes; /* how many are enough */
	uint64_t feed;  /* how many the far end has to give */
	const char *words;
};

static bool no_stand_in(const struct look *look, const char *why)
{
	char shown[256];

	print_error("--try: %s (%s): %s",
		    print_name(shown, sizeof(shown), look->endpoint->name),
		    fid_side_name(look->endpoint->side), why);
	return false;
}

static bool fails(const struct look *look, const char *call)
{
	char text[128];

	snprintf(text, sizeof(text), "%s while in %s", strerror(errno), call);
	return no_stand_in(look, text);
}

/* ---- Ends that are opened again ---- */

/* Opens what the look refers to through a description of its own. */
static bool open_again(struct stage *stage, int mode)
{
	const struct fid_end *end = &stage->look->end;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", stage->look->endpoint->fd);
	stage->fd = open(path, mode | O_CLOEXEC | O_NOCTTY | (end->direct ? O_DIRECT : 0) |
				       (end->append ? O_APPEND : 0) |
				       (end->nonblocking ? O_NONBLOCK : 0));
	if (stage->fd < 0)
		return fails(stage->look, "open");
	if (end->position && lseek(stage->fd, (off_t)end->position, SEEK_SET) < 0)
		return fails(stage->look, "lseek");
	return true;
}

static bool open_source_file(struct stage *stage)
{
	const struct fid_end *end = &stage->look->end;

	/* As /proc/kmsg does: what is read there is gone. */
	if (end->kind == FID_KIND_REGULAR && end->size == 0 && !end->page_cache)
		return no_stand_in(stage->look, "a file that claims to be empty may be one of "
						"those that give each byte once");
	stage->words = "the file itself, opened again";
	return open_again(stage, O_RDONLY);
}

/* ---- A file beside the sink ---- */

/* The folder of a file that is there. The text of the link in /proc is its path now. */
static int folder_of(int fd)
{
	char link[64], path[PATH_MAX], *slash;
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	if (length < 0)
		return -1;
	path[length] = '\0';
	slash = strrchr(path, '/');
	if (!slash) {
		errno = ENOENT;
		return -1;
	}
	slash[slash == path] = '\0';
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static bool is_in_memory(int fd)
{
	char link[64], path[16] = "";

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return readlink(link, path, sizeof(path) - 1) > 0 &&
	       strncmp(path, "/memfd:", strlen("/memfd:")) == 0;
}

/* A file on another mount stands in a folder whose file system it does not share. */
static bool is_on_one_file_system(const struct look *look, int one, int other)
{
	struct statfs here, there;

	/* Some servers of FUSE tell nothing of a file without a name. */
	if (fstatfs(one, &here) < 0 || fstatfs(other, &there) < 0)
		return fails(look, "fstatfs");
	return (here.f_type == there.f_type &&
		memcmp(&here.f_fsid, &there.f_fsid, sizeof(here.f_fsid)) == 0) ||
	       no_stand_in(look, "its folder is on another file system");
}

static bool open_sink_file(struct stage *stage)
{
	const struct look *look = stage->look;
	const struct fid_end *end = &look->end;
	int flags = O_WRONLY | (end->append ? O_APPEND : 0) | (end->direct ? O_DIRECT : 0) |
		    (end->nonblocking ? O_NONBLOCK : 0);
	int there = look->exists ? look->endpoint->fd : look->folder;
	int folder = look->exists ? -1 : look->folder;

	if (look->exists && is_in_memory(there)) {
		stage->words = "another memfd";
		stage->fd = memfd_create("fid why", MFD_CLOEXEC);
		if (stage->fd >= 0 && flags != O_WRONLY)
			fcntl(stage->fd, F_SETFL, flags);
	} else {
		stage->words = "a file of its own beside it";
		if (folder < 0)
			folder = folder_of(there);
		stage->fd = folder < 0 ? -1 : unnamed_open(folder, ".", flags, NULL);
		if (folder >= 0 && folder != look->folder)
			close(folder);
	}
	if (stage->fd < 0)
		return fails(look, "open");
	if (!is_on_one_file_system(look, stage->fd, there))
		return false;
	/* What is not emptied keeps its size, and a descriptor its place. */
	if (end->size && ftruncate(stage->fd, (off_t)end->size) < 0)
		return fails(look, "ftruncate");
	if (end->position && lseek(stage->fd, (off_t)end->position, SEEK_SET) < 0)
		return fails(look, "lseek");
	return true;
}

/* ---- Ends that are made alike ---- */

/* Gives the end of the flow the flags that the one has whose place it takes. */
static bool take_flags(struct stage *stage)
{
	const struct fid_end *end = &stage->look->end;
	int flags = (end->nonblocking ? O_NONBLOCK : 0) | (end->append ? O_APPEND : 0);

	return fcntl(stage->fd, F_SETFL, fcntl(stage->fd, F_GETFL) | flags) == 0 ||
	       fails(stage->look, "fcntl");
}

/* both[0] is read, both[1] is written. */
static bool take_ends(struct stage *stage, const int both[2], const char *words)
{
	const struct fid_end *end = &stage->look->end;
	bool is_source = stage->look->endpoint->side == FID_SIDE_SOURCE;

	stage->fd = is_source ? both[0] : both[1];
	stage->peer = is_source ? both[1] : both[0];
	stage->words = words;
	/* A pipe makes packets where its writer asked for them. */
	if (end->kind == FID_KIND_PIPE && end->direct)
		fcntl(both[1], F_SETFL, fcntl(both[1], F_GETFL) | O_DIRECT);
	return take_flags(stage);
}

static bool make_pipe(struct stage *stage)
{
	int both[2];

	if (pipe2(both, O_CLOEXEC) < 0)
		return fails(stage->look, "pipe");
	/* Past the limit for users the capacity stays as it is. */
	if (stage->look->pipe_bytes)
		fcntl(both[1], F_SETPIPE_SZ, (int)stage->look->pipe_bytes);
	return take_ends(stage, both, "another pipe");
}

static bool make_unix(struct stage *stage)
{
	int both[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, both) < 0)
		return fails(stage->look, "socketpair");
	return take_ends(stage, both, "a pair of unix sockets");
}

static bool make_tcp(struct stage *stage)
{
	struct sockaddr_in at = {.sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int both[2] = {-1, -1};

	if (listener >= 0 && bind(listener, (struct sockaddr *)&at, length) == 0 &&
	    listen(listener, 1) == 0 &&
	    getsockname(listener, (struct sockaddr *)&at, &length) == 0)
		both[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (both[0] >= 0 && connect(both[0], (struct sockaddr *)&at, length) == 0)
		both[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (both[1] < 0)
		return fails(stage->look, "a connection to this machine");
	close(listener);
	return take_ends(stage, both, "a connection within this machine");
}

static bool make_terminal(struct stage *stage)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios raw;
	char name[64];
	int slave;

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
	    ptsname_r(master, name, sizeof(name)) != 0)
		return fails(stage->look, "posix_openpt");
	slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0 || tcgetattr(slave, &raw) < 0)
		return fails(stage->look, "open");
	/* Bytes and no lines, so that what is fed comes as it is. */
	cfmakeraw(&raw);
	tcsetattr(slave, TCSANOW, &raw);
	stage->bytes = TERMINAL_BYTES;
	/* It has no end of file that comes after all bytes, so it never runs dry. */
	stage->feed = UINT64_MAX;
	stage->peer = master;
	stage->fd = slave;
	stage->words = "another terminal";
	return take_flags(stage);
}

static bool make_stage(struct stage *stage)
{
	bool is_source = stage->look->endpoint->side == FID_SIDE_SOURCE;

	switch (stage->look->end.kind) {
	case FID_KIND_REGULAR:
		return is_source ? open_source_file(stage) : open_sink_file(stage);
	case FID_KIND_MEMORY:
		stage->words = "the device itself";
		return open_again(stage, is_source ? O_RDONLY : O_WRONLY);
	case FID_KIND_PIPE:
		return make_pipe(stage);
	case FID_KIND_TCP:
		return make_tcp(stage);
	case FID_KIND_UNIX:
		return make_unix(stage);
	case FID_KIND_TERMINAL:
		return make_terminal(stage);
	case FID_KIND_BLOCK:
		if (is_source)
			return open_source_file(stage);
		return no_stand_in(stage->look, "nothing can take the place of a block device");
	default:
		return no_stand_in(stage->look, "nothing can take the place of such an end");
	}
}

/* Whether what was made is what the choice was made for. */
static bool is_alike(const struct stage *stage)
{
	const struct fid_end *end = &stage->look->end;
	struct fid_end made;

	if (fid_end_look(stage->fd, &made) < 0)
		return fails(stage->look, "fstat");
	if (made.kind == end->kind && made.append == end->append &&
	    made.nonblocking == end->nonblocking && made.remote == end->remote &&
	    made.plain == end->plain && made.page_cache == end->page_cache &&
	    (made.direct == end->direct || made.kind == FID_KIND_PIPE) &&
	    made.position == end->position &&
	    (made.size == end->size || stage->look->endpoint->side == FID_SIDE_SOURCE))
		return true;
	return no_stand_in(stage->look, "what was made in its place is not like it");
}

/* ---- Far ends ---- */

static void feed(int fd, uint64_t bytes)
{
	static char piece[PIECE_BYTES];

	while (bytes > 0) {
		size_t want = bytes < sizeof(piece) ? (size_t)bytes : sizeof(piece);
		ssize_t wrote = write(fd, piece, want);

		if (wrote <= 0)
			return;
		bytes -= (uint64_t)wrote;
	}
}

static void drain(int fd)
{
	static char piece[PIECE_BYTES];

	while (read(fd, piece, sizeof(piece)) > 0)
		continue;
}

/* Ends this process after a while, and when the one that made it is gone. */
static void live_no_longer_than(pid_t parent)
{
	sigset_t only;

	signal(SIGALRM, SIG_DFL);
	sigemptyset(&only);
	sigaddset(&only, SIGALRM);
	sigprocmask(SIG_UNBLOCK, &only, NULL);
	prctl(PR_SET_PDEATHSIG, SIGALRM);
	if (getppid() != parent)
		_exit(1);
	alarm(TRY_SECONDS);
}

/* Puts a process at the far end. */
static bool people(struct stage *stage, const struct stage *other)
{
	bool is_source = stage->look->endpoint->side == FID_SIDE_SOURCE;
	pid_t parent = getpid();

	if (stage->peer < 0)
		return true;
	stage->child = fork();
	if (stage->child < 0)
		return fails(stage->look, "fork");
	if (stage->child == 0) {
		live_no_longer_than(parent);
		close(stage->fd);
		close(other->fd);
		if (other->peer >= 0)
			close(other->peer);
		if (is_source)
			feed(stage->peer, stage->feed);
		else
			drain(stage->peer);
		_exit(0);
	}
	/* A terminal whose other side closes hangs up, and what it held is lost. */
	if (stage->look->end.kind != FID_KIND_TERMINAL) {
		close(stage->peer);
		stage->peer = -1;
	}
	return true;
}

/* ---- The flow ---- */

static int step_some(struct fid_flow *flow, uint64_t bytes)
{
	int result = FID_MORE;

	while (result == FID_MORE && fid_flow_receipt(flow)->bytes_out < bytes) {
		struct pollfd wait[2];

		result = fid_flow_step(flow, wait);
		if (result == FID_WAIT)
			result = poll(wait, 2, -1) < 0 && errno != EINTR ? -errno : FID_MORE;
		else if (result == -EINTR)
			result = FID_MORE;
	}
	return result < 0 ? result : 0;
}

static void dismiss(const struct stage *stage)
{
	if (stage->child <= 0)
		return;
	kill(stage->child, SIGKILL);
	while (waitpid(stage->child, NULL, 0) < 0 && errno == EINTR)
		continue;
}

/* In the process of the trial. Returns false after a message. */
static bool perform(struct trial *trial, const struct why *why,
		    const struct fid_options *options)
{
	struct stage source = {.look = &why->source, .fd = -1, .peer = -1};
	struct stage sink = {.look = &why->sink, .fd = -1, .peer = -1};
	struct fid_flow *flow = NULL;

	bool ready;

	source.bytes = sink.bytes = source.feed = TRY_BYTES;
	ready = make_stage(&source) && is_alike(&source) && make_stage(&sink) &&
		is_alike(&sink) && people(&source, &sink) && people(&sink, &source);

	trial->source = source.words;
	trial->sink = sink.words;
	if (ready)
		trial->error =
			fid_flow_new(&flow, source.fd, sink.fd, options, &trial->receipt);
	if (flow) {
		trial->error =
			step_some(flow, source.bytes < sink.bytes ? source.bytes : sink.bytes);
		trial->receipt = *fid_flow_receipt(flow);
		fid_flow_free(flow);
	}
	dismiss(&source);
	dismiss(&sink);
	return ready;
}

/* The trial's process hands over what it found; its strings are those of this program. */
static _Noreturn void perform_alone(pid_t parent, int to, const struct why *why,
				    const struct fid_options *options)
{
	struct trial trial = {0};

	live_no_longer_than(parent);
	/* A limit on the size of files is an error, and can be told as one. */
	signal(SIGXFSZ, SIG_IGN);
	if (!perform(&trial, why, options))
		_exit(1);
	_exit(write(to, &trial, sizeof(trial)) == (ssize_t)sizeof(trial) ? 0 : 1);
}

bool why_try(struct why *why, const struct fid_options *options)
{
	pid_t parent = getpid(), child;
	int both[2], status = 0;
	ssize_t got;

	if (pipe2(both, O_CLOEXEC) < 0) {
		print_error("--try: %s while in pipe", strerror(errno));
		return false;
	}
	child = fork();
	if (child == 0)
		perform_alone(parent, both[1], why, options);
	close(both[1]);
	got = child < 0 ? -1 : read(both[0], &why->trial, sizeof(why->trial));
	close(both[0]);
	if (child < 0) {
		print_error("--try: %s while in fork", strerror(errno));
		return false;
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		continue;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		print_error("--try: it did not end within %d seconds", TRY_SECONDS);
	else if (WIFSIGNALED(status))
		print_error("--try: signal %d has ended it", WTERMSIG(status));
	return got == (ssize_t)sizeof(why->trial);
}
