/* SPDX-License-Identifier: MIT */
#include "transfer.h"

#include "command.h"
#include "signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void transfer_begin(struct transfer *transfer, const struct job *job, struct endpoint *sink,
		    bool quiet_by_itself)
{
	*transfer = (struct transfer){.job = job, .sink = sink, .expected = PROGRESS_UNKNOWN};
	if (job->progress == PROGRESS_ALWAYS ||
	    (job->progress == PROGRESS_BY_ITSELF && !quiet_by_itself))
		progress_begin(&transfer->progress, job->progress == PROGRESS_ALWAYS);
}

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
		 sink->stat.st_size > 0)
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

/* The failure that receipt tells of, in words. */
static enum outcome failed(const struct transfer *transfer, const struct endpoint *source,
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
	print_end(who, guilty->fd, receipt, error);
	return side == FID_SIDE_SOURCE ? OUTCOME_SOURCE_FAILED : OUTCOME_FAILED;
}

enum outcome transfer_try(struct transfer *transfer, const struct endpoint *source)
{
	struct fid_options options = job_flow_options(transfer->job, UINT64_MAX);
	struct fid_receipt receipt = {0};
	struct fid_flow *flow = NULL;
	int error = fid_flow_new(&flow, source->fd, transfer->sink->fd, &options, &receipt);

	fid_flow_free(flow);
	if (error == 0)
		return OUTCOME_DONE;
	receipt_add(&transfer->receipt, transfer->count++, &receipt);
	return failed(transfer, source, &receipt, error);
}

static void tick(struct transfer *transfer, struct fid_flow *flow)
{
	if (!progress_due(&transfer->progress))
		return;
	if (transfer->expect) {
		transfer->expected = transfer->expect(transfer->context);
		transfer->expect = NULL;
	}
	progress_tick(&transfer->progress,
		      transfer->receipt.bytes_out + fid_flow_receipt(flow)->bytes_out,
		      transfer->expected);
}

/*
 * Steps until the flow ends, with a look at signals and at the progress line between steps. A
 * step may sleep in a call on a descriptor that is inherited and blocks. A signal ends any
 * sleep, and the timer of signals_catch() does where a line is due or the signal came just
 * before. Returns 0, -EINTR for a signal that ends the program, or what ended the flow.
 */
static int run(struct transfer *transfer, struct fid_flow *flow)
{
	while (!signals_caught()) {
		struct pollfd wait[2];
		int result = fid_flow_step(flow, wait);

		if (result == FID_WAIT)
			result = poll(wait, 2, -1) < 0 ? -errno : FID_MORE;
		if (result != FID_MORE && result != -EINTR)
			return result;
		tick(transfer, flow);
	}
	return -EINTR;
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

enum outcome transfer_run(struct transfer *transfer, const struct endpoint *source,
			  uint64_t limit)
{
	struct fid_options options = job_flow_options(transfer->job, limit);
	struct fid_receipt receipt = {0};
	struct fid_flow *flow = NULL;
	int result = fid_flow_new(&flow, source->fd, transfer->sink->fd, &options, &receipt);

	if (result == 0) {
		signals_catch(transfer->progress.wanted);
		result = run(transfer, flow);
		receipt = *fid_flow_receipt(flow);
		fid_flow_free(flow);
		signals_release();
	}
	receipt_add(&transfer->receipt, transfer->count++, &receipt);
	if (result == 0 && !signals_caught())
		return OUTCOME_DONE;
	progress_clear(&transfer->progress);
	if (signals_caught())
		return outcome_interrupted(&transfer->receipt);
	return failed(transfer, source, &receipt, result);
}

uint64_t transfer_size(const struct job *job, const struct endpoint *source)
{
	int64_t at = job->offset_given ? (int64_t)job->offset : lseek(source->fd, 0, SEEK_CUR);
	uint64_t bytes = PROGRESS_UNKNOWN;

	/* Files of /proc have the size 0 and are not empty. */
	if (endpoint_is_regular(source) && source->stat.st_size > 0 && at >= 0)
		bytes = at < source->stat.st_size ? (uint64_t)(source->stat.st_size - at) : 0;
	return job->limit_given && job->limit < bytes ? job->limit : bytes;
}

void outcome_die(enum outcome outcome)
{
	if (outcome == OUTCOME_STOPPED)
		signals_die(signals_caught());
	/* As cat(1) would: quietly by SIGPIPE, unless SIGPIPE is ignored. */
	if (outcome == OUTCOME_NO_READER)
		signals_die(SIGPIPE);
}

int transfer_finish(struct transfer *transfer, enum outcome outcome)
{
	const struct job *job = transfer->job;
	int status = outcome == OUTCOME_DONE    ? STATUS_DONE
		     : outcome == OUTCOME_UNMET ? STATUS_UNMET
						: STATUS_FAILED;

	progress_end(&transfer->progress, transfer->receipt.bytes_out);
	if (outcome == OUTCOME_UNMET && transfer->receipt.bytes_out == 0)
		endpoint_abandon(transfer->sink);
	/* After a failure of the sink its consequences are no news. */
	if ((outcome == OUTCOME_DONE || outcome == OUTCOME_SOURCE_FAILED) &&
	    !endpoint_close(transfer->sink))
		status = STATUS_FAILED;
	if (outcome != OUTCOME_STOPPED && signals_caught())
		outcome = outcome_interrupted(&transfer->receipt);
	if (job->receipt != RECEIPT_NONE && transfer->count > 0) {
		job_empty_receipt(job);
		if (!receipt_print(job->receipt_fd, job->receipt, &transfer->receipt))
			status = status == STATUS_DONE ? STATUS_FAILED : status;
	}
	outcome_die(outcome);
	if (outcome == OUTCOME_NO_READER)
		print_failure(transfer->sink->name, FID_SIDE_SINK, EPIPE, NULL);
	return status;
}
