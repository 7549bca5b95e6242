/* SPDX-License-Identifier: MIT */
/*
 * The inside of the extension. Each file is one noun: an end of a transfer, a region without
 * Ruby's global lock, the three calls, a receipt, a flow, a fan, memory.
 *
 * Two rules hold everywhere. No Ruby function is called in a region, where another thread may
 * run Ruby. And a Ruby function may raise, so that whatever C owns at that moment is reachable
 * from an object that the garbage collector frees.
 */
#ifndef FID_EXT_H
#define FID_EXT_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include <fid.h>
#include <ruby.h>
#include <ruby/io.h>

extern VALUE ext_mFid;

/* What a flow, a fan and memory know of their use, to be looked at before each. */
struct ext_use {
	pid_t process; /* that made it: its pipes are the parent's as well */
	bool busy;     /* a thread or fiber is in a call of it */
};

/* Whether this process made it. */
bool ext_use_is_here(const struct ext_use *use);
/* Raises ThreadError when it is busy in this process. what: "flow". */
void ext_use_check_idle(const struct ext_use *use, const char *what);
/* The same, and IOError when it is closed or belongs to another process. */
void ext_use_check(const struct ext_use *use, bool is_open, const char *what);

/* ---- Ends: what a program gave as source or sink ---- */

struct ext_end {
	VALUE io;     /* an IO, or nil when the program gave a number */
	VALUE waiter; /* an IO that a scheduler can wait for, made when needed */
	int fd;
};

#define EXT_END_NONE ((struct ext_end){.io = Qnil, .waiter = Qnil, .fd = -1})

/*
 * An Integer, an IO, or what to_io makes an IO of. Raises TypeError, and IOError for an IO that
 * is closed or was not opened for this.
 */
struct ext_end ext_source(VALUE given);
struct ext_end ext_sink(VALUE given);
/* The same, but the kernel judges the direction (EBADF). */
struct ext_end ext_end(VALUE given);
struct ext_end ext_end_writing(VALUE given);

/* Raises IOError when another thread has closed the IO, or given it another descriptor. */
void ext_end_check(const struct ext_end *end);
void ext_end_mark(const struct ext_end *end);

/* An IO for a scheduler to wait for, also where the program gave a number. */
VALUE ext_end_waiter(struct ext_end *end);

/* Whether Ruby has read ahead from the source. */
bool ext_end_has_read_ahead(const struct ext_end *end);
/* Raises IOError when it has. */
void ext_end_refuse_read_ahead(const struct ext_end *end, const char *call);

/*
 * What Ruby has buffered is put where it belongs: what a program wrote goes to the descriptor,
 * and what was read ahead from a file is given back to it. For a source that cannot go back
 * the bytes that were read ahead, at most bytes_max, are taken out and returned as a String,
 * else nil.
 */
VALUE ext_source_settle(const struct ext_end *source, uint64_t bytes_max);
void ext_sink_settle(const struct ext_end *sink);

/*
 * Puts bytes that were taken from an IO back before what its next read gives, however many
 * there are: IO#ungetbyte alone fails for more than 8 KiB once the IO has been read.
 */
void ext_source_give_back(VALUE io, VALUE bytes);

/* ---- Regions: without the global lock ---- */

/*
 * Runs body(data) without the global lock. Every IO of ends is known to Ruby as in use: when
 * another thread closes one, this thread is woken and IOError raised. A signal, Thread#raise,
 * Thread#kill or Timeout wakes it as well: body's system calls end with EINTR, and what is
 * pending is raised after body returned. Otherwise the region returns.
 */
void ext_region(struct ext_end *const *ends, size_t count, void (*body)(void *), void *data);

/* The same for a body that never sleeps, which in places is run with the lock instead. */
void ext_brief_region(struct ext_end *const *ends, size_t count, void (*body)(void *),
		      void *data);

/* Whether this is the main thread, and not the only one. See ext_region.c. */
bool ext_is_main_among_others(void);

/* Whether something is pending for this thread; for loops in a region that never sleep. */
bool ext_interrupted(void);

/* The Fiber scheduler that waits in this fiber, or nil. */
VALUE ext_scheduler(void);

/*
 * Waits for one end by the scheduler: events of poll(2), until the deadline. Returns false when
 * the time is over.
 */
bool ext_scheduler_wait(VALUE scheduler, struct ext_end *end, int events, uint64_t deadline_ns);

/* ---- Time ---- */

/* A deadline: nanoseconds of the monotonic clock, UINT64_MAX for none. */
uint64_t ext_now_ns(void);
/* From nil, or seconds as an Integer or a Float. ArgumentError when negative. */
uint64_t ext_deadline(VALUE seconds);
/*
 * "Ready", says poll or the scheduler, and nothing moves, again and again: a queue of errors
 * that nobody reads, a slot that is not free. How long to sleep instead of the idle-th such
 * wait: 0 for the first ones, and up to 64 ms.
 */
int ext_idle_ms(unsigned idle);

/* Milliseconds left, rounded up; 0 when it is over, -1 for none; for poll(2). */
int ext_left_ms(uint64_t deadline_ns);

/* ---- Numbers ---- */

/* From nil (0, and *ret_given = false) or an Integer from 0 on; name is for the message. */
uint64_t ext_bytes(VALUE value, const char *name, bool *ret_given);

/* ---- Receipts and failures ---- */

/* A frozen Fid::Receipt. */
VALUE ext_receipt_new(const struct fid_receipt *receipt);
const struct fid_receipt *ext_receipt_get(VALUE receipt);
/* Adds the account of an earlier part of the same transfer. */
void ext_receipt_add(struct fid_receipt *receipt, const struct fid_receipt *earlier);
/* A Symbol from a name of the library: "splice-pipe" becomes :splice_pipe. */
VALUE ext_symbol(const char *name);

/*
 * An Errno with the side and the call in its message, which is a Fid::Failure as well: it
 * answers to receipt, side and undelivered. receipt may be nil: then side and call are told by
 * the arguments alone, and call may be NULL.
 */
VALUE ext_failure(int error, enum fid_side side, const char *call, VALUE receipt);
/* The same for what could not be made: with the reason of the receipt. */
VALUE ext_refusal(int error, const struct fid_receipt *receipt);
/* Makes a Fid::Failure of any exception, which is to take these along. */
void ext_failure_attach(VALUE exception, VALUE receipt, VALUE undelivered);

void ext_init_probe(void);
void ext_init_calls(void);
void ext_init_receipt(void);
void ext_init_flow(void);
void ext_init_fan(void);
void ext_init_memory(void);

#endif
