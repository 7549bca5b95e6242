/* SPDX-License-Identifier: MIT */
/*
 * What moves a fan on: rounds over everything, sinks that are slow or have ended, and what to
 * wait for. A step is some rounds; a run is steps in a poll loop.
 */
#include "flow/fan_state.h"
#include "flow/judge.h"
#include "flow/machine.h"

#include <errno.h>
#include <string.h>

enum {
	STEP_ROUNDS = 16,
	IDLE_WAITS = 8, /* waits that brought nothing, before poll is not believed */
	IDLE_SLEEP_MS_MAX = 64,
};

/* ---- Signals ---- */

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

/* ---- Rounds ---- */

bool fid_fan_own_loan(struct fid_fan *fan, struct fid_flow *flow)
{
	unsigned char *copy;

	if (!flow->buffer_is_lent)
		return true;
	copy = fid_pool_buffer_take(fan->pool);
	if (!copy)
		return false;
	memcpy(copy, flow->buffer + flow->buffer_at, flow->buffer_held);
	flow->buffer = copy;
	flow->buffer_at = 0;
	flow->buffer_is_lent = false;
	return true;
}

/*
 * What was lent to a sink that has ended stays its own: the window is used again. Without
 * memory for that it was never given to it.
 */
static void keep_lent(struct fid_fan *fan, struct fan_sink *sink, struct fid_flow *flow)
{
	if (fid_fan_own_loan(fan, flow))
		return;
	flow->receipt.bytes_in -= flow->buffer_held;
	flow->receipt.bytes_held -= flow->buffer_held;
	sink->fed -= flow->buffer_held;
	flow->buffer_held = 0;
	fid_flow_end_loan(flow);
	fid_flow_assert_account(flow);
}

static void notice_end(struct fid_fan *fan, struct fan_sink *sink)
{
	if (sink->told || fan_is_live(sink))
		return;
	sink->told = true;
	fan->live--;
	keep_lent(fan, sink, sink->flow);
	if (sink->spill)
		keep_lent(fan, sink, sink->spill->in);
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

/* ---- Ends, and sinks that are slow ---- */

static int finish(struct fid_fan *fan, int error)
{
	fan->ended = true;
	fid_fan_account(fan);
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
		int got = fid_fan_start(fan);

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
		fid_fan_account(fan);
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
	    judge_events(fan) && !is_over(fan, &result))
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
