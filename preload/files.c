/* SPDX-License-Identifier: MIT */
/*
 * sendfile and copy_file_range: what programs that move files use before they come to splice,
 * and not all of them expect to be refused (Ruby 3.1's IO.copy_stream takes EPERM of sendfile
 * for a failure of the file).
 */
#include "preload.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef SYS_sendfile64
#define CALL_SENDFILE SYS_sendfile64
#else
#define CALL_SENDFILE SYS_sendfile
#endif

enum { PIECE = 128 << 10 };

/* MAX_RW_COUNT, include/linux/fs.h */
#define TRANSFER_MAX ((size_t)0x7ffff000)

/* Whether the call itself is refused: descriptors that cannot be are EBADF otherwise. */
static bool is_refused(long call, ssize_t result)
{
	if (!is_refusal(result))
		return false;
	if (call == CALL_SENDFILE)
		return syscall(call, -1, -1, NULL, (size_t)0) < 0 && errno == -result;
	return syscall(call, -1, NULL, -1, NULL, (size_t)0, 0u) < 0 && errno == -result;
}

/*
 * Reads the source where it is, writes, and leaves the rest there. A NULL offset is the
 * descriptor's own.
 */
static ssize_t carry(int source, int64_t *source_offset, int sink, int64_t *sink_offset,
		     size_t bytes)
{
	int64_t at = source_offset ? *source_offset : lseek(source, 0, SEEK_CUR);
	size_t total = 0;
	ssize_t moved = 0;
	char *buffer;

	if (at < 0)
		return source_offset ? -EINVAL : -errno;
	buffer = malloc(PIECE);
	if (!buffer)
		return -ENOMEM;
	if (bytes > TRANSFER_MAX)
		bytes = TRANSFER_MAX;
	while (total < bytes) {
		size_t piece = bytes - total < PIECE ? bytes - total : PIECE;
		ssize_t got = moved = pread(source, buffer, piece, at);

		if (got > 0)
			moved = sink_offset ? pwrite(sink, buffer, (size_t)got, *sink_offset)
					    : write(sink, buffer, (size_t)got);
		if (moved < 0)
			moved = -errno;
		if (moved <= 0)
			break;
		total += (size_t)moved;
		at += moved;
		if (sink_offset)
			*sink_offset += moved;
		if (moved < got)
			break;
	}
	free(buffer);
	if (total == 0)
		return moved;
	if (source_offset)
		*source_offset = at;
	else
		lseek(source, at, SEEK_SET);
	return (ssize_t)total;
}

struct ends {
	struct stat source;
	struct stat sink;
	int sink_status; /* F_GETFL */
};

static ssize_t examine(int source, int sink, struct ends *ret_ends)
{
	int status = fcntl(source, F_GETFL);

	if (status < 0 || (status & O_ACCMODE) == O_WRONLY)
		return -EBADF;
	ret_ends->sink_status = fcntl(sink, F_GETFL);
	if (ret_ends->sink_status < 0 || (ret_ends->sink_status & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	if (fstat(source, &ret_ends->source) < 0 || fstat(sink, &ret_ends->sink) < 0)
		return -errno;
	return 0;
}

/* ---- sendfile ---- */

static ssize_t sendfile_otherwise(int sink, int source, int64_t *offset, size_t bytes,
				  ssize_t refusal)
{
	struct ends ends;
	ssize_t error = examine(source, sink, &ends);

	if (error < 0)
		return error;
	if (!S_ISREG(ends.source.st_mode) && !S_ISBLK(ends.source.st_mode))
		return refusal;
	/* Into a pipe it is splice, in the kernel as well, and as short. */
	if (S_ISFIFO(ends.sink.st_mode))
		return fid_splice(source, offset, sink, NULL, bytes,
				  ends.sink_status & O_NONBLOCK ? SPLICE_F_NONBLOCK : 0);
	if (ends.sink_status & O_APPEND)
		return -EINVAL;
	return carry(source, offset, sink, NULL, bytes);
}

static ssize_t kernel_sendfile(int sink, int source, int64_t *offset, size_t bytes)
{
	ssize_t moved = syscall(CALL_SENDFILE, sink, source, offset, bytes);

	if (moved >= 0)
		return moved;
	moved = -errno;
	return is_refused(CALL_SENDFILE, moved)
		       ? sendfile_otherwise(sink, source, offset, bytes, moved)
		       : moved;
}

ssize_t preload_sendfile64(int sink, int source, int64_t *offset, size_t bytes)
{
	int before = errno;

	return answer(kernel_sendfile(sink, source, offset, bytes), before);
}

/* The same with offsets of the machine's word, and nothing beyond what one can hold. */
ssize_t preload_sendfile(int sink, int source, long *offset, size_t bytes)
{
	int64_t at = offset ? *offset : 0;
	int before = errno;
	ssize_t moved;

	if (at >= 0 && bytes > (uint64_t)(LONG_MAX - at))
		bytes = (size_t)(LONG_MAX - at);
	moved = kernel_sendfile(sink, source, offset ? &at : NULL, bytes);
	if (offset && moved > 0)
		*offset = (long)at;
	return answer(moved, before);
}

/* ---- copy_file_range ---- */

static bool overlap(int64_t one, int64_t other, size_t bytes)
{
	return one < other + (int64_t)bytes && other < one + (int64_t)bytes;
}

static ssize_t copy_otherwise(int source, int64_t *source_offset, int sink,
			      int64_t *sink_offset, size_t bytes, unsigned flags)
{
	struct ends ends;
	ssize_t error = flags ? -EINVAL : examine(source, sink, &ends);

	if (error < 0)
		return error;
	if (S_ISDIR(ends.source.st_mode) || S_ISDIR(ends.sink.st_mode))
		return -EISDIR;
	if (!S_ISREG(ends.source.st_mode) || !S_ISREG(ends.sink.st_mode))
		return -EINVAL;
	if (ends.sink_status & O_APPEND)
		return -EBADF;
	if (bytes > TRANSFER_MAX)
		bytes = TRANSFER_MAX;
	if (ends.source.st_dev == ends.sink.st_dev && ends.source.st_ino == ends.sink.st_ino &&
	    overlap(source_offset ? *source_offset : lseek(source, 0, SEEK_CUR),
		    sink_offset ? *sink_offset : lseek(sink, 0, SEEK_CUR), bytes))
		return -EINVAL;
	return carry(source, source_offset, sink, sink_offset, bytes);
}

ssize_t preload_copy_file_range(int source, int64_t *source_offset, int sink,
				int64_t *sink_offset, size_t bytes, unsigned flags)
{
	int before = errno;
	ssize_t moved;

	pthread_testcancel();
	moved = syscall(SYS_copy_file_range, source, source_offset, sink, sink_offset, bytes,
			flags);
	if (moved < 0) {
		moved = -errno;
		if (is_refused(SYS_copy_file_range, moved))
			moved = copy_otherwise(source, source_offset, sink, sink_offset, bytes,
					       flags);
	}
	return answer(moved, before);
}
