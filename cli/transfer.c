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
	struct fid_receipt part = transfer->part, all = transfer->receipt, now;

	if (transfer->flow || transfer->passage) {
		now = transfer->flow ? *fid_flow_receipt(transfer->flow)
				     : branch_so_far(transfer->passage);
		receipt_add(&part, transfer->parts, &now);
		receipt_add(&all, transfer->count, &part);
	} else if (transfer->parts > 0) {
		receipt_add(&all, transfer->count, &part);
	}
	progress_clear(&transfer->progress);
	receipt_print(STDERR_FILENO, form, &all, &notes);
}

void transfer_begin(struct transfer *transfer, const struct job *job, bool quiet_by_itself)
{
	*transfer = (struct transfer){.job = job, .expected = PROGRESS_UNKNOWN};
	pace_begin(&transfer->pace, job->rate);
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
	transfer->sink_is_stdout = is_stdout(sink);
	transfer->sink_error = 0;
	transfer->sink_is_noisy = false;
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
	struct fid_options options = job_flow_options(transfer->job, UINT64_MAX);
	struct fid_receipt receipt = {0};
	struct fid_flow *flow = NULL;
	int error;

	/* That the one before stood still is no reason of this one. */
	transfer->idled = false;
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
		if (result == FID_WAIT)
			result = poll(wait, 2, -1) < 0 ? -errno : FID_MORE;
		if (result == FID_PAUSED)
			result = keep_pace(transfer, flow);
		if (result != FID_MORE && result != -EINTR)
			return result;
		transfer_tick(transfer, receipt->bytes_out);
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
	int result = open_branch(transfer, source, options, ret_receipt);

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

static void note_digest(const struct transfer *transfer, const struct digest_result *digest,
			struct receipt_notes *notes)
{
	const char *way = fid_method_name(transfer->direct);
	char text[DIGEST_TEXT];

	digest_describe(text, digest, true, way);
	add(notes->members, sizeof(notes->members), ",%s", text);
	digest_describe(text, digest, false, way);
	add(notes->sentence, sizeof(notes->sentence), " %s", text);
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

/* Where one is asked for. Returns false after a message. */
static bool print_receipt(const struct transfer *transfer, const struct digest_result *digest)
{
	const struct job *job = transfer->job;
	struct receipt_notes notes = take_notes(transfer, false);

	if (job->receipt == RECEIPT_NONE || transfer->count == 0)
		return true;
	if (digest->kind)
		note_digest(transfer, digest, &notes);
	job_empty_receipt(job);
	return receipt_print(job->receipt_fd, job->receipt, &transfer->receipt, &notes);
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

	progress_end(&transfer->progress, transfer->receipt.bytes_out);
	if (branched) {
		digest = branch_end(transfer->branch);
		line = line_of(transfer, &digest);
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
	if (!print_receipt(transfer, &digest) && status == STATUS_DONE)
		status = STATUS_FAILED;
	if (branched && outcome != OUTCOME_NO_READER)
		status = tell_digest(transfer, &digest, line, status);
	free(line);
	outcome_die(outcome);
	if (outcome == OUTCOME_NO_READER)
		print_failure("standard output", FID_SIDE_SINK, EPIPE, NULL);
	return status;
}
