/* SPDX-License-Identifier: MIT */
/*
 * A producer: hands a known stream over to a fid_memory of any mode, in records of random
 * sizes, and has it sent in one of several ways.
 */
#ifndef FID_PRODUCE_H
#define FID_PRODUCE_H

#include "child.h"

#include <fid.h>

enum way {
	WAY_RUN,
	WAY_SLICES, /* run with a time-out that is always too short */
	WAY_STEP,   /* step and poll */
	WAYS,
};

struct producer {
	struct fid_memory *memory;
	enum fid_memory_mode mode;
	const unsigned char *bytes; /* the stream; lent as it is, else copied */
	size_t count;
	size_t done;       /* bytes of it that were handed over */
	size_t record_min; /* of the longer records; default 1 */
	size_t record_max; /* default FID_MEMORY_RESERVE_MAX */
	int sink;
	uint64_t random;
	unsigned timeouts; /* that WAY_SLICES has seen */
	unsigned refusals; /* records that fid did not take yet */
};

const char *memory_mode_name(enum fid_memory_mode mode);
const char *way_name(enum way way);

/* Makes the memory; a constant gets the whole stream and is sealed. */
void producer_open(struct producer *producer, enum fid_memory_mode mode, int sink,
		   uint32_t flags, const unsigned char *bytes, size_t count);

/* Hands over one record, of so many bytes or (0) of a random size: 0, -EAGAIN or the error. */
int producer_next(struct producer *producer, size_t record);

/* Sends some or all of what was handed over: 0, FID_MORE, FID_WAIT or the error. */
int producer_push(struct producer *producer, enum way way);

/* Hands over the rest of the stream and sends it all. */
void producer_finish(struct producer *producer, enum way way);

/* Frees the memory. */
void producer_close(struct producer *producer);

/*
 * Salvages all that is held and compares it with what follows the bytes that were delivered.
 * Lent bytes are not handed over, only counted. Returns how many.
 */
size_t producer_salvage(struct producer *producer);

#endif
