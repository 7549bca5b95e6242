/* SPDX-License-Identifier: MIT */
#include "hold.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FREE = 0, HOLDS, CLAIMED };

/* A source that has bytes here is rare: its sink failed, or does not block and is full. */
enum { HOLDS_MAX = 64 };

static struct hold table[HOLDS_MAX];
_Atomic int holds;

struct key {
	uint64_t device;
	uint64_t inode;
	uint64_t born;
};

static bool key_of(int fd, struct key *ret_key)
{
	struct statx more;
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return false;
	*ret_key = (struct key){.device = stat.st_dev, .inode = stat.st_ino};
	/* Where statx is refused the number has to do. */
	if (S_ISFIFO(stat.st_mode) && statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &more) == 0 &&
	    more.stx_mask & STATX_BTIME)
		ret_key->born =
			(uint64_t)more.stx_btime.tv_sec * 1000000000 + more.stx_btime.tv_nsec;
	return true;
}

static bool has_key(const struct hold *hold, const struct key *key)
{
	return atomic_load(&hold->inode) == key->inode &&
	       atomic_load(&hold->device) == key->device &&
	       atomic_load(&hold->born) == key->born;
}

static bool change(struct hold *hold, int from, int to)
{
	return atomic_compare_exchange_strong(&hold->state, &from, to);
}

/* Claims what is held under that key. */
static struct hold *claim_key(const struct key *key)
{
	for (int i = 0; i < HOLDS_MAX; i++) {
		struct hold *hold = &table[i];

		if (!has_key(hold, key) || !change(hold, HOLDS, CLAIMED))
			continue;
		if (has_key(hold, key))
			return hold;
		/* Between the two looks it became another source's. */
		atomic_store(&hold->state, HOLDS);
	}
	return NULL;
}

struct hold *hold_claim(int source)
{
	struct hold *hold = NULL;
	int saved = errno;
	struct key key;
	int status;

	if (hold_any() && key_of(source, &key))
		hold = claim_key(&key);
	if (hold) {
		/* Both ends of a pipe have the same number. */
		status = fcntl(source, F_GETFL);
		if (status < 0 || (status & O_ACCMODE) == O_WRONLY) {
			hold_release(hold);
			hold = NULL;
		}
	}
	errno = saved;
	return hold;
}

/* Whether any descriptor of this process still refers to it. */
static bool is_open(const struct hold *hold)
{
	DIR *folder = opendir("/proc/self/fd");
	struct dirent *entry;
	bool found = !folder;
	struct key key;

	while (!found && (entry = readdir(folder)))
		found = key_of(atoi(entry->d_name), &key) && has_key(hold, &key);
	if (folder)
		closedir(folder);
	return found;
}

static void drop_what_nobody_can_read(void)
{
	for (int i = 0; i < HOLDS_MAX; i++) {
		struct hold *hold = &table[i];

		if (!change(hold, HOLDS, CLAIMED))
			continue;
		if (!is_open(hold))
			hold->held = 0;
		hold_release(hold);
	}
}

/*
 * A child of fork has copies of what its parent holds. Only one of them may give a byte away,
 * and that is the parent, which took it.
 */
static void forget_in_child(void)
{
	for (int i = 0; i < HOLDS_MAX; i++) {
		table[i].held = 0;
		atomic_store(&table[i].state, FREE);
	}
	atomic_store(&holds, 0);
}

static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, forget_in_child);
}

static struct hold *claim_free(void)
{
	for (int i = 0; i < HOLDS_MAX; i++)
		if (change(&table[i], FREE, CLAIMED))
			return &table[i];
	return NULL;
}

struct hold *hold_reserve(int source, size_t bytes)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct hold *hold;
	struct key key;

	pthread_once(&once, watch_forks);
	if (!key_of(source, &key))
		return NULL;
	hold = claim_free();
	if (!hold) {
		drop_what_nobody_can_read();
		hold = claim_free();
	}
	if (!hold)
		return NULL;
	atomic_fetch_add(&holds, 1);
	atomic_store(&hold->device, key.device);
	atomic_store(&hold->inode, key.inode);
	atomic_store(&hold->born, key.born);
	hold->at = hold->held = 0;
	if (hold->capacity < bytes) {
		free(hold->bytes);
		hold->bytes = malloc(bytes);
		hold->capacity = hold->bytes ? bytes : 0;
	}
	if (hold->bytes)
		return hold;
	hold_release(hold);
	return NULL;
}

void hold_release(struct hold *hold)
{
	/* In this order nobody sees a count of 0 while something is held. */
	if (hold->held > 0) {
		atomic_store(&hold->state, HOLDS);
		return;
	}
	hold->at = 0;
	atomic_store(&hold->state, FREE);
	atomic_fetch_sub(&holds, 1);
}

static void leave(struct hold *hold, size_t bytes)
{
	hold->at += bytes;
	hold->held -= bytes;
}

ssize_t hold_take_segments(struct hold *hold, const struct iovec *segments, size_t count)
{
	ssize_t total = 0;

	for (size_t i = 0; i < count && hold->held > 0; i++) {
		size_t bytes = segments[i].iov_len < hold->held ? segments[i].iov_len
								: hold->held;

		memcpy(segments[i].iov_base, hold->bytes + hold->at, bytes);
		leave(hold, bytes);
		total += (ssize_t)bytes;
	}
	hold_release(hold);
	return total;
}

/*
 * POLLOUT of a pipe promises a page, and so a write of PIPE_BUF bytes that does not sleep. With
 * waits it may sleep before the first.
 */
static ssize_t write_to_pipe(int pipe, const unsigned char *from, size_t bytes, bool waits)
{
	size_t total = 0;

	while (total < bytes) {
		struct pollfd wait = {.fd = pipe, .events = POLLOUT};
		size_t piece = bytes - total < PIPE_BUF ? bytes - total : PIPE_BUF;
		int ready = poll(&wait, 1, waits && total == 0 ? -1 : 0);
		ssize_t written;

		if (ready <= 0)
			return total ? (ssize_t)total : ready < 0 ? -errno : -EAGAIN;
		written = write(pipe, from + total, piece);
		if (written < 0)
			return total ? (ssize_t)total : -errno;
		total += (size_t)written;
		if ((size_t)written < piece)
			break;
	}
	return (ssize_t)total;
}

ssize_t hold_deliver(struct hold *hold, int sink, int64_t *sink_offset, size_t bytes,
		     bool waits)
{
	const unsigned char *from = hold->bytes + hold->at;
	int status = fcntl(sink, F_GETFL);
	ssize_t written;
	struct key key;
	struct stat stat;

	if (status < 0 || fstat(sink, &stat) < 0)
		return -errno;
	if (bytes > hold->held)
		bytes = hold->held;
	/* The contract of splice(2), as far as the sink can break it. */
	if ((status & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	if (S_ISFIFO(stat.st_mode)) {
		if (sink_offset)
			return -ESPIPE;
		if (key_of(sink, &key) && has_key(hold, &key))
			return -EINVAL;
		written = write_to_pipe(sink, from, bytes, waits && !(status & O_NONBLOCK));
	} else {
		if (status & O_APPEND)
			return -EINVAL;
		written = sink_offset ? pwrite(sink, from, bytes, *sink_offset)
				      : write(sink, from, bytes);
		if (written < 0)
			return -errno;
		if (sink_offset)
			*sink_offset += written;
	}
	if (written > 0)
		leave(hold, (size_t)written);
	return written;
}
