/* SPDX-License-Identifier: MIT */
#include "flow/judge.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

/* ---- The account ---- */

void fid_flow_assert_account(const struct fid_flow *flow)
{
	const struct fid_receipt *receipt = &flow->receipt;

	(void)receipt; /* without assertions */
	assert(receipt->bytes_held == flow->buffer_held + flow->pipe.held);
	assert(receipt->bytes_in ==
	       receipt->bytes_out + receipt->bytes_held + receipt->bytes_salvaged);
	assert(receipt->bytes_out == receipt->by_class[FID_BY_REFERENCE] +
					     receipt->by_class[FID_KERNEL_COPY] +
					     receipt->by_class[FID_USER_COPY]);
	assert(receipt->bytes_in <= flow->bytes_max);
	assert(receipt->bytes_in <= flow->bytes_granted);
}

/* Offsets are moved here only for read and write; the other calls move them themselves. */
void fid_flow_taken(struct fid_flow *flow, size_t bytes)
{
	flow->receipt.bytes_in += bytes;
	flow->receipt.bytes_held += bytes;
}

void fid_flow_given(struct fid_flow *flow, enum fid_method method, enum fid_class class_,
		    bool stable, size_t bytes)
{
	struct fid_receipt *receipt = &flow->receipt;

	receipt->bytes_out += bytes;
	receipt->bytes_held -= bytes;
	receipt->by_class[class_] += bytes;
	receipt->by_method[method] += bytes;
	receipt->stable &= stable;
	flow->stalls = 0;
	flow->sink_is_noisy = false;
	flow->sink_room = 0;
}

/* ---- What a flow borrows while it holds bytes ---- */

bool fid_flow_take_buffer(struct fid_flow *flow)
{
	if (!flow->buffer && flow->scratch)
		flow->buffer = flow->scratch;
	if (!flow->buffer && flow->pool)
		flow->buffer = fid_pool_buffer_take(flow->pool);
	return flow->buffer;
}

size_t fid_flow_buffer_bytes(const struct fid_flow *flow)
{
	return flow->scratch ? flow->scratch_bytes : FID_BUFFER_BYTES;
}

void fid_flow_release(struct fid_flow *flow)
{
	if (flow->pipe.held == 0)
		fid_pool_pipe_give(flow->pool, &flow->pipe);
	fid_flow_end_loan(flow);
	if (flow->buffer && flow->buffer_held == 0) {
		if (flow->buffer != flow->scratch)
			fid_pool_buffer_give(flow->pool, flow->buffer);
		flow->buffer = NULL;
	}
}

/* What takes an offset is no pipe and no socket. */
bool fid_flow_raises_sigpipe(const struct fid_flow *flow)
{
	if (flow->sink_at >= 0)
		return false;
	return flow->sink_end.kind == FID_KIND_PIPE ||
	       fid_kind_is_stream_socket(flow->sink_end.kind) || !flow->examined;
}

/* ---- The end ---- */

static void note_change(struct fid_flow *flow)
{
	struct fid_stat now;

	if (!flow->examined || flow->source_end.kind != FID_KIND_REGULAR)
		return;
	if (flow->kernel->stat(flow->kernel, flow->source, &now) < 0)
		return;
	flow->receipt.source_changed = now.size != flow->source_size ||
				       now.modified_ns != flow->source_modified_ns ||
				       now.changed_ns != flow->source_changed_ns;
}

enum outcome fid_flow_finish(struct fid_flow *flow)
{
	flow->ended = true;
	note_change(flow);
	if (flow->timed)
		flow->receipt.elapsed_ns =
			flow->kernel->now_ns(flow->kernel) - flow->started_ns;
	fid_flow_release(flow);
	return ENDED;
}

enum outcome fid_flow_end(struct fid_flow *flow, int error, enum fid_side side,
			  enum fid_call call)
{
	flow->receipt.error = error;
	flow->receipt.error_side = side;
	flow->receipt.error_call = call;
	return fid_flow_finish(flow);
}

static bool is_connection_error(int error)
{
	switch (error) {
	case -ECONNRESET:
	case -ECONNABORTED:
	case -ECONNREFUSED:
	case -ETIMEDOUT:
	case -EHOSTUNREACH:
	case -ENETUNREACH:
	case -ENETDOWN:
	case -ENOTCONN:
		return true;
	default:
		return false;
	}
}

/*
 * Whose error it is when one call has both ends. Reading one byte of a file again at the same
 * place tells: reading it moves nothing.
 */
static enum fid_side blame(struct fid_flow *flow, int error)
{
	struct fid_kernel *kernel = flow->kernel;
	int64_t at = flow->source_at;
	char byte;
	ssize_t got;

	switch (error) {
	case -ENOSPC:
	case -EDQUOT:
	case -EFBIG:
	case -EPIPE:
	case -EROFS:
		return FID_SIDE_SINK;
	default:
		break;
	}
	if (flow->source_end.kind == FID_KIND_PIPE)
		return FID_SIDE_SINK;
	/* Only a connection is reset or times out, and at most one end is one here. */
	if (is_connection_error(error))
		return fid_kind_is_stream_socket(flow->sink_end.kind) ? FID_SIDE_SINK
								      : FID_SIDE_SOURCE;
	if (flow->source_end.kind != FID_KIND_REGULAR)
		return flow->sink_end.kind == FID_KIND_PIPE ? FID_SIDE_SOURCE : FID_SIDE_NONE;
	if (at < 0)
		at = kernel->seek(kernel, flow->source, 0, SEEK_CUR);
	if (at < 0)
		return FID_SIDE_NONE;
	got = kernel->read(kernel, flow->source, &byte, 1, at);
	if (got == error)
		return FID_SIDE_SOURCE;
	return got >= 0 ? FID_SIDE_SINK : FID_SIDE_NONE;
}

/* ---- The ladder ---- */

/* An error that means "not this way": nothing has moved, and another way may do. */
bool fid_is_refusal(enum fid_method method, int error)
{
	if (fid_not_this_way(error))
		return method != FID_READ_WRITE;
	switch (error) {
	case -EXDEV:
	case -EBADF: /* copy_file_range and O_APPEND; the descriptors were looked at before */
	case -ETXTBSY:
	case -EISDIR:
		return method == FID_COPY_FILE_RANGE;
	case -EOVERFLOW:
	case -ESPIPE:
		return method == FID_SENDFILE || method == FID_COPY_FILE_RANGE;
	default:
		return false;
	}
}

/*
 * The last rung that is allowed has failed. A refusal there is nobody's fault but that of what
 * fid was allowed to do; a disk that fails is somebody's.
 */
static enum outcome exhaust(struct fid_flow *flow, int error, enum fid_call call,
			    enum fid_side side)
{
	if (!side && (error == -EIO || error == -ENOSPC || error == -EDQUOT || error == -EROFS))
		side = blame(flow, error);
	else if (!side)
		side = FID_SIDE_FID;
	flow->receipt.require_unmet = flow->require != FID_REQUIRE_NOTHING;
	flow->exhausted = true;
	return fid_flow_end(flow, error, side, call);
}

static bool is_last_rung(const struct fid_flow *flow)
{
	return flow->rung + 1 >= flow->ladder.count;
}

enum outcome fid_flow_demote(struct fid_flow *flow, int error, enum fid_call call,
			     enum fid_side side)
{
	const struct fid_ladder *ladder = &flow->ladder;
	struct fid_receipt *receipt = &flow->receipt;
	enum fid_method from = fid_flow_rung(flow)->method;

	if (is_last_rung(flow))
		return exhaust(flow, error ? error : -EOPNOTSUPP, call, side);
	/*
	 * After an early end of file only a method that cannot be wrong about it will do, and
	 * what the pipe holds for a sink that refuses it can only be read out and written.
	 */
	if (error == 0 || flow->pipe.held) {
		if (ladder->rung[ladder->count - 1].method != FID_READ_WRITE)
			return exhaust(flow, error ? error : -EOPNOTSUPP, call, side);
		flow->rung = ladder->count - 2;
	}
	flow->rung++;
	flow->copying = false;
	flow->pace = 0;
	flow->stalls = 0;
	if (receipt->demotions < FID_DEMOTIONS_MAX)
		receipt->demotion[receipt->demotions++] = (struct fid_demotion){
			.from = (uint8_t)from,
			.to = fid_flow_rung(flow)->method,
			.call = (uint8_t)call,
			.side = (uint8_t)side,
			.error = error,
			.at_bytes = receipt->bytes_in,
		};
	/* A pipe that saw a failure is not worth the doubt. */
	flow->pipe.doubtful = true;
	fid_flow_release(flow);
	return CHANGED;
}

/* The rung does not fit after all; nobody refused anything. */
enum outcome fid_flow_next_rung(struct fid_flow *flow)
{
	if (is_last_rung(flow))
		return exhaust(flow, -EOPNOTSUPP, FID_CALL_NONE, FID_SIDE_FID);
	flow->rung++;
	return CHANGED;
}

/* ---- Waiting ---- */

static bool sink_may_die(const struct fid_flow *flow)
{
	return !flow->examined || fid_kind_may_wait(flow->sink_end.kind);
}

static enum outcome wait_for_source(struct fid_flow *flow)
{
	bool watch = sink_may_die(flow) && !flow->sink_is_noisy;

	flow->wait[0] = (struct pollfd){.fd = flow->source, .events = POLLIN};
	flow->wait[1] = (struct pollfd){.fd = watch ? flow->sink : -1};
	return WAITING;
}

enum outcome fid_flow_wait_for_sink(struct fid_flow *flow)
{
	flow->wait[0] = (struct pollfd){.fd = -1};
	flow->wait[1] = (struct pollfd){.fd = flow->sink, .events = POLLOUT};
	return WAITING;
}

/*
 * A socket has POLLERR also when its error queue holds something (time stamps, MSG_ZEROCOPY,
 * IP_RECVERR) and is well. An error of its own comes with POLLIN or POLLHUP as well, so POLLERR
 * alone does not make a source ready.
 */
static bool is_readable(const struct fid_flow *flow, short events)
{
	return events != 0 && !(events == POLLERR && fid_kind_is_socket(flow->source_end.kind));
}

/*
 * The sink has events that nobody asked for, while the flow waits for the source. A socket that
 * has POLLERR and is well cannot be watched until something was delivered to it.
 */
enum outcome fid_flow_sink_has_events(struct fid_flow *flow, short events)
{
	int error = -ENOTSOCK;

	if (events & POLLNVAL)
		return fid_flow_end(flow, -EBADF, FID_SIDE_SINK, FID_CALL_POLL);
	if (!flow->examined || fid_kind_is_socket(flow->sink_end.kind))
		error = flow->kernel->socket_error(flow->kernel, flow->sink);
	if (error == 0 && !(events & POLLHUP)) {
		flow->sink_is_noisy = true;
		return wait_for_source(flow);
	}
	if (error == 0 || error == -ENOTSOCK)
		error = -EPIPE;
	return fid_flow_end(flow, error, FID_SIDE_SINK, FID_CALL_POLL);
}

/* The kernel says that a side is ready and EAGAIN by turns: try again, but not for ever. */
static enum outcome stall(struct fid_flow *flow)
{
	if (++flow->stalls < STALLS_MAX)
		return CHANGED;
	if (!is_last_rung(flow) && fid_flow_rung(flow)->method != FID_READ_WRITE &&
	    !flow->receipt.bytes_held)
		return fid_flow_demote(flow, -EAGAIN, FID_CALL_POLL, FID_SIDE_NONE);
	flow->stalls = STALLS_MAX;
	return WAITING;
}

/*
 * EAGAIN from the source with nothing held. A step that is not in run cannot know whether its
 * caller looks at the sink before it waits, so it looks itself: a relay whose far end has died
 * would otherwise sit on an idle source for ever.
 */
enum outcome fid_flow_source_is_empty(struct fid_flow *flow)
{
	enum outcome outcome = wait_for_source(flow);
	int got;

	fid_flow_release(flow);
	if (flow->running || flow->wait[1].fd < 0)
		return outcome;
	got = flow->kernel->poll(flow->kernel, flow->wait, 2, 0);
	if (got == -EINTR && flow->interruptible)
		return INTERRUPTED;
	if (got <= 0)
		return outcome;
	if (is_readable(flow, flow->wait[0].revents))
		return stall(flow);
	return flow->wait[1].revents ? fid_flow_sink_has_events(flow, flow->wait[1].revents)
				     : outcome;
}

/*
 * EAGAIN from a call with both ends, one of them a pipe, does not say which side it means
 * (splice(2)); poll(2) does.
 */
static enum outcome either_is_not_ready(struct fid_flow *flow)
{
	struct pollfd ends[2] = {
		{.fd = flow->source, .events = POLLIN},
		{.fd = flow->sink, .events = POLLOUT},
	};
	int got = flow->kernel->poll(flow->kernel, ends, 2, 0);

	if (got == -EINTR)
		return flow->interruptible ? INTERRUPTED : CHANGED;
	if (got < 0)
		return fid_flow_end(flow, got, FID_SIDE_FID, FID_CALL_POLL);
	if (!is_readable(flow, ends[0].revents)) {
		fid_flow_release(flow);
		if (ends[1].revents & (POLLERR | POLLHUP | POLLNVAL))
			return fid_flow_sink_has_events(flow, ends[1].revents);
		return wait_for_source(flow);
	}
	fid_flow_wait_for_sink(flow);
	return ends[1].revents ? stall(flow) : WAITING;
}

/* With FID_NOWAIT a blocking descriptor is asked before it is used. */
bool fid_flow_must_ask(const struct fid_flow *flow, const struct fid_end *end)
{
	return flow->nowait && !end->nonblocking && fid_kind_may_wait(end->kind);
}

/* A file without a size may be one of those in /proc and tracefs that wait for news. */
bool fid_flow_must_ask_source(const struct fid_flow *flow)
{
	return fid_flow_must_ask(flow, &flow->source_end) ||
	       (flow->nowait && flow->source_end.kind == FID_KIND_REGULAR &&
		flow->source_size == 0);
}

/* Asks poll(2) for events of fd. MOVED: it is ready. */
enum outcome fid_flow_ask(struct fid_flow *flow, int fd, short events)
{
	struct pollfd wait = {.fd = fd, .events = events};
	int got = flow->kernel->poll(flow->kernel, &wait, 1, 0);

	if (got == -EINTR)
		return flow->interruptible ? INTERRUPTED : CHANGED;
	if (got < 0)
		return fid_flow_end(flow, got, FID_SIDE_FID, FID_CALL_POLL);
	if (events == POLLIN && !is_readable(flow, wait.revents))
		return WAITING;
	return got > 0 ? MOVED : WAITING;
}

/* MOVED: the source can be read without sleeping. */
enum outcome fid_flow_ask_source(struct fid_flow *flow)
{
	enum outcome outcome = fid_flow_ask(flow, flow->source, POLLIN);

	return outcome == WAITING ? fid_flow_source_is_empty(flow) : outcome;
}

enum outcome fid_flow_on_error(struct fid_flow *flow, enum fid_method method, int error,
			       enum fid_call call, enum fid_side side, enum fid_side waiter)
{
	if (error == -EINTR)
		return flow->interruptible ? INTERRUPTED : CHANGED;
	/* What gVisor says for a full pipe after a TCP socket: a flow has no bad address. */
	if (error == -EFAULT && method == FID_SPLICE)
		return ++flow->stalls < STALLS_MAX ? fid_flow_wait_for_sink(flow)
						   : fid_flow_demote(flow, error, call, side);
	if (error == -EAGAIN) {
		if (waiter == FID_SIDE_SOURCE)
			return fid_flow_source_is_empty(flow);
		if (waiter == FID_SIDE_SINK)
			return fid_flow_wait_for_sink(flow);
		return either_is_not_ready(flow);
	}
	if (fid_is_refusal(method, error)) {
		flow->pipe_refused |= flow->pipe.held > 0;
		return fid_flow_demote(flow, error, call, side);
	}
	return fid_flow_end(flow, error, side ? side : blame(flow, error), call);
}

int fid_flow_fail(struct fid_flow *flow, int error, enum fid_side side, enum fid_call call)
{
	fid_flow_end(flow, error, side, call);
	return error;
}
