/* SPDX-License-Identifier: MIT */
/*
 * The layout of every public structure and the value of every public constant. A program built
 * yesterday reads and writes these places: a change here is a new soname, or a mistake.
 */
#include "test.h"

#include <fid.h>

struct place {
	const char *what;
	size_t offset;
	size_t bytes;
	size_t wanted_offset;
	size_t wanted_bytes;
};

struct value {
	const char *what;
	uint64_t got;
	uint64_t wanted;
};

#define SIZE(type, size)                                                                       \
	{                                                                                      \
		.what = "struct " #type, .bytes = sizeof(struct type), .wanted_bytes = (size), \
	}
#define FIELD(type, field, at, size)                                                        \
	{                                                                                   \
		.what = #field " of struct " #type, .offset = offsetof(struct type, field), \
		.bytes = sizeof(((struct type *)0)->field), .wanted_offset = (at),          \
		.wanted_bytes = (size),                                                     \
	}
#define VALUE(constant, value)                                                     \
	{                                                                          \
		.what = #constant, .got = (uint64_t)(constant), .wanted = (value), \
	}

static const struct place places[] = {
	SIZE(fid_facts, 128),
	FIELD(fid_facts, splice, 0, 4),
	FIELD(fid_facts, tee, 4, 4),
	FIELD(fid_facts, vmsplice, 8, 4),
	FIELD(fid_facts, vmsplice_gift, 12, 4),
	FIELD(fid_facts, sendfile, 16, 4),
	FIELD(fid_facts, copy_file_range, 20, 4),
	FIELD(fid_facts, write_nosignal, 24, 4),
	FIELD(fid_facts, pipe, 28, 4),
	FIELD(fid_facts, pipe_grow, 32, 4),
	FIELD(fid_facts, vmsplice_meaning, 36, 4),
	FIELD(fid_facts, vmsplice_fresh, 40, 4),
	FIELD(fid_facts, splice_empty_is_eof, 44, 4),
	FIELD(fid_facts, pipe_bytes, 48, 8),
	FIELD(fid_facts, pipe_bytes_grown, 56, 8),
	FIELD(fid_facts, huge_pages, 64, 4),
	FIELD(fid_facts, memory_seal, 68, 4),
	FIELD(fid_facts, reserved, 72, 56),

	SIZE(fid_pool_options, 24),
	FIELD(fid_pool_options, size, 0, 8),
	FIELD(fid_pool_options, flags, 8, 4),
	FIELD(fid_pool_options, pipes_max, 12, 4),
	FIELD(fid_pool_options, pipes_idle_max, 16, 4),
	FIELD(fid_pool_options, buffers_idle_max, 20, 4),

	SIZE(fid_pool_stats, 112),
	FIELD(fid_pool_stats, pipes_lent, 0, 4),
	FIELD(fid_pool_stats, pipes_idle, 4, 4),
	FIELD(fid_pool_stats, buffers_lent, 8, 4),
	FIELD(fid_pool_stats, buffers_idle, 12, 4),
	FIELD(fid_pool_stats, pipes_made, 16, 8),
	FIELD(fid_pool_stats, pipes_reused, 24, 8),
	FIELD(fid_pool_stats, pipes_closed_dirty, 32, 8),
	FIELD(fid_pool_stats, pipes_refused, 40, 8),
	FIELD(fid_pool_stats, pipes_small, 48, 8),
	FIELD(fid_pool_stats, pipe_bytes_idle, 56, 8),
	FIELD(fid_pool_stats, reserved, 64, 48),

	SIZE(fid_options, 64),
	FIELD(fid_options, size, 0, 8),
	FIELD(fid_options, flags, 8, 4),
	FIELD(fid_options, routes, 12, 4),
	FIELD(fid_options, require, 16, 4),
	FIELD(fid_options, timeout_ms, 20, 4),
	FIELD(fid_options, bytes_max, 24, 8),
	FIELD(fid_options, source_offset, 32, 8),
	FIELD(fid_options, sink_offset, 40, 8),
	FIELD(fid_options, pipe_bytes, 48, 8),
	FIELD(fid_options, pool, 56, 8),

	SIZE(fid_end, 48),
	FIELD(fid_end, kind, 0, 1),
	FIELD(fid_end, readable, 1, 1),
	FIELD(fid_end, writable, 2, 1),
	FIELD(fid_end, append, 3, 1),
	FIELD(fid_end, direct, 4, 1),
	FIELD(fid_end, nonblocking, 5, 1),
	FIELD(fid_end, remote, 6, 1),
	FIELD(fid_end, plain, 7, 1),
	FIELD(fid_end, page_cache, 8, 1),
	FIELD(fid_end, offset_given, 9, 1),
	FIELD(fid_end, is_null, 10, 1),
	FIELD(fid_end, reserved_bytes, 11, 5),
	FIELD(fid_end, device, 16, 8),
	FIELD(fid_end, inode, 24, 8),
	FIELD(fid_end, size, 32, 8),
	FIELD(fid_end, position, 40, 8),

	SIZE(fid_rung, 24),
	FIELD(fid_rung, method, 0, 1),
	FIELD(fid_rung, class_, 1, 1),
	FIELD(fid_rung, stable, 2, 1),
	FIELD(fid_rung, asks, 3, 1),
	FIELD(fid_rung, chunk_bytes, 4, 4),
	FIELD(fid_rung, pipe_bytes, 8, 4),
	FIELD(fid_rung, reason, 16, 8),

	SIZE(fid_ladder, 200),
	FIELD(fid_ladder, count, 0, 4),
	FIELD(fid_ladder, start_small, 4, 4),
	FIELD(fid_ladder, rung, 8, 192),

	SIZE(fid_memory_options, 32),
	FIELD(fid_memory_options, size, 0, 8),
	FIELD(fid_memory_options, flags, 8, 4),
	FIELD(fid_memory_options, mode, 12, 4),
	FIELD(fid_memory_options, bytes_max, 16, 8),
	FIELD(fid_memory_options, pool, 24, 8),

	SIZE(fid_fan_options, 48),
	FIELD(fid_fan_options, size, 0, 8),
	FIELD(fid_fan_options, flags, 8, 4),
	FIELD(fid_fan_options, routes, 12, 4),
	FIELD(fid_fan_options, bytes_max, 16, 8),
	FIELD(fid_fan_options, source_offset, 24, 8),
	FIELD(fid_fan_options, pipe_bytes, 32, 8),
	FIELD(fid_fan_options, pool, 40, 8),

	SIZE(fid_fan_sink_options, 40),
	FIELD(fid_fan_sink_options, size, 0, 8),
	FIELD(fid_fan_sink_options, flags, 8, 4),
	FIELD(fid_fan_sink_options, on_slow, 12, 4),
	FIELD(fid_fan_sink_options, stall_ms, 16, 4),
	FIELD(fid_fan_sink_options, spill, 20, 4),
	FIELD(fid_fan_sink_options, spill_bytes_max, 24, 8),
	FIELD(fid_fan_sink_options, sink_offset, 32, 8),

	SIZE(fid_fan_wait, 24),
	FIELD(fid_fan_wait, fds, 0, 8),
	FIELD(fid_fan_wait, count, 8, 8),
	FIELD(fid_fan_wait, timeout_ms, 16, 4),

	SIZE(fid_demotion, 16),
	FIELD(fid_demotion, from, 0, 1),
	FIELD(fid_demotion, to, 1, 1),
	FIELD(fid_demotion, call, 2, 1),
	FIELD(fid_demotion, side, 3, 1),
	FIELD(fid_demotion, error, 4, 4),
	FIELD(fid_demotion, at_bytes, 8, 8),

	SIZE(fid_receipt, 456),
	FIELD(fid_receipt, bytes_in, 0, 8),
	FIELD(fid_receipt, bytes_out, 8, 8),
	FIELD(fid_receipt, bytes_held, 16, 8),
	FIELD(fid_receipt, bytes_salvaged, 24, 8),
	FIELD(fid_receipt, by_class, 32, 32),
	FIELD(fid_receipt, by_method, 64, 64),
	FIELD(fid_receipt, calls, 128, 64),
	FIELD(fid_receipt, waits, 192, 8),
	FIELD(fid_receipt, elapsed_ns, 200, 8),
	FIELD(fid_receipt, pipe_bytes, 208, 8),
	FIELD(fid_receipt, pipe_bytes_asked, 216, 8),
	FIELD(fid_receipt, demotion, 224, 128),
	FIELD(fid_receipt, demotions, 352, 4),
	FIELD(fid_receipt, error, 356, 4),
	FIELD(fid_receipt, error_side, 360, 4),
	FIELD(fid_receipt, error_call, 364, 4),
	FIELD(fid_receipt, route, 368, 4),
	FIELD(fid_receipt, source_changed, 372, 4),
	FIELD(fid_receipt, require_unmet, 376, 4),
	FIELD(fid_receipt, stable, 380, 4),
	FIELD(fid_receipt, reason, 384, 8),
	FIELD(fid_receipt, reserved, 392, 64),
};

static const struct value values[] = {
	VALUE(FID_SIDE_NONE, 0),
	VALUE(FID_SIDE_SOURCE, 1),
	VALUE(FID_SIDE_SINK, 2),
	VALUE(FID_SIDE_FID, 3),
	VALUE(FID_BY_REFERENCE, 0),
	VALUE(FID_KERNEL_COPY, 1),
	VALUE(FID_USER_COPY, 2),
	VALUE(FID_CLASSES, 3),
	VALUE(FID_REFLINK, 0),
	VALUE(FID_COPY_FILE_RANGE, 1),
	VALUE(FID_SENDFILE, 2),
	VALUE(FID_SPLICE, 3),
	VALUE(FID_SPLICE_PIPE, 4),
	VALUE(FID_READ_WRITE, 5),
	VALUE(FID_TEE, 6),
	VALUE(FID_VMSPLICE, 7),
	VALUE(FID_METHODS, 8),
	VALUE(FID_CLASSES_MAX, 4),
	VALUE(FID_METHODS_MAX, 8),
	VALUE(FID_CALL_NONE, 0),
	VALUE(FID_CALL_FSTAT, 1),
	VALUE(FID_CALL_FCNTL, 2),
	VALUE(FID_CALL_LSEEK, 3),
	VALUE(FID_CALL_POLL, 4),
	VALUE(FID_CALL_PIPE, 5),
	VALUE(FID_CALL_MEMORY, 6),
	VALUE(FID_CALL_REFLINK, 7),
	VALUE(FID_CALL_COPY_FILE_RANGE, 8),
	VALUE(FID_CALL_SENDFILE, 9),
	VALUE(FID_CALL_SPLICE, 10),
	VALUE(FID_CALL_READ, 11),
	VALUE(FID_CALL_WRITE, 12),
	VALUE(FID_CALL_TEE, 13),
	VALUE(FID_CALL_VMSPLICE, 14),
	VALUE(FID_CALLS, 15),
	VALUE(FID_VMSPLICE_REFUSED, 0),
	VALUE(FID_VMSPLICE_COPIES, 1),
	VALUE(FID_VMSPLICE_BY_REFERENCE, 2),
	VALUE(FID_STABLE, 0x1),
	VALUE(FID_NOWAIT, 0x2),
	VALUE(FID_INTERRUPTIBLE, 0x4),
	VALUE(FID_LIMIT_ZERO, 0x8),
	VALUE(FID_SOURCE_OFFSET, 0x10),
	VALUE(FID_SINK_OFFSET, 0x20),
	VALUE(FID_GROW_PIPES, 0x40),
	VALUE(FID_FAN_STOP, 0x80),
	VALUE(FID_PACED, 0x100),
	VALUE(FID_NOSIGNAL, 0x10000),
	VALUE(FID_FAN_SINKS_MAX, 1024),
	VALUE(FID_SLOW_WAIT, 0),
	VALUE(FID_SLOW_DROP, 1),
	VALUE(FID_SLOW_SPILL, 2),
	VALUE(FID_MEMORY_COPY, 0),
	VALUE(FID_MEMORY_FRESH, 1),
	VALUE(FID_MEMORY_CONST, 2),
	VALUE(FID_MEMORY_LEND, 3),
	VALUE(FID_MEMORY_MODES, 4),
	VALUE(FID_MEMORY_RESERVE_MAX, 262144),
	VALUE(FID_REQUIRE_NOTHING, 0),
	VALUE(FID_REQUIRE_NO_USER_COPY, 1),
	VALUE(FID_REQUIRE_BY_REFERENCE, 2),
	VALUE(FID_DEMOTIONS_MAX, 8),
	VALUE(FID_DONE, 0),
	VALUE(FID_MORE, 1),
	VALUE(FID_WAIT, 2),
	VALUE(FID_PAUSED, 3),
	VALUE(FID_KIND_UNKNOWN, 0),
	VALUE(FID_KIND_REGULAR, 1),
	VALUE(FID_KIND_PIPE, 2),
	VALUE(FID_KIND_TCP, 3),
	VALUE(FID_KIND_UNIX, 4),
	VALUE(FID_KIND_SOCKET, 5),
	VALUE(FID_KIND_TERMINAL, 6),
	VALUE(FID_KIND_MEMORY, 7),
	VALUE(FID_KIND_CHARACTER, 8),
	VALUE(FID_KIND_BLOCK, 9),
	VALUE(FID_KIND_DIRECTORY, 10),
	VALUE(FID_KINDS, 11),
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

TEST(structures_keep_their_layout_on_64_bits)
{
	if (sizeof(void *) != 8)
		SKIP("pointers have %zu bytes here", sizeof(void *));
	for (size_t i = 0; i < COUNT(places); i++) {
		const struct place *place = &places[i];

		if (place->offset != place->wanted_offset ||
		    place->bytes != place->wanted_bytes)
			FAIL("%s: %zu bytes at %zu, and programs count on %zu at %zu",
			     place->what, place->bytes, place->offset, place->wanted_bytes,
			     place->wanted_offset);
	}
}

TEST(constants_keep_their_values)
{
	for (size_t i = 0; i < COUNT(values); i++)
		if (values[i].got != values[i].wanted)
			FAIL("%s is %llu, and programs count on %llu", values[i].what,
			     (unsigned long long)values[i].got,
			     (unsigned long long)values[i].wanted);
}

/* Padding at the end of such a structure would be bytes that a caller need not set. */
TEST(structures_that_tell_their_size_end_with_their_last_field)
{
	CHECK_EQUAL(sizeof(struct fid_options),
		    offsetof(struct fid_options, pool) + sizeof(struct fid_pool *));
	CHECK_EQUAL(sizeof(struct fid_pool_options),
		    offsetof(struct fid_pool_options, buffers_idle_max) + sizeof(uint32_t));
	CHECK_EQUAL(sizeof(struct fid_memory_options),
		    offsetof(struct fid_memory_options, pool) + sizeof(struct fid_pool *));
	CHECK_EQUAL(sizeof(struct fid_fan_options),
		    offsetof(struct fid_fan_options, pool) + sizeof(struct fid_pool *));
	CHECK_EQUAL(sizeof(struct fid_fan_sink_options),
		    offsetof(struct fid_fan_sink_options, sink_offset) + sizeof(uint64_t));
	CHECK_EQUAL(offsetof(struct fid_options, size), 0);
	CHECK_EQUAL(offsetof(struct fid_pool_options, size), 0);
}
