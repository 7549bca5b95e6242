/* SPDX-License-Identifier: MIT */
/*
 * What a descriptor is, asked once at the start of a flow.
 */
#include "flow/flow.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* Documentation/admin-guide/devices.txt */
enum {
	MEMORY_MAJOR = 1,
	NULL_MINOR = 3,
	ZERO_MINOR = 5,
	FULL_MINOR = 7,
	RANDOM_MINOR = 8,
	URANDOM_MINOR = 9
};

/* Of that major number /dev/kmsg and others may wait for something to read. */
static bool is_memory(uint64_t device)
{
	if (major(device) != MEMORY_MAJOR)
		return false;
	switch (minor(device)) {
	case NULL_MINOR:
	case ZERO_MINOR:
	case FULL_MINOR:
	case RANDOM_MINOR:
	case URANDOM_MINOR:
		return true;
	default:
		return false;
	}
}

/*
 * File systems by the magic numbers of statfs(2). The first list reads through the page cache,
 * so that splice passes references (filemap_splice_read or shmem_file_splice_read in fs/ and
 * mm/, Linux 6.5 on, and page_cache_pipe_buf_ops before). A file system that is not on it is
 * counted as copied, which is the careful side. The second list asks a server, which may take
 * its time.
 */
static const uint32_t page_cached[] = {
	0xEF53,     /* ext2, ext3, ext4 */
	0x58465342, /* xfs */
	0x9123683E, /* btrfs */
	0x01021994, /* tmpfs, memfd */
	0x858458F6, /* ramfs */
	0xF2F52010, /* f2fs */
	0x794C7630, /* overlayfs */
	0x73717368, /* squashfs */
	0xE0F5E1E2, /* erofs */
	0x9660,     /* iso9660 */
	0x4D44,     /* vfat */
	0x2011BAB0, /* exfat */
	0xCA451A4E, /* bcachefs */
};
static const uint32_t served[] = {
	0x65735546, /* fuse */
	0x6969,     /* nfs */
	0xFF534D42, /* cifs */
	0xFE534D42, /* smb2 */
	0x01021997, /* 9p */
	0x00C36400, /* ceph */
	0x5346414F, /* afs */
	0x6B414653, /* kafs */
	0x0BD00BD0, /* lustre */
};

static const uint32_t plain[] = {
	0xEF53,     /* ext2, ext3, ext4 */
	0x01021994, /* tmpfs, memfd */
	0x858458F6, /* ramfs */
	0xF2F52010, /* f2fs */
	0x4D44,     /* vfat */
	0x2011BAB0, /* exfat */
};

static bool is_among(uint64_t magic, const uint32_t *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (list[i] == magic)
			return true;
	return false;
}

#define IS_AMONG(magic, list) is_among((magic), (list), sizeof(list) / sizeof((list)[0]))

static enum fid_kind socket_kind(struct fid_kernel *kernel, int fd)
{
	struct fid_socket socket;

	if (kernel->socket(kernel, fd, &socket) < 0 || socket.type != SOCK_STREAM)
		return FID_KIND_SOCKET;
	if (socket.domain == AF_INET || socket.domain == AF_INET6)
		return FID_KIND_TCP;
	return socket.domain == AF_UNIX ? FID_KIND_UNIX : FID_KIND_SOCKET;
}

static enum fid_kind kind_of(struct fid_kernel *kernel, int fd, const struct fid_stat *stat)
{
	switch (stat->mode & S_IFMT) {
	case S_IFREG:
		return FID_KIND_REGULAR;
	case S_IFIFO:
		return FID_KIND_PIPE;
	case S_IFSOCK:
		return socket_kind(kernel, fd);
	case S_IFDIR:
		return FID_KIND_DIRECTORY;
	case S_IFBLK:
		return FID_KIND_BLOCK;
	case S_IFCHR:
		if (is_memory(stat->rdevice))
			return FID_KIND_MEMORY;
		return kernel->is_terminal(kernel, fd) > 0 ? FID_KIND_TERMINAL
							   : FID_KIND_CHARACTER;
	default:
		return FID_KIND_UNKNOWN;
	}
}

int fid_end_examine(struct fid_kernel *kernel, int fd, struct fid_end *ret_end,
		    struct fid_stat *ret_stat, enum fid_call *ret_call)
{
	struct fid_end *end = ret_end;
	uint64_t magic = 0;
	int flags;
	int got = kernel->stat(kernel, fd, ret_stat);

	*ret_call = FID_CALL_FSTAT;
	if (got < 0)
		return got;
	flags = kernel->status_flags(kernel, fd);
	*ret_call = FID_CALL_FCNTL;
	if (flags < 0)
		return flags;
	memset(end, 0, sizeof(*end));
	end->kind = (uint8_t)kind_of(kernel, fd, ret_stat);
	end->readable = (flags & O_ACCMODE) != O_WRONLY && !(flags & O_PATH);
	end->writable = (flags & O_ACCMODE) != O_RDONLY && !(flags & O_PATH);
	end->append = flags & O_APPEND;
	end->direct = flags & O_DIRECT;
	end->nonblocking = flags & O_NONBLOCK;
	end->is_null = end->kind == FID_KIND_MEMORY && minor(ret_stat->rdevice) == NULL_MINOR;
	end->device = ret_stat->device;
	end->inode = ret_stat->inode;
	if (end->kind == FID_KIND_REGULAR)
		end->size = ret_stat->size > 0 ? (uint64_t)ret_stat->size : 0;
	/* A directory tells of the files that are yet to be made in it. */
	if ((end->kind == FID_KIND_REGULAR || end->kind == FID_KIND_DIRECTORY) &&
	    kernel->file_system(kernel, fd, &magic) == 0) {
		end->page_cache = IS_AMONG(magic, page_cached);
		end->remote = IS_AMONG(magic, served);
		end->plain = IS_AMONG(magic, plain);
	}
	return 0;
}

int fid_end_look(int descriptor, struct fid_end *ret_end)
{
	struct fid_kernel *kernel = fid_linux();
	struct fid_stat stat;
	enum fid_call call;
	int got = fid_end_examine(kernel, descriptor, ret_end, &stat, &call);

	if (got == 0 && ret_end->kind == FID_KIND_REGULAR) {
		int64_t at = kernel->seek(kernel, descriptor, 0, SEEK_CUR);

		ret_end->position = at > 0 ? (uint64_t)at : 0;
	}
	return got;
}
