/* SPDX-License-Identifier: MIT */
/*
 * What stands in the place of libc's functions in a program that was started by "fid run". The
 * functions have names of their own here, so that no header's declaration or macro is in the
 * way, and those of libc in the library.
 */
#ifndef FID_PRELOAD_H
#define FID_PRELOAD_H

#include <errno.h>
#include <fid.h>
#include <stdbool.h>
#include <sys/uio.h>

#define IN_PLACE_OF(name) __asm__(#name)

FID_API ssize_t preload_splice(int source, int64_t *source_offset, int sink,
			       int64_t *sink_offset, size_t bytes, unsigned flags)
	IN_PLACE_OF(splice);
FID_API ssize_t preload_tee(int source, int sink, size_t bytes, unsigned flags)
	IN_PLACE_OF(tee);
FID_API ssize_t preload_vmsplice(int pipe, const struct iovec *segments, size_t count,
				 unsigned flags) IN_PLACE_OF(vmsplice);

FID_API ssize_t preload_sendfile64(int sink, int source, int64_t *offset, size_t bytes)
	IN_PLACE_OF(sendfile64);
FID_API ssize_t preload_sendfile(int sink, int source, long *offset, size_t bytes)
	IN_PLACE_OF(sendfile);
FID_API ssize_t preload_copy_file_range(int source, int64_t *source_offset, int sink,
					int64_t *sink_offset, size_t bytes, unsigned flags)
	IN_PLACE_OF(copy_file_range);

FID_API ssize_t preload_read(int fd, void *to, size_t bytes) IN_PLACE_OF(read);
FID_API ssize_t preload_readv(int fd, const struct iovec *segments, int count)
	IN_PLACE_OF(readv);
FID_API ssize_t preload_read_chk(int fd, void *to, size_t bytes, size_t room)
	IN_PLACE_OF(__read_chk);

/*
 * The linker gives these the references to read() of everything else in the library (--wrap):
 * libfid's own reading never meets what is held for the program.
 */
ssize_t preload_wrapped_read(int fd, void *to, size_t bytes) IN_PLACE_OF(__wrap_read);

/* EPERM, ENOSYS or EOPNOTSUPP, negative: the call itself may be refused. */
static inline bool is_refusal(ssize_t result)
{
	return result == -EPERM || result == -ENOSYS || result == -EOPNOTSUPP;
}

/* As a function of libc returns: errno is touched by failures alone. */
static inline ssize_t answer(ssize_t result, int errno_before)
{
	errno = result < 0 ? (int)-result : errno_before;
	return result < 0 ? -1 : result;
}

#endif
