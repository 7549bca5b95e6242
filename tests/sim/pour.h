/* SPDX-License-Identifier: MIT */
/*
 * A loop that moves everything from a source to a sink by the three calls alone, as a program
 * does that knows nothing else, and judges each answer: no byte is lost, doubled or out of
 * order, offsets move by what moved, an error comes before anything moved, nothing sleeps that
 * must not, SIGPIPE comes with EPIPE or not at all, and what was taken and not delivered is in
 * the stash and can be salvaged.
 */
#ifndef FID_POUR_H
#define FID_POUR_H

#include "pipe/calls.h"
#include "sim.h"

enum pour_call {
	POUR_SPLICE = 0,
	POUR_TEE,
	POUR_STASH_SPLICE,
	POUR_STASH_TEE,
	POUR_VMSPLICE_IN,  /* memory into a pipe */
	POUR_VMSPLICE_OUT, /* a pipe into memory */
	POUR_CALLS,
};

enum { POUR_BYTES_MAX = 1 << 16 };

struct pour {
	struct sim *sim;
	enum pour_call call;
	enum sim_kind source_kind;
	enum sim_kind sink_kind;
	bool source_waits; /* no O_NONBLOCK */
	bool sink_waits;
	bool offsets;             /* given, where an end has one */
	unsigned flags;           /* of the calls */
	uint64_t bytes;           /* of the source */
	uint32_t call_max;        /* bytes that one call asks for */
	uint64_t sink_dies_after; /* SIM_NEVER: never */
	bool source_breaks;       /* ECONNRESET after all bytes */
	const struct sim_world *world;
	uint64_t seed;
	uint64_t fail_at;
	int fail_error;
	bool fail_sticky;

	/* Since pour(). */
	struct fid_pool *pool;
	struct fid_stash *stash;
	int source;
	int sink;
	int null; /* what a tee'd source is drained into */
	int64_t source_offset;
	int64_t sink_offset;
	uint64_t random;
	uint64_t delivered;
	uint64_t calls;    /* of pour_call */
	uint64_t failures; /* in a row, not counting EAGAIN and EINTR */
	uint64_t stashed;  /* calls after which the stash held something */
	ssize_t last;
};

/* Runs it from a new round of the simulated kernel to the end of both. */
void pour(struct pour *pour);

/* Whether the kernel's call may end with its refusal there: nothing can stand in for it. */
bool pour_may_be_refused(const struct pour *pour);

/* How a failure tells which run it was. */
void pour_describe(const struct pour *pour, char *text, size_t size);

#endif
