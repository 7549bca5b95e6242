/* SPDX-License-Identifier: MIT */
/*
 * Properties of the ladder, for every pair of kinds and every option, and for random ends with
 * everything else about them. The rules are written here a second time on purpose, from the
 * promises of <fid.h> and from what splice(2) does, and not from route.c.
 */
#include "flow/route.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

struct question {
	struct fid_end source;
	struct fid_end sink;
	struct fid_options options;
	struct fid_facts facts;
	bool facts_known;
	uint64_t bytes_expected;
};

static bool is_pipe(const struct fid_end *end)
{
	return end->kind == FID_KIND_PIPE;
}

static bool is_stream_socket(const struct fid_end *end)
{
	return end->kind == FID_KIND_TCP || end->kind == FID_KIND_UNIX;
}

static bool is_file(const struct fid_end *end)
{
	return end->kind == FID_KIND_REGULAR;
}

static const char *describe(const struct question *question)
{
	static char text[256];

	snprintf(text, sizeof(text),
		 "kinds %d to %d, append %d, direct %d %d, nonblocking %d %d, remote %d, flags "
		 "%x, routes %x, require %u, expected %llu",
		 question->source.kind, question->sink.kind, question->sink.append,
		 question->source.direct, question->sink.direct, question->source.nonblocking,
		 question->sink.nonblocking, question->source.remote, question->options.flags,
		 question->options.routes, question->options.require,
		 (unsigned long long)question->bytes_expected);
	return text;
}

#define RULE(condition, ...)                                 \
	do {                                                 \
		if (!(condition)) {                          \
			test_note("%s", describe(question)); \
			FAIL(__VA_ARGS__);                   \
		}                                            \
	} while (0)

static bool may_read_write(const struct question *question)
{
	const struct fid_options *options = &question->options;

	return (!options->routes || options->routes & FID_ROUTE(FID_READ_WRITE)) &&
	       options->require == FID_REQUIRE_NOTHING;
}

/* Whether a splice can pass references from this source, or to this sink. */
static bool gives_references(const struct fid_end *source)
{
	return is_pipe(source) || is_stream_socket(source) ||
	       (is_file(source) && source->page_cache && !source->direct);
}

static bool takes_references(const struct fid_end *sink)
{
	return is_pipe(sink) || is_stream_socket(sink) || sink->is_null;
}

static void check_class(const struct question *question, const struct fid_rung *rung)
{
	enum fid_class least = FID_KERNEL_COPY;

	switch (rung->method) {
	case FID_REFLINK:
		least = FID_BY_REFERENCE;
		break;
	case FID_READ_WRITE:
		least = FID_USER_COPY;
		break;
	case FID_COPY_FILE_RANGE:
		break;
	default:
		if (gives_references(&question->source) && takes_references(&question->sink))
			least = FID_BY_REFERENCE;
	}
	RULE(rung->class_ == least, "%s is counted as %s", fid_method_name(rung->method),
	     fid_class_name(rung->class_));
	if (question->options.require == FID_REQUIRE_BY_REFERENCE)
		RULE(rung->class_ == FID_BY_REFERENCE, "%s copies, which is forbidden",
		     fid_method_name(rung->method));
	if (question->options.require == FID_REQUIRE_NO_USER_COPY)
		RULE(rung->class_ != FID_USER_COPY, "%s copies, which is forbidden",
		     fid_method_name(rung->method));
}

/* Pages that a pipe or socket sink keeps must not be anybody else's. */
static void check_stable(const struct question *question, const struct fid_rung *rung)
{
	const struct fid_end *source = &question->source;
	bool keeps = is_pipe(&question->sink) || is_stream_socket(&question->sink);
	bool own_pages = rung->method == FID_READ_WRITE || source->kind == FID_KIND_MEMORY ||
			 (is_file(source) && source->direct);

	RULE(!rung->stable || !keeps || own_pages, "%s is called stable",
	     fid_method_name(rung->method));
	RULE(rung->method != FID_READ_WRITE || rung->stable, "read and write is not stable");
	if (question->options.flags & FID_STABLE)
		RULE(rung->stable, "%s is not stable", fid_method_name(rung->method));
}

static void check_method(const struct question *question, const struct fid_rung *rung)
{
	const struct fid_end *source = &question->source;
	const struct fid_end *sink = &question->sink;
	const struct fid_options *options = &question->options;
	bool is_limited = options->bytes_max || options->flags & FID_LIMIT_ZERO;

	switch (rung->method) {
	case FID_REFLINK:
		RULE(is_file(source) && is_file(sink), "only files share extents");
		RULE(!is_limited && !source->offset_given && !sink->offset_given,
		     "only whole files are cloned");
		RULE(sink->size == 0, "a clone would replace what is there");
		RULE(source->position == 0 && sink->position == 0,
		     "a clone begins at the start");
		break;
	case FID_COPY_FILE_RANGE:
		RULE(is_file(source) && is_file(sink), "copy_file_range is for files");
		break;
	case FID_SENDFILE:
		RULE(is_file(source) || source->kind == FID_KIND_MEMORY ||
			     source->kind == FID_KIND_BLOCK,
		     "sendfile reads files");
		RULE(!sink->offset_given, "sendfile has no offset for the sink");
		break;
	case FID_SPLICE:
		RULE(is_pipe(source) || is_pipe(sink), "splice needs a pipe");
		RULE(!is_pipe(source) || (!is_file(sink) && sink->kind != FID_KIND_BLOCK),
		     "a pipe is spliced straight into a file");
		RULE(!is_stream_socket(source) || source->nonblocking || rung->asks,
		     "it would sleep on the source with the sink's lock");
		RULE(!is_stream_socket(sink) || sink->nonblocking,
		     "it would sleep on the sink with the source's lock");
		RULE(source->kind != FID_KIND_TERMINAL && sink->kind != FID_KIND_TERMINAL &&
			     source->kind != FID_KIND_CHARACTER &&
			     sink->kind != FID_KIND_CHARACTER,
		     "it would sleep on a terminal with a pipe's lock");
		RULE(!(is_pipe(source) && is_pipe(sink) && source->inode == sink->inode &&
		       source->device == sink->device),
		     "a pipe is not spliced into itself");
		break;
	default:
		break;
	}
	if (rung->method != FID_READ_WRITE)
		RULE(!sink->append || is_pipe(sink), "the kernel refuses a sink with O_APPEND");
	if (rung->method == FID_SENDFILE || rung->method == FID_SPLICE ||
	    rung->method == FID_SPLICE_PIPE)
		RULE(!(options->flags & FID_NOWAIT && is_stream_socket(sink) &&
		       !sink->nonblocking),
		     "%s may sleep, and FID_NOWAIT was given", fid_method_name(rung->method));
	RULE((rung->pipe_bytes > 0) == (rung->method == FID_SPLICE_PIPE),
	     "%s asks for a pipe of %u bytes", fid_method_name(rung->method), rung->pipe_bytes);
	RULE(rung->chunk_bytes || rung->method == FID_REFLINK ||
		     rung->method == FID_SPLICE_PIPE,
	     "%s moves nothing", fid_method_name(rung->method));
	RULE(rung->chunk_bytes <= FID_TRANSFER_MAX, "%s moves too much",
	     fid_method_name(rung->method));
	RULE(rung->reason && rung->reason[0], "no reason for %s",
	     fid_method_name(rung->method));
}

static void check_facts(const struct question *question, const struct fid_rung *rung)
{
	const struct fid_facts *facts = &question->facts;

	if (!question->facts_known)
		return;
	switch (rung->method) {
	case FID_COPY_FILE_RANGE:
		RULE(facts->copy_file_range == 0, "copy_file_range is refused here");
		break;
	case FID_SENDFILE:
		RULE(facts->sendfile == 0, "sendfile is refused here");
		break;
	case FID_SPLICE_PIPE:
		RULE(facts->pipe == 0, "there are no pipes here");
		/* fall through */
	case FID_SPLICE:
		RULE(facts->splice == 0, "splice is refused here");
		break;
	default:
		break;
	}
}

static void check(const struct question *question)
{
	const struct fid_options *options = &question->options;
	const char *refused[FID_METHODS_MAX];
	struct fid_ladder ladder;
	unsigned on_ladder = 0;

	memset(&ladder, 0xff, sizeof(ladder));
	fid_route_between(&question->source, &question->sink, options,
			  question->facts_known ? &question->facts : NULL,
			  question->bytes_expected, &ladder, refused);
	RULE(ladder.count <= FID_ROUTES, "%u rungs", ladder.count);
	for (unsigned i = 0; i < ladder.count; i++) {
		const struct fid_rung *rung = &ladder.rung[i];

		RULE(rung->method < FID_ROUTES, "an unknown method");
		RULE(!(on_ladder & FID_ROUTE(rung->method)), "%s is there twice",
		     fid_method_name(rung->method));
		/* From file to file the copies within the kernel may change places. */
		RULE(i == 0 || rung->method > ladder.rung[i - 1].method ||
			     (rung->method != FID_REFLINK && question->source.plain &&
			      question->sink.plain),
		     "%s stands below %s", fid_method_name(rung->method),
		     fid_method_name(ladder.rung[i - 1].method));
		RULE(rung->method != FID_READ_WRITE || i == ladder.count - 1,
		     "something stands below read and write");
		RULE(!options->routes || options->routes & FID_ROUTE(rung->method),
		     "%s was not asked for", fid_method_name(rung->method));
		on_ladder |= FID_ROUTE(rung->method);
		check_class(question, rung);
		check_stable(question, rung);
		check_method(question, rung);
		check_facts(question, rung);
	}
	for (unsigned method = 0; method < FID_ROUTES; method++)
		RULE(!refused[method] == !!(on_ladder & FID_ROUTE(method)),
		     "%s is %son the ladder, and the refusal says \"%s\"",
		     fid_method_name(method), on_ladder & FID_ROUTE(method) ? "" : "not ",
		     refused[method] ? refused[method] : "nothing");
	RULE(!may_read_write(question) == !(on_ladder & FID_ROUTE(FID_READ_WRITE)),
	     "read and write, which can always be done, is %sthere",
	     on_ladder & FID_ROUTE(FID_READ_WRITE) ? "" : "not ");
	if (may_read_write(question) && question->bytes_expected <= FID_SMALL_BYTES)
		RULE(on_ladder == FID_ROUTE(FID_READ_WRITE),
		     "a small transfer takes more than read and write");
	if (ladder.start_small)
		RULE(may_read_write(question) && ladder.rung[0].method == FID_SPLICE_PIPE &&
			     question->bytes_expected == UINT64_MAX,
		     "it starts small without need");
}

/* Ends that differ in what the ladder looks at, and are what such a descriptor can be. */
static struct fid_end end_of(unsigned kind, bool nonblocking, uint64_t inode)
{
	struct fid_end end = {
		.kind = (uint8_t)kind,
		.readable = true,
		.writable = true,
		.nonblocking = nonblocking,
		.page_cache = kind == FID_KIND_REGULAR,
		.device = 1,
		.inode = inode,
		.size = 0,
	};

	return end;
}

static uint64_t check_options(struct question *question)
{
	static const uint64_t expected[] = {0, FID_SMALL_BYTES, FID_SMALL_BYTES + 1,
					    UINT64_MAX};
	uint64_t count = 0;

	for (uint32_t flags = 0; flags < 4; flags++)
		for (uint32_t routes = 0; routes < 1u << FID_ROUTES; routes++)
			for (uint32_t require = 0; require <= FID_REQUIRE_BY_REFERENCE;
			     require++)
				for (int i = 0; i < 4; i++, count++) {
					question->options.flags = flags;
					question->options.routes = routes;
					question->options.require = require;
					question->bytes_expected = expected[i];
					check(question);
				}
	return count;
}

TEST(the_ladder_obeys_its_rules_for_every_pair_of_kinds_and_options)
{
	uint64_t count = 0;

	_Static_assert(FID_STABLE == 1 && FID_NOWAIT == 2, "flags 0 to 3 are these two");
	for (unsigned a = 0; a < FID_KINDS; a++)
		for (unsigned b = 0; b < FID_KINDS; b++)
			for (unsigned bits = 0; bits < 32; bits++) {
				struct question question = {
					.source = end_of(a, bits & 1, 10),
					.sink = end_of(b, bits & 2, 11),
				};

				question.sink.append = bits & 4;
				question.source.direct = bits & 8;
				question.source.plain = a == FID_KIND_REGULAR && bits & 16;
				question.sink.plain = b == FID_KIND_REGULAR && bits & 16;
				count += check_options(&question);
			}
	test_note("%llu ladders", (unsigned long long)count);
}

static bool coin(uint64_t *random)
{
	return test_random(random) & 1;
}

static int32_t refusal(uint64_t *random)
{
	return test_random(random) % 4 ? 0 : -1;
}

static struct fid_end random_end(uint64_t *random)
{
	struct fid_end end = end_of((unsigned)(test_random(random) % FID_KINDS), coin(random),
				    test_random(random) % 3);

	end.append = test_random(random) % 4 == 0;
	end.direct = test_random(random) % 4 == 0;
	end.remote = test_random(random) % 4 == 0;
	end.page_cache &= coin(random);
	end.plain = end.kind == FID_KIND_REGULAR && coin(random);
	end.offset_given = test_random(random) % 4 == 0;
	end.is_null = end.kind == FID_KIND_MEMORY && coin(random);
	end.device = 1 + test_random(random) % 2;
	end.size = coin(random) ? 0 : test_random(random) % (1 << 20);
	end.position = coin(random) ? 0 : test_random(random) % (1 << 20);
	return end;
}

TEST(the_ladder_obeys_its_rules_for_random_ends)
{
	uint64_t random = test_seed();

	for (int i = 0; i < 500000; i++) {
		struct question question = {
			.source = random_end(&random),
			.sink = random_end(&random),
			.facts_known = coin(&random),
			.bytes_expected = coin(&random) ? UINT64_MAX
							: test_random(&random) % (1 << 20),
		};
		struct fid_facts *facts = &question.facts;
		struct fid_options *options = &question.options;

		facts->splice = refusal(&random);
		facts->sendfile = refusal(&random);
		facts->copy_file_range = refusal(&random);
		facts->pipe = refusal(&random);
		facts->pipe_bytes = 65536;
		facts->pipe_bytes_grown = coin(&random) ? 8192 : 1 << 20;
		options->flags = (uint32_t)(test_random(&random) % 128);
		options->routes =
			coin(&random) ? 0
				      : (uint32_t)(test_random(&random) % (1u << FID_ROUTES));
		options->require = coin(&random) ? 0 : (uint32_t)(test_random(&random) % 3);
		options->bytes_max = coin(&random) ? 0 : question.bytes_expected;
		options->pipe_bytes = coin(&random) ? 0 : test_random(&random);
		check(&question);
	}
}
