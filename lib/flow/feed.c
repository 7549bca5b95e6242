/* SPDX-License-Identifier: MIT */
/*
 * The source's bytes into the window, and from the window to the sinks that stand at its head.
 *
 * In a round all sinks but the last are given references by tee(2), which takes nothing away;
 * the last one gets them by splice(2), which does. So nothing is thrown away by a call of its
 * own, unless the sink that was last has died.
 */
#include "flow/fan_state.h"
#include "flow/judge.h"
#include "flow/machine.h"
#include "pipe/calls.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* A tee of more would make one step long: fs/splice.c copies a reference a page. */
enum { GIVE_BYTES = 8 << 20 };

/* What is read and forgotten at once where there is no buffer. */
enum { THROW_BYTES = 4 << 10 };

uint64_t fid_fan_lowest(const struct fid_fan *fan, uint64_t otherwise)
{
	uint64_t lowest = otherwise;
	bool any = false;

	for (uint32_t i = 0; i < fan->count; i++) {
		const struct fan_sink *sink = &fan->sinks[i];

		if (!fan_is_live(sink))
			continue;
		if (!any || sink->fed < lowest)
			lowest = sink->fed;
		any = true;
	}
	return lowest;
}

static uint64_t highest(const struct fid_fan *fan)
{
	uint64_t position = fan->head;

	for (uint32_t i = 0; i < fan->count; i++)
		if (fan_is_live(&fan->sinks[i]) && fan->sinks[i].fed > position)
			position = fan->sinks[i].fed;
	return position;
}

static int window_pipe(const struct fid_fan *fan)
{
	return fan->input == INPUT_PIPE ? fan->pipe.read_end : fan->source;
}

/* No more comes: the sinks get what there is, and then the fan ends with that error. */
static void end_input(struct fid_fan *fan, int error, enum fid_side side, enum fid_call call)
{
	fan->receipt.error = error;
	fan->receipt.error_side = side;
	fan->receipt.error_call = call;
	fan->total = fan->copying ? fan->window_at + fan->window_bytes : highest(fan);
}

/* tee or pipes are not to be had: what is in the window pipe is read, and all that follows. */
static void start_copying(struct fid_fan *fan, int error, enum fid_call call)
{
	struct fid_receipt *receipt = &fan->receipt;

	fan->copying = true;
	fan->window_at = fan->head;
	fan->window_bytes = 0;
	if (receipt->demotions < FID_DEMOTIONS_MAX)
		receipt->demotion[receipt->demotions++] = (struct fid_demotion){
			.from = FID_TEE,
			.to = FID_READ_WRITE,
			.call = (uint8_t)call,
			.side = FID_SIDE_NONE,
			.error = error,
			.at_bytes = fan->head,
		};
}

/* ---- The source into the window ---- */

/* Asks poll(2) whether the source has bytes or has ended. An error of poll ends the source. */
static bool source_has_news(struct fid_fan *fan)
{
	struct pollfd wait = {.fd = fan->source, .events = POLLIN};
	int got = fan->kernel->poll(fan->kernel, &wait, 1, 0);

	if (got < 0 && got != -EINTR)
		end_input(fan, got, FID_SIDE_FID, FID_CALL_POLL);
	return got > 0;
}

/* It is asked first where a read may sleep. */
static bool source_is_ready(struct fid_fan *fan)
{
	if (fan->source_end.nonblocking ||
	    (!fid_kind_may_wait(fan->source_end.kind) && fan->source_end.size > 0))
		return true;
	return source_has_news(fan);
}

static bool fill_pipe(struct fid_fan *fan)
{
	struct fid_flow *filler = fan->filler;
	uint64_t before = filler->receipt.bytes_out;
	int result;

	if (filler->ended || fan->source_idle || fan->filler_stuck_at == fan->head)
		return false;
	/* Nobody else writes to the pipe: when it is empty all of it is free. */
	filler->sink_room = before == fan->head ? fan->pipe.capacity : 0;
	result = fid_flow_advance(filler);
	if (result == FID_WAIT && filler->wait[1].events)
		fan->filler_stuck_at = fan->head;
	else if (result == FID_WAIT)
		fan->source_idle = true;
	if (result == FID_DONE)
		fan->total = filler->receipt.bytes_out;
	if (result < 0) {
		/* Its sink is a pipe of the fan's own. */
		end_input(fan, result,
			  filler->receipt.error_side == FID_SIDE_SOURCE ? FID_SIDE_SOURCE
									: FID_SIDE_FID,
			  filler->receipt.error_call);
		fan->total = filler->receipt.bytes_out;
	}
	return filler->receipt.bytes_out > before || filler->ended;
}

/* Whether every sink has had the window, and nobody writes from it any more. */
static bool window_is_done(const struct fid_fan *fan)
{
	for (uint32_t i = 0; i < fan->count; i++) {
		const struct fan_sink *sink = &fan->sinks[i];

		if (fan_is_live(sink) && (sink->fed < fan->window_at + fan->window_bytes ||
					  fan_target(sink)->buffer_is_lent))
			return false;
	}
	return true;
}

/* A read of the source, or of the pipe that stands for it, failed. */
static void window_failed(struct fid_fan *fan, int error)
{
	end_input(fan, error, fan->input == INPUT_PIPE ? FID_SIDE_FID : FID_SIDE_SOURCE,
		  FID_CALL_READ);
}

/* Borrows the buffer. false: there is no memory, which is the end. */
static bool take_window(struct fid_fan *fan)
{
	if (!fan->window)
		fan->window = fid_pool_buffer_take(fan->pool);
	if (fan->window)
		return true;
	end_input(fan, -ENOMEM, FID_SIDE_FID, FID_CALL_MEMORY);
	return false;
}

static bool fill_window(struct fid_fan *fan)
{
	struct fid_kernel *kernel = fan->kernel;
	uint64_t want = FID_BUFFER_BYTES;
	int from = fan->source;
	int64_t at = fan->input == INPUT_READ ? fan->source_at : FID_OWN_OFFSET;
	ssize_t got;

	if (fan->total <= fan->window_at + fan->window_bytes)
		return false;
	if (!window_is_done(fan))
		return false;
	fan->window_at += fan->window_bytes;
	fan->window_bytes = 0;
	if (!take_window(fan))
		return true;
	if (fan->input == INPUT_PIPE) {
		want = fan->filler->receipt.bytes_out - fan->head;
		from = fan->pipe.read_end;
		if (want == 0)
			return false;
	} else if (!source_is_ready(fan)) {
		fan->source_idle = true;
		return false;
	}
	want = at_most(want, FID_BUFFER_BYTES);
	want = at_most(fan->bytes_max - fan->window_at, want);
	got = want ? kernel->read(kernel, from, fan->window, (size_t)want, at) : 0;
	fan->receipt.calls[FID_READ_WRITE]++;
	if (got == -EINTR)
		return true;
	if (got == -EAGAIN) {
		fan->source_idle = true;
		return false;
	}
	if (got < 0)
		window_failed(fan, (int)got);
	if (got == 0)
		fan->total = fan->window_at;
	if (got <= 0)
		return true;
	if (fan->source_at >= 0)
		fan->source_at += got;
	fan->window_bytes = (size_t)got;
	fan->head = fan->window_at + fan->window_bytes;
	return true;
}

bool fid_fan_fill(struct fid_fan *fan)
{
	bool moved = fan->input == INPUT_PIPE && fill_pipe(fan);

	if (fan->copying)
		moved |= fill_window(fan);
	return moved;
}

/* ---- The window into the sinks ---- */

/* Whether it is fed through its own pipe, and not through a private one. */
static bool is_direct(const struct fan_sink *sink)
{
	return sink->direct && fan_target(sink) == sink->flow;
}

/* Bytes that went into a sink's pipe, or into the private one before it. */
static void fed(struct fid_fan *fan, struct fan_sink *sink, size_t bytes,
		enum fid_method method)
{
	struct fid_flow *flow = fan_target(sink);

	sink->fed += bytes;
	sink->full = false;
	sink->idle = false;
	fid_flow_taken(flow, bytes);
	if (is_direct(sink))
		fid_flow_given(flow, method, FID_BY_REFERENCE, fan->stable, bytes);
	else
		flow->pipe.held += bytes;
	fid_flow_assert_account(flow);
}

/* The write end of the pipe to feed that sink through, or -errno. */
static int feeding_end(struct fid_fan *fan, struct fan_sink *sink)
{
	struct fid_flow *flow = fan_target(sink);
	int got;

	if (is_direct(sink))
		return flow->sink;
	if (fid_pipe_is_open(&flow->pipe))
		return flow->pipe.write_end;
	got = fid_pool_pipe_take(fan->pool, fan->pipe_bytes, &flow->pipe);
	if (got < 0)
		return got;
	flow->receipt.pipe_bytes = flow->pipe.capacity;
	flow->receipt.pipe_bytes_asked = fan->pipe_bytes;
	return flow->pipe.write_end;
}

/* Whether poll(2) sees bytes in the source. */
static bool has_bytes(struct fid_fan *fan)
{
	struct pollfd wait = {.fd = fan->source, .events = POLLIN};

	return fan->kernel->poll(fan->kernel, &wait, 1, 0) > 0 && wait.revents & POLLIN;
}

/* EAGAIN means either end: whether it was for want of bytes. */
static bool window_is_empty(struct fid_fan *fan)
{
	if (highest(fan) > fan->head)
		return false;
	if (fan->input == INPUT_PIPE)
		return fan->filler->receipt.bytes_out == fan->head;
	return !source_has_news(fan);
}

/* What a tee or splice to the sink, which returned result, means. */
static bool judge(struct fid_fan *fan, struct fan_sink *sink, ssize_t result,
		  enum fid_method method)
{
	enum fid_call call = method == FID_TEE ? FID_CALL_TEE : FID_CALL_SPLICE;

	if (result > 0) {
		fed(fan, sink, (size_t)result, method);
		return true;
	}
	if (result == -EINTR)
		return true;
	if (result == -EAGAIN) {
		if (window_is_empty(fan)) {
			fan->source_idle = true;
			return false;
		}
		/* Bytes have come since: a private pipe that holds nothing is not full. */
		if (fan_target(sink)->pipe.held == 0 && !is_direct(sink))
			return true;
		sink->full = true;
		return false;
	}
	if (result == 0 && highest(fan) == fan->head && !has_bytes(fan)) {
		fan->total = fan->head;
		return true;
	}
	if (result == 0 || fid_not_this_way(result))
		start_copying(fan, (int)result, call);
	else
		fid_flow_fail(fan_target(sink), (int)result, FID_SIDE_SINK, call);
	return true;
}

/* How much a sink may be given of what the window holds, at most. */
static size_t share_of(struct fid_fan *fan, struct fan_sink *sink, uint64_t bytes)
{
	uint64_t end = fan->bytes_max < fan->total ? fan->bytes_max : fan->total;
	uint64_t share = bytes < GIVE_BYTES ? bytes : GIVE_BYTES;

	share = at_most(end - sink->fed, share);
	if (sink->spill && sink->spill->active)
		share = at_most(fid_spill_room(sink->spill), share);
	return (size_t)share;
}

static bool give(struct fid_fan *fan, struct fan_sink *sink, uint64_t bytes, bool consume)
{
	struct fid_kernel *kernel = fan->kernel;
	enum fid_method method = consume ? FID_SPLICE : FID_TEE;
	struct fid_flow *flow = fan_target(sink);
	size_t want = share_of(fan, sink, bytes);
	ssize_t result;
	int to;

	if (want == 0) {
		sink->full = sink->fed < fan->total;
		return false;
	}
	to = feeding_end(fan, sink);
	if (to < 0) {
		start_copying(fan, to, FID_CALL_PIPE);
		return true;
	}
	if (consume)
		result = fid_splice_on(kernel, fan->pool, window_pipe(fan), NULL, to, NULL,
				       want, SPLICE_F_NONBLOCK);
	else
		result = fid_tee_on(kernel, window_pipe(fan), to, want, SPLICE_F_NONBLOCK);
	flow->receipt.calls[method]++;
	fid_quiet_note(&fan->quiet, result, want);
	if (consume && result > 0)
		fan->head += (uint64_t)result;
	return judge(fan, sink, result, method);
}

/* Every sink is past these bytes, and nobody took them. */
static bool throw_away(struct fid_fan *fan, uint64_t bytes)
{
	unsigned char few[THROW_BYTES];
	ssize_t got;

	if (!fan->window)
		fan->window = fid_pool_buffer_take(fan->pool);
	got = fan->kernel->read(fan->kernel, window_pipe(fan), fan->window ? fan->window : few,
				at_most(bytes, fan->window ? FID_BUFFER_BYTES : sizeof(few)),
				FID_OWN_OFFSET);
	if (got == -EINTR)
		return true;
	if (got <= 0) {
		/* Somebody else has read the source. Nothing more can be thrown away. */
		window_failed(fan, got < 0 ? (int)got : -EIO);
		fan->total = fan->head;
		return true;
	}
	fan->head += (uint64_t)got;
	return true;
}

/* Where the sinks stand. */
struct standing {
	uint32_t behind; /* so many are at the head */
	uint32_t last;   /* the last one of these */
	uint64_t next;   /* the lowest position past the head; UINT64_MAX: none */
	uint64_t top;    /* the highest position */
};

static struct standing survey(const struct fid_fan *fan)
{
	struct standing standing = {.next = UINT64_MAX, .top = fan->head};

	for (uint32_t i = 0; i < fan->count; i++) {
		const struct fan_sink *sink = &fan->sinks[i];

		if (!fan_is_live(sink))
			continue;
		if (sink->fed == fan->head) {
			standing.behind++;
			standing.last = i;
		} else if (sink->fed < standing.next) {
			standing.next = sink->fed;
		}
		if (sink->fed > standing.top)
			standing.top = sink->fed;
	}
	return standing;
}

static bool may_feed(const struct fid_fan *fan, const struct standing *standing)
{
	if (fan->copying || fan->head >= fan->total)
		return false;
	if (standing->top > fan->head)
		return true;
	if (fan->input == INPUT_PIPE)
		return fan->filler->receipt.bytes_out > fan->head;
	return !fan->source_idle;
}

/* One round over the sinks that stand at the head of the window pipe. */
static bool feed_references(struct fid_fan *fan)
{
	struct standing standing = survey(fan);
	uint32_t last = standing.last;
	struct fan_sink *sink = &fan->sinks[last];
	bool moved = false;

	if (standing.behind == 0)
		return standing.next != UINT64_MAX &&
		       throw_away(fan, standing.next - fan->head);
	for (uint32_t i = 0; i < last && may_feed(fan, &standing); i++) {
		if (!fan_is_live(&fan->sinks[i]) || fan->sinks[i].fed != fan->head)
			continue;
		moved |= give(fan, &fan->sinks[i],
			      standing.top > fan->head ? standing.top - fan->head : UINT64_MAX,
			      false);
		if (fan->sinks[i].fed > standing.top)
			standing.top = fan->sinks[i].fed;
	}
	standing = survey(fan);
	if (!may_feed(fan, &standing))
		return moved;
	/* Whoever is the only one left behind may take the bytes away. */
	if (standing.behind == 1 && standing.next == UINT64_MAX)
		return give(fan, sink, UINT64_MAX, true) || moved;
	if (standing.behind == 1)
		return give(fan, sink, standing.next - fan->head, true) || moved;
	return give(fan, sink, standing.top > fan->head ? standing.top - fan->head : UINT64_MAX,
		    false) ||
	       moved;
}

/* Lends each sink the part of the window that it has not had. */
static bool feed_copies(struct fid_fan *fan)
{
	uint64_t end = fan->window_at + fan->window_bytes;
	bool moved = false;

	for (uint32_t i = 0; i < fan->count; i++) {
		struct fan_sink *sink = &fan->sinks[i];
		struct fid_flow *flow = fan_target(sink);
		size_t bytes;

		if (!fan_is_live(sink) || sink->fed >= end)
			continue;
		if (flow->receipt.bytes_held) {
			sink->full |= !flow->buffer_is_lent;
			continue;
		}
		bytes = share_of(fan, sink, end - sink->fed);
		if (bytes == 0) {
			sink->full = true;
			continue;
		}
		assert(sink->fed >= fan->window_at);
		fid_flow_release(flow);
		flow->buffer = fan->window + (sink->fed - fan->window_at);
		flow->buffer_is_lent = true;
		flow->buffer_at = 0;
		flow->buffer_held = bytes;
		sink->fed += bytes;
		sink->full = false;
		sink->idle = false;
		fid_flow_taken(flow, bytes);
		fid_flow_assert_account(flow);
		moved = true;
	}
	return moved;
}

bool fid_fan_feed(struct fid_fan *fan)
{
	return fan->copying ? feed_copies(fan) : feed_references(fan);
}
