/* SPDX-License-Identifier: MIT */
/*
 * One flow on the simulated kernel, from its making to its end, with every promise of <fid.h>
 * checked after each step: the account, the offsets, the bytes at the sink, what is waited for,
 * what is borrowed meanwhile, who is blamed, and what salvage hands over.
 */
#ifndef FID_TRANSFER_H
#define FID_TRANSFER_H

#include "flow/flow.h"
#include "pipe/pipe.h"
#include "sim.h"

enum { STEP_CALLS_MAX = 160 };

/* What may end a transfer before all bytes are delivered. */
enum transfer_fault {
	FAULT_SOURCE = 1,   /* the source has an error in store */
	FAULT_SINK = 2,     /* the sink has one, or hangs up */
	FAULT_ROUTES = 4,   /* options leave few ways, and the kernel may refuse them all */
	FAULT_INJECTED = 8, /* a test fails one call */
};

struct transfer {
	struct sim *sim;
	struct fid_pool *pool;
	enum sim_kind source_kind;
	enum sim_kind sink_kind;
	int source;
	int sink;
	uint64_t available; /* bytes of the source from first on; SIM_NEVER: without end */
	unsigned faults;    /* enum transfer_fault */
	bool overwrites;    /* somebody overwrites delivered parts of the source */
	bool shares_pool;   /* with other flows */
	bool abandons;      /* frees the flow with what it holds */
	struct fid_options options;
	uint64_t grants_max; /* FID_PACED: how much is granted at once; 0: a page */

	/* Since transfer_begin(). */
	struct fid_flow *flow;
	uint64_t first;        /* position in the stream of the first byte */
	uint64_t source_start; /* the descriptors' own offsets */
	uint64_t sink_start;
	struct pollfd wait[2];
	int result;
	bool is_over;
	uint64_t granted;        /* FID_PACED: in all */
	struct fid_receipt last; /* after the last step */
	uint64_t steps;
	uint64_t idle_steps; /* in a row */
	uint64_t sleeps;     /* of the kernel, as last seen */
	uint64_t timeouts;   /* returned */
	uint64_t eintrs;     /* returned */
	uint64_t eintrs_sim; /* that the kernel gave to this flow */
	uint64_t salvaged;
	uint64_t calls_at_end;  /* of the kernel, when it was over */
	struct sim_error error; /* the kernel's, that ended it */
};

/*
 * Makes the flow. Returns what fid_flow_new() does; after a failure only transfer_end() may
 * follow.
 */
int transfer_begin(struct transfer *transfer);

/* One fid_flow_step(). Returns what it does. */
int transfer_step(struct transfer *transfer);

/* One fid_flow_run(). Returns what it does. */
int transfer_run(struct transfer *transfer, int timeout_ms);

/* Waits as the last step asked. */
void transfer_wait(struct transfer *transfer);

/* Steps and waits to the end. */
int transfer_finish(struct transfer *transfer);

/* Checks that it may have ended as it did, salvages, checks the bytes, and frees the flow. */
void transfer_end(struct transfer *transfer);

/*
 * The same for one call of fid_copy(), from the beginning to the end. Without a receipt it
 * takes shorter ways, and only what it returns is checked.
 */
int64_t transfer_copy(struct transfer *transfer, bool with_receipt);

#endif
