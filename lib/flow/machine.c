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
#include "flow/judge.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
	STEP_ROUNDS = 16, /* what one step does at most, so that other flows get their turn */
	STEP_BYTES = 8 << 20,  /* likewise */
	FAST_BYTES = 16 << 10, /* reads of this size, and so many, make a stream worth a pipe */
	FAST_READS = 2,
	SLOW_BYTES = 4 << 10, /* and transfers below this make it worth a copy again */
	SLOW_READS = 4,
	COPY_BYTES = 64 << 10,    /* a read while it is not known how fast a stream is */
	FILLED_BYTES = 256 << 10, /* who drains more at once does not hold the lock long */
	BLOCKING_WRITE = 4 << 10, /* POLLOUT promises one page: pipe(7), PIPE_BUF */
};

static unsigned splice_flags(const struct fid_flow *flow)
{
	/* Never SPLICE_F_MORE: with nothing to follow it delays the tail by 200 ms. */
	return flow->nowait ? SPLICE_F_NONBLOCK : 0;
}

/* ---- read and write ---- */

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
					 at_most(want, fid_flow_buffer_bytes(flow)), offset);

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
		return fid_flow_on_error(flow, FID_READ_WRITE, (int)got, FID_CALL_READ,
					 FID_SIDE_SOURCE, FID_SIDE_SOURCE);
	if (got == 0)
		return fid_flow_finish(flow);
	if (flow->source_at >= 0)
		flow->source_at += got;
	fid_flow_taken(flow, (size_t)got);
	return MOVED;
}

static enum outcome take_by_read(struct fid_flow *flow)
{
	uint64_t want = flow->copying ? COPY_BYTES : fid_flow_rung(flow)->chunk_bytes;
	ssize_t got;

	if (!fid_flow_take_buffer(flow))
		return fid_flow_end(flow, -ENOMEM, FID_SIDE_FID, FID_CALL_MEMORY);
	if (fid_flow_must_ask_source(flow)) {
		enum outcome asked = fid_flow_ask_source(flow);

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

	if (!fid_flow_take_buffer(flow))
		return fid_flow_end(flow, -ENOMEM, FID_SIDE_FID, FID_CALL_MEMORY);
	if (fid_flow_must_ask_source(flow)) {
		outcome = fid_flow_ask_source(flow);
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
	return fid_flow_demote(flow, 0, FID_CALL_READ, FID_SIDE_SOURCE);
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
	return got == 0 ? fid_flow_finish(flow) : CHANGED;
}

/* One write without SIGPIPE. */
static ssize_t write_to_sink(struct fid_flow *flow, const void *from, size_t bytes)
{
	struct fid_kernel *kernel = flow->kernel;

	flow->receipt.calls[FID_READ_WRITE]++;
	if (fid_kind_is_socket(flow->sink_end.kind))
		return kernel->write(kernel, flow->sink, from, bytes, flow->sink_at,
				     FID_WRITE_SOCKET | (flow->nowait ? FID_WRITE_NOWAIT : 0));
	if (!fid_flow_raises_sigpipe(flow))
		return kernel->write(kernel, flow->sink, from, bytes, flow->sink_at, 0);
	return fid_quiet_write(kernel, &flow->quiet, flow->sink, from, bytes, flow->sink_at);
}

/* What a write from the buffer to the sink, which returned written, means. */
static enum outcome judge_write(struct fid_flow *flow, ssize_t written)
{
	if (written < 0)
		return fid_flow_on_error(flow, FID_READ_WRITE, (int)written, FID_CALL_WRITE,
					 FID_SIDE_SINK, FID_SIDE_SINK);
	if (written == 0)
		return ++flow->stalls < STALLS_MAX
			       ? CHANGED
			       : fid_flow_end(flow, -EIO, FID_SIDE_SINK, FID_CALL_WRITE);
	if (flow->sink_at >= 0)
		flow->sink_at += written;
	flow->buffer_at += (size_t)written;
	flow->buffer_held -= (size_t)written;
	fid_flow_end_loan(flow);
	fid_flow_given(flow, FID_READ_WRITE, FID_USER_COPY, true, (size_t)written);
	return MOVED;
}

static enum outcome give_buffer(struct fid_flow *flow)
{
	size_t want = flow->buffer_held;

	if (fid_flow_must_ask(flow, &flow->sink_end) &&
	    !fid_kind_is_socket(flow->sink_end.kind) && flow->sink_room < want) {
		enum outcome asked = fid_flow_ask(flow, flow->sink, POLLOUT);

		if (asked != MOVED)
			return asked == WAITING ? fid_flow_wait_for_sink(flow) : asked;
		want = at_most(want, BLOCKING_WRITE);
	}
	return judge_write(flow, write_to_sink(flow, flow->buffer + flow->buffer_at, want));
}

void fid_flow_begin(struct fid_flow *flow, ssize_t taken, ssize_t given)
{
	fid_flow_take_buffer(flow);
	flow->receipt.calls[FID_READ_WRITE]++;
	flow->buffer_held = taken > 0 ? (size_t)taken : 0;
	if (judge_read(flow, taken) != MOVED || fid_is_refusal(FID_SPLICE, (int)given))
		return;
	flow->receipt.calls[FID_READ_WRITE]++;
	judge_write(flow, given);
}

/* ---- The private pipe ---- */

/* The sink refused to splice what the pipe holds: read it out, it will be written next. */
static enum outcome empty_pipe(struct fid_flow *flow)
{
	ssize_t got;

	if (!fid_flow_take_buffer(flow))
		return fid_flow_end(flow, -ENOMEM, FID_SIDE_FID, FID_CALL_MEMORY);
	got = read_into_buffer(flow, flow->pipe.read_end, FID_OWN_OFFSET, flow->pipe.held);
	if (got <= 0)
		return fid_flow_on_error(flow, FID_READ_WRITE, got ? (int)got : -EIO,
					 FID_CALL_READ, FID_SIDE_FID, FID_SIDE_SOURCE);
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
			return fid_flow_demote(flow, refused, FID_CALL_PIPE, FID_SIDE_FID);
		flow->receipt.pipe_bytes = flow->pipe.capacity;
		flow->receipt.pipe_bytes_asked = asked;
	}
	if (fid_flow_must_ask_source(flow)) {
		enum outcome asked = fid_flow_ask_source(flow);

		if (asked != MOVED)
			return asked;
	}
	got = flow->kernel->splice(flow->kernel, flow->source, offset, flow->pipe.write_end,
				   NULL, at_most(bytes_left(flow), flow->pipe.capacity),
				   splice_flags(flow));
	flow->receipt.calls[FID_SPLICE_PIPE]++;
	if (got < 0)
		return fid_flow_on_error(flow, FID_SPLICE_PIPE, (int)got, FID_CALL_SPLICE,
					 FID_SIDE_SOURCE, FID_SIDE_SOURCE);
	if (got == 0) {
		flow->end_claimed = true;
		return CHANGED;
	}
	flow->pipe.held = (size_t)got;
	fid_flow_taken(flow, (size_t)got);
	note_pace(flow, (size_t)got);
	return MOVED;
}

/* So many bytes one splice into the sink may move. */
static size_t splice_at_most(const struct fid_flow *flow, size_t bytes)
{
	if (bytes <= FID_SPLICE_BYTES_SAFE || !fid_kind_is_stream_socket(flow->sink_end.kind))
		return bytes;
	return at_most(bytes, fid_splice_bytes_max(flow->kernel));
}

static enum outcome give_pipe(struct fid_flow *flow)
{
	int64_t *offset = flow->sink_at >= 0 ? &flow->sink_at : NULL;
	const struct fid_rung *rung = fid_flow_rung(flow);
	size_t want = splice_at_most(flow, flow->pipe.held);
	ssize_t given;

	if (fid_flow_raises_sigpipe(flow))
		fid_quiet_hold(flow->kernel, &flow->quiet);
	given = flow->kernel->splice(flow->kernel, flow->pipe.read_end, NULL, flow->sink,
				     offset, want, splice_flags(flow));
	fid_quiet_note(&flow->quiet, given, want);
	flow->receipt.calls[FID_SPLICE_PIPE]++;
	if (given == 0) { /* no progress and no reason: as good as a refusal */
		flow->pipe_refused = true;
		return fid_flow_demote(flow, 0, FID_CALL_SPLICE, FID_SIDE_SINK);
	}
	if (given < 0)
		return fid_flow_on_error(flow, FID_SPLICE_PIPE, (int)given, FID_CALL_SPLICE,
					 FID_SIDE_SINK, FID_SIDE_SINK);
	flow->pipe.held -= (size_t)given;
	fid_flow_given(flow, FID_SPLICE_PIPE, rung->class_, rung->stable, (size_t)given);
	return MOVED;
}

/* ---- Calls that have both ends ---- */

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

/*
 * A splice from a file that moved less than it was asked for has filled the pipe. To call again
 * at once would spin for the pipe's lock, which the reader holds while it copies, and then find
 * room for a page or two; poll(2) sleeps without the lock until there is room, and finds more.
 * To a reader of 64 KiB that halves the processor time, to one of 4 KiB it takes two thirds of
 * it away and doubles the speed (measured on 6.18). An edge-triggered loop must see EAGAIN
 * first, so with O_NONBLOCK a single step does not do it.
 */
static bool has_filled_sink(const struct fid_flow *flow, size_t moved, size_t want)
{
	return moved < want && moved <= FILLED_BYTES && flow->sink_end.kind == FID_KIND_PIPE &&
	       !fid_kind_may_wait(flow->source_end.kind) &&
	       (flow->running || !flow->sink_end.nonblocking);
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

	if (flow->sink_filled) {
		flow->sink_filled = false;
		return fid_flow_wait_for_sink(flow);
	}
	if (rung->asks || fid_flow_must_ask_source(flow)) {
		enum outcome asked = fid_flow_ask_source(flow);

		if (asked != MOVED)
			return asked;
	}
	if (fid_flow_raises_sigpipe(flow))
		fid_quiet_hold(flow->kernel, &flow->quiet);
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
		want = splice_at_most(flow, want);
		moved = kernel->splice(kernel, flow->source, source_at, flow->sink, sink_at,
				       want, splice_flags(flow));
		break;
	}
	fid_quiet_note(&flow->quiet, moved, want);
	flow->receipt.calls[rung->method]++;
	if (moved < 0) {
		/* A file is never "not ready". */
		if (!fid_kind_may_wait(flow->source_end.kind))
			waiter = FID_SIDE_SINK;
		return fid_flow_on_error(flow, rung->method, (int)moved, call, FID_SIDE_NONE,
					 waiter);
	}
	if (moved == 0) {
		flow->end_claimed = true;
		return CHANGED;
	}
	fid_flow_taken(flow, (size_t)moved);
	fid_flow_given(flow, rung->method, rung->class_, rung->stable, (size_t)moved);
	flow->sink_filled = has_filled_sink(flow, (size_t)moved, want);
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
		return fid_flow_next_rung(flow);
	got = kernel->reflink(kernel, flow->source, flow->sink);
	flow->receipt.calls[FID_REFLINK]++;
	if (got == -EINTR)
		return fid_flow_on_error(flow, FID_REFLINK, got, FID_CALL_REFLINK,
					 FID_SIDE_NONE, FID_SIDE_NONE);
	/* Nothing moved, and whatever is wrong is met again and named by the next rung. */
	if (got < 0)
		return fid_flow_demote(flow, got, FID_CALL_REFLINK, FID_SIDE_NONE);
	got = kernel->stat(kernel, flow->sink, &stat);
	if (got < 0) /* the clone is there all the same */
		stat.size = flow->source_size;
	fid_flow_taken(flow, (size_t)stat.size);
	fid_flow_given(flow, FID_REFLINK, rung->class_, rung->stable, (size_t)stat.size);
	at = kernel->seek(kernel, flow->source, stat.size, SEEK_SET);
	if (at < 0)
		return fid_flow_end(flow, (int)at, FID_SIDE_SOURCE, FID_CALL_LSEEK);
	at = kernel->seek(kernel, flow->sink, stat.size, SEEK_SET);
	if (at < 0)
		return fid_flow_end(flow, (int)at, FID_SIDE_SINK, FID_CALL_LSEEK);
	if (got < 0)
		return fid_flow_end(flow, got, FID_SIDE_SINK, FID_CALL_FSTAT);
	flow->end_claimed = true;
	return MOVED;
}

/* ---- The machine ---- */

static enum outcome advance(struct fid_flow *flow)
{
	if (flow->buffer_held)
		return give_buffer(flow);
	if (flow->pipe.held)
		return flow->pipe_refused ? empty_pipe(flow) : give_pipe(flow);
	if (flow->receipt.bytes_in == flow->bytes_max)
		return fid_flow_finish(flow);
	if (flow->is_fed)
		return fid_flow_source_is_empty(flow);
	/* To look takes nothing, so a paced flow ends together with its file. */
	if (!flow->end_claimed && flow->receipt.bytes_in == flow->end_expected)
		return look_for_end(flow);
	if (bytes_left(flow) == 0)
		return PAUSED;
	if (flow->end_claimed)
		return confirm_end(flow);
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
	if (!flow->running)
		fid_quiet_release(flow->kernel, &flow->quiet);
	if (outcome == PAUSED)
		fid_flow_release(flow);
	fid_flow_assert_account(flow);
	switch (outcome) {
	case ENDED:
		return flow->receipt.error;
	case INTERRUPTED:
		return -EINTR;
	case PAUSED:
		return FID_PAUSED;
	case WAITING:
		flow->receipt.waits++;
		return FID_WAIT;
	default:
		return FID_MORE;
	}
}
