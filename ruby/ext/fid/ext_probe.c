/* SPDX-License-Identifier: MIT */
/* What the kernel really does, for Fid::Facts. */
#include "ext.h"

#include <sys/ioctl.h>

static void set(VALUE facts, const char *name, VALUE value)
{
	rb_hash_aset(facts, ID2SYM(rb_intern(name)), value);
}

static void set_number(VALUE facts, const char *name, uint64_t value)
{
	set(facts, name, ULL2NUM(value));
}

static void set_bool(VALUE facts, const char *name, bool value)
{
	set(facts, name, value ? Qtrue : Qfalse);
}

/* Only what is refused has an entry: the class of its error. */
static void set_refused(VALUE refused, const char *call, int32_t error)
{
	if (error != 0)
		set(refused, call, rb_obj_class(rb_syserr_new(-error, NULL)));
}

static VALUE refused_calls(const struct fid_facts *facts)
{
	VALUE refused = rb_hash_new();

	set_refused(refused, "splice", facts->splice);
	set_refused(refused, "tee", facts->tee);
	set_refused(refused, "vmsplice", facts->vmsplice);
	set_refused(refused, "vmsplice_gift", facts->vmsplice_gift);
	set_refused(refused, "sendfile", facts->sendfile);
	set_refused(refused, "copy_file_range", facts->copy_file_range);
	set_refused(refused, "write_nosignal", facts->write_nosignal);
	set_refused(refused, "pipe", facts->pipe);
	set_refused(refused, "pipe_grow", facts->pipe_grow);
	set_refused(refused, "memory_seal", facts->memory_seal);
	return rb_obj_freeze(refused);
}

static VALUE vmsplice_meaning(const struct fid_facts *facts)
{
	switch (facts->vmsplice_meaning) {
	case FID_VMSPLICE_COPIES:
		return ID2SYM(rb_intern("copies"));
	case FID_VMSPLICE_BY_REFERENCE:
		return ID2SYM(rb_intern("by_reference"));
	default:
		return ID2SYM(rb_intern("refused"));
	}
}

/* A Hash of what fid_probe() found; again: whether it is to look anew. */
static VALUE facts_found(VALUE self, VALUE again)
{
	struct fid_facts found;
	VALUE facts;
	int got = fid_probe(&found, RTEST(again));

	if (got < 0)
		rb_exc_raise(ext_failure(got, FID_SIDE_FID, "probe", Qnil));
	facts = rb_hash_new();
	set(facts, "refused", refused_calls(&found));
	set(facts, "vmsplice_meaning", vmsplice_meaning(&found));
	set_bool(facts, "vmsplice_fresh", found.vmsplice_fresh == 1);
	set_bool(facts, "splice_empty_is_eof", found.splice_empty_is_eof == 1);
	set_bool(facts, "huge_pages", found.huge_pages == 1);
	set_number(facts, "pipe_bytes", found.pipe_bytes);
	set_number(facts, "pipe_bytes_grown", found.pipe_bytes_grown);
	return facts;
}

void ext_init_probe(void)
{
	VALUE cFacts = rb_define_class_under(ext_mFid, "Facts", rb_cObject);

	rb_define_private_method(CLASS_OF(cFacts), "find", facts_found, 1);
	/* Its value differs between processors; for Fid::Pipe#bytes. */
	rb_define_const(ext_mFid, "FIONREAD", ULONG2NUM(FIONREAD));
	rb_funcall(ext_mFid, rb_intern("private_constant"), 1, ID2SYM(rb_intern("FIONREAD")));
}
