/* SPDX-License-Identifier: MIT */
#include "transfer.h"

#include "clock.h"
#include "command.h"
#include "signals.h"
#include "sparse.h"
#include "tell.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
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

void transfer_begin(struct transfer *transfer, const struct job *job, bool quiet_by_itself)
{
	*transfer = (struct transfer){.job = job, .expected = PROGRESS_UNKNOWN};
	pace_begin(&transfer->pace, job->rate);
	if (job->progress == PROGRESS_ALWAYS ||
	    (job->progress == PROGRESS_BY_ITSELF && !quiet_by_itself))
		progress_begin(&transfer->progress, job->progress == PROGRESS_ALWAYS,
			       job->label);
	signals_report_by(tell_so_far, transfer);
}

bool transfer_takes_sink(const struct job *job, const struct endpoint *sink)
{
	char shown[512];

	if (job->sparse && !sparse_takes_sink(job, sink))
		return false;
	if (!job->sync || endpoint_can_sync(sink))
		return true;
	job_misused(job, "%s (sink): --sync wants a file or a disk; nothing else can be synced",
		    print_name(shown, sizeof(shown), sink->name));
	return false;
}

void transfer_to(struct transfer *transfer, struct endpoint *sink)
{
	transfer->sink = sink;
	transfer->sink_is_stdout = is_stdout(sink);
	transfer->sink_error = 0;
	transfer->sink_is_noisy = false;
	transfer->sink_began = transfer->receipt.bytes_out;
	sink->idle_ms = transfer->job->idle_ms;
}

enum outcome transfer_try(struct transfer *transfer, const struct endpoint *source)
{
	struct fid_options options = job_flow_options(transfer->job, UINT64_MAX);
	struct fid_receipt receipt = {0};
	struct fid_flow *flow = NULL;
	int error;

	/* That the one before stood still is no reason of this one. */
	transfer->idled = false;
	if (!transfer->job->digest)
		error = fid_flow_new(&flow, source->fd, transfer->sink->fd, &options, &receipt);
	else
		error = branch_open(transfer, source, &receipt);
	if (error == 0 && transfer->branch)
		error = branch_try(transfer->branch, transfer, source, &options, &receipt);
	fid_flow_free(flow);
	if (error == 0)
		return OUTCOME_DONE;
	receipt_add(&transfer->receipt, transfer->count++, &receipt);
	return outcome_of(transfer, source, &receipt, error);
}

void transfer_tick(struct transfer *transfer, uint64_t bytes)
{
	uint64_t total;

	if (!progress_due(&transfer->progress))
		return;
	if (transfer->expect) {
		transfer->expected = transfer->expect(transfer->context);
		transfer->expect = NULL;
	}
	total = transfer->expected;
	/* A hole takes no time: it is none of the bytes that are to come. */
	if (total != PROGRESS_UNKNOWN)
		total -= transfer->hole_bytes < total ? transfer->hole_bytes : total;
	progress_tick(&transfer->progress,
		      transfer->receipt.bytes_out + transfer->part.bytes_out + bytes, total);
}

/* From one look to the next at most a second counts: this process may have been stopped. */
bool transfer_stands_still(struct transfer *transfer, uint64_t bytes, bool waits)
{
	uint64_t limit_ns = transfer->job->idle_ms * MILLISECOND_NS, now;

	if (limit_ns == 0)
		return false;
	now = clock_ns();
	if (bytes != transfer->idle_bytes || !waits)
		transfer->idle_ns = 0;
	else
		transfer->idle_ns += now - transfer->looked_ns < SECOND_NS
					     ? now - transfer->looked_ns
					     : SECOND_NS;
	transfer->idle_bytes = bytes;
	transfer->looked_ns = now;
	transfer->idled = transfer->idle_ns >= limit_ns;
	return transfer->idled;
}

/*
 * Which side a flow that stands still waits for. A step that was asleep in a call has not told,
 * but the ends do: what was taken can only wait for the sink.
 */
static enum fid_side waits_for(const struct transfer *transfer, const struct endpoint *source,
			       const struct fid_receipt *receipt)
{
	struct pollfd input = {.fd = source->fd, .events = POLLIN};

	if (receipt->bytes_held > 0 || poll(&input, 1, 0) > 0)
		return FID_SIDE_SINK;
	return FID_SIDE_SOURCE;
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
	uint64_t bytes = pace_take(&transfer->pace, clock_ns());

	if (bytes == 0)
		return pace_wait_ns(&transfer->pace, clock_ns());
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
		const struct fid_receipt *receipt;
		struct pollfd wait[2];
		int result;

		signals_look();
		result = fid_flow_step(flow, wait);
		receipt = fid_flow_receipt(flow);
		if (transfer_stands_still(transfer, receipt->bytes_in + receipt->bytes_out,
					  result == FID_WAIT || result == -EINTR))
			return -ETIMEDOUT;
		if (result == FID_WAIT) {
			result = waits_poll(&transfer->waits,
					    receipt->bytes_in + receipt->bytes_out, wait, 2,
					    UINT64_MAX);
			result = result < 0 ? result : FID_MORE;
		}
		if (result == FID_PAUSED)
			result = keep_pace(transfer, flow);
		if (result != FID_MORE && result != -EINTR)
			return result;
		transfer_tick(transfer, receipt->bytes_out);
	}
	return -EINTR;
}

/* By one flow from end to end. Returns as a flow does. */
static int move_straight(struct transfer *transfer, const struct endpoint *source,
			 const struct fid_options *options, struct fid_receipt *ret_receipt)
{
	struct fid_flow *flow = NULL;
	int result = fid_flow_new(&flow, source->fd, transfer->sink->fd, options, ret_receipt);

	if (result < 0)
		return result;
	transfer->flow = flow;
	result = run(transfer, flow);
	*ret_receipt = *fid_flow_receipt(flow);
	transfer->flow = fid_flow_free(flow);
	return result;
}

/* With a digest of what goes by. Likewise. */
static int move_by_branch(struct transfer *transfer, const struct endpoint *source,
			  const struct fid_options *options, struct fid_receipt *ret_receipt)
{
	int result = branch_open(transfer, source, ret_receipt);

	return result < 0
		       ? result
		       : branch_run(transfer->branch, transfer, source, options, ret_receipt);
}

int transfer_move(struct transfer *transfer, const struct endpoint *source,
		  const struct fid_options *options)
{
	struct fid_receipt receipt = {0};
	int result;

	transfer->idle_ns = transfer->idle_bytes = 0;
	transfer->looked_ns = clock_ns();
	result = transfer->job->digest ? move_by_branch(transfer, source, options, &receipt)
				       : move_straight(transfer, source, options, &receipt);
	settle_pace(transfer, &receipt);
	if (transfer->idled) {
		receipt.error = -ETIMEDOUT;
		receipt.error_side = waits_for(transfer, source, &receipt);
		receipt.error_call = FID_CALL_POLL;
	}
	receipt_add(&transfer->part, transfer->parts++, &receipt);
	return result;
}

static bool is_direct(const struct endpoint *end)
{
	int flags = fcntl(end->fd, F_GETFL);

	return flags >= 0 && (flags & O_DIRECT);
}

/* How often to look, in milliseconds; 0: only when something happens. */
static unsigned ticks(const struct transfer *transfer)
{
	uint32_t idle_ms = transfer->job->idle_ms;

	if (idle_ms > 0 && idle_ms < 2 * SIGNALS_TICK_MS)
		return idle_ms > 20 ? idle_ms / 2 : 10;
	return idle_ms > 0 || transfer->progress.wanted ? SIGNALS_TICK_MS : 0;
}

enum outcome transfer_run(struct transfer *transfer, const struct endpoint *source,
			  uint64_t limit)
{
	struct fid_options options = job_flow_options(transfer->job, limit);
	struct fid_receipt receipt;
	int result;

	transfer->idled = false;
	if (is_direct(source) || is_direct(transfer->sink))
		pace_keep_pages(&transfer->pace);
	signals_catch(ticks(transfer));
	result = transfer->job->sparse ? sparse_move(transfer, source, &options, limit)
				       : transfer_move(transfer, source, &options);
	if (!signals_caught())
		signals_keep();
	signals_release();
	receipt = transfer->part;
	transfer->part = (struct fid_receipt){0};
	transfer->parts = 0;
	receipt_add(&transfer->receipt, transfer->count++, &receipt);
	if (result == 0 && !signals_caught())
		return OUTCOME_DONE;
	progress_clear(&transfer->progress);
	if (signals_caught())
		return outcome_interrupted(&transfer->receipt);
	return outcome_of(transfer, source, &receipt, result);
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

/* Returns what it failed with, or 0. */
static int sync_sink(struct transfer *transfer, struct endpoint *sink)
{
	uint64_t began_ns = clock_ns();
	bool synced;

	/* A signal is told of, and the receipt is printed, when the disk has answered. */
	signals_catch(0);
	synced = endpoint_sync(sink);
	signals_release();
	transfer->sync_ns += clock_ns() - began_ns;
	transfer->sync_failed |= !synced;
	return synced ? 0 : sink->error;
}

enum outcome transfer_end_sink(struct transfer *transfer, enum outcome outcome)
{
	struct endpoint *sink = transfer->sink;
	struct fid_receipt *receipt = &transfer->receipt;
	int error = 0;

	transfer->sink = NULL;
	if (outcome == OUTCOME_UNMET && receipt->bytes_out == transfer->sink_began)
		endpoint_abandon(sink);
	/* After a failure of the sink its consequences are no news. */
	if (outcome != OUTCOME_DONE && outcome != OUTCOME_SOURCE_FAILED)
		return outcome;
	if (transfer->job->sync)
		error = sync_sink(transfer, sink);
	if (!endpoint_close(sink) && !error)
		error = sink->error;
	if (!error)
		return outcome;
	/* Of two failures the receipt tells the first. */
	if (!receipt->error) {
		receipt->error = -error;
		receipt->error_side = FID_SIDE_SINK;
	}
	return OUTCOME_FAILED;
}

static int status_of(enum outcome outcome)
{
	return outcome == OUTCOME_DONE    ? STATUS_DONE
	       : outcome == OUTCOME_UNMET ? STATUS_UNMET
					  : STATUS_FAILED;
}

int transfer_finish(struct transfer *transfer, enum outcome outcome)
{
	struct digest_result digest = {.kind = transfer->job->digest};
	bool branched = transfer->branch != NULL;
	char *line = NULL;
	int status;

	signals_let_go();
	progress_end(&transfer->progress, transfer->receipt.bytes_out);
	if (branched) {
		digest = branch_end(transfer->branch);
		line = tell_line_of(transfer, &digest);
	}
	transfer->branch = NULL;
	if (transfer->sink)
		outcome = transfer_end_sink(transfer, outcome);
	/* While the sink was synced or its peer waited for. */
	if (outcome != OUTCOME_STOPPED && signals_caught())
		outcome = outcome_interrupted(&transfer->receipt);
	status = status_of(outcome);
	signals_look();
	signals_report_by(NULL, NULL);
	/* First of all: whoever should read the digest's line may have gone, which ends it. */
	if (!tell_receipt(transfer, &digest) && status == STATUS_DONE)
		status = STATUS_FAILED;
	if (branched && outcome != OUTCOME_NO_READER)
		status = tell_digest(transfer, &digest, line, status);
	free(line);
	outcome_die(outcome);
	if (outcome == OUTCOME_NO_READER)
		print_failure("standard output", FID_SIDE_SINK, EPIPE, NULL);
	return status;
}
