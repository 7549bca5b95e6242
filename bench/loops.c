/* SPDX-License-Identifier: MIT */
/*
 * The hand-written loops: what a careful programmer writes for one pair of descriptors when
 * nothing else has to work. They are the mark that the library is measured against.
 */
#include "pair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <unistd.h>

static int read_and_write(size_t bytes)
{
	/* It has to be a multiple of the alignment. */
	char *buffer = aligned_alloc(4 * KIB, (bytes + 4 * KIB - 1) & -(4 * KIB));
	ssize_t got;

	if (!buffer)
		return -ENOMEM;
	while ((got = read(0, buffer, bytes)) > 0) {
		for (ssize_t put = 0, once; put < got; put += once) {
			once = write(1, buffer + put, (size_t)(got - put));
			if (once < 0)
				return -errno;
		}
	}
	free(buffer);
	return got < 0 ? -errno : 0;
}

static int splice_through(const struct loop *loop)
{
	int ends[2];
	ssize_t got;

	if (pipe2(ends, O_CLOEXEC) < 0 || fcntl(ends[1], F_SETPIPE_SZ, (int)loop->pipe) < 0)
		return -errno;
	while ((got = splice(0, NULL, ends[1], NULL, loop->bytes, 0)) > 0) {
		for (ssize_t put = 0, once; put < got; put += once) {
			once = splice(ends[0], NULL, 1, NULL, (size_t)(got - put), 0);
			if (once < 0)
				return -errno;
		}
	}
	close(ends[0]);
	close(ends[1]);
	return got < 0 ? -errno : 0;
}

static int straight(const struct loop *loop)
{
	ssize_t moved;

	do {
		if (loop->call == LOOP_SPLICE)
			moved = splice(0, NULL, 1, NULL, loop->bytes, 0);
		else if (loop->call == LOOP_SENDFILE)
			moved = sendfile(1, 0, NULL, loop->bytes);
		else
			moved = copy_file_range(0, NULL, 1, NULL, loop->bytes, 0);
	} while (moved > 0);
	return moved < 0 ? -errno : 0;
}

int loop_run(const struct pair *pair, const struct loop *loop)
{
	if (pair->sink_pipe_grown && loop->call != LOOP_READ_WRITE &&
	    fcntl(1, F_SETPIPE_SZ, (int)pair->sink_pipe_grown) < 0)
		return -errno;
	if (loop->call == LOOP_READ_WRITE)
		return read_and_write(loop->bytes);
	if (loop->call == LOOP_SPLICE_PIPE)
		return splice_through(loop);
	return straight(loop);
}
