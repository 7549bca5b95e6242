/* SPDX-License-Identifier: MIT */
/*
 * splice, tee and vmsplice for Ruby: Fid.splice with sleepy_penguin's manners, and the methods
 * that "io/splice" gives to IO.
 */
#include "ext.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <ruby/fiber/scheduler.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	FLAGS_KERNEL = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT,
	/* io_splice's own flag, with its value: go on until all has moved. */
	WAITALL = 0x4000000,
	SEGMENTS_MAX = IOV_MAX,
};

static VALUE sym_eagain;

/* ---- Arguments ---- */

static unsigned one_flag(VALUE flag)
{
	static const struct {
		const char *name;
		unsigned flag;
	} names[] = {
		{"move", SPLICE_F_MOVE}, {"nonblock", SPLICE_F_NONBLOCK},
		{"more", SPLICE_F_MORE}, {"gift", SPLICE_F_GIFT},
		{"waitall", WAITALL},
	};

	if (!RB_SYMBOL_P(flag))
		return NUM2UINT(flag);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (rb_sym2id(flag) == rb_intern(names[i].name))
			return names[i].flag;
	rb_raise(rb_eArgError,
		 "unknown flag %" PRIsVALUE "; there are :move, :nonblock, :more, :gift and "
		 ":waitall",
		 rb_inspect(flag));
}

/* nil, an Integer, a Symbol, or an Array of them. */
static unsigned flags_from(VALUE given, const char *call)
{
	unsigned flags = 0;

	if (NIL_P(given))
		return 0;
	if (RB_TYPE_P(given, T_ARRAY))
		for (long i = 0; i < RARRAY_LEN(given); i++)
			flags |= one_flag(rb_ary_entry(given, i));
	else
		flags = one_flag(given);
	if (flags & ~(unsigned)(FLAGS_KERNEL | WAITALL))
		rb_syserr_fail(EINVAL, call);
	return flags;
}

/* exception: of the keywords, which may be nil. */
static bool raises(VALUE keywords)
{
	ID names[1] = {rb_intern("exception")};
	VALUE values[1];

	if (NIL_P(keywords))
		return true;
	rb_get_kwargs(keywords, names, 0, 1, values);
	return values[0] == Qundef || RTEST(values[0]);
}

/* ---- splice and tee ---- */

/* What a call waits for when it would block. An end without O_NONBLOCK is always waited for. */
enum patience {
	NONE,     /* nothing else: EAGAIN */
	AS_GIVEN, /* pipes, whatever O_NONBLOCK says of them */
	ALWAYS,   /* both ends */
};

struct call {
	const char *name;
	struct ext_end source;
	struct ext_end sink;
	int64_t *source_offset;
	int64_t *sink_offset;
	int64_t offset[2];
	size_t bytes;
	unsigned flags;
	enum patience patience;
	bool tees;
	bool all; /* go on until all bytes have moved */

	bool by_scheduler;
	bool in_pieces; /* the sink would sleep with what it cannot take */
	unsigned idle;
	struct pollfd ends[2]; /* an end that is waited for has events and no revents */
	size_t moved;
	ssize_t result;
	bool waits;
};

static bool is_pipe(int fd)
{
	return fcntl(fd, F_GETPIPE_SZ) >= 0;
}

static bool has_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && (flags & O_NONBLOCK);
}

/*
 * A splice to a blocking socket or terminal sleeps until all is sent, and keeps the pipe's lock
 * meanwhile: whoever touches that pipe hangs, and nothing wakes him. A page fits when poll says
 * that there is room.
 */
static bool sleeps_when_full(int fd)
{
	struct stat found;

	return !has_nonblock(fd) && fstat(fd, &found) == 0 &&
	       (S_ISSOCK(found.st_mode) || (S_ISCHR(found.st_mode) && isatty(fd)));
}

static ssize_t make(struct call *call)
{
	unsigned flags = call->flags | SPLICE_F_NONBLOCK;
	size_t bytes = call->in_pieces && call->bytes > PIPE_BUF ? PIPE_BUF : call->bytes;

	if (call->tees)
		return fid_tee(call->source.fd, call->sink.fd, bytes, flags);
	return fid_splice(call->source.fd, call->source_offset, call->sink.fd,
			  call->sink_offset, bytes, flags);
}

/* Whether the kernel refuses such a call before it looks at what is there. */
static bool is_judged_first(const struct call *call)
{
	return call->tees || call->source_offset || call->sink_offset ||
	       (!is_pipe(call->source.fd) && !is_pipe(call->sink.fd));
}

/* POLLERR alone: a pipe without a reader, or a socket's queue of errors, which is no byte. */
static bool is_ready(const struct pollfd *end)
{
	return end->revents & ~POLLERR || (end->revents && is_pipe(end->fd));
}

/* Whether an end has O_NONBLOCK, and its owner is to be told EAGAIN. */
static bool refuses(int fd)
{
	return !is_pipe(fd) && has_nonblock(fd);
}

/*
 * Makes the call, unless it would sleep. It is also made when an end is not ready and it cannot
 * sleep for that end, since what is refused is refused at once. Returns true when result is the
 * answer, else what is not ready has to be waited for.
 */
static bool attempt(struct call *call)
{
	struct pollfd *ends = call->ends;
	bool would_sleep = false;
	bool may_wait = true;

	ends[0] = (struct pollfd){.fd = call->source.fd, .events = POLLIN};
	ends[1] = (struct pollfd){.fd = call->sink.fd, .events = POLLOUT};
	if (poll(ends, 2, 0) < 0) {
		call->result = -errno;
		return true;
	}
	if (is_ready(&ends[0]) && is_ready(&ends[1])) {
		call->result = make(call);
		if (call->result != -EAGAIN || call->patience == NONE)
			return true;
		/* A slot that is not free, or another reader was quicker. */
		return call->patience == AS_GIVEN &&
		       (refuses(call->source.fd) || refuses(call->sink.fd));
	}
	for (int i = 0; i < 2; i++) {
		bool pipe = is_pipe(ends[i].fd);
		bool blocking = !pipe && !has_nonblock(ends[i].fd);

		if (is_ready(&ends[i]))
			continue;
		would_sleep |= blocking;
		may_wait &= pipe ? call->patience != NONE
				 : blocking || call->patience == ALWAYS;
	}
	call->result = -EAGAIN;
	if (!would_sleep || is_judged_first(call))
		call->result = make(call);
	return call->result != -EAGAIN || !may_wait;
}

/* Waits for what was not ready. Returns 0 or -errno. */
static int await(struct call *call)
{
	struct pollfd *ends = call->ends;
	int got;

	for (int i = 0; i < 2; i++)
		if (ends[i].revents)
			ends[i].fd = -1;
	if (ends[0].fd >= 0 || ends[1].fd >= 0)
		got = poll(ends, 2, -1);
	else
		got = poll(NULL, 0, ext_idle_ms(call->idle++));
	return got < 0 ? -errno : 0;
}

/* Takes note of an attempt that moved bytes; returns whether there is more to be done. */
static bool goes_on(struct call *call)
{
	call->idle = 0;
	call->moved += (size_t)call->result;
	call->bytes -= (size_t)call->result;
	return call->bytes > 0 && (call->all || call->in_pieces);
}

/* In a region. */
static void move(void *argument)
{
	struct call *call = argument;

	do {
		/* What a quick attempt found to wait for is not asked again. */
		if (!call->waits)
			call->waits = !attempt(call);
		if (call->waits) {
			/* What has moved is an answer, too. */
			if ((call->moved > 0 && !call->all) || call->by_scheduler)
				return;
			call->result = await(call);
			call->waits = false;
			if (call->result < 0)
				return;
		} else if (call->result <= 0 || !goes_on(call)) {
			return;
		}
	} while (!ext_interrupted());
	call->result = -EINTR;
}

static void await_by_scheduler(VALUE scheduler, struct call *call)
{
	if (!call->ends[0].revents)
		ext_scheduler_wait(scheduler, &call->source, POLLIN, UINT64_MAX);
	else if (!call->ends[1].revents)
		ext_scheduler_wait(scheduler, &call->sink, POLLOUT, UINT64_MAX);
	else
		rb_fiber_scheduler_kernel_sleep(scheduler, DBL2NUM(0.001));
}

/*
 * Whether an attempt takes no time worth the global lock, which costs more to get back than it
 * takes where other threads compute. It may not sleep either: a socket without O_NONBLOCK
 * could, if another process is quicker. A file may have to be read from a disk; only the main
 * thread among others takes that time with the lock, since it would have to send another one.
 */
static bool is_quick(const struct ext_end *end)
{
	struct stat found;

	if (NIL_P(end->io))
		return false;
	if (RTEST(rb_obj_is_kind_of(end->io, rb_cFile)))
		return ext_is_main_among_others() && fstat(end->fd, &found) == 0 &&
		       S_ISREG(found.st_mode);
	return has_nonblock(end->fd) || is_pipe(end->fd);
}

/* Returns the bytes that moved, 0 at end of file, or -errno. */
static ssize_t perform(struct call *call)
{
	struct ext_end *ends[2] = {&call->source, &call->sink};
	VALUE scheduler = ext_scheduler();
	bool quick = is_quick(&call->source) && is_quick(&call->sink);

	if (call->bytes == 0)
		return 0;
	/* poll would pass them over. */
	if (call->source.fd < 0 || call->sink.fd < 0)
		return -EBADF;
	call->by_scheduler = !NIL_P(scheduler);
	call->in_pieces = !call->tees && call->bytes > PIPE_BUF &&
			  sleeps_when_full(call->sink.fd);
	if (quick) {
		/* Others may have run since they were looked up. */
		ext_end_check(&call->source);
		ext_end_check(&call->sink);
		call->waits = !attempt(call);
	}
	if (quick && !call->waits && call->result != -EINTR &&
	    (call->result <= 0 || !goes_on(call)))
		return call->moved > 0 ? (ssize_t)call->moved : call->result;
	for (;;) {
		if (call->waits && call->by_scheduler) {
			await_by_scheduler(scheduler, call);
			call->waits = false;
		}
		ext_region(ends, 2, move, call);
		if (call->moved > 0 && !call->all)
			break;
		if (!call->waits && call->result != -EINTR)
			break;
	}
	return call->moved > 0 ? (ssize_t)call->moved : call->result;
}

static VALUE answer(const struct call *call, ssize_t result, bool exception)
{
	if (result > 0)
		return SSIZET2NUM(result);
	if (call->moved == 0 && call->bytes == 0)
		return INT2FIX(0);
	if (result == 0) {
		if (!exception)
			return Qnil;
		rb_eof_error();
	}
	if (result == -EAGAIN && !exception)
		return sym_eagain;
	rb_syserr_fail((int)-result, call->name);
}

static size_t length_from(VALUE given)
{
	bool is_given;
	uint64_t length = ext_bytes(given, "length", &is_given);

	if (!is_given)
		rb_raise(rb_eTypeError, "length must be an Integer, not nil");
	return length > SSIZE_MAX ? SSIZE_MAX : (size_t)length;
}

static void set_offset(int64_t **ret_at, int64_t *storage, VALUE given)
{
	if (NIL_P(given))
		return;
	*storage = NUM2LL(given);
	*ret_at = storage;
}

/* What is common to all of them: how it waits, and Ruby's own buffers. */
static void prepare(struct call *call, VALUE flags)
{
	call->flags = flags_from(flags, call->name);
	call->all = (call->flags & WAITALL) && !call->tees;
	call->flags &= ~(unsigned)WAITALL;
	call->patience = call->flags & SPLICE_F_NONBLOCK ? NONE : AS_GIVEN;
	if (!call->source_offset)
		ext_end_refuse_read_ahead(&call->source, call->name);
	ext_source_settle(&call->source, 0);
	ext_sink_settle(&call->sink);
}

static VALUE splice_with(VALUE source, VALUE source_offset, VALUE sink, VALUE sink_offset,
			 VALUE length, VALUE flags, enum patience patience, bool exception)
{
	struct call call = {.name = "splice", .bytes = length_from(length)};

	call.source = ext_end(source);
	call.sink = ext_end_writing(sink);
	set_offset(&call.source_offset, &call.offset[0], source_offset);
	set_offset(&call.sink_offset, &call.offset[1], sink_offset);
	prepare(&call, flags);
	if (patience != AS_GIVEN)
		call.patience = patience;
	return answer(&call, perform(&call), exception);
}

static VALUE tee_with(VALUE source, VALUE sink, VALUE length, VALUE flags,
		      enum patience patience, bool exception)
{
	struct call call = {.name = "tee", .bytes = length_from(length), .tees = true};

	call.source = ext_end(source);
	call.sink = ext_end_writing(sink);
	prepare(&call, flags);
	if (patience != AS_GIVEN)
		call.patience = patience;
	return answer(&call, perform(&call), exception);
}

/* ---- vmsplice ---- */

/*
 * Strings on their way into a pipe: snapshots that nobody can change, marked so that they do
 * not move either. They are written and not vmspliced: a reader could refer to the pages of a
 * String for as long as it likes, and Ruby reuses them.
 */
struct strings {
	VALUE *string;
	struct iovec *segment;
	size_t count;
};

static void strings_mark(void *argument)
{
	struct strings *strings = argument;

	for (size_t i = 0; i < strings->count; i++)
		rb_gc_mark(strings->string[i]);
}

static void strings_free(void *argument)
{
	struct strings *strings = argument;

	xfree(strings->string);
	xfree(strings->segment);
	xfree(strings);
}

static const rb_data_type_t strings_type = {
	.wrap_struct_name = "Fid strings",
	.function = {.dmark = strings_mark, .dfree = strings_free},
	.flags = RUBY_TYPED_FREE_IMMEDIATELY,
};

static VALUE strings_new(VALUE given, struct strings **ret_strings)
{
	struct strings *strings;
	VALUE self = TypedData_Make_Struct(0, struct strings, &strings_type, strings);
	VALUE list = rb_check_array_type(given);
	size_t count;

	if (NIL_P(list))
		list = rb_ary_new_from_args(1, given);
	count = (size_t)RARRAY_LEN(list);
	strings->string = ALLOC_N(VALUE, count + 1);
	strings->segment = ALLOC_N(struct iovec, count + 1);
	for (size_t i = 0; i < count; i++) {
		VALUE string = rb_ary_entry(list, (long)i);

		StringValue(string);
		/* In the list before anything else is allocated. */
		strings->string[i] = rb_str_new_frozen(string);
		strings->count = i + 1;
	}
	for (size_t i = 0; i < count; i++) {
		strings->segment[i].iov_base = RSTRING_PTR(strings->string[i]);
		strings->segment[i].iov_len = (size_t)RSTRING_LEN(strings->string[i]);
	}
	*ret_strings = strings;
	return self;
}

struct write {
	struct ext_end pipe;
	struct strings *strings;
	size_t at; /* the first segment that is not written */
	enum patience patience;
	bool nonblock; /* the descriptor has O_NONBLOCK */
	bool by_scheduler;
	bool awaited;
	size_t moved;
	ssize_t result;
};

static void skip_written(struct write *write, size_t bytes)
{
	struct iovec *segment = write->strings->segment;

	write->moved += bytes;
	while (write->at < write->strings->count && bytes >= segment[write->at].iov_len)
		bytes -= segment[write->at++].iov_len;
	if (bytes > 0) {
		segment[write->at].iov_base = (char *)segment[write->at].iov_base + bytes;
		segment[write->at].iov_len -= bytes;
	}
}

/* Whether the pipe has room for PIPE_BUF bytes; negative: an error. */
static int has_room(const struct write *write, int timeout_ms)
{
	struct pollfd pipe = {.fd = write->pipe.fd, .events = POLLOUT};
	int got = poll(&pipe, 1, timeout_ms);

	return got < 0 ? -errno : got;
}

static ssize_t write_some(struct write *write)
{
	struct iovec *segment = write->strings->segment + write->at;
	size_t count = write->strings->count - write->at;
	ssize_t got;

	if ((write->patience == NONE || write->by_scheduler) && !write->nonblock) {
		/* A page fits where there is room at all, and a write of it does not sleep. */
		int room = has_room(write, 0);

		if (room <= 0)
			return room < 0 ? room : -EAGAIN;
		got = pwritev2(write->pipe.fd,
			       &(struct iovec){.iov_base = segment->iov_base,
					       .iov_len = segment->iov_len < PIPE_BUF
								  ? segment->iov_len
								  : PIPE_BUF},
			       1, -1, 0);
	} else {
		got = writev(write->pipe.fd, segment,
			     (int)(count < SEGMENTS_MAX ? count : SEGMENTS_MAX));
	}
	return got < 0 ? -errno : got;
}

/* In a region. */
static void write_all(void *argument)
{
	struct write *write = argument;

	write->awaited = false;
	write->result = 0;
	for (;;) {
		skip_written(write, 0);
		if (write->at == write->strings->count)
			return;
		write->result = write_some(write);
		if (write->result >= 0) {
			skip_written(write, (size_t)write->result);
			if (!ext_interrupted())
				continue;
			write->result = -EINTR;
			return;
		}
		if (write->result != -EAGAIN || write->patience == NONE)
			return;
		if (write->by_scheduler) {
			write->awaited = true;
			return;
		}
		write->result = has_room(write, -1);
		if (write->result < 0)
			return;
	}
}

static VALUE vmsplice_with(VALUE pipe, VALUE given, VALUE flags, enum patience patience,
			   bool exception)
{
	struct write write = {.pipe = ext_end_writing(pipe), .patience = patience};
	struct ext_end *ends[1] = {&write.pipe};
	VALUE scheduler;
	VALUE strings = strings_new(given, &write.strings);

	if (flags_from(flags, "vmsplice") & SPLICE_F_NONBLOCK)
		write.patience = NONE;
	ext_sink_settle(&write.pipe);
	if (fcntl(write.pipe.fd, F_GETPIPE_SZ) < 0)
		rb_syserr_fail(EBADF, "vmsplice");
	write.nonblock = has_nonblock(write.pipe.fd);
	scheduler = write.patience == NONE ? Qnil : ext_scheduler();
	write.by_scheduler = !NIL_P(scheduler);
	do {
		ext_region(ends, 1, write_all, &write);
		if (write.awaited)
			ext_scheduler_wait(scheduler, &write.pipe, POLLOUT, UINT64_MAX);
	} while (write.awaited || write.result == -EINTR);
	RB_GC_GUARD(strings);
	if (write.moved == 0 && write.result == -EAGAIN && !exception)
		return sym_eagain;
	if (write.moved == 0 && write.result < 0)
		rb_syserr_fail((int)-write.result, "vmsplice");
	if (write.result < 0 && write.result != -EAGAIN)
		rb_syserr_fail_str((int)-write.result,
				   rb_sprintf("vmsplice, after %zu bytes", write.moved));
	return SIZET2NUM(write.moved);
}

/* ---- Fid.splice and its sisters ---- */

/*
 * splice(2): moves at most length bytes; one end is a pipe. Where the kernel refuses the call
 * another one does its work.
 *
 * Without :nonblock it waits for the end that is a pipe, whatever O_NONBLOCK says of it, and
 * for the other one unless that has O_NONBLOCK. It waits without Ruby's global lock or by the
 * Fiber scheduler; a signal, Thread#raise, Thread#kill, Timeout and the closing of an IO by
 * another thread end it. Any number of threads may call it.
 *
 * What Ruby has to write to the sink is flushed first. A source from which Ruby has read ahead
 * is an IOError unless there is an offset.
 *
 * @overload splice(source, sink, length, flags = 0, off_in: nil, off_out: nil, exception: true)
 *   @param source [IO, #to_io, Integer]
 *   @param sink [IO, #to_io, Integer]
 *   @param length [Integer] bytes at most
 *   @param flags [Integer, Symbol, Array<Symbol>] :move, :nonblock, :more, :gift, :waitall
 *   @param off_in [Integer, nil] where to begin in a file; its own offset stays
 *   @param off_out [Integer, nil] likewise
 *   @param exception [Boolean] false: nil at the end of the file, :EAGAIN for would block
 *   @return [Integer, nil, :EAGAIN] bytes
 *   @raise [EOFError] the end of the file
 *   @raise [Errno::EAGAIN] it would block
 *   @raise [Errno::EINVAL] no pipe, twice the same one, a kind that does not splice, O_APPEND
 *   @raise [IOError] an IO is closed, or Ruby has read ahead
 */
static VALUE fid_rb_splice(int argc, VALUE *argv, VALUE self)
{
	ID names[3] = {rb_intern("off_in"), rb_intern("off_out"), rb_intern("exception")};
	VALUE values[3] = {Qundef, Qundef, Qundef};
	VALUE source, sink, length, flags, keywords;

	rb_scan_args(argc, argv, "31:", &source, &sink, &length, &flags, &keywords);
	if (!NIL_P(keywords))
		rb_get_kwargs(keywords, names, 0, 3, values);
	return splice_with(source, values[0] == Qundef ? Qnil : values[0], sink,
			   values[1] == Qundef ? Qnil : values[1], length, flags, AS_GIVEN,
			   values[2] == Qundef || RTEST(values[2]));
}

/*
 * tee(2): gives at most length bytes of one pipe to another, and takes none away. It waits,
 * and treats Ruby's buffers, as Fid.splice does.
 *
 * @overload tee(source, sink, length, flags = 0, exception: true)
 *   @param source [IO, #to_io, Integer] a pipe
 *   @param sink [IO, #to_io, Integer] another pipe
 *   @param length [Integer] bytes at most
 *   @param flags [Integer, Symbol, Array<Symbol>] :nonblock; :waitall is taken and means
 *     nothing
 *   @param exception [Boolean] false: nil at the end of the file, :EAGAIN for would block
 *   @return [Integer, nil, :EAGAIN] bytes
 *   @raise [EOFError] the end of the file
 *   @raise [Errno::EAGAIN] it would block
 *   @raise [Errno::EINVAL] not two different pipes
 *   @raise [IOError] an IO is closed, or Ruby has read ahead
 */
static VALUE fid_rb_tee(int argc, VALUE *argv, VALUE self)
{
	VALUE source, sink, length, flags, keywords;

	rb_scan_args(argc, argv, "31:", &source, &sink, &length, &flags, &keywords);
	return tee_with(source, sink, length, flags, AS_GIVEN, raises(keywords));
}

/*
 * Puts Strings into a pipe, one after the other, all of them unless :nonblock is given. They
 * are copied, always: Ruby may reuse their memory while a reader still refers to it. So they
 * may be changed as soon as it returns. What Ruby has to write to the pipe is flushed first.
 *
 * @overload vmsplice(pipe, strings, flags = 0, exception: true)
 *   @param pipe [IO, #to_io, Integer] the end that is written to
 *   @param strings [String, Array<String>]
 *   @param flags [Integer, Symbol, Array<Symbol>] :nonblock; :gift is taken and means nothing
 *   @param exception [Boolean] false: :EAGAIN for would block
 *   @return [Integer, :EAGAIN] bytes; with :nonblock there may be fewer
 *   @raise [Errno::EAGAIN] it would block
 *   @raise [Errno::EBADF] no pipe
 *   @raise [Errno::EPIPE] nobody reads
 *   @raise [IOError] the IO is closed
 */
static VALUE fid_rb_vmsplice(int argc, VALUE *argv, VALUE self)
{
	VALUE pipe, strings, flags, keywords;

	rb_scan_args(argc, argv, "21:", &pipe, &strings, &flags, &keywords);
	return vmsplice_with(pipe, strings, flags, AS_GIVEN, raises(keywords));
}

/* ---- What "io/splice" gives to IO ---- */

/*
 * Document-module: Fid::IOCalls
 * The calls as io_splice has them: IO.splice and its sisters.
 */

/*
 * Document-module: Fid::PipeSize
 * The capacity of a pipe, for every IO.
 */

/* Once in a process, whatever Ractor it is. */
static VALUE warn_of_deprecated(VALUE self)
{
	static atomic_flag warned = ATOMIC_FLAG_INIT;

	if (!NIL_P(ruby_verbose) && !atomic_flag_test_and_set(&warned))
		rb_warn("IO::Splice.copy_stream, IO::Splice.full and IO::Splice::WAITALL are "
			"deprecated since io_splice 4.3; Fid.copy does their work");
	return Qnil;
}

/*
 * Fid.splice with the arguments of io_splice.
 *
 * @overload splice(source, off_in, sink, off_out, length, flags = 0, exception: true)
 *   @param off_in [Integer, nil] where to begin in a file; its own offset stays
 *   @param off_out [Integer, nil] likewise
 *   @param flags [Integer, Symbol, Array<Symbol>] IO::Splice::F_MORE and so on, or their names
 *   @return [Integer, nil, :EAGAIN] bytes; nil and :EAGAIN with exception: false only
 *   @raise [EOFError] the end of the file
 *   @raise [Errno::EAGAIN] it would block: F_NONBLOCK, or an end with O_NONBLOCK that is no
 *     pipe
 */
static VALUE io_splice(int argc, VALUE *argv, VALUE self)
{
	VALUE source, source_offset, sink, sink_offset, length, flags, keywords;

	rb_scan_args(argc, argv, "51:", &source, &source_offset, &sink, &sink_offset, &length,
		     &flags, &keywords);
	if (flags_from(flags, "splice") & WAITALL)
		warn_of_deprecated(self);
	return splice_with(source, source_offset, sink, sink_offset, length, flags, AS_GIVEN,
			   raises(keywords));
}

/*
 * IO.splice with F_NONBLOCK, and without exceptions for what is none.
 *
 * @overload trysplice(source, off_in, sink, off_out, length, flags = 0)
 *   @return [Integer, nil, :EAGAIN] bytes; nil: the end of the file
 */
static VALUE io_trysplice(int argc, VALUE *argv, VALUE self)
{
	VALUE source, source_offset, sink, sink_offset, length, flags;

	rb_scan_args(argc, argv, "51", &source, &source_offset, &sink, &sink_offset, &length,
		     &flags);
	return splice_with(source, source_offset, sink, sink_offset, length, flags, NONE,
			   false);
}

/*
 * IO.tee with F_NONBLOCK, and without exceptions for what is none.
 *
 * @overload trytee(source, sink, length, flags = 0)
 *   @return [Integer, nil, :EAGAIN] bytes; nil: the end of the file
 */
static VALUE io_trytee(int argc, VALUE *argv, VALUE self)
{
	VALUE source, sink, length, flags;

	rb_scan_args(argc, argv, "31", &source, &sink, &length, &flags);
	return tee_with(source, sink, length, flags, NONE, false);
}

/* Waits for both ends, whatever O_NONBLOCK says: nil at end of file. */
static VALUE splice_partial(VALUE self, VALUE source, VALUE sink, VALUE length, VALUE offset)
{
	return splice_with(source, offset, sink, Qnil, length, INT2FIX(0), ALWAYS, false);
}

/* The same until all has moved or the source has ended. */
static VALUE splice_all(VALUE self, VALUE source, VALUE sink, VALUE length, VALUE offset)
{
	return splice_with(source, offset, sink, Qnil, length, UINT2NUM(WAITALL), ALWAYS,
			   false);
}

/*
 * @return [Integer] the capacity of this pipe, in bytes
 * @raise [Errno::EBADF] no pipe
 */
static VALUE pipe_size(VALUE self)
{
	int size = fcntl(rb_io_descriptor(self), F_GETPIPE_SZ);

	if (size < 0)
		rb_sys_fail("fcntl(F_GETPIPE_SZ)");
	return INT2NUM(size);
}

/*
 * Changes the capacity of this pipe; the kernel rounds up to a power of two.
 *
 * @param size [Integer] bytes
 * @raise [Errno::EBUSY] more is in it than that
 * @raise [Errno::EPERM] above what this user may have
 */
static VALUE set_pipe_size(VALUE self, VALUE size)
{
	int fd = rb_io_descriptor(self);

	if (fcntl(fd, F_SETPIPE_SZ, NUM2INT(size)) < 0)
		rb_sys_fail("fcntl(F_SETPIPE_SZ)");
	return size;
}

void ext_init_calls(void)
{
	VALUE mIOCalls = rb_define_module_under(ext_mFid, "IOCalls");
	VALUE mPipeSize = rb_define_module_under(ext_mFid, "PipeSize");

	sym_eagain = ID2SYM(rb_intern("EAGAIN"));
	/* A hint to the kernel; it does nothing since Linux 2.6.21. */
	rb_define_const(ext_mFid, "F_MOVE", UINT2NUM(SPLICE_F_MOVE));
	/* Do not wait for a pipe. The end that is no pipe has its own O_NONBLOCK. */
	rb_define_const(ext_mFid, "F_NONBLOCK", UINT2NUM(SPLICE_F_NONBLOCK));
	/* More will follow, so that a socket may wait with a partial frame. */
	rb_define_const(ext_mFid, "F_MORE", UINT2NUM(SPLICE_F_MORE));
	/* Taken by vmsplice; means nothing here, since Strings are copied. */
	rb_define_const(ext_mFid, "F_GIFT", UINT2NUM(SPLICE_F_GIFT));
	/* Of this library and not of the kernel. Go on until all has moved. */
	rb_define_const(ext_mFid, "WAITALL", UINT2NUM(WAITALL));
	/* The command of fcntl(2) that IO#pipe_size uses. */
	rb_define_const(ext_mFid, "F_GETPIPE_SZ", INT2NUM(F_GETPIPE_SZ));
	/* The command of fcntl(2) that IO#pipe_size= uses. */
	rb_define_const(ext_mFid, "F_SETPIPE_SZ", INT2NUM(F_SETPIPE_SZ));
	/* The most that a write to a pipe does in one piece. */
	rb_define_const(ext_mFid, "PIPE_BUF", INT2NUM(PIPE_BUF));

	rb_define_singleton_method(ext_mFid, "splice", fid_rb_splice, -1);
	rb_define_singleton_method(ext_mFid, "tee", fid_rb_tee, -1);
	rb_define_singleton_method(ext_mFid, "vmsplice", fid_rb_vmsplice, -1);

	rb_define_method(mIOCalls, "splice", io_splice, -1);
	rb_define_method(mIOCalls, "trysplice", io_trysplice, -1);
	rb_define_method(mIOCalls, "tee", fid_rb_tee, -1);
	rb_define_method(mIOCalls, "trytee", io_trytee, -1);
	rb_define_method(mIOCalls, "vmsplice", fid_rb_vmsplice, -1);
	rb_define_singleton_method(mIOCalls, "warn_of_deprecated", warn_of_deprecated, 0);
	rb_define_singleton_method(mIOCalls, "partial", splice_partial, 4);
	rb_define_singleton_method(mIOCalls, "all", splice_all, 4);
	rb_define_method(mPipeSize, "pipe_size", pipe_size, 0);
	rb_define_method(mPipeSize, "pipe_size=", set_pipe_size, 1);
}
