/* SPDX-License-Identifier: MIT */
#include "pipe/pipe.h"

#include <errno.h>

/* Asking for more than this is never useful and above pipe-max-size for most users. */
enum { PIPE_BYTES_MAX = 1 << 30 };

int fid_pipe_open(struct fid_kernel *kernel, size_t bytes, struct fid_pipe *ret_pipe)
{
	int ends[2];
	int capacity;
	int got = kernel->pipe(kernel, ends);

	if (got < 0)
		return got;
	capacity = kernel->pipe_size(kernel, ends[1]);
	if (capacity < 0)
		capacity = 0;
	if (bytes > PIPE_BYTES_MAX)
		bytes = PIPE_BYTES_MAX;
	/*
	 * Past pipe-user-pages-soft growth is refused with EPERM, and above pipe-max-size too
	 * (pipe(7)); half of it may still be granted.
	 */
	while (bytes > (size_t)capacity) {
		got = kernel->pipe_resize(kernel, ends[1], bytes);
		if (got >= 0) {
			capacity = got;
			break;
		}
		bytes /= 2;
	}
	*ret_pipe = (struct fid_pipe){
		.read_end = ends[0],
		.write_end = ends[1],
		.capacity = (size_t)capacity,
	};
	return 0;
}

void fid_pipe_grow(struct fid_kernel *kernel, int fd, uint64_t bytes)
{
	int size = kernel->pipe_size(kernel, fd);

	if (size >= 0 && (uint64_t)size < bytes)
		kernel->pipe_resize(kernel, fd,
				    bytes < PIPE_BYTES_MAX ? (size_t)bytes : PIPE_BYTES_MAX);
}

void fid_pipe_close(struct fid_kernel *kernel, struct fid_pipe *pipe)
{
	if (!fid_pipe_is_open(pipe))
		return;
	kernel->close(kernel, pipe->read_end);
	kernel->close(kernel, pipe->write_end);
	*pipe = FID_PIPE_NONE;
}
