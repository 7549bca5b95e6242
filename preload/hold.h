/* SPDX-License-Identifier: MIT */
/*
 * Bytes that had to be taken from a pipe or a terminal, since one could not look into it, and
 * that its sink did not take: kept for whoever reads that source next. There is no lock, so
 * that read(2) stays safe in a signal handler: whoever claims what is held has it alone, and
 * others meanwhile find nothing, as if the bytes were already read.
 */
#ifndef FID_PRELOAD_HOLD_H
#define FID_PRELOAD_HOLD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* At most so many at once of a pipe or a terminal: what a stash takes at most. */
#define HOLD_BYTES ((size_t)256 << 10)

struct hold {
	_Atomic int state;
	/* What the bytes came from: descriptors come and go. */
	_Atomic uint64_t device;
	_Atomic uint64_t inode;
	_Atomic uint64_t born; /* a new FIFO may have an old one's number */
	unsigned char *bytes;
	size_t capacity;
	size_t at;
	size_t held;
};

extern _Atomic int holds;

/* Whether anything is held: all that a read costs otherwise. */
static inline bool hold_any(void)
{
	return atomic_load_explicit(&holds, memory_order_acquire) > 0;
}

/* What is held of the source and not claimed by anybody else; or NULL. */
struct hold *hold_claim(int source);

/*
 * Room to hold bytes of the source, claimed, before they are taken. NULL: there is none. May
 * not be called in a signal handler.
 */
struct hold *hold_reserve(int source, size_t bytes);

struct iovec;

/* Takes out what there is room for, oldest first, and ends the claim. Returns how many. */
ssize_t hold_take_segments(struct hold *hold, const struct iovec *segments, size_t count);

/*
 * Writes at most bytes to the sink of a splice. Returns how many went, or -errno. waits: sleep
 * where a pipe is full.
 */
ssize_t hold_deliver(struct hold *hold, int sink, int64_t *sink_offset, size_t bytes,
		     bool waits);

/* Ends the claim; what is left waits for the next. */
void hold_release(struct hold *hold);

#endif
