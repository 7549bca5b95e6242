/* SPDX-License-Identifier: MIT */
/* Options grow with the library, and garbage in them is refused before a byte moves. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <fid.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

struct longer {
	struct fid_options known;
	unsigned char unknown[64];
};

static int source = -1;
static int sink = -1;

/* A pipe with three bytes in it and no writer, into /dev/null. */
static void open_both(void)
{
	int ends[2];

	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	CHECK(write(ends[1], "abc", 3) == 3);
	close(ends[1]);
	source = ends[0];
	sink = open("/dev/null", O_WRONLY | O_CLOEXEC);
	CHECK(sink >= 0);
}

static int64_t copy(const struct fid_options *options)
{
	int64_t result;

	open_both();
	result = fid_copy(source, sink, options, NULL);
	close(source);
	close(sink);
	return result;
}

TEST(no_options_mean_the_defaults)
{
	struct fid_options options = {.size = sizeof(options)};

	CHECK_EQUAL(copy(NULL), 3);
	CHECK_EQUAL(copy(&options), 3);
}

TEST(options_of_an_older_program_are_filled_with_zeros)
{
	struct fid_options options;

	memset(&options, 0xff, sizeof(options));
	options.flags = FID_STABLE;
	options.size = offsetof(struct fid_options, routes);
	CHECK_EQUAL(copy(&options), 3);
	options.routes = 0;
	options.require = 0;
	options.timeout_ms = 0;
	options.bytes_max = 2;
	options.size = offsetof(struct fid_options, source_offset);
	CHECK_EQUAL(copy(&options), 2);
	options.size = sizeof(options.size);
	CHECK_EQUAL(copy(&options), 3);
}

TEST(options_too_small_for_their_own_size_are_einval)
{
	struct fid_options options = {.size = 0};

	CHECK_EQUAL(copy(&options), -EINVAL);
	options.size = sizeof(options.size) - 1;
	CHECK_EQUAL(copy(&options), -EINVAL);
}

TEST(options_of_a_newer_program_are_taken_if_their_tail_is_zero)
{
	struct longer options = {.known.bytes_max = 1};

	options.known.size = sizeof(options);
	CHECK_EQUAL(copy(&options.known), 1);
}

TEST(options_of_a_newer_program_are_e2big_if_their_tail_is_not_zero)
{
	for (size_t i = 0; i < sizeof(((struct longer *)NULL)->unknown); i += 21) {
		struct longer options = {.known.bytes_max = 1};

		options.known.size = sizeof(options);
		options.unknown[i] = 1;
		CHECK_EQUAL(copy(&options.known), -E2BIG);
	}
}

TEST(unknown_flags_routes_and_requirements_are_einval)
{
	for (unsigned bit = 0; bit < 32; bit++) {
		struct fid_options options = {.size = sizeof(options), .flags = 1u << bit};

		if (bit < 7) /* an offset of a pipe is refused as such */
			CHECK(copy(&options) != -EINVAL);
		else
			CHECK_EQUAL(copy(&options), -EINVAL);
	}
	for (unsigned bit = FID_ROUTES; bit < 32; bit++) {
		struct fid_options options = {.size = sizeof(options), .routes = 1u << bit};

		CHECK_EQUAL(copy(&options), -EINVAL);
	}
	for (unsigned require = 3; require < 100; require += 48) {
		struct fid_options options = {.size = sizeof(options), .require = require};

		CHECK_EQUAL(copy(&options), -EINVAL);
	}
}

TEST(refused_options_leave_the_source_alone_and_say_who_is_to_blame)
{
	struct fid_options options = {.size = sizeof(options), .flags = 1u << 31};
	struct fid_receipt receipt;
	struct fid_flow *flow = (struct fid_flow *)&options;
	char byte;

	memset(&receipt, 0xff, sizeof(receipt));
	open_both();
	CHECK_EQUAL(fid_copy(source, sink, &options, &receipt), -EINVAL);
	CHECK_EQUAL(receipt.error, -EINVAL);
	CHECK_EQUAL(receipt.error_side, FID_SIDE_FID);
	CHECK_EQUAL(receipt.bytes_in, 0);
	memset(&receipt, 0xff, sizeof(receipt));
	CHECK_EQUAL(fid_flow_new(&flow, source, sink, &options, &receipt), -EINVAL);
	CHECK(flow == (struct fid_flow *)&options);
	CHECK_EQUAL(receipt.error, -EINVAL);
	CHECK_EQUAL(receipt.error_side, FID_SIDE_FID);
	CHECK(read(source, &byte, 1) == 1 && byte == 'a');
	close(source);
	close(sink);
}

TEST(pool_options_obey_the_same_rules)
{
	struct {
		struct fid_pool_options known;
		unsigned char unknown[16];
	} options = {.known = {.size = sizeof(options)}};
	struct fid_pool *pool = NULL;

	CHECK_EQUAL(fid_pool_new(&pool, NULL), 0);
	CHECK(fid_pool_free(pool) == NULL);
	CHECK_EQUAL(fid_pool_new(&pool, &options.known), 0);
	CHECK(fid_pool_free(pool) == NULL);
	pool = NULL;
	options.unknown[3] = 1;
	CHECK_EQUAL(fid_pool_new(&pool, &options.known), -E2BIG);
	options.known.size = 3;
	CHECK_EQUAL(fid_pool_new(&pool, &options.known), -EINVAL);
	options.known.size = sizeof(options.known);
	options.known.flags = 1;
	CHECK_EQUAL(fid_pool_new(&pool, &options.known), -EINVAL);
	CHECK(pool == NULL);
}

TEST(free_takes_null)
{
	CHECK(fid_pool_free(NULL) == NULL);
	CHECK(fid_flow_free(NULL) == NULL);
}

TEST(null_where_a_result_is_due_is_einval)
{
	struct fid_pool_stats stats;

	CHECK_EQUAL(fid_probe(NULL, 0), -EINVAL);
	CHECK_EQUAL(fid_probe(NULL, 1), -EINVAL);
	CHECK_EQUAL(fid_pool_stats(NULL, &stats), -EINVAL);
	CHECK_EQUAL(fid_pool_new(NULL, NULL), -EINVAL);
	CHECK_EQUAL(fid_flow_new(NULL, 0, 1, NULL, NULL), -EINVAL);
}

TEST(a_descriptor_that_is_closed_or_faces_the_wrong_way_is_ebadf_and_its_side_is_named)
{
	struct fid_receipt receipt;
	int ends[2];

	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	open_both();
	CHECK_EQUAL(fid_copy(-1, sink, NULL, &receipt), -EBADF);
	CHECK_EQUAL(receipt.error_side, FID_SIDE_SOURCE);
	CHECK_EQUAL(fid_copy(source, -1, NULL, &receipt), -EBADF);
	CHECK_EQUAL(receipt.error_side, FID_SIDE_SINK);
	CHECK_EQUAL(receipt.bytes_in, 0);
	CHECK_EQUAL(fid_copy(ends[1], sink, NULL, &receipt), -EBADF);
	CHECK_EQUAL(receipt.error_side, FID_SIDE_SOURCE);
	CHECK_EQUAL(fid_copy(source, ends[0], NULL, &receipt), -EBADF);
	CHECK_EQUAL(receipt.error_side, FID_SIDE_SINK);
	CHECK_EQUAL(receipt.bytes_in, 0);
	close(ends[0]);
	close(ends[1]);
	close(source);
	close(sink);
}

TEST(a_way_that_the_requirement_forbids_is_eopnotsupp)
{
	struct fid_options options = {.size = sizeof(options),
				      .routes = FID_ROUTE(FID_READ_WRITE),
				      .require = FID_REQUIRE_NO_USER_COPY};
	struct fid_receipt receipt;
	char byte;

	open_both();
	CHECK_EQUAL(fid_copy(source, sink, &options, &receipt), -EOPNOTSUPP);
	CHECK_EQUAL(receipt.error_side, FID_SIDE_FID);
	CHECK_EQUAL(receipt.require_unmet, 1);
	CHECK_EQUAL(receipt.bytes_in, 0);
	CHECK(receipt.reason && receipt.reason[0]);
	CHECK(read(source, &byte, 1) == 1 && byte == 'a');
	close(source);
	close(sink);
}
