/* SPDX-License-Identifier: MIT */
/*
 * The calls as the kernel answers them: under "fid run" a library stands in libc's place. They
 * return bytes or a negative errno value.
 */
#ifndef FID_CLI_DOCTOR_KERNEL_H
#define FID_CLI_DOCTOR_KERNEL_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static inline int64_t kernel_said(long result)
{
	return result < 0 ? -errno : result;
}

static inline int64_t kernel_splice(int source, int64_t *from, int sink, int64_t *to,
				    size_t bytes, unsigned flags)
{
	return kernel_said(syscall(SYS_splice, source, from, sink, to, bytes, flags));
}

static inline int64_t kernel_tee(int source, int sink, size_t bytes, unsigned flags)
{
	return kernel_said(syscall(SYS_tee, source, sink, bytes, flags));
}

static inline int64_t kernel_vmsplice(int sink, const struct iovec *segments, size_t count,
				      unsigned flags)
{
	return kernel_said(syscall(SYS_vmsplice, sink, segments, count, flags));
}

static inline int64_t kernel_sendfile(int source, int sink, size_t bytes)
{
	return kernel_said(syscall(SYS_sendfile, sink, source, NULL, bytes));
}

static inline int64_t kernel_copy_file_range(int source, int64_t *from, int sink, int64_t *to,
					     size_t bytes)
{
	return kernel_said(syscall(SYS_copy_file_range, source, from, sink, to, bytes, 0u));
}

#endif
