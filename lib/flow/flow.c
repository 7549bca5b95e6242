/* SPDX-License-Identifier: MIT */
/*
 * Flows as the caller sees them: made, stepped or run, salvaged, ended. What moves the bytes is
 * the machine (machine.c); running is stepping and waiting.
 */
#include "flow/flow.h"
#include "flow/ask.h"
#include "flow/judge.h"
#include "flow/machine.h"
#include "options.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	GROW_BYTES =
		256 << 10, /* larger makes a reader that read()s wait for the pipe's lock */
	IDLE_ROUNDS = 8,   /* waits that brought nothing, before poll is not believed */
	IDLE_SLEEP_MS_MAX = 64,
};

/* Ten thousand idle flows must not hurt. */
_Static_assert(sizeof(struct fid_flow) < 1024, "a flow takes under 1 KiB");

/* ---- Making ---- */

static int reject(struct fid_flow *flow, int error, enum fid_side side, enum fid_call call,
		  const char *reason)
{
	struct fid_receipt *receipt = &flow->receipt;

	receipt->error = error;
	receipt->error_side = side;
	receipt->error_call = call;
	receipt->reason = reason;
	return error;
}

static int object(struct fid_flow *flow, const struct fid_objection *objection)
{
	return reject(flow, objection->error, objection->side, objection->call,
		      objection->reason);
}

static int examine(struct fid_flow *flow)
{
	struct fid_end *source = &flow->source_end;
	struct fid_end *sink = &flow->sink_end;
	struct fid_objection objection;
	struct fid_stat stat;
	enum fid_call call;
	int got = fid_end_examine(flow->kernel, flow->sink, sink, &stat, &call);

	if (got < 0)
		return reject(flow, got, FID_SIDE_SINK, call, NULL);
	got = fid_end_examine(flow->kernel, flow->source, source, &stat, &call);
	if (got < 0)
		return reject(flow, got, FID_SIDE_SOURCE, call, NULL);
	source->offset_given = flow->source_at >= 0;
	sink->offset_given = flow->sink_at >= 0;
	if (!fid_ask_ends(source, sink, &objection))
		return object(flow, &objection);
	flow->source_start = flow->source_at;
	if (source->kind == FID_KIND_REGULAR && flow->source_at < 0)
		flow->source_start =
			flow->kernel->seek(flow->kernel, flow->source, 0, SEEK_CUR);
	if (flow->source_at < 0 && flow->source_start > 0)
		source->position = (uint64_t)flow->source_start;
	if (source->kind == FID_KIND_REGULAR && flow->source_start >= 0 &&
	    stat.size > flow->source_start)
		flow->end_expected = (uint64_t)(stat.size - flow->source_start);
	flow->source_size = stat.size;
	flow->source_modified_ns = stat.modified_ns;
	flow->source_changed_ns = stat.changed_ns;
	flow->examined = true;
	return 0;
}

/* A hint for the choice of a way, believed by nobody. */
static uint64_t expected_bytes(const struct fid_flow *flow)
{
	uint64_t bytes = flow->end_expected;

	/* Nothing is known about the size of a stream, and all is if a file has none left. */
	if (flow->source_end.kind == FID_KIND_REGULAR && bytes == UINT64_MAX)
		bytes = 0;
	return bytes < flow->bytes_max ? bytes : flow->bytes_max;
}

static int choose(struct fid_flow *flow, const struct fid_options *options)
{
	const char *refused[FID_METHODS_MAX];
	struct fid_facts facts;
	bool known;

	if (!flow->examined) {
		fid_route_plain(&flow->ladder);
		return 0;
	}
	known = fid_probe_known(flow->kernel, &facts);
	/* A requirement is checked before the first byte where that can be. */
	if (!known && options->require && flow->kernel == fid_linux())
		known = fid_probe(&facts, 0) == 0;
	fid_route_between(&flow->source_end, &flow->sink_end, options, known ? &facts : NULL,
			  expected_bytes(flow), &flow->ladder, refused);
	flow->copying = flow->ladder.start_small;
	if (flow->ladder.count)
		return 0;
	flow->receipt.require_unmet = flow->require != FID_REQUIRE_NOTHING;
	/* Between files a clone could have been; elsewhere the last way tells most. */
	if (flow->source_end.kind == FID_KIND_REGULAR &&
	    flow->sink_end.kind == FID_KIND_REGULAR &&
	    (!options->routes || options->routes & FID_ROUTE(FID_REFLINK)))
		return reject(flow, -EOPNOTSUPP, FID_SIDE_FID, FID_CALL_NONE,
			      refused[FID_REFLINK]);
	for (int method = FID_READ_WRITE; method >= 0; method--)
		if (!options->routes || options->routes & FID_ROUTE(method))
			return reject(flow, -EOPNOTSUPP, FID_SIDE_FID, FID_CALL_NONE,
				      refused[method]);
	return reject(flow, -EOPNOTSUPP, FID_SIDE_FID, FID_CALL_NONE, NULL);
}

static void keep_options(struct fid_flow *flow, const struct fid_options *options)
{
	bool limited = options->bytes_max || options->flags & FID_LIMIT_ZERO;

	flow->source_at =
		fid_ask_offset(options->source_offset, options->flags & FID_SOURCE_OFFSET);
	flow->sink_at = fid_ask_offset(options->sink_offset, options->flags & FID_SINK_OFFSET);
	flow->bytes_max = limited ? options->bytes_max : UINT64_MAX;
	flow->paced = options->flags & FID_PACED;
	flow->bytes_granted = flow->paced ? 0 : UINT64_MAX;
	flow->nowait = options->flags & FID_NOWAIT;
	flow->interruptible = options->flags & FID_INTERRUPTIBLE;
	flow->stable = options->flags & FID_STABLE;
	flow->routes = options->routes;
	flow->require = (uint8_t)options->require;
	flow->pipe_bytes = options->pipe_bytes;
	flow->pool = options->pool;
}

/*
 * A transfer of a few pages by limit is a read and a write, whatever the descriptors are: to
 * ask what they are would cost more calls than the transfer itself. But pwrite(2) ignores the
 * offset on a sink with O_APPEND, so a sink that is given one is looked at.
 */
static bool is_plain(const struct fid_options *options)
{
	const uint32_t routes = options->routes;

	return options->bytes_max && options->bytes_max <= FID_SMALL_BYTES &&
	       !(options->flags & (FID_NOWAIT | FID_SINK_OFFSET)) && !options->sink_offset &&
	       !options->require && !options->timeout_ms &&
	       (!routes || routes & FID_ROUTE(FID_READ_WRITE));
}

/* A flow that holds nothing and has moved nothing. The rest of the memory is zero. */
static void blank(struct fid_flow *flow, struct fid_kernel *kernel, bool timed)
{
	flow->kernel = kernel;
	flow->pipe = FID_PIPE_NONE;
	flow->receipt.source_changed = -1;
	flow->receipt.stable = 1;
	flow->receipt.route = FID_READ_WRITE;
	flow->end_expected = UINT64_MAX;
	flow->timed = timed;
	if (timed)
		flow->started_ns = kernel->now_ns(kernel);
}

static int init(struct fid_flow *flow, int source, int sink, const struct fid_options *options,
		bool plain)
{
	struct fid_kernel *kernel = flow->kernel;
	const char *wrong = fid_ask_options(options);
	int got;

	flow->source = source;
	flow->sink = sink;
	if (wrong)
		return reject(flow, -EINVAL, FID_SIDE_FID, FID_CALL_NONE, wrong);
	keep_options(flow, options);
	if (!plain) {
		if (!flow->pool && kernel == fid_linux())
			flow->pool = fid_pool_default();
		if (!flow->pool)
			return reject(flow, -ENOMEM, FID_SIDE_FID, FID_CALL_MEMORY, NULL);
		got = examine(flow);
		if (got < 0)
			return got;
	}
	got = choose(flow, options);
	if (got < 0)
		return got;
	if (options->flags & FID_GROW_PIPES && flow->examined &&
	    expected_bytes(flow) > FID_PIPE_BYTES_MIN) {
		uint64_t bytes = options->pipe_bytes ? options->pipe_bytes : GROW_BYTES;

		if (flow->source_end.kind == FID_KIND_PIPE)
			fid_pipe_grow(kernel, source, bytes);
		if (flow->sink_end.kind == FID_KIND_PIPE)
			fid_pipe_grow(kernel, sink, bytes);
	}
	return 0;
}

int fid_flow_new_on(struct fid_kernel *kernel, struct fid_flow **ret_flow, int source, int sink,
		    const struct fid_options *options, struct fid_receipt *ret_receipt)
{
	struct fid_options ours;
	struct fid_flow *flow = calloc(1, sizeof(*flow));
	int got = fid_options_take(&ours, sizeof(ours), options, sizeof(size_t));

	if (!flow) {
		if (ret_receipt)
			*ret_receipt = (struct fid_receipt){
				.source_changed = -1,
				.error = -ENOMEM,
				.error_side = FID_SIDE_FID,
				.error_call = FID_CALL_MEMORY,
			};
		return -ENOMEM;
	}
	blank(flow, kernel, true);
	if (got < 0 || !ret_flow)
		got = reject(flow, got < 0 ? got : -EINVAL, FID_SIDE_FID, FID_CALL_NONE,
			     "options of the wrong size, or nowhere to put the flow");
	else
		got = init(flow, source, sink, &ours, false);
	if (ret_receipt)
		*ret_receipt = *fid_flow_receipt(flow);
	if (got < 0)
		fid_flow_free(flow);
	else
		*ret_flow = flow;
	return got;
}

int fid_flow_new_fed(struct fid_kernel *kernel, struct fid_flow **ret_flow, int sink,
		     const struct fid_options *options, bool source_is_stable)
{
	struct fid_flow *flow = calloc(1, sizeof(*flow));
	struct fid_objection objection;
	struct fid_facts facts;
	struct fid_stat stat;
	enum fid_call call;
	bool known;
	int got;

	if (!flow)
		return -ENOMEM;
	blank(flow, kernel, true);
	flow->source = -1;
	flow->sink = sink;
	keep_options(flow, options);
	flow->bytes_max = UINT64_MAX;
	flow->is_fed = flow->nowait = flow->running = true;
	flow->source_end = (struct fid_end){
		.kind = FID_KIND_PIPE,
		.readable = true,
		.nonblocking = true,
	};
	got = fid_end_examine(kernel, sink, &flow->sink_end, &stat, &call);
	flow->sink_end.offset_given = flow->sink_at >= 0;
	if (got == 0)
		got = fid_ask_sink(&flow->sink_end, &objection) ? 0 : objection.error;
	if (got < 0) {
		free(flow);
		return got;
	}
	flow->examined = true;
	known = fid_probe_known(kernel, &facts);
	fid_route_fed(&flow->sink_end, known ? &facts : NULL, source_is_stable, &flow->ladder);
	flow->pipe_refused = fid_flow_rung(flow)->method == FID_READ_WRITE;
	*ret_flow = flow;
	return 0;
}

int fid_flow_new(struct fid_flow **ret_flow, int source, int sink,
		 const struct fid_options *options, struct fid_receipt *ret_receipt)
{
	return fid_flow_new_on(fid_linux(), ret_flow, source, sink, options, ret_receipt);
}

/* ---- Moving ---- */

int fid_flow_step(struct fid_flow *flow, struct pollfd wait[2])
{
	int result = fid_flow_advance(flow);

	if (!wait)
		return result;
	wait[0] = wait[1] = (struct pollfd){.fd = -1};
	if (result == FID_WAIT) {
		wait[0] = flow->wait[0];
		wait[1] = flow->wait[1];
		wait[0].revents = wait[1].revents = 0;
	}
	return result;
}

/*
 * From here on nothing may sleep but poll. The choice is made again, since it may have fallen
 * on a call that sleeps; what the pipe holds for a blocking socket is read out and sent.
 */
static int become_nowait(struct fid_flow *flow)
{
	struct fid_options options = {
		.flags = FID_NOWAIT | (flow->stable ? FID_STABLE : 0) |
			 (flow->paced ? FID_PACED : 0),
		.routes = flow->routes,
		.require = flow->require,
		.bytes_max = flow->bytes_max == UINT64_MAX ? 0 : flow->bytes_max,
		.pipe_bytes = flow->pipe_bytes,
	};
	uint8_t method = fid_flow_rung(flow)->method;
	bool copying = flow->copying;
	int got;

	assert(flow->examined); /* only a fid_copy() without a time-out is not */
	flow->nowait = true;
	if (flow->pipe.held && !flow->sink_end.nonblocking &&
	    fid_kind_is_stream_socket(flow->sink_end.kind))
		flow->pipe_refused = true;
	got = choose(flow, &options);
	if (got < 0)
		return fid_flow_fail(flow, got, FID_SIDE_FID, FID_CALL_NONE);
	flow->copying &= copying;
	/* Go on with the same method; if that one sleeps, with the one that never does. */
	flow->rung = flow->ladder.count - 1;
	for (uint32_t i = 0; i < flow->ladder.count; i++)
		if (flow->ladder.rung[i].method == method)
			flow->rung = i;
	return 0;
}

/* Milliseconds until deadline_ns, rounded up; -1 without one. */
static int until(struct fid_kernel *kernel, uint64_t deadline_ns)
{
	uint64_t now;

	if (deadline_ns == UINT64_MAX)
		return -1;
	now = kernel->now_ns(kernel);
	return now >= deadline_ns ? 0 : (int)((deadline_ns - now + 999999) / 1000000);
}

/*
 * poll says "ready", the call says EAGAIN, again and again: a driver or a datagram with a bad
 * checksum. Sleeping a little costs such a case nothing and keeps the processor free.
 */
static int back_off(struct fid_flow *flow, uint32_t idle, int timeout_ms)
{
	uint32_t doublings = idle - IDLE_ROUNDS;
	int sleep_ms = doublings < 6 ? 1 << doublings : IDLE_SLEEP_MS_MAX;

	if (timeout_ms >= 0 && timeout_ms < sleep_ms)
		sleep_ms = timeout_ms;
	return flow->kernel->poll(flow->kernel, NULL, 0, sleep_ms);
}

/*
 * Waits as the machine asked. idle counts how often poll said "ready" since bytes moved.
 * Returns FID_MORE to go on, or what run returns.
 */
static int wait_for(struct fid_flow *flow, int timeout_ms, uint32_t *idle)
{
	struct fid_kernel *kernel = flow->kernel;
	struct pollfd *wait = flow->wait;
	bool believed = *idle < IDLE_ROUNDS;
	int got = believed ? kernel->poll(kernel, wait, 2, timeout_ms)
			   : back_off(flow, *idle, timeout_ms);

	if (got == -EINTR)
		return flow->interruptible ? -EINTR : FID_MORE;
	if (got < 0)
		return fid_flow_fail(flow, got, FID_SIDE_FID, FID_CALL_POLL);
	if (believed && got == 0)
		return FID_MORE;
	if (believed && wait[1].revents && !wait[1].events && !(wait[0].revents & ~POLLERR))
		return fid_flow_sink_has_events(flow, wait[1].revents) == ENDED
			       ? flow->receipt.error
			       : FID_MORE;
	++*idle;
	return FID_MORE;
}

int fid_flow_run(struct fid_flow *flow, int timeout_ms)
{
	uint64_t deadline_ns = UINT64_MAX;
	uint64_t moved = UINT64_MAX;
	uint32_t idle = 0;
	int result = FID_MORE;

	if (flow->ended)
		return flow->receipt.error;
	if (timeout_ms >= 0) {
		deadline_ns =
			flow->kernel->now_ns(flow->kernel) + (uint64_t)timeout_ms * 1000000;
		if (!flow->nowait)
			result = become_nowait(flow);
		if (result < 0)
			return result;
	}
	flow->running = true;
	for (;;) {
		int left_ms;

		result = fid_flow_advance(flow);
		if (result != FID_MORE && result != FID_WAIT)
			break;
		left_ms = until(flow->kernel, deadline_ns);
		if (left_ms == 0) {
			result = -ETIMEDOUT;
			break;
		}
		if (result == FID_MORE)
			continue;
		if (moved != flow->receipt.bytes_in + flow->receipt.bytes_out)
			idle = 0;
		moved = flow->receipt.bytes_in + flow->receipt.bytes_out;
		result = wait_for(flow, left_ms, &idle);
		if (result != FID_MORE)
			break;
	}
	flow->running = false;
	fid_quiet_release(flow->kernel, &flow->quiet);
	return result;
}

/* The stack's share of a small transfer; aligned for O_DIRECT. */
struct scratch {
	_Alignas(4096) unsigned char bytes[FID_SMALL_BYTES];
};

/*
 * By a flow on the stack. A plain one has scratch instead of a buffer, and may have begun: then
 * begun[] has what its first read and write returned.
 */
static int64_t copy_by_flow(struct fid_kernel *kernel, int source, int sink,
			    const struct fid_options *options, struct fid_receipt *ret_receipt,
			    struct scratch *scratch, const ssize_t begun[2])
{
	struct fid_flow flow = {0};
	int64_t result;

	blank(&flow, kernel, ret_receipt != NULL);
	result = init(&flow, source, sink, options, scratch != NULL);
	if (result == 0) {
		if (scratch) {
			flow.scratch = scratch->bytes;
			flow.scratch_bytes = sizeof(scratch->bytes);
		}
		if (begun)
			fid_flow_begin(&flow, begun[0], begun[1]);
		result = fid_flow_run(&flow, options->timeout_ms ? options->timeout_ms : -1);
	}
	if (ret_receipt)
		*ret_receipt = *fid_flow_receipt(&flow);
	if (result == 0)
		return (int64_t)flow.receipt.bytes_out;
	/* Held bytes go with the pipe and the buffer; the receipt says how many. */
	flow.buffer_held = 0;
	fid_flow_release(&flow);
	fid_pool_pipe_give(flow.pool, &flow.pipe);
	return result;
}

/*
 * Nearly always one read and one write move all of a small transfer, and making a flow would
 * cost as much as a third call. So the first round comes first, and a flow is made only to go
 * on from there. It is a function of its own for the sake of its stack.
 */
__attribute__((noinline)) static int64_t copy_plain(struct fid_kernel *kernel, int source,
						    int sink, const struct fid_options *options,
						    struct fid_receipt *ret_receipt)
{
	struct scratch scratch;
	ssize_t begun[2] = {0, 0};

	if (ret_receipt || options->flags & FID_INTERRUPTIBLE)
		return copy_by_flow(kernel, source, sink, options, ret_receipt, &scratch, NULL);
	begun[0] = kernel->read(
		kernel, source, scratch.bytes, (size_t)options->bytes_max,
		fid_ask_offset(options->source_offset, options->flags & FID_SOURCE_OFFSET));
	if (begun[0] > 0)
		begun[1] = kernel->write(kernel, sink, scratch.bytes, (size_t)begun[0],
					 FID_OWN_OFFSET, FID_WRITE_NOSIGNAL);
	if (begun[1] == (ssize_t)options->bytes_max)
		return begun[1];
	return copy_by_flow(kernel, source, sink, options, NULL, &scratch, begun);
}

int64_t fid_copy_on(struct fid_kernel *kernel, int source, int sink,
		    const struct fid_options *options, struct fid_receipt *ret_receipt)
{
	struct fid_options ours;
	int got = fid_options_take(&ours, sizeof(ours), options, sizeof(size_t));

	if (got < 0) {
		struct fid_flow flow = {0};

		blank(&flow, kernel, false);
		reject(&flow, got, FID_SIDE_FID, FID_CALL_NONE, "options of the wrong size");
		if (ret_receipt)
			*ret_receipt = flow.receipt;
		return got;
	}
	if (ours.flags & FID_PACED) {
		struct fid_flow flow = {0};

		blank(&flow, kernel, false);
		got = reject(&flow, -EINVAL, FID_SIDE_FID, FID_CALL_NONE,
			     "nobody could grant bytes to a paced fid_copy()");
		if (ret_receipt)
			*ret_receipt = flow.receipt;
		return got;
	}
	if (is_plain(&ours) && !fid_ask_options(&ours))
		return copy_plain(kernel, source, sink, &ours, ret_receipt);
	return copy_by_flow(kernel, source, sink, &ours, ret_receipt, NULL, NULL);
}

int64_t fid_copy(int source, int sink, const struct fid_options *options,
		 struct fid_receipt *ret_receipt)
{
	return fid_copy_on(fid_linux(), source, sink, options, ret_receipt);
}

/* ---- Pace ---- */

int fid_flow_grant(struct fid_flow *flow, uint64_t bytes)
{
	if (!flow->paced)
		return -EINVAL;
	if (__builtin_add_overflow(flow->bytes_granted, bytes, &flow->bytes_granted))
		flow->bytes_granted = UINT64_MAX;
	return 0;
}

/* ---- Ending ---- */

static size_t salvage_buffer(struct fid_flow *flow, unsigned char *to, size_t capacity)
{
	size_t bytes = flow->buffer_held < capacity ? flow->buffer_held : capacity;

	if (bytes == 0)
		return 0;
	memcpy(to, flow->buffer + flow->buffer_at, bytes);
	flow->buffer_at += bytes;
	flow->buffer_held -= bytes;
	fid_flow_end_loan(flow);
	return bytes;
}

/*
 * From the private pipe into the buffer, or straight to the caller where there is room for any
 * packet: of a packet that is read in part the rest is lost (pipe(2), O_DIRECT), and a pipe
 * keeps the packets of the pipe that it was filled from.
 */
static ssize_t salvage_pipe(struct fid_flow *flow, unsigned char *to, size_t capacity)
{
	struct fid_kernel *kernel = flow->kernel;
	bool straight = capacity >= PIPE_BUF || !fid_flow_take_buffer(flow);
	size_t room = straight ? capacity : fid_flow_buffer_bytes(flow);
	ssize_t got;

	do
		got = kernel->read(kernel, flow->pipe.read_end, straight ? to : flow->buffer,
				   at_most(flow->pipe.held, room), FID_OWN_OFFSET);
	while (got == -EINTR);
	if (got <= 0)
		return got;
	flow->pipe.held -= (size_t)got;
	if (straight)
		return got;
	flow->buffer_at = 0;
	flow->buffer_held = (size_t)got;
	return (ssize_t)salvage_buffer(flow, to, capacity);
}

ssize_t fid_flow_salvage(struct fid_flow *flow, void *buffer, size_t capacity)
{
	unsigned char *to = buffer;
	size_t taken = salvage_buffer(flow, to, capacity);
	ssize_t got = 0;

	while (taken < capacity && flow->pipe.held) {
		got = salvage_pipe(flow, to + taken, capacity - taken);
		if (got <= 0)
			break;
		taken += (size_t)got;
	}
	flow->receipt.bytes_held -= taken;
	flow->receipt.bytes_salvaged += taken;
	fid_flow_assert_account(flow);
	return taken || got >= 0 ? (ssize_t)taken : got;
}

const struct fid_receipt *fid_flow_receipt(struct fid_flow *flow)
{
	struct fid_receipt *receipt = &flow->receipt;
	const struct fid_rung *rung = fid_flow_rung(flow);
	uint64_t most = 0;

	if (!flow->ended && flow->timed && flow->started_ns)
		receipt->elapsed_ns = flow->kernel->now_ns(flow->kernel) - flow->started_ns;
	if (!flow->ladder.count)
		return receipt;
	receipt->route = flow->copying ? FID_READ_WRITE : rung->method;
	for (uint32_t method = 0; method < FID_METHODS; method++) {
		if (receipt->by_method[method] <= most)
			continue;
		most = receipt->by_method[method];
		receipt->route = method;
	}
	for (uint32_t i = 0; i < flow->ladder.count; i++)
		if (flow->ladder.rung[i].method == receipt->route)
			receipt->reason = flow->ladder.rung[i].reason;
	if (flow->exhausted)
		receipt->reason = "the kernel refused the last way that was allowed";
	return receipt;
}

struct fid_flow *fid_flow_free(struct fid_flow *flow)
{
	if (!flow)
		return NULL;
	flow->buffer_held = 0;
	fid_flow_release(flow);
	/* A pipe that still holds bytes is closed by the pool. */
	fid_pool_pipe_give(flow->pool, &flow->pipe);
	free(flow);
	return NULL;
}
