/* SPDX-License-Identifier: MIT */
#include "ruby.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS_MAX = 16, STARTS_IN_S = 20, PATIENCE_S = 100 };

static const char *command[WORDS_MAX];
static struct {
	int socket;
	pid_t pid;
	char facts[MESSAGE_MAX];
} worker = {.socket = -1};

void worker_command(const char *const *argv)
{
	for (size_t i = 0; i < WORDS_MAX - 2 && argv[i]; i++)
		command[i] = argv[i];
}

/*
 * A grandchild, since stage_wait() waits for all children, and this one stays. It ends when its
 * socket does. It has the CPU of the movers.
 */
static void start(int socket)
{
	static char number[16];
	size_t words = 0;
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid > 0) {
		waitpid(pid, NULL, 0);
		return;
	}
	if (fork() != 0)
		_exit(0);
	stage_pin(0);
	snprintf(number, sizeof(number), "%d", socket);
	fcntl(socket, F_SETFD, 0);
	while (command[words])
		words++;
	command[words] = number;
	stage_become(command);
}

static bool is_alive(void)
{
	struct pollfd hangup = {.fd = worker.socket};

	return worker.socket >= 0 && poll(&hangup, 1, 0) == 0;
}

void worker_end(void)
{
	if (worker.socket < 0)
		return;
	/* The end of its socket is enough for one that listens. */
	if (is_alive() && worker.pid > 0)
		kill(worker.pid, SIGKILL);
	close(worker.socket);
	worker.socket = -1;
	worker.pid = 0;
}

int worker_socket(void)
{
	struct timeval patience = {.tv_sec = STARTS_IN_S};
	struct timeval longer = {.tv_sec = PATIENCE_S};
	int ends[2];

	if (is_alive())
		return worker.socket;
	worker_end();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		fail("socketpair");
	start(ends[1]);
	close(ends[1]);
	worker.socket = ends[0];
	setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (!worker_hear(ends[0], worker.facts, sizeof(worker.facts))) {
		fprintf(stderr, "fid-bench-ruby: %s does not start, or not within %d s\n",
			command[0], STARTS_IN_S);
		exit(1);
	}
	setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &longer, sizeof(longer));
	worker.pid = (pid_t)strtol(worker.facts, NULL, 10);
	return worker.socket;
}

const char *worker_facts(void)
{
	const char *tab;

	worker_socket();
	tab = strchr(worker.facts, '\t');
	return tab ? tab + 1 : "";
}

void worker_rest(void)
{
	char answer[MESSAGE_MAX];
	int socket = worker_socket();

	if (!worker_tell(socket, NULL, 0, "rest") ||
	    !worker_hear(socket, answer, sizeof(answer)))
		worker_end();
}

bool worker_tell(int socket, const int *descriptors, size_t count, const char *format, ...)
{
	char text[MESSAGE_MAX];
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(DESCRIPTORS_AT_ONCE * sizeof(int))];
	} control;
	struct iovec segment = {text, 0};
	struct msghdr message = {.msg_iov = &segment, .msg_iovlen = 1};
	va_list arguments;

	va_start(arguments, format);
	segment.iov_len = (size_t)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (segment.iov_len >= sizeof(text))
		fail("a message to the Ruby process that is too long");
	if (count > 0) {
		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.header), descriptors, count * sizeof(int));
	}
	return sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)segment.iov_len;
}

bool worker_hear(int socket, char *message, size_t capacity)
{
	ssize_t got = recv(socket, message, capacity - 1, 0);

	message[got > 0 ? got : 0] = '\0';
	return got > 0;
}
