/* SPDX-License-Identifier: MIT */
/*
 * One run of the command: a flow for each source, in steps, with a look at signals and at the
 * progress line between them, and one receipt for all.
 */
#ifndef FID_CLI_TRANSFER_H
#define FID_CLI_TRANSFER_H

#include "branch.h"
#include "job.h"
#include "pace.h"
#include "progress.h"

enum outcome {
	OUTCOME_DONE = 0,
	OUTCOME_SOURCE_FAILED, /* another source may still do */
	OUTCOME_FAILED,
	OUTCOME_UNMET,     /* --require */
	OUTCOME_STOPPED,   /* by a signal */
	OUTCOME_NO_READER, /* whoever read standard output has gone */
};

/* Says that a signal ended it, and how far it got. Returns OUTCOME_STOPPED. */
enum outcome outcome_interrupted(const struct fid_receipt *receipt);

/* Dies by the signal that the outcome asks for; else returns. */
void outcome_die(enum outcome outcome);

struct transfer {
	const struct job *job;
	struct endpoint *sink;
	bool sink_is_stdout;
	struct progress progress;
	struct pace pace;       /* one for all sources */
	uint64_t granted;       /* to the flow that runs */
	int sink_error;         /* what the sink died of while the run slept for its pace */
	bool sink_is_noisy;     /* it has events that mean nothing */
	struct branch *branch;  /* --digest; NULL before the first source and after the last */
	enum fid_method direct; /* what would have been tried first without it */
	struct fid_receipt receipt; /* the sum of count flows */
	unsigned count;
	uint64_t expected; /* bytes of all sources; PROGRESS_UNKNOWN */
	/* Finds out expected when the first line is to be shown; NULL: expected is set. */
	uint64_t (*expect)(void *context);
	void *context;
};

/* The sink is open. quiet_by_itself: no progress line unless asked for. */
void transfer_begin(struct transfer *transfer, const struct job *job, struct endpoint *sink,
		    bool quiet_by_itself);

/* Whether a flow could be made as the job wants it: nothing is moved. */
enum outcome transfer_try(struct transfer *transfer, const struct endpoint *source);

/* Moves one source: at most limit bytes, UINT64_MAX for all. Prints what went wrong. */
enum outcome transfer_run(struct transfer *transfer, const struct endpoint *source,
			  uint64_t limit);

/*
 * Grants a flow of this run what its pace allows now. Returns 0, or how long to sleep until
 * there is something to grant.
 */
uint64_t transfer_grant(struct transfer *transfer, struct fid_flow *flow);

/* A line of progress, if one is due. bytes: delivered by the flow that runs. */
void transfer_tick(struct transfer *transfer, uint64_t bytes);

/* How many bytes a source still has, as far as anybody can tell before reading. */
uint64_t transfer_size(const struct job *job, const struct endpoint *source);

/*
 * Closes the sink, prints the receipt and dies by the signal that the outcome asks for, or
 * returns the exit status.
 */
int transfer_finish(struct transfer *transfer, enum outcome outcome);

#endif
