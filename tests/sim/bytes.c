/* SPDX-License-Identifier: MIT */
/*
 * Streams, extents of them, and the contents of files.
 *
 * Byte p of a stream is looked up in one table of random bytes: each block of SIM_BLOCK bytes
 * begins at a place in the table that is a hash of (seed, stream, block). So a stream is
 * written and compared at the speed of memcpy and memcmp, it has no period, and a byte that is
 * missing, doubled or out of order shows within a few bytes.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

static const unsigned char *stream_block(const struct sim *sim, uint32_t stream, uint64_t block)
{
	uint64_t z = sim->seed ^ (block + 1) * 0x9e3779b97f4a7c15u ^ (uint64_t)stream << 32;

	z = (z ^ (z >> 31)) * 0xbf58476d1ce4e5b9u;
	return sim->table + ((z >> 40) & (SIM_BLOCK - 1));
}

void sim_stream_fill(const struct sim *sim, uint32_t stream, uint64_t position, void *to,
		     size_t bytes)
{
	unsigned char *target = to;

	while (bytes) {
		size_t within = (size_t)(position & (SIM_BLOCK - 1));
		size_t part = SIM_BLOCK - within;

		if (part > bytes)
			part = bytes;
		memcpy(target, stream_block(sim, stream, position / SIM_BLOCK) + within, part);
		target += part;
		position += part;
		bytes -= part;
	}
}

size_t sim_stream_differs(const struct sim *sim, uint32_t stream, uint64_t position,
			  const void *from, size_t bytes)
{
	const unsigned char *source = from;
	size_t done = 0;

	while (done < bytes) {
		uint64_t at = position + done;
		size_t within = (size_t)(at & (SIM_BLOCK - 1));
		size_t part = SIM_BLOCK - within;
		const unsigned char *wanted =
			stream_block(sim, stream, at / SIM_BLOCK) + within;

		if (part > bytes - done)
			part = bytes - done;
		if (memcmp(source + done, wanted, part) != 0)
			for (size_t i = 0; i < part; i++)
				if (source[done + i] != wanted[i])
					return done + i;
		done += part;
	}
	return bytes;
}

/* Consecutive literals are adjacent in memory, so that writes to a pipe's last page join. */
void *sim_literal(struct sim *sim, const void *from, size_t bytes)
{
	struct sim_block *block = sim->literals;
	void *copy;

	if (!block || block->room - block->used < bytes) {
		size_t room = bytes > 1 << 20 ? bytes : 1 << 20;

		block = malloc(sizeof(*block) + room);
		if (!block)
			abort();
		*block = (struct sim_block){.next = sim->literals, .room = room};
		sim->literals = block;
	}
	copy = block->bytes + block->used;
	memcpy(copy, from, bytes);
	block->used += bytes;
	return copy;
}

void sim_literals_free(struct sim *sim)
{
	while (sim->literals) {
		struct sim_block *next = sim->literals->next;

		free(sim->literals);
		sim->literals = next;
	}
}

void sim_extent_skip(struct sim_extent *extent, uint64_t bytes)
{
	if (extent->what != SIM_ZEROS)
		extent->at += bytes;
	extent->phase = (uint16_t)((extent->phase + bytes) % SIM_PAGE);
	extent->bytes -= bytes;
}

struct sim_extent sim_extent_resolve(struct sim *sim, const struct sim_extent *extent)
{
	struct sim_extent found;

	if (extent->what != SIM_FILE)
		return *extent;
	found = sim_content_at(&sim->object[extent->which].content, extent->at, extent->bytes);
	found.phase = extent->phase;
	return found;
}

struct sim_extent sim_extent_own(struct sim *sim, const struct sim_extent *extent)
{
	struct sim_extent found = sim_extent_resolve(sim, extent);

	if (found.what != SIM_MEMORY)
		return found;
	found.what = SIM_LITERAL;
	found.which = 0;
	found.at = (uintptr_t)sim_literal(sim, (const void *)(uintptr_t)found.at,
					  (size_t)found.bytes);
	return found;
}

void sim_extent_fill(struct sim *sim, const struct sim_extent *extent, void *to)
{
	struct sim_extent rest = *extent;
	unsigned char *target = to;

	while (rest.bytes) {
		struct sim_extent part = sim_extent_resolve(sim, &rest);
		size_t bytes = (size_t)part.bytes;

		if (part.what == SIM_STREAM)
			sim_stream_fill(sim, part.which, part.at, target, bytes);
		else if (part.what == SIM_ZEROS)
			memset(target, 0, bytes);
		else
			memcpy(target, (const void *)(uintptr_t)part.at, bytes);
		target += bytes;
		sim_extent_skip(&rest, bytes);
	}
}

static bool joins(const struct sim_extent *before, const struct sim_extent *after)
{
	return before->what == after->what && before->which == after->which &&
	       (before->what == SIM_ZEROS || before->at + before->bytes == after->at);
}

static void insert_piece(struct sim_content *content, uint32_t index, uint64_t offset,
			 const struct sim_extent *extent)
{
	if (content->count == content->room) {
		content->room = content->room ? 2 * content->room : 8;
		content->piece =
			realloc(content->piece, content->room * sizeof(*content->piece));
		if (!content->piece)
			abort();
	}
	memmove(content->piece + index + 1, content->piece + index,
		(content->count - index) * sizeof(*content->piece));
	content->piece[index].offset = offset;
	content->piece[index].extent = *extent;
	content->count++;
}

/* Makes a boundary between pieces at offset; returns the index of the piece that begins there.
 */
static uint32_t split_at(struct sim_content *content, uint64_t offset)
{
	uint32_t i = content->count;

	while (i > 0 && content->piece[i - 1].offset >= offset)
		i--;
	if (i > 0) {
		struct sim_piece *before = &content->piece[i - 1];
		uint64_t kept = offset - before->offset;
		struct sim_extent rest = before->extent;

		if (kept < rest.bytes) {
			before->extent.bytes = kept;
			sim_extent_skip(&rest, kept);
			insert_piece(content, i, offset, &rest);
		}
	}
	return i;
}

static void append(struct sim_content *content, const struct sim_extent *extent)
{
	struct sim_piece *last = content->count ? &content->piece[content->count - 1] : NULL;

	if (last && joins(&last->extent, extent))
		last->extent.bytes += extent->bytes;
	else
		insert_piece(content, content->count, content->size, extent);
	content->size += extent->bytes;
}

void sim_content_write(struct sim_content *content, uint64_t offset,
		       const struct sim_extent *extent)
{
	uint64_t end = offset + extent->bytes;
	uint32_t first, last;

	if (!extent->bytes)
		return;
	if (offset > content->size)
		append(content, &(struct sim_extent){.what = SIM_ZEROS,
						     .bytes = offset - content->size});
	if (offset == content->size) {
		append(content, extent);
		return;
	}
	first = split_at(content, offset);
	last = end >= content->size ? content->count : split_at(content, end);
	memmove(content->piece + first, content->piece + last,
		(content->count - last) * sizeof(*content->piece));
	content->count -= last - first;
	insert_piece(content, first, offset, extent);
	if (end > content->size)
		content->size = end;
}

struct sim_extent sim_content_at(const struct sim_content *content, uint64_t offset,
				 uint64_t bytes)
{
	uint32_t i = content->count;
	struct sim_extent found = {.what = SIM_ZEROS, .bytes = bytes};
	uint64_t skipped;

	/* What was cut off a file since reads as zeros through an old reference. */
	if (offset >= content->size)
		return found;
	while (content->piece[i - 1].offset > offset)
		i--;
	found = content->piece[i - 1].extent;
	skipped = offset - content->piece[i - 1].offset;
	sim_extent_skip(&found, skipped);
	if (found.bytes > bytes)
		found.bytes = bytes;
	return found;
}

void sim_content_clear(struct sim_content *content)
{
	free(content->piece);
	*content = (struct sim_content){0};
}
