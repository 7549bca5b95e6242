/* SPDX-License-Identifier: MIT */
/*
 * Every call that fid makes to the operating system, the clock included, goes through one
 * table. linux.c fills it with the real calls; the simulated kernel of the tests fills it with
 * its own and embeds it at the head of its state, which is why each call takes the table as its
 * first argument and why there are no globals.
 *
 * Each call returns 0 or positive, or -errno. None retries after EINTR: whoever calls decides.
 */
#ifndef FID_KERNEL_H
#define FID_KERNEL_H

#include <errno.h>
#include <fid.h>
#include <stdbool.h>
#include <sys/uio.h>

/* An offset that means "the descriptor's own". */
#define FID_OWN_OFFSET ((int64_t)-1)

/* Flags of write. */
#define FID_WRITE_NOSIGNAL 0x1u /* raise no SIGPIPE; -EOPNOTSUPP where that cannot be had */
#define FID_WRITE_SOCKET 0x2u   /* the descriptor is a socket: send(2), never a signal */
#define FID_WRITE_NOWAIT 0x4u   /* with FID_WRITE_SOCKET: do not sleep */

/* The kernel refuses a single transfer above this (MAX_RW_COUNT, include/linux/fs.h). */
#define FID_TRANSFER_MAX ((size_t)0x7ffff000)

/* UIO_MAXIOV in include/uapi/linux/uio.h: with more segments vmsplice says EINVAL. */
enum { FID_SEGMENTS_MAX = 1024 };

/* A huge page on every common CPU with pages of 4 KiB, and what memory is handed out in. */
#define FID_SLAB_BYTES ((size_t)2 << 20)

/*
 * Errors that mean "not this way": nothing has moved, and another way may do. EINVAL means ten
 * things, EPERM is seccomp or a seal, ENOMEM a kernel that wants to copy less at once.
 */
static inline bool fid_not_this_way(ssize_t result)
{
	return result == -EINVAL || result == -EPERM || result == -ENOSYS ||
	       result == -EOPNOTSUPP || result == -ENOMEM;
}

struct fid_stat {
	uint32_t mode; /* st_mode */
	uint64_t device;
	uint64_t inode;
	uint64_t rdevice;
	int64_t size;
	int64_t modified_ns;
	int64_t changed_ns;
};

struct fid_socket {
	int domain;
	int type;
};

/* The state of SIGPIPE before it was held back. */
struct fid_sigpipe {
	bool held;        /* it is held back now, by this structure */
	bool was_blocked; /* the caller had blocked it already */
	bool was_pending; /* and one was pending, which is the caller's */
};

struct fid_kernel {
	/* Bytes. A negative offset means the descriptor's own; the pointer forms take NULL. */
	ssize_t (*read)(struct fid_kernel *, int fd, void *to, size_t bytes, int64_t offset);
	ssize_t (*write)(struct fid_kernel *, int fd, const void *from, size_t bytes,
			 int64_t offset, unsigned flags);
	ssize_t (*splice)(struct fid_kernel *, int source, int64_t *source_offset, int sink,
			  int64_t *sink_offset, size_t bytes, unsigned flags);
	ssize_t (*tee)(struct fid_kernel *, int source, int sink, size_t bytes, unsigned flags);
	ssize_t (*vmsplice)(struct fid_kernel *, int fd, const struct iovec *segments,
			    size_t count, unsigned flags);
	ssize_t (*sendfile)(struct fid_kernel *, int source, int64_t *source_offset, int sink,
			    size_t bytes);
	ssize_t (*copy_file_range)(struct fid_kernel *, int source, int64_t *source_offset,
				   int sink, int64_t *sink_offset, size_t bytes);
	/* What waits at a stream socket, left there: recv(MSG_PEEK | MSG_DONTWAIT). */
	ssize_t (*peek)(struct fid_kernel *, int socket, void *to, size_t bytes);
	/* ioctl(FICLONE): all of source becomes all of sink. */
	int (*reflink)(struct fid_kernel *, int source, int sink);

	/* Facts about a descriptor. */
	int (*stat)(struct fid_kernel *, int fd, struct fid_stat *ret_stat);
	int (*status_flags)(struct fid_kernel *, int fd); /* F_GETFL */
	int (*socket)(struct fid_kernel *, int fd, struct fid_socket *ret_socket);
	int (*socket_error)(struct fid_kernel *,
			    int fd); /* SO_ERROR, as a negative errno value */
	int (*is_terminal)(struct fid_kernel *, int fd); /* 1 or 0 */
	int (*file_system)(struct fid_kernel *, int fd, uint64_t *ret_magic);
	int64_t (*seek)(struct fid_kernel *, int fd, int64_t offset, int whence);

	/* Pipes. ends[0] is read from, ends[1] written to; both are close-on-exec and block. */
	int (*pipe)(struct fid_kernel *, int ends[2]);
	int (*pipe_resize)(struct fid_kernel *, int fd,
			   size_t bytes); /* the size that it got */
	int (*pipe_size)(struct fid_kernel *, int fd);
	int (*close)(struct fid_kernel *, int fd);

	/* Time, readiness, memory, signals, processes. */
	int (*poll)(struct fid_kernel *, struct pollfd *fds, size_t count, int timeout_ms);
	uint64_t (*now_ns)(struct fid_kernel *);
	void *(*map)(struct fid_kernel *,
		     size_t bytes); /* zeroed, page aligned; NULL: none left */
	void (*unmap)(struct fid_kernel *, void *memory, size_t bytes);
	int (*discard)(struct fid_kernel *, void *memory, size_t bytes); /* MADV_DONTNEED */
	/* As map and unmap, aligned to FID_SLAB_BYTES, in huge pages where there are any. */
	void *(*slab_map)(struct fid_kernel *, size_t bytes);
	/* Makes the first and the middle page of a slab present: 1 if they are one page, or 0.
	 */
	int (*slab_is_huge)(struct fid_kernel *, void *slab);
	/* A file without a name of so many zeros: a descriptor, close-on-exec. */
	int (*memory_file)(struct fid_kernel *, size_t bytes);
	/* Maps such a file, aligned to FID_SLAB_BYTES; undone by unmap. NULL: impossible. */
	void *(*memory_file_map)(struct fid_kernel *, int fd, size_t bytes, bool writable);
	/* Cuts it to bytes, then forbids all further change for ever; no writable map may
	 * exist. */
	int (*memory_file_seal)(struct fid_kernel *, int fd, size_t bytes);
	void (*sigpipe_hold)(struct fid_kernel *, struct fid_sigpipe *);
	/* raised: a call moved less than it could, so that a signal of ours may be pending. */
	void (*sigpipe_release)(struct fid_kernel *, struct fid_sigpipe *, bool raised);
	/* A number that differs between a process and its children. */
	uint32_t (*generation)(struct fid_kernel *);
};

/* The real one. */
struct fid_kernel *fid_linux(void);

/* Asks kernel what it allows (probe.c); fid_probe() is this on the real kernel, remembered. */
void fid_kernel_probe(struct fid_kernel *kernel, struct fid_facts *ret_facts);

/* The same, remembered where the kernel is the real one. */
void fid_facts_of(struct fid_kernel *kernel, struct fid_facts *ret_facts);

/*
 * The most that one splice into a socket may be asked to move. On gVisor more than 64 KiB at
 * once arrive garbled, with the right count (runsc 20221219, pipe to TCP).
 */
size_t fid_splice_bytes_max(struct fid_kernel *kernel);

/* A splice of this size is right everywhere. */
#define FID_SPLICE_BYTES_SAFE ((size_t)64 << 10)

/* Copies what fid_probe() has found in this process; false: it has not been asked here. */
bool fid_probe_known(struct fid_kernel *kernel, struct fid_facts *ret_facts);

#endif
