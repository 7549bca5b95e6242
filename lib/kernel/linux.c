/* SPDX-License-Identifier: MIT */
/*
 * The real kernel. This is the only file that names a system call or reads errno.
 */
#include "kernel/kernel.h"
#include "kernel/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* Linux 6.1, include/uapi/asm-generic/mman-common.h; older headers do not have it. */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* Linux 6.18, include/uapi/linux/fs.h; older headers do not have it. */
#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL 0x00000100
#endif

/* -1 and errno become a negative errno value; here errno stops. */
static int64_t checked(int64_t result)
{
	return result < 0 ? -errno : result;
}

#ifdef FID_SYSCALL_BY_LIBC
long fid_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	return (long)checked(syscall(number, a, b, c, d, e, f));
}
#endif

static ssize_t linux_read(struct fid_kernel *kernel, int fd, void *to, size_t bytes,
			  int64_t offset)
{
	if (offset < 0)
		return checked(read(fd, to, bytes));
	return checked(pread(fd, to, bytes, offset));
}

static ssize_t pwritev2_nosignal(int fd, const void *from, size_t bytes, int64_t offset)
{
	/* The kernel does not write to what it is given to write from. */
	struct iovec segment = {.iov_base = (void *)(uintptr_t)from, .iov_len = bytes};

	return checked(pwritev2(fd, &segment, 1, offset, RWF_NOSIGNAL));
}

/* Of the two calls of that name on 32 bits, the one that has 64 bits of offset. */
#ifdef SYS_sendfile64
#define SYS_SENDFILE SYS_sendfile64
#else
#define SYS_SENDFILE SYS_sendfile
#endif

/* Whether this kernel has RWF_NOSIGNAL; learned at the first refusal. */
enum { NOSIGNAL_UNKNOWN, NOSIGNAL_THERE, NOSIGNAL_MISSING };
static atomic_int nosignal;

/*
 * The flag is refused by old kernels, and by any kernel for files that cannot have flags (most
 * of /proc). A pipe of our own tells which it was.
 */
static void learn_nosignal(void)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return;
	atomic_store(&nosignal, pwritev2_nosignal(ends[1], "", 1, FID_OWN_OFFSET) == 1
					? NOSIGNAL_THERE
					: NOSIGNAL_MISSING);
	close(ends[0]);
	close(ends[1]);
}

static ssize_t write_nosignal(int fd, const void *from, size_t bytes, int64_t offset)
{
	ssize_t written;

	if (atomic_load_explicit(&nosignal, memory_order_relaxed) == NOSIGNAL_MISSING)
		return -EOPNOTSUPP;
	written = pwritev2_nosignal(fd, from, bytes, offset);
	if (written != -EOPNOTSUPP && written != -ENOSYS)
		return written;
	if (atomic_load_explicit(&nosignal, memory_order_relaxed) == NOSIGNAL_UNKNOWN)
		learn_nosignal();
	return -EOPNOTSUPP;
}

static ssize_t linux_write(struct fid_kernel *kernel, int fd, const void *from, size_t bytes,
			   int64_t offset, unsigned flags)
{
	if (flags & FID_WRITE_SOCKET)
		return checked(
			send(fd, from, bytes,
			     MSG_NOSIGNAL | (flags & FID_WRITE_NOWAIT ? MSG_DONTWAIT : 0)));
	if (flags & FID_WRITE_NOSIGNAL)
		return write_nosignal(fd, from, bytes, offset);
	if (offset < 0)
		return checked(write(fd, from, bytes));
	return checked(pwrite(fd, from, bytes, offset));
}

/*
 * The calls between two descriptors are made without their functions in libc, since a preloaded
 * library may have put its own in their place: libfid's are made of these.
 */
static ssize_t linux_splice(struct fid_kernel *kernel, int source, int64_t *source_offset,
			    int sink, int64_t *sink_offset, size_t bytes, unsigned flags)
{
	return fid_now_splice(source, source_offset, sink, sink_offset, bytes, flags);
}

static ssize_t linux_tee(struct fid_kernel *kernel, int source, int sink, size_t bytes,
			 unsigned flags)
{
	return fid_now_tee(source, sink, bytes, flags);
}

static ssize_t linux_vmsplice(struct fid_kernel *kernel, int fd, const struct iovec *segments,
			      size_t count, unsigned flags)
{
	return fid_now_vmsplice(fd, segments, count, flags);
}

static ssize_t linux_sendfile(struct fid_kernel *kernel, int source, int64_t *source_offset,
			      int sink, size_t bytes)
{
	return checked(syscall(SYS_SENDFILE, sink, source, source_offset, bytes));
}

static ssize_t linux_copy_file_range(struct fid_kernel *kernel, int source,
				     int64_t *source_offset, int sink, int64_t *sink_offset,
				     size_t bytes)
{
	return checked(syscall(SYS_copy_file_range, source, source_offset, sink, sink_offset,
			       bytes, 0));
}

static ssize_t linux_peek(struct fid_kernel *kernel, int socket, void *to, size_t bytes)
{
	return checked(recv(socket, to, bytes, MSG_PEEK | MSG_DONTWAIT));
}

static int linux_reflink(struct fid_kernel *kernel, int source, int sink)
{
	return checked(ioctl(sink, FICLONE, source));
}

static int64_t nanoseconds(struct timespec time)
{
	return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int linux_stat(struct fid_kernel *kernel, int fd, struct fid_stat *ret_stat)
{
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return -errno;
	*ret_stat = (struct fid_stat){
		.mode = stat.st_mode,
		.device = stat.st_dev,
		.inode = stat.st_ino,
		.rdevice = stat.st_rdev,
		.size = stat.st_size,
		.modified_ns = nanoseconds(stat.st_mtim),
		.changed_ns = nanoseconds(stat.st_ctim),
	};
	return 0;
}

static int linux_status_flags(struct fid_kernel *kernel, int fd)
{
	return checked(fcntl(fd, F_GETFL));
}

static int linux_socket(struct fid_kernel *kernel, int fd, struct fid_socket *ret_socket)
{
	struct fid_socket socket;
	socklen_t length = sizeof(int);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &socket.domain, &length) < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &socket.type, &length) < 0)
		return -errno;
	*ret_socket = socket;
	return 0;
}

static int linux_socket_error(struct fid_kernel *kernel, int fd)
{
	int error = 0;
	socklen_t length = sizeof(error);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		return -errno;
	return -error;
}

static int linux_is_terminal(struct fid_kernel *kernel, int fd)
{
	struct termios unused;

	return tcgetattr(fd, &unused) == 0;
}

static int linux_file_system(struct fid_kernel *kernel, int fd, uint64_t *ret_magic)
{
	struct statfs file_system;

	if (fstatfs(fd, &file_system) < 0)
		return -errno;
	*ret_magic = (uint32_t)file_system.f_type;
	return 0;
}

static int64_t linux_seek(struct fid_kernel *kernel, int fd, int64_t offset, int whence)
{
	return checked(lseek(fd, offset, whence));
}

static int linux_pipe(struct fid_kernel *kernel, int ends[2])
{
	return checked(pipe2(ends, O_CLOEXEC));
}

static int linux_pipe_resize(struct fid_kernel *kernel, int fd, size_t bytes)
{
	return checked(fcntl(fd, F_SETPIPE_SZ, (int)bytes));
}

static int linux_pipe_size(struct fid_kernel *kernel, int fd)
{
	return checked(fcntl(fd, F_GETPIPE_SZ));
}

static int linux_close(struct fid_kernel *kernel, int fd)
{
	return checked(close(fd));
}

static int linux_poll(struct fid_kernel *kernel, struct pollfd *fds, size_t count,
		      int timeout_ms)
{
	return checked(poll(fds, count, timeout_ms));
}

static uint64_t linux_now_ns(struct fid_kernel *kernel)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)nanoseconds(now);
}

static void *linux_map(struct fid_kernel *kernel, size_t bytes)
{
	void *memory =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void linux_unmap(struct fid_kernel *kernel, void *memory, size_t bytes)
{
	munmap(memory, bytes);
}

static int linux_discard(struct fid_kernel *kernel, void *memory, size_t bytes)
{
	return checked(madvise(memory, bytes, MADV_DONTNEED));
}

/* Reserves address space, whole pages of it, aligned. NULL: none is left. */
static void *reserve_aligned(size_t bytes)
{
	char *reserved = mmap(NULL, bytes + FID_SLAB_BYTES, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t before;

	if (reserved == MAP_FAILED)
		return NULL;
	before = -(uintptr_t)reserved & (FID_SLAB_BYTES - 1);
	if (before)
		munmap(reserved, before);
	munmap(reserved + before + bytes, FID_SLAB_BYTES - before);
	return reserved + before;
}

static void *map_aligned(size_t bytes, int protection, int flags, int fd)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t whole = (bytes + page - 1) & ~(page - 1);
	void *at = whole >= bytes ? reserve_aligned(whole) : NULL;
	void *memory;

	if (!at)
		return NULL;
	memory = mmap(at, whole, protection, flags | MAP_FIXED, fd, 0);
	if (memory == MAP_FAILED) {
		munmap(at, whole);
		return NULL;
	}
	/* Where it is refused there are no huge pages, and slab_is_huge() will tell. */
	madvise(memory, bytes, MADV_HUGEPAGE);
	return memory;
}

static void *linux_slab_map(struct fid_kernel *kernel, size_t bytes)
{
	return map_aligned(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

/*
 * One fault for both pages means one page: whatever sysfs, prctl(2), a memory cgroup or
 * fragmentation have to say about huge pages, this is what was got.
 */
static int linux_slab_is_huge(struct fid_kernel *kernel, void *slab)
{
	volatile char *bytes = slab;
	struct rusage before, after;

	if (getrusage(RUSAGE_THREAD, &before) < 0)
		return 0;
	bytes[0] = 0;
	bytes[FID_SLAB_BYTES / 2] = 0;
	if (getrusage(RUSAGE_THREAD, &after) < 0)
		return 0;
	return after.ru_minflt - before.ru_minflt == 1;
}

/*
 * RLIMIT_FSIZE counts for a memfd as well, and the signal that comes with it would end a
 * program that has written to no file.
 */
static bool is_beyond_file_limit(size_t bytes)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_FSIZE, &limit) == 0 && bytes > limit.rlim_cur;
}

static int linux_memory_file(struct fid_kernel *kernel, size_t bytes)
{
	int fd, error;

	if (is_beyond_file_limit(bytes))
		return -EFBIG;
	fd = memfd_create("fid", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) == 0)
		return fd;
	error = -errno;
	close(fd);
	return error;
}

static void *linux_memory_file_map(struct fid_kernel *kernel, int fd, size_t bytes,
				   bool writable)
{
	void *map = map_aligned(bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ,
				MAP_SHARED, fd);

	/* A child that has it, too, would keep the file from being sealed. */
	if (map && writable)
		madvise(map, bytes, MADV_DONTFORK);
	return map;
}

/*
 * Makes huge pages of what has been filled: they are given to a pipe at a third of the cost.
 * MADV_COLLAPSE works whatever shmem_enabled says, but on a map that can be written (measured
 * on 6.18). Where it is refused the pages stay small.
 */
static void collapse(int fd, size_t bytes)
{
	size_t whole = bytes & ~(FID_SLAB_BYTES - 1);
	void *map = whole ? map_aligned(whole, PROT_READ | PROT_WRITE, MAP_SHARED, fd) : NULL;

	if (!map)
		return;
	madvise(map, whole, MADV_COLLAPSE);
	munmap(map, whole);
}

static int linux_memory_file_seal(struct fid_kernel *kernel, int fd, size_t bytes)
{
	if (ftruncate(fd, (off_t)bytes) < 0)
		return -errno;
	collapse(fd, bytes);
	return checked(fcntl(fd, F_ADD_SEALS,
			     F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
}

/*
 * splice, sendfile and vmsplice have no flag against SIGPIPE, so the signal is blocked for this
 * thread and taken away again if it is ours. SIGPIPE is sent to the thread that caused it, so
 * another thread's is not touched; one that was pending before is the caller's and stays.
 */
static void linux_sigpipe_hold(struct fid_kernel *kernel, struct fid_sigpipe *sigpipe)
{
	sigset_t only, before, pending;

	sigemptyset(&only);
	sigaddset(&only, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &only, &before);
	sigpipe->held = true;
	sigpipe->was_blocked = sigismember(&before, SIGPIPE) == 1;
	sigpipe->was_pending = false;
	if (sigpipe->was_blocked && sigpending(&pending) == 0)
		sigpipe->was_pending = sigismember(&pending, SIGPIPE) == 1;
}

/* The signal that this thread has raised comes first; one that somebody has sent is not ours.
 */
static void take_sigpipe(const sigset_t *only)
{
	const struct timespec at_once = {0};
	siginfo_t info;
	int got;

	do
		got = sigtimedwait(only, &info, &at_once);
	while (got < 0 && errno == EINTR);
	if (got == SIGPIPE && info.si_pid != getpid())
		kill(getpid(), SIGPIPE);
}

static void linux_sigpipe_release(struct fid_kernel *kernel, struct fid_sigpipe *sigpipe,
				  bool raised)
{
	sigset_t only;

	if (!sigpipe->held)
		return;
	sigpipe->held = false;
	sigemptyset(&only);
	sigaddset(&only, SIGPIPE);
	if (raised && !sigpipe->was_pending)
		take_sigpipe(&only);
	if (!sigpipe->was_blocked)
		pthread_sigmask(SIG_UNBLOCK, &only, NULL);
}

/*
 * A page that the kernel wipes in a child (MADV_WIPEONFORK, Linux 4.14): whoever finds it zero
 * is a new process. Unlike pthread_atfork it sees a bare clone(2) as well, and unlike getpid(2)
 * it costs no call.
 */
static struct {
	pthread_once_t once;
	atomic_uint *page;
	atomic_uint last;
} process = {.once = PTHREAD_ONCE_INIT};

static void process_watch(void)
{
	void *page = linux_map(NULL, sizeof(atomic_uint));

	if (!page)
		return;
	if (madvise(page, sizeof(atomic_uint), MADV_WIPEONFORK) < 0) {
		munmap(page, sizeof(atomic_uint));
		return;
	}
	process.page = page;
}

static uint32_t linux_generation(struct fid_kernel *kernel)
{
	unsigned generation = 0;
	unsigned fresh;

	pthread_once(&process.once, process_watch);
	if (!process.page)
		return (uint32_t)getpid();
	generation = atomic_load(process.page);
	if (generation)
		return generation;
	fresh = atomic_fetch_add(&process.last, 1) + 1;
	if (atomic_compare_exchange_strong(process.page, &generation, fresh))
		return fresh;
	return generation;
}

/*
 * gVisor calls itself by this name and date, always. It is known by its name here and not by
 * doing: nothing that a data path does for its own sake may be what a sandbox kills for, and to
 * be wrong costs some speed and nothing else.
 */
static bool is_gvisor(void)
{
	struct utsname name;

	return uname(&name) == 0 && strcmp(name.release, "4.4.0") == 0 &&
	       strstr(name.version, "Jan 10 15:06:54 PST 2016");
}

size_t fid_splice_bytes_max(struct fid_kernel *kernel)
{
	static atomic_size_t known;
	size_t bytes = atomic_load_explicit(&known, memory_order_relaxed);

	if (kernel != fid_linux())
		return FID_TRANSFER_MAX;
	if (bytes == 0) {
		bytes = is_gvisor() ? FID_SPLICE_BYTES_SAFE : FID_TRANSFER_MAX;
		atomic_store_explicit(&known, bytes, memory_order_relaxed);
	}
	return bytes;
}

struct fid_kernel *fid_linux(void)
{
	static struct fid_kernel kernel = {
		.read = linux_read,
		.write = linux_write,
		.splice = linux_splice,
		.tee = linux_tee,
		.vmsplice = linux_vmsplice,
		.sendfile = linux_sendfile,
		.copy_file_range = linux_copy_file_range,
		.peek = linux_peek,
		.reflink = linux_reflink,
		.stat = linux_stat,
		.status_flags = linux_status_flags,
		.socket = linux_socket,
		.socket_error = linux_socket_error,
		.is_terminal = linux_is_terminal,
		.file_system = linux_file_system,
		.seek = linux_seek,
		.pipe = linux_pipe,
		.pipe_resize = linux_pipe_resize,
		.pipe_size = linux_pipe_size,
		.close = linux_close,
		.poll = linux_poll,
		.now_ns = linux_now_ns,
		.map = linux_map,
		.unmap = linux_unmap,
		.discard = linux_discard,
		.slab_map = linux_slab_map,
		.slab_is_huge = linux_slab_is_huge,
		.memory_file = linux_memory_file,
		.memory_file_map = linux_memory_file_map,
		.memory_file_seal = linux_memory_file_seal,
		.sigpipe_hold = linux_sigpipe_hold,
		.sigpipe_release = linux_sigpipe_release,
		.generation = linux_generation,
	};

	return &kernel;
}
