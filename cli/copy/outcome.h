/* SPDX-License-Identifier: MIT */
/*
 * How a transfer ended, and the messages that say so.
 */
#ifndef FID_CLI_OUTCOME_H
#define FID_CLI_OUTCOME_H

#include "job.h"

enum outcome {
	OUTCOME_DONE = 0,
	OUTCOME_SOURCE_FAILED, /* another source may still do */
	OUTCOME_FAILED,
	OUTCOME_UNMET,     /* --require */
	OUTCOME_STOPPED,   /* by a signal */
	OUTCOME_NO_READER, /* whoever read standard output has gone */
};

struct transfer;

/* Says that a signal ended it, and how far it got. Returns OUTCOME_STOPPED. */
enum outcome outcome_interrupted(const struct fid_receipt *receipt);

/* Says that what --route and --require allow leads nowhere: OUTCOME_UNMET, OUTCOME_FAILED. */
enum outcome outcome_unmet(const struct job *job, const struct endpoint *source,
			   const struct endpoint *sink, const struct fid_receipt *receipt);

/* Says what went wrong with a source: error, of which receipt tells. */
enum outcome outcome_of(const struct transfer *transfer, const struct endpoint *source,
			const struct fid_receipt *receipt, int error);

/* Dies by the signal that the outcome asks for; else returns. */
void outcome_die(enum outcome outcome);

#endif
