/* SPDX-License-Identifier: MIT */
/*
 * Memory into a descriptor. Strings are copied into memory of the library's own, always: Ruby
 * moves and reuses theirs. lib/fid/memory.rb is the public face.
 */
#include "ext.h"

#include <errno.h>
#include <ruby/fiber/scheduler.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_RB_IO_BUFFER_NEW
#include <ruby/io/buffer.h>
#endif

struct memory {
	struct ext_end sink;
	struct fid_memory *memory; /* NULL: closed */
	struct ext_use use;
};

/* ---- Its object ---- */

static void memory_mark(void *argument)
{
	struct memory *memory = argument;

	ext_end_mark(&memory->sink);
}

static void memory_free(void *argument)
{
	struct memory *memory = argument;

	/* Only in a child, when a thread of the parent was just at work: it may be torn. */
	if (!memory->use.busy)
		fid_memory_free(memory->memory);
	xfree(memory);
}

static size_t memory_memsize(const void *argument)
{
	/* Of the slabs only the pages count that have been filled, which nobody has counted. */
	return sizeof(struct memory) + FID_MEMORY_RESERVE_MAX;
}

static const rb_data_type_t memory_type = {
	.wrap_struct_name = "Fid::Memory",
	.function = {.dmark = memory_mark, .dfree = memory_free, .dsize = memory_memsize},
	.flags = RUBY_TYPED_FREE_IMMEDIATELY,
};

static VALUE memory_alloc(VALUE class)
{
	struct memory *memory;
	VALUE self = TypedData_Make_Struct(class, struct memory, &memory_type, memory);

	memory->sink = EXT_END_NONE;
	return self;
}

static struct memory *get(VALUE self)
{
	return rb_check_typeddata(self, &memory_type);
}

static struct memory *get_open(VALUE self)
{
	struct memory *memory = get(self);

	ext_use_check(&memory->use, memory->memory, "memory");
	return memory;
}

static VALUE account(const struct memory *memory)
{
	return ext_receipt_new(fid_memory_receipt(memory->memory));
}

/* setup(sink, mode) */
static VALUE memory_setup(VALUE self, VALUE sink, VALUE mode)
{
	struct memory *memory = get(self);
	struct fid_memory_options options = {
		.size = sizeof(options),
		.flags = FID_INTERRUPTIBLE,
	};
	struct ext_end to;
	int got;

	if (mode == ID2SYM(rb_intern("fresh")))
		options.mode = FID_MEMORY_FRESH;
	else if (mode != ID2SYM(rb_intern("copy")))
		rb_raise(rb_eArgError,
			 "unknown mode %" PRIsVALUE "; there are :copy and :fresh",
			 rb_inspect(mode));
	to = ext_sink(sink); /* it may run Ruby */
	if (memory->use.process)
		rb_raise(rb_eRuntimeError, "the memory has been made already");
	memory->sink = to;
	memory->use.process = getpid();
	got = fid_memory_new(&memory->memory, memory->sink.fd, &options);
	if (got < 0)
		rb_exc_raise(ext_failure(got, FID_SIDE_SINK, NULL, Qnil));
	return Qnil;
}

/* ---- Sending ---- */

/* What the methods below do while the memory is busy. */
struct use {
	struct memory *memory;
	VALUE scheduler;
	int result;

	VALUE strings; /* write: an Array of frozen Strings */
	size_t bytes;  /* fill: as asked for, and then as filled */
	void *room;
	size_t room_bytes;
	VALUE buffer;
};

/*
 * In a region: until all is delivered or a signal wakes it. Under a scheduler it only does what
 * can be done without waiting. A call may sleep otherwise, since a blocking pipe takes PIPE_BUF
 * bytes a call from whoever must not, which costs two thirds of the throughput.
 */
static void send_pending(void *argument)
{
	struct use *use = argument;

	use->result = fid_memory_run(use->memory->memory, NIL_P(use->scheduler) ? -1 : 0);
}

/* All that is left, oldest first, or nil. */
static VALUE salvage(struct memory *memory)
{
	uint64_t held = fid_memory_receipt(memory->memory)->bytes_held;
	VALUE bytes;
	ssize_t got = 1;

	if (held == 0)
		return Qnil;
	bytes = rb_str_buf_new((long)held);
	while (got > 0 && (uint64_t)RSTRING_LEN(bytes) < held) {
		got = fid_memory_salvage(memory->memory,
					 RSTRING_PTR(bytes) + RSTRING_LEN(bytes),
					 (size_t)held - (size_t)RSTRING_LEN(bytes));
		if (got > 0)
			rb_str_set_len(bytes, RSTRING_LEN(bytes) + got);
	}
	return bytes;
}

static void fail(struct use *use)
{
	struct memory *memory = use->memory;
	VALUE undelivered = salvage(memory);
	VALUE failure = ext_failure(use->result, FID_SIDE_NONE, NULL, account(memory));

	rb_ivar_set(failure, rb_intern("@undelivered"), undelivered);
	rb_exc_raise(failure);
}

/*
 * In the fiber: until the sink is ready. One that has something in its error queue always seems
 * to be; after some waits that brought nothing others have their turn for a while.
 */
static void wait_by_scheduler(struct use *use, unsigned idle)
{
	int sleep_ms = ext_idle_ms(idle);

	if (sleep_ms == 0)
		ext_scheduler_wait(use->scheduler, &use->memory->sink, POLLOUT, UINT64_MAX);
	else
		rb_fiber_scheduler_kernel_sleep(use->scheduler, DBL2NUM(sleep_ms / 1000.0));
}

/* Until all that was committed is delivered. */
static void deliver(struct use *use)
{
	struct memory *memory = use->memory;
	struct ext_end *ends[1] = {&memory->sink};
	uint64_t sent = UINT64_MAX;
	unsigned idle = 0;

	for (;;) {
		const struct fid_receipt *receipt;

		ext_region(ends, 1, send_pending, use);
		if (use->result == FID_DONE)
			return;
		receipt = fid_memory_receipt(memory->memory);
		if (receipt->error < 0)
			fail(use);
		idle = receipt->bytes_out == sent ? idle + 1 : 0;
		sent = receipt->bytes_out;
		if (use->result == -ETIMEDOUT)
			wait_by_scheduler(use, idle);
	}
}

/* Room for bytes at use->room; delivers first what is in its way. */
static void reserve(struct use *use, size_t bytes)
{
	ssize_t got;

	for (;;) {
		got = fid_memory_reserve(use->memory->memory, bytes, &use->room);
		if (got != -EAGAIN)
			break;
		deliver(use);
	}
	if (got < 0) {
		use->result = (int)got;
		fail(use);
	}
	use->room_bytes = (size_t)got;
}

static VALUE no_longer_busy(VALUE argument)
{
	struct use *use = (struct use *)argument;

	use->memory->use.busy = false;
	return Qnil;
}

static VALUE use_memory(VALUE self, struct use *use, VALUE (*body)(VALUE))
{
	use->memory = get_open(self);
	use->scheduler = ext_scheduler();
	use->memory->use.busy = true;
	return rb_ensure(body, (VALUE)use, no_longer_busy, (VALUE)use);
}

/* ---- Strings ---- */

/* One String into memory, and to the sink as often as memory is full. */
static void take_string(struct use *use, VALUE string)
{
	size_t length = (size_t)RSTRING_LEN(string);
	size_t at = 0;

	while (at < length) {
		size_t left = length - at;
		size_t part = left < FID_MEMORY_RESERVE_MAX ? left : FID_MEMORY_RESERVE_MAX;

		reserve(use, part);
		memcpy(use->room, RSTRING_PTR(string) + at, part);
		fid_memory_commit(use->memory->memory, part);
		at += part;
	}
}

static VALUE write_strings(VALUE argument)
{
	struct use *use = (struct use *)argument;
	uint64_t bytes = 0;

	ext_sink_settle(&use->memory->sink);
	for (long i = 0; i < RARRAY_LEN(use->strings); i++) {
		VALUE string = rb_ary_entry(use->strings, i);

		take_string(use, string);
		bytes += (uint64_t)RSTRING_LEN(string);
	}
	deliver(use);
	return ULL2NUM(bytes);
}

/* Snapshots, since other threads run while the first ones are delivered. */
static VALUE frozen_strings(int argc, const VALUE *argv)
{
	VALUE strings = rb_ary_new_capa(argc);

	for (int i = 0; i < argc; i++)
		rb_ary_push(strings, rb_str_new_frozen(rb_obj_as_string(argv[i])));
	return strings;
}

static VALUE memory_write(int argc, VALUE *argv, VALUE self)
{
	struct use use = {.strings = frozen_strings(argc, argv)};
	VALUE bytes = use_memory(self, &use, write_strings);

	RB_GC_GUARD(use.strings);
	return bytes;
}

static VALUE memory_append(VALUE self, VALUE string)
{
	memory_write(1, &string, self);
	return self;
}

static VALUE flush_pending(VALUE argument)
{
	deliver((struct use *)argument);
	return Qnil;
}

static VALUE memory_flush(VALUE self)
{
	struct use use = {0};

	use_memory(self, &use, flush_pending);
	return self;
}

/* ---- Filling memory directly ---- */

#ifdef HAVE_RB_IO_BUFFER_NEW

static VALUE yield_buffer(VALUE argument)
{
	struct use *use = (struct use *)argument;
	VALUE filled = rb_yield(use->buffer);
	size_t bytes = NUM2SIZET(filled);

	if (bytes > use->room_bytes)
		rb_raise(rb_eArgError, "the buffer has room for %zu bytes, not %zu",
			 use->room_bytes, bytes);
	use->bytes = bytes;
	return Qnil;
}

/* Whether the buffer is what was yielded, and not transferred to another one. */
static bool is_whole(const struct use *use)
{
	void *base;
	size_t bytes;

	rb_io_buffer_get_bytes(use->buffer, &base, &bytes);
	return base == use->room && bytes == use->room_bytes;
}

static VALUE free_buffer(VALUE buffer)
{
	return rb_io_buffer_free(buffer);
}

/*
 * Nobody may reach the memory through the buffer any more, which a slice of it notices as well.
 * Where that cannot be had (it is locked by somebody who is still at work, or was transferred)
 * the memory can never be used again, and is left behind.
 */
static VALUE take_back(VALUE argument)
{
	struct use *use = (struct use *)argument;
	int state = 0;
	bool whole = is_whole(use);

	if (whole)
		rb_protect(free_buffer, use->buffer, &state);
	if (whole && state == 0)
		return Qnil;
	use->memory->memory = NULL;
	if (state != 0)
		rb_jump_tag(state);
	rb_raise(rb_eIOError, "the buffer was freed or transferred; it belongs to the memory, "
			      "which is closed now");
}

static VALUE fill_memory(VALUE argument)
{
	struct use *use = (struct use *)argument;

	ext_sink_settle(&use->memory->sink);
	reserve(use, use->bytes);
	use->buffer = rb_io_buffer_new(use->room, use->room_bytes, RB_IO_BUFFER_EXTERNAL);
	rb_ensure(yield_buffer, argument, take_back, argument);
	fid_memory_commit(use->memory->memory, use->bytes);
	deliver(use);
	return SIZET2NUM(use->bytes);
}

/* fill(bytes) { |buffer| n } */
static VALUE memory_fill(VALUE self, VALUE wanted)
{
	struct use use = {.buffer = Qnil};
	bool given;
	uint64_t bytes = ext_bytes(wanted, "bytes", &given);
	VALUE filled;

	rb_need_block();
	if (!given || bytes > FID_MEMORY_RESERVE_MAX)
		rb_raise(rb_eArgError, "bytes must be from 0 to %zu, not %" PRIsVALUE,
			 FID_MEMORY_RESERVE_MAX, rb_inspect(wanted));
	use.bytes = (size_t)bytes;
	filled = use_memory(self, &use, fill_memory);
	RB_GC_GUARD(use.buffer);
	return filled;
}

#else

static VALUE memory_fill(VALUE self, VALUE wanted)
{
	rb_raise(rb_eNotImpError, "this Ruby has no IO::Buffer for memory that is not its own");
}

#endif

/* ---- Its end ---- */

/*
 * @return [Receipt] bytes_in were taken, bytes_out of them were delivered
 * @raise [IOError] the memory is closed
 * @raise [ThreadError] another thread or fiber uses it
 */
static VALUE memory_receipt(VALUE self)
{
	return account(get_open(self));
}

static VALUE memory_salvage(VALUE self)
{
	return salvage(get_open(self));
}

static VALUE memory_close(VALUE self)
{
	struct memory *memory = get(self);

	if (!memory->memory)
		return Qnil;
	if (ext_use_is_here(&memory->use))
		memory = get_open(self);
	/* In a child it may be torn: see memory_free(). */
	if (!memory->use.busy)
		fid_memory_free(memory->memory);
	memory->memory = NULL;
	return Qnil;
}

static VALUE memory_is_closed(VALUE self)
{
	return get(self)->memory ? Qfalse : Qtrue;
}

/* ---- Constants ---- */

/*
 * Ractors share a constant, so that it may be closed while others copy from it: users counts
 * those, and CLOSED keeps new ones out, also before it is made. Whoever makes the count CLOSED
 * alone frees it.
 */
enum { CLOSED = 1 << 30 };

struct constant {
	struct fid_memory *memory;
	uint64_t bytes;
	atomic_int users;
};

static void constant_free(void *argument)
{
	struct constant *constant = argument;

	fid_memory_free(constant->memory);
	xfree(constant);
}

static size_t constant_memsize(const void *argument)
{
	const struct constant *constant = argument;

	return sizeof(*constant) + (constant->memory ? (size_t)constant->bytes : 0);
}

static const rb_data_type_t constant_type = {
	.wrap_struct_name = "Fid::Memory::Constant",
	.function = {.dfree = constant_free, .dsize = constant_memsize},
	.flags = RUBY_TYPED_FREE_IMMEDIATELY | RUBY_TYPED_FROZEN_SHAREABLE,
};

static VALUE constant_alloc(VALUE class)
{
	struct constant *constant;
	VALUE self = TypedData_Make_Struct(class, struct constant, &constant_type, constant);

	atomic_init(&constant->users, CLOSED);
	return self;
}

static struct constant *get_constant(VALUE self)
{
	return rb_check_typeddata(self, &constant_type);
}

/* The next part of a String. Returns how much, or -errno. */
static ssize_t fill_constant(struct fid_memory *memory, const char *from, size_t left)
{
	size_t part = left < FID_MEMORY_RESERVE_MAX ? left : FID_MEMORY_RESERVE_MAX;
	void *room;
	ssize_t got = fid_memory_reserve(memory, part, &room);

	if (got < 0)
		return got;
	memcpy(room, from, part);
	got = fid_memory_commit(memory, part);
	return got < 0 ? got : (ssize_t)part;
}

/* Nothing here calls Ruby, so that the Strings stay what they are. Returns 0 or -errno. */
static int make_constant(struct constant *constant, VALUE strings)
{
	struct fid_memory_options options = {
		.size = sizeof(options),
		.mode = FID_MEMORY_CONST,
	};
	ssize_t got;

	for (long i = 0; i < RARRAY_LEN(strings); i++)
		constant->bytes += (uint64_t)RSTRING_LEN(RARRAY_AREF(strings, i));
	/* Of 0 it makes the default, and the seal cuts that to what was filled. */
	options.bytes_max = constant->bytes;
	got = fid_memory_new(&constant->memory, -1, &options);
	for (long i = 0; i < RARRAY_LEN(strings) && got >= 0; i++) {
		VALUE string = RARRAY_AREF(strings, i);
		size_t length = (size_t)RSTRING_LEN(string);

		for (size_t at = 0; at < length && got >= 0; at += (size_t)got) {
			got = fill_constant(constant->memory, RSTRING_PTR(string) + at,
					    length - at);
			if (got < 0)
				break;
		}
	}
	if (got >= 0)
		got = fid_memory_seal(constant->memory);
	return (int)got;
}

static VALUE constant_initialize(int argc, VALUE *argv, VALUE self)
{
	struct constant *constant = get_constant(self);
	VALUE strings = frozen_strings(argc, argv);
	int got;

	if (constant->memory || OBJ_FROZEN(self))
		rb_raise(rb_eRuntimeError, "the constant has been made already");
	got = make_constant(constant, strings);
	RB_GC_GUARD(strings);
	if (got < 0) {
		constant->memory = fid_memory_free(constant->memory);
		constant->bytes = 0;
		rb_exc_raise(ext_failure(got, FID_SIDE_FID, "memfd", Qnil));
	}
	rb_obj_freeze(self);
	atomic_store(&constant->users, 0);
	return self;
}

static VALUE constant_bytes(VALUE self)
{
	return ULL2NUM(get_constant(self)->bytes);
}

static VALUE constant_is_closed(VALUE self)
{
	return atomic_load(&get_constant(self)->users) & CLOSED ? Qtrue : Qfalse;
}

static VALUE constant_close(VALUE self)
{
	struct constant *constant = get_constant(self);

	if (atomic_fetch_or(&constant->users, CLOSED) == 0)
		constant->memory = fid_memory_free(constant->memory);
	return Qnil;
}

static VALUE yield_descriptor(VALUE self)
{
	return rb_yield(INT2NUM(fid_memory_descriptor(get_constant(self)->memory)));
}

static VALUE no_longer_used(VALUE self)
{
	struct constant *constant = get_constant(self);

	if (atomic_fetch_sub(&constant->users, 1) == CLOSED + 1)
		constant->memory = fid_memory_free(constant->memory);
	return Qnil;
}

/* use { |descriptor| } : it is not closed meanwhile. */
static VALUE constant_use(VALUE self)
{
	struct constant *constant = get_constant(self);
	int users = atomic_load(&constant->users);

	do {
		if (users & CLOSED)
			rb_raise(rb_eIOError, "closed constant");
	} while (!atomic_compare_exchange_weak(&constant->users, &users, users + 1));
	return rb_ensure(yield_descriptor, self, no_longer_used, self);
}

void ext_init_memory(void)
{
	VALUE cMemory = rb_define_class_under(ext_mFid, "Memory", rb_cObject);
	VALUE cConstant = rb_define_class_under(cMemory, "Constant", rb_cObject);

	rb_define_alloc_func(cMemory, memory_alloc);
	rb_undef_method(cMemory, "initialize_copy");
	rb_define_private_method(cMemory, "setup", memory_setup, 2);
	rb_define_method(cMemory, "write", memory_write, -1);
	rb_define_method(cMemory, "<<", memory_append, 1);
	rb_define_method(cMemory, "fill", memory_fill, 1);
	rb_define_method(cMemory, "flush", memory_flush, 0);
	rb_define_method(cMemory, "receipt", memory_receipt, 0);
	rb_define_method(cMemory, "salvage", memory_salvage, 0);
	rb_define_method(cMemory, "close", memory_close, 0);
	rb_define_method(cMemory, "closed?", memory_is_closed, 0);
	/* The most that #fill can be asked for. */
	rb_define_const(cMemory, "FILL_BYTES_MAX", SIZET2NUM(FID_MEMORY_RESERVE_MAX));

	rb_define_alloc_func(cConstant, constant_alloc);
	rb_undef_method(cConstant, "initialize_copy");
	rb_define_private_method(cConstant, "initialize", constant_initialize, -1);
	rb_define_private_method(cConstant, "use", constant_use, 0);
	rb_define_method(cConstant, "bytes", constant_bytes, 0);
	rb_define_method(cConstant, "close", constant_close, 0);
	rb_define_method(cConstant, "closed?", constant_is_closed, 0);
}
