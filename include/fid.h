/* SPDX-License-Identifier: MIT */
/*
 * libfid moves bytes between two descriptors on Linux: by reference where this kernel really
 * does that, with a correct copy everywhere else, and with a receipt that says how every byte
 * moved and why. Nothing that was taken from a source is lost on any failure.
 *
 *	struct fid_receipt receipt;
 *	int64_t moved = fid_copy(STDIN_FILENO, STDOUT_FILENO, NULL, &receipt);
 *
 * The header follows the data: the words, the kernel, pipes, the three calls, flows, routes,
 * memory, fans. These rules hold throughout:
 *
 * - Arguments follow the data: the source stands before the sink.
 * - A return is 0 or positive, or a negative errno value such as -EPIPE. Progress is never
 *   folded into it: after a failure the receipt still tells exactly what moved.
 * - Descriptors are borrowed. fid never closes them and never changes their flags (O_NONBLOCK,
 *   O_APPEND, ...). It uses and moves their file offsets as read(2) and write(2) would, unless
 *   an offset is given, which leaves the descriptor's own offset alone.
 * - No call raises SIGPIPE in the caller; a sink without a reader is -EPIPE. Only the three
 *   calls themselves (fid_splice() and so on) raise it, as the kernel does, unless told not to.
 * - Options begin with their size. A shorter structure than this library's is filled with
 *   zeros, a longer one (up to 4096 bytes) is taken if what this library does not know is zero,
 *   else it is -E2BIG. An unknown flag is -EINVAL. Zero always means "the default".
 * - Distinct objects may be used by distinct threads at once. One flow is used by one thread at
 *   a time; a pool may be shared by any number of threads.
 */
#ifndef FID_H
#define FID_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FID_API __attribute__((visibility("default")))
#else
#define FID_API
#endif

/* The version of this header. Compare with fid_version() to learn what runs. */
#define FID_VERSION_MAJOR 0
#define FID_VERSION_MINOR 1
#define FID_VERSION_PATCH 0

/*
 * The version of the library that runs, as "MAJOR.MINOR.PATCH". Static storage.
 */
FID_API const char *fid_version(void);

/* ---- The words ---- */

/* Whose fault it was. */
enum fid_side {
	FID_SIDE_NONE = 0,
	FID_SIDE_SOURCE,
	FID_SIDE_SINK,
	FID_SIDE_FID, /* neither: memory, pipes, options, or a requirement that cannot be met */
};

/* How a byte moved, from the cheapest to the dearest. */
enum fid_class {
	FID_BY_REFERENCE = 0, /* the kernel passed on a reference to the page */
	FID_KERNEL_COPY,      /* the kernel copied the bytes; they never entered this process */
	FID_USER_COPY,        /* read(2) into this process and written again */
	FID_CLASSES,
};

/* The ways to move bytes, in the usual order of the ladder. */
enum fid_method {
	FID_REFLINK = 0,     /* ioctl(FICLONE): the sink shares the source's extents */
	FID_COPY_FILE_RANGE, /* copy_file_range(2) */
	FID_SENDFILE,        /* sendfile(2) */
	FID_SPLICE,          /* splice(2) straight from the source to the sink; one is a pipe */
	FID_SPLICE_PIPE,     /* splice(2) into a private pipe, and out of it */
	FID_READ_WRITE,      /* read(2) and write(2), or write(2) alone from memory */
	FID_TEE,             /* tee(2) into a fan's sink, which is a pipe */
	FID_VMSPLICE,        /* vmsplice(2) of memory into a pipe */
	FID_METHODS,
};

/* Room in a receipt for classes and methods to come. */
#define FID_CLASSES_MAX 4
#define FID_METHODS_MAX 8

/* A set of methods, for fid_options.routes: of those up to FID_READ_WRITE. */
#define FID_ROUTE(method) (1u << (method))
#define FID_ROUTES (FID_READ_WRITE + 1)

/* The call that a receipt names. */
enum fid_call {
	FID_CALL_NONE = 0,
	FID_CALL_FSTAT,
	FID_CALL_FCNTL,
	FID_CALL_LSEEK,
	FID_CALL_POLL,
	FID_CALL_PIPE,
	FID_CALL_MEMORY,
	FID_CALL_REFLINK,
	FID_CALL_COPY_FILE_RANGE,
	FID_CALL_SENDFILE,
	FID_CALL_SPLICE,
	FID_CALL_READ,
	FID_CALL_WRITE,
	FID_CALL_TEE,
	FID_CALL_VMSPLICE,
	FID_CALLS,
};

/*
 * The names that the command and the JSON receipt use: "source", "by-reference", "splice-pipe",
 * "copy_file_range", "EPIPE". Static storage; a value out of range is "unknown".
 * fid_error_name() takes an errno value of either sign.
 */
FID_API const char *fid_side_name(enum fid_side side);
FID_API const char *fid_class_name(enum fid_class class_);
FID_API const char *fid_method_name(enum fid_method method);
FID_API const char *fid_call_name(enum fid_call call);
FID_API const char *fid_error_name(int error);

/* ---- The kernel: what it really does ---- */

/* What vmsplice(2) of memory into a pipe does here. */
enum fid_vmsplice {
	FID_VMSPLICE_REFUSED = 0,
	FID_VMSPLICE_COPIES,
	FID_VMSPLICE_BY_REFERENCE,
};

/*
 * What this kernel, container and user allow, found by doing and not by version. A refused call
 * has its errno value, negated, in the field; 0 means that it works.
 */
struct fid_facts {
	int32_t splice; /* pipe to pipe */
	int32_t tee;
	int32_t vmsplice;      /* the call itself */
	int32_t vmsplice_gift; /* the same with SPLICE_F_GIFT */
	int32_t sendfile;
	int32_t copy_file_range;
	int32_t write_nosignal;       /* pwritev2(2) with RWF_NOSIGNAL, Linux 6.18 */
	int32_t pipe;                 /* pipe2(2) itself */
	int32_t pipe_grow;            /* F_SETPIPE_SZ to 1 MiB */
	uint32_t vmsplice_meaning;    /* enum fid_vmsplice */
	uint32_t vmsplice_fresh;      /* 1: pages dropped after vmsplice keep their bytes */
	uint32_t splice_empty_is_eof; /* 1: an empty pipe answers 0 where EAGAIN is due (gVisor)
				       */
	uint64_t pipe_bytes;          /* capacity of a new pipe */
	uint64_t pipe_bytes_grown;    /* capacity after asking for 1 MiB */
	uint32_t huge_pages;          /* 1: 2 MiB of new memory come as one page */
	int32_t memory_seal;          /* a memfd that nobody can write any more */
	uint64_t reserved[7];
};

/*
 * Fills *ret_facts with what works here.
 *
 * The first call in a process finds out, in less than a millisecond, with descriptors of its
 * own that it closes again; later calls return what was found. The facts belong to the process:
 * after fork(2) the child asks anew. With again != 0 the kernel is asked anew, for a process
 * that has just entered a sandbox.
 *
 * Returns 0, or -EINVAL when ret_facts is NULL. A refused call is a fact and not a failure; a
 * process without a free descriptor learns pipe = -EMFILE, and facts found so are not kept.
 * Threads: any.
 */
FID_API int fid_probe(struct fid_facts *ret_facts, int again);

/* ---- Pipes: a bounded store ---- */

/*
 * A pool keeps empty pipes and buffers for flows. A flow holds a pipe or a buffer only while it
 * holds bytes or is between two calls, so that a pool of a few serves thousands of idle flows.
 * A pipe that holds a byte, or about which there is the slightest doubt, is closed and never
 * kept. Pipes are close-on-exec. After fork(2) the child's copy of a pool starts empty: a pipe
 * is never shared with the parent.
 */
struct fid_pool;

struct fid_pool_options {
	size_t size;               /* sizeof(struct fid_pool_options) */
	uint32_t flags;            /* none yet: 0 */
	uint32_t pipes_max;        /* pipes lent at once; default 64. Past it flows copy */
	uint32_t pipes_idle_max;   /* pipes kept for later; default 16 */
	uint32_t buffers_idle_max; /* 256 KiB buffers kept for later; default 8 */
};

struct fid_pool_stats {
	uint32_t pipes_lent;
	uint32_t pipes_idle;
	uint32_t buffers_lent;
	uint32_t buffers_idle;
	uint64_t pipes_made;
	uint64_t pipes_reused;
	uint64_t pipes_closed_dirty; /* given back with bytes in them, or after a failure */
	uint64_t pipes_refused;      /* pipes_max was reached, or the kernel gave none */
	uint64_t pipes_small;        /* the kernel gave less than was asked */
	uint64_t pipe_bytes_idle;    /* capacity of the idle pipes */
	uint64_t reserved[6];
};

/*
 * Makes a pool. *ret_pool is set on success only. Takes no descriptor before a flow needs one.
 * Returns 0, -ENOMEM, -EINVAL (an unknown flag, a size that is too small), -E2BIG.
 */
FID_API int fid_pool_new(struct fid_pool **ret_pool, const struct fid_pool_options *options);

/*
 * Copies the pool's counters to *ret_stats. Returns 0 or -EINVAL. Threads: any.
 */
FID_API int fid_pool_stats(struct fid_pool *pool, struct fid_pool_stats *ret_stats);

/*
 * Closes what the pool keeps. Every flow that uses the pool must have been freed before. NULL
 * is taken. Returns NULL.
 */
FID_API struct fid_pool *fid_pool_free(struct fid_pool *pool);

/* ---- The three calls ---- */

/*
 * splice(2), tee(2) and vmsplice(2), with the arguments and the meaning that their manual pages
 * give them, and these differences:
 *
 * - They return bytes, 0 at end of file, or -errno.
 * - A length of any size is taken; at most 0x7ffff000 bytes move at once. vmsplice takes any
 *   number of segments, beyond IOV_MAX as well, and sleeps at most before the first byte.
 * - Where the call is refused with EPERM, ENOSYS or EOPNOTSUPP (a container's seccomp filter,
 *   gVisor, a kernel to come), something else does the same if it can be done without losing a
 *   byte and without a difference in meaning; else the refusal is returned. fid_splice(3) has
 *   the table. No stand-in takes a byte that it cannot put somewhere.
 * - SPLICE_F_GIFT is a hint: a kernel that refuses the flag is asked again without it.
 * - splice that returns 0 before the end is found out: an empty pipe on gVisor is -EAGAIN, a
 *   file of a wrong size on FUSE goes on, and its EIO is reported.
 *
 * An error comes before anything has moved. As the kernel does, they raise SIGPIPE together
 * with -EPIPE, unless flags have FID_NOSIGNAL, which costs two more system calls (0.14 us). A
 * stand-in that has nothing to write to a pipe without a reader returns -EPIPE and raises none.
 *
 * Flags: SPLICE_F_MOVE, SPLICE_F_NONBLOCK, SPLICE_F_MORE, SPLICE_F_GIFT of <fcntl.h>, and
 * FID_NOSIGNAL. SPLICE_F_NONBLOCK does not cover a socket or a terminal: set O_NONBLOCK on it.
 *
 * A stand-in that reads a pipe looks first (tee(2)) and takes then, so a pipe that another
 * process or thread reads at the same time is not for stand-ins.
 *
 * Threads: any.
 */
#define FID_NOSIGNAL 0x10000u

/*
 * Moves at most bytes from source to sink; one of them is a pipe. An offset, where one is
 * given, is where to begin in an end that is no pipe; it is moved on by what moved, and the
 * descriptor's own stays.
 *
 * Returns the bytes moved, 0 at end of file or when bytes is 0, or -EAGAIN (with
 * SPLICE_F_NONBLOCK or O_NONBLOCK), -EBADF, -EINVAL (no pipe, twice the same pipe, O_APPEND, a
 * kind or file system that does not splice, an offset for what does not seek, an unknown flag),
 * -ESPIPE (an offset for a pipe), -EPIPE, -ENOMEM, -EINTR, or what reading and writing may say.
 * The sink may hold references to the source's pages afterwards (FID_STABLE).
 */
FID_API ssize_t fid_splice(int source, int64_t *source_offset, int sink, int64_t *sink_offset,
			   size_t bytes, unsigned flags);

/*
 * Gives at most bytes of what is in the pipe source to the pipe sink, and takes none away.
 * There is no stand-in: one cannot look into a pipe without tee(2). A stash has one.
 *
 * Returns the bytes given, 0 when source is empty and has no writer or when bytes is 0, or
 * -EAGAIN, -EBADF, -EINVAL (not two different pipes, an unknown flag), -EPIPE, -ENOMEM, -EINTR,
 * or the refusal.
 */
FID_API ssize_t fid_tee(int source, int sink, size_t bytes, unsigned flags);

struct iovec;

/*
 * The write end of a pipe: gives it the memory of the segments. This kernel may pass on
 * references to the pages (fid_probe() tells): whoever writes to the memory afterwards changes
 * what the reader gets, for as long as anybody downstream holds it, which nobody can tell.
 * struct fid_memory knows the ways to live with that. The read end: fills the memory; always a
 * copy. The call knows nothing of O_NONBLOCK (measured on 6.18): SPLICE_F_NONBLOCK counts.
 *
 * Returns the bytes moved, fewer than asked for when the pipe is full or empty after some; 0 at
 * end of file; or -EAGAIN, -EBADF (no pipe), -EFAULT, -EINVAL (a segment above SSIZE_MAX, an
 * unknown flag), -ENOMEM, -EPIPE, -EINTR.
 */
FID_API ssize_t fid_vmsplice(int pipe, const struct iovec *segments, size_t count,
			     unsigned flags);

/*
 * A stash stands before one source (a pipe, a socket, a terminal) whose bytes must be taken to
 * be moved, since the kernel refuses splice and tee. It keeps what was taken and could not be
 * delivered, and gives that first. All reading of the source must go through its stash: then
 * tee can be had, too. Where the kernel does not refuse, a stash is empty and costs nothing.
 */
struct fid_stash;

/*
 * Makes a stash before source, which is borrowed. Returns 0, -EBADF, -ENOMEM, -EINVAL.
 */
FID_API int fid_stash_new(struct fid_stash **ret_stash, int source);

/* fid_splice() and fid_tee() from the stash's source; at most 256 KiB at once wait in it. */
FID_API ssize_t fid_stash_splice(struct fid_stash *stash, int sink, int64_t *sink_offset,
				 size_t bytes, unsigned flags);
FID_API ssize_t fid_stash_tee(struct fid_stash *stash, int sink, size_t bytes, unsigned flags);

/* How many bytes it holds. poll(2) does not know of them. */
FID_API size_t fid_stash_bytes(const struct fid_stash *stash);

/* Hands over bytes that it holds, oldest first. Returns how many, 0 when it holds none. */
FID_API ssize_t fid_stash_salvage(struct fid_stash *stash, void *buffer, size_t capacity);

/* Ends it; what it holds is lost. NULL is taken. Returns NULL. */
FID_API struct fid_stash *fid_stash_free(struct fid_stash *stash);

/* ---- Flows: one direction between two descriptors ---- */

/*
 * Copy semantics on every route: what was delivered never changes afterwards, whoever writes to
 * the source later. Without it a reader of a pipe or socket sink may still see later writes to
 * a regular source, since page references travel and not bytes (splice(2); measured on 6.18).
 */
#define FID_STABLE 0x1u
/*
 * fid_flow_step() never sleeps, even on a descriptor without O_NONBLOCK. It asks poll(2) first
 * and takes calls that cannot sleep, which excludes splice to a blocking socket. A write to a
 * terminal may sleep all the same, and so may a read from a blocking source that has another
 * reader, who takes away what poll(2) saw: give those O_NONBLOCK.
 */
#define FID_NOWAIT 0x2u
/*
 * A signal that interrupts a call makes step and run return -EINTR, once; the flow is intact
 * and goes on at the next call. Without it interrupted calls are simply made again.
 */
#define FID_INTERRUPTIBLE 0x4u
/* A field of 0 counts: a limit of no bytes, or offset 0 instead of the descriptor's own. */
#define FID_LIMIT_ZERO 0x8u
#define FID_SOURCE_OFFSET 0x10u
#define FID_SINK_OFFSET 0x20u
/*
 * A pipe that is the source or the sink may be grown to pipe_bytes, or 256 KiB. It is the
 * largest single gain there is (64 KiB to 256 KiB: a quarter of the processor time to a
 * splicing reader), but the pipe is the caller's and its pages are charged to whoever made it.
 */
#define FID_GROW_PIPES 0x40u
/*
 * fid_flow_new() only: the flow takes no byte that fid_flow_grant() has not allowed, so that
 * its owner sets its pace. It never clones a file, which is all or nothing.
 */
#define FID_PACED 0x100u

enum fid_require {
	FID_REQUIRE_NOTHING = 0,
	FID_REQUIRE_NO_USER_COPY,
	FID_REQUIRE_BY_REFERENCE,
};

struct fid_options {
	size_t size;            /* sizeof(struct fid_options) */
	uint32_t flags;         /* FID_STABLE and the others above */
	uint32_t routes;        /* FID_ROUTE() of each method allowed; 0 allows all */
	uint32_t require;       /* enum fid_require */
	int32_t timeout_ms;     /* fid_copy() only: the longest it may take; 0 waits for ever */
	uint64_t bytes_max;     /* stop after so many bytes; 0 goes on to end of file */
	uint64_t source_offset; /* where to begin; the descriptor's own offset is not moved */
	uint64_t sink_offset;
	uint64_t pipe_bytes;   /* capacity to ask for a private pipe; 0 chooses by route */
	struct fid_pool *pool; /* borrowed until the flow is freed; NULL: one of the process */
};

/* One step down the ladder. */
struct fid_demotion {
	uint8_t from;      /* enum fid_method */
	uint8_t to;        /* enum fid_method */
	uint8_t call;      /* enum fid_call: the call that was refused */
	uint8_t side;      /* enum fid_side, FID_SIDE_NONE where the kernel does not tell */
	int32_t error;     /* the refusal, negative; 0: the call said "end of file" too early */
	uint64_t at_bytes; /* bytes_in at that moment */
};

#define FID_DEMOTIONS_MAX 8

/*
 * The account of a transfer. It is exact at any time, after a failure as well, and at any time
 *
 *	bytes_in == bytes_out + bytes_held + bytes_salvaged
 *	bytes_out == by_class[0] + by_class[1] + by_class[2]
 *
 * What counts as "by reference" is what the kernel is known to do for that pair of descriptors;
 * fid(3) has the table. Strings have static storage.
 */
struct fid_receipt {
	uint64_t bytes_in;       /* taken from the source */
	uint64_t bytes_out;      /* delivered to the sink */
	uint64_t bytes_held;     /* taken, not delivered, still in the flow */
	uint64_t bytes_salvaged; /* taken, not delivered, handed to the caller */
	uint64_t by_class[FID_CLASSES_MAX];
	uint64_t by_method[FID_METHODS_MAX]; /* bytes delivered */
	uint64_t calls[FID_METHODS_MAX];     /* calls made to move bytes */
	uint64_t waits;                      /* times that a side was not ready */
	uint64_t elapsed_ns;                 /* since the flow was made */
	uint64_t pipe_bytes; /* capacity of the private pipe; 0: none was taken */
	uint64_t pipe_bytes_asked;
	struct fid_demotion demotion[FID_DEMOTIONS_MAX];
	uint32_t demotions;     /* entries used */
	int32_t error;          /* 0 or the negative errno value that ended the flow */
	uint32_t error_side;    /* enum fid_side */
	uint32_t error_call;    /* enum fid_call */
	uint32_t route;         /* enum fid_method: moved most bytes, or is in use */
	int32_t source_changed; /* 1 yes, 0 not seen to, -1 not looked at */
	uint32_t require_unmet; /* 1: ended because fid_options.require forbids the rest */
	uint32_t stable;        /* 1: delivered bytes cannot change any more */
	const char *reason;     /* why this route, in English */
	uint64_t reserved[8];
};

/*
 * Describe a receipt: one English sentence without a final newline, or one JSON object whose
 * keys fid(1) lists. Both write at most capacity bytes with the final NUL, and both return the
 * length that the whole text has, as snprintf(3) does; buffer may be NULL when capacity is 0.
 */
FID_API int fid_receipt_text(const struct fid_receipt *receipt, char *buffer, size_t capacity);
FID_API int fid_receipt_json(const struct fid_receipt *receipt, char *buffer, size_t capacity);

/*
 * Moves bytes from source to sink until end of file, bytes_max or a failure, waiting as needed.
 * It is fid_flow_new(), fid_flow_run() and fid_flow_free() in one; options and ret_receipt may
 * be NULL. A transfer of at most 16 KiB by bytes_max takes two calls, a read and a write, and
 * 20 KiB of the stack.
 *
 * Returns the bytes delivered, or -errno: any error of the calls made, -ETIMEDOUT, -EINTR with
 * FID_INTERRUPTIBLE, -EOPNOTSUPP when options.routes or options.require leave no way (or what
 * the kernel refused the last way with), -ESPIPE for an offset where there is none, -EINVAL and
 * -E2BIG for options. Bytes that were taken and could not be delivered are lost to
 * a caller of fid_copy(), who learns how many from ret_receipt->bytes_held; a flow salvages
 * them. Memory and descriptors are the caller's own again on return, except that a pipe or
 * socket sink may hold references to the source's pages (see FID_STABLE).
 */
FID_API int64_t fid_copy(int source, int sink, const struct fid_options *options,
			 struct fid_receipt *ret_receipt);

/*
 * A flow is fid_copy() that can be stopped, continued, watched and salvaged.
 */
struct fid_flow;

/*
 * Makes a flow. Both descriptors are borrowed until fid_flow_free(). *ret_flow is set on
 * success only. Options are copied.
 *
 * Returns 0, -EBADF (a descriptor that is not open, or not open in that direction), -ESPIPE (an
 * offset for what has none), -EINVAL (options, or a pipe into itself), -E2BIG (options),
 * -ENOMEM, -EOPNOTSUPP when no allowed method meets the requirement. Why it failed is written
 * to *ret_receipt unless that is NULL.
 */
FID_API int fid_flow_new(struct fid_flow **ret_flow, int source, int sink,
			 const struct fid_options *options, struct fid_receipt *ret_receipt);

/* What fid_flow_step() returns. */
#define FID_DONE 0   /* end of file, or bytes_max reached; everything is delivered */
#define FID_MORE 1   /* it moved bytes and may move more at once: step again */
#define FID_WAIT 2   /* nothing to do before poll(2) says so */
#define FID_PAUSED 3 /* FID_PACED: all that was granted is delivered; grant more, then step */

/*
 * Moves some bytes, a bounded amount of work. It does not sleep on descriptors with O_NONBLOCK;
 * on others it may, unless FID_NOWAIT is given.
 *
 * With FID_WAIT, wait[0] (the source) and wait[1] (the sink) are set for poll(2): step again
 * when either has any event. An entry with events == 0 is there for POLLERR and POLLHUP, so
 * that a sink that dies is noticed while the source is idle. Descriptors that poll(2) does not
 * know are never waited for.
 * A call that does not return FID_WAIT sets both descriptors in wait to -1.
 *
 * wait may be NULL; an edge-triggered loop needs no more than the return value, since on
 * descriptors with O_NONBLOCK FID_WAIT comes only after the kernel said EAGAIN. It steps the
 * flow again on any event of either descriptor (a sink that dies is one), and by itself after
 * FID_MORE, since what is ready already makes no new edge. A socket whose error queue holds
 * something (time stamps, MSG_ZEROCOPY) has POLLERR until the program reads it; as a sink it is
 * not watched meanwhile, and as a source it makes poll(2) return at once.
 *
 * Returns FID_DONE, FID_MORE, FID_WAIT, FID_PAUSED, -EINTR (see FID_INTERRUPTIBLE) or the error
 * that ended the flow, which further calls repeat.
 */
FID_API int fid_flow_step(struct fid_flow *flow, struct pollfd wait[2]);

/*
 * Steps and waits until the flow ends. timeout_ms bounds the whole call; -1 waits for ever; 0
 * makes one step. With any bound the flow behaves as with FID_NOWAIT from then on.
 *
 * Returns 0 when done, FID_PAUSED, -ETIMEDOUT and -EINTR (the flow is intact), or the error
 * that ended it. A connection may end with ETIMEDOUT as well; then, and only then, the receipt
 * has it as error.
 */
FID_API int fid_flow_run(struct fid_flow *flow, int timeout_ms);

/*
 * FID_PACED: allows the flow to take so many bytes more; what was granted before and not taken
 * still counts. A paused flow is not woken by anything else, and notices only at its next step
 * that its sink has died. Takes no system call.
 *
 * Returns 0, or -EINVAL for a flow that is not paced.
 */
FID_API int fid_flow_grant(struct fid_flow *flow, uint64_t bytes);

/*
 * Hands over bytes that were taken from the source and not delivered, oldest first: at most
 * capacity of them into buffer. They leave the flow: it does not deliver them any more. What
 * was delivered to a pipe or socket whose reader then died unread is delivered, and not here.
 *
 * Returns how many, 0 when none are left, or -errno.
 */
FID_API ssize_t fid_flow_salvage(struct fid_flow *flow, void *buffer, size_t capacity);

/*
 * The account so far, in storage of the flow: valid until fid_flow_free(), brought up to date
 * by each call of this function. Never NULL for a flow that is not.
 */
FID_API const struct fid_receipt *fid_flow_receipt(struct fid_flow *flow);

/*
 * Ends a flow. A pipe that still holds bytes is closed and its bytes are lost: salvage first.
 * NULL is taken. Returns NULL.
 */
FID_API struct fid_flow *fid_flow_free(struct fid_flow *flow);

/* ---- Routes: which way, and why ---- */

/* What a descriptor is, as far as the choice of a way needs it. */
enum fid_kind {
	FID_KIND_UNKNOWN =
		0, /* not asked, or none of the others: eventfd, timerfd, inotify ... */
	FID_KIND_REGULAR,
	FID_KIND_PIPE,   /* pipe or FIFO */
	FID_KIND_TCP,    /* an Internet stream socket */
	FID_KIND_UNIX,   /* a unix stream socket */
	FID_KIND_SOCKET, /* any other socket: datagrams, packets */
	FID_KIND_TERMINAL,
	FID_KIND_MEMORY, /* /dev/null, /dev/zero, /dev/full, /dev/random: never sleeps long */
	FID_KIND_CHARACTER,
	FID_KIND_BLOCK,
	FID_KIND_DIRECTORY,
	FID_KINDS,
};

/* "file", "pipe", "tcp-socket", "memory-device" ... as the command shows it. Static storage. */
FID_API const char *fid_kind_name(enum fid_kind kind);

/* One end, as fstat(2), fcntl(2), getsockopt(2) and fstatfs(2) tell of it. */
struct fid_end {
	uint8_t kind;  /* enum fid_kind */
	bool readable; /* by its access mode */
	bool writable;
	bool append;      /* O_APPEND */
	bool direct;      /* O_DIRECT */
	bool nonblocking; /* O_NONBLOCK */
	/* A regular file; or a directory, for the files in it. */
	bool remote;     /* its pages may come from a process or network: FUSE, NFS, CIFS, 9p */
	bool plain;      /* its file system copies as any other program would */
	bool page_cache; /* splice is known to pass on its pages by reference */
	bool offset_given;
	bool is_null; /* /dev/null */
	uint8_t reserved_bytes[5];
	uint64_t device;
	uint64_t inode;
	uint64_t size;     /* st_size: a hint about what to expect and never believed */
	uint64_t position; /* a regular file's own offset */
};

/*
 * Looks at a descriptor, which may be one of O_PATH, and changes nothing. Returns 0, or -errno
 * of fstat(2) or fcntl(2). Threads: any.
 */
FID_API int fid_end_look(int descriptor, struct fid_end *ret_end);

/* One method of a ladder. */
struct fid_rung {
	uint8_t method; /* enum fid_method */
	uint8_t class_; /* enum fid_class: how its bytes count */
	bool stable;    /* what it delivers cannot change afterwards */
	bool asks;      /* poll the source before each call, which must not sleep for it */
	uint32_t chunk_bytes;
	uint32_t pipe_bytes; /* the private pipe to ask for; 0: none is needed */
	const char *reason;  /* why it stands here; static storage */
};

/* The methods that a flow tries, in that order, until the kernel takes one. */
struct fid_ladder {
	uint32_t count;
	uint32_t start_small; /* 1: read and write first, a pipe when the stream is fast */
	struct fid_rung rung[FID_METHODS_MAX];
};

/*
 * What a flow from source to sink would do, and why: the very choice that fid_flow_new() makes.
 * It asks the kernel nothing, so that ends which do not exist yet can be described instead of
 * looked at; their offset_given is set by options. options and facts (fid_probe()) may be NULL.
 * ret_refused, by method, says why a method is not on the ladder, or NULL where
 * it is; it may be NULL itself. Strings have static storage.
 *
 * What is on the ladder may still be refused: whether two files share extents, whether a
 * security module objects, only doing tells. A ladder without a rung means -EOPNOTSUPP.
 *
 * Returns 0, or what fid_flow_new() would: -EBADF, -ESPIPE, -EINVAL, -E2BIG.
 */
FID_API int fid_route(const struct fid_end *source, const struct fid_end *sink,
		      const struct fid_options *options, const struct fid_facts *facts,
		      struct fid_ladder *ret_ladder, const char *ret_refused[FID_METHODS_MAX]);

/* ---- Memory: who may write these bytes again, and when ---- */

/*
 * A way from this process' memory into a descriptor. What differs between the modes is who may
 * write the bytes again, and when, without changing what somebody downstream still reads. No
 * mode promises that memory is free again once a pipe was drained: a second pipe or a socket
 * may still refer to the pages, and no kernel tells (measured on 6.18).
 */
enum fid_memory_mode {
	/*
	 * write(2). The caller fills what reserve gives; committed bytes are fid's, and nobody
	 * downstream ever refers to them. The default, since nothing beats it everywhere.
	 */
	FID_MEMORY_COPY = 0,
	/*
	 * By reference, on pages that nobody will write again: fid hands out slabs of 2 MiB,
	 * two of them by turns, and drops a slab's pages (MADV_DONTNEED) before its next turn,
	 * so that its next bytes are written to new ones. It pays with huge pages and from 16
	 * KiB a step on; otherwise it copies, and the receipt says why. The caller may not
	 * touch bytes after their commit.
	 */
	FID_MEMORY_FRESH,
	/*
	 * By reference, on memory that nobody can write: a memfd, filled once and sealed.
	 * It may be sent any number of times, to any number of sinks.
	 */
	FID_MEMORY_CONST,
	/*
	 * By reference, the caller's own memory. UNSAFE: whoever writes to it or reuses it,
	 * ever, may change bytes that were sent, without any error anywhere. fid_memory(3)
	 * shows what that looks like. Safe for memory that is never written again.
	 */
	FID_MEMORY_LEND,
	FID_MEMORY_MODES,
};

struct fid_memory;

struct fid_memory_options {
	size_t size;           /* sizeof(struct fid_memory_options) */
	uint32_t flags;        /* FID_NOWAIT, FID_INTERRUPTIBLE */
	uint32_t mode;         /* enum fid_memory_mode */
	uint64_t bytes_max;    /* FID_MEMORY_CONST: room for so many; default 2 MiB */
	struct fid_pool *pool; /* borrowed until it is freed; NULL: one of the process */
};

/* The most that fid_memory_reserve() can be asked for; it may give more. */
#define FID_MEMORY_RESERVE_MAX ((size_t)256 << 10)

/*
 * Makes one. By reference bytes go into a pipe only; to any other sink they are copied. sink is
 * borrowed until fid_memory_free(); with FID_MEMORY_CONST it may be -1, for use through
 * fid_memory_descriptor() alone.
 *
 * Returns 0, -EBADF, -EINVAL, -E2BIG, -ENOMEM, or for FID_MEMORY_CONST what memfd_create(2) and
 * ftruncate(2) say.
 */
FID_API int fid_memory_new(struct fid_memory **ret_memory, int sink,
			   const struct fid_memory_options *options);

/*
 * FID_MEMORY_COPY, _FRESH, and _CONST before the seal: gives room for at least bytes (0: one)
 * at *ret_at, to be filled and committed. A later reserve takes an uncommitted one back.
 *
 * Returns the size of the room, at least bytes; -EMSGSIZE above FID_MEMORY_RESERVE_MAX;
 * -EAGAIN when committed bytes must be delivered first (step or run); -ENOSPC when a constant
 * is full; -ENOMEM; -EINVAL in the other modes; or the error that ended it.
 */
FID_API ssize_t fid_memory_reserve(struct fid_memory *memory, size_t bytes, void **ret_at);

/*
 * The first bytes of what was reserved are filled. They are fid's from now on, and are sent, in
 * order, by the next step or run. Returns 0, or -EINVAL for more than was reserved.
 */
FID_API int fid_memory_commit(struct fid_memory *memory, size_t bytes);

/* FID_MEMORY_CONST: what was committed is all, and can never change again. 0 or -errno. */
FID_API int fid_memory_seal(struct fid_memory *memory);

/*
 * FID_MEMORY_CONST after the seal: a descriptor of the constant, for fid_copy() from it to any
 * sink (give a source_offset: its own offset is shared by all who use it). It belongs to the
 * memory. Or -EINVAL.
 */
FID_API int fid_memory_descriptor(const struct fid_memory *memory);

/*
 * FID_MEMORY_CONST after the seal: step and run send these bytes of the constant. Returns 0,
 * -EINVAL beyond its end, -EAGAIN while earlier ones are not delivered, or the error that ended
 * it.
 */
FID_API int fid_memory_queue(struct fid_memory *memory, uint64_t offset, uint64_t bytes);

/*
 * FID_MEMORY_LEND: step and run send the segments' memory, which the caller never writes again.
 * The array itself is copied. Returns 0, -EINVAL, -EAGAIN while earlier ones are not delivered,
 * -ENOMEM, or the error that ended it.
 */
FID_API int fid_memory_lend(struct fid_memory *memory, const struct iovec *segments,
			    size_t count);

/*
 * Step and run as with flows: step sends what it can and returns FID_DONE when all is
 * delivered, FID_MORE, FID_WAIT with *wait set for poll(2), or -errno; it does not sleep with
 * FID_NOWAIT or when the sink has O_NONBLOCK. wait may be NULL. run goes on until all is
 * delivered; timeout_ms -1 waits for ever.
 *
 * Errors: -EPIPE and whatever write(2) says of the sink; -EFAULT, side "source", for lent
 * memory that is not there; -ETIMEDOUT and -EINTR (FID_INTERRUPTIBLE), after which it may go
 * on. Any other error ends it.
 */
FID_API int fid_memory_step(struct fid_memory *memory, struct pollfd *wait);
FID_API int fid_memory_run(struct fid_memory *memory, int timeout_ms);

/*
 * Hands over committed bytes that were not delivered, as fid_flow_salvage() does. Lent memory
 * is the caller's own: -EINVAL, and bytes_out of the receipt tells how far it came.
 */
FID_API ssize_t fid_memory_salvage(struct fid_memory *memory, void *buffer, size_t capacity);

/*
 * The account, as of a flow: bytes_in were committed, queued or lent. by_method tells
 * FID_VMSPLICE from FID_READ_WRITE, demotion[] and reason why.
 */
FID_API const struct fid_receipt *fid_memory_receipt(struct fid_memory *memory);

/* Ends it. Pages that somebody downstream refers to live on there. NULL is taken. Returns NULL.
 */
FID_API struct fid_memory *fid_memory_free(struct fid_memory *memory);

/* ---- Fans: one source, many sinks ---- */

/*
 * A fan gives each byte of one source to each of up to 1,024 sinks. Pipes get references
 * (tee(2)); other sinks are served from a private pipe each; whoever cannot splice gets a copy.
 * A sink that breaks ends alone, with its own receipt. The source must have no other reader.
 */
struct fid_fan;

#define FID_FAN_SINKS_MAX 1024

/* The whole fan ends when one sink fails. */
#define FID_FAN_STOP 0x80u

struct fid_fan_options {
	size_t size;            /* sizeof(struct fid_fan_options) */
	uint32_t flags;         /* FID_STABLE, FID_NOWAIT, FID_INTERRUPTIBLE, FID_LIMIT_ZERO,
				 * FID_SOURCE_OFFSET, FID_GROW_PIPES, FID_FAN_STOP */
	uint32_t routes;        /* 0, or FID_ROUTE(FID_READ_WRITE): only copy */
	uint64_t bytes_max;     /* as in struct fid_options */
	uint64_t source_offset; /* likewise */
	uint64_t pipe_bytes;    /* capacity to ask for private pipes; default 1 MiB */
	struct fid_pool *pool;  /* borrowed until the fan is freed; NULL: one of the process */
};

/* What to do about a sink that does not take what there is, when all else is done. */
enum fid_slow {
	FID_SLOW_WAIT = 0, /* all go at its pace */
	FID_SLOW_DROP,     /* it ends with -ETIMEDOUT when it took nothing for stall_ms */
	FID_SLOW_SPILL,    /* what it does not take goes to a file, and from there to it */
};

struct fid_fan_sink_options {
	size_t size;      /* sizeof(struct fid_fan_sink_options) */
	uint32_t flags;   /* FID_SINK_OFFSET */
	uint32_t on_slow; /* enum fid_slow */
	/*
	 * FID_SLOW_DROP: 0 is 1000. FID_SLOW_SPILL: how long a sink whose file is full may take
	 * nothing before it is dropped; 0 waits for ever. Both also count when only that sink
	 * is left.
	 */
	uint32_t stall_ms;
	/* FID_SLOW_SPILL: a regular file, open to read and write, the fan's until it is freed.
	 */
	int32_t spill;
	uint64_t spill_bytes_max; /* its size at most; default 1 GiB */
	uint64_t sink_offset;
};

/* What to wait for: poll(fds, count, timeout_ms), then step again. Storage of the fan. */
struct fid_fan_wait {
	struct pollfd *fds;
	size_t count;
	int timeout_ms; /* -1: none */
};

/*
 * Makes a fan without sinks. source is borrowed until fid_fan_free(). Returns 0, -EBADF,
 * -ESPIPE, -EINVAL, -E2BIG, -ENOMEM.
 */
FID_API int fid_fan_new(struct fid_fan **ret_fan, int source,
			const struct fid_fan_options *options);

/*
 * Adds a sink, before the first step. It is borrowed until fid_fan_free(). Returns its number,
 * counted from 0, or -EBADF, -EINVAL (options, a pipe that is the source, after the first
 * step), -ENOSPC beyond FID_FAN_SINKS_MAX, -ESPIPE, -E2BIG, -ENOMEM.
 */
FID_API int fid_fan_add(struct fid_fan *fan, int sink,
			const struct fid_fan_sink_options *options);

/*
 * As with flows: step does a bounded amount of work and never sleeps, FID_NOWAIT or not; run
 * goes on to the end and sleeps in poll(2) alone. A sink that is a blocking terminal may sleep
 * all the same. ret_wait may be NULL.
 *
 * They return FID_DONE (run: 0) when the source has ended and each sink has all or has failed;
 * that one has failed is in its receipt. -errno: the source failed (its sinks have been given
 * all that came before), the last sink failed, one failed and FID_FAN_STOP is given, -ETIMEDOUT
 * or -EINTR as with flows.
 */
FID_API int fid_fan_step(struct fid_fan *fan, struct fid_fan_wait *ret_wait);
FID_API int fid_fan_run(struct fid_fan *fan, int timeout_ms);

/*
 * The account of the source (bytes_in: taken; bytes_out: given to every sink that lives;
 * error: what ended the fan) and of a sink. Storage of the fan. NULL for no such sink.
 */
FID_API const struct fid_receipt *fid_fan_receipt(struct fid_fan *fan);
FID_API const struct fid_receipt *fid_fan_sink_receipt(struct fid_fan *fan, int sink);

/*
 * Hands over what was taken and not delivered: to that sink, or with sink -1 what was not yet
 * given to every sink, beginning at bytes_out of fid_fan_receipt(). A sink whose bytes_in is
 * above that has had the difference; the others go without. Returns how many, 0 when none are
 * left, or -errno.
 */
FID_API ssize_t fid_fan_salvage(struct fid_fan *fan, int sink, void *buffer, size_t capacity);

/* Ends it. NULL is taken. Returns NULL. */
FID_API struct fid_fan *fid_fan_free(struct fid_fan *fan);

#ifdef __cplusplus
}
#endif

#endif
