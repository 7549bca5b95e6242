/* SPDX-License-Identifier: MIT */
/*
 * Reading: what is held of a source comes before what the source still has. While nothing is
 * held, and that is nearly always, it is a look at one number.
 */
#include "hold.h"
#include "preload.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* libc's own, which are cancellation points. */
static ssize_t (*next_read)(int, void *, size_t);
static ssize_t (*next_readv)(int, const struct iovec *, int);

/* dlsym gives a pointer to an object, which POSIX lets be one to a function. */
static void find(const char *name, void *ret_function)
{
	*(void **)ret_function = dlsym(RTLD_NEXT, name);
}

__attribute__((constructor)) static void find_all(void)
{
	find("read", &next_read);
	find("readv", &next_readv);
}

ssize_t preload_wrapped_read(int fd, void *to, size_t bytes)
{
	/* Another library's constructor may read before this one's has run. */
	return next_read ? next_read(fd, to, bytes) : syscall(SYS_read, fd, to, bytes);
}

ssize_t preload_read(int fd, void *to, size_t bytes)
{
	struct hold *hold = hold_any() && bytes > 0 ? hold_claim(fd) : NULL;

	if (!hold)
		return preload_wrapped_read(fd, to, bytes);
	return hold_take_segments(hold, &(struct iovec){.iov_base = to, .iov_len = bytes}, 1);
}

ssize_t preload_readv(int fd, const struct iovec *segments, int count)
{
	struct hold *hold = hold_any() && count > 0 ? hold_claim(fd) : NULL;

	if (hold)
		return hold_take_segments(hold, segments, (size_t)count);
	return next_readv ? next_readv(fd, segments, count)
			  : syscall(SYS_readv, fd, segments, count);
}

/* What read() is in a program that was compiled with _FORTIFY_SOURCE. */
ssize_t preload_read_chk(int fd, void *to, size_t bytes, size_t room)
{
	if (bytes > room)
		abort();
	return preload_read(fd, to, bytes);
}
