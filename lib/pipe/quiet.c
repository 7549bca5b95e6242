/* SPDX-License-Identifier: MIT */
#include "pipe/quiet.h"

ssize_t fid_quiet_write(struct fid_kernel *kernel, struct fid_quiet *quiet, int fd,
			const void *from, size_t bytes, int64_t offset)
{
	ssize_t written;

	if (!quiet->plain_write) {
		written = kernel->write(kernel, fd, from, bytes, offset, FID_WRITE_NOSIGNAL);
		/* The flag is refused by old kernels, and by all for some files. */
		if (!fid_not_this_way(written))
			return written;
		quiet->plain_write = true;
	}
	fid_quiet_hold(kernel, quiet);
	written = kernel->write(kernel, fd, from, bytes, offset, 0);
	fid_quiet_note(quiet, written, bytes);
	return written;
}
