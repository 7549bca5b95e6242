/* SPDX-License-Identifier: MIT */
/*
 * One run of the command: a flow for each source, in steps, with a look at signals and at the
 * progress line between them, and one receipt for all.
 */
#ifndef FID_CLI_TRANSFER_H
#define FID_CLI_TRANSFER_H

#include "branch.h"
#include "job.h"
#include "outcome.h"
#include "pace.h"
#include "progress.h"
#include "waits.h"

struct transfer {
	const struct job *job;
	struct endpoint *sink; /* NULL: between two */
	uint64_t sink_began;   /* receipt.bytes_out when it became the sink */
	struct progress progress;
	struct pace pace;   /* one for all sources */
	uint64_t granted;   /* to the flow that runs */
	int sink_error;     /* what the sink died of while the run slept for its pace */
	bool sink_is_noisy; /* it has events that mean nothing */
	bool sink_is_stdout;
	struct branch *branch;  /* --digest; NULL before the first source and after the last */
	enum fid_method direct; /* what would have been tried first without it */
	struct fid_receipt receipt; /* the sum of count sources */
	unsigned count;
	struct fid_receipt part; /* of the source that is being moved: the sum of parts flows */
	unsigned parts;
	/* What runs now, of which one at most is set. */
	struct fid_flow *flow;
	struct passage *passage; /* of a branch */
	uint64_t hole_bytes;     /* of all sources, left as holes */
	uint64_t sync_ns;        /* 0: nothing was synced yet */
	/* Nothing has moved for idle_ns, since idle_bytes were in and out. */
	uint64_t idle_ns;
	uint64_t idle_bytes;
	uint64_t looked_ns;
	bool idled; /* and that ended it */
	struct waits waits;
	bool sync_failed;
	uint64_t expected; /* bytes of all sources, holes and all; PROGRESS_UNKNOWN */
	/* Finds out expected when the first line is to be shown; NULL: expected is set. */
	uint64_t (*expect)(void *context);
	void *context;
};

/*
 * quiet_by_itself: no progress line unless asked for. The transfer stays where it is until
 * transfer_finish(): SIGUSR1 asks it how far it is.
 */
void transfer_begin(struct transfer *transfer, const struct job *job, bool quiet_by_itself);

/* Whether --sync and --sparse can be had of that sink. Returns false after a message. */
bool transfer_takes_sink(const struct job *job, const struct endpoint *sink);

/* What is moved from now on goes to that sink, which is open. */
void transfer_to(struct transfer *transfer, struct endpoint *sink);

/* Whether a flow could be made as the job wants it: nothing is moved. */
enum outcome transfer_try(struct transfer *transfer, const struct endpoint *source);

/* Moves one source: at most limit bytes, UINT64_MAX for all. Prints what went wrong. */
enum outcome transfer_run(struct transfer *transfer, const struct endpoint *source,
			  uint64_t limit);

/* For transfer_run(): one flow of a source. Returns what ended it, as transfer.part has it. */
int transfer_move(struct transfer *transfer, const struct endpoint *source,
		  const struct fid_options *options);

/*
 * Grants a flow of this run what its pace allows now. Returns 0, or how long to sleep until
 * there is something to grant.
 */
uint64_t transfer_grant(struct transfer *transfer, struct fid_flow *flow);

/* A line of progress, if one is due. bytes: delivered by what runs. */
void transfer_tick(struct transfer *transfer, uint64_t bytes);

/*
 * Whether nothing has moved for so long that it is to end, with -ETIMEDOUT. bytes: all that
 * have moved anywhere; waits: nothing but the ends keeps them from moving.
 */
bool transfer_stands_still(struct transfer *transfer, uint64_t bytes, bool waits);

/* How many bytes a source still has, as far as anybody can tell before reading. */
uint64_t transfer_size(const struct job *job, const struct endpoint *source);

/* How far it is: what was delivered, and holes that were left as holes. */
static inline uint64_t transfer_done(const struct transfer *transfer)
{
	return transfer->receipt.bytes_out + transfer->hole_bytes;
}

/* Syncs the sink where that is asked for, and closes it. Returns how it ends then. */
enum outcome transfer_end_sink(struct transfer *transfer, enum outcome outcome);

/*
 * Ends the sink if there is one, prints the receipt and dies by the signal that the outcome
 * asks for, or returns the exit status.
 */
int transfer_finish(struct transfer *transfer, enum outcome outcome);

#endif
