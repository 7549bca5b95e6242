/* SPDX-License-Identifier: MIT */
/*
 * The three calls.
 */
#include "hold.h"
#include "preload.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* A flag of fid's is unknown to the kernel and stays so: another unknown one stands for it. */
static unsigned kernel_flags(unsigned flags)
{
	return flags & FID_NOSIGNAL ? (flags & ~FID_NOSIGNAL) | FID_NOSIGNAL << 1 : flags;
}

/*
 * A length of 0 is 0 whatever the descriptors are, unless the call itself is refused: EPERM may
 * also be what a file says (a sealed one, an immutable one).
 */
static bool splice_is_refused(void)
{
	return syscall(SYS_splice, -1, NULL, -1, NULL, (size_t)0, 0u) < 0;
}

/*
 * Whether vmsplice has copied in this process, instead of giving references: where the kernel
 * refuses it, or is one of those to come.
 */
static _Atomic bool vmsplice_copies;

/* ---- The device of file systems in user space ---- */

/* Documentation/admin-guide/devices.txt */
enum { MISC_MAJOR = 10, FUSE_MINOR = 229 };

static bool is_fuse(int fd)
{
	struct stat stat;

	return fstat(fd, &stat) == 0 && S_ISCHR(stat.st_mode) &&
	       major(stat.st_rdev) == MISC_MAJOR && minor(stat.st_rdev) == FUSE_MINOR;
}

/*
 * One read is one request, and EINVAL unless there is room for the largest. It goes into a pipe
 * that is empty and large enough, as libfuse makes it, or is not taken.
 */
static ssize_t take_request(int device, int pipe, size_t bytes, ssize_t refusal)
{
	int room = fcntl(pipe, F_GETPIPE_SZ);
	ssize_t moved;
	int there = 0;
	char *buffer;

	if (room < 0 || (size_t)room < bytes || ioctl(pipe, FIONREAD, &there) < 0 || there > 0)
		return refusal;
	buffer = malloc(bytes);
	if (!buffer)
		return -ENOMEM;
	moved = preload_wrapped_read(device, buffer, bytes);
	if (moved > 0)
		moved = write(pipe, buffer, (size_t)moved);
	if (moved < 0)
		moved = -errno;
	free(buffer);
	return moved;
}

static ssize_t read_whole(int pipe, char *to, size_t bytes)
{
	size_t total = 0;

	while (total < bytes) {
		ssize_t got = preload_wrapped_read(pipe, to + total, bytes - total);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EINVAL;
		total += (size_t)got;
	}
	return (ssize_t)total;
}

/*
 * One write is one reply. The kernel wants all of it to be in the pipe, and takes it from there
 * even when it does not like it (fuse_dev_splice_write(), fs/fuse/dev.c).
 *
 * A reply begins with its length, and libfuse 3.14 corrects that in memory which it has given
 * to vmsplice before: after a short read, at the end of each file, a copy has the wrong one.
 */
static ssize_t give_reply(int pipe, int device, size_t bytes)
{
	uint32_t length = (uint32_t)bytes;
	ssize_t moved;
	int there = 0;
	char *buffer;

	if (ioctl(pipe, FIONREAD, &there) < 0)
		return -errno;
	if ((size_t)there < bytes || bytes == 0)
		return -EINVAL;
	buffer = malloc(bytes);
	if (!buffer)
		return -ENOMEM;
	moved = read_whole(pipe, buffer, bytes);
	if (moved > 0) {
		if (vmsplice_copies && bytes >= sizeof(length))
			memcpy(buffer, &length, sizeof(length));
		moved = write(device, buffer, (size_t)moved);
		if (moved < 0)
			moved = -errno;
	}
	free(buffer);
	return moved;
}

/* ---- splice ---- */

/* Whether a full sink is to be waited for, as far as the source and the flags have a say. */
static bool sink_waits(int source, int sink, unsigned flags)
{
	struct stat stat;
	int status;

	/* SPLICE_F_NONBLOCK is about pipes; hold_deliver() looks at the sink's own O_NONBLOCK.
	 */
	if (fstat(sink, &stat) == 0 && !S_ISFIFO(stat.st_mode))
		return true;
	if (flags & SPLICE_F_NONBLOCK)
		return false;
	status = fstat(source, &stat) == 0 && S_ISFIFO(stat.st_mode) ? fcntl(source, F_GETFL)
								     : 0;
	return status >= 0 && !(status & O_NONBLOCK);
}

/* What has to be taken to be moved: a pipe where tee is refused as well, and a terminal. */
static bool needs_stash(int source)
{
	struct stat stat;

	return fstat(source, &stat) == 0 &&
	       (S_ISFIFO(stat.st_mode) || (S_ISCHR(stat.st_mode) && isatty(source)));
}

static ssize_t through_stash(int source, int sink, int64_t *sink_offset, size_t bytes,
			     unsigned flags, ssize_t refusal)
{
	struct hold *hold = hold_reserve(source, HOLD_BYTES);
	struct fid_stash *stash;
	ssize_t moved;
	int error;

	if (!hold)
		return refusal;
	error = fid_stash_new(&stash, source);
	if (error < 0) {
		hold_release(hold);
		return error;
	}
	/* A stash takes no more than this, so that there is room for what it has left. */
	moved = fid_stash_splice(stash, sink, sink_offset,
				 bytes < HOLD_BYTES ? bytes : HOLD_BYTES, flags);
	hold->held = (size_t)fid_stash_salvage(stash, hold->bytes, HOLD_BYTES);
	fid_stash_free(stash);
	hold_release(hold);
	return moved;
}

static ssize_t splice_otherwise(int source, int64_t *source_offset, int sink,
				int64_t *sink_offset, size_t bytes, unsigned flags,
				ssize_t result)
{
	if (bytes == 0 || !splice_is_refused())
		return result;
	if (is_fuse(source) && !source_offset)
		return take_request(source, sink, bytes, result);
	if (is_fuse(sink) && !sink_offset)
		return give_reply(source, sink, bytes);
	if (!is_refusal(result) || source_offset || !needs_stash(source))
		return result;
	return through_stash(source, sink, sink_offset, bytes, flags, result);
}

static ssize_t splice_held(struct hold *hold, int source, int sink, int64_t *sink_offset,
			   size_t bytes, unsigned flags)
{
	ssize_t moved =
		hold_deliver(hold, sink, sink_offset, bytes, sink_waits(source, sink, flags));

	hold_release(hold);
	return moved;
}

ssize_t preload_splice(int source, int64_t *source_offset, int sink, int64_t *sink_offset,
		       size_t bytes, unsigned flags)
{
	struct hold *hold = NULL;
	int before = errno;
	ssize_t moved;

	pthread_testcancel();
	flags = kernel_flags(flags);
	if (hold_any() && bytes > 0 && !source_offset)
		hold = hold_claim(source);
	if (hold)
		return answer(splice_held(hold, source, sink, sink_offset, bytes, flags),
			      before);
	if (atomic_load_explicit(&vmsplice_copies, memory_order_relaxed) && bytes > 0 &&
	    !sink_offset && is_fuse(sink))
		return answer(give_reply(source, sink, bytes), before);
	moved = fid_splice(source, source_offset, sink, sink_offset, bytes, flags);
	/* EINVAL: the device of file systems wants a reply in one piece. */
	if (is_refusal(moved) || moved == -EINVAL)
		moved = splice_otherwise(source, source_offset, sink, sink_offset, bytes, flags,
					 moved);
	return answer(moved, before);
}

/* ---- tee and vmsplice ---- */

ssize_t preload_tee(int source, int sink, size_t bytes, unsigned flags)
{
	int before = errno;

	pthread_testcancel();
	return answer(fid_tee(source, sink, bytes, kernel_flags(flags)), before);
}

static void learn_what_vmsplice_does(void)
{
	struct fid_facts facts;

	if (fid_probe(&facts, 0) == 0 && facts.vmsplice_meaning != FID_VMSPLICE_BY_REFERENCE)
		vmsplice_copies = true;
}

static ssize_t vmsplice_again(int pipe, const struct iovec *segments, size_t count,
			      unsigned flags, ssize_t result)
{
	/* A filter may have come since the kernel was asked. */
	if (is_refusal(result))
		vmsplice_copies = true;
	return fid_vmsplice(pipe, segments, count, flags);
}

ssize_t preload_vmsplice(int pipe, const struct iovec *segments, size_t count, unsigned flags)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct hold *hold = NULL;
	int before = errno;
	ssize_t moved;

	pthread_testcancel();
	pthread_once(&once, learn_what_vmsplice_does);
	flags = kernel_flags(flags);
	/* Of a pipe that is open for both the call writes. */
	if (hold_any() && (fcntl(pipe, F_GETFL) & O_ACCMODE) == O_RDONLY)
		hold = hold_claim(pipe);
	if (hold)
		return answer(hold_take_segments(hold, segments, count), before);
	moved = syscall(SYS_vmsplice, pipe, segments, count, flags);
	if (moved < 0) {
		moved = -errno;
		/* EINVAL: more segments than the kernel takes at once. */
		if (is_refusal(moved) || moved == -EINVAL)
			moved = vmsplice_again(pipe, segments, count, flags, moved);
	}
	return answer(moved, before);
}
