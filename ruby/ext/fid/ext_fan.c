/* SPDX-License-Identifier: MIT */
/*
 * Fans: one source, many sinks. lib/fid/fan.rb is the public face; here are the ends and their
 * life, the loop of steps and poll, and what Ruby had read ahead.
 */
#include "ext.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	SALVAGE_BYTES = 64 << 10,
	FEED_PIPE_BYTES = 1 << 20,
	/*
	 * A region is entered once for each IO, one inside the other, and each takes 656 bytes
	 * of the stack (measured, Ruby 3.1 on amd64). A Fiber has 512 KiB, part of which is in
	 * use.
	 */
	REGISTERED_MAX = 64,
};

static VALUE cFan;

struct fan_sink {
	struct ext_end end;
	struct fid_fan_sink_options options;
	int duplicate; /* what the fan uses in the sink's place, or -1 */
	int spill;     /* or -1 */
};

/*
 * Where Ruby has read ahead from a source that cannot go back, the fan reads from a pipe of its
 * own: first come the bytes that Ruby has, and then a flow brings those of the source. A sink
 * that is slow is so for both, and nobody has to wait for it between the two.
 */
struct feeder {
	unsigned char *ahead;
	size_t ahead_bytes;
	size_t ahead_at;       /* so many of them are in the pipe */
	struct fid_flow *flow; /* NULL: the length is used up by what was read ahead */
	int read_end;
	int write_end; /* -1: all is in the pipe */
	int error;     /* the flow's */
	uint64_t salvaged;
};

struct fan {
	struct fid_fan *fan; /* NULL: closed */
	struct ext_end source;
	struct fid_fan_options options;
	struct feeder *feeder; /* or NULL */
	struct fan_sink *sinks;
	size_t count;
	size_t room;
	struct ext_end **ends; /* those that a region is entered for */
	struct pollfd *fds;
	struct fan *next; /* in the list of all fans */
	struct fan **link;
	bool started;
	bool drained; /* what fed it was salvaged: it cannot go on */
	struct ext_use use;
};

/* ---- Its object ---- */

static void fan_mark(void *argument)
{
	struct fan *fan = argument;

	ext_end_mark(&fan->source);
	for (size_t i = 0; i < fan->count; i++)
		ext_end_mark(&fan->sinks[i].end);
}

/* It is forgotten first: a fork between the two would close a stranger's. */
static void close_fd(int *fd)
{
	int closed = *fd;

	*fd = -1;
	if (closed >= 0)
		close(closed);
}

static struct feeder *feeder_free(struct feeder *feeder)
{
	if (!feeder)
		return NULL;
	fid_flow_free(feeder->flow);
	close_fd(&feeder->read_end);
	close_fd(&feeder->write_end);
	free(feeder->ahead);
	free(feeder);
	return NULL;
}

static void close_own_descriptors(struct fan *fan)
{
	for (size_t i = 0; i < fan->count; i++) {
		close_fd(&fan->sinks[i].duplicate);
		close_fd(&fan->sinks[i].spill);
	}
}

static void release(struct fan *fan)
{
	/* Only in a child, when a thread of the parent was just at work: it may be torn. */
	if (!fan->use.busy) {
		fid_fan_free(fan->fan);
		feeder_free(fan->feeder);
	}
	fan->fan = NULL;
	fan->feeder = NULL;
	close_own_descriptors(fan);
}

/*
 * All fans, for a child of fork(2), which closes the descriptors that it has of them. Otherwise
 * the end of a pipe would not be noticed by who reads it, the fan itself among them, as long as
 * the child lives.
 */
static pthread_mutex_t fans_lock = PTHREAD_MUTEX_INITIALIZER;
static struct fan *fans;

static void enlist(struct fan *fan)
{
	pthread_mutex_lock(&fans_lock);
	fan->next = fans;
	fan->link = &fans;
	if (fans)
		fans->link = &fan->next;
	fans = fan;
	pthread_mutex_unlock(&fans_lock);
}

static void delist(struct fan *fan)
{
	pthread_mutex_lock(&fans_lock);
	*fan->link = fan->next;
	if (fan->next)
		fan->next->link = fan->link;
	pthread_mutex_unlock(&fans_lock);
}

static void before_fork(void)
{
	pthread_mutex_lock(&fans_lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&fans_lock);
}

static void in_child(void)
{
	for (struct fan *fan = fans; fan; fan = fan->next) {
		close_own_descriptors(fan);
		if (fan->feeder) {
			close_fd(&fan->feeder->read_end);
			close_fd(&fan->feeder->write_end);
		}
	}
	pthread_mutex_unlock(&fans_lock);
}

static void fan_free(void *argument)
{
	struct fan *fan = argument;

	delist(fan);
	release(fan);
	xfree(fan->sinks);
	xfree(fan->ends);
	xfree(fan->fds);
	xfree(fan);
}

static size_t fan_memsize(const void *argument)
{
	const struct fan *fan = argument;

	/* A flow for each sink takes about 1 KiB; pipes and buffers belong to a pool. */
	return sizeof(*fan) + fan->room * sizeof(*fan->sinks) + fan->count * 1024;
}

static const rb_data_type_t fan_type = {
	.wrap_struct_name = "Fid::Fan",
	.function = {.dmark = fan_mark, .dfree = fan_free, .dsize = fan_memsize},
	.flags = RUBY_TYPED_FREE_IMMEDIATELY,
};

static VALUE fan_alloc(VALUE class)
{
	struct fan *fan;
	VALUE self = TypedData_Make_Struct(class, struct fan, &fan_type, fan);

	fan->source = EXT_END_NONE;
	enlist(fan);
	return self;
}

static struct fan *get(VALUE self)
{
	return rb_check_typeddata(self, &fan_type);
}

/* For what changes it. */
static struct fan *get_open(VALUE self)
{
	struct fan *fan = get(self);

	ext_use_check(&fan->use, fan->fan, "fan");
	return fan;
}

/* ---- Making ---- */

/* setup(source, length, source_offset, pipe_bytes, stable, stop, grow_pipes) */
static VALUE fan_setup(VALUE self, VALUE source, VALUE length, VALUE source_offset,
		       VALUE pipe_bytes, VALUE stable, VALUE stop, VALUE grow_pipes)
{
	struct fan *fan = get(self);
	struct fid_fan_options options = {.size = sizeof(options), .flags = FID_NOWAIT};
	struct ext_end from;
	bool given;
	int got;

	options.bytes_max = ext_bytes(length, "length", &given);
	options.flags |= given ? FID_LIMIT_ZERO : 0;
	options.source_offset = ext_bytes(source_offset, "source_offset", &given);
	options.flags |= given ? FID_SOURCE_OFFSET : 0;
	options.pipe_bytes = ext_bytes(pipe_bytes, "pipe_bytes", &given);
	options.flags |= RTEST(stable) ? FID_STABLE : 0;
	options.flags |= RTEST(stop) ? FID_FAN_STOP : 0;
	options.flags |= RTEST(grow_pipes) ? FID_GROW_PIPES : 0;
	from = ext_source(source);
	if (fan->use.process)
		rb_raise(rb_eRuntimeError, "the fan has been made already");
	fan->options = options;
	fan->source = from;
	fan->use.process = getpid();
	got = fid_fan_new(&fan->fan, fan->source.fd, &fan->options);
	if (got < 0)
		rb_exc_raise(ext_failure(got, FID_SIDE_SOURCE, NULL, Qnil));
	return Qnil;
}

static uint32_t policy_from(VALUE given)
{
	if (given == ID2SYM(rb_intern("wait")))
		return FID_SLOW_WAIT;
	if (given == ID2SYM(rb_intern("drop")))
		return FID_SLOW_DROP;
	if (given == ID2SYM(rb_intern("spill")))
		return FID_SLOW_SPILL;
	rb_raise(rb_eArgError,
		 "unknown on_slow %" PRIsVALUE "; there are :wait, :drop and :spill",
		 rb_inspect(given));
}

/* Milliseconds, at least one: 0 would mean the default. */
static uint32_t stall_from(VALUE seconds)
{
	double wanted;

	if (NIL_P(seconds))
		return 0;
	wanted = NUM2DBL(seconds);
	if (!(wanted > 0))
		rb_raise(rb_eArgError, "stall must be more than 0 seconds, not %" PRIsVALUE,
			 rb_inspect(seconds));
	if (wanted * 1000 >= INT32_MAX)
		return INT32_MAX;
	return wanted * 1000 < 1 ? 1 : (uint32_t)(wanted * 1000 + 0.5);
}

/* Room for one more, in the lists that grow with the sinks. */
static void grow(struct fan *fan)
{
	size_t room = fan->room ? fan->room * 2 : 4;

	if (fan->count < fan->room)
		return;
	REALLOC_N(fan->sinks, struct fan_sink, room);
	REALLOC_N(fan->ends, struct ext_end *, room + 1);
	/* The sinks, the source, and both ends of what feeds the fan. */
	REALLOC_N(fan->fds, struct pollfd, room + 3);
	fan->room = room;
}

static int used_descriptor(const struct fan_sink *sink)
{
	return sink->duplicate >= 0 ? sink->duplicate : sink->end.fd;
}

static int duplicate(int fd)
{
	int got = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return got < 0 ? -errno : got;
}

/* How many ends a region is entered for. */
static size_t registered(const struct fan *fan)
{
	size_t count = !NIL_P(fan->source.io);

	for (size_t i = 0; i < fan->count; i++)
		count += !NIL_P(fan->sinks[i].end.io) && fan->sinks[i].duplicate < 0;
	return count;
}

/* The descriptors that the fan has of its own for a sink. Returns 0 or -errno. */
static int take_descriptors(const struct fan *fan, struct fan_sink *sink, int spill)
{
	if (!NIL_P(sink->end.io) && registered(fan) >= REGISTERED_MAX) {
		sink->duplicate = duplicate(sink->end.fd);
		if (sink->duplicate < 0)
			return sink->duplicate;
	}
	if (spill >= 0) {
		sink->spill = duplicate(spill);
		if (sink->spill < 0)
			return sink->spill;
		sink->options.spill = sink->spill;
	}
	return 0;
}

/*
 * attach(sink, on_slow, stall, offset, spill, spill_bytes_max): spill is an IO that stays the
 * caller's. Returns the sink's number.
 */
static VALUE fan_attach(VALUE self, VALUE given_sink, VALUE on_slow, VALUE stall, VALUE offset,
			VALUE given_spill, VALUE spill_bytes_max)
{
	struct fan_sink added = {.end = EXT_END_NONE, .duplicate = -1, .spill = -1};
	struct fid_fan_sink_options *options = &added.options;
	struct ext_end spill = EXT_END_NONE;
	struct fan *fan;
	bool given;
	int got;

	*options = (struct fid_fan_sink_options){.size = sizeof(*options)};
	options->on_slow = policy_from(on_slow);
	options->stall_ms = stall_from(stall);
	options->sink_offset = ext_bytes(offset, "offset", &given);
	options->flags |= given ? FID_SINK_OFFSET : 0;
	options->spill_bytes_max = ext_bytes(spill_bytes_max, "spill_bytes_max", &given);
	if (!NIL_P(given_spill))
		spill = ext_end(given_spill);
	added.end = ext_sink(given_sink);
	/* All of this may have run Ruby; nothing does from here on. */
	fan = get_open(self);
	if (fan->started)
		rb_raise(rb_eRuntimeError, "sinks are added before the fan is run");
	grow(fan);
	ext_end_check(&added.end);
	got = take_descriptors(fan, &added, spill.fd);
	if (got == 0)
		got = fid_fan_add(fan->fan, used_descriptor(&added), options);
	if (got < 0) {
		close_fd(&added.duplicate);
		close_fd(&added.spill);
		rb_exc_raise(ext_failure(got, FID_SIDE_SINK, NULL, Qnil));
	}
	fan->sinks[fan->count++] = added;
	return INT2NUM(got);
}

/* ---- What Ruby had read ahead ---- */

static int feeder_new(struct feeder **ret_feeder, VALUE ahead)
{
	struct feeder *feeder = calloc(1, sizeof(*feeder));
	int ends[2] = {-1, -1};

	if (!feeder)
		return -ENOMEM;
	feeder->read_end = feeder->write_end = -1;
	feeder->ahead_bytes = (size_t)RSTRING_LEN(ahead);
	feeder->ahead = malloc(feeder->ahead_bytes);
	if (!feeder->ahead) {
		feeder_free(feeder);
		return -ENOMEM;
	}
	memcpy(feeder->ahead, RSTRING_PTR(ahead), feeder->ahead_bytes);
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
		int error = -errno;

		feeder_free(feeder);
		return error;
	}
	feeder->read_end = ends[0];
	feeder->write_end = ends[1];
	/* A smaller one does as well, where the user's share of pipes is used up. */
	fcntl(feeder->write_end, F_SETPIPE_SZ, FEED_PIPE_BYTES);
	*ret_feeder = feeder;
	return 0;
}

/* The flow that brings the rest of the source. Returns 0 or -errno. */
static int start_flow(const struct fan *fan, struct feeder *feeder)
{
	struct fid_options options = {
		.size = sizeof(options),
		.flags = FID_NOWAIT | (fan->options.flags & (FID_STABLE | FID_GROW_PIPES)),
	};

	if (fan->options.flags & FID_LIMIT_ZERO) {
		options.bytes_max = fan->options.bytes_max - feeder->ahead_bytes;
		if (options.bytes_max == 0)
			return 0;
	}
	return fid_flow_new(&feeder->flow, fan->source.fd, feeder->write_end, &options, NULL);
}

/* The same fan anew, with the feeder's pipe as its source. Returns 0 or -errno. */
static int start_fed(struct fan *fan, VALUE ahead)
{
	struct fid_fan_options options = fan->options;
	struct feeder *feeder = NULL;
	struct fid_fan *fed = NULL;
	int got = feeder_new(&feeder, ahead);

	options.flags &= ~(uint32_t)FID_LIMIT_ZERO;
	options.bytes_max = 0;
	if (got == 0)
		got = start_flow(fan, feeder);
	if (got == 0)
		got = fid_fan_new(&fed, feeder->read_end, &options);
	for (size_t i = 0; i < fan->count && got >= 0; i++)
		got = fid_fan_add(fed, used_descriptor(&fan->sinks[i]), &fan->sinks[i].options);
	if (got < 0) {
		fid_fan_free(fed);
		feeder_free(feeder);
		return got;
	}
	fid_fan_free(fan->fan);
	fan->fan = fed;
	fan->feeder = feeder;
	return 0;
}

static void feeder_is_done(struct feeder *feeder)
{
	/* Now the fan finds the end of its source. */
	close_fd(&feeder->write_end);
}

/* In a region. Returns FID_DONE when nothing is left to bring, FID_MORE, or FID_WAIT. */
static int feed(struct feeder *feeder, struct pollfd wait[2])
{
	int result;

	wait[0] = wait[1] = (struct pollfd){.fd = -1};
	if (feeder->write_end < 0)
		return FID_DONE;
	while (feeder->ahead_at < feeder->ahead_bytes) {
		ssize_t got = write(feeder->write_end, feeder->ahead + feeder->ahead_at,
				    feeder->ahead_bytes - feeder->ahead_at);

		if (got < 0 && errno == EAGAIN) {
			wait[1] = (struct pollfd){.fd = feeder->write_end, .events = POLLOUT};
			return FID_WAIT;
		}
		if (got < 0 && errno != EINTR) {
			feeder->error = -errno;
			feeder_is_done(feeder);
			return FID_DONE;
		}
		feeder->ahead_at += got > 0 ? (size_t)got : 0;
	}
	result = feeder->flow ? fid_flow_step(feeder->flow, wait) : FID_DONE;
	if (result == FID_MORE || result == FID_WAIT)
		return result;
	if (result == -EINTR)
		return FID_MORE;
	feeder->error = result;
	feeder_is_done(feeder);
	return FID_DONE;
}

/* Bytes that left Ruby's buffer or the source. */
static uint64_t feeder_taken(const struct feeder *feeder)
{
	return feeder->ahead_bytes +
	       (feeder->flow ? fid_flow_receipt(feeder->flow)->bytes_in : 0);
}

/*
 * In order: what is in the pipe, what the flow holds, what has not come into the pipe. Only of
 * a fan that does not go on. Returns how many, 0 when none are left, or -errno.
 */
static ssize_t feeder_salvage(struct feeder *feeder, void *buffer, size_t capacity)
{
	ssize_t got;

	do
		got = read(feeder->read_end, buffer, capacity);
	while (got < 0 && errno == EINTR);
	if (got < 0 && errno != EAGAIN)
		return -errno;
	if (got <= 0 && feeder->ahead_at < feeder->ahead_bytes) {
		got = (ssize_t)(feeder->ahead_bytes - feeder->ahead_at);
		got = (size_t)got < capacity ? got : (ssize_t)capacity;
		memcpy(buffer, feeder->ahead + feeder->ahead_at, (size_t)got);
		feeder->ahead_at += (size_t)got;
	} else if (got <= 0) {
		got = feeder->flow ? fid_flow_salvage(feeder->flow, buffer, capacity) : 0;
	}
	if (got > 0)
		feeder->salvaged += (uint64_t)got;
	return got;
}

/* ---- The account ---- */

static uint64_t at_most(uint64_t limit, uint64_t bytes)
{
	return bytes < limit ? bytes : limit;
}

/* Bytes that count as references to the fan, and were copied on the way into its pipe. */
static void move_class(struct fid_receipt *receipt, enum fid_class class_, uint64_t bytes)
{
	bytes = at_most(receipt->by_class[FID_BY_REFERENCE], bytes);
	receipt->by_class[FID_BY_REFERENCE] -= bytes;
	receipt->by_class[class_] += bytes;
}

/* What the flow into the fan's pipe did counts for the source. */
static void add_flow(struct fid_receipt *receipt, struct fid_flow *flow)
{
	const struct fid_receipt *account = fid_flow_receipt(flow);

	move_class(receipt, FID_USER_COPY, account->by_class[FID_USER_COPY]);
	move_class(receipt, FID_KERNEL_COPY, account->by_class[FID_KERNEL_COPY]);
	receipt->waits += account->waits;
	if (account->error < 0 && receipt->error == 0) {
		receipt->error = account->error;
		receipt->error_side = account->error_side;
		receipt->error_call = account->error_call;
	}
}

static struct fid_receipt source_account(const struct fan *fan)
{
	struct fid_receipt receipt = *fid_fan_receipt(fan->fan);
	const struct feeder *feeder = fan->feeder;

	if (!feeder)
		return receipt;
	receipt.bytes_in = feeder_taken(feeder);
	receipt.bytes_salvaged += feeder->salvaged;
	receipt.bytes_held = receipt.bytes_in - receipt.bytes_out - receipt.bytes_salvaged;
	move_class(&receipt, FID_USER_COPY, feeder->ahead_bytes);
	if (feeder->flow)
		add_flow(&receipt, feeder->flow);
	if (feeder->error < 0 && receipt.error == 0) {
		receipt.error = feeder->error;
		receipt.error_side = FID_SIDE_FID;
		receipt.error_call = FID_CALL_WRITE;
	}
	return receipt;
}

static VALUE source_receipt(const struct fan *fan)
{
	struct fid_receipt receipt = source_account(fan);

	return ext_receipt_new(&receipt);
}

static VALUE sink_receipts(const struct fan *fan)
{
	VALUE list = rb_ary_new_capa((long)fan->count);

	for (size_t i = 0; i < fan->count; i++)
		rb_ary_push(list, ext_receipt_new(fid_fan_sink_receipt(fan->fan, (int)i)));
	return rb_obj_freeze(list);
}

/* A Fid::Fan::Receipt, which lib/fid/fan.rb defines. */
static VALUE account(const struct fan *fan)
{
	VALUE parts[2] = {source_receipt(fan), sink_receipts(fan)};

	return rb_class_new_instance(2, parts, rb_const_get(cFan, rb_intern("Receipt")));
}

static VALUE fan_receipt(VALUE self)
{
	return account(get_open(self));
}

static VALUE failure_of(const struct fan *fan, int error, enum fid_side side, const char *call)
{
	VALUE failure = ext_failure(error, side, call, source_receipt(fan));

	rb_ivar_set(failure, rb_intern("@receipt"), account(fan));
	return failure;
}

/* ---- Moving ---- */

struct run {
	struct fan *fan;
	VALUE self;
	uint64_t deadline_ns;
	unsigned idle;
	uint64_t moved;
	int result;
	bool time_is_over;
	bool poll_failed;
};

/* All bytes that have moved anywhere. */
static uint64_t moved_so_far(const struct fan *fan)
{
	const struct fid_receipt *receipt = fid_fan_receipt(fan->fan);
	uint64_t bytes = receipt->bytes_in + receipt->bytes_out;

	if (fan->feeder)
		bytes += feeder_taken(fan->feeder) + fan->feeder->ahead_at;
	for (size_t i = 0; i < fan->count; i++) {
		receipt = fid_fan_sink_receipt(fan->fan, (int)i);
		bytes += receipt->bytes_in + receipt->bytes_out;
	}
	return bytes;
}

static int least_ms(int one, int other)
{
	if (one < 0 || other < 0)
		return one < 0 ? other : one;
	return one < other ? one : other;
}

/* Waits for the fan and for what feeds it. Returns 0 or -errno. */
static int sleep_until_ready(struct run *run, const struct fid_fan_wait *wait,
			     const struct pollfd *feeding)
{
	struct pollfd *fds = run->fan->fds;
	uint64_t moved = moved_so_far(run->fan);
	int timeout_ms = least_ms(wait->timeout_ms, ext_left_ms(run->deadline_ns));
	size_t count = wait->count;
	int got;

	if (moved != run->moved)
		run->idle = 0;
	run->moved = moved;
	if (ext_idle_ms(run->idle) > 0) {
		got = poll(NULL, 0, least_ms(timeout_ms, ext_idle_ms(run->idle++)));
		return got < 0 ? -errno : 0;
	}
	memcpy(fds, wait->fds, count * sizeof(*fds));
	for (int i = 0; i < 2; i++)
		if (feeding[i].fd >= 0)
			fds[count++] = feeding[i];
	got = poll(fds, count, timeout_ms);
	run->idle += got > 0;
	return got < 0 ? -errno : 0;
}

/* In a region: until it ends, the time is over, or something is pending. */
static void move(void *argument)
{
	struct run *run = argument;
	struct fan *fan = run->fan;
	struct pollfd feeding[2] = {{.fd = -1}, {.fd = -1}};
	struct fid_fan_wait wait;

	do {
		int fed = fan->feeder ? feed(fan->feeder, feeding) : FID_DONE;

		run->result = fid_fan_step(fan->fan, &wait);
		if (run->result != FID_MORE && run->result != FID_WAIT)
			return;
		if (run->deadline_ns != UINT64_MAX && ext_now_ns() >= run->deadline_ns) {
			run->time_is_over = true;
			return;
		}
		if (run->result == FID_WAIT && fed != FID_MORE) {
			int got = sleep_until_ready(run, &wait, feeding);

			run->poll_failed = got < 0 && got != -EINTR;
			if (got < 0) {
				run->result = got;
				return;
			}
		}
	} while (!ext_interrupted());
}

/* Ruby's own buffers, and with them the last moment to choose where the fan reads from. */
static void settle(struct fan *fan)
{
	const uint64_t limit = fan->options.flags & FID_LIMIT_ZERO ? fan->options.bytes_max
								   : UINT64_MAX;
	VALUE ahead;
	int got;

	for (size_t i = 0; i < fan->count; i++)
		ext_sink_settle(&fan->sinks[i].end);
	if (fan->options.flags & FID_SOURCE_OFFSET) {
		if (!NIL_P(fan->source.io))
			rb_io_flush(fan->source.io);
		return;
	}
	ext_end_check(&fan->source); /* a flush may have waited */
	ahead = ext_source_settle(&fan->source, fan->started ? 0 : limit);
	/* What was read ahead since then belongs behind what the fan holds. */
	if (fan->started)
		ext_end_refuse_read_ahead(&fan->source, "run");
	if (NIL_P(ahead))
		return;
	got = start_fed(fan, ahead);
	if (got < 0) {
		ext_source_give_back(fan->source.io, ahead);
		rb_exc_raise(ext_failure(got, FID_SIDE_FID, NULL, Qnil));
	}
}

/* The ends that Ruby is to know of: those that have no duplicate. */
static size_t collect_ends(struct fan *fan)
{
	size_t count = 0;

	fan->ends[count++] = &fan->source;
	for (size_t i = 0; i < fan->count; i++)
		if (fan->sinks[i].duplicate < 0)
			fan->ends[count++] = &fan->sinks[i].end;
	return count;
}

static VALUE run_to_the_end(VALUE argument)
{
	struct run *run = (struct run *)argument;
	struct fan *fan = run->fan;
	size_t count;

	settle(fan);
	fan->started = true;
	count = collect_ends(fan);
	do
		ext_region(fan->ends, count, move, run);
	while (!run->time_is_over && !run->poll_failed &&
	       (run->result == FID_MORE || run->result == FID_WAIT || run->result == -EINTR));
	if (run->time_is_over)
		rb_exc_raise(failure_of(fan, ETIMEDOUT, FID_SIDE_FID, "the time is over"));
	if (run->poll_failed)
		rb_exc_raise(failure_of(fan, run->result, FID_SIDE_FID, "poll"));
	if (run->result == 0 && fan->feeder)
		run->result = fan->feeder->error;
	if (run->result < 0)
		rb_exc_raise(failure_of(fan, run->result, FID_SIDE_NONE, NULL));
	return Qnil;
}

static VALUE no_longer_busy(VALUE argument)
{
	struct run *run = (struct run *)argument;

	run->fan->use.busy = false;
	return Qnil;
}

/* move(timeout): to the end of the fan. */
static VALUE fan_move(VALUE self, VALUE timeout)
{
	struct run run = {
		.self = self,
		.deadline_ns = ext_deadline(timeout), /* it may run Ruby */
		.moved = UINT64_MAX,
	};

	run.fan = get_open(self);
	if (run.fan->count == 0)
		rb_raise(rb_eArgError, "a fan without sinks");
	if (run.fan->drained)
		rb_raise(rb_eIOError, "the fan's bytes were salvaged");
	run.fan->use.busy = true;
	return rb_ensure(run_to_the_end, (VALUE)&run, no_longer_busy, (VALUE)&run);
}

/* judge(timeout): raises what a run with that would raise at once. */
static VALUE fan_judge(VALUE self, VALUE timeout)
{
	ext_deadline(timeout);
	get_open(self);
	return Qnil;
}

/* ---- Its end ---- */

/* What is left for a sink, or for all (-1) of them. */
static ssize_t salvage_some(struct fan *fan, int sink, void *buffer, size_t capacity)
{
	ssize_t got = fid_fan_salvage(fan->fan, sink, buffer, capacity);

	if (got == 0 && sink < 0 && fan->feeder) {
		got = feeder_salvage(fan->feeder, buffer, capacity);
		/* A sink may have had some of them: the fan would not know that they are gone.
		 */
		fan->drained |= got > 0;
	}
	return got;
}

static VALUE salvage(struct fan *fan, int sink)
{
	VALUE bytes = rb_str_buf_new(0);
	long length = 0;
	ssize_t got;

	do {
		rb_str_modify_expand(bytes, SALVAGE_BYTES);
		got = salvage_some(fan, sink, RSTRING_PTR(bytes) + length, SALVAGE_BYTES);
		length += got > 0 ? got : 0;
		rb_str_set_len(bytes, length);
	} while (got > 0);
	if (got < 0 && length == 0)
		rb_exc_raise(ext_failure((int)got, FID_SIDE_FID, "salvage", Qnil));
	return length > 0 ? bytes : Qnil;
}

static VALUE fan_salvage(int argc, VALUE *argv, VALUE self)
{
	struct fan *fan;
	VALUE index;
	int sink;

	rb_scan_args(argc, argv, "01", &index);
	sink = NIL_P(index) ? -1 : NUM2INT(index); /* it may run Ruby */
	fan = get_open(self);
	if (!NIL_P(index) && (sink < 0 || (size_t)sink >= fan->count))
		rb_raise(rb_eIndexError, "no sink %d: the fan has %zu", sink, fan->count);
	return salvage(fan, sink);
}

/* What not every sink got goes back to where the next read of the source finds it. */
static VALUE fan_give_back(VALUE self)
{
	VALUE io = get(self)->source.io;
	VALUE bytes;
	struct fan *fan;

	if (NIL_P(io) || RTEST(rb_funcall(io, rb_intern("closed?"), 0)))
		return Qnil;
	fan = get_open(self);
	bytes = salvage(fan, -1);
	if (!NIL_P(bytes))
		ext_source_give_back(io, bytes);
	return Qnil;
}

static VALUE fan_close(VALUE self)
{
	struct fan *fan = get(self);

	if (!fan->fan)
		return Qnil;
	ext_use_check_idle(&fan->use, "fan");
	if (fan->feeder && ext_use_is_here(&fan->use))
		fan_give_back(self);
	release(fan);
	return Qnil;
}

static VALUE fan_is_closed(VALUE self)
{
	return get(self)->fan ? Qfalse : Qtrue;
}

void ext_init_fan(void)
{
	cFan = rb_define_class_under(ext_mFid, "Fan", rb_cObject);
	if (pthread_atfork(before_fork, after_fork, in_child) != 0)
		rb_memerror();

	rb_define_alloc_func(cFan, fan_alloc);
	rb_undef_method(cFan, "initialize_copy");
	rb_define_private_method(cFan, "setup", fan_setup, 7);
	rb_define_private_method(cFan, "attach", fan_attach, 6);
	rb_define_private_method(cFan, "move", fan_move, 1);
	rb_define_private_method(cFan, "judge", fan_judge, 1);
	rb_define_private_method(cFan, "give_back", fan_give_back, 0);
	rb_define_method(cFan, "receipt", fan_receipt, 0);
	rb_define_method(cFan, "salvage", fan_salvage, -1);
	rb_define_method(cFan, "close", fan_close, 0);
	rb_define_method(cFan, "closed?", fan_is_closed, 0);
}
