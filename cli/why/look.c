/* SPDX-License-Identifier: MIT */
#include "look.h"

#include "print.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { LINKS_MAX = 40 }; /* as the kernel has it: path_resolution(7) */

static bool fails(const struct endpoint *endpoint, int error)
{
	print_failure(endpoint->name, endpoint->side, error, NULL);
	return false;
}

/*
 * Whether a device is a terminal. To ask it would mean to open it, and a serial line notices
 * that; the kernel lists the numbers that its drivers have.
 */
static bool is_terminal(dev_t device)
{
	FILE *drivers = fopen("/proc/tty/drivers", "re");
	unsigned number, first, last;
	bool found = false;
	char line[256];

	while (drivers && !found && fgets(line, sizeof(line), drivers)) {
		int count = sscanf(line, "%*s %*s %u %u-%u", &number, &first, &last);

		if (count == 2)
			last = first;
		found = count >= 2 && number == major(device) && minor(device) >= first &&
			minor(device) <= last;
	}
	if (drivers)
		fclose(drivers);
	return found;
}

/* Looks at the endpoint's descriptor; false after the message that opening it would bring. */
static bool look_at(struct look *look, struct endpoint *endpoint)
{
	struct stat *stat = &endpoint->stat;
	int got;

	if (fstat(endpoint->fd, stat) < 0)
		return fails(endpoint, errno);
	if (S_ISDIR(stat->st_mode))
		return fails(endpoint, EISDIR);
	if (S_ISSOCK(stat->st_mode) && endpoint->kind == ENDPOINT_PATH)
		return fails(endpoint, ENXIO);
	got = fid_end_look(endpoint->fd, &look->end);
	if (got < 0)
		return fails(endpoint, got);
	look->exists = true;
	got = look->end.kind == FID_KIND_PIPE ? fcntl(endpoint->fd, F_GETPIPE_SZ) : 0;
	look->pipe_bytes = got > 0 ? (uint64_t)got : 0;
	return true;
}

/* What open(2) will make of a path, of which the look itself shows nothing. */
static void open_in_mind(struct look *look, const struct endpoint *endpoint, bool append)
{
	struct fid_end *end = &look->end;

	end->readable = endpoint->side == FID_SIDE_SOURCE;
	end->writable = endpoint->side == FID_SIDE_SINK;
	end->append = append;
	/* What this program opens itself, it keeps from sleeping. */
	end->nonblocking = end->kind == FID_KIND_PIPE;
	if (end->kind == FID_KIND_CHARACTER && is_terminal(endpoint->stat.st_rdev))
		end->kind = FID_KIND_TERMINAL;
}

/* A connection, which only the transfer would make. */
static void connect_in_mind(struct look *look, const struct endpoint *endpoint)
{
	bool internet = endpoint->kind == ENDPOINT_TCP || endpoint->kind == ENDPOINT_TCP_LISTEN;

	look->end = (struct fid_end){
		.kind = internet ? FID_KIND_TCP : FID_KIND_UNIX,
		.readable = true,
		.writable = true,
		.nonblocking = true,
	};
}

bool look_at_source(struct look *ret_look, struct endpoint *source)
{
	*ret_look = (struct look){.endpoint = source, .folder = -1};
	if (source->kind == ENDPOINT_DESCRIPTOR)
		return look_at(ret_look, source);
	if (source->kind != ENDPOINT_PATH) {
		connect_in_mind(ret_look, source);
		return true;
	}
	source->fd = open(source->path, O_PATH | O_CLOEXEC);
	if (source->fd < 0)
		return endpoint_missing(source, errno);
	if (faccessat(AT_FDCWD, source->path, R_OK, AT_EACCESS) < 0)
		return endpoint_missing(source, errno);
	if (!look_at(ret_look, source))
		return false;
	open_in_mind(ret_look, source, false);
	return true;
}

/* The text of a symbolic link, as a path of its own; NULL: path is none. */
static char *follow(const char *path)
{
	const char *slash = strrchr(path, '/');
	char target[PATH_MAX], *joined;
	ssize_t length = readlink(path, target, sizeof(target) - 1);

	if (length < 0)
		return NULL;
	target[length] = '\0';
	if (target[0] == '/' || !slash)
		return strdup(target);
	return asprintf(&joined, "%.*s/%s", (int)(slash - path), path, target) < 0 ? NULL
										   : joined;
}

/* Refers to the folder in which open(2) would make the file. -1: errno says why not. */
static int open_folder(const char *path)
{
	char *name = strdup(path), *next, *slash;
	int fd = -1;

	/* A link to nothing: the file is made where it points. */
	for (int links = 0; name && links < LINKS_MAX && (next = follow(name)); links++) {
		free(name);
		name = next;
	}
	slash = name ? strrchr(name, '/') : NULL;
	if (!name)
		errno = ENOMEM;
	else if (!*name)
		errno = ENOENT;
	else if (slash && !slash[1])
		errno = ENOENT; /* a directory, by its name */
	else if (!slash)
		fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	else {
		slash[slash == name] = '\0';
		fd = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	free(name);
	return fd;
}

/* A file that the transfer would make: empty, on the file system of its folder. */
static bool make_in_mind(struct look *look, const struct endpoint *sink)
{
	int got;

	look->folder = open_folder(sink->path);
	if (look->folder < 0)
		return fails(sink, errno);
	got = fid_end_look(look->folder, &look->end);
	if (got < 0)
		return fails(sink, got);
	if (faccessat(look->folder, ".", W_OK | X_OK, AT_EACCESS) < 0)
		look->forbidden = errno;
	look->end.kind = FID_KIND_REGULAR;
	look->end.inode = 0;
	return true;
}

bool look_at_sink(struct look *ret_look, struct endpoint *sink, const struct endpoint *source,
		  bool append)
{
	struct stat there;

	*ret_look = (struct look){.endpoint = sink, .folder = -1};
	if (sink->kind == ENDPOINT_DESCRIPTOR)
		return look_at(ret_look, sink);
	if (sink->kind != ENDPOINT_PATH) {
		connect_in_mind(ret_look, sink);
		return true;
	}
	if (stat(sink->path, &there) == 0 && S_ISDIR(there.st_mode) &&
	    !endpoint_enter_directory(sink, source))
		return false;
	sink->fd = open(sink->path, O_PATH | O_CLOEXEC);
	if (sink->fd < 0 && errno != ENOENT)
		return fails(sink, errno);
	if (sink->fd < 0 && !make_in_mind(ret_look, sink))
		return false;
	if (sink->fd >= 0 && !look_at(ret_look, sink))
		return false;
	if (sink->fd >= 0 && faccessat(AT_FDCWD, sink->path, W_OK, AT_EACCESS) < 0)
		ret_look->forbidden = errno;
	open_in_mind(ret_look, sink, append);
	return true;
}

void look_end(struct look *look)
{
	if (look->folder >= 0)
		close(look->folder);
	look->folder = -1;
	if (look->endpoint && look->endpoint->kind == ENDPOINT_PATH && look->endpoint->fd >= 0)
		close(look->endpoint->fd);
}
