/* SPDX-License-Identifier: MIT */
/*
 * The choice of a way: a pure function from facts about two descriptors to a ladder of methods.
 */
#ifndef FID_ROUTE_H
#define FID_ROUTE_H

#include "kernel/kernel.h"

/*
 * The ladder from source to sink. facts may be NULL: nothing is known about the kernel yet.
 * bytes_expected is a hint: bytes_max or st_size, UINT64_MAX for a stream. The result may have
 * no rung: then nothing that options allow can move these bytes. ret_refused, by method, says
 * why a method is not on the ladder, or NULL where it is; it may be NULL itself.
 */
void fid_route_between(const struct fid_end *source, const struct fid_end *sink,
		       const struct fid_options *options, const struct fid_facts *facts,
		       uint64_t bytes_expected, struct fid_ladder *ret_ladder,
		       const char *ret_refused[FID_METHODS_MAX]);

/*
 * The ladder of a fan's sink: tee for a pipe, a private pipe for what splices, and a copy.
 * source_is_stable: nobody can write to the pages that it is fed.
 */
void fid_route_fed(const struct fid_end *sink, const struct fid_facts *facts,
		   bool source_is_stable, struct fid_ladder *ret_ladder);

/* What it is for a small transfer between any two descriptors, without a look. */
void fid_route_plain(struct fid_ladder *ret_ladder);

static inline bool fid_kind_is_stream_socket(uint8_t kind)
{
	return kind == FID_KIND_TCP || kind == FID_KIND_UNIX;
}

static inline bool fid_kind_is_socket(uint8_t kind)
{
	return kind == FID_KIND_SOCKET || fid_kind_is_stream_socket(kind);
}

/* A descriptor that may make a reader or writer wait. */
static inline bool fid_kind_may_wait(uint8_t kind)
{
	return kind != FID_KIND_REGULAR && kind != FID_KIND_MEMORY && kind != FID_KIND_BLOCK &&
	       kind != FID_KIND_DIRECTORY;
}

/* Below this many expected bytes read and write win: no facts are asked, no pipe is taken. */
#define FID_SMALL_BYTES ((uint64_t)16 << 10)

#endif
