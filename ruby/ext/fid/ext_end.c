/* SPDX-License-Identifier: MIT */
/* Ends: from a Ruby object to a descriptor, and what Ruby's own buffers hold of it. */
#include "ext.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Ruby makes a String of as many bytes as it is asked for. */
enum { READ_AHEAD_MAX = 64 << 10 };

/* What an error message calls the thing. */
static VALUE class_name(VALUE given)
{
	return rb_class_name(rb_obj_class(given));
}

/* An IO from anything but a number. Raises TypeError. */
static VALUE to_io(VALUE given)
{
	if (RB_TYPE_P(given, T_FILE))
		return given;
	return rb_convert_type(given, T_FILE, "IO", "to_io");
}

static struct ext_end from_io(VALUE io)
{
	struct ext_end end = EXT_END_NONE;

	end.io = io;
	end.fd = rb_io_descriptor(io); /* IOError when it is closed */
	return end;
}

static struct ext_end from_number(VALUE number)
{
	struct ext_end end = EXT_END_NONE;

	end.fd = NUM2INT(number);
	return end;
}

struct ext_end ext_end(VALUE given)
{
	return RB_INTEGER_TYPE_P(given) ? from_number(given) : from_io(to_io(given));
}

struct ext_end ext_end_writing(VALUE given)
{
	if (RB_INTEGER_TYPE_P(given))
		return from_number(given);
	/* A process opened with "r+" has two pipes, and an IO of its own for the second. */
	return from_io(rb_io_get_write_io(to_io(given)));
}

/* The class of this name, or nil where nobody has loaded it. */
static VALUE loaded_class(const char *outer, const char *inner, const char *innermost)
{
	VALUE at = rb_cObject;
	const char *names[3] = {outer, inner, innermost};

	for (int i = 0; i < 3 && names[i]; i++) {
		ID name = rb_intern(names[i]);

		/* What is only autoloaded has no objects yet. */
		if (!rb_const_defined_at(at, name))
			return Qnil;
		if (RTEST(rb_funcall(at, rb_intern("autoload?"), 1, ID2SYM(name))))
			return Qnil;
		at = rb_const_get_at(at, name);
	}
	return at;
}

static bool is_a(VALUE given, VALUE class)
{
	return !NIL_P(class) && RTEST(rb_obj_is_kind_of(given, class));
}

/*
 * An IO to take bytes from or to give bytes to. Some objects have a descriptor that carries
 * other bytes than they do: plain text would go past the encryption.
 */
static VALUE to_plain_io(VALUE given)
{
	if (RB_TYPE_P(given, T_FILE))
		return given;
	if (is_a(given, loaded_class("OpenSSL", "SSL", "SSLSocket")) ||
	    is_a(given, loaded_class("Zlib", "GzipFile", NULL)))
		rb_raise(rb_eTypeError,
			 "%" PRIsVALUE " changes the bytes on their way to its descriptor, "
			 "which fid would not; pass its to_io if that descriptor is meant",
			 class_name(given));
	return to_io(given);
}

struct ext_end ext_source(VALUE given)
{
	rb_io_t *fptr;
	VALUE io;

	if (RB_INTEGER_TYPE_P(given))
		return from_number(given);
	io = to_plain_io(given);
	RB_IO_POINTER(io, fptr);
	/* Raises as well for an IO that has decoded characters, which no descriptor can give.
	 */
	rb_io_check_byte_readable(fptr);
	return from_io(io);
}

struct ext_end ext_sink(VALUE given)
{
	rb_io_t *fptr;
	VALUE io;

	if (RB_INTEGER_TYPE_P(given))
		return from_number(given);
	io = rb_io_get_write_io(to_plain_io(given));
	RB_IO_POINTER(io, fptr);
	rb_io_check_writable(fptr);
	return from_io(io);
}

void ext_end_check(const struct ext_end *end)
{
	if (NIL_P(end->io))
		return;
	if (rb_io_descriptor(end->io) != end->fd)
		rb_raise(rb_eIOError, "the IO was given another descriptor meanwhile");
}

void ext_end_mark(const struct ext_end *end)
{
	rb_gc_mark(end->io);
	rb_gc_mark(end->waiter);
}

bool ext_end_has_read_ahead(const struct ext_end *end)
{
	rb_io_t *fptr;

	if (NIL_P(end->io))
		return false;
	RB_IO_POINTER(end->io, fptr);
	return rb_io_read_pending(fptr);
}

void ext_end_refuse_read_ahead(const struct ext_end *end, const char *call)
{
	if (ext_end_has_read_ahead(end))
		rb_raise(rb_eIOError,
			 "%s for buffered %" PRIsVALUE ": Ruby has read ahead from the source "
			 "(gets, read, ...); read that first, or give an offset",
			 call, class_name(end->io));
}

/* ---- Giving back ---- */

#ifdef HAVE_RB_IO_T_RBUF

static const rb_data_type_t buffer_type = {
	.wrap_struct_name = "Fid buffer",
	.function = {.dfree = RUBY_DEFAULT_FREE},
	.flags = RUBY_TYPED_FREE_IMMEDIATELY,
};

/*
 * Room for so many bytes more. Another thread may just have the kernel read into the old
 * buffer, wrong as that is, so that this lives as long as the IO.
 */
static void grow_buffer(VALUE io, long bytes)
{
	VALUE old = TypedData_Wrap_Struct(0, &buffer_type, NULL);
	VALUE kept = rb_attr_get(io, rb_intern("__fid_buffers__"));
	rb_io_t *fptr;
	char *grown;
	int capacity;

	if (NIL_P(kept)) {
		kept = rb_ary_new();
		rb_ivar_set(io, rb_intern("__fid_buffers__"), kept);
	}
	rb_ary_push(kept, old);
	RB_IO_POINTER(io, fptr);
	if (bytes > INT_MAX - fptr->rbuf.len)
		rb_raise(rb_eIOError, "%ld bytes are too many to be given back", bytes);
	capacity = fptr->rbuf.len + (int)bytes;
	grown = ALLOC_N(char, capacity);
	memcpy(grown, fptr->rbuf.ptr + fptr->rbuf.off, (size_t)fptr->rbuf.len);
	RTYPEDDATA_DATA(old) = fptr->rbuf.ptr;
	fptr->rbuf.ptr = grown;
	fptr->rbuf.capa = capacity;
	fptr->rbuf.off = 0;
}

#endif

void ext_source_give_back(VALUE io, VALUE bytes)
{
#ifdef HAVE_RB_IO_T_RBUF
	rb_io_t *fptr;

	RB_IO_POINTER(io, fptr);
	rb_io_check_byte_readable(fptr);
	/* ungetbyte makes a buffer of any size, but does not grow one (io.c, Ruby 3.1). */
	if (fptr->rbuf.ptr && fptr->rbuf.capa - fptr->rbuf.len < RSTRING_LEN(bytes))
		grow_buffer(io, RSTRING_LEN(bytes));
#endif
	rb_funcall(io, rb_intern("ungetbyte"), 1, bytes);
}

static bool can_seek(const struct ext_end *end)
{
	return lseek(end->fd, 0, SEEK_CUR) >= 0;
}

/* What was read ahead, at most bytes_max: out of Ruby's buffer. */
static VALUE take_read_ahead(const struct ext_end *source, uint64_t bytes_max)
{
	VALUE taken = rb_str_buf_new(0);

	while ((uint64_t)RSTRING_LEN(taken) < bytes_max && ext_end_has_read_ahead(source)) {
		uint64_t wanted = bytes_max - (uint64_t)RSTRING_LEN(taken);

		/* Never waits, since there is something; returns at most what was read ahead.
		 */
		if (wanted > READ_AHEAD_MAX)
			wanted = READ_AHEAD_MAX;
		rb_str_append(taken, rb_funcall(source->io, rb_intern("readpartial"), 1,
						ULL2NUM(wanted)));
	}
	return taken;
}

/* Whether these bytes are what the file has before its offset, and not pushed back ones. */
static bool is_from_the_file(const struct ext_end *source, VALUE bytes)
{
	long length = RSTRING_LEN(bytes);
	off_t at = lseek(source->fd, 0, SEEK_CUR) - length;
	VALUE found = rb_str_buf_new(length);

	return at >= 0 && pread(source->fd, RSTRING_PTR(found), (size_t)length, at) == length &&
	       memcmp(RSTRING_PTR(found), RSTRING_PTR(bytes), (size_t)length) == 0;
}

VALUE ext_source_settle(const struct ext_end *source, uint64_t bytes_max)
{
	VALUE taken;

	if (NIL_P(source->io))
		return Qnil;
	if (!ext_end_has_read_ahead(source)) {
		/* What a program wrote to the file that it reads from. */
		rb_io_flush(source->io);
		return Qnil;
	}
	if (bytes_max == 0)
		return Qnil;
	if (!can_seek(source))
		return take_read_ahead(source, bytes_max);
	taken = take_read_ahead(source, UINT64_MAX);
	if (is_from_the_file(source, taken)) {
		lseek(source->fd, -(off_t)RSTRING_LEN(taken), SEEK_CUR);
		return Qnil;
	}
	if ((uint64_t)RSTRING_LEN(taken) > bytes_max) {
		long rest = RSTRING_LEN(taken) - (long)bytes_max;

		ext_source_give_back(source->io, rb_str_substr(taken, (long)bytes_max, rest));
		rb_str_set_len(taken, (long)bytes_max);
	}
	return taken;
}

void ext_sink_settle(const struct ext_end *sink)
{
	if (NIL_P(sink->io))
		return;
	/* It also goes back from where Ruby has read ahead to, to where reading has come. */
	rb_io_flush(sink->io);
}

VALUE ext_end_waiter(struct ext_end *end)
{
	VALUE keywords;
	VALUE arguments[2];

	if (!NIL_P(end->io))
		return end->io;
	if (NIL_P(end->waiter)) {
		keywords = rb_hash_new();
		rb_hash_aset(keywords, ID2SYM(rb_intern("autoclose")), Qfalse);
		arguments[0] = INT2NUM(end->fd);
		arguments[1] = keywords;
		end->waiter = rb_funcallv_kw(rb_cIO, rb_intern("for_fd"), 2, arguments,
					     RB_PASS_KEYWORDS);
	}
	return end->waiter;
}
