/* SPDX-License-Identifier: MIT */
/*
 * What is asked for, looked at before anything moves: whether options make sense, and whether
 * two ends can do their part.
 */
#ifndef FID_ASK_H
#define FID_ASK_H

#include "kernel/kernel.h"

/* Why it cannot be done. */
struct fid_objection {
	int error; /* negative */
	enum fid_side side;
	enum fid_call call;
	const char *reason; /* static storage */
};

/* What is wrong with the options, or NULL. */
const char *fid_ask_options(const struct fid_options *options);

/* The offset that a field and its flag give, or FID_OWN_OFFSET. */
static inline int64_t fid_ask_offset(uint64_t offset, uint32_t flag)
{
	return offset || flag ? (int64_t)offset : FID_OWN_OFFSET;
}

/*
 * Whether an end can be a sink, and both ends a pair; offset_given counts. Return true, or
 * false with *ret_objection set.
 */
bool fid_ask_sink(const struct fid_end *sink, struct fid_objection *ret_objection);
bool fid_ask_ends(const struct fid_end *source, const struct fid_end *sink,
		  struct fid_objection *ret_objection);

#endif
