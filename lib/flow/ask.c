/* SPDX-License-Identifier: MIT */
#include "flow/ask.h"

#include "flow/flow.h"
#include "options.h"

#include <errno.h>

#define FLAGS_KNOWN                                                                         \
	(FID_STABLE | FID_NOWAIT | FID_INTERRUPTIBLE | FID_LIMIT_ZERO | FID_SOURCE_OFFSET | \
	 FID_SINK_OFFSET | FID_GROW_PIPES | FID_PACED)

const char *fid_ask_options(const struct fid_options *options)
{
	if (options->flags & ~FLAGS_KNOWN)
		return "an unknown flag";
	if (options->routes & ~(FID_ROUTE(FID_ROUTES) - 1))
		return "an unknown route";
	if (options->require > FID_REQUIRE_BY_REFERENCE)
		return "an unknown requirement";
	if (options->timeout_ms < 0)
		return "a negative time-out";
	if (options->source_offset > INT64_MAX || options->sink_offset > INT64_MAX)
		return "an offset beyond the largest file";
	return NULL;
}

static bool object(struct fid_objection *ret_objection, int error, enum fid_side side,
		   enum fid_call call, const char *reason)
{
	*ret_objection = (struct fid_objection){error, side, call, reason};
	return false;
}

static bool is_seekable(const struct fid_end *end)
{
	switch (end->kind) {
	case FID_KIND_PIPE:
	case FID_KIND_TCP:
	case FID_KIND_UNIX:
	case FID_KIND_SOCKET:
	case FID_KIND_TERMINAL:
		return false;
	default:
		return true;
	}
}

bool fid_ask_sink(const struct fid_end *sink, struct fid_objection *ret_objection)
{
	if (!sink->writable)
		return object(ret_objection, -EBADF, FID_SIDE_SINK, FID_CALL_FCNTL,
			      "the sink is not open for writing");
	if (sink->offset_given && !is_seekable(sink))
		return object(ret_objection, -ESPIPE, FID_SIDE_SINK, FID_CALL_LSEEK,
			      "the sink has no offsets");
	/* pwrite(2) appends there whatever the offset: BUGS of its manual page. */
	if (sink->offset_given && sink->append)
		return object(ret_objection, -EINVAL, FID_SIDE_SINK, FID_CALL_FCNTL,
			      "the sink has O_APPEND and takes no offset");
	return true;
}

bool fid_ask_ends(const struct fid_end *source, const struct fid_end *sink,
		  struct fid_objection *ret_objection)
{
	if (!source->readable)
		return object(ret_objection, -EBADF, FID_SIDE_SOURCE, FID_CALL_FCNTL,
			      "the source is not open for reading");
	if (source->kind == FID_KIND_PIPE && sink->writable && sink->kind == FID_KIND_PIPE &&
	    source->device == sink->device && source->inode == sink->inode)
		return object(ret_objection, -EINVAL, FID_SIDE_FID, FID_CALL_FSTAT,
			      "the source and the sink are the same pipe");
	if (source->offset_given && !is_seekable(source))
		return object(ret_objection, -ESPIPE, FID_SIDE_SOURCE, FID_CALL_LSEEK,
			      "the source has no offsets");
	return fid_ask_sink(sink, ret_objection);
}

/* As a flow expects it: UINT64_MAX for a stream, 0 for a file that has nothing left. */
static uint64_t expected_bytes(const struct fid_end *source, const struct fid_options *options)
{
	bool limited = options->bytes_max || options->flags & FID_LIMIT_ZERO;
	uint64_t limit = limited ? options->bytes_max : UINT64_MAX;
	uint64_t bytes = UINT64_MAX;

	if (source->kind == FID_KIND_REGULAR) {
		uint64_t at = source->offset_given ? options->source_offset : source->position;

		bytes = source->size > at ? source->size - at : 0;
	}
	return bytes < limit ? bytes : limit;
}

int fid_route(const struct fid_end *source, const struct fid_end *sink,
	      const struct fid_options *options, const struct fid_facts *facts,
	      struct fid_ladder *ret_ladder, const char *ret_refused[FID_METHODS_MAX])
{
	struct fid_end from = *source, to = *sink;
	struct fid_objection objection;
	struct fid_options ours;
	int got = fid_options_take(&ours, sizeof(ours), options, sizeof(size_t));

	if (got < 0)
		return got;
	if (fid_ask_options(&ours))
		return -EINVAL;
	from.offset_given = ours.source_offset || ours.flags & FID_SOURCE_OFFSET;
	to.offset_given = ours.sink_offset || ours.flags & FID_SINK_OFFSET;
	if (!fid_ask_ends(&from, &to, &objection))
		return objection.error;
	fid_route_between(&from, &to, &ours, facts, expected_bytes(&from, &ours), ret_ladder,
			  ret_refused);
	return 0;
}
