/* SPDX-License-Identifier: MIT */
/*
 * A file system of one folder, by libfuse, which moves the contents with splice and vmsplice
 * from the device to the files and back where it can: mirror FOLDER MOUNT-POINT [OPTION]
 *
 * Of a file whose name begins with "liar" it tells that it has ten bytes, and a file whose name
 * begins with a dot takes its time to be made, so that a signal may come meanwhile.
 *
 * It says on standard error what is synced, which fails where the name ends in "bad" and takes
 * two seconds where it ends in "slow". It tells of no hole.
 */
#define FUSE_USE_VERSION 35

#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int folder;

static const char *inside(const char *path)
{
	return path[1] ? path + 1 : ".";
}

static void *mirror_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
	config->direct_io = 1;
	config->hard_remove = 1;
	connection->max_write = 128 << 10;
	connection->want |=
		connection->capable &
		(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	return NULL;
}

static int mirror_getattr(const char *path, struct stat *stat, struct fuse_file_info *info)
{
	/* A file that is open and has been removed has no path. */
	if (!path)
		return fstat((int)info->fh, stat) < 0 ? -errno : 0;
	if (fstatat(folder, inside(path), stat, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (strncmp(path, "/liar", 5) == 0)
		stat->st_size = 10;
	return 0;
}

static int mirror_open(const char *path, struct fuse_file_info *info)
{
	int fd = openat(folder, inside(path), info->flags | O_CLOEXEC);

	info->fh = (uint64_t)fd;
	return fd < 0 ? -errno : 0;
}

static int mirror_create(const char *path, mode_t mode, struct fuse_file_info *info)
{
	int fd = openat(folder, inside(path), info->flags | O_CREAT | O_CLOEXEC, mode);
	int error = fd < 0 ? -errno : 0;

	info->fh = (uint64_t)fd;
	if (path[1] == '.')
		usleep(10000);
	return error;
}

static int mirror_unlink(const char *path)
{
	return unlinkat(folder, inside(path), 0) < 0 ? -errno : 0;
}

static int mirror_truncate(const char *path, off_t size, struct fuse_file_info *info)
{
	int fd = info ? (int)info->fh : openat(folder, inside(path), O_WRONLY | O_CLOEXEC);
	int error = fd < 0 || ftruncate(fd, size) < 0 ? -errno : 0;

	if (!info && fd >= 0)
		close(fd);
	return error;
}

static int mirror_read_buf(const char *path, struct fuse_bufvec **ret_buffers, size_t size,
			   off_t offset, struct fuse_file_info *info)
{
	struct fuse_bufvec *buffers = malloc(sizeof(*buffers));

	(void)path;
	if (!buffers)
		return -ENOMEM;
	*buffers = FUSE_BUFVEC_INIT(size);
	buffers->buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buffers->buf[0].fd = (int)info->fh;
	buffers->buf[0].pos = offset;
	*ret_buffers = buffers;
	return 0;
}

static int mirror_write_buf(const char *path, struct fuse_bufvec *from, off_t offset,
			    struct fuse_file_info *info)
{
	struct fuse_bufvec to = FUSE_BUFVEC_INIT(fuse_buf_size(from));

	(void)path;
	to.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	to.buf[0].fd = (int)info->fh;
	to.buf[0].pos = offset;
	return (int)fuse_buf_copy(&to, from, FUSE_BUF_SPLICE_NONBLOCK);
}

static bool ends_in(const char *path, const char *end)
{
	size_t length = strlen(path), least = strlen(end);

	return length >= least && strcmp(path + length - least, end) == 0;
}

static int tell_sync(const char *call, const char *path)
{
	fprintf(stderr, "%s %s\n", call, path);
	if (ends_in(path, "slow"))
		sleep(2);
	return ends_in(path, "bad") ? -EIO : 0;
}

static int mirror_fsync(const char *path, int data_only, struct fuse_file_info *info)
{
	(void)data_only;
	(void)info;
	return tell_sync("fsync", path);
}

static int mirror_fsyncdir(const char *path, int data_only, struct fuse_file_info *info)
{
	(void)data_only;
	(void)info;
	return tell_sync("fsyncdir", path);
}

static int mirror_release(const char *path, struct fuse_file_info *info)
{
	(void)path;
	close((int)info->fh);
	return 0;
}

static const struct fuse_operations operations = {
	.init = mirror_init,
	.getattr = mirror_getattr,
	.open = mirror_open,
	.create = mirror_create,
	.unlink = mirror_unlink,
	.truncate = mirror_truncate,
	.read_buf = mirror_read_buf,
	.write_buf = mirror_write_buf,
	.fsync = mirror_fsync,
	.fsyncdir = mirror_fsyncdir,
	.release = mirror_release,
};

int main(int argc, char **argv)
{
	char stay[] = "-f", alone[] = "-s";
	char *words[] = {argv[0], NULL, stay, alone, argc == 4 ? argv[3] : NULL, NULL};

	if (argc != 3 && argc != 4)
		return 2;
	words[1] = argv[2];
	folder = open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return 1;
	return fuse_main(argc + 1, words, &operations, NULL);
}
