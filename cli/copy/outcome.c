/* SPDX-License-Identifier: MIT */
#include "outcome.h"

#include "signals.h"
#include "transfer.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum outcome outcome_unmet(const struct job *job, const struct endpoint *source,
			   const struct endpoint *sink, const struct fid_receipt *receipt)
{
	bool require = job->require != FID_REQUIRE_NOTHING &&
		       (receipt->require_unmet || !job->routes);
	char from[256], to[256], moved[128];

	print_name(from, sizeof(from), source->name);
	print_name(to, sizeof(to), sink->name);
	print_account(moved, sizeof(moved), receipt);
	if (require)
		print_error("%s cannot be met from %s to %s%s%s; %s",
			    job->require == FID_REQUIRE_BY_REFERENCE ? "--require by-reference"
								     : "--require no-user-copy",
			    from, to, receipt->reason ? ": " : "",
			    receipt->reason ? receipt->reason : "", moved);
	else
		print_error("no route of --route leads from %s to %s%s%s; %s", from, to,
			    receipt->reason ? ": " : "", receipt->reason ? receipt->reason : "",
			    moved);
	if (!require)
		print_hint_for(EOPNOTSUPP, FID_SIDE_FID);
	else if (endpoint_is_regular(source) && endpoint_is_regular(sink) &&
		 sink->stat.st_size > 0 && !job->digest && !job->rate)
		print_hint("only an empty file can become a clone: remove the SINK first");
	return require ? OUTCOME_UNMET : OUTCOME_FAILED;
}

/* "SINK (sink)", or both names where the kernel does not tell which of them it was. */
static void blame(const struct transfer *transfer, const struct endpoint *source,
		  enum fid_side side, char *text, size_t capacity)
{
	const char *guilty = side == FID_SIDE_SOURCE ? source->name : transfer->sink->name;
	char from[256], to[256];

	if (side == FID_SIDE_SOURCE || side == FID_SIDE_SINK)
		snprintf(text, capacity, "%s (%s)", print_name(to, sizeof(to), guilty),
			 fid_side_name(side));
	else
		snprintf(text, capacity, "%s to %s",
			 print_name(from, sizeof(from), source->name),
			 print_name(to, sizeof(to), transfer->sink->name));
}

/* Says which side did nothing for too long. */
static enum outcome stood_still(const struct transfer *transfer,
				const struct fid_receipt *receipt, const char *who)
{
	bool source = receipt->error_side == FID_SIDE_SOURCE;
	char moved[128];

	print_error("%s: %s for %.15g s; %s", who, source ? "nothing came" : "took nothing",
		    transfer->job->idle_ms / 1000.0,
		    print_account(moved, sizeof(moved), receipt));
	print_hint("a longer --idle-timeout waits longer, and none for ever");
	return source ? OUTCOME_SOURCE_FAILED : OUTCOME_FAILED;
}

enum outcome outcome_of(const struct transfer *transfer, const struct endpoint *source,
			const struct fid_receipt *receipt, int error)
{
	enum fid_side side = (enum fid_side)receipt->error_side;
	const struct endpoint *guilty = side == FID_SIDE_SOURCE ? source : transfer->sink;
	char who[600];

	if (error == -EOPNOTSUPP && (transfer->job->require || transfer->job->routes))
		return outcome_unmet(transfer->job, source, transfer->sink, receipt);
	if (error == -EPIPE && side != FID_SIDE_SOURCE && transfer->sink->fd == STDOUT_FILENO)
		return OUTCOME_NO_READER;
	blame(transfer, source, side, who, sizeof(who));
	if (transfer->idled)
		return stood_still(transfer, receipt, who);
	print_end(who, guilty->fd, receipt, error);
	return side == FID_SIDE_SOURCE ? OUTCOME_SOURCE_FAILED : OUTCOME_FAILED;
}

enum outcome outcome_interrupted(const struct fid_receipt *receipt)
{
	char moved[128];

	print_account(moved, sizeof(moved), receipt);
	/* A terminal has just shown "^C". */
	if (signals_caught() == SIGINT && isatty(STDERR_FILENO))
		print_text(STDERR_FILENO, "\n");
	print_error("interrupted: %s", moved);
	return OUTCOME_STOPPED;
}

void outcome_die(enum outcome outcome)
{
	if (outcome == OUTCOME_STOPPED)
		signals_die(signals_caught());
	/* As cat(1) would: quietly by SIGPIPE, unless SIGPIPE is ignored. */
	if (outcome == OUTCOME_NO_READER)
		signals_die(SIGPIPE);
}
