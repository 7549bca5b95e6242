/* SPDX-License-Identifier: MIT */
/*
 * The inside of a flow.
 */
#ifndef FID_STATE_H
#define FID_STATE_H

#include "flow/flow.h"
#include "pipe/pipe.h"
#include "pipe/quiet.h"

struct fid_flow {
	struct fid_kernel *kernel;
	struct fid_pool *pool;
	int source;
	int sink;
	int64_t source_at; /* FID_OWN_OFFSET or the offset of the next byte */
	int64_t sink_at;
	uint64_t bytes_max;     /* UINT64_MAX: no limit */
	uint64_t bytes_granted; /* FID_PACED: bytes_in may come so far; UINT64_MAX: no limit */
	struct fid_end source_end;
	struct fid_end sink_end;
	uint32_t rung;
	struct fid_ladder ladder;

	struct fid_pipe pipe;
	unsigned char *buffer;
	unsigned char *scratch; /* the caller's memory, used before a buffer of the pool */
	size_t scratch_bytes;
	size_t buffer_at;
	size_t buffer_held;
	size_t sink_room; /* so much the sink, a pipe of our own, takes without sleeping */

	struct fid_quiet quiet;
	bool examined; /* source_end and sink_end are known */
	bool nowait;   /* never sleep, not even on blocking descriptors */
	bool interruptible;
	bool running;        /* within run, which watches the sink by itself */
	bool copying;        /* a stream that is too slow for the pipe of its rung */
	bool end_claimed;    /* a call said "end of file", and read() has not confirmed it */
	bool sink_filled;    /* the pipe behind it was filled: poll before the next call */
	bool sink_is_noisy;  /* it has POLLERR and is well: it is not watched */
	bool pipe_refused;   /* the sink does not splice: what the pipe holds is read out */
	bool timed;          /* somebody will read the receipt's elapsed_ns */
	bool is_fed;         /* it has no source: somebody else puts bytes into it */
	bool buffer_is_lent; /* by whoever feeds it */
	bool ended;
	bool exhausted;      /* the last rung was refused */
	bool stable;         /* FID_STABLE */
	bool paced;          /* FID_PACED */
	uint8_t require;     /* the option, an enum fid_require */
	uint32_t routes;     /* options that a second choice needs */
	uint64_t pipe_bytes; /* likewise */
	uint8_t pace;        /* consecutive reads that speak for a change of mind */
	uint8_t stalls;
	struct pollfd wait[2];

	uint64_t end_expected; /* bytes_in where a regular source should end, or UINT64_MAX */
	int64_t source_start;  /* its offset at the start */
	int64_t source_size;   /* as they were at the start, to see a change */
	int64_t source_modified_ns;
	int64_t source_changed_ns;
	uint64_t started_ns;
	struct fid_receipt receipt;
};

static inline const struct fid_rung *fid_flow_rung(const struct fid_flow *flow)
{
	return &flow->ladder.rung[flow->rung];
}

#endif
