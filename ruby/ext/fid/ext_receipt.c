/* SPDX-License-Identifier: MIT */
/* Receipts: how every byte moved. Failures: an Errno that has one. */
#include "ext.h"

#include <errno.h>
#include <string.h>

static VALUE cReceipt;
static VALUE cDemotion;
static VALUE mFailure;

/* ---- Names ---- */

VALUE ext_symbol(const char *name)
{
	char symbol[64];
	size_t length = 0;

	for (; name[length] && length < sizeof(symbol); length++)
		symbol[length] = name[length] == '-' ? '_' : name[length];
	/* One that stays: Ruby 3.1 loses sight of others when it compacts. */
	return ID2SYM(rb_intern2(symbol, (long)length));
}

static VALUE side_symbol(uint32_t side)
{
	return side == FID_SIDE_NONE ? Qnil : ext_symbol(fid_side_name(side));
}

static VALUE call_symbol(uint32_t call)
{
	return call == FID_CALL_NONE ? Qnil : ext_symbol(fid_call_name(call));
}

static VALUE method_symbol(uint32_t method)
{
	return method < FID_METHODS ? ext_symbol(fid_method_name(method)) : Qnil;
}

/* The class, as Errno::EPIPE; nil for no error. */
static VALUE errno_class(int32_t error)
{
	if (error == 0)
		return Qnil;
	return rb_obj_class(rb_syserr_new(error < 0 ? -error : error, NULL));
}

/* ---- Receipts ---- */

static const rb_data_type_t receipt_type = {
	.wrap_struct_name = "Fid::Receipt",
	.function = {.dfree = RUBY_DEFAULT_FREE},
	.flags = RUBY_TYPED_FREE_IMMEDIATELY | RUBY_TYPED_FROZEN_SHAREABLE,
};

VALUE ext_receipt_new(const struct fid_receipt *receipt)
{
	struct fid_receipt *kept;
	VALUE self = TypedData_Make_Struct(cReceipt, struct fid_receipt, &receipt_type, kept);

	*kept = *receipt;
	return rb_obj_freeze(self);
}

const struct fid_receipt *ext_receipt_get(VALUE self)
{
	return rb_check_typeddata(self, &receipt_type);
}

void ext_receipt_add(struct fid_receipt *receipt, const struct fid_receipt *earlier)
{
	/* The route is that of the larger part. */
	if (earlier->bytes_out > receipt->bytes_out) {
		receipt->route = earlier->route;
		receipt->reason = earlier->reason;
	}
	receipt->bytes_in += earlier->bytes_in;
	receipt->bytes_out += earlier->bytes_out;
	receipt->bytes_held += earlier->bytes_held;
	receipt->bytes_salvaged += earlier->bytes_salvaged;
	for (unsigned i = 0; i < FID_CLASSES_MAX; i++)
		receipt->by_class[i] += earlier->by_class[i];
	for (unsigned i = 0; i < FID_METHODS_MAX; i++) {
		receipt->by_method[i] += earlier->by_method[i];
		receipt->calls[i] += earlier->calls[i];
	}
	if (earlier->error != 0) {
		receipt->error = earlier->error;
		receipt->error_side = earlier->error_side;
		receipt->error_call = earlier->error_call;
	}
	receipt->waits += earlier->waits;
	receipt->elapsed_ns += earlier->elapsed_ns;
}

#define COUNTER(name, field)                                  \
	static VALUE receipt_##name(VALUE self)               \
	{                                                     \
		return ULL2NUM(ext_receipt_get(self)->field); \
	}

COUNTER(bytes, bytes_out)
COUNTER(bytes_in, bytes_in)
COUNTER(bytes_held, bytes_held)
COUNTER(bytes_salvaged, bytes_salvaged)
COUNTER(by_reference, by_class[FID_BY_REFERENCE])
COUNTER(kernel_copy, by_class[FID_KERNEL_COPY])
COUNTER(user_copy, by_class[FID_USER_COPY])
COUNTER(waits, waits)
COUNTER(pipe_bytes, pipe_bytes)
COUNTER(pipe_bytes_asked, pipe_bytes_asked)

static VALUE receipt_all_by_reference(VALUE self)
{
	const struct fid_receipt *receipt = ext_receipt_get(self);

	return receipt->by_class[FID_BY_REFERENCE] == receipt->bytes_out ? Qtrue : Qfalse;
}

/* {splice: 65536}, without the methods that have nothing. */
static VALUE by_method(const uint64_t *count)
{
	VALUE hash = rb_hash_new();

	for (unsigned i = 0; i < FID_METHODS; i++)
		if (count[i] > 0)
			rb_hash_aset(hash, method_symbol(i), ULL2NUM(count[i]));
	return rb_obj_freeze(hash);
}

static VALUE receipt_by_method(VALUE self)
{
	return by_method(ext_receipt_get(self)->by_method);
}

static VALUE receipt_calls(VALUE self)
{
	return by_method(ext_receipt_get(self)->calls);
}

static VALUE receipt_elapsed(VALUE self)
{
	return DBL2NUM((double)ext_receipt_get(self)->elapsed_ns / 1e9);
}

static VALUE receipt_demotions(VALUE self)
{
	const struct fid_receipt *receipt = ext_receipt_get(self);
	VALUE list = rb_ary_new();

	for (uint32_t i = 0; i < receipt->demotions && i < FID_DEMOTIONS_MAX; i++) {
		const struct fid_demotion *one = &receipt->demotion[i];
		VALUE demotion = rb_struct_new(cDemotion, method_symbol(one->from),
					       method_symbol(one->to), call_symbol(one->call),
					       side_symbol(one->side), errno_class(one->error),
					       ULL2NUM(one->at_bytes));

		rb_ary_push(list, rb_obj_freeze(demotion));
	}
	return rb_obj_freeze(list);
}

static VALUE receipt_error(VALUE self)
{
	return errno_class(ext_receipt_get(self)->error);
}

static VALUE receipt_error_side(VALUE self)
{
	return side_symbol(ext_receipt_get(self)->error_side);
}

static VALUE receipt_error_call(VALUE self)
{
	return call_symbol(ext_receipt_get(self)->error_call);
}

static VALUE receipt_route(VALUE self)
{
	return method_symbol(ext_receipt_get(self)->route);
}

static VALUE receipt_reason(VALUE self)
{
	const char *reason = ext_receipt_get(self)->reason;

	return reason ? rb_obj_freeze(rb_utf8_str_new_cstr(reason)) : Qnil;
}

static VALUE receipt_stable(VALUE self)
{
	return ext_receipt_get(self)->stable ? Qtrue : Qfalse;
}

static VALUE receipt_source_changed(VALUE self)
{
	int32_t changed = ext_receipt_get(self)->source_changed;

	return changed < 0 ? Qnil : changed > 0 ? Qtrue : Qfalse;
}

static VALUE receipt_require_unmet(VALUE self)
{
	return ext_receipt_get(self)->require_unmet ? Qtrue : Qfalse;
}

/* What fid_receipt_text() or fid_receipt_json() says. */
static VALUE described(VALUE self, int (*describe)(const struct fid_receipt *, char *, size_t))
{
	const struct fid_receipt *receipt = ext_receipt_get(self);
	int length = describe(receipt, NULL, 0);
	VALUE string;

	if (length < 0)
		rb_syserr_fail(-length, "receipt");
	/* The final NUL has its place in every String. */
	string = rb_utf8_str_new(NULL, length);
	describe(receipt, RSTRING_PTR(string), (size_t)length + 1);
	return string;
}

static VALUE receipt_to_s(VALUE self)
{
	return described(self, fid_receipt_text);
}

static VALUE receipt_to_json(int argc, VALUE *argv, VALUE self)
{
	/* JSON's generator passes its state, of which nothing is needed. */
	return described(self, fid_receipt_json);
}

static VALUE receipt_inspect(VALUE self)
{
	return rb_sprintf("#<Fid::Receipt %" PRIsVALUE ">", receipt_to_s(self));
}

static VALUE receipt_equal(VALUE self, VALUE other)
{
	if (!rb_typeddata_is_kind_of(other, &receipt_type))
		return Qfalse;
	return memcmp(ext_receipt_get(self), ext_receipt_get(other),
		      sizeof(struct fid_receipt)) == 0
		       ? Qtrue
		       : Qfalse;
}

static VALUE receipt_hash(VALUE self)
{
	st_index_t hash = rb_memhash(ext_receipt_get(self), sizeof(struct fid_receipt));

	return ST2FIX(hash);
}

/*
 * Document-class: Fid::Receipt::Demotion
 * One way that was left for another one: from and to, the call that was refused, the side, the
 * class of the error (nil: the call said too early that there is no more), and at_bytes: so
 * many had been taken from the source. A frozen Struct.
 */

/* ---- Failures ---- */

static VALUE failure_new(int error, enum fid_side side, const char *call, VALUE receipt,
			 bool refused)
{
	const struct fid_receipt *account = NIL_P(receipt) ? NULL : ext_receipt_get(receipt);
	VALUE what = rb_str_new_cstr("");
	VALUE failure;

	if (account && side == FID_SIDE_NONE)
		side = account->error_side;
	if (account && !call && account->error_call != FID_CALL_NONE)
		call = fid_call_name(account->error_call);
	if (side != FID_SIDE_NONE)
		rb_str_catf(what, "%s", fid_side_name(side));
	if (call)
		rb_str_catf(what, "%s%s", RSTRING_LEN(what) ? ": " : "", call);
	if (account && account->require_unmet)
		rb_str_catf(what, "%swhat require: asks for cannot be met here",
			    RSTRING_LEN(what) ? ": " : "");
	/* What was refused at once has a reason and no bytes; else these tell more. */
	if (account && account->reason && (account->require_unmet || refused))
		rb_str_catf(what, "%s%s", RSTRING_LEN(what) ? ": " : "", account->reason);
	else if (account)
		rb_str_catf(what, "%safter %llu bytes", RSTRING_LEN(what) ? ", " : "",
			    (unsigned long long)account->bytes_out);
	failure = rb_syserr_new_str(error < 0 ? -error : error, what);
	ext_failure_attach(failure, receipt, Qnil);
	rb_ivar_set(failure, rb_intern("@side"), side_symbol(side));
	return failure;
}

VALUE ext_failure(int error, enum fid_side side, const char *call, VALUE receipt)
{
	return failure_new(error, side, call, receipt, false);
}

VALUE ext_refusal(int error, const struct fid_receipt *receipt)
{
	return failure_new(error, FID_SIDE_NONE, NULL, ext_receipt_new(receipt), true);
}

void ext_failure_attach(VALUE exception, VALUE receipt, VALUE undelivered)
{
	rb_extend_object(exception, mFailure);
	rb_ivar_set(exception, rb_intern("@receipt"), receipt);
	rb_ivar_set(exception, rb_intern("@undelivered"), undelivered);
}

void ext_init_receipt(void)
{
	cReceipt = rb_define_class_under(ext_mFid, "Receipt", rb_cObject);
	rb_undef_alloc_func(cReceipt);
	rb_undef_method(CLASS_OF(cReceipt), "new");
	/* @return [Integer] bytes delivered to the sink */
	rb_define_method(cReceipt, "bytes", receipt_bytes, 0);
	/* @return [Integer] the same; bytes_in is bytes_out, bytes_held and bytes_salvaged */
	rb_define_method(cReceipt, "bytes_out", receipt_bytes, 0);
	/* @return [Integer] bytes taken from the source */
	rb_define_method(cReceipt, "bytes_in", receipt_bytes_in, 0);
	/* @return [Integer] bytes taken and not delivered, still in the flow */
	rb_define_method(cReceipt, "bytes_held", receipt_bytes_held, 0);
	/* @return [Integer] bytes taken and not delivered, handed to the program */
	rb_define_method(cReceipt, "bytes_salvaged", receipt_bytes_salvaged, 0);
	/* @return [Integer] bytes of which the kernel passed on a reference to the page */
	rb_define_method(cReceipt, "by_reference", receipt_by_reference, 0);
	/* @return [Boolean] whether all bytes went by reference */
	rb_define_method(cReceipt, "by_reference?", receipt_all_by_reference, 0);
	/* @return [Integer] bytes that the kernel copied, and this process never saw */
	rb_define_method(cReceipt, "kernel_copy", receipt_kernel_copy, 0);
	/* @return [Integer] bytes that were read into this process and written again */
	rb_define_method(cReceipt, "user_copy", receipt_user_copy, 0);
	/* @return [Hash{Symbol => Integer}] bytes by the way they went: {splice: 65536} */
	rb_define_method(cReceipt, "by_method", receipt_by_method, 0);
	/* @return [Hash{Symbol => Integer}] calls made to move bytes, by the same names */
	rb_define_method(cReceipt, "calls", receipt_calls, 0);
	/* @return [Integer] how often a side was not ready */
	rb_define_method(cReceipt, "waits", receipt_waits, 0);
	/* @return [Float] seconds since the flow was made */
	rb_define_method(cReceipt, "elapsed", receipt_elapsed, 0);
	/* @return [Integer] capacity of the private pipe; 0 when none was taken */
	rb_define_method(cReceipt, "pipe_bytes", receipt_pipe_bytes, 0);
	/* @return [Integer] the capacity that was asked for */
	rb_define_method(cReceipt, "pipe_bytes_asked", receipt_pipe_bytes_asked, 0);
	/* @return [Array<Demotion>] which ways were left, and why; the first eight; frozen */
	rb_define_method(cReceipt, "demotions", receipt_demotions, 0);
	/* @return [Class, nil] what ended it, as Errno::EPIPE */
	rb_define_method(cReceipt, "error", receipt_error, 0);
	/* @return [Symbol, nil] whose fault that was: :source, :sink or :fid */
	rb_define_method(cReceipt, "error_side", receipt_error_side, 0);
	/* @return [Symbol, nil] the call that failed, as :splice */
	rb_define_method(cReceipt, "error_call", receipt_error_call, 0);
	/* @return [Symbol, nil] the way that most bytes went, or that is in use */
	rb_define_method(cReceipt, "route", receipt_route, 0);
	/* @return [String, nil] why this way, in English */
	rb_define_method(cReceipt, "reason", receipt_reason, 0);
	/* @return [Boolean] whether what was delivered cannot change any more */
	rb_define_method(cReceipt, "stable?", receipt_stable, 0);
	/* @return [Boolean, nil] whether the source, a file, was written to; nil: not known */
	rb_define_method(cReceipt, "source_changed?", receipt_source_changed, 0);
	/* @return [Boolean] whether it ended because what is required forbids the rest */
	rb_define_method(cReceipt, "require_unmet?", receipt_require_unmet, 0);
	/* @return [String] all of it in English */
	rb_define_method(cReceipt, "to_s", receipt_to_s, 0);
	/*
	 * The object that "fid copy --receipt=json" prints, whose keys fid(1) lists. They are
	 * not those of #to_h.
	 *
	 * @return [String]
	 */
	rb_define_method(cReceipt, "to_json", receipt_to_json, -1);
	/* @return [String] */
	rb_define_method(cReceipt, "inspect", receipt_inspect, 0);
	/* @return [Boolean] whether the other is the same account, and took the same time */
	rb_define_method(cReceipt, "==", receipt_equal, 1);
	rb_define_method(cReceipt, "eql?", receipt_equal, 1);
	/* @return [Integer] */
	rb_define_method(cReceipt, "hash", receipt_hash, 0);
	cDemotion = rb_struct_define_under(cReceipt, "Demotion", "from", "to", "call", "side",
					   "error", "at_bytes", NULL);
	mFailure = rb_define_module_under(ext_mFid, "Failure");
	rb_define_attr(mFailure, "receipt", 1, 0);
	rb_define_attr(mFailure, "side", 1, 0);
	rb_define_attr(mFailure, "undelivered", 1, 0);
	rb_define_attr(mFailure, "undelivered_to", 1, 0);
}
