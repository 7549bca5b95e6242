/* SPDX-License-Identifier: MIT */
#include "transfer.h"

#include "command.h"
#include "signals.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Whether what is written to standard output would go into the sink. */
static bool is_stdout(const struct endpoint *sink)
{
	struct stat stat;

	return sink->fd == STDOUT_FILENO ||
	       (fstat(STDOUT_FILENO, &stat) == 0 && !S_ISCHR(stat.st_mode) &&
		endpoint_is(sink, &stat));
}

void transfer_begin(struct transfer *transfer, const struct job *job, struct endpoint *sink,
		    bool quiet_by_itself)
{
	*transfer = (struct transfer){.job = job, .sink = sink, .expected = PROGRESS_UNKNOWN};
	transfer->sink_is_stdout = is_stdout(sink);
	pace_begin(&transfer->pace, job->rate);
	if (job->progress == PROGRESS_ALWAYS ||
	    (job->progress == PROGRESS_BY_ITSELF && !quiet_by_itself))
		progress_begin(&transfer->progress, job->progress == PROGRESS_ALWAYS);
}

static struct fid_options options_for(const struct transfer *transfer,
				      const struct endpoint *source, uint64_t limit)
{
	const struct job *job = transfer->job;
	struct fid_options options = {
		.size = sizeof(options),
		.flags = job->flags | FID_INTERRUPTIBLE | FID_GROW_PIPES |
			 (job->rate > 0 ? FID_PACED : 0),
		.routes = job->routes,
		.require = job->require,
		.pipe_bytes = job->pipe_bytes,
	};

	if (job->offset_given) {
		options.flags |= FID_SOURCE_OFFSET;
		options.source_offset = job->offset;
	}
	if (limit != UINT64_MAX) {
		options.flags |= limit == 0 ? FID_LIMIT_ZERO : 0;
		options.bytes_max = limit;
	}
	return options;
}

static enum outcome unmet(const struct transfer *transfer, const struct endpoint *source,
			  const struct fid_receipt *receipt)
{
	bool require = transfer->job->require != FID_REQUIRE_NOTHING &&
		       (receipt->require_unmet || !transfer->job->routes);
	char from[256], to[256], moved[128];

	print_name(from, sizeof(from), source->name);
	print_name(to, sizeof(to), transfer->sink->name);
	print_account(moved, sizeof(moved), receipt);
	if (require)
		print_error("%s cannot be met from %s to %s%s%s; %s",
			    transfer->job->require == FID_REQUIRE_BY_REFERENCE
				    ? "--require by-reference"
				    : "--require no-user-copy",
			    from, to, receipt->reason ? ": " : "",
			    receipt->reason ? receipt->reason : "", moved);
	else
		print_error("no route of --route leads from %s to %s%s%s; %s", from, to,
			    receipt->reason ? ": " : "", receipt->reason ? receipt->reason : "",
			    moved);
	if (!require)
		print_hint_for(EOPNOTSUPP, FID_SIDE_FID);
	else if (endpoint_is_regular(source) && endpoint_is_regular(transfer->sink) &&
		 transfer->sink->stat.st_size > 0 && !transfer->job->digest &&
		 !transfer->job->rate)
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
		return unmet(transfer, source, receipt);
	if (error == -EPIPE && side != FID_SIDE_SOURCE && transfer->sink->fd == STDOUT_FILENO)
		return OUTCOME_NO_READER;
	blame(transfer, source, side, who, sizeof(who));
	print_end(who, guilty->fd, receipt, error);
	return side == FID_SIDE_SOURCE ? OUTCOME_SOURCE_FAILED : OUTCOME_FAILED;
}

/* The way that would be tried first without a digest. */
static enum fid_method first_way(const struct endpoint *source, const struct endpoint *sink,
				 const struct fid_options *options)
{
	struct fid_ladder ladder;
	struct fid_end from, to;

	if (fid_end_look(source->fd, &from) < 0 || fid_end_look(sink->fd, &to) < 0)
		return FID_READ_WRITE;
	from.offset_given = options->flags & FID_SOURCE_OFFSET;
	/* It is empty by then. */
	to.size = to.append ? to.size : 0;
	if (fid_route(&from, &to, options, NULL, &ladder, NULL) < 0 || ladder.count == 0)
		return FID_READ_WRITE;
	return (enum fid_method)ladder.rung[0].method;
}

/* With the first source. Returns 0 or a negative errno value. */
static int open_branch(struct transfer *transfer, const struct endpoint *source,
		       const struct fid_options *options, struct fid_receipt *ret_receipt)
{
	const struct job *job = transfer->job;
	int error;

	if (transfer->branch)
		return 0;
	transfer->direct = first_way(source, transfer->sink, options);
	error = branch_new(&transfer->branch, job->digest, job->pipe_bytes);
	if (error < 0)
		*ret_receipt = (struct fid_receipt){
			.error = error,
			.error_side = FID_SIDE_FID,
			.error_call = FID_CALL_PIPE,
			.source_changed = -1,
		};
	return error;
}

enum outcome transfer_try(struct transfer *transfer, const struct endpoint *source)
{
	struct fid_options options = options_for(transfer, source, UINT64_MAX);
	struct fid_receipt receipt = {0};
	struct fid_flow *flow = NULL;
	int error;

	if (!transfer->job->digest)
		error = fid_flow_new(&flow, source->fd, transfer->sink->fd, &options, &receipt);
	else
		error = open_branch(transfer, source, &options, &receipt);
	if (error == 0 && transfer->branch)
		error = branch_try(transfer->branch, transfer, source, &options, &receipt);
	fid_flow_free(flow);
	if (error == 0)
		return OUTCOME_DONE;
	receipt_add(&transfer->receipt, transfer->count++, &receipt);
	return failed(transfer, source, &receipt, error);
}

void transfer_tick(struct transfer *transfer, uint64_t bytes)
{
	if (!progress_due(&transfer->progress))
		return;
	if (transfer->expect) {
		transfer->expected = transfer->expect(transfer->context);
		transfer->expect = NULL;
	}
	progress_tick(&transfer->progress, transfer->receipt.bytes_out + bytes,
		      transfer->expected);
}

/* ---- Pace ---- */

/* What events that nobody asked for mean: 0, or the error that the sink has died of. */
static int sink_error(const struct endpoint *sink, short events)
{
	socklen_t length = sizeof(int);
	int error = 0;

	if (S_ISSOCK(sink->stat.st_mode)) {
		getsockopt(sink->fd, SOL_SOCKET, SO_ERROR, &error, &length);
		/* POLLERR alone is also an error queue that holds something. */
		if (error == 0 && !(events & POLLHUP))
			return 0;
	}
	return error ? -error : -EPIPE;
}

/*
 * All that was granted is delivered, and there is more to grant only later. Sleeps until then,
 * and watches the sink: the flow would see it die at its next step. Returns FID_MORE, -EINTR,
 * or the error that the sink has died of, with nothing taken that it would not get.
 */
static int sleep_for_pace(struct transfer *transfer, uint64_t timeout_ns)
{
	const struct endpoint *sink = transfer->sink;
	bool may_die = endpoint_is_pipe(sink) || S_ISSOCK(sink->stat.st_mode);
	struct pollfd watched = {.fd = may_die && !transfer->sink_is_noisy ? sink->fd : -1};
	int result = signals_poll(&watched, 1, timeout_ns);

	if (result <= 0)
		return result < 0 ? result : FID_MORE;
	transfer->sink_error = sink_error(sink, watched.revents);
	transfer->sink_is_noisy = transfer->sink_error == 0;
	return transfer->sink_error ? transfer->sink_error : FID_MORE;
}

uint64_t transfer_grant(struct transfer *transfer, struct fid_flow *flow)
{
	uint64_t bytes = pace_take(&transfer->pace, now_ns());

	if (bytes == 0)
		return pace_wait_ns(&transfer->pace, now_ns());
	transfer->granted += bytes;
	fid_flow_grant(flow, bytes);
	return 0;
}

/* Grants what the pace allows now, or waits for it. Returns as sleep_for_pace() does. */
static int keep_pace(struct transfer *transfer, struct fid_flow *flow)
{
	uint64_t timeout_ns = transfer_grant(transfer, flow);

	return timeout_ns > 0 ? sleep_for_pace(transfer, timeout_ns) : FID_MORE;
}

/* What was granted and not taken is for the next source. */
static void settle_pace(struct transfer *transfer, struct fid_receipt *receipt)
{
	if (transfer->granted > receipt->bytes_in)
		pace_give_back(&transfer->pace, transfer->granted - receipt->bytes_in);
	transfer->granted = 0;
	if (!transfer->sink_error)
		return;
	receipt->error = transfer->sink_error;
	receipt->error_side = FID_SIDE_SINK;
	receipt->error_call = FID_CALL_POLL;
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
		if (result == FID_PAUSED)
			result = keep_pace(transfer, flow);
		if (result != FID_MORE && result != -EINTR)
			return result;
		transfer_tick(transfer, fid_flow_receipt(flow)->bytes_out);
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

/* One flow, or a branch. Returns as a flow does. */
static int move(struct transfer *transfer, const struct endpoint *source,
		const struct fid_options *options, struct fid_receipt *ret_receipt)
{
	struct fid_flow *flow = NULL;
	int result;

	if (transfer->job->digest) {
		result = open_branch(transfer, source, options, ret_receipt);
		return result == 0 ? branch_run(transfer->branch, transfer, source, options,
						ret_receipt)
				   : result;
	}
	result = fid_flow_new(&flow, source->fd, transfer->sink->fd, options, ret_receipt);
	if (result == 0) {
		result = run(transfer, flow);
		*ret_receipt = *fid_flow_receipt(flow);
		fid_flow_free(flow);
	}
	return result;
}

enum outcome transfer_run(struct transfer *transfer, const struct endpoint *source,
			  uint64_t limit)
{
	struct fid_options options = options_for(transfer, source, limit);
	struct fid_receipt receipt = {0};
	int result;

	signals_catch(transfer->progress.wanted);
	result = move(transfer, source, &options, &receipt);
	settle_pace(transfer, &receipt);
	signals_release();
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

/* ---- The end ---- */

/* The line for a checksum file; it has to be made while the sink has its name. NULL: none. */
static char *line_of(const struct transfer *transfer, const struct digest_result *digest)
{
	const struct endpoint *sink = transfer->sink;

	if (!digest->value[0])
		return NULL;
	return digest_line(digest, transfer->sink_is_stdout && sink->kind != ENDPOINT_PATH
					   ? "-"
					   : sink->name);
}

/* It goes where results go and no receipt has gone. */
static bool print_digest(const struct transfer *transfer, const char *line)
{
	const struct job *job = transfer->job;
	bool receipt = job->receipt != RECEIPT_NONE;
	bool elsewhere = transfer->sink_is_stdout ||
			 (receipt && job->receipt_fd == STDOUT_FILENO);
	int fd = elsewhere ? STDERR_FILENO : STDOUT_FILENO;

	return (receipt && job->receipt_fd == fd) || print_text(fd, line);
}

/* What became of the digest. Returns the exit status. */
static int tell_digest(const struct transfer *transfer, const struct digest_result *digest,
		       const char *line, int status)
{
	const struct fid_receipt *receipt = &transfer->receipt;

	if (!line) {
		print_error("the digest failed: there is none of the %" PRIu64
			    " bytes delivered",
			    receipt->bytes_out);
		return status == STATUS_DONE ? STATUS_FAILED : status;
	}
	/* What did not come to its end gets no line that looks as if it had. */
	if (status == STATUS_DONE)
		return print_digest(transfer, line) ? STATUS_DONE : STATUS_FAILED;
	if (receipt->bytes_out > 0 && transfer->job->receipt == RECEIPT_NONE)
		print_error("%s of the %" PRIu64 " bytes delivered: %s", digest->kind->name,
			    receipt->bytes_out, digest->value);
	return status;
}

static bool print_receipt(const struct transfer *transfer, const struct digest_result *digest)
{
	const struct job *job = transfer->job;
	char more[DIGEST_TEXT];

	job_empty_receipt(job);
	if (digest->kind)
		digest_describe(more, digest, job->receipt == RECEIPT_JSON,
				fid_method_name(transfer->direct));
	return receipt_print(job->receipt_fd, job->receipt, &transfer->receipt,
			     digest->kind ? more : NULL);
}

int transfer_finish(struct transfer *transfer, enum outcome outcome)
{
	const struct job *job = transfer->job;
	struct digest_result digest = {.kind = job->digest};
	bool branched = transfer->branch != NULL;
	char *line = NULL;
	int status = outcome == OUTCOME_DONE    ? STATUS_DONE
		     : outcome == OUTCOME_UNMET ? STATUS_UNMET
						: STATUS_FAILED;

	progress_end(&transfer->progress, transfer->receipt.bytes_out);
	if (branched) {
		digest = branch_end(transfer->branch);
		line = line_of(transfer, &digest);
	}
	transfer->branch = NULL;
	if (outcome == OUTCOME_UNMET && transfer->receipt.bytes_out == 0)
		endpoint_abandon(transfer->sink);
	/* After a failure of the sink its consequences are no news. */
	if ((outcome == OUTCOME_DONE || outcome == OUTCOME_SOURCE_FAILED) &&
	    !endpoint_close(transfer->sink))
		status = STATUS_FAILED;
	if (outcome != OUTCOME_STOPPED && signals_caught())
		outcome = outcome_interrupted(&transfer->receipt);
	if (branched && outcome != OUTCOME_NO_READER)
		status = tell_digest(transfer, &digest, line, status);
	free(line);
	if (job->receipt != RECEIPT_NONE && transfer->count > 0 &&
	    !print_receipt(transfer, &digest))
		status = status == STATUS_DONE ? STATUS_FAILED : status;
	outcome_die(outcome);
	if (outcome == OUTCOME_NO_READER)
		print_failure(transfer->sink->name, FID_SIDE_SINK, EPIPE, NULL);
	return status;
}
