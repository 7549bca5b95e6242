/* SPDX-License-Identifier: MIT */
#include "unnamed.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { NAMES_MAX = 100 };

/* Whether an error of O_TMPFILE says that the file system, or an old kernel, has no such thing.
 */
static bool is_unknown(int error)
{
	return error == EOPNOTSUPP || error == EISDIR || error == EINVAL || error == ENOENT ||
	       error == ENOSYS;
}

static int make_named(int folder, int flags, char name[64])
{
	static unsigned number;
	int fd = -1;

	for (int i = 0; i < NAMES_MAX; i++) {
		snprintf(name, 64, ".fid-%ld-%u", (long)getpid(), number++);
		fd = openat(folder, name, flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			    0600);
		if (fd >= 0 || errno != EEXIST)
			break;
	}
	return fd;
}

static int make_and_unname(int folder, int flags, bool *ret_stays)
{
	char name[64];
	int fd = make_named(folder, flags, name);
	int error;

	if (fd < 0 || unlinkat(folder, name, 0) == 0)
		return fd;
	error = errno;
	if (ret_stays)
		*ret_stays = true;
	close(fd);
	errno = error;
	return -1;
}

int unnamed_open(int at, const char *folder, int flags, bool *ret_stays)
{
	int fd = openat(at, folder, O_TMPFILE | O_EXCL | O_CLOEXEC | flags, 0600);
	int parent, error;
	sigset_t all, before;

	if (ret_stays)
		*ret_stays = false;
	if (fd >= 0 || !is_unknown(errno))
		return fd;
	parent = openat(at, folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (parent < 0)
		return -1;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	fd = make_and_unname(parent, flags, ret_stays);
	error = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(parent);
	errno = error;
	return fd;
}
