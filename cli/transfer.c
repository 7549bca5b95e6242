/* SPDX-License-Identifier: MIT */
#include "transfer.h"

#include "clock.h"
#include "command.h"
#include "signals.h"
#include "sparse.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Adds to one of the notes. */
__attribute__((format(printf, 3, 4))) static void add(char *text, size_t capacity,
						      const char *format, ...)
{
	size_t length = strlen(text);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text + length, capacity - length, format, arguments);
	va_end(arguments);
}

static struct receipt_notes take_notes(const struct transfer *transfer, bool so_far)
{
	struct receipt_notes notes = {.so_far = so_far};
	bool synced = transfer->sync_ns > 0 && !transfer->sync_failed;
	uint64_t tenths = transfer->sync_ns / (MILLISECOND_NS / 10);
	char size[PRINT_SIZE];

	if (transfer->job->sparse)
		add(notes.members, sizeof(notes.members), ",\"hole_bytes\":%" PRIu64,
		    transfer->hole_bytes);
	if (transfer->hole_bytes > 0)
		add(notes.words, sizeof(notes.words), "; %s of holes left as holes",
		    print_size(size, transfer->hole_bytes));
	if (transfer->job->sync && !synced)
		add(notes.members, sizeof(notes.members), ",\"sync_seconds\":null");
	if (!synced)
		return notes;
	add(notes.members, sizeof(notes.members), ",\"sync_seconds\":%" PRIu64 ".%09" PRIu64,
	    transfer->sync_ns / SECOND_NS, transfer->sync_ns % SECOND_NS);
	add(notes.words, sizeof(notes.words),
	    "; on the disk after %" PRIu64 ".%" PRIu64 " ms more", tenths / 10, tenths % 10);
	return notes;
}

/* What SIGUSR1 asks for. */
static void report(void *context)
{
	struct transfer *transfer = context;
	enum receipt_form form = transfer->job->receipt == RECEIPT_JSON ? RECEIPT_JSON
									: RECEIPT_TEXT;
	struct receipt_notes notes = take_notes(transfer, true);
	struct fid_receipt part = transfer->part, all = transfer->receipt;

	if (transfer->flow)
		receipt_add(&part, transfer->parts, fid_flow_receipt(transfer->flow));
	if (transfer->flow || transfer->parts > 0)
		receipt_add(&all, transfer->count, &part);
	progress_clear(&transfer->progress);
	receipt_print(STDERR_FILENO, form, &all, &notes);
}

void transfer_begin(struct transfer *transfer, const struct job *job, bool quiet_by_itself)
{
	*transfer = (struct transfer){.job = job, .expected = PROGRESS_UNKNOWN};
	if (job->progress == PROGRESS_ALWAYS ||
	    (job->progress == PROGRESS_BY_ITSELF && !quiet_by_itself))
		progress_begin(&transfer->progress, job->progress == PROGRESS_ALWAYS,
			       job->label);
	signals_report_by(report, transfer);
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
	transfer->sink_began = transfer->receipt.bytes_out;
	sink->idle_ms = transfer->job->idle_ms;
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
	if (transfer->idled)
		return stood_still(transfer, receipt, who);
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
		      transfer->receipt.bytes_out + transfer->part.bytes_out +
			      fid_flow_receipt(flow)->bytes_out,
		      total);
}

/*
 * Whether nothing has moved for so long that it is to end. From one look to the next at most a
 * second counts, for this process may have been stopped meanwhile, and the others not.
 */
static bool stands_still(struct transfer *transfer, struct fid_flow *flow, int result)
{
	uint64_t limit_ns = transfer->job->idle_ms * MILLISECOND_NS, now, bytes;

	if (limit_ns == 0)
		return false;
	now = clock_ns();
	bytes = fid_flow_receipt(flow)->bytes_in + fid_flow_receipt(flow)->bytes_out;
	if (bytes != transfer->idle_bytes || (result != FID_WAIT && result != -EINTR))
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

/*
 * Steps until the flow ends, with a look at signals and at the progress line between steps. A
 * step may sleep in a call on a descriptor that is inherited and blocks. A signal ends any
 * sleep, and the timer of signals_catch() does where a line is due or the signal came just
 * before. Returns 0, -EINTR for a signal that ends the program, or what ended the flow.
 */
static int run(struct transfer *transfer, struct fid_flow *flow)
{
	transfer->idle_ns = transfer->idle_bytes = 0;
	transfer->looked_ns = clock_ns();
	while (!signals_caught()) {
		struct pollfd wait[2];
		int result;

		signals_look();
		result = fid_flow_step(flow, wait);
		if (stands_still(transfer, flow, result))
			return -ETIMEDOUT;
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

int transfer_move(struct transfer *transfer, const struct endpoint *source,
		  const struct fid_options *options)
{
	struct fid_receipt receipt = {0};
	struct fid_flow *flow = NULL;
	int result = fid_flow_new(&flow, source->fd, transfer->sink->fd, options, &receipt);

	if (result == 0) {
		transfer->flow = flow;
		result = run(transfer, flow);
		receipt = *fid_flow_receipt(flow);
		transfer->flow = fid_flow_free(flow);
	}
	if (transfer->idled) {
		receipt.error = -ETIMEDOUT;
		receipt.error_side = waits_for(transfer, source, &receipt);
		receipt.error_call = FID_CALL_POLL;
	}
	receipt_add(&transfer->part, transfer->parts++, &receipt);
	return result;
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
	signals_catch(ticks(transfer));
	result = transfer->job->sparse ? sparse_move(transfer, source, &options, limit)
				       : transfer_move(transfer, source, &options);
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

int transfer_finish(struct transfer *transfer, enum outcome outcome)
{
	const struct job *job = transfer->job;
	struct receipt_notes notes;
	int status;

	progress_end(&transfer->progress, transfer->receipt.bytes_out);
	if (transfer->sink)
		outcome = transfer_end_sink(transfer, outcome);
	status = outcome == OUTCOME_DONE    ? STATUS_DONE
		 : outcome == OUTCOME_UNMET ? STATUS_UNMET
					    : STATUS_FAILED;
	if (outcome != OUTCOME_STOPPED && signals_caught())
		outcome = outcome_interrupted(&transfer->receipt);
	signals_look();
	signals_report_by(NULL, NULL);
	notes = take_notes(transfer, false);
	if (job->receipt != RECEIPT_NONE && transfer->count > 0) {
		job_empty_receipt(job);
		if (!receipt_print(job->receipt_fd, job->receipt, &transfer->receipt, &notes))
			status = status == STATUS_DONE ? STATUS_FAILED : status;
	}
	outcome_die(outcome);
	if (outcome == OUTCOME_NO_READER)
		print_failure("standard output", FID_SIDE_SINK, EPIPE, NULL);
	return status;
}
