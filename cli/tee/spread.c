/* SPDX-License-Identifier: MIT */
#include "clock.h"
#include "command.h"
#include "copy/transfer.h"
#include "signals.h"
#include "tee.h"
#include "unnamed.h"
#include "waits.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Opening ---- */

static bool open_spill(struct sink *sink)
{
	const char *folder = getenv("TMPDIR");
	char shown[512];
	int error;

	if (!folder || !*folder)
		folder = "/tmp";
	sink->spill = unnamed_open(AT_FDCWD, folder, O_RDWR, NULL);
	if (sink->spill >= 0)
		return true;
	error = errno;
	print_error("%s (folder of the spill file): %s",
		    print_name(shown, sizeof(shown), folder), strerror(error));
	print_hint("the variable TMPDIR names another");
	return false;
}

static bool sink_error(const struct sink *sink, int error)
{
	print_failure(sink->end.name, FID_SIDE_SINK, error, NULL);
	return false;
}

/* Whether a sink that is open may be used. */
static bool check(const struct tee *tee, const struct sink *sink)
{
	const struct job *job = &tee->job;
	int flags = fcntl(sink->end.fd, F_GETFL);
	char shown[512];

	if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY)
		return sink_error(sink, EBADF);
	if (endpoint_onto_itself(&tee->source, &sink->end,
				 job->offset_given ? (int64_t)job->offset : -1) ||
	    (endpoint_is_pipe(&tee->source) && endpoint_is(&tee->source, &sink->end.stat))) {
		print_error("%s (sink): it is standard input as well",
			    print_name(shown, sizeof(shown), sink->end.name));
		return false;
	}
	return true;
}

/* Opens all sinks and changes none. Returns an exit status: go on, or leave. */
static int open_sinks(struct tee *tee)
{
	for (size_t i = 0; i < tee->count; i++) {
		struct sink *sink = &tee->sinks[i];
		char shown[512];

		sink->ready = endpoint_open_sink(&sink->end, NULL, tee->job.append) &&
			      check(tee, sink);
		if (!sink->ready) {
			tee->status = STATUS_FAILED;
			if (tee->stop)
				return STATUS_FAILED;
			continue;
		}
		if (job_receipt_meets(&tee->job, &sink->end)) {
			print_error("the receipt would go into %s",
				    print_name(shown, sizeof(shown), sink->end.name));
			print_hint("--receipt-file wants a file of its own");
			return STATUS_USAGE;
		}
		/* A file takes what it is given. */
		if (tee->on_slow == FID_SLOW_SPILL && !endpoint_is_regular(&sink->end) &&
		    !open_spill(sink))
			return STATUS_FAILED;
	}
	return STATUS_DONE;
}

static int new_fan(struct tee *tee)
{
	const struct job *job = &tee->job;
	struct fid_fan_options fan_options = {
		.size = sizeof(fan_options),
		.flags = job->flags | FID_INTERRUPTIBLE | FID_GROW_PIPES,
		.routes = job->routes,
		.pipe_bytes = job->pipe_bytes,
		.bytes_max = job->limit_given ? job->limit : 0,
	};
	int error;

	if (job->limit_given && job->limit == 0)
		fan_options.flags |= FID_LIMIT_ZERO;
	if (job->offset_given) {
		fan_options.flags |= FID_SOURCE_OFFSET;
		fan_options.source_offset = job->offset;
	}
	/* A broken pipe that is no failure must not stop the rest. */
	if (tee->stop && tee->broken_pipe != BROKEN_PIPE_IS_QUIET)
		fan_options.flags |= FID_FAN_STOP;
	error = fid_fan_new(&tee->fan, tee->source.fd, &fan_options);
	if (error < 0)
		print_failure(tee->source.name, FID_SIDE_SOURCE, error, NULL);
	return error < 0 ? STATUS_FAILED : STATUS_DONE;
}

/* From here on files lose what they held. */
static int add_sinks(struct tee *tee)
{
	for (size_t i = 0; i < tee->count; i++) {
		struct sink *sink = &tee->sinks[i];
		struct fid_fan_sink_options sink_options = {
			.size = sizeof(sink_options),
			.stall_ms = tee->stall_ms,
		};

		if (!sink->ready)
			continue;
		if (tee->on_slow == FID_SLOW_DROP)
			sink_options.on_slow = FID_SLOW_DROP;
		if (sink->spill >= 0) {
			sink_options.on_slow = FID_SLOW_SPILL;
			sink_options.spill = sink->spill;
			sink_options.spill_bytes_max = tee->spill_bytes;
		}
		if (!tee->job.append && !endpoint_truncate(&sink->end)) {
			sink->number = -1;
		} else {
			sink->number = fid_fan_add(tee->fan, sink->end.fd, &sink_options);
			if (sink->number < 0)
				sink_error(sink, sink->number);
		}
		if (sink->number >= 0)
			continue;
		sink->ready = false;
		tee->status = STATUS_FAILED;
		if (tee->stop)
			return STATUS_FAILED;
	}
	return STATUS_DONE;
}

/* ---- Receipts ---- */

static bool put_receipts(FILE *to, const struct tee *tee, bool so_far)
{
	enum receipt_form form = tee->job.receipt == RECEIPT_JSON ? RECEIPT_JSON : RECEIPT_TEXT;
	bool json = form == RECEIPT_JSON;
	const char *before = so_far && !json ? "fid tee: so far: " : "";
	const char *between = "";
	bool put;

	fputs(before, to);
	fputs(!json ? "" : so_far ? "{\"so_far\":true,\"source\":" : "{\"source\":", to);
	put = receipt_put(to, form, tee->source.name, FID_SIDE_SOURCE, &tee->receipt);
	fputs(json ? ",\"sinks\":[" : "", to);
	for (size_t i = 0; put && i < tee->count; i++) {
		const struct sink *sink = &tee->sinks[i];

		if (!sink->ready)
			continue;
		fputs(between, to);
		fputs(before, to);
		between = json ? "," : "";
		put = receipt_put(to, form, sink->end.name, FID_SIDE_SINK, &sink->receipt);
	}
	fputs(json ? "]}\n" : "", to);
	return put;
}

/* Returns false after a message. */
static bool print_receipts(const struct tee *tee, int fd, bool so_far)
{
	char *text = NULL;
	size_t length;
	FILE *to = open_memstream(&text, &length);
	bool put = to && put_receipts(to, tee, so_far);

	if (!to || fclose(to) != 0 || !put) {
		print_error("no memory for the receipt");
		put = false;
	} else {
		put = print_text(fd, text);
	}
	free(text);
	return put;
}

/* The accounts as they are now, while there is a fan. */
static void take_receipts(struct tee *tee)
{
	if (!tee->fan)
		return;
	tee->receipt = *fid_fan_receipt(tee->fan);
	for (size_t i = 0; i < tee->count; i++)
		if (tee->sinks[i].ready)
			tee->sinks[i].receipt =
				*fid_fan_sink_receipt(tee->fan, tee->sinks[i].number);
}

/* What SIGUSR1 asks for. */
static void report(void *context)
{
	struct tee *tee = context;

	take_receipts(tee);
	progress_clear(&tee->progress);
	print_receipts(tee, STDERR_FILENO, true);
}

/* ---- Moving ---- */

/* A sink that took nothing for too long, and no connection that timed out. */
static bool was_dropped(const struct tee *tee, const struct fid_receipt *receipt)
{
	return receipt->error == -ETIMEDOUT && tee->on_slow != FID_SLOW_WAIT &&
	       receipt->error_call == FID_CALL_POLL;
}

static void tell_failure(struct tee *tee, struct sink *sink, const struct fid_receipt *receipt)
{
	char who[600], shown[512], moved[128];

	sink->failed = true;
	if (receipt->error == -EPIPE && tee->broken_pipe == BROKEN_PIPE_IS_QUIET)
		return;
	if (receipt->error == -EPIPE && tee->broken_pipe == BROKEN_PIPE_KILLS &&
	    tee_is_stdout(sink) && !signals_ignored(SIGPIPE)) {
		tee->no_reader = true;
		return;
	}
	tee->status = STATUS_FAILED;
	progress_clear(&tee->progress);
	snprintf(who, sizeof(who), "%s (sink)",
		 print_name(shown, sizeof(shown), sink->end.name));
	if (was_dropped(tee, receipt)) {
		print_error("%s: dropped, since it took nothing for so long; %s", who,
			    print_account(moved, sizeof(moved), receipt));
		print_hint("a longer --stall waits longer, and --on-slow=wait for ever");
	} else {
		print_end(who, sink->end.fd, receipt, receipt->error);
	}
}

/* Looks for sinks that have just failed. Returns whether that ends it all. */
static bool look_at_sinks(struct tee *tee)
{
	for (size_t i = 0; i < tee->count; i++) {
		struct sink *sink = &tee->sinks[i];
		const struct fid_receipt *receipt;

		if (!sink->ready || sink->failed)
			continue;
		receipt = fid_fan_sink_receipt(tee->fan, sink->number);
		if (receipt->error)
			tell_failure(tee, sink, receipt);
	}
	return tee->no_reader || (tee->stop && tee->status != STATUS_DONE);
}

/* Returns FID_MORE or a negative errno value. */
static int wait_for(const struct tee *tee, struct waits *waits, const struct fid_fan_wait *wait)
{
	uint64_t moved = fid_fan_receipt(tee->fan)->bytes_in, timeout_ns = UINT64_MAX;
	int result;

	for (size_t i = 0; i < tee->count; i++)
		if (tee->sinks[i].ready)
			moved +=
				fid_fan_sink_receipt(tee->fan, tee->sinks[i].number)->bytes_out;
	if (wait->timeout_ms >= 0)
		timeout_ns = (uint64_t)wait->timeout_ms * MILLISECOND_NS;
	result = waits_poll(waits, moved, wait->fds, wait->count, timeout_ns);
	return result < 0 ? result : FID_MORE;
}

/* As in copy/transfer.c. Returns 0, -EINTR for a signal, or what ended the fan. */
static int run(struct tee *tee, uint64_t expected)
{
	struct waits waits = {0};

	while (!signals_caught()) {
		struct fid_fan_wait wait;
		int result;

		signals_look();
		result = fid_fan_step(tee->fan, &wait);
		if (look_at_sinks(tee))
			return result < 0 ? result : 0;
		if (result == FID_WAIT)
			result = wait_for(tee, &waits, &wait);
		if (result != FID_MORE && result != -EINTR)
			return result;
		if (progress_due(&tee->progress))
			progress_tick(&tee->progress, fid_fan_receipt(tee->fan)->bytes_out,
				      expected);
	}
	return -EINTR;
}

/* What ended all, unless that was a sink, of which everything has been said. */
static void tell_end(struct tee *tee, int error)
{
	enum fid_side side = (enum fid_side)tee->receipt.error_side;
	char who[64];

	if (error == 0 || side == FID_SIDE_SINK)
		return;
	tee->status = STATUS_FAILED;
	progress_clear(&tee->progress);
	snprintf(who, sizeof(who), "%s%s", tee->source.name,
		 side == FID_SIDE_SOURCE ? " (source)" : "");
	print_end(who, tee->source.fd, &tee->receipt, error);
}

static enum outcome spread(struct tee *tee)
{
	const struct job *job = &tee->job;
	int result;

	if (job->progress == PROGRESS_ALWAYS)
		progress_begin(&tee->progress, true, job->label);
	signals_report_by(report, tee);
	signals_catch(tee->progress.wanted ? SIGNALS_TICK_MS : 0);
	result = run(tee, transfer_size(job, &tee->source));
	signals_release();
	take_receipts(tee);
	tee->fan = fid_fan_free(tee->fan);
	if (signals_caught()) {
		progress_clear(&tee->progress);
		return outcome_interrupted(&tee->receipt);
	}
	if (tee->no_reader)
		return OUTCOME_NO_READER;
	tell_end(tee, result);
	return OUTCOME_DONE;
}

/* ---- The end ---- */

/* All peers learn of the end before the first one is waited for. */
static void close_sinks(struct tee *tee)
{
	for (size_t i = 0; i < tee->count; i++)
		if (tee->sinks[i].ready && !tee->sinks[i].failed)
			endpoint_end(&tee->sinks[i].end);
	for (int sockets = 0; sockets < 2; sockets++) {
		for (size_t i = 0; i < tee->count; i++) {
			struct sink *sink = &tee->sinks[i];

			if (!sink->ready || sink->failed ||
			    S_ISSOCK(sink->end.stat.st_mode) != (sockets == 1))
				continue;
			if (!endpoint_close(&sink->end))
				tee->status = STATUS_FAILED;
		}
	}
}

static int finish(struct tee *tee, enum outcome outcome)
{
	progress_end(&tee->progress, tee->receipt.bytes_out);
	if (outcome == OUTCOME_DONE) {
		close_sinks(tee);
		if (signals_caught())
			outcome = outcome_interrupted(&tee->receipt);
	}
	signals_report_by(NULL, NULL);
	if (tee->job.receipt != RECEIPT_NONE) {
		job_empty_receipt(&tee->job);
		if (!print_receipts(tee, tee->job.receipt_fd, false))
			tee->status = STATUS_FAILED;
	}
	outcome_die(outcome);
	return tee->status;
}

static void abandon(struct tee *tee)
{
	for (size_t i = 0; i < tee->count; i++)
		endpoint_abandon(&tee->sinks[i].end);
}

/* Without any sink the input is read all the same, as tee(1) does it. */
static int add_nowhere(struct tee *tee)
{
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	int error = fd < 0 ? -errno : fid_fan_add(tee->fan, fd, NULL);

	if (error < 0)
		print_failure("/dev/null", FID_SIDE_SINK, error, NULL);
	return error < 0 ? STATUS_FAILED : STATUS_DONE;
}

static bool any_ready(const struct tee *tee)
{
	for (size_t i = 0; i < tee->count; i++)
		if (tee->sinks[i].ready)
			return true;
	return false;
}

int tee_spread(struct tee *tee)
{
	int status;

	if (tee->ignore_interrupts)
		signal(SIGINT, SIG_IGN);
	endpoint_parse(&tee->source, "-", FID_SIDE_SOURCE);
	if (!endpoint_open_source(&tee->source) || new_fan(tee) != STATUS_DONE ||
	    !job_open_receipt(&tee->job))
		return STATUS_FAILED;
	if (job_receipt_meets(&tee->job, &tee->source)) {
		print_error("the receipt would go into standard input");
		return STATUS_USAGE;
	}
	status = open_sinks(tee);
	if (status != STATUS_DONE) {
		abandon(tee);
		return status;
	}
	status = add_sinks(tee);
	if (status == STATUS_DONE && tee->count == 0)
		status = add_nowhere(tee);
	if (status != STATUS_DONE || (tee->count > 0 && !any_ready(tee)))
		return STATUS_FAILED;
	return finish(tee, spread(tee));
}
