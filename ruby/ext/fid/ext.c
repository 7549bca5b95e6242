/* SPDX-License-Identifier: MIT */
/* The extension as Ruby loads it. */
#include "ext.h"

#include <unistd.h>

VALUE ext_mFid;

bool ext_use_is_here(const struct ext_use *use)
{
	return use->process == getpid();
}

void ext_use_check_idle(const struct ext_use *use, const char *what)
{
	if (use->busy && ext_use_is_here(use))
		rb_raise(rb_eThreadError, "the %s is used by another thread or fiber", what);
}

void ext_use_check(const struct ext_use *use, bool is_open, const char *what)
{
	if (!is_open)
		rb_raise(rb_eIOError, "closed %s", what);
	/* Each process would take from the other. */
	if (!ext_use_is_here(use))
		rb_raise(rb_eIOError, "the %s belongs to the process that made it", what);
	ext_use_check_idle(use, what);
}

/* @return [String] the version of libfid that runs: that of an installed one, or the gem's */
static VALUE library_version(VALUE self)
{
	return rb_obj_freeze(rb_utf8_str_new_cstr(fid_version()));
}

RUBY_FUNC_EXPORTED void Init_fid_ext(void);

void Init_fid_ext(void)
{
	/* Nothing is shared but classes, names and libfid's own pool, which any thread may use.
	 */
	rb_ext_ractor_safe(true);
	ext_mFid = rb_define_module("Fid");
	rb_define_singleton_method(ext_mFid, "library_version", library_version, 0);
	ext_init_receipt();
	ext_init_calls();
	ext_init_flow();
	ext_init_fan();
	ext_init_memory();
	ext_init_probe();
}
