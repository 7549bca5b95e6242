/* SPDX-License-Identifier: MIT */
/*
 * The splice loop that a Ruby program has to make in one way or another: Ruby's pipes and
 * sockets have O_NONBLOCK, and so it calls, and waits where the kernel says EAGAIN.
 */
#include "ruby.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

/* EAGAIN does not say which end it means: that which is not ready. */
static ssize_t splice_or_wait(int source, int sink, size_t bytes)
{
	for (;;) {
		struct pollfd ends[] = {{source, POLLIN, 0}, {sink, POLLOUT, 0}};
		ssize_t moved = splice(source, NULL, sink, NULL, bytes, SPLICE_F_NONBLOCK);

		if (moved >= 0 || errno != EAGAIN)
			return moved < 0 ? -errno : moved;
		poll(ends, 2, 0);
		poll(ends[0].revents ? &ends[1] : &ends[0], 1, -1);
	}
}

static int straight(size_t bytes)
{
	ssize_t moved;

	do
		moved = splice_or_wait(0, 1, bytes);
	while (moved > 0);
	return (int)moved;
}

static int through(const struct loop *loop)
{
	int ends[2];
	ssize_t got;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0 ||
	    fcntl(ends[1], F_SETPIPE_SZ, (int)loop->pipe) < 0)
		return -errno;
	while ((got = splice_or_wait(0, ends[1], loop->bytes)) > 0) {
		for (ssize_t put = 0, once; put < got; put += once) {
			once = splice_or_wait(ends[0], 1, (size_t)(got - put));
			if (once < 0)
				return (int)once;
		}
	}
	close(ends[0]);
	close(ends[1]);
	return (int)got;
}

int polled_run(const struct loop *loop)
{
	return loop->call == LOOP_SPLICE_PIPE ? through(loop) : straight(loop->bytes);
}
