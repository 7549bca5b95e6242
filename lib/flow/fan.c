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
	STEP_ROUNDS = 16,
	STALL_MS = 1000,
	PIPE_BYTES = 1 << 20,
	GROW_BYTES = 256 << 10,
	IDLE_WAITS = 8, /* waits that brought nothing, before poll is not believed */
	IDLE_SLEEP_MS_MAX = 64,
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

static void grow(struct fid_fan *fan, int fd, const struct fid_end *end)
{
	struct fid_kernel *kernel = fan->kernel;
	int size = end->kind == FID_KIND_PIPE ? kernel->pipe_size(kernel, fd) : -1;

	/* A refusal is no harm: the pipe is as it was. */
	if (size >= 0 && size < GROW_BYTES)
		kernel->pipe_resize(kernel, fd, GROW_BYTES);
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

/* The first step: what the sinks are decides how the source is taken. */
static int start(struct fid_fan *fan)
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
	if (fan->flags & FID_GROW_PIPES) {
		grow(fan, fan->source, &fan->source_end);
		for (uint32_t i = 0; i < fan->count; i++)
			grow(fan, fan->sinks[i].flow->sink, &fan->sinks[i].flow->sink_end);
	}
	return 0;
}

/* ---- One step ---- */

/* The fan holds SIGPIPE back for all its flows at once. */
static void hold_signals(struct fid_fan *fan)
{
	fid_quiet_hold(fan->kernel, &fan->quiet);
	for (uint32_t i = 0; i < fan->count; i++) {
		fan->sinks[i].flow->quiet.sigpipe.held = true;
		if (fan->sinks[i].spill)
			fan->sinks[i].spill->in->quiet.sigpipe.held = true;
	}
	if (fan->filler)
		fan->filler->quiet.sigpipe.held = true;
}

static void release_flow(struct fid_fan *fan, struct fid_flow *flow)
{
	fan->quiet.raised |= flow->quiet.raised;
	flow->quiet.raised = false;
	flow->quiet.sigpipe.held = false;
}

static void release_signals(struct fid_fan *fan)
{
	for (uint32_t i = 0; i < fan->count; i++) {
		release_flow(fan, fan->sinks[i].flow);
		if (fan->sinks[i].spill)
			release_flow(fan, fan->sinks[i].spill->in);
	}
	if (fan->filler)
		release_flow(fan, fan->filler);
	fid_quiet_release(fan->kernel, &fan->quiet);
}

/* What was lent to a sink that has ended stays its own: the window is used again. */
static void keep_lent(struct fid_fan *fan, struct fid_flow *flow)
{
	unsigned char *copy;

	if (!flow->buffer_is_lent || !flow->buffer_held)
		return;
	copy = fid_pool_buffer_take(fan->pool);
	if (copy)
		memcpy(copy, flow->buffer + flow->buffer_at, flow->buffer_held);
	else
		flow->buffer_held = 0; /* it cannot be salvaged, and the account still tells */
	flow->buffer = copy;
	flow->buffer_at = 0;
	flow->buffer_is_lent = false;
}

static void notice_end(struct fid_fan *fan, struct fan_sink *sink)
{
	if (sink->told || fan_is_live(sink))
		return;
	sink->told = true;
	fan->live--;
	keep_lent(fan, sink->flow);
	if (sink->spill)
		keep_lent(fan, sink->spill->in);
	if (!sink->flow->pipe.held)
		fid_pool_pipe_give(fan->pool, &sink->flow->pipe);
}

/* Lets a sink's flow deliver what it holds. Returns whether it did. */
static bool deliver(struct fid_fan *fan, struct fan_sink *sink)
{
	struct fid_flow *flow = sink->flow;
	uint64_t before = flow->receipt.bytes_out;
	bool moved = false;

	if (sink->spill)
		moved = fid_spill_pump(fan, sink);
	if (!fan_is_live(sink))
		return true;
	/* All that there is has been fed, and nothing is on a detour. */
	if (fan->total != UINT64_MAX && sink->fed >= fan->total && fan->head >= fan->total &&
	    fan_target(sink) == flow) {
		sink->idle &= flow->bytes_max != UINT64_MAX;
		flow->bytes_max = flow->receipt.bytes_in;
	} else if (!flow->receipt.bytes_held)
		return moved;
	if (sink->idle)
		return moved;
	sink->idle = fid_flow_advance(flow) == FID_WAIT;
	return moved || flow->receipt.bytes_out > before || !fan_is_live(sink);
}

/* One round over everything. Returns whether anything moved. */
static bool round_once(struct fid_fan *fan)
{
	bool moved = fid_fan_fill(fan);

	moved |= fid_fan_feed(fan);
	for (uint32_t i = 0; i < fan->count; i++) {
		struct fan_sink *sink = &fan->sinks[i];

		if (fan_is_live(sink))
			moved |= deliver(fan, sink);
		notice_end(fan, sink);
	}
	return moved;
}

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
	before = fid_fan_lowest(fan, fan->count ? before : fan->head);
	/* After a change to copying a sink may be ahead of what was taken from the source. */
	return before < fan->head ? before : fan->head;
}

static void account(struct fid_fan *fan)
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

static int finish(struct fid_fan *fan, int error)
{
	fan->ended = true;
	account(fan);
	fan->receipt.elapsed_ns = fan->kernel->now_ns(fan->kernel) - fan->started_ns;
	/* What the window holds can be salvaged; if that is nothing it goes back. */
	if (fan->filler && fan->filler->receipt.bytes_out == fan->head)
		fid_pool_pipe_give(fan->pool, &fan->pipe);
	return error;
}

/* The first failure of a sink that ends the fan, or 0. */
static int sinks_failed(struct fid_fan *fan)
{
	struct fid_receipt *receipt = &fan->receipt;
	bool all = fan->count > 0;

	for (uint32_t i = 0; i < fan->count; i++)
		all &= fan->sinks[i].flow->ended && fan->sinks[i].flow->receipt.error;
	if (!all && !(fan->flags & FID_FAN_STOP))
		return 0;
	for (uint32_t i = 0; i < fan->count; i++) {
		const struct fid_receipt *failed = &fan->sinks[i].flow->receipt;

		if (!fan->sinks[i].flow->ended || !failed->error)
			continue;
		receipt->error = failed->error;
		receipt->error_side = failed->error_side;
		receipt->error_call = failed->error_call;
		return receipt->error;
	}
	return 0;
}

/* Whether it is over; *ret_result is how. */
static bool is_over(struct fid_fan *fan, int *ret_result)
{
	if (fan->ended) {
		*ret_result = fan->receipt.error;
		return true;
	}
	if (fan->live < fan->count && sinks_failed(fan) < 0) {
		*ret_result = finish(fan, fan->receipt.error);
		return true;
	}
	if (fan->live > 0 || fan->head < fan->total)
		return false;
	*ret_result = finish(fan, fan->receipt.error);
	return true;
}

/*
 * Nothing moved. Sinks that hold the others up go to their files, or are dropped when they have
 * taken nothing for too long. Returns whether there is something to do now.
 */
static bool judge_slow_sinks(struct fid_fan *fan, int *ret_timeout_ms)
{
	bool changed = false;

	*ret_timeout_ms = -1;
	for (uint32_t i = 0; i < fan->count; i++) {
		struct fan_sink *sink = &fan->sinks[i];
		uint64_t taken = sink->fed + sink->flow->receipt.bytes_out;
		uint64_t now, left_ns;

		if (!fan_is_live(sink) || sink->on_slow == FID_SLOW_WAIT)
			continue;
		if (!sink->full && !fan_target(sink)->buffer_is_lent &&
		    !(fan->head >= fan->total && sink->flow->receipt.bytes_held)) {
			sink->stalled_ns = 0;
			continue;
		}
		if (fan->head < fan->total && fid_spill_begin(fan, sink)) {
			changed = true;
			continue;
		}
		if (!sink->stall_ms)
			continue;
		now = fan->kernel->now_ns(fan->kernel);
		if (!sink->stalled_ns || taken != sink->taken_seen) {
			sink->stalled_ns = now ? now : 1;
			sink->taken_seen = taken;
		}
		left_ns = (uint64_t)sink->stall_ms * 1000000;
		if (now - sink->stalled_ns >= left_ns) {
			fid_flow_fail(sink->flow, -ETIMEDOUT, FID_SIDE_SINK, FID_CALL_POLL);
			notice_end(fan, sink);
			changed = true;
			continue;
		}
		left_ns -= now - sink->stalled_ns;
		now = (left_ns + 999999) / 1000000;
		if (*ret_timeout_ms < 0 || (uint64_t)*ret_timeout_ms > now)
			*ret_timeout_ms = now > INT32_MAX ? INT32_MAX : (int)now;
	}
	return changed;
}

/* ---- Waiting ---- */

static void wait_for(struct fid_fan *fan, int fd, short events, uint32_t owner)
{
	fan->owner[fan->fds_count] = owner;
	fan->fds[fan->fds_count++] = (struct pollfd){.fd = fd, .events = events};
}

static void wait_for_sink(struct fid_fan *fan, uint32_t index)
{
	const struct fan_sink *sink = &fan->sinks[index];
	const struct fid_flow *flow = sink->flow;
	bool holds = flow->receipt.bytes_held > 0 || (sink->full && sink->direct);

	if (holds)
		wait_for(fan, flow->sink, POLLOUT, index);
	else if (fid_kind_may_wait(flow->sink_end.kind) && !flow->sink_is_noisy)
		wait_for(fan, flow->sink, 0, index);
}

static void collect_waits(struct fid_fan *fan)
{
	fan->fds_count = 0;
	if (fan->source_idle)
		wait_for(fan, fan->source, POLLIN, FAN_SOURCE);
	for (uint32_t i = 0; i < fan->count; i++)
		if (fan_is_live(&fan->sinks[i]))
			wait_for_sink(fan, i);
}

/* Looks at what poll(2) found. Returns whether a sink has died of it. */
static bool judge_events(struct fid_fan *fan)
{
	bool changed = false;

	for (size_t i = 0; i < fan->fds_count; i++) {
		const struct pollfd *entry = &fan->fds[i];
		struct fan_sink *sink;

		if (!entry->revents || fan->owner[i] == FAN_SOURCE || entry->events)
			continue;
		sink = &fan->sinks[fan->owner[i]];
		fid_flow_sink_has_events(sink->flow, entry->revents);
		notice_end(fan, sink);
		changed = true;
	}
	return changed;
}

/*
 * Rounds until nothing moves or it was enough. Returns FID_MORE, FID_WAIT with the wait set
 * collected, or what ended the fan.
 */
static int advance(struct fid_fan *fan, int *ret_timeout_ms)
{
	int result = FID_MORE;

	*ret_timeout_ms = -1;
	if (!fan->started) {
		int got = start(fan);

		if (got < 0) {
			fan->receipt.error = got;
			fan->receipt.error_side = FID_SIDE_FID;
			return finish(fan, got);
		}
	}
	fan->source_idle = false;
	for (uint32_t i = 0; i < fan->count; i++)
		fan->sinks[i].idle = false;
	for (int round = 0; round < STEP_ROUNDS; round++) {
		bool moved;

		if (is_over(fan, &result))
			return result;
		moved = round_once(fan);
		account(fan);
		if (moved || judge_slow_sinks(fan, ret_timeout_ms))
			continue;
		if (is_over(fan, &result))
			return result;
		collect_waits(fan);
		assert(fan->fds_count > 0 || *ret_timeout_ms >= 0); /* nobody would come back */
		fan->receipt.waits++;
		return FID_WAIT;
	}
	return is_over(fan, &result) ? result : FID_MORE;
}

int fid_fan_step(struct fid_fan *fan, struct fid_fan_wait *ret_wait)
{
	int timeout_ms;
	int result;

	hold_signals(fan);
	result = advance(fan, &timeout_ms);
	/* Whether the caller looks at idle sinks before it waits is not known. */
	if (result == FID_WAIT && fan->fds_count > 0 &&
	    fan->kernel->poll(fan->kernel, fan->fds, fan->fds_count, 0) > 0 &&
	    judge_events(fan))
		result = FID_MORE;
	release_signals(fan);
	if (ret_wait)
		*ret_wait = (struct fid_fan_wait){
			.fds = result == FID_WAIT ? fan->fds : NULL,
			.count = result == FID_WAIT ? fan->fds_count : 0,
			.timeout_ms = timeout_ms,
		};
	return result;
}

/* Waits for the set, at most timeout_ms. Returns FID_MORE or what run returns. */
static int wait_once(struct fid_fan *fan, int timeout_ms)
{
	struct fid_kernel *kernel = fan->kernel;
	int got;

	if (fan->idle_waits >= IDLE_WAITS) {
		uint32_t doublings = fan->idle_waits - IDLE_WAITS;
		int sleep_ms = doublings < 6 ? 1 << doublings : IDLE_SLEEP_MS_MAX;

		if (timeout_ms >= 0 && timeout_ms < sleep_ms)
			sleep_ms = timeout_ms;
		got = kernel->poll(kernel, NULL, 0, sleep_ms);
	} else {
		got = kernel->poll(kernel, fan->fds, fan->fds_count, timeout_ms);
	}
	if (got == -EINTR)
		return fan->flags & FID_INTERRUPTIBLE ? -EINTR : FID_MORE;
	if (got < 0) {
		fan->receipt.error = got;
		fan->receipt.error_side = FID_SIDE_FID;
		fan->receipt.error_call = FID_CALL_POLL;
		return finish(fan, got);
	}
	fan->idle_waits += got > 0 || fan->idle_waits >= IDLE_WAITS;
	if (got > 0 && judge_events(fan))
		fan->idle_waits = 0;
	return FID_MORE;
}

/* All bytes that have moved anywhere: whether a wait brought something. */
static uint64_t progress_of(const struct fid_fan *fan)
{
	uint64_t bytes = fan->head + (fan->filler ? fan->filler->receipt.bytes_out : 0);

	for (uint32_t i = 0; i < fan->count; i++)
		bytes += fan->sinks[i].fed + fan->sinks[i].flow->receipt.bytes_out;
	return bytes;
}

int fid_fan_run(struct fid_fan *fan, int timeout_ms)
{
	struct fid_kernel *kernel = fan->kernel;
	uint64_t deadline_ns = UINT64_MAX, seen = UINT64_MAX;
	int result;

	if (timeout_ms >= 0)
		deadline_ns = kernel->now_ns(kernel) + (uint64_t)timeout_ms * 1000000;
	hold_signals(fan);
	for (;;) {
		int wait_ms;

		result = advance(fan, &wait_ms);
		if (result != FID_MORE && result != FID_WAIT)
			break;
		if (deadline_ns != UINT64_MAX) {
			uint64_t now = kernel->now_ns(kernel);
			uint64_t left_ms;

			if (now >= deadline_ns) {
				result = -ETIMEDOUT;
				break;
			}
			left_ms = (deadline_ns - now + 999999) / 1000000;
			if (wait_ms < 0 || left_ms < (uint64_t)wait_ms)
				wait_ms = (int)left_ms;
		}
		if (result == FID_MORE)
			continue;
		if (progress_of(fan) != seen)
			fan->idle_waits = 0;
		seen = progress_of(fan);
		result = wait_once(fan, wait_ms);
		if (result != FID_MORE)
			break;
	}
	release_signals(fan);
	return result;
}

/* ---- The account, and the end ---- */

const struct fid_receipt *fid_fan_receipt(struct fid_fan *fan)
{
	struct fid_receipt *receipt = &fan->receipt;

	if (!fan->ended)
		receipt->elapsed_ns = fan->kernel->now_ns(fan->kernel) - fan->started_ns;
	if (!fan->ended)
		account(fan);
	receipt->route = fan->copying ? FID_READ_WRITE : FID_TEE;
	receipt->pipe_bytes = fan->filler ? fan->pipe.capacity : 0;
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
		account(fan);
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
