/* SPDX-License-Identifier: MIT */
/*
 * Fans as the caller sees them: made, stepped or run, ended. feed.c brings bytes to the sinks;
 * what delivers them is a flow for each sink, which has no source but is fed. So a fan's sinks
 * fall back, fail and account as any flow does.
 */
#include "flow/fan_state.h"
#include "flow/judge.h"
#include "flow/machine.h"
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FLAGS_KNOWN                                                                         \
	(FID_STABLE | FID_NOWAIT | FID_INTERRUPTIBLE | FID_LIMIT_ZERO | FID_SOURCE_OFFSET | \
	 FID_GROW_PIPES | FID_FAN_STOP)

enum {
	STALL_MS = 1000,
	PIPE_BYTES = 1 << 20,
	GROW_BYTES = 256 << 10,
};

/* ---- Making ---- */

static bool only_copies(const struct fid_fan_options *options)
{
	return options->routes == FID_ROUTE(FID_READ_WRITE);
}

static int examine_source(struct fid_fan *fan, const struct fid_fan_options *options)
{
	struct fid_end *end = &fan->source_end;
	struct fid_stat stat;
	enum fid_call call;
	int got = fid_end_examine(fan->kernel, fan->source, end, &stat, &call);

	if (got < 0)
		return got;
	if (!end->readable)
		return -EBADF;
	if (fan->source_at >= 0 &&
	    (end->kind == FID_KIND_PIPE || end->kind == FID_KIND_TERMINAL ||
	     fid_kind_is_socket(end->kind)))
		return -ESPIPE;
	if (only_copies(options))
		fan->input = INPUT_READ;
	else if (end->kind == FID_KIND_PIPE && !(options->flags & FID_STABLE))
		fan->input = INPUT_TEE;
	else
		fan->input = INPUT_PIPE;
	return 0;
}

int fid_fan_new_on(struct fid_kernel *kernel, struct fid_fan **ret_fan, int source,
		   const struct fid_fan_options *options)
{
	struct fid_fan_options ours;
	struct fid_fan *fan;
	int got = fid_options_take(&ours, sizeof(ours), options, sizeof(size_t));

	if (got < 0)
		return got;
	if (!ret_fan || ours.flags & ~FLAGS_KNOWN || (ours.routes && !only_copies(&ours)) ||
	    ours.source_offset > INT64_MAX)
		return -EINVAL;
	if (!ours.pool && kernel == fid_linux())
		ours.pool = fid_pool_default();
	fan = ours.pool ? calloc(1, sizeof(*fan)) : NULL;
	if (!fan)
		return -ENOMEM;
	fan->kernel = kernel;
	fan->pool = ours.pool;
	fan->source = source;
	fan->source_at = ours.source_offset || ours.flags & FID_SOURCE_OFFSET
				 ? (int64_t)ours.source_offset
				 : FID_OWN_OFFSET;
	fan->flags = ours.flags;
	fan->bytes_max = ours.bytes_max || ours.flags & FID_LIMIT_ZERO ? ours.bytes_max
								       : UINT64_MAX;
	fan->total = fan->bytes_max;
	fan->pipe_bytes = ours.pipe_bytes ? ours.pipe_bytes : PIPE_BYTES;
	fan->grow_bytes = ours.pipe_bytes ? ours.pipe_bytes : GROW_BYTES;
	fan->pipe = FID_PIPE_NONE;
	fan->filler_stuck_at = UINT64_MAX;
	fan->receipt.source_changed = -1;
	fan->receipt.stable = 1;
	fan->started_ns = kernel->now_ns(kernel);
	got = examine_source(fan, &ours);
	if (got < 0) {
		free(fan);
		return got;
	}
	*ret_fan = fan;
	return 0;
}

int fid_fan_new(struct fid_fan **ret_fan, int source, const struct fid_fan_options *options)
{
	return fid_fan_new_on(fid_linux(), ret_fan, source, options);
}

static int check_sink_options(const struct fid_fan_sink_options *options)
{
	if (options->flags & ~FID_SINK_OFFSET || options->on_slow > FID_SLOW_SPILL ||
	    options->sink_offset > INT64_MAX)
		return -EINVAL;
	if (options->on_slow != FID_SLOW_SPILL &&
	    (options->spill > 0 || options->spill_bytes_max))
		return -EINVAL;
	return 0;
}

/*
 * Room for one more sink. All have it from the beginning, in pages that nobody touches before,
 * so that a receipt stays where it is.
 */
static struct fan_sink *new_sink(struct fid_fan *fan)
{
	if (!fan->sinks)
		fan->sinks = calloc(FID_FAN_SINKS_MAX, sizeof(*fan->sinks));
	return fan->sinks ? &fan->sinks[fan->count] : NULL;
}

int fid_fan_add(struct fid_fan *fan, int sink, const struct fid_fan_sink_options *options)
{
	struct fid_fan_sink_options ours;
	struct fid_options into = {.pool = fan->pool};
	const struct fid_end *end;
	struct fan_sink *added;
	int got = fid_options_take(&ours, sizeof(ours), options, sizeof(size_t));

	if (got == 0)
		got = fan->started ? -EINVAL : check_sink_options(&ours);
	if (got < 0)
		return got;
	if (fan->count >= FID_FAN_SINKS_MAX)
		return -ENOSPC;
	added = new_sink(fan);
	if (!added)
		return -ENOMEM;
	into.flags = ours.flags & FID_SINK_OFFSET;
	into.sink_offset = ours.sink_offset;
	/* A pipe is stable if what enters the window is: see start(). */
	got = fid_flow_new_fed(fan->kernel, &added->flow, sink, &into,
			       fan->flags & FID_STABLE || fan->input == INPUT_READ);
	if (got < 0)
		return got;
	end = &added->flow->sink_end;
	added->direct = end->kind == FID_KIND_PIPE;
	added->on_slow = (uint8_t)ours.on_slow;
	added->stall_ms = ours.stall_ms;
	if (ours.on_slow == FID_SLOW_DROP && !ours.stall_ms)
		added->stall_ms = STALL_MS;
	if (added->direct && fan->source_end.kind == FID_KIND_PIPE &&
	    end->device == fan->source_end.device && end->inode == fan->source_end.inode)
		got = -EINVAL;
	if (got == 0 && ours.on_slow == FID_SLOW_SPILL)
		got = fid_spill_new(fan, added, &ours);
	if (got < 0) {
		fid_flow_free(added->flow);
		memset(added, 0, sizeof(*added));
		return got;
	}
	return (int)fan->count++;
}

/* The private pipe, and the flow that fills it from the source. */
static int start_filler(struct fid_fan *fan)
{
	struct fid_options options = {
		.size = sizeof(options),
		.flags = FID_NOWAIT | (fan->flags & (FID_STABLE | FID_LIMIT_ZERO)),
		.bytes_max = fan->bytes_max == UINT64_MAX ? 0 : fan->bytes_max,
		.pool = fan->pool,
	};
	int got = fid_pool_pipe_take(fan->pool, fan->pipe_bytes, &fan->pipe);

	if (got < 0)
		return got;
	fan->receipt.pipe_bytes = fan->pipe.capacity;
	fan->receipt.pipe_bytes_asked = fan->pipe_bytes;
	if (fan->source_at >= 0) {
		options.flags |= FID_SOURCE_OFFSET;
		options.source_offset = (uint64_t)fan->source_at;
	}
	got = fid_flow_new_on(fan->kernel, &fan->filler, fan->source, fan->pipe.write_end,
			      &options, NULL);
	if (got < 0) {
		fid_pool_pipe_give(fan->pool, &fan->pipe);
		return got;
	}
	fan->filler->running = true;
	fan->filler->quiet.sigpipe.held = true; /* as all of them, in a step */
	return 0;
}

/* What the sinks are decides how the source is taken. */
int fid_fan_start(struct fid_fan *fan)
{
	bool splices = false;
	int got;

	fan->started = true;
	fan->live = fan->count;
	fan->fds = calloc(fan->count + 1, sizeof(*fan->fds));
	fan->owner = calloc(fan->count + 1, sizeof(*fan->owner));
	if (!fan->fds || !fan->owner)
		return -ENOMEM;
	for (uint32_t i = 0; i < fan->count; i++)
		splices |= fan->sinks[i].flow->ladder.rung[0].method != FID_READ_WRITE;
	/* A pipe between two copies would be a third. */
	if (!splices)
		fan->input = INPUT_READ;
	if (fan->input == INPUT_PIPE) {
		got = start_filler(fan);
		if (got < 0 && got != -ENOBUFS && got != -ENOSPC && got != -EMFILE &&
		    got != -ENFILE && got != -EPERM && got != -ENOSYS && got != -ENOMEM)
			return got;
		if (got < 0)
			fan->input = INPUT_READ;
	}
	fan->copying = fan->input == INPUT_READ;
	fan->stable = fan->flags & FID_STABLE || fan->copying;
	if (!(fan->flags & FID_GROW_PIPES))
		return 0;
	if (fan->source_end.kind == FID_KIND_PIPE)
		fid_pipe_grow(fan->kernel, fan->source, fan->grow_bytes);
	for (uint32_t i = 0; i < fan->count; i++)
		if (fan->sinks[i].direct)
			fid_pipe_grow(fan->kernel, fan->sinks[i].flow->sink, fan->grow_bytes);
	return 0;
}

/* ---- The account, and the end ---- */

/* Up to where every sink has the bytes. With no sink alive that does not move, unless one has
 * all. */
static uint64_t given_to_all(const struct fid_fan *fan)
{
	uint64_t before = fan->receipt.bytes_out + fan->skipped;

	if (!fan->copying)
		return fan->head;
	for (uint32_t i = 0; i < fan->count; i++)
		if (fan->sinks[i].flow->ended && !fan->sinks[i].flow->receipt.error)
			before = fan->head;
	/* The window has moved on only when all that lived then had what was before it. */
	if (before < fan->window_at)
		before = fan->window_at;
	before = fid_fan_lowest(fan, fan->count ? before : fan->head);
	/* After a change to copying a sink may be ahead of what was taken from the source. */
	return before < fan->head ? before : fan->head;
}

void fid_fan_account(struct fid_fan *fan)
{
	struct fid_receipt *receipt = &fan->receipt;
	uint64_t out = given_to_all(fan) - fan->skipped;
	const struct fid_flow *filler = fan->filler;
	enum fid_class class_ = FID_BY_REFERENCE;

	if (filler && filler->ladder.count)
		class_ = fid_flow_rung(filler)->class_;
	if (fan->copying)
		class_ = FID_USER_COPY;
	receipt->bytes_in = filler ? filler->receipt.bytes_in : fan->head;
	/* It goes back when a sink's loan is taken back, to go into its file. */
	receipt->by_class[class_] += out - receipt->bytes_out;
	receipt->by_method[fan->copying ? FID_READ_WRITE : FID_TEE] += out - receipt->bytes_out;
	receipt->bytes_out = out;
	receipt->bytes_held = receipt->bytes_in - receipt->bytes_out - receipt->bytes_salvaged;
	receipt->stable &= fan->stable || fan->copying || receipt->bytes_out == 0;
}

const struct fid_receipt *fid_fan_receipt(struct fid_fan *fan)
{
	struct fid_receipt *receipt = &fan->receipt;

	if (!fan->ended)
		receipt->elapsed_ns = fan->kernel->now_ns(fan->kernel) - fan->started_ns;
	if (!fan->ended)
		fid_fan_account(fan);
	receipt->route = fan->copying ? FID_READ_WRITE : FID_TEE;
	if (fan->copying)
		receipt->reason = "a copy for each sink";
	else if (fan->input == INPUT_TEE)
		receipt->reason = "the source's pages are given to each sink by reference";
	else
		receipt->reason = "a private pipe's pages are given to each sink by reference";
	return receipt;
}

const struct fid_receipt *fid_fan_sink_receipt(struct fid_fan *fan, int sink)
{
	struct fan_sink *of;

	if (sink < 0 || (uint32_t)sink >= fan->count)
		return NULL;
	of = &fan->sinks[sink];
	of->receipt = *fid_flow_receipt(of->flow);
	if (!of->receipt.reason)
		of->receipt.reason = fid_flow_rung(of->flow)->reason;
	/* What is in its file was taken for it as well. */
	of->receipt.bytes_in += fid_spill_bytes(of->spill);
	of->receipt.bytes_held += fid_spill_bytes(of->spill);
	return &of->receipt;
}

static ssize_t salvage_sink(struct fid_fan *fan, struct fan_sink *sink, void *buffer,
			    size_t capacity)
{
	struct fid_flow *flow = sink->flow;
	ssize_t got = fid_flow_salvage(flow, buffer, capacity);

	if (got != 0 || capacity == 0 || !fid_spill_bytes(sink->spill))
		return got;
	got = fid_spill_read(fan, sink->spill, buffer, capacity);
	if (got > 0) {
		flow->receipt.bytes_in += (uint64_t)got;
		flow->receipt.bytes_salvaged += (uint64_t)got;
	}
	return got;
}

/* These bytes of the window are salvaged: a sink that has not had them goes without. */
static void skip(struct fid_fan *fan, uint64_t to, uint64_t bytes)
{
	fan->skipped += bytes;
	for (uint32_t i = 0; i < fan->count; i++)
		if (fan_is_live(&fan->sinks[i]) && fan->sinks[i].fed < to)
			fan->sinks[i].fed = to;
}

/* The window is about to move on: nobody may hold a part of it. */
static bool own_loans(struct fid_fan *fan)
{
	bool all = true;

	for (uint32_t i = 0; i < fan->count; i++) {
		all &= fid_fan_own_loan(fan, fan->sinks[i].flow);
		if (fan->sinks[i].spill)
			all &= fid_fan_own_loan(fan, fan->sinks[i].spill->in);
	}
	return all;
}

/* What left the source and was not given to every sink. */
static ssize_t salvage_window(struct fid_fan *fan, void *buffer, size_t capacity)
{
	uint64_t from = fan->receipt.bytes_out + fan->skipped;
	uint64_t end = fan->window_at + fan->window_bytes;
	ssize_t got = 0;

	if (fan->copying && from < end) {
		got = (ssize_t)at_most(end - from, capacity);
		memcpy(buffer, fan->window + (from - fan->window_at), (size_t)got);
		skip(fan, from + (uint64_t)got, (uint64_t)got);
	} else if (fan->filler && fan->filler->receipt.bytes_out > fan->head) {
		if (!own_loans(fan))
			return -ENOMEM;
		got = fan->kernel->read(
			fan->kernel, fan->pipe.read_end, buffer,
			at_most(fan->filler->receipt.bytes_out - fan->head, capacity),
			FID_OWN_OFFSET);
		if (got > 0) {
			fan->head += (uint64_t)got;
			fan->window_at = fan->head;
			fan->window_bytes = 0;
			skip(fan, fan->head, (uint64_t)got);
		}
	} else if (fan->filler) {
		got = fid_flow_salvage(fan->filler, buffer, capacity);
	}
	if (got > 0) {
		fan->receipt.bytes_salvaged += (uint64_t)got;
		fan->receipt.bytes_held -= (uint64_t)got;
	}
	return got;
}

ssize_t fid_fan_salvage(struct fid_fan *fan, int sink, void *buffer, size_t capacity)
{
	if (sink < -1 || (sink >= 0 && (uint32_t)sink >= fan->count))
		return -EINVAL;
	if (sink >= 0)
		return salvage_sink(fan, &fan->sinks[sink], buffer, capacity);
	if (!fan->ended)
		fid_fan_account(fan);
	return salvage_window(fan, buffer, capacity);
}

struct fid_fan *fid_fan_free(struct fid_fan *fan)
{
	if (!fan)
		return NULL;
	for (uint32_t i = 0; i < fan->count; i++) {
		struct fan_sink *sink = &fan->sinks[i];

		if (sink->flow->buffer_is_lent)
			sink->flow->buffer_held = 0;
		if (sink->spill && sink->spill->in->buffer_is_lent)
			sink->spill->in->buffer_held = 0;
		fid_spill_free(sink->spill);
		fid_flow_free(sink->flow);
	}
	fid_flow_free(fan->filler);
	if (fan->window)
		fid_pool_buffer_give(fan->pool, fan->window);
	fan->pipe.doubtful = true;
	fid_pool_pipe_give(fan->pool, &fan->pipe);
	free(fan->sinks);
	free(fan->fds);
	free(fan->owner);
	free(fan);
	return NULL;
}
