/* SPDX-License-Identifier: MIT */
/* Flows: Fid.copy() that can be stopped, continued, watched and salvaged. */
#include "ext.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <ruby/fiber/scheduler.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	/*
	 * A flow that never has to wait is asked so often whether Ruby has something pending;
	 * one that waits is woken by a signal, and looks all the same.
	 */
	LOOK_MS = 100,
	LOOK_IDLE_MS = 1000,
	/*
	 * A scheduler waits for one descriptor at a time. While it waits for the source, the
	 * sink is looked at so often: a client that has gone is noticed.
	 */
	LOOK_AT_SINK_S = 5,
	IDLE_NS = 1000000, /* a wait that took less brought nothing */
	/* Steps of a flow that is never made to wait, before other fibers have their turn. */
	STEPS_BY_TURN = 4,
};

/*
 * A transfer has two parts where Ruby has read ahead from a source that cannot go back: first
 * the bytes that Ruby has, from a memfd that belongs to the transfer, then those of the source.
 */
struct flow {
	struct ext_end source;
	struct ext_end sink;
	struct fid_flow *flow;  /* NULL: closed */
	struct fid_flow *ahead; /* NULL: done, or there was nothing */
	VALUE ahead_bytes;      /* a String, or nil */
	int ahead_fd;
	struct fid_receipt earlier; /* the account of the first part, when it is done */
	/* For who asks while another thread runs it: the account of some moments ago. */
	pthread_mutex_t watched;
	struct fid_receipt recent;
	struct ext_use use;
};

/* ---- Its object ---- */

static void flow_mark(void *argument)
{
	struct flow *flow = argument;

	ext_end_mark(&flow->source);
	ext_end_mark(&flow->sink);
	rb_gc_mark(flow->ahead_bytes);
}

static void end_ahead(struct flow *flow)
{
	flow->ahead = fid_flow_free(flow->ahead);
	if (flow->ahead_fd >= 0)
		close(flow->ahead_fd);
	flow->ahead_fd = -1;
}

static void flow_free(void *argument)
{
	struct flow *flow = argument;

	/* Only in a child whose parent was just using it: its state may be torn. */
	if (!flow->use.busy) {
		end_ahead(flow);
		fid_flow_free(flow->flow);
	}
	xfree(flow);
}

static size_t flow_memsize(const void *argument)
{
	/* A flow of the library takes under 1 KiB; its pipe and buffer belong to a pool. */
	return sizeof(struct flow) + 1024;
}

static const rb_data_type_t flow_type = {
	.wrap_struct_name = "Fid::Flow",
	.function = {.dmark = flow_mark, .dfree = flow_free, .dsize = flow_memsize},
	.flags = RUBY_TYPED_FREE_IMMEDIATELY,
};

static VALUE flow_alloc(VALUE class)
{
	struct flow *flow;
	VALUE self = TypedData_Make_Struct(class, struct flow, &flow_type, flow);

	flow->source = EXT_END_NONE;
	flow->sink = EXT_END_NONE;
	pthread_mutex_init(&flow->watched, NULL);
	flow->ahead_bytes = Qnil;
	flow->ahead_fd = -1;
	return self;
}

static struct flow *get(VALUE self)
{
	return rb_check_typeddata(self, &flow_type);
}

static struct flow *get_open(VALUE self)
{
	struct flow *flow = get(self);

	ext_use_check(&flow->use, flow->flow, "flow");
	return flow;
}

/* ---- What Ruby had read ahead ---- */

/* The source has its bytes back, but for those that were delivered. */
static void give_back(struct flow *flow, uint64_t delivered)
{
	VALUE bytes = flow->ahead_bytes;

	flow->ahead_bytes = Qnil;
	if (NIL_P(bytes) || (uint64_t)RSTRING_LEN(bytes) <= delivered)
		return;
	bytes = rb_str_substr(bytes, (long)delivered, RSTRING_LEN(bytes) - (long)delivered);
	ext_source_give_back(flow->source.io, bytes);
}

/*
 * The account of the first part. What is not delivered of it counts as not taken: the source
 * gets it back, now or when the flow is closed.
 */
static void account_ahead(struct flow *flow, struct fid_receipt *ret_receipt)
{
	*ret_receipt = *fid_flow_receipt(flow->ahead);
	ret_receipt->bytes_in = ret_receipt->bytes_out;
	ret_receipt->bytes_held = 0;
}

/* The first part is over: its bytes are delivered, or the source has them again. */
static void conclude_ahead(struct flow *flow)
{
	account_ahead(flow, &flow->earlier);
	end_ahead(flow);
	give_back(flow, flow->earlier.bytes_out);
}

static int write_memfd(VALUE bytes)
{
	int fd = memfd_create("fid", MFD_CLOEXEC);
	size_t written = 0;
	size_t length = (size_t)RSTRING_LEN(bytes);

	while (fd >= 0 && written < length) {
		ssize_t got = write(fd, RSTRING_PTR(bytes) + written, length - written);

		if (got < 0) {
			int error = errno;

			close(fd);
			errno = error;
			return -errno;
		}
		written += (size_t)got;
	}
	return fd < 0 ? -errno : fd;
}

/* Makes the first part, and moves the limits of the second behind it. Returns 0 or -errno. */
static int prepare_ahead(struct flow *flow, struct fid_options *options, bool limited,
			 struct fid_receipt *ret_receipt)
{
	uint64_t length = (uint64_t)RSTRING_LEN(flow->ahead_bytes);
	/* Ruby has copied these bytes already, and the receipt says so. */
	struct fid_options first = {
		.size = sizeof(first),
		.flags = (options->flags & (FID_NOWAIT | FID_INTERRUPTIBLE | FID_SINK_OFFSET)) |
			 FID_SOURCE_OFFSET,
		.routes = FID_ROUTE(FID_READ_WRITE),
		.require = options->require,
		.bytes_max = length,
		.sink_offset = options->sink_offset,
	};
	int got = write_memfd(flow->ahead_bytes);

	if (got < 0)
		return got;
	flow->ahead_fd = got;
	got = fid_flow_new(&flow->ahead, flow->ahead_fd, flow->sink.fd, &first, ret_receipt);
	if (got < 0)
		return got;
	if (limited)
		options->bytes_max -= length;
	if (limited && options->bytes_max == 0)
		options->flags |= FID_LIMIT_ZERO;
	if (options->flags & FID_SINK_OFFSET)
		options->sink_offset += length;
	return 0;
}

/* ---- Options ---- */

static uint32_t routes_from(VALUE given)
{
	uint32_t routes = 0;
	VALUE list;

	if (NIL_P(given))
		return 0; /* all of them */
	list = rb_Array(given);
	for (long i = 0; i < RARRAY_LEN(list); i++) {
		VALUE wanted = rb_ary_entry(list, i);
		unsigned method = 0;

		while (method < FID_ROUTES && ext_symbol(fid_method_name(method)) != wanted)
			method++;
		if (method == FID_ROUTES)
			rb_raise(rb_eArgError,
				 "unknown route %" PRIsVALUE "; there are :reflink, "
				 ":copy_file_range, :sendfile, :splice, :splice_pipe and "
				 ":read_write",
				 rb_inspect(wanted));
		routes |= FID_ROUTE(method);
	}
	return routes;
}

static uint32_t require_from(VALUE given)
{
	if (NIL_P(given))
		return FID_REQUIRE_NOTHING;
	if (given == ID2SYM(rb_intern("no_user_copy")))
		return FID_REQUIRE_NO_USER_COPY;
	if (given == ID2SYM(rb_intern("by_reference")))
		return FID_REQUIRE_BY_REFERENCE;
	rb_raise(rb_eArgError,
		 "unknown requirement %" PRIsVALUE "; there are :no_user_copy and "
		 ":by_reference",
		 rb_inspect(given));
}

static void set_offset(struct fid_options *options, uint32_t flag, uint64_t *field, VALUE given,
		       const char *name)
{
	bool is_given;

	*field = ext_bytes(given, name, &is_given);
	if (is_given)
		options->flags |= flag;
}

/* The keywords of a transfer, in the order that Fid.copy passes their values in. */
enum { SOURCE_OFFSET, SINK_OFFSET, STABLE, REQUIRE, ROUTES, PIPE_BYTES, GROW_PIPES, KEYWORDS };

/* Fills options; returns whether length is a limit. */
static bool options_from(struct fid_options *options, VALUE length, const VALUE *values)
{
	bool limited;
	bool ignored;

	*options = (struct fid_options){
		.size = sizeof(*options),
		.flags = FID_NOWAIT | FID_INTERRUPTIBLE,
	};
	options->bytes_max = ext_bytes(length, "length", &limited);
	if (limited && options->bytes_max == 0)
		options->flags |= FID_LIMIT_ZERO;
	set_offset(options, FID_SOURCE_OFFSET, &options->source_offset, values[SOURCE_OFFSET],
		   "source_offset");
	set_offset(options, FID_SINK_OFFSET, &options->sink_offset, values[SINK_OFFSET],
		   "sink_offset");
	if (RTEST(values[STABLE]))
		options->flags |= FID_STABLE;
	if (RTEST(values[GROW_PIPES]))
		options->flags |= FID_GROW_PIPES;
	options->require = require_from(values[REQUIRE]);
	options->routes = routes_from(values[ROUTES]);
	options->pipe_bytes = ext_bytes(values[PIPE_BYTES], "pipe_bytes", &ignored);
	return limited;
}

/* ---- Making ---- */

static void make(struct flow *flow, VALUE source, VALUE sink, VALUE length, const VALUE *values)
{
	struct fid_receipt receipt = {0};
	struct fid_options options;
	bool limited = options_from(&options, length, values);
	int got = 0;

	flow->use.process = getpid();
	flow->source = ext_source(source);
	flow->sink = ext_sink(sink);
	ext_sink_settle(&flow->sink);
	if (!(options.flags & FID_SOURCE_OFFSET))
		flow->ahead_bytes = ext_source_settle(&flow->source,
						      limited ? options.bytes_max : UINT64_MAX);
	else
		ext_source_settle(&flow->source, 0);
	ext_end_check(&flow->source);
	ext_end_check(&flow->sink);
	if (!NIL_P(flow->ahead_bytes))
		got = prepare_ahead(flow, &options, limited, &receipt);
	if (got == 0)
		got = fid_flow_new(&flow->flow, flow->source.fd, flow->sink.fd, &options,
				   &receipt);
	if (got < 0) {
		end_ahead(flow);
		give_back(flow, 0);
		receipt.error = got;
		rb_exc_raise(ext_refusal(got, &receipt));
	}
}

/*
 * Makes a flow; nothing moves yet. Source and sink stay the program's own. The arguments are
 * those of Fid.copy, but that there are no paths, and no timeout (that is for #run).
 *
 * What Ruby has to write to the sink is flushed now, and what it has read ahead from the
 * source belongs to the flow until that is closed.
 *
 * @overload initialize(source, sink, length = nil, source_offset: nil, sink_offset: nil,
 *   **more)
 *   @param source [IO, #to_io, Integer]
 *   @param sink [IO, #to_io, Integer]
 *   @param more stable, require, routes, pipe_bytes and grow_pipes as Fid.copy has them
 *   @raise [SystemCallError] with Failure: Errno::EBADF, Errno::ESPIPE, Errno::EOPNOTSUPP
 *     (what is required cannot be had)
 *   @raise [IOError] an IO is closed, or not opened for this
 *   @raise [ArgumentError] a value that makes no sense
 *   @raise [TypeError] no descriptor
 */
static VALUE flow_initialize(int argc, VALUE *argv, VALUE self)
{
	ID names[KEYWORDS] = {
		rb_intern("source_offset"), rb_intern("sink_offset"), rb_intern("stable"),
		rb_intern("require"),       rb_intern("routes"),      rb_intern("pipe_bytes"),
		rb_intern("grow_pipes"),
	};
	VALUE values[KEYWORDS];
	VALUE source, sink, length, keywords;

	rb_scan_args(argc, argv, "21:", &source, &sink, &length, &keywords);
	if (get(self)->flow)
		rb_raise(rb_eRuntimeError, "the flow has been made already");
	for (int i = 0; i < KEYWORDS; i++)
		values[i] = Qundef;
	if (!NIL_P(keywords))
		rb_get_kwargs(keywords, names, 0, KEYWORDS, values);
	for (int i = 0; i < KEYWORDS; i++)
		if (values[i] == Qundef)
			values[i] = Qnil;
	make(get(self), source, sink, length, values);
	return self;
}

/* ---- Moving ---- */

/* What has moved in both parts, by who may use the flow. */
static void account_all(struct flow *flow, struct fid_receipt *ret_receipt)
{
	*ret_receipt = *fid_flow_receipt(flow->flow);
	if (flow->ahead)
		account_ahead(flow, ret_receipt);
	else
		ext_receipt_add(ret_receipt, &flow->earlier);
}

static VALUE account(struct flow *flow)
{
	struct fid_receipt receipt;

	account_all(flow, &receipt);
	return ext_receipt_new(&receipt);
}

/* With the lock or without. */
static void note_account(struct flow *flow)
{
	struct fid_receipt receipt;

	account_all(flow, &receipt);
	pthread_mutex_lock(&flow->watched);
	flow->recent = receipt;
	pthread_mutex_unlock(&flow->watched);
}

/*
 * @return [Receipt] the account so far, also after a failure
 * @raise [IOError] the flow is closed
 */
static VALUE flow_receipt(VALUE self)
{
	struct flow *flow = get(self);
	struct fid_receipt receipt;

	if (!flow->use.busy || !ext_use_is_here(&flow->use))
		return account(get_open(self));
	pthread_mutex_lock(&flow->watched);
	receipt = flow->recent;
	pthread_mutex_unlock(&flow->watched);
	return ext_receipt_new(&receipt);
}

struct run {
	struct flow *flow;
	VALUE scheduler;
	uint64_t deadline_ns;

	uint64_t moved; /* under a scheduler, for waits that bring nothing */
	uint64_t waited_ns;
	unsigned idle;

	struct fid_flow *part; /* which of the two is stepped */
	struct pollfd wait[2];
	int result;
};

static uint64_t moved_so_far(struct fid_flow *flow)
{
	const struct fid_receipt *receipt = fid_flow_receipt(flow);

	return receipt->bytes_in + receipt->bytes_out;
}

/*
 * In a region: until it ends, or something is pending. It runs and is not stepped, since a
 * running flow waits for a reader with poll instead of with the reader's lock: a quarter of the
 * processor time from a file to a pipe.
 */
static void run_without_lock(void *argument)
{
	struct run *run = argument;
	uint64_t moved = UINT64_MAX;

	do {
		uint64_t now_moved = moved_so_far(run->part);
		int look_ms = now_moved == moved ? LOOK_IDLE_MS : LOOK_MS;
		int left_ms = ext_left_ms(run->deadline_ns);

		moved = now_moved;
		note_account(run->flow);
		run->result = fid_flow_run(
			run->part, left_ms >= 0 && left_ms < look_ms ? left_ms : look_ms);
		if (run->result != -ETIMEDOUT || fid_flow_receipt(run->part)->error != 0)
			return;
		run->result = FID_MORE;
		if (left_ms >= 0 && ext_left_ms(run->deadline_ns) == 0)
			return;
	} while (!ext_interrupted());
}

/* In a region: until it ends, or the scheduler has to wait, or others should have a turn. */
static void step_by_turns(void *argument)
{
	struct run *run = argument;
	unsigned steps = 0;

	do
		run->result = fid_flow_step(run->part, run->wait);
	while (run->result == FID_MORE && ++steps < STEPS_BY_TURN && !ext_interrupted());
}

/* In the fiber: the scheduler waits, or lets others have their turn. */
static void wait_by_scheduler(struct run *run)
{
	struct flow *flow = run->flow;
	struct ext_end *ends[2] = {run->part == flow->ahead ? &flow->sink : &flow->source,
				   &flow->sink};
	uint64_t deadline_ns = run->deadline_ns;
	uint64_t moved = moved_so_far(run->part);

	if (run->result == FID_MORE) {
		rb_fiber_scheduler_kernel_sleep(run->scheduler, INT2FIX(0));
		return;
	}
	run->idle = moved == run->moved ? run->idle + 1 : 0;
	run->moved = moved;
	if (ext_idle_ms(run->idle) > 0 && ext_now_ns() - run->waited_ns < IDLE_NS) {
		rb_fiber_scheduler_kernel_sleep(run->scheduler,
						DBL2NUM(ext_idle_ms(run->idle) / 1000.0));
		return;
	}
	run->waited_ns = ext_now_ns();
	for (int i = 0; i < 2; i++) {
		bool watches = run->wait[1 - i].fd >= 0 && !run->wait[1 - i].events;
		uint64_t look_ns = ext_now_ns() + (uint64_t)LOOK_AT_SINK_S * 1000000000;

		if (run->wait[i].fd < 0 || !run->wait[i].events)
			continue;
		ext_scheduler_wait(run->scheduler, ends[i], run->wait[i].events,
				   watches && look_ns < deadline_ns ? look_ns : deadline_ns);
	}
}

static VALUE flow_failure(struct run *run, int error)
{
	if (error == -ETIMEDOUT && fid_flow_receipt(run->part)->error == 0)
		return ext_failure(error, FID_SIDE_FID, "the time is over", account(run->flow));
	return ext_failure(error, FID_SIDE_NONE, NULL, account(run->flow));
}

/* One part to its end. Returns FID_DONE or -errno. */
static int run_part(struct run *run)
{
	struct flow *flow = run->flow;
	struct ext_end *ends[2] = {&flow->source, &flow->sink};

	for (;;) {
		if (NIL_P(run->scheduler))
			ext_region(ends, 2, run_without_lock, run);
		else
			ext_brief_region(ends, 2, step_by_turns, run);
		if (run->result == FID_DONE || (run->result < 0 && run->result != -EINTR))
			return run->result;
		if (run->deadline_ns != UINT64_MAX && ext_now_ns() >= run->deadline_ns)
			return -ETIMEDOUT;
		if (!NIL_P(run->scheduler) && run->result != -EINTR)
			wait_by_scheduler(run);
	}
}

/* What ended the first part ends the flow, and each further call says so again. */
static void raise_if_ended(struct run *run)
{
	if (run->flow->earlier.error != 0)
		rb_exc_raise(ext_failure(run->flow->earlier.error, FID_SIDE_NONE, NULL,
					 account(run->flow)));
}

static VALUE run_parts(VALUE argument)
{
	struct run *run = (struct run *)argument;
	struct flow *flow = run->flow;
	int result;

	if (flow->ahead) {
		run->part = flow->ahead;
		result = run_part(run);
		if (result == -ETIMEDOUT && fid_flow_receipt(flow->ahead)->error == 0)
			rb_exc_raise(flow_failure(run, result));
		conclude_ahead(flow);
	}
	raise_if_ended(run);
	run->part = flow->flow;
	result = run_part(run);
	if (result < 0)
		rb_exc_raise(flow_failure(run, result));
	return account(run->flow);
}

static VALUE no_longer_busy(VALUE argument)
{
	struct run *run = (struct run *)argument;

	run->flow->use.busy = false;
	return Qnil;
}

static VALUE run_for(VALUE self, VALUE timeout)
{
	/* What runs Ruby comes first: it might close the flow. */
	struct run run = {.deadline_ns = ext_deadline(timeout)};

	run.scheduler = ext_scheduler();
	run.flow = get_open(self);
	note_account(run.flow);
	run.flow->use.busy = true;
	return rb_ensure(run_parts, (VALUE)&run, no_longer_busy, (VALUE)&run);
}

/*
 * Goes on until the end of the file, the length or a failure. It waits without Ruby's global
 * lock, or by the Fiber scheduler. A signal, Thread#raise, Thread#kill, Timeout and the
 * closing of an IO by another thread end it; all but a failure leave the flow intact, and it
 * can be run again.
 *
 * @overload run(timeout: nil)
 *   @param timeout [Numeric, nil] seconds at most
 *   @return [Receipt]
 *   @raise [SystemCallError] with Failure: what ended the flow; further calls say so again
 *   @raise [Errno::ETIMEDOUT] the time is over, and receipt.error is nil
 *   @raise [IOError] the flow is closed, or another thread has closed an IO
 *   @raise [ThreadError] another thread or fiber uses the flow
 */
static VALUE flow_run(int argc, VALUE *argv, VALUE self)
{
	ID names[1] = {rb_intern("timeout")};
	VALUE values[1] = {Qundef};
	VALUE keywords;

	rb_scan_args(argc, argv, "0:", &keywords);
	if (!NIL_P(keywords))
		rb_get_kwargs(keywords, names, 0, 1, values);
	return run_for(self, values[0] == Qundef ? Qnil : values[0]);
}

/* In a region: one step, which does not sleep. */
static void step(void *argument)
{
	struct run *run = argument;

	run->result = fid_flow_step(run->part, run->wait);
}

static VALUE step_parts(VALUE argument)
{
	struct run *run = (struct run *)argument;
	struct flow *flow = run->flow;
	struct ext_end *ends[2] = {&flow->source, &flow->sink};

	raise_if_ended(run);
	run->part = flow->ahead ? flow->ahead : flow->flow;
	do
		ext_brief_region(ends, 2, step, run);
	while (run->result == -EINTR);
	if (flow->ahead && run->result <= FID_DONE) {
		conclude_ahead(flow);
		raise_if_ended(run);
		return ID2SYM(rb_intern("more"));
	}
	if (run->result < 0)
		rb_exc_raise(flow_failure(run, run->result));
	if (run->result == FID_DONE)
		return ID2SYM(rb_intern("done"));
	if (run->result == FID_MORE)
		return ID2SYM(rb_intern("more"));
	if (run->wait[0].fd >= 0 && run->wait[0].events)
		return ID2SYM(rb_intern("wait_readable"));
	return ID2SYM(rb_intern("wait_writable"));
}

/*
 * Moves what can be moved at once, a bounded amount, and never waits: for event loops.
 *
 * @return [Symbol] :done; :more (step again); :wait_readable, :wait_writable (when the source
 *   can be read, or the sink written)
 * @raise [SystemCallError] with Failure: what ended the flow
 * @raise [IOError] the flow or an IO is closed
 * @raise [ThreadError] another thread or fiber uses the flow
 */
static VALUE flow_step(VALUE self)
{
	struct run run = {.flow = get_open(self)};

	note_account(run.flow);
	run.flow->use.busy = true;
	return rb_ensure(step_parts, (VALUE)&run, no_longer_busy, (VALUE)&run);
}

/* ---- Its end ---- */

static VALUE salvage(VALUE self, VALUE bytes_max)
{
	struct flow *flow;
	VALUE string;
	uint64_t wanted;
	bool limited;
	ssize_t got;

	wanted = ext_bytes(bytes_max, "bytes_max", &limited);
	flow = get_open(self);
	if (!limited || wanted > fid_flow_receipt(flow->flow)->bytes_held)
		wanted = fid_flow_receipt(flow->flow)->bytes_held;
	if (wanted == 0)
		return Qnil;
	string = rb_str_buf_new((long)wanted);
	got = fid_flow_salvage(flow->flow, RSTRING_PTR(string), (size_t)wanted);
	if (got < 0)
		rb_exc_raise(ext_failure((int)got, FID_SIDE_FID, "salvage", Qnil));
	rb_str_set_len(string, (long)got);
	return got > 0 ? string : Qnil;
}

/*
 * Hands over bytes that were taken from the source and not delivered, oldest first. They leave
 * the flow.
 *
 * @overload salvage(bytes_max = nil)
 *   @param bytes_max [Integer, nil] how many at most
 *   @return [String, nil] binary; nil when there are none
 *   @raise [IOError] the flow is closed
 */
static VALUE flow_salvage(int argc, VALUE *argv, VALUE self)
{
	VALUE bytes_max;

	rb_scan_args(argc, argv, "01", &bytes_max);
	return salvage(self, bytes_max);
}

/*
 * Ends the flow; source and sink stay open. Bytes that it holds are lost: salvage first. What
 * Ruby had read ahead and was not delivered goes back to the source.
 *
 * @return [nil] also when it was closed before
 * @raise [ThreadError] another thread or fiber uses the flow
 */
static VALUE flow_close(VALUE self)
{
	struct flow *flow = get(self);

	if (!flow->flow)
		return Qnil;
	ext_use_check_idle(&flow->use, "flow");
	if (flow->ahead && ext_use_is_here(&flow->use) && !NIL_P(flow->source.io) &&
	    !RTEST(rb_funcall(flow->source.io, rb_intern("closed?"), 0)))
		conclude_ahead(flow);
	end_ahead(flow);
	flow->flow = fid_flow_free(flow->flow);
	return Qnil;
}

/* @return [Boolean] */
static VALUE flow_is_closed(VALUE self)
{
	return get(self)->flow ? Qfalse : Qtrue;
}

/* ---- Fid.copy ---- */

struct transfer {
	VALUE self;
	VALUE timeout;
};

static VALUE transfer_run(VALUE argument)
{
	struct transfer *transfer = (struct transfer *)argument;

	return run_for(transfer->self, transfer->timeout);
}

/*
 * What would be lost with the flow: an exception takes it along. Where there is none, since a
 * thread is killed or something is thrown (as Timeout does), the source gets it back.
 */
static VALUE salvage_into(VALUE argument)
{
	struct transfer *transfer = (struct transfer *)argument;
	VALUE source = get(transfer->self)->source.io;
	VALUE exception = rb_errinfo();
	VALUE receipt = account(get_open(transfer->self));
	VALUE undelivered = salvage(transfer->self, Qnil);

	if (NIL_P(undelivered))
		return Qnil;
	if (RTEST(rb_obj_is_kind_of(exception, rb_eException)) && !OBJ_FROZEN(exception))
		ext_failure_attach(exception, receipt, undelivered);
	else if (!NIL_P(source))
		ext_source_give_back(source, undelivered);
	return Qnil;
}

/*
 * A flow that lives for one call: source, sink, length, timeout and the values of the keywords.
 * It is one function, since at 64 KiB Ruby's share of a copy is felt.
 */
static VALUE transfer(int argc, VALUE *argv, VALUE class)
{
	struct transfer transfer = {.self = flow_alloc(class)};
	int state = 0;
	VALUE receipt;

	rb_check_arity(argc, 4 + KEYWORDS, 4 + KEYWORDS);
	make(get(transfer.self), argv[0], argv[1], argv[2], argv + 4);
	transfer.timeout = argv[3];
	receipt = rb_protect(transfer_run, (VALUE)&transfer, &state);
	if (state != 0) {
		/* What is on its way may be a throw, and is not touched; Timeout throws. */
		int failed = 0;

		rb_protect(salvage_into, (VALUE)&transfer, &failed);
		if (failed == 0)
			rb_protect(flow_close, transfer.self, &failed);
		rb_jump_tag(failed != 0 ? failed : state);
	}
	flow_close(transfer.self);
	RB_GC_GUARD(transfer.self);
	return receipt;
}

void ext_init_flow(void)
{
	VALUE cFlow = rb_define_class_under(ext_mFid, "Flow", rb_cObject);

	rb_define_alloc_func(cFlow, flow_alloc);
	rb_define_private_method(CLASS_OF(cFlow), "transfer", transfer, -1);
	rb_undef_method(cFlow, "initialize_copy");
	rb_define_method(cFlow, "initialize", flow_initialize, -1);
	rb_define_method(cFlow, "run", flow_run, -1);
	rb_define_method(cFlow, "step", flow_step, 0);
	rb_define_method(cFlow, "receipt", flow_receipt, 0);
	rb_define_method(cFlow, "salvage", flow_salvage, -1);
	rb_define_method(cFlow, "close", flow_close, 0);
	rb_define_method(cFlow, "closed?", flow_is_closed, 0);
}
