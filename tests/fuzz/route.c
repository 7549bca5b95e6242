/* SPDX-License-Identifier: MIT */
/*
 * The choice of a way, for any two ends, options and facts: what must hold for every ladder.
 */
#include "flow/route.h"
#include "fuzz.h"

static struct fid_end any_end(struct input *input)
{
	struct fid_end end = {.kind = input_byte(input) % FID_KINDS};
	uint8_t bits = input_byte(input);

	end.append = bits & 1;
	end.direct = bits & 2;
	end.nonblocking = bits & 4;
	end.remote = bits & 8;
	end.page_cache = bits & 16;
	end.offset_given = bits & 32;
	end.is_null = bits & 64;
	end.readable = end.writable = bits & 128;
	/* Few values, so that both ends are often on one device and sometimes one file. */
	end.device = input_byte(input) & 3;
	end.inode = input_byte(input) & 3;
	end.size = input_u64(input) >> (input_byte(input) & 63);
	return end;
}

static void check_rung(const struct fid_rung *rung, const struct fid_options *options)
{
	REQUIRE(rung->method < FID_ROUTES);
	REQUIRE(rung->reason && rung->reason[0]);
	/* What the caller has ruled out is ruled out. */
	if (options->routes)
		REQUIRE(options->routes & FID_ROUTE(rung->method));
	if (options->require == FID_REQUIRE_BY_REFERENCE)
		REQUIRE(rung->class_ == FID_BY_REFERENCE);
	if (options->require == FID_REQUIRE_NO_USER_COPY)
		REQUIRE(rung->class_ != FID_USER_COPY);
	if (options->flags & FID_STABLE)
		REQUIRE(rung->stable);
	/* Bytes enter this process by read and write, and by nothing else. */
	REQUIRE(rung->class_ < FID_CLASSES);
	REQUIRE((rung->class_ == FID_USER_COPY) == (rung->method == FID_READ_WRITE));
	if (rung->method == FID_READ_WRITE)
		REQUIRE(rung->stable);
	/* A private pipe is asked for where one is used, and only there. */
	REQUIRE((rung->pipe_bytes != 0) == (rung->method == FID_SPLICE_PIPE));
	/* The pipe, or the whole file, bounds the calls that name no length. */
	REQUIRE(rung->chunk_bytes <= FID_TRANSFER_MAX);
	if (rung->method != FID_SPLICE_PIPE && rung->method != FID_REFLINK)
		REQUIRE(rung->chunk_bytes > 0);
}

static void check_ladder(const struct fid_ladder *ladder, const char *const *refused,
			 const struct fid_options *options)
{
	unsigned seen = 0;

	REQUIRE(ladder->count <= FID_ROUTES);
	for (uint32_t i = 0; i < ladder->count; i++) {
		unsigned bit = FID_ROUTE(ladder->rung[i].method);

		check_rung(&ladder->rung[i], options);
		/* The order is the order of the methods, each at most once. */
		REQUIRE(bit > seen);
		seen |= bit;
	}
	/* Without a wish there is always a way. */
	if (!options->require && !options->routes)
		REQUIRE(seen & FID_ROUTE(FID_READ_WRITE));
	/* A method is on the ladder, or there is a reason. */
	for (unsigned method = 0; method < FID_ROUTES; method++) {
		REQUIRE(!refused[method] == !!(seen & FID_ROUTE(method)));
		if (refused[method])
			REQUIRE(refused[method][0]);
	}
	if (ladder->start_small)
		REQUIRE(seen & FID_ROUTE(FID_READ_WRITE));
}

static bool same_ladder(const struct fid_ladder *a, const struct fid_ladder *b)
{
	if (a->count != b->count || a->start_small != b->start_small)
		return false;
	for (uint32_t i = 0; i < a->count; i++)
		if (a->rung[i].method != b->rung[i].method ||
		    a->rung[i].class_ != b->rung[i].class_ ||
		    a->rung[i].stable != b->rung[i].stable ||
		    a->rung[i].chunk_bytes != b->rung[i].chunk_bytes ||
		    a->rung[i].pipe_bytes != b->rung[i].pipe_bytes ||
		    a->rung[i].reason != b->rung[i].reason)
			return false;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct input input = {data, bytes};
	struct fid_end source = any_end(&input);
	struct fid_end sink = any_end(&input);
	struct fid_options options = {.size = sizeof(options)};
	const char *refused[FID_METHODS_MAX];
	struct fid_ladder ladder, again;
	struct fid_facts facts;
	const struct fid_facts *known;
	uint64_t expected;

	options.flags = input_byte(&input) & 0x7f;
	options.routes = input_byte(&input) & ((1u << FID_ROUTES) - 1);
	options.require = input_byte(&input) % 3;
	expected = input_u64(&input) >> (input_byte(&input) & 63);
	options.bytes_max = input_u64(&input) >> (input_byte(&input) & 63);
	options.pipe_bytes = input_u64(&input) >> (input_byte(&input) & 63);
	known = input_byte(&input) & 1 ? &facts : NULL;
	input_take(&input, &facts, sizeof(facts));

	/* What the memory held before must not matter. */
	memset(&ladder, 0xa5, sizeof(ladder));
	memset(&again, 0x5a, sizeof(again));
	fid_route_between(&source, &sink, &options, known, expected, &ladder, refused);
	check_ladder(&ladder, refused, &options);
	fid_route_between(&source, &sink, &options, known, expected, &again, NULL);
	REQUIRE(same_ladder(&ladder, &again));
	return 0;
}
