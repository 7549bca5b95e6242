/* SPDX-License-Identifier: MIT */
/* Memory, fans and stashes take options of any age, and refuse garbage before anything moves.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <fid.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

static int ends[2];
static int other[2];

static void open_pipes(void)
{
	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	CHECK(pipe2(other, O_CLOEXEC) == 0);
}

static void close_pipes(void)
{
	close(ends[0]);
	close(ends[1]);
	close(other[0]);
	close(other[1]);
}

static int try_memory(const struct fid_memory_options *options)
{
	struct fid_memory *memory = NULL;
	int got = fid_memory_new(&memory, ends[1], options);

	CHECK((got == 0) == (memory != NULL));
	CHECK(fid_memory_free(memory) == NULL);
	return got;
}

TEST(memory_takes_options_of_any_age_and_refuses_garbage)
{
	struct {
		struct fid_memory_options known;
		unsigned char unknown[16];
	} options = {.known.size = sizeof(options)};

	open_pipes();
	CHECK_EQUAL(try_memory(NULL), 0);
	CHECK_EQUAL(try_memory(&options.known), 0);
	options.unknown[3] = 1;
	CHECK_EQUAL(try_memory(&options.known), -E2BIG);
	options.known.size = offsetof(struct fid_memory_options, mode);
	options.known.mode = 77;
	CHECK_EQUAL(try_memory(&options.known), 0);
	options.known.size = sizeof(options.known);
	CHECK_EQUAL(try_memory(&options.known), -EINVAL);
	options.known.mode = FID_MEMORY_MODES;
	CHECK_EQUAL(try_memory(&options.known), -EINVAL);
	options.known.mode = FID_MEMORY_FRESH;
	for (unsigned bit = 0; bit < 32; bit++) {
		options.known.flags = 1u << bit;
		CHECK_EQUAL(try_memory(&options.known),
			    options.known.flags & (FID_NOWAIT | FID_INTERRUPTIBLE) ? 0
										   : -EINVAL);
	}
	options.known.flags = 0;
	options.known.bytes_max = 1; /* for constants only */
	CHECK_EQUAL(try_memory(&options.known), -EINVAL);
	CHECK_EQUAL(fid_memory_new(NULL, ends[1], NULL), -EINVAL);
	close_pipes();
}

TEST(memory_wants_a_sink_that_can_be_written)
{
	struct fid_memory *memory = NULL;

	open_pipes();
	CHECK_EQUAL(fid_memory_new(&memory, ends[0], NULL), -EBADF);
	CHECK_EQUAL(fid_memory_new(&memory, -1, NULL), -EBADF);
	close_pipes();
	CHECK_EQUAL(fid_memory_new(&memory, ends[1], NULL), -EBADF);
	CHECK(memory == NULL);
}

static int try_fan(const struct fid_fan_options *options)
{
	struct fid_fan *fan = NULL;
	int got = fid_fan_new(&fan, ends[0], options);

	CHECK((got == 0) == (fan != NULL));
	CHECK(fid_fan_free(fan) == NULL);
	return got;
}

TEST(fan_takes_options_of_any_age_and_refuses_garbage)
{
	const uint32_t known = FID_STABLE | FID_NOWAIT | FID_INTERRUPTIBLE | FID_LIMIT_ZERO |
			       FID_GROW_PIPES | FID_FAN_STOP;
	struct {
		struct fid_fan_options known;
		unsigned char unknown[16];
	} options = {.known.size = sizeof(options)};

	open_pipes();
	CHECK_EQUAL(try_fan(NULL), 0);
	CHECK_EQUAL(try_fan(&options.known), 0);
	options.unknown[0] = 1;
	CHECK_EQUAL(try_fan(&options.known), -E2BIG);
	options.known.size = sizeof(options.known);
	for (unsigned bit = 0; bit < 32; bit++) {
		options.known.flags = 1u << bit;
		CHECK_EQUAL(try_fan(&options.known), options.known.flags & known ? 0
						     : options.known.flags & FID_SOURCE_OFFSET
							     ? -ESPIPE
							     : -EINVAL);
	}
	options.known.flags = 0;
	options.known.routes = FID_ROUTE(FID_TEE);
	CHECK_EQUAL(try_fan(&options.known), -EINVAL);
	options.known.routes = 0;
	options.known.source_offset = UINT64_MAX;
	CHECK_EQUAL(try_fan(&options.known), -EINVAL);
	CHECK_EQUAL(fid_fan_new(NULL, ends[0], NULL), -EINVAL);
	close_pipes();
}

TEST(fan_refuses_sinks_that_cannot_be_served)
{
	struct fid_fan_sink_options options = {.size = sizeof(options)};
	struct fid_fan *fan = NULL;

	open_pipes();
	CHECK_EQUAL(fid_fan_new(&fan, ends[1], NULL), -EBADF);
	CHECK_EQUAL(fid_fan_new(&fan, ends[0], NULL), 0);
	CHECK_EQUAL(fid_fan_add(fan, ends[1], NULL), -EINVAL); /* the source's own pipe */
	CHECK_EQUAL(fid_fan_add(fan, other[0], NULL), -EBADF);
	CHECK_EQUAL(fid_fan_add(fan, -1, NULL), -EBADF);
	options.flags = FID_SINK_OFFSET;
	CHECK_EQUAL(fid_fan_add(fan, other[1], &options), -ESPIPE);
	options.flags = FID_STABLE;
	CHECK_EQUAL(fid_fan_add(fan, other[1], &options), -EINVAL);
	options.flags = 0;
	options.on_slow = FID_SLOW_SPILL + 1;
	CHECK_EQUAL(fid_fan_add(fan, other[1], &options), -EINVAL);
	options.on_slow = FID_SLOW_SPILL;
	options.spill = other[1]; /* no file */
	CHECK_EQUAL(fid_fan_add(fan, other[1], &options), -EINVAL);
	options.on_slow = FID_SLOW_DROP;
	CHECK_EQUAL(fid_fan_add(fan, other[1], &options), -EINVAL);
	options.spill = -1;
	CHECK_EQUAL(fid_fan_add(fan, other[1], &options), 0);
	CHECK(fid_fan_sink_receipt(fan, 1) == NULL);
	CHECK(fid_fan_sink_receipt(fan, -1) == NULL);
	CHECK_EQUAL(fid_fan_step(fan, NULL), FID_WAIT);
	CHECK_EQUAL(fid_fan_add(fan, other[1], NULL), -EINVAL); /* too late */
	fid_fan_free(fan);
	close_pipes();
}

TEST(fan_keeps_each_receipt_where_it_is)
{
	const struct fid_receipt *first, *last;
	struct fid_fan *fan = NULL;

	open_pipes();
	CHECK_EQUAL(fid_fan_new(&fan, ends[0], NULL), 0);
	CHECK_EQUAL(fid_fan_add(fan, other[1], NULL), 0);
	first = fid_fan_sink_receipt(fan, 0);
	for (int i = 1; i < FID_FAN_SINKS_MAX; i++) {
		last = fid_fan_sink_receipt(fan, i - 1);
		CHECK_EQUAL(fid_fan_add(fan, other[1], NULL), i);
		/* What was asked for before a sink is added may be read after. */
		CHECK(fid_fan_sink_receipt(fan, 0) == first);
		CHECK(fid_fan_sink_receipt(fan, i - 1) == last);
	}
	CHECK_EQUAL(first->bytes_in, 0);
	fid_fan_free(fan);
	close_pipes();
}

TEST(fan_of_no_sinks_reads_the_source_to_its_end)
{
	struct fid_fan *fan = NULL;

	open_pipes();
	CHECK_EQUAL(write(ends[1], "abc", 3), 3);
	close(ends[1]);
	CHECK_EQUAL(fid_fan_new(&fan, ends[0], NULL), 0);
	CHECK_EQUAL(fid_fan_run(fan, -1), 0);
	CHECK_EQUAL(fid_fan_receipt(fan)->bytes_in, 3);
	fid_fan_free(fan);
	close_pipes();
}

TEST(free_takes_null_for_everything)
{
	CHECK(fid_memory_free(NULL) == NULL);
	CHECK(fid_fan_free(NULL) == NULL);
	CHECK(fid_stash_free(NULL) == NULL);
}

TEST(stash_wants_a_source_that_can_be_read)
{
	struct fid_stash *stash = NULL;

	open_pipes();
	CHECK_EQUAL(fid_stash_new(&stash, ends[1]), -EBADF);
	CHECK_EQUAL(fid_stash_new(NULL, ends[0]), -EINVAL);
	CHECK_EQUAL(fid_stash_new(&stash, ends[0]), 0);
	CHECK_EQUAL(fid_stash_bytes(stash), 0);
	fid_stash_free(stash);
	close_pipes();
}

TEST(lengths_of_any_size_are_taken)
{
	char bytes[3];
	struct iovec segments[2000];
	int64_t at = 0;
	int file = memfd_create("lengths", MFD_CLOEXEC);

	open_pipes();
	CHECK_EQUAL(write(file, "abc", 3), 3);
	CHECK_EQUAL(fid_splice(file, &at, ends[1], NULL, SIZE_MAX, 0), 3);
	CHECK_EQUAL(fid_tee(ends[0], other[1], SIZE_MAX, 0), 3);
	CHECK_EQUAL(at, 3);
	for (size_t i = 0; i < 2000; i++)
		segments[i] = (struct iovec){.iov_base = bytes, .iov_len = i == 1999 ? 3 : 0};
	CHECK_EQUAL(fid_vmsplice(other[0], segments, 2000, 0), 3);
	CHECK(memcmp(bytes, "abc", 3) == 0);
	close(file);
	close_pipes();
}
