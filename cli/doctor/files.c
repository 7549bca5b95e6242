/* SPDX-License-Identifier: MIT */
#include "files.h"

#include "kernel.h"
#include "unnamed.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

enum { BYTES = 64 << 10 };

static unsigned char content[BYTES], got[BYTES];

/* ---- Files ---- */

static bool fill(int fd)
{
	for (size_t i = 0; i < BYTES; i++)
		content[i] = (unsigned char)(i * 131 + (i >> 8) * 7 + 1);
	for (size_t done = 0; done < BYTES;) {
		ssize_t wrote = pwrite(fd, content + done, BYTES - done, (off_t)done);

		if (wrote <= 0)
			return false;
		done += (size_t)wrote;
	}
	return true;
}

/* Whether the first count bytes of fd are the content's. */
static bool holds(int fd, int64_t count)
{
	int64_t done = 0;

	while (done < count) {
		ssize_t bytes = pread(fd, got + done, (size_t)(count - done), (off_t)done);

		if (bytes <= 0)
			return false;
		done += bytes;
	}
	return memcmp(got, content, (size_t)count) == 0;
}

/* ---- Which file system ---- */

/* A line of /proc/self/mountinfo: its number, the device, and behind " - " the type. */
static bool parse_mount(char *line, int wanted, dev_t device, char type[64])
{
	char *mark = strstr(line, " - ");
	unsigned first, second;
	int number;

	if (!mark || sscanf(line, "%d %*d %u:%u", &number, &first, &second) != 3)
		return false;
	if (wanted ? number != wanted : makedev(first, second) != device)
		return false;
	snprintf(type, 64, "%.*s", (int)strcspn(mark + 3, " \n"), mark + 3);
	return true;
}

/* A FUSE server may call itself anything; what JSON would have to escape is no part of it. */
static void make_plain(char *type)
{
	for (; *type; type++)
		if (*type < ' ' || *type > '~' || *type == '"' || *type == '\\')
			*type = '?';
}

/* By its mount; gVisor has no mnt_id there, and the device must do. */
static void type_of(int fd, char type[64])
{
	char path[64], number[32], line[4096];
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	struct stat stat = {0};
	struct statfs about;
	bool found = false;

	fstat(fd, &stat);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	line_of(path, "mnt_id:", number, sizeof(number));
	while (mounts && !found && fgets(line, sizeof(line), mounts))
		found = parse_mount(line, atoi(number), stat.st_dev, type);
	if (mounts)
		fclose(mounts);
	make_plain(type);
	if (found)
		return;
	if (fstatfs(fd, &about) == 0)
		snprintf(type, 64, "0x%lx", (unsigned long)about.f_type);
	else
		snprintf(type, 64, "unknown");
}

/* ---- Questions ---- */

/* The directory that the file is in, and not that of a link to it. */
static void find_directory(const char *path, char directory[PATH_MAX])
{
	struct stat named;
	char *slash;

	/* What has no name, such as a pipe in /proc/self/fd, is where its link is. */
	if (lstat(path, &named) < 0 || !S_ISLNK(named.st_mode) || !realpath(path, directory))
		snprintf(directory, PATH_MAX, "%s", path);
	slash = strrchr(directory, '/');
	if (!slash)
		strcpy(directory, ".");
	else
		slash[slash == directory] = '\0';
}

/*
 * text: the directory; word: the file system's type; yes: the path is a regular file;
 * number[0]: the error of making a file; number[1]: whether a server stands behind it;
 * number[2]: whether it was that of removing one.
 */
void look(struct answer *answer, const void *about)
{
	const char *path = about;
	char *directory = answer->text;
	struct fid_end end;
	struct stat stat;
	bool stays;
	int fd, folder, made;

	/* Not opened as what it is: a FIFO or a device would wait, or do something. */
	fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &stat) < 0) {
		answer->error = errno;
		return;
	}
	if (S_ISDIR(stat.st_mode))
		snprintf(directory, PATH_MAX, "%s", path);
	else
		find_directory(path, directory);
	answer->yes = S_ISREG(stat.st_mode);
	/* Not of the file itself, on which something else may be mounted. */
	folder = S_ISDIR(stat.st_mode) ? -1 : open(directory, O_PATH | O_CLOEXEC);
	type_of(folder < 0 ? fd : folder, answer->word);
	made = unnamed_open(AT_FDCWD, directory, O_RDWR, &stays);
	answer->number[0] = made < 0 ? errno : 0;
	answer->number[2] = stays;
	if (fid_end_look(fd, &end) == 0)
		answer->number[1] = end.remote;
	/* Of a folder it says nothing; and a server may not know a file without a name. */
	if (made >= 0 && fid_end_look(made, &end) == 0)
		answer->number[1] |= end.remote;
}

/* Two files, the first with content. */
static bool make_two(struct answer *answer, const struct files *about, int files[2])
{
	for (int i = 0; i < 2; i++) {
		files[i] = unnamed_open(AT_FDCWD, about->directory, O_RDWR, NULL);
		if (files[i] < 0 || (i == 0 && !fill(files[i]))) {
			answer->error = errno ? errno : ENOSPC;
			return false;
		}
	}
	return true;
}

/* What was said of a sink: that it is full says nothing about the call. */
static void hear_of_sink(struct answer *answer, int64_t said)
{
	answer->number[0] = said;
	if (said == -ENOSPC || said == -EDQUOT || said == -EFBIG)
		answer->error = (int)-said;
}

void try_reflink(struct answer *answer, const void *about)
{
	int files[2];

	if (!make_two(answer, about, files))
		return;
	hear_of_sink(answer, ioctl(files[1], FICLONE, files[0]) < 0 ? -errno : BYTES);
	answer->yes = answer->number[0] > 0 && holds(files[1], BYTES);
}

void try_copy_file_range(struct answer *answer, const void *about)
{
	int64_t from = 0, to = 0;
	int files[2];

	if (!make_two(answer, about, files))
		return;
	hear_of_sink(answer, kernel_copy_file_range(files[0], &from, files[1], &to, BYTES));
	answer->yes = answer->number[0] > 0 && holds(files[1], answer->number[0]);
}

/* Splices from the beginning of the file into a pipe. */
static void splice_from(struct answer *answer, int file)
{
	int64_t from = 0;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0) {
		answer->error = errno;
		return;
	}
	answer->number[0] = kernel_splice(file, &from, ends[1], NULL, BYTES, SPLICE_F_NONBLOCK);
	answer->yes = answer->number[0] > 0 && read(ends[0], got, BYTES) == answer->number[0] &&
		      memcmp(got, content, (size_t)answer->number[0]) == 0;
}

/* A page of content goes through a pipe into the file, at that offset or at its own. */
static void splice_to(struct answer *answer, int file, int64_t *to)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0 || write(ends[1], content, 4096) != 4096) {
		answer->error = errno;
		return;
	}
	hear_of_sink(answer, kernel_splice(ends[0], NULL, file, to, 4096, SPLICE_F_NONBLOCK));
	answer->yes = answer->number[0] > 0 && holds(file, answer->number[0]);
}

void try_source(struct answer *answer, const void *about)
{
	int files[2];

	if (make_two(answer, about, files))
		splice_from(answer, files[0]);
}

void try_sink(struct answer *answer, const void *about)
{
	int64_t to = 0;
	int files[2];

	if (make_two(answer, about, files))
		splice_to(answer, files[1], &to);
}

void try_append(struct answer *answer, const void *about)
{
	int files[2];

	if (!make_two(answer, about, files))
		return;
	if (fcntl(files[1], F_SETFL, O_APPEND) < 0)
		answer->error = errno;
	else
		splice_to(answer, files[1], NULL);
}

void try_direct(struct answer *answer, const void *about)
{
	int64_t to = 0, as_source;
	int files[2];
	bool right;

	if (!make_two(answer, about, files))
		return;
	if (fcntl(files[0], F_SETFL, O_DIRECT) < 0 || fcntl(files[1], F_SETFL, O_DIRECT) < 0) {
		answer->number[2] = errno;
		return;
	}
	splice_from(answer, files[0]);
	as_source = answer->number[0];
	right = answer->yes || as_source < 0;
	fcntl(files[1], F_SETFL, 0);
	if (ftruncate(files[1], 4096) < 0 || fcntl(files[1], F_SETFL, O_DIRECT) < 0)
		answer->error = errno;
	splice_to(answer, files[1], &to);
	answer->number[1] = answer->number[0];
	/* What was written is read without O_DIRECT, which wants aligned memory. */
	fcntl(files[1], F_SETFL, 0);
	answer->yes = right && (answer->number[1] < 0 || holds(files[1], answer->number[1]));
	answer->number[0] = as_source;
}

static int64_t bytes_by_splice(int file, const int ends[2])
{
	int64_t at = 0, moved;

	while (at < BYTES) {
		moved = kernel_splice(file, &at, ends[1], NULL, (size_t)(BYTES - at),
				      SPLICE_F_NONBLOCK);
		if (moved < 0)
			return moved;
		if (moved == 0 || read(ends[0], got, (size_t)moved) != moved)
			break;
	}
	return at;
}

static int64_t bytes_by_read(int file)
{
	int64_t at = 0;

	while (at < BYTES) {
		ssize_t bytes = pread(file, got, (size_t)(BYTES - at), (off_t)at);

		if (bytes < 0)
			return -errno;
		if (bytes == 0)
			break;
		at += bytes;
	}
	return at;
}

/*
 * Whether reading a file may take its bytes from others, or wait for some: /proc/kmsg,
 * trace_pipe. Such a file has a poll(2) of its own, which does not say that it may be written.
 */
static bool is_stream(int file)
{
	struct pollfd wait = {.fd = file, .events = POLLIN | POLLOUT};

	return poll(&wait, 1, 0) != 1 || !(wait.revents & POLLOUT);
}

void try_end_of_file(struct answer *answer, const void *argument)
{
	const struct files *about = argument;
	int files[2], ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0) {
		answer->error = errno;
		return;
	}
	if (about->file)
		files[0] = open(about->file, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (about->file && files[0] < 0)
		answer->error = errno;
	if (answer->error || (!about->file && !make_two(answer, about, files)))
		return;
	answer->yes = is_stream(files[0]);
	if (answer->yes)
		return;
	answer->number[0] = bytes_by_splice(files[0], ends);
	answer->number[1] = bytes_by_read(files[0]);
}
