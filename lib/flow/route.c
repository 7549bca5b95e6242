/* SPDX-License-Identifier: MIT */
/*
 * The ladder is tried from the top; what the kernel refuses before the first byte is left for
 * the next rung. So a rung stands here unless it is known to be wrong, to be slower than a
 * later one, or to break a promise; whether the kernel really takes it is found out by doing.
 *
 * Sizes and the order come from measurements on Linux 6.18 (page cache hot, two cores).
 */
#include "flow/route.h"

#include <string.h>

enum {
	KIB = 1 << 10,
	MIB = 1 << 20,
	CHUNK_COPY_FILE_RANGE = 4 * MIB, /* one call cannot be interrupted: keep it short */
	CHUNK_SENDFILE = MIB,
	CHUNK_SPLICE = MIB,
	CHUNK_READ_FILE = 128 * KIB, /* file to file: stays in the second-level cache */
	CHUNK_READ = 256 * KIB,
};

struct pair {
	const struct fid_end *source;
	const struct fid_end *sink;
	const struct fid_options *options;
	const struct fid_facts *facts;
};

static bool is_pipe(const struct fid_end *end)
{
	return end->kind == FID_KIND_PIPE;
}

static bool is_regular(const struct fid_end *end)
{
	return end->kind == FID_KIND_REGULAR;
}

/* splice from a pipe into a socket sleeps while it holds the pipe's lock: splice(2), 6.18. */
static bool sink_sleeps(const struct pair *pair)
{
	return fid_kind_is_stream_socket(pair->sink->kind) && !pair->sink->nonblocking;
}

static bool source_sleeps(const struct pair *pair)
{
	return fid_kind_is_stream_socket(pair->source->kind) && !pair->source->nonblocking;
}

static bool is_nowait(const struct pair *pair)
{
	return pair->options->flags & FID_NOWAIT;
}

static const char append_refused[] = "the sink has O_APPEND, which the kernel refuses here";
static const char nowait_refused[] = "it would sleep on a blocking socket";

static const char *refuse_reflink(const struct pair *pair)
{
	const struct fid_options *options = pair->options;

	if (!is_regular(pair->source) || !is_regular(pair->sink))
		return "only a file can share extents with a file";
	if (pair->sink->append)
		return append_refused;
	if (pair->sink->plain)
		return "the sink's file system has no clones";
	if (pair->source->offset_given || pair->sink->offset_given || options->bytes_max ||
	    options->flags & FID_LIMIT_ZERO)
		return "only whole files are cloned";
	if (pair->source->position || pair->sink->position)
		return "a descriptor stands elsewhere than at the start of its file";
	if (options->flags & FID_PACED)
		return "a clone is all at once, and the flow is paced";
	if (pair->sink->size)
		return "the sink is not empty";
	if (!pair->source->size)
		return "the source says that it is empty";
	return NULL;
}

static const char *refuse_copy_file_range(const struct pair *pair)
{
	if (!is_regular(pair->source) || !is_regular(pair->sink))
		return "it moves between files only";
	if (pair->sink->append)
		return append_refused;
	if (pair->facts && pair->facts->copy_file_range < 0)
		return "this kernel or container refuses copy_file_range";
	return NULL;
}

static const char *refuse_sendfile(const struct pair *pair)
{
	switch (pair->source->kind) {
	case FID_KIND_REGULAR:
	case FID_KIND_MEMORY:
	case FID_KIND_BLOCK:
		break;
	default:
		return "its source must be a file";
	}
	switch (pair->sink->kind) {
	case FID_KIND_REGULAR:
	case FID_KIND_TCP:
	case FID_KIND_UNIX:
	case FID_KIND_MEMORY:
	case FID_KIND_BLOCK:
		break;
	case FID_KIND_PIPE:
		return "splice does the same without a hidden pipe";
	default:
		return "the sink is no file or stream socket";
	}
	if (pair->sink->append)
		return append_refused;
	if (pair->sink->offset_given)
		return "it has no offset for the sink";
	if (is_nowait(pair) && sink_sleeps(pair))
		return nowait_refused;
	if (pair->facts && pair->facts->sendfile < 0)
		return "this kernel or container refuses sendfile";
	return NULL;
}

static const char *refuse_splice_at_all(const struct pair *pair)
{
	if (pair->sink->append && !is_pipe(pair->sink))
		return append_refused;
	if (is_nowait(pair) && sink_sleeps(pair))
		return nowait_refused;
	if (pair->facts && pair->facts->splice < 0)
		return "this kernel or container refuses splice";
	return NULL;
}

static const char *refuse_splice(const struct pair *pair)
{
	const struct fid_end *source = pair->source;
	const struct fid_end *sink = pair->sink;

	if (!is_pipe(source) && !is_pipe(sink))
		return "neither end is a pipe";
	if (is_pipe(source) && is_pipe(sink)) {
		if (source->device == sink->device && source->inode == sink->inode)
			return "both ends are the same pipe";
		return refuse_splice_at_all(pair);
	}
	if (is_pipe(source)) {
		/* 1.6-2.1 against 2.5-3.1 GB/s: the writer waits for the lock meanwhile. */
		if (is_regular(sink) || sink->kind == FID_KIND_BLOCK)
			return "a shared pipe's lock would be held while the file is written";
		if (sink_sleeps(pair))
			return "a shared pipe's lock would be held while the socket is full";
		if (!fid_kind_is_stream_socket(sink->kind) && sink->kind != FID_KIND_MEMORY)
			return "the sink's kind is written with write";
		return refuse_splice_at_all(pair);
	}
	if (source->remote)
		return "a shared pipe's lock would be held while the file's server answers";
	if (!fid_kind_is_stream_socket(source->kind) && !is_regular(source) &&
	    source->kind != FID_KIND_MEMORY && source->kind != FID_KIND_BLOCK)
		return "the source's kind is read with read";
	return refuse_splice_at_all(pair);
}

static bool takes_splice(const struct fid_end *end)
{
	switch (end->kind) {
	case FID_KIND_REGULAR:
	case FID_KIND_PIPE:
	case FID_KIND_TCP:
	case FID_KIND_UNIX:
	case FID_KIND_MEMORY:
	case FID_KIND_BLOCK:
		return true;
	default:
		return false;
	}
}

static const char *refuse_splice_pipe(const struct pair *pair)
{
	if (!takes_splice(pair->source))
		return "the source's kind is read with read";
	if (!takes_splice(pair->sink))
		return "the sink's kind is written with write";
	if (is_pipe(pair->source) && is_pipe(pair->sink))
		return "both ends are pipes already";
	if (!refuse_splice(pair))
		return "the pipe that is there already does";
	if (pair->facts && pair->facts->pipe < 0)
		return "no pipe can be had";
	return refuse_splice_at_all(pair);
}

static const char *refuse_read_write(const struct pair *pair)
{
	return NULL;
}

/* How bytes get from the source into a pipe. */
static enum fid_class class_in(const struct fid_end *source)
{
	switch (source->kind) {
	case FID_KIND_REGULAR:
		/* With O_DIRECT the kernel reads into pages of its own (fs/splice.c). */
		return source->page_cache && !source->direct ? FID_BY_REFERENCE
							     : FID_KERNEL_COPY;
	case FID_KIND_PIPE:
	case FID_KIND_TCP:
	case FID_KIND_UNIX:
		return FID_BY_REFERENCE;
	default:
		return FID_KERNEL_COPY;
	}
}

/* How bytes get from a pipe into the sink. */
static enum fid_class class_out(const struct fid_end *sink)
{
	if (is_pipe(sink) || fid_kind_is_stream_socket(sink->kind) || sink->is_null)
		return FID_BY_REFERENCE;
	return FID_KERNEL_COPY;
}

static enum fid_class class_of(const struct pair *pair, enum fid_method method)
{
	enum fid_class in = class_in(pair->source);
	enum fid_class out = class_out(pair->sink);

	switch (method) {
	case FID_REFLINK:
		return FID_BY_REFERENCE;
	case FID_COPY_FILE_RANGE:
		return FID_KERNEL_COPY;
	case FID_SENDFILE:
	case FID_SPLICE:
	case FID_SPLICE_PIPE:
		return in > out ? in : out;
	default:
		return FID_USER_COPY;
	}
}

/*
 * Whether delivered bytes are beyond the reach of later writers. A sink that copies is, and so
 * is read and write. A pipe or socket sink keeps references, and those lead back to the
 * source's pages, or to what somebody else spliced into the source, unless the pages were made
 * for this transfer alone.
 */
static bool is_stable(const struct pair *pair, enum fid_method method)
{
	if (method == FID_READ_WRITE)
		return true;
	if (!is_pipe(pair->sink) && !fid_kind_is_stream_socket(pair->sink->kind))
		return true;
	return (is_regular(pair->source) && pair->source->direct) ||
	       pair->source->kind == FID_KIND_MEMORY;
}

static const char *reason_of(const struct pair *pair, enum fid_method method)
{
	bool references = class_of(pair, method) == FID_BY_REFERENCE;

	switch (method) {
	case FID_REFLINK:
		return "the file system shares the source's extents with the sink";
	case FID_COPY_FILE_RANGE:
		return "the file system copies within the kernel";
	case FID_SENDFILE:
		return references ? "the file's pages are sent by reference"
				  : "the kernel copies from the file's pages into the sink";
	case FID_SPLICE:
		if (!references)
			return "the kernel copies on the way through the pipe";
		if (pair->sink->is_null)
			return "the pages are dropped unread";
		return is_pipe(pair->source) ? "the pipe's pages pass to the sink by reference"
					     : "the source's pages enter the pipe by reference";
	case FID_SPLICE_PIPE:
		return references ? "pages pass through a private pipe by reference"
				  : "pages pass through a private pipe, and the kernel copies "
				    "once";
	default:
		return "a copy through this process";
	}
}

static const char small_reason[] = "small: one read and one write beat any set-up";

/* Why only a copy was possible, for the receipt: the most telling refusal. */
static const char *reason_to_copy(const struct pair *pair, bool small)
{
	if (small)
		return small_reason;
	if (pair->sink->append)
		return "a copy, since the sink has O_APPEND, which the kernel refuses to "
		       "splice to";
	if (is_nowait(pair) && sink_sleeps(pair))
		return "a copy, since any other way would sleep on a blocking socket";
	if (pair->options->flags & FID_STABLE)
		return "a copy, since a stable one was asked for";
	if (!takes_splice(pair->source))
		return "a copy, since this kind of source does not splice";
	if (!takes_splice(pair->sink))
		return "a copy, since this kind of sink does not splice";
	if (is_pipe(pair->source) && is_regular(pair->sink))
		return "a copy, which is cheaper than a private pipe from a pipe to a file";
	return reason_of(pair, FID_READ_WRITE);
}

static uint32_t chunk_of(const struct pair *pair, enum fid_method method)
{
	switch (method) {
	case FID_COPY_FILE_RANGE:
		return CHUNK_COPY_FILE_RANGE;
	case FID_SENDFILE:
		return CHUNK_SENDFILE;
	case FID_SPLICE:
		return CHUNK_SPLICE;
	case FID_READ_WRITE:
		return is_regular(pair->source) && is_regular(pair->sink) ? CHUNK_READ_FILE
									  : CHUNK_READ;
	default:
		return 0;
	}
}

/*
 * 64 KiB from a pipe to a file, where the writer of the pipe is the bottleneck and more only
 * costs cache; 1 MiB at a socket; 256 KiB elsewhere.
 */
static uint32_t pipe_bytes_of(const struct pair *pair)
{
	if (pair->options->pipe_bytes)
		return pair->options->pipe_bytes > 1 << 30
			       ? 1u << 30
			       : (uint32_t)pair->options->pipe_bytes;
	if (is_pipe(pair->source) && is_regular(pair->sink))
		return 64 * KIB;
	if (is_regular(pair->source) && is_regular(pair->sink))
		return 256 * KIB;
	if (fid_kind_is_stream_socket(pair->source->kind) || is_regular(pair->source))
		return MIB;
	return 256 * KIB;
}

static const char *refuse(const struct pair *pair, enum fid_method method)
{
	static const char *(*const refusals[FID_ROUTES])(const struct pair *) = {
		[FID_REFLINK] = refuse_reflink,
		[FID_COPY_FILE_RANGE] = refuse_copy_file_range,
		[FID_SENDFILE] = refuse_sendfile,
		[FID_SPLICE] = refuse_splice,
		[FID_SPLICE_PIPE] = refuse_splice_pipe,
		[FID_READ_WRITE] = refuse_read_write,
	};
	const struct fid_options *options = pair->options;
	enum fid_class class_ = class_of(pair, method);
	const char *why = refusals[method](pair);

	if (why)
		return why;
	if (options->routes && !(options->routes & FID_ROUTE(method)))
		return "it is not among the routes asked for";
	if (options->require == FID_REQUIRE_BY_REFERENCE && class_ != FID_BY_REFERENCE)
		return "it copies, and by-reference is required";
	if (options->require == FID_REQUIRE_NO_USER_COPY && class_ == FID_USER_COPY)
		return "it copies through this process, which is required not to happen";
	if (options->flags & FID_STABLE && !is_stable(pair, method))
		return "later writes to the source would show, and a stable copy was asked for";
	return NULL;
}

/* The order to try methods in. */
static const uint8_t *order_of(const struct pair *pair)
{
	static const uint8_t usual[FID_ROUTES] = {
		FID_REFLINK, FID_COPY_FILE_RANGE, FID_SENDFILE,
		FID_SPLICE,  FID_SPLICE_PIPE,     FID_READ_WRITE,
	};
	/*
	 * Between file systems without a copy of their own copy_file_range and sendfile go
	 * through a pipe of 64 KiB within the kernel. A private one of 256 KiB costs 9 % less,
	 * and it tells which side has failed.
	 */
	static const uint8_t plain_files[FID_ROUTES] = {
		FID_REFLINK,  FID_SPLICE_PIPE, FID_COPY_FILE_RANGE,
		FID_SENDFILE, FID_SPLICE,      FID_READ_WRITE,
	};

	return pair->source->plain && pair->sink->plain ? plain_files : usual;
}

/* Ways that work and that a copy beats. */
static const char *dearer_than_copy(const struct pair *pair, enum fid_method method,
				    uint64_t bytes_expected)
{
	if (method == FID_READ_WRITE)
		return NULL;
	if (bytes_expected <= FID_SMALL_BYTES)
		return "the transfer is small";
	/* 0.80-0.86 of the private pipe's cost: what was just written is still in the cache. */
	if (method == FID_SPLICE_PIPE && is_pipe(pair->source) && is_regular(pair->sink))
		return "from a pipe to a file a copy through a warm buffer is cheaper";
	return NULL;
}

void fid_route_between(const struct fid_end *source, const struct fid_end *sink,
		       const struct fid_options *options, const struct fid_facts *facts,
		       uint64_t bytes_expected, struct fid_ladder *ret_ladder,
		       const char *ret_refused[FID_METHODS_MAX])
{
	const struct pair pair = {source, sink, options, facts};
	const uint8_t *order = order_of(&pair);
	struct fid_ladder *ladder = ret_ladder;
	bool may_copy = !refuse(&pair, FID_READ_WRITE);
	bool small = may_copy && bytes_expected <= FID_SMALL_BYTES;

	memset(ladder, 0, sizeof(*ladder));
	for (unsigned i = 0; ret_refused && i < FID_METHODS_MAX; i++)
		ret_refused[i] = NULL;
	for (unsigned i = 0; i < FID_ROUTES; i++) {
		enum fid_method method = order[i];
		const char *why = refuse(&pair, method);
		struct fid_rung *rung = &ladder->rung[ladder->count];

		if (!why && may_copy)
			why = dearer_than_copy(&pair, method, bytes_expected);
		if (ret_refused)
			ret_refused[method] = why;
		if (why)
			continue;
		*rung = (struct fid_rung){
			.method = (uint8_t)method,
			.class_ = (uint8_t)class_of(&pair, method),
			.stable = is_stable(&pair, method),
			/* Who sleeps for the socket has the lock of a pipe that others use. */
			.asks = method == FID_SPLICE && source_sleeps(&pair),
			.chunk_bytes = chunk_of(&pair, method),
			.pipe_bytes = method == FID_SPLICE_PIPE ? pipe_bytes_of(&pair) : 0,
			.reason = method == FID_READ_WRITE && ladder->count == 0
					  ? reason_to_copy(&pair, small)
					  : reason_of(&pair, method),
		};
		ladder->count++;
	}
	/*
	 * A stream of small messages is cheaper to copy (the crossover is 4-16 KiB), and what a
	 * stream will bring is not known before it comes.
	 */
	ladder->start_small = may_copy && ladder->count &&
			      ladder->rung[0].method == FID_SPLICE_PIPE &&
			      (is_pipe(source) || fid_kind_is_stream_socket(source->kind)) &&
			      bytes_expected == UINT64_MAX;
}

void fid_route_fed(const struct fid_end *sink, const struct fid_facts *facts,
		   bool source_is_stable, struct fid_ladder *ret_ladder)
{
	static const struct fid_end source = {
		.kind = FID_KIND_PIPE,
		.readable = true,
		.nonblocking = true,
	};
	static const struct fid_options nowait = {.flags = FID_NOWAIT};
	const struct pair pair = {&source, sink, &nowait, facts};
	bool splices = takes_splice(sink) && !refuse_splice_at_all(&pair);
	struct fid_rung *rung = ret_ladder->rung;

	memset(ret_ladder, 0, sizeof(*ret_ladder));
	if (is_pipe(sink))
		*rung++ = (struct fid_rung){
			.method = FID_TEE,
			.class_ = FID_BY_REFERENCE,
			.stable = source_is_stable,
			.reason = "the sinks' pipes get references to the same pages",
		};
	else if (splices)
		*rung++ = (struct fid_rung){
			.method = FID_SPLICE_PIPE,
			.class_ = (uint8_t)class_of(&pair, FID_SPLICE_PIPE),
			.stable = source_is_stable || is_stable(&pair, FID_SPLICE_PIPE),
			.reason = reason_of(&pair, FID_SPLICE_PIPE),
		};
	*rung++ = (struct fid_rung){
		.method = FID_READ_WRITE,
		.class_ = FID_USER_COPY,
		.stable = true,
		.chunk_bytes = CHUNK_READ,
		.reason = splices ? reason_of(&pair, FID_READ_WRITE)
				  : reason_to_copy(&pair, false),
	};
	ret_ladder->count = (uint32_t)(rung - ret_ladder->rung);
}

void fid_route_plain(struct fid_ladder *ret_ladder)
{
	ret_ladder->count = 1;
	ret_ladder->start_small = false;
	ret_ladder->rung[0] = (struct fid_rung){
		.method = FID_READ_WRITE,
		.class_ = FID_USER_COPY,
		.stable = true,
		.chunk_bytes = CHUNK_READ,
		.reason = small_reason,
	};
}
