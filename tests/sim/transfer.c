/* SPDX-License-Identifier: MIT */
/*
 * The promises of <fid.h> as checks. They look at the simulated kernel's own account of what
 * was taken and delivered, so that a receipt that agrees only with itself does not pass.
 */
#include "transfer.h"

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { IDLE_STEPS_MAX = 24, STEPS_MAX = 1000000, SALVAGE_BYTES = 3000 };

#define EXPECT(condition, ...)                                \
	do {                                                  \
		if (!(condition))                             \
			sim_fail(transfer->sim, __VA_ARGS__); \
	} while (0)

typedef unsigned long long ull;

static struct sim_fd *fd_of(struct sim *sim, int fd)
{
	return &sim->fd[fd - SIM_FD_FIRST];
}

/*
 * The error that ended a flow. After an error of a call with both ends a read of the source may
 * find out whose it was; its answer is not what the flow ended with.
 */
static struct sim_error final_error(const struct transfer *transfer)
{
	const struct sim_error *last = &transfer->sim->last_error;
	const struct sim_error *before = &transfer->sim->error_before;

	/* A clone that failed and was left for another way, or for several, ended nothing. */
	for (unsigned i = 0; i < transfer->last.demotions; i++)
		if (before->call == SIM_REFLINK &&
		    transfer->last.demotion[i].call == FID_CALL_REFLINK)
			return *last;
	if (last->call == SIM_READ && before->error == last->error &&
	    before->fd[0] == transfer->source && before->fd[1] == transfer->sink)
		return *before;
	return *last;
}

static bool has_offset(enum sim_kind kind)
{
	return kind == SIM_REGULAR;
}

static bool source_offset_given(const struct transfer *transfer)
{
	return transfer->options.source_offset || transfer->options.flags & FID_SOURCE_OFFSET;
}

static bool sink_offset_given(const struct transfer *transfer)
{
	return transfer->options.sink_offset || transfer->options.flags & FID_SINK_OFFSET;
}

/* How many bytes a transfer that meets no failure delivers. */
static uint64_t wanted_bytes(const struct transfer *transfer)
{
	const struct fid_options *options = &transfer->options;
	bool is_limited = options->bytes_max || options->flags & FID_LIMIT_ZERO;

	if (is_limited && options->bytes_max < transfer->available)
		return options->bytes_max;
	return transfer->available;
}

/* What was taken from the source, as the kernel sees it. */
static uint64_t taken_bytes(const struct transfer *transfer)
{
	struct sim *sim = transfer->sim;
	const struct sim_object *source = sim_object(sim, transfer->source);

	if (source->kind == SIM_NULL)
		return 0;
	if (has_offset(transfer->source_kind))
		return fd_of(sim, transfer->source)->offset - transfer->source_start;
	return source->oracle.accepted - source->ring.bytes;
}

/* Whatever happened, the account is this. */
static void check_account(struct transfer *transfer, const struct fid_receipt *receipt)
{
	struct sim *sim = transfer->sim;
	uint64_t by_class = 0, by_method = 0;
	const struct fid_options *options = &transfer->options;

	for (int i = 0; i < FID_CLASSES; i++)
		by_class += receipt->by_class[i];
	for (int i = 0; i < FID_METHODS; i++) {
		by_method += receipt->by_method[i];
		EXPECT(!receipt->by_method[i] || !options->routes ||
			       options->routes & FID_ROUTE(i),
		       "%s moved bytes and was not allowed", fid_method_name((unsigned)i));
	}
	EXPECT(receipt->bytes_in ==
		       receipt->bytes_out + receipt->bytes_held + receipt->bytes_salvaged,
	       "%llu in, %llu out, %llu held, %llu salvaged", (ull)receipt->bytes_in,
	       (ull)receipt->bytes_out, (ull)receipt->bytes_held, (ull)receipt->bytes_salvaged);
	EXPECT(receipt->bytes_out == by_class && receipt->bytes_out == by_method,
	       "%llu out, %llu by class, %llu by method", (ull)receipt->bytes_out,
	       (ull)by_class, (ull)by_method);
	EXPECT(receipt->bytes_out == sim_received(sim, transfer->sink),
	       "the receipt says %llu bytes out, the sink has got %llu",
	       (ull)receipt->bytes_out, (ull)sim_received(sim, transfer->sink));
	EXPECT(receipt->bytes_salvaged == transfer->salvaged,
	       "the receipt says %llu bytes salvaged, it was %llu",
	       (ull)receipt->bytes_salvaged, (ull)transfer->salvaged);
	if (options->flags & FID_PACED)
		EXPECT(receipt->bytes_in <= transfer->granted, "more was taken than granted");
	EXPECT(receipt->bytes_in <= wanted_bytes(transfer),
	       "%llu bytes are in, and %llu is the limit", (ull)receipt->bytes_in,
	       (ull)wanted_bytes(transfer));
	if (source_offset_given(transfer))
		EXPECT(fd_of(sim, transfer->source)->offset == transfer->source_start,
		       "the source's own offset moved although one was given");
	else
		EXPECT(receipt->bytes_in == taken_bytes(transfer),
		       "the receipt says %llu bytes in, the source has given %llu",
		       (ull)receipt->bytes_in, (ull)taken_bytes(transfer));
	if (transfer->sink_kind == SIM_REGULAR && sink_offset_given(transfer))
		EXPECT(fd_of(sim, transfer->sink)->offset == transfer->sink_start,
		       "the sink's own offset moved although one was given");
	else if (transfer->sink_kind == SIM_REGULAR && receipt->bytes_out)
		EXPECT(fd_of(sim, transfer->sink)->offset ==
			       transfer->sink_start + receipt->bytes_out,
		       "the sink's own offset is %llu, not %llu",
		       (ull)fd_of(sim, transfer->sink)->offset,
		       (ull)(transfer->sink_start + receipt->bytes_out));
	if (options->require == FID_REQUIRE_NO_USER_COPY)
		EXPECT(!receipt->by_class[FID_USER_COPY], "bytes were copied by read");
	if (options->require == FID_REQUIRE_BY_REFERENCE)
		EXPECT(receipt->by_class[FID_BY_REFERENCE] == receipt->bytes_out,
		       "bytes were copied, and by-reference is required");
	if (options->flags & FID_STABLE)
		EXPECT(receipt->stable, "a stable copy was asked for and not made");
	EXPECT(receipt->demotions <= FID_DEMOTIONS_MAX, "%u demotions", receipt->demotions);
}

/* What is true before the first call. */
static void prepare(struct transfer *transfer)
{
	struct sim *sim = transfer->sim;
	struct sim_fd *source = fd_of(sim, transfer->source);
	struct sim_fd *sink = fd_of(sim, transfer->sink);
	struct sim_object *object = sim_object(sim, transfer->sink);
	struct fid_options *options = &transfer->options;

	options->size = sizeof(*options);
	options->pool = transfer->pool;
	transfer->source_start = source->offset;
	transfer->sink_start = sink->flags & O_APPEND ? object->content.size : sink->offset;
	transfer->first = 0;
	if (has_offset(transfer->source_kind))
		transfer->first = source_offset_given(transfer) ? options->source_offset
								: source->offset;
	sim_expect(sim, transfer->sink, transfer->first);
	if (sink_offset_given(transfer))
		object->oracle.offset_first = options->sink_offset;
	transfer->flow = NULL;
	transfer->is_over = false;
	transfer->steps = 0;
	transfer->idle_steps = 0;
	transfer->sleeps = sim->sleeps;
	transfer->salvaged = 0;
	transfer->granted = 0;
	transfer->timeouts = 0;
	transfer->eintrs = 0;
	transfer->eintrs_sim = 0;
	transfer->wait[0].fd = transfer->wait[1].fd = -1;
	memset(&transfer->last, 0, sizeof(transfer->last));
	sim->idle_calls = 0;
}

int transfer_begin(struct transfer *transfer)
{
	struct sim *sim = transfer->sim;
	struct fid_receipt *receipt = &transfer->last;
	uint64_t eintrs = sim->eintrs;
	int got;

	prepare(transfer);
	sim->no_sleep = true;
	sim->no_poll_sleep = true;
	got = fid_flow_new_on(&sim->kernel, &transfer->flow, transfer->source, transfer->sink,
			      &transfer->options, receipt);
	transfer->result = got;
	EXPECT(got <= 0, "flow_new returns %d", got);
	EXPECT(got == receipt->error, "flow_new returns %d and the receipt says %d", got,
	       receipt->error);
	EXPECT(receipt->bytes_in == 0, "flow_new moved bytes");
	/* Nothing that it asks can be interrupted. */
	EXPECT(sim->eintrs == eintrs || got == -EINTR, "flow_new hid an interruption");
	if (got < 0) {
		EXPECT(!transfer->flow, "flow_new failed and made a flow");
		transfer->is_over = true;
		transfer->error = final_error(transfer);
		transfer->calls_at_end = sim->calls;
		return got;
	}
	check_account(transfer, fid_flow_receipt(transfer->flow));
	return got;
}

static bool never_sleeps(const struct transfer *transfer, int fd, enum sim_kind kind)
{
	return kind == SIM_REGULAR || kind == SIM_NULL || kind == SIM_FULL ||
	       fd_of(transfer->sim, fd)->flags & O_NONBLOCK;
}

static void demand(struct transfer *transfer, bool is_run, bool is_bounded)
{
	struct sim *sim = transfer->sim;
	bool nowait = transfer->options.flags & FID_NOWAIT || is_bounded;

	sim->no_sleep = nowait ||
			(never_sleeps(transfer, transfer->source, transfer->source_kind) &&
			 never_sleeps(transfer, transfer->sink, transfer->sink_kind));
	/* fid.h: a terminal may still make a write wait. */
	if (transfer->sink_kind == SIM_TERMINAL &&
	    !never_sleeps(transfer, transfer->sink, transfer->sink_kind))
		sim->no_sleep = false;
	sim->no_poll_sleep = !is_run;
	sim->stable = transfer->options.flags & FID_STABLE;
	sim->idle_calls = 0;
}

/* A flow that waits without holding a byte has given back what it borrowed. */
static void check_borrowed(struct transfer *transfer)
{
	struct fid_pool_stats stats;

	if (!transfer->pool || transfer->shares_pool || transfer->last.bytes_held)
		return;
	EXPECT(fid_pool_stats(transfer->pool, &stats) == 0, "no statistics");
	EXPECT(stats.pipes_lent == 0 && stats.buffers_lent == 0,
	       "a flow without bytes keeps %u pipes and %u buffers while it waits",
	       stats.pipes_lent, stats.buffers_lent);
}

static void check_wait(struct transfer *transfer, int result)
{
	struct pollfd *wait = transfer->wait;
	bool is_named = false;

	for (int i = 0; i < 2; i++) {
		if (result != FID_WAIT) {
			EXPECT(wait[i].fd == -1, "step returns %d and names a descriptor",
			       result);
			continue;
		}
		if (wait[i].fd < 0)
			continue;
		EXPECT(wait[i].fd == (i ? transfer->sink : transfer->source),
		       "wait[%d] is descriptor %d", i, wait[i].fd);
		is_named |= wait[i].events != 0;
	}
	EXPECT(result != FID_WAIT || is_named, "step waits for nothing");
}

static void overwrite(struct transfer *transfer)
{
	struct sim *sim = transfer->sim;
	uint64_t delivered = sim_received(sim, transfer->sink);
	uint64_t from, bytes;

	if (!transfer->overwrites || !delivered || sim_random(sim) % 4 ||
	    sim_object(sim, transfer->source)->content.count > 16)
		return;
	from = sim_random(sim) % delivered;
	bytes = 1 + sim_random(sim) % (delivered - from);
	sim_overwrite(sim, transfer->source, transfer->first + from, bytes);
}

/* A paused flow has taken all that it may, has delivered it, and now may take more. */
static void grant(struct transfer *transfer)
{
	uint64_t most = transfer->grants_max ? transfer->grants_max : 4096;
	/* Large ones are not granted byte by byte. */
	uint64_t bytes = 1 + wanted_bytes(transfer) / 256 + sim_random(transfer->sim) % most;

	EXPECT(transfer->options.flags & FID_PACED, "a flow pauses that is not paced");
	EXPECT(transfer->last.bytes_in == transfer->granted,
	       "it pauses after %llu of %llu bytes", (ull)transfer->last.bytes_in,
	       (ull)transfer->granted);
	EXPECT(transfer->last.bytes_held == 0, "it pauses with %llu bytes held",
	       (ull)transfer->last.bytes_held);
	check_borrowed(transfer);
	EXPECT(fid_flow_grant(transfer->flow, bytes) == 0, "nothing can be granted");
	transfer->granted += bytes;
	transfer->idle_steps = 0;
}

/* After any call that moves bytes. */
static void after(struct transfer *transfer, int result, uint64_t eintrs)
{
	struct sim *sim = transfer->sim;
	const struct fid_receipt *receipt = fid_flow_receipt(transfer->flow);
	bool is_interruptible = transfer->options.flags & FID_INTERRUPTIBLE;
	uint64_t moved = receipt->bytes_in + receipt->bytes_out + receipt->demotions;
	uint64_t before =
		transfer->last.bytes_in + transfer->last.bytes_out + transfer->last.demotions;

	EXPECT(!sim->sigpipe_held, "SIGPIPE is held back between two calls");
	check_account(transfer, receipt);
	transfer->eintrs_sim += sim->eintrs - eintrs;
	transfer->eintrs += result == -EINTR;
	transfer->timeouts += result == -ETIMEDOUT && !receipt->error;
	EXPECT(result != -EINTR || is_interruptible, "-EINTR without FID_INTERRUPTIBLE");
	EXPECT(!is_interruptible || transfer->eintrs == transfer->eintrs_sim,
	       "%llu calls were interrupted and %llu times it was said",
	       (ull)transfer->eintrs_sim, (ull)transfer->eintrs);
	if (moved != before || sim->sleeps != transfer->sleeps || result == -EINTR ||
	    result == -ETIMEDOUT)
		transfer->idle_steps = 0;
	else
		transfer->idle_steps++;
	EXPECT(transfer->idle_steps <= IDLE_STEPS_MAX,
	       "spinning: %d steps in a row moved nothing and did not sleep, the last "
	       "returned %d",
	       IDLE_STEPS_MAX, result);
	transfer->sleeps = sim->sleeps;
	transfer->last = *receipt;
	transfer->result = result;
	if (result == FID_PAUSED)
		grant(transfer);
	EXPECT(result == receipt->error || result > 0 || result == -EINTR ||
		       result == -ETIMEDOUT,
	       "it returns %d and the receipt says %d", result, receipt->error);
	/* ETIMEDOUT is also what a socket can say, and then it is in the receipt. */
	if (result <= 0 && result == receipt->error) {
		transfer->is_over = true;
		transfer->error = final_error(transfer);
		transfer->calls_at_end = sim->calls;
	}
	overwrite(transfer);
}

/* A file may fill a blocking pipe; then a step waits for room before it calls again. */
static bool has_filled_sink(struct transfer *transfer)
{
	const struct sim_fd *sink = fd_of(transfer->sim, transfer->sink);
	const struct sim_object *object = &transfer->sim->object[sink->object];

	return object->kind == SIM_FIFO && !(sink->flags & O_NONBLOCK) &&
	       transfer->wait[1].events == POLLOUT;
}

int transfer_step(struct transfer *transfer)
{
	struct sim *sim = transfer->sim;
	uint64_t calls = sim->calls;
	uint64_t eagains = sim->eagains;
	uint64_t eintrs = sim->eintrs;
	int result;

	demand(transfer, false, false);
	transfer->wait[0] = transfer->wait[1] = (struct pollfd){.fd = 12345};
	result = fid_flow_step(transfer->flow, transfer->wait);
	transfer->steps++;
	EXPECT(transfer->steps < STEPS_MAX, "it never ends");
	EXPECT(result <= FID_PAUSED, "step returns %d", result);
	EXPECT(sim->calls - calls <= STEP_CALLS_MAX, "one step makes %llu calls",
	       (ull)(sim->calls - calls));
	EXPECT(result != FID_WAIT || sim->eagains > eagains || has_filled_sink(transfer),
	       "FID_WAIT although no call said EAGAIN");
	check_wait(transfer, result);
	after(transfer, result, eintrs);
	if (result == FID_WAIT || transfer->is_over)
		check_borrowed(transfer);
	return result;
}

int transfer_run(struct transfer *transfer, int timeout_ms)
{
	struct sim *sim = transfer->sim;
	uint64_t eintrs = sim->eintrs;
	uint64_t until = sim->now_ns + (timeout_ms > 0 ? (uint64_t)timeout_ms * 1000000 : 0);
	bool is_error;
	int result;

	demand(transfer, true, timeout_ms >= 0);
	result = fid_flow_run(transfer->flow, timeout_ms);
	transfer->steps++;
	EXPECT(transfer->steps < STEPS_MAX, "it never ends");
	EXPECT(result <= 0 || result == FID_PAUSED, "run returns %d", result);
	is_error = result && fid_flow_receipt(transfer->flow)->error == result;
	if (timeout_ms >= 0 && sim->no_sleep) {
		/* Calls take time, too, and poll counts in milliseconds. */
		EXPECT(sim->now_ns <= until + 2000000, "run of %d ms takes %llu ns more",
		       timeout_ms, (ull)(sim->now_ns - until));
		EXPECT(result != -ETIMEDOUT || sim->now_ns >= until || is_error,
		       "run times out before its time");
	} else if (timeout_ms < 0) {
		EXPECT(result != -ETIMEDOUT || is_error, "run without a bound times out");
	}
	after(transfer, result, eintrs);
	return result;
}

void transfer_wait(struct transfer *transfer)
{
	if (transfer->result == FID_WAIT)
		sim_wait(transfer->sim, transfer->wait, 2, -1);
}

int transfer_finish(struct transfer *transfer)
{
	while (!transfer->is_over) {
		transfer_step(transfer);
		transfer_wait(transfer);
	}
	return transfer->result;
}

/* ---- The end ---- */

/* Whose error it was, as the simulator knows it. FID_SIDE_NONE: both are possible. */
static enum fid_side side_of(const struct transfer *transfer, const struct sim_error *error)
{
	bool at_source = error->fd[0] == transfer->source;
	bool at_sink = error->fd[1] == transfer->sink;

	if (error->guilty >= 0)
		return error->guilty ? FID_SIDE_SINK : FID_SIDE_SOURCE;
	if (at_source && at_sink)
		return error->error == -EPIPE ? FID_SIDE_SINK : FID_SIDE_NONE;
	if (at_source)
		return FID_SIDE_SOURCE;
	return at_sink ? FID_SIDE_SINK : FID_SIDE_FID;
}

static enum fid_call call_of(enum sim_call call)
{
	switch (call) {
	case SIM_READ:
		return FID_CALL_READ;
	case SIM_WRITE:
		return FID_CALL_WRITE;
	case SIM_SPLICE:
		return FID_CALL_SPLICE;
	case SIM_SENDFILE:
		return FID_CALL_SENDFILE;
	case SIM_COPY_FILE_RANGE:
		return FID_CALL_COPY_FILE_RANGE;
	case SIM_REFLINK:
		return FID_CALL_REFLINK;
	default:
		return FID_CALL_NONE;
	}
}

/* Errors of the descriptors themselves: named exactly as the kernel named them. */
static void check_blame(const struct transfer *transfer, const struct fid_receipt *receipt)
{
	const struct sim_error *error = &transfer->error;
	enum fid_side side = side_of(transfer, error);
	unsigned may_be = receipt->error_side == FID_SIDE_SOURCE ? FAULT_SOURCE : FAULT_SINK;

	EXPECT(receipt->error_side != FID_SIDE_FID,
	       "it fails with %s as if nobody else were to blame",
	       fid_error_name(receipt->error));
	EXPECT(receipt->error_side == FID_SIDE_NONE || transfer->faults & may_be ||
		       transfer->faults & FAULT_INJECTED,
	       "it blames the %s, which has no fault, with %s of %s",
	       fid_side_name(receipt->error_side), fid_error_name(receipt->error),
	       fid_call_name(receipt->error_call));
	/* The sink died while the source was idle: poll said so, and no call did. */
	if (receipt->error_call == FID_CALL_POLL) {
		EXPECT(receipt->error_side == FID_SIDE_SINK, "poll, and not the sink");
		return;
	}
	EXPECT(receipt->error == error->error, "it says %s, and %s said %s",
	       fid_error_name(receipt->error), sim_call_name(error->call),
	       fid_error_name(error->error));
	EXPECT(side == FID_SIDE_NONE || receipt->error_side == side,
	       "%s of %s is blamed on the %s and not on the %s", fid_error_name(error->error),
	       sim_call_name(error->call), fid_side_name(receipt->error_side),
	       fid_side_name(side));
	EXPECT(receipt->error_call == call_of(error->call), "%s of %s is blamed on %s",
	       fid_error_name(error->error), sim_call_name(error->call),
	       fid_call_name(receipt->error_call));
}

static bool is_refusal(int error)
{
	return error == -EOPNOTSUPP || error == -EINVAL || error == -EPERM ||
	       error == -ENOSYS || error == -EXDEV || error == -EBADF || error == -EMFILE ||
	       error == -ENFILE || error == -ENOSPC || error == -ENOBUFS || error == -EAGAIN;
}

static void check_ending(struct transfer *transfer)
{
	const struct fid_receipt *receipt = &transfer->last;

	if (transfer->result == 0) {
		EXPECT(receipt->bytes_out + receipt->bytes_salvaged == wanted_bytes(transfer),
		       "done after %llu of %llu bytes", (ull)receipt->bytes_out,
		       (ull)wanted_bytes(transfer));
		EXPECT(receipt->bytes_held == 0, "done, and %llu bytes are held",
		       (ull)receipt->bytes_held);
		EXPECT(receipt->error == 0, "done with an error");
		return;
	}
	if (transfer->faults & FAULT_INJECTED)
		return;
	if (transfer->faults & FAULT_ROUTES && is_refusal(transfer->result))
		return;
	check_blame(transfer, receipt);
}

/* What salvage hands over is what follows the last delivered byte. */
static void salvage(struct transfer *transfer)
{
	struct sim *sim = transfer->sim;
	unsigned char buffer[SALVAGE_BYTES];
	uint64_t held = transfer->last.bytes_held;
	uint64_t position = transfer->first + transfer->last.bytes_out;
	unsigned failures = 0;

	/* What is always refused is not what salvage is tested with. */
	if (sim->fail_sticky)
		sim->fail_at = 0;
	while (held) {
		size_t capacity = 1 + (size_t)(sim_random(sim) % sizeof(buffer));
		ssize_t got;
		size_t same;

		sim->no_sleep = sim->no_poll_sleep = true;
		sim->idle_calls = 0;
		got = fid_flow_salvage(transfer->flow, buffer, capacity);
		/* What failed once may be asked again: nothing is lost. */
		if (got < 0 && transfer->faults & FAULT_INJECTED && failures++ == 0)
			continue;
		EXPECT(got > 0, "salvage of %llu bytes returns %lld", (ull)held,
		       (long long)got);
		EXPECT((size_t)got <= capacity, "salvage returns more than it was given");
		same = sim_stream_differs(sim, SIM_STREAM_SOURCE, position, buffer,
					  (size_t)got);
		EXPECT(same == (size_t)got, "salvage hands over a wrong byte at %llu",
		       (ull)(position + same));
		position += (uint64_t)got;
		held -= (uint64_t)got;
		transfer->salvaged += (uint64_t)got;
		transfer->last = *fid_flow_receipt(transfer->flow);
		check_account(transfer, &transfer->last);
		EXPECT(transfer->last.bytes_held == held, "salvage leaves %llu bytes, not %llu",
		       (ull)transfer->last.bytes_held, (ull)held);
	}
	EXPECT(fid_flow_salvage(transfer->flow, buffer, sizeof(buffer)) == 0,
	       "salvage finds more than was held");
}

static void check_settled(struct transfer *transfer)
{
	struct sim *sim = transfer->sim;
	struct sim_object *object = sim_far(sim, transfer->sink);

	sim_settle(sim);
	if (object->consumer.is_there && !object->consumer.ended)
		EXPECT(object->oracle.drained == object->oracle.accepted,
		       "the sink's reader has not got what was delivered");
}

void transfer_end(struct transfer *transfer)
{
	if (transfer->flow) {
		if (transfer->is_over) {
			struct pollfd wait[2];

			check_ending(transfer);
			/* The error, or the end, is repeated. */
			EXPECT(fid_flow_step(transfer->flow, wait) == transfer->result,
			       "a further step forgets how the flow ended");
			EXPECT(fid_flow_run(transfer->flow, -1) == transfer->result,
			       "a further run forgets how the flow ended");
		}
		if (!transfer->abandons)
			salvage(transfer);
		transfer->flow = fid_flow_free(transfer->flow);
		EXPECT(!transfer->flow, "flow_free returns something");
	} else if (!(transfer->faults & FAULT_INJECTED)) {
		EXPECT(transfer->faults & FAULT_ROUTES && is_refusal(transfer->result),
		       "flow_new returns %d", transfer->result);
	}
	check_settled(transfer);
}

static void check_copied(struct transfer *transfer, int64_t result)
{
	const struct fid_receipt *receipt = &transfer->last;

	transfer->is_over = result >= 0 || result == receipt->error;
	check_account(transfer, receipt);
	if (result >= 0)
		EXPECT((uint64_t)result == receipt->bytes_out,
		       "fid_copy returns %lld and the receipt says %llu", (long long)result,
		       (ull)receipt->bytes_out);
	if (!transfer->is_over)
		return;
	EXPECT(receipt->error == transfer->result,
	       "fid_copy returns %lld and the receipt says %d", (long long)result,
	       receipt->error);
	check_ending(transfer);
}

/* Without a receipt nobody is told more than this. */
static void check_result(struct transfer *transfer, int64_t result)
{
	uint64_t received = sim_received(transfer->sim, transfer->sink);

	if (result < 0) {
		EXPECT(transfer->faults || result == -EINTR || result == -ETIMEDOUT,
		       "fid_copy returns %lld without a fault", (long long)result);
		EXPECT(received <= wanted_bytes(transfer),
		       "fid_copy delivers more than its limit");
		return;
	}
	EXPECT((uint64_t)result == received, "fid_copy returns %lld and the sink has got %llu",
	       (long long)result, (ull)received);
	EXPECT(received == wanted_bytes(transfer), "done after %llu of %llu bytes",
	       (ull)received, (ull)wanted_bytes(transfer));
	if (!source_offset_given(transfer))
		EXPECT(received == taken_bytes(transfer),
		       "%llu bytes are delivered and %llu taken", (ull)received,
		       (ull)taken_bytes(transfer));
}

int64_t transfer_copy(struct transfer *transfer, bool with_receipt)
{
	struct sim *sim = transfer->sim;
	int64_t result;

	prepare(transfer);
	demand(transfer, true, transfer->options.timeout_ms > 0);
	result = fid_copy_on(&sim->kernel, transfer->source, transfer->sink, &transfer->options,
			     with_receipt ? &transfer->last : NULL);
	EXPECT(!sim->sigpipe_held, "SIGPIPE is held back after fid_copy");
	transfer->error = final_error(transfer);
	transfer->calls_at_end = sim->calls;
	transfer->result = result < 0 ? (int)result : 0;
	if (with_receipt)
		check_copied(transfer, result);
	else
		check_result(transfer, result);
	check_settled(transfer);
	return result;
}
