/* SPDX-License-Identifier: MIT */
/*
 * Calls that raise no SIGPIPE. write(2) has a flag against it on new kernels and send(2) on
 * all; around the rest the signal is held back, which costs two calls, so whoever makes many
 * calls holds it once.
 */
#ifndef FID_QUIET_H
#define FID_QUIET_H

#include "kernel/kernel.h"

struct fid_quiet {
	struct fid_sigpipe sigpipe;
	bool raised;      /* a signal of ours may be pending */
	bool plain_write; /* RWF_NOSIGNAL does not work on this sink */
};

/* Holds SIGPIPE back until it is released, unless it is held already. */
static inline void fid_quiet_hold(struct fid_kernel *kernel, struct fid_quiet *quiet)
{
	if (!quiet->sigpipe.held)
		kernel->sigpipe_hold(kernel, &quiet->sigpipe);
}

/*
 * A call under the guard returned result of the bytes wanted. One that sleeps half way while
 * the reader goes away returns what it moved and raises SIGPIPE all the same (pipe_write() and
 * splice_to_socket() in Linux 6.18), so anything but all of it may have a signal behind it.
 */
static inline void fid_quiet_note(struct fid_quiet *quiet, ssize_t result, size_t wanted)
{
	if (quiet->sigpipe.held && result != (ssize_t)wanted)
		quiet->raised = true;
}

/* Lets SIGPIPE through again as it was. */
static inline void fid_quiet_release(struct fid_kernel *kernel, struct fid_quiet *quiet)
{
	if (quiet->sigpipe.held)
		kernel->sigpipe_release(kernel, &quiet->sigpipe, quiet->raised);
	quiet->raised = false;
}

/* write(2) to a pipe, or to what is unknown, without SIGPIPE. */
ssize_t fid_quiet_write(struct fid_kernel *kernel, struct fid_quiet *quiet, int fd,
			const void *from, size_t bytes, int64_t offset);

#endif
