/* SPDX-License-Identifier: MIT */
/*
 * One direction between two descriptors, as a state machine.
 *
 * Bytes that were taken and not delivered are in the buffer or in the private pipe, and those
 * in the buffer are older. advance() therefore empties the buffer, then the pipe, and only then
 * takes more: whatever happens, order is kept and nothing is overtaken.
 *
 * The first byte is the commit point. Before it, a refusal means "try the next rung". After it,
 * a refusal leaves the bytes where they are, so the next rung may still go on from there, after
 * what is held. A true I/O error ends the flow at once with exact counts; it is never tried
 * again by other means, which would hide it or deliver twice.
 */
#include "flow/machine.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum {
	STEP_ROUNDS = 16, /* what one step does at most, so that other flows get their turn */
	STEP_BYTES = 8 << 20,  /* likewise */
	STALLS_MAX = 8,        /* "ready" and EAGAIN by turns, before the method is doubted */
	FAST_BYTES = 16 << 10, /* reads of this size, and so many, make a stream worth a pipe */
	FAST_READS = 2,
	SLOW_BYTES = 4 << 10, /* and transfers below this make it worth a copy again */
	SLOW_READS = 4,
	COPY_BYTES = 64 << 10,    /* a read while it is not known how fast a stream is */
	BLOCKING_WRITE = 4 << 10, /* POLLOUT promises one page: pipe(7), PIPE_BUF */
};

enum outcome {
	MOVED,   /* bytes moved */
	CHANGED, /* none moved, but the next round is another one */
	WAITING, /* the flow's wait[] says for what */
	INTERRUPTED,
	ENDED,
};

/* ---- The account ------------------------------------------------------------------------- */

static uint64_t bytes_left(const struct fid_flow *flow)
{
	return flow->bytes_max - flow->receipt.bytes_in;
}

static size_t at_most(uint64_t bytes, uint64_t limit)
{
	return (size_t)(bytes < limit ? bytes : limit);
}

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
}

/* Offsets are moved here only for read and write; the other calls move them themselves. */
static void account_taken(struct fid_flow *flow, size_t bytes)
{
	flow->receipt.bytes_in += bytes;
	flow->receipt.bytes_held += bytes;
}

static void account_given(struct fid_flow *flow, enum fid_method method, enum fid_class class_,
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
}

/* ---- What a flow borrows while it holds bytes ----------------------------------------------
 */

static bool take_buffer(struct fid_flow *flow)
{
	if (!flow->buffer && flow->scratch)
		flow->buffer = flow->scratch;
	if (!flow->buffer && flow->pool)
		flow->buffer = fid_pool_buffer_take(flow->pool);
	return flow->buffer;
}

static size_t buffer_bytes(const struct fid_flow *flow)
{
	return flow->scratch ? flow->scratch_bytes : FID_BUFFER_BYTES;
}

void fid_flow_release(struct fid_flow *flow)
{
	if (flow->pipe.held == 0)
		fid_pool_pipe_give(flow->pool, &flow->pipe);
	if (flow->buffer && flow->buffer_held == 0) {
		if (flow->buffer != flow->scratch)
			fid_pool_buffer_give(flow->pool, flow->buffer);
		flow->buffer = NULL;
	}
}

void fid_flow_release_sigpipe(struct fid_flow *flow)
{
	if (flow->sigpipe.held)
		flow->kernel->sigpipe_release(flow->kernel, &flow->sigpipe,
					      flow->sigpipe_raised);
	flow->sigpipe_raised = false;
}

static void hold_sigpipe(struct fid_flow *flow)
{
	if (!flow->sigpipe.held)
		flow->kernel->sigpipe_hold(flow->kernel, &flow->sigpipe);
}

/*
 * A call under the guard returned result of the bytes wanted. One that sleeps half way while
 * the reader goes away returns what it moved and raises SIGPIPE all the same (pipe_write() and
 * splice_to_socket() in Linux 6.18), so anything but all of it may have a signal behind it.
 */
static void note_sigpipe(struct fid_flow *flow, ssize_t result, size_t wanted)
{
	if (flow->sigpipe.held && result != (ssize_t)wanted)
		flow->sigpipe_raised = true;
}

/* What takes an offset is no pipe and no socket. */
static bool raises_sigpipe(const struct fid_flow *flow)
{
	if (flow->sink_at >= 0)
		return false;
	return flow->sink_end.kind == FID_KIND_PIPE ||
	       fid_kind_is_stream_socket(flow->sink_end.kind) || !flow->examined;
}

/* ---- The end -------------------------------------------------------------------------------
 */

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

static enum outcome finish(struct fid_flow *flow)
{
	flow->ended = true;
	note_change(flow);
	if (flow->timed)
		flow->receipt.elapsed_ns =
			flow->kernel->now_ns(flow->kernel) - flow->started_ns;
	fid_flow_release(flow);
	return ENDED;
}

static enum outcome fail(struct fid_flow *flow, int error, enum fid_side side,
			 enum fid_call call)
{
	flow->receipt.error = error;
	flow->receipt.error_side = side;
	flow->receipt.error_call = call;
	return finish(flow);
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
	/* Only a connection is reset, unreachable or timed out, and at most one end is one
	 * here. */
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

/* ---- The ladder ----------------------------------------------------------------------------
 */

/* An error that means "not this way": nothing has moved, and another way may do. */
static bool is_refusal(enum fid_method method, int error)
{
	switch (error) {
	case -EINVAL: /* ten things: O_APPEND, /dev/full, a proc file, kTLS records ... */
	case -EPERM:  /* seccomp, or a sealed file, which write will name */
	case -ENOSYS:
	case -EOPNOTSUPP:
	case -ENOMEM:
		return method != FID_READ_WRITE;
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
	flow->receipt.require_unmet = flow->required;
	flow->exhausted = true;
	return fail(flow, error, side, call);
}

static bool is_last_rung(const struct fid_flow *flow)
{
	return flow->rung + 1 >= flow->ladder.count;
}

static enum outcome demote(struct fid_flow *flow, int error, enum fid_call call,
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
static enum outcome next_rung(struct fid_flow *flow)
{
	if (is_last_rung(flow))
		return exhaust(flow, -EOPNOTSUPP, FID_CALL_NONE, FID_SIDE_FID);
	flow->rung++;
	return CHANGED;
}

/* ---- Waiting -------------------------------------------------------------------------------
 */

static bool sink_may_die(const struct fid_flow *flow)
{
	return !flow->examined || fid_kind_may_wait(flow->sink_end.kind);
}

static bool is_socket(const struct fid_end *end)
{
	return end->kind == FID_KIND_SOCKET || fid_kind_is_stream_socket(end->kind);
}

static enum outcome wait_for_source(struct fid_flow *flow)
{
	bool watch = sink_may_die(flow) && !flow->sink_is_noisy;

	flow->wait[0] = (struct pollfd){.fd = flow->source, .events = POLLIN};
	flow->wait[1] = (struct pollfd){.fd = watch ? flow->sink : -1};
	return WAITING;
}

static enum outcome wait_for_sink(struct fid_flow *flow)
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
	return events != 0 && !(events == POLLERR && is_socket(&flow->source_end));
}

/*
 * The sink has events that nobody asked for, while the flow waits for the source. A socket that
 * has POLLERR and is well cannot be watched until something was delivered to it.
 */
static enum outcome sink_has_events(struct fid_flow *flow, short events)
{
	int error = -ENOTSOCK;

	if (events & POLLNVAL)
		return fail(flow, -EBADF, FID_SIDE_SINK, FID_CALL_POLL);
	if (!flow->examined || is_socket(&flow->sink_end))
		error = flow->kernel->socket_error(flow->kernel, flow->sink);
	if (error == 0 && !(events & POLLHUP)) {
		flow->sink_is_noisy = true;
		return wait_for_source(flow);
	}
	if (error == 0 || error == -ENOTSOCK)
		error = -EPIPE;
	return fail(flow, error, FID_SIDE_SINK, FID_CALL_POLL);
}

/* The kernel says that a side is ready and EAGAIN by turns: try again, but not for ever. */
static enum outcome stall(struct fid_flow *flow)
{
	if (++flow->stalls < STALLS_MAX)
		return CHANGED;
	if (!is_last_rung(flow) && fid_flow_rung(flow)->method != FID_READ_WRITE &&
	    !flow->receipt.bytes_held)
		return demote(flow, -EAGAIN, FID_CALL_POLL, FID_SIDE_NONE);
	flow->stalls = STALLS_MAX;
	return WAITING;
}

/*
 * EAGAIN from the source with nothing held. A step that is not in run cannot know whether its
 * caller looks at the sink before it waits, so it looks itself: a relay whose far end has died
 * would otherwise sit on an idle source for ever.
 */
static enum outcome source_is_empty(struct fid_flow *flow)
{
	enum outcome outcome = wait_for_source(flow);
	int got;

	fid_flow_release(flow);
	if (flow->running || flow->wait[1].fd < 0)
		return outcome;
	got = flow->kernel->poll(flow->kernel, flow->wait, 2, 0);
	if (got <= 0)
		return outcome;
	if (is_readable(flow, flow->wait[0].revents))
		return stall(flow);
	return flow->wait[1].revents ? sink_has_events(flow, flow->wait[1].revents) : outcome;
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

	if (got < 0)
		return got == -EINTR ? CHANGED : fail(flow, got, FID_SIDE_FID, FID_CALL_POLL);
	if (!is_readable(flow, ends[0].revents)) {
		fid_flow_release(flow);
		if (ends[1].revents & (POLLERR | POLLHUP | POLLNVAL))
			return sink_has_events(flow, ends[1].revents);
		return wait_for_source(flow);
	}
	wait_for_sink(flow);
	return ends[1].revents ? stall(flow) : WAITING;
}

/* With FID_NOWAIT a blocking descriptor is asked before it is used. */
static bool must_ask(const struct fid_flow *flow, const struct fid_end *end)
{
	return flow->nowait && !end->nonblocking && fid_kind_may_wait(end->kind);
}

/* A file without a size may be one of those in /proc and tracefs that wait for news. */
static bool must_ask_source(const struct fid_flow *flow)
{
	return must_ask(flow, &flow->source_end) ||
	       (flow->nowait && flow->source_end.kind == FID_KIND_REGULAR &&
		flow->source_size == 0);
}

/* Asks poll(2) for events of fd. MOVED: it is ready. */
static enum outcome ask(struct fid_flow *flow, int fd, short events)
{
	struct pollfd wait = {.fd = fd, .events = events};
	int got = flow->kernel->poll(flow->kernel, &wait, 1, 0);

	if (got == -EINTR)
		return flow->interruptible ? INTERRUPTED : CHANGED;
	if (got < 0)
		return fail(flow, got, FID_SIDE_FID, FID_CALL_POLL);
	return got > 0 ? MOVED : WAITING;
}

/* MOVED: the source can be read without sleeping. */
static enum outcome ask_source(struct fid_flow *flow)
{
	enum outcome outcome = ask(flow, flow->source, POLLIN);

	return outcome == WAITING ? source_is_empty(flow) : outcome;
}

static unsigned splice_flags(const struct fid_flow *flow)
{
	/* Never SPLICE_F_MORE: with nothing to follow it delays the tail by 200 ms (measured).
	 */
	return flow->nowait ? SPLICE_F_NONBLOCK : 0;
}

/* What to do after a call returned error; waiter is the side that EAGAIN means. */
static enum outcome on_error(struct fid_flow *flow, enum fid_method method, int error,
			     enum fid_call call, enum fid_side side, enum fid_side waiter)
{
	if (error == -EINTR)
		return flow->interruptible ? INTERRUPTED : CHANGED;
	if (error == -EAGAIN) {
		if (waiter == FID_SIDE_SOURCE)
			return source_is_empty(flow);
		if (waiter == FID_SIDE_SINK)
			return wait_for_sink(flow);
		return either_is_not_ready(flow);
	}
	if (is_refusal(method, error)) {
		flow->pipe_refused |= flow->pipe.held > 0;
		return demote(flow, error, call, side);
	}
	return fail(flow, error, side ? side : blame(flow, error), call);
}

/* ---- read and write ------------------------------------------------------------------------
 */

/*
 * A stream is worth a pipe when it brings much at once, and not when it brings little: below
 * 4-16 KiB a message is cheaper to copy (measured on 6.18, echo through a relay).
 */
static void note_pace(struct fid_flow *flow, size_t bytes)
{
	bool against = flow->copying ? bytes >= FAST_BYTES : bytes < SLOW_BYTES;

	if (!flow->ladder.start_small || fid_flow_rung(flow)->method != FID_SPLICE_PIPE)
		return;
	flow->pace = against ? flow->pace + 1 : 0;
	if (flow->pace < (flow->copying ? FAST_READS : SLOW_READS))
		return;
	flow->pace = 0;
	flow->copying = !flow->copying;
}

/* Reads into the empty buffer. from is the source, or the private pipe that must be emptied. */
static ssize_t read_into_buffer(struct fid_flow *flow, int from, int64_t offset, uint64_t want)
{
	ssize_t got = flow->kernel->read(flow->kernel, from, flow->buffer,
					 at_most(want, buffer_bytes(flow)), offset);

	flow->receipt.calls[FID_READ_WRITE]++;
	if (got > 0) {
		flow->buffer_at = 0;
		flow->buffer_held = (size_t)got;
	}
	return got;
}

/* What a read from the source into the buffer, which returned got, means. */
static enum outcome judge_read(struct fid_flow *flow, ssize_t got)
{
	if (got < 0)
		return on_error(flow, FID_READ_WRITE, (int)got, FID_CALL_READ, FID_SIDE_SOURCE,
				FID_SIDE_SOURCE);
	if (got == 0)
		return finish(flow);
	if (flow->source_at >= 0)
		flow->source_at += got;
	account_taken(flow, (size_t)got);
	return MOVED;
}

static enum outcome take_by_read(struct fid_flow *flow)
{
	uint64_t want = flow->copying ? COPY_BYTES : fid_flow_rung(flow)->chunk_bytes;
	ssize_t got;

	if (!take_buffer(flow))
		return fail(flow, -ENOMEM, FID_SIDE_FID, FID_CALL_MEMORY);
	if (must_ask_source(flow)) {
		enum outcome asked = ask_source(flow);

		if (asked != MOVED)
			return asked;
	}
	got = read_into_buffer(flow, flow->source, flow->source_at,
			       at_most(bytes_left(flow), want));
	if (got > 0)
		note_pace(flow, (size_t)got);
	return judge_read(flow, got);
}

/*
 * A call said "end of file". Only read(2) is believed: splice and sendfile stop at a wrong
 * st_size and swallow EIO on FUSE, copy_file_range answers 0 for some pseudo files, and gVisor
 * answers 0 for an empty pipe.
 */
static enum outcome confirm_end(struct fid_flow *flow)
{
	enum outcome outcome;
	ssize_t got;

	if (!take_buffer(flow))
		return fail(flow, -ENOMEM, FID_SIDE_FID, FID_CALL_MEMORY);
	if (must_ask_source(flow)) {
		outcome = ask_source(flow);
		if (outcome != MOVED) {
			flow->end_claimed = outcome != WAITING;
			return outcome;
		}
	}
	got = read_into_buffer(flow, flow->source, flow->source_at, bytes_left(flow));
	if (got == -EAGAIN || got > 0)
		flow->end_claimed = false;
	outcome = judge_read(flow, got);
	/* The claim may be older than a change to read and write, which makes none. */
	if (outcome != MOVED || fid_flow_rung(flow)->method == FID_READ_WRITE)
		return outcome;
	return demote(flow, 0, FID_CALL_READ, FID_SIDE_SOURCE);
}

/*
 * A regular source should end here. To let a call find that out could wait for ever: splice to
 * a pipe that the file has just filled sleeps before it looks at the file. Looking at one byte
 * takes nothing, and if there is one the size was wrong or has changed, and the flow goes on.
 */
static enum outcome look_for_end(struct fid_flow *flow)
{
	char byte;
	ssize_t got = flow->kernel->read(flow->kernel, flow->source, &byte, 1,
					 flow->source_start + (int64_t)flow->receipt.bytes_in);

	flow->end_expected = UINT64_MAX;
	return got == 0 ? finish(flow) : CHANGED;
}

/* One write without SIGPIPE. */
static ssize_t write_to_sink(struct fid_flow *flow, const void *from, size_t bytes)
{
	struct fid_kernel *kernel = flow->kernel;
	ssize_t written;

	flow->receipt.calls[FID_READ_WRITE]++;
	if (is_socket(&flow->sink_end))
		return kernel->write(kernel, flow->sink, from, bytes, flow->sink_at,
				     FID_WRITE_SOCKET | (flow->nowait ? FID_WRITE_NOWAIT : 0));
	if (!raises_sigpipe(flow))
		return kernel->write(kernel, flow->sink, from, bytes, flow->sink_at, 0);
	if (!flow->plain_write) {
		written = kernel->write(kernel, flow->sink, from, bytes, flow->sink_at,
					FID_WRITE_NOSIGNAL);
		if (written >= 0 || !is_refusal(FID_SPLICE, (int)written))
			return written;
		flow->plain_write = true;
	}
	hold_sigpipe(flow);
	written = kernel->write(kernel, flow->sink, from, bytes, flow->sink_at, 0);
	note_sigpipe(flow, written, bytes);
	return written;
}

/* What a write from the buffer to the sink, which returned written, means. */
static enum outcome judge_write(struct fid_flow *flow, ssize_t written)
{
	if (written < 0)
		return on_error(flow, FID_READ_WRITE, (int)written, FID_CALL_WRITE,
				FID_SIDE_SINK, FID_SIDE_SINK);
	if (written == 0)
		return ++flow->stalls < STALLS_MAX
			       ? CHANGED
			       : fail(flow, -EIO, FID_SIDE_SINK, FID_CALL_WRITE);
	if (flow->sink_at >= 0)
		flow->sink_at += written;
	flow->buffer_at += (size_t)written;
	flow->buffer_held -= (size_t)written;
	account_given(flow, FID_READ_WRITE, FID_USER_COPY, true, (size_t)written);
	return MOVED;
}

static enum outcome give_buffer(struct fid_flow *flow)
{
	size_t want = flow->buffer_held;

	if (must_ask(flow, &flow->sink_end) && !is_socket(&flow->sink_end)) {
		enum outcome asked = ask(flow, flow->sink, POLLOUT);

		if (asked != MOVED)
			return asked == WAITING ? wait_for_sink(flow) : asked;
		want = at_most(want, BLOCKING_WRITE);
	}
	return judge_write(flow, write_to_sink(flow, flow->buffer + flow->buffer_at, want));
}

void fid_flow_begin(struct fid_flow *flow, ssize_t taken, ssize_t given)
{
	take_buffer(flow);
	flow->receipt.calls[FID_READ_WRITE]++;
	flow->buffer_held = taken > 0 ? (size_t)taken : 0;
	if (judge_read(flow, taken) != MOVED || is_refusal(FID_SPLICE, (int)given))
		return;
	flow->receipt.calls[FID_READ_WRITE]++;
	judge_write(flow, given);
}

/* ---- The private pipe ----------------------------------------------------------------------
 */

/* The sink refused to splice what the pipe holds: read it out, it will be written next. */
static enum outcome empty_pipe(struct fid_flow *flow)
{
	ssize_t got;

	if (!take_buffer(flow))
		return fail(flow, -ENOMEM, FID_SIDE_FID, FID_CALL_MEMORY);
	got = read_into_buffer(flow, flow->pipe.read_end, FID_OWN_OFFSET, flow->pipe.held);
	if (got <= 0)
		return on_error(flow, FID_READ_WRITE, got ? (int)got : -EIO, FID_CALL_READ,
				FID_SIDE_FID, FID_SIDE_SOURCE);
	flow->pipe.held -= (size_t)got;
	return MOVED;
}

static enum outcome fill_pipe(struct fid_flow *flow)
{
	int64_t *offset = flow->source_at >= 0 ? &flow->source_at : NULL;
	ssize_t got;

	if (!fid_pipe_is_open(&flow->pipe)) {
		size_t asked = fid_flow_rung(flow)->pipe_bytes;
		int refused = fid_pool_pipe_take(flow->pool, asked, &flow->pipe);

		if (refused == -ENOBUFS && flow->ladder.start_small) {
			flow->copying = true; /* until the pool has one again */
			return CHANGED;
		}
		if (refused < 0)
			return demote(flow, refused, FID_CALL_PIPE, FID_SIDE_FID);
		flow->receipt.pipe_bytes = flow->pipe.capacity;
		flow->receipt.pipe_bytes_asked = asked;
	}
	if (must_ask_source(flow)) {
		enum outcome asked = ask_source(flow);

		if (asked != MOVED)
			return asked;
	}
	got = flow->kernel->splice(flow->kernel, flow->source, offset, flow->pipe.write_end,
				   NULL, at_most(bytes_left(flow), flow->pipe.capacity),
				   splice_flags(flow));
	flow->receipt.calls[FID_SPLICE_PIPE]++;
	if (got < 0)
		return on_error(flow, FID_SPLICE_PIPE, (int)got, FID_CALL_SPLICE,
				FID_SIDE_SOURCE, FID_SIDE_SOURCE);
	if (got == 0) {
		flow->end_claimed = true;
		return CHANGED;
	}
	flow->pipe.held = (size_t)got;
	account_taken(flow, (size_t)got);
	note_pace(flow, (size_t)got);
	return MOVED;
}

static enum outcome give_pipe(struct fid_flow *flow)
{
	int64_t *offset = flow->sink_at >= 0 ? &flow->sink_at : NULL;
	const struct fid_rung *rung = fid_flow_rung(flow);
	ssize_t given;

	if (raises_sigpipe(flow))
		hold_sigpipe(flow);
	given = flow->kernel->splice(flow->kernel, flow->pipe.read_end, NULL, flow->sink,
				     offset, flow->pipe.held, splice_flags(flow));
	note_sigpipe(flow, given, flow->pipe.held);
	flow->receipt.calls[FID_SPLICE_PIPE]++;
	if (given == 0) { /* no progress and no reason: as good as a refusal */
		flow->pipe_refused = true;
		return demote(flow, 0, FID_CALL_SPLICE, FID_SIDE_SINK);
	}
	if (given < 0)
		return on_error(flow, FID_SPLICE_PIPE, (int)given, FID_CALL_SPLICE,
				FID_SIDE_SINK, FID_SIDE_SINK);
	flow->pipe.held -= (size_t)given;
	account_given(flow, FID_SPLICE_PIPE, rung->class_, rung->stable, (size_t)given);
	return MOVED;
}

/* ---- Calls that have both ends -------------------------------------------------------------
 */

/*
 * How much to ask a call for. Before Linux 6.5 sendfile set MSG_MORE when it got less than it
 * was asked for, and the tail of a file waited for 200 ms; so it is not asked for more than the
 * file should have. With O_DIRECT only whole blocks may be asked for.
 */
static size_t chunk_to_move(const struct fid_flow *flow)
{
	const struct fid_rung *rung = fid_flow_rung(flow);
	size_t chunk = at_most(bytes_left(flow), rung->chunk_bytes);

	if (rung->method != FID_SENDFILE || flow->source_end.direct ||
	    flow->end_expected <= flow->receipt.bytes_in)
		return chunk;
	return at_most(flow->end_expected - flow->receipt.bytes_in, chunk);
}

static enum outcome move_at_once(struct fid_flow *flow)
{
	struct fid_kernel *kernel = flow->kernel;
	const struct fid_rung *rung = fid_flow_rung(flow);
	int64_t *source_at = flow->source_at >= 0 ? &flow->source_at : NULL;
	int64_t *sink_at = flow->sink_at >= 0 ? &flow->sink_at : NULL;
	size_t want = chunk_to_move(flow);
	enum fid_side waiter = FID_SIDE_NONE;
	enum fid_call call;
	ssize_t moved;

	if (rung->asks || must_ask_source(flow)) {
		enum outcome asked = ask_source(flow);

		if (asked != MOVED)
			return asked;
	}
	if (raises_sigpipe(flow))
		hold_sigpipe(flow);
	switch (rung->method) {
	case FID_COPY_FILE_RANGE:
		call = FID_CALL_COPY_FILE_RANGE;
		moved = kernel->copy_file_range(kernel, flow->source, source_at, flow->sink,
						sink_at, want);
		break;
	case FID_SENDFILE:
		call = FID_CALL_SENDFILE;
		moved = kernel->sendfile(kernel, flow->source, source_at, flow->sink, want);
		break;
	default:
		call = FID_CALL_SPLICE;
		moved = kernel->splice(kernel, flow->source, source_at, flow->sink, sink_at,
				       want, splice_flags(flow));
		break;
	}
	note_sigpipe(flow, moved, want);
	flow->receipt.calls[rung->method]++;
	if (moved < 0) {
		/* A file is never "not ready". */
		if (!fid_kind_may_wait(flow->source_end.kind))
			waiter = FID_SIDE_SINK;
		return on_error(flow, rung->method, (int)moved, call, FID_SIDE_NONE, waiter);
	}
	if (moved == 0) {
		flow->end_claimed = true;
		return CHANGED;
	}
	account_taken(flow, (size_t)moved);
	account_given(flow, rung->method, rung->class_, rung->stable, (size_t)moved);
	return MOVED;
}

/*
 * Clones all of the source. The call tells no length, so the sink's size, which was zero, is
 * the account; what the source gained meanwhile is found by confirm_end().
 */
static enum outcome clone_file(struct fid_flow *flow)
{
	struct fid_kernel *kernel = flow->kernel;
	const struct fid_rung *rung = fid_flow_rung(flow);
	struct fid_stat stat;
	int64_t at;
	int got;

	/* A descriptor that stands elsewhere wants the rest and not the whole. */
	if (kernel->seek(kernel, flow->source, 0, SEEK_CUR) != 0 ||
	    kernel->seek(kernel, flow->sink, 0, SEEK_CUR) != 0 ||
	    kernel->stat(kernel, flow->sink, &stat) < 0 || stat.size != 0)
		return next_rung(flow);
	got = kernel->reflink(kernel, flow->source, flow->sink);
	flow->receipt.calls[FID_REFLINK]++;
	if (got == -EINTR)
		return on_error(flow, FID_REFLINK, got, FID_CALL_REFLINK, FID_SIDE_NONE,
				FID_SIDE_NONE);
	/* Nothing moved, and whatever is wrong is met again and named by the next rung. */
	if (got < 0)
		return demote(flow, got, FID_CALL_REFLINK, FID_SIDE_NONE);
	got = kernel->stat(kernel, flow->sink, &stat);
	if (got < 0) /* the clone is there all the same */
		stat.size = flow->source_size;
	account_taken(flow, (size_t)stat.size);
	account_given(flow, FID_REFLINK, rung->class_, rung->stable, (size_t)stat.size);
	at = kernel->seek(kernel, flow->source, stat.size, SEEK_SET);
	if (at < 0)
		return fail(flow, (int)at, FID_SIDE_SOURCE, FID_CALL_LSEEK);
	at = kernel->seek(kernel, flow->sink, stat.size, SEEK_SET);
	if (at < 0)
		return fail(flow, (int)at, FID_SIDE_SINK, FID_CALL_LSEEK);
	if (got < 0)
		return fail(flow, got, FID_SIDE_SINK, FID_CALL_FSTAT);
	flow->end_claimed = true;
	return MOVED;
}

/* ---- The machine ---------------------------------------------------------------------------
 */

static enum outcome advance(struct fid_flow *flow)
{
	if (flow->buffer_held)
		return give_buffer(flow);
	if (flow->pipe.held)
		return flow->pipe_refused ? empty_pipe(flow) : give_pipe(flow);
	if (bytes_left(flow) == 0)
		return finish(flow);
	if (flow->end_claimed)
		return confirm_end(flow);
	if (flow->receipt.bytes_in == flow->end_expected)
		return look_for_end(flow);
	switch (fid_flow_rung(flow)->method) {
	case FID_REFLINK:
		return clone_file(flow);
	case FID_READ_WRITE:
		return take_by_read(flow);
	case FID_SPLICE_PIPE:
		return flow->copying ? take_by_read(flow) : fill_pipe(flow);
	default:
		return move_at_once(flow);
	}
}

int fid_flow_advance(struct fid_flow *flow)
{
	uint64_t stop_at = flow->receipt.bytes_out + STEP_BYTES;
	enum outcome outcome = CHANGED;

	if (flow->ended)
		return flow->receipt.error;
	for (int round = 0; round < STEP_ROUNDS && outcome <= CHANGED; round++) {
		if (flow->receipt.bytes_out >= stop_at)
			break;
		outcome = advance(flow);
	}
	if (flow->sigpipe.held)
		flow->kernel->sigpipe_release(flow->kernel, &flow->sigpipe,
					      flow->sigpipe_raised);
	flow->sigpipe_raised = false;
	fid_flow_assert_account(flow);
	switch (outcome) {
	case ENDED:
		return flow->receipt.error;
	case INTERRUPTED:
		return -EINTR;
	case WAITING:
		flow->receipt.waits++;
		return FID_WAIT;
	default:
		return FID_MORE;
	}
}

int fid_flow_sink_events(struct fid_flow *flow, short events)
{
	return sink_has_events(flow, events) == ENDED ? flow->receipt.error : FID_MORE;
}

int fid_flow_fail(struct fid_flow *flow, int error, enum fid_side side, enum fid_call call)
{
	fail(flow, error, side, call);
	return error;
}
