/* SPDX-License-Identifier: MIT */
/* Regions without Ruby's global lock, waits by a Fiber scheduler, and time. */
#include "ext.h"

#include <ruby/fiber/scheduler.h>
#include <ruby/thread.h>
#include <time.h>

/* ---- Regions ---- */

/*
 * Ruby can be told of one descriptor that a thread uses: whoever closes its IO then wakes this
 * thread first and waits for it. A transfer has two ends or more, so a region is entered once
 * for each, one inside the other; between two of them the global lock is taken back. Without
 * this a descriptor that another thread closes, and the next open() gets again, would be
 * written to.
 */
struct region {
	struct ext_end *const *ends;
	size_t count;
	void (*body)(void *data);
	void *data;
	int state; /* what rb_protect() says of it */
	bool ran;
};

/* Exported by Ruby for the extensions that it brings, and declared by none of its headers. */
#ifdef HAVE_RB_IO_BLOCKING_REGION
VALUE rb_io_blocking_region(rb_io_t *io, VALUE (*function)(void *), void *data); /* 3.4 */
#else
VALUE rb_thread_io_blocking_region(VALUE (*function)(void *), void *data, int fd);
#endif

static void enter(struct region *region);

static void *run_body(void *argument)
{
	struct region *region = argument;

	region->ran = true;
	region->body(region->data);
	return NULL;
}

static VALUE enter_protected(VALUE argument)
{
	enter((struct region *)argument);
	return Qnil;
}

/* With the lock. An exception must not leave through the region around this one. */
static void *enter_inner(void *argument)
{
	struct region *region = argument;

	rb_protect(enter_protected, (VALUE)region, &region->state);
	return NULL;
}

/* Without the lock, an IO being registered. */
static VALUE in_use(void *argument)
{
	struct region *region = argument;

	if (region->count == 0)
		run_body(region);
	else
		rb_thread_call_with_gvl(enter_inner, region);
	return Qnil;
}

/*
 * Without telling Ruby of any descriptor: there is none to tell of, or no other thread that
 * could close one. A handler of a signal could: what is pending is done before the descriptors
 * are looked at, and never between that and the body.
 */
static void enter_unregistered(struct region *region)
{
	for (;;) {
		region->ran = false;
		rb_thread_call_without_gvl2(run_body, region, RUBY_UBF_IO, NULL);
		rb_thread_check_ints();
		if (region->ran)
			return;
		for (size_t i = 0; i < region->count; i++)
			ext_end_check(region->ends[i]);
	}
}

static void enter(struct region *region)
{
	struct region inner = *region;
	const struct ext_end *end;

	inner.state = 0;
	/* Numbers cannot be registered: whoever closes one is on his own, as in Ruby. */
	while (inner.count > 0 && NIL_P(inner.ends[0]->io)) {
		inner.ends++;
		inner.count--;
	}
	if (inner.count == 0) {
		enter_unregistered(&inner);
		return;
	}
	end = inner.ends[0];
	do {
		inner.ends++;
		inner.count--;
	} while (inner.count > 0 && NIL_P(inner.ends[0]->io));
	/* Others ran since the ends were looked at: it may be closed, and its number taken. */
	ext_end_check(end);
#ifdef HAVE_RB_IO_BLOCKING_REGION
	{
		rb_io_t *fptr;

		RB_IO_POINTER(end->io, fptr);
		rb_io_blocking_region(fptr, in_use, &inner);
	}
#else
	rb_thread_io_blocking_region(in_use, &inner, end->fd);
#endif
	if (inner.state != 0)
		rb_jump_tag(inner.state);
}

/*
 * Handlers of signals run in the main thread, and there also between two levels, where the
 * outer IO is registered still: a handler that closes it would have to wait for itself
 * (Ruby 3.1 gives up and leaves a pointer to a dead frame behind). So the main thread sends
 * another one, which no handler ever runs in.
 */
struct errand {
	struct region *region;
	VALUE thread;
	VALUE error; /* an exception, or nil */
	bool done;
};

static VALUE run_errand(void *argument)
{
	struct errand *errand = argument;
	struct region *region = errand->region;
	VALUE error;

	rb_protect(enter_protected, (VALUE)region, &region->state);
	if (region->state != 0) {
		error = rb_errinfo();
		if (!RTEST(rb_obj_is_kind_of(error, rb_eException)))
			rb_jump_tag(region->state); /* it is killed */
		errand->error = error;
		rb_set_errinfo(Qnil);
	}
	errand->done = true;
	return Qnil;
}

static VALUE make_errand(VALUE argument)
{
	return rb_thread_create(run_errand, (struct errand *)argument);
}

static VALUE join_errand(VALUE argument)
{
	struct errand *errand = (struct errand *)argument;

	return rb_funcall(errand->thread, rb_intern("join"), 0);
}

static bool is_alive(VALUE thread)
{
	return RTEST(rb_funcall(thread, rb_intern("alive?"), 0));
}

static void send_errand(struct region *region)
{
	struct errand errand = {.region = region, .error = Qnil};
	int state = 0;

	errand.thread = rb_protect(make_errand, (VALUE)&errand, &state);
	if (state != 0) {
		/* No more threads to be had: what is left to fear is such a handler. */
		rb_set_errinfo(Qnil);
		enter(region);
		return;
	}
	rb_protect(join_errand, (VALUE)&errand, &state);
	/* It uses this frame: whatever came meanwhile has to wait for its end. */
	while (is_alive(errand.thread)) {
		int again = 0;

		rb_thread_kill(errand.thread);
		rb_protect(join_errand, (VALUE)&errand, &again);
		if (again != 0)
			state = again;
	}
	if (state != 0)
		rb_jump_tag(state);
	if (!NIL_P(errand.error)) {
		/* Of where it was raised nobody knows: tell of where it came from. */
		rb_funcall(errand.error, rb_intern("set_backtrace"), 1, rb_make_backtrace());
		rb_exc_raise(errand.error);
	}
	if (!errand.done)
		rb_raise(rb_eThreadError, "the thread that did this was killed");
}

bool ext_is_main_among_others(void)
{
	return !rb_thread_alone() && rb_thread_current() == rb_thread_main();
}

static size_t count_ios(struct ext_end *const *ends, size_t count)
{
	size_t ios = 0;

	for (size_t i = 0; i < count; i++)
		ios += !NIL_P(ends[i]->io);
	return ios;
}

static void check_ends(struct ext_end *const *ends, size_t count)
{
	for (size_t i = 0; i < count; i++)
		ext_end_check(ends[i]);
}

void ext_region(struct ext_end *const *ends, size_t count, void (*body)(void *), void *data)
{
	struct region region = {.ends = ends, .count = count, .body = body, .data = data};

	check_ends(ends, count);
	if (rb_thread_alone())
		enter_unregistered(&region);
	else if (ext_is_main_among_others() && count_ios(ends, count) > 1)
		send_errand(&region);
	else
		enter(&region);
}

void ext_brief_region(struct ext_end *const *ends, size_t count, void (*body)(void *),
		      void *data)
{
	if (ext_is_main_among_others() && count_ios(ends, count) > 1) {
		check_ends(ends, count);
		body(data);
		rb_thread_check_ints();
		return;
	}
	ext_region(ends, count, body, data);
}

bool ext_interrupted(void)
{
	/* As IO.copy_stream does without the lock, which these functions do not need. */
	return rb_thread_interrupted(rb_thread_current());
}

/* ---- Fiber schedulers ---- */

VALUE ext_scheduler(void)
{
	return rb_fiber_scheduler_current();
}

bool ext_scheduler_wait(VALUE scheduler, struct ext_end *end, int events, uint64_t deadline_ns)
{
	int left_ms = ext_left_ms(deadline_ns);
	VALUE timeout = left_ms < 0 ? Qnil : DBL2NUM(left_ms / 1000.0);
	int wanted = 0;
	VALUE got;

	if (events & POLLIN)
		wanted |= RUBY_IO_READABLE;
	if (events & POLLOUT)
		wanted |= RUBY_IO_WRITABLE;
	got = rb_fiber_scheduler_io_wait(scheduler, ext_end_waiter(end), INT2NUM(wanted),
					 timeout);
	ext_end_check(end);
	return RTEST(got);
}

/* ---- Time ---- */

uint64_t ext_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t ext_deadline(VALUE seconds)
{
	double wanted;

	if (NIL_P(seconds))
		return UINT64_MAX;
	wanted = NUM2DBL(seconds);
	if (!(wanted >= 0))
		rb_raise(rb_eArgError, "timeout must be 0 or more seconds, not %" PRIsVALUE,
			 rb_inspect(seconds));
	/* A hundred years are for ever, and do not overflow. */
	if (wanted > 100.0 * 365 * 86400)
		return UINT64_MAX;
	return ext_now_ns() + (uint64_t)(wanted * 1e9);
}

int ext_left_ms(uint64_t deadline_ns)
{
	uint64_t now;

	if (deadline_ns == UINT64_MAX)
		return -1;
	now = ext_now_ns();
	if (now >= deadline_ns)
		return 0;
	if (deadline_ns - now > (uint64_t)INT_MAX * 1000000 - 999999)
		return INT_MAX;
	return (int)((deadline_ns - now + 999999) / 1000000);
}

int ext_idle_ms(unsigned idle)
{
	enum { BELIEVED = 8, DOUBLINGS = 6 };

	if (idle < BELIEVED)
		return 0;
	return 1 << (idle - BELIEVED < DOUBLINGS ? idle - BELIEVED : DOUBLINGS);
}

uint64_t ext_bytes(VALUE value, const char *name, bool *ret_given)
{
	*ret_given = !NIL_P(value);
	if (NIL_P(value))
		return 0;
	if (FIXNUM_P(value) && FIX2LONG(value) >= 0)
		return (uint64_t)FIX2LONG(value);
	value = rb_to_int(value);
	if (RTEST(rb_funcall(value, '<', 1, INT2FIX(0))))
		rb_raise(rb_eArgError, "%s must be 0 or more, not %" PRIsVALUE, name, value);
	return NUM2ULL(value);
}
