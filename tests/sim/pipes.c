/* SPDX-License-Identifier: MIT */
/*
 * Queues of extents: pipes, whose limit is slots, and sockets, whose limit is bytes.
 *
 * An extent stands for a run of slots. It begins somewhere in its first page (phase), so it
 * takes as many slots as it touches pages; a splice of an unaligned piece of a file takes one
 * more than its bytes need, as the kernel does.
 */
#include "sim.h"

#include <assert.h>
#include <stdlib.h>

static uint32_t slots_of(const struct sim_extent *extent)
{
	return (uint32_t)((extent->phase + extent->bytes + SIM_PAGE - 1) / SIM_PAGE) -
	       extent->joined;
}

static struct sim_extent *entry(const struct sim_object *object, uint32_t number)
{
	return &object->ring.extent[(object->ring.head + number) % SIM_RING];
}

static struct sim_extent *last_entry(const struct sim_object *object)
{
	return object->ring.count ? entry(object, object->ring.count - 1) : NULL;
}

static void push(struct sim_object *object, const struct sim_extent *extent)
{
	struct sim_ring *ring = &object->ring;

	assert(ring->count < SIM_RING);
	if (!ring->extent) {
		ring->extent = malloc(SIM_RING * sizeof(*ring->extent));
		if (!ring->extent)
			abort();
	}
	*entry(object, ring->count) = *extent;
	ring->count++;
	ring->bytes += extent->bytes;
}

void sim_ring_clear(struct sim_object *object)
{
	object->ring.head = 0;
	object->ring.count = 0;
	object->ring.bytes = 0;
	object->slots_used = 0;
}

/*
 * Lists what a call can take: at most bytes of it, cut where a slot or a segment ends. A
 * segment of segment_bytes begins at each multiple of it in the stream; 0 means that there are
 * none.
 */
void sim_ring_peek(const struct sim_object *object, uint64_t bytes, uint64_t segment_bytes,
		   struct sim_run *run)
{
	run->count = 0;
	run->bytes = 0;
	for (uint32_t i = 0; i < object->ring.count && bytes; i++) {
		struct sim_extent rest = *entry(object, i);
		bool is_shared = i + 1 < object->ring.count && entry(object, i + 1)->joined;

		while (rest.bytes && bytes) {
			struct sim_extent *part = &run->extent[run->count];

			if (run->count == SIM_RUN)
				return;
			*part = rest;
			part->joined = rest.joined && run->count > 0;
			rest.joined = false;
			if (segment_bytes) {
				uint64_t left = segment_bytes - rest.at % segment_bytes;

				if (part->bytes > left)
					part->bytes = left;
				part->phase = 0;
			}
			if (part->bytes > bytes)
				part->bytes = bytes;
			part->merges &= part->bytes == rest.bytes && !is_shared;
			run->bytes += part->bytes;
			bytes -= part->bytes;
			sim_extent_skip(&rest, part->bytes);
			run->count++;
		}
	}
}

void sim_ring_drop(struct sim_object *object, uint64_t bytes)
{
	struct sim_ring *ring = &object->ring;

	assert(bytes <= ring->bytes);
	while (bytes) {
		struct sim_extent *first = entry(object, 0);
		uint64_t part = first->bytes < bytes ? first->bytes : bytes;
		uint32_t before = slots_of(first);

		sim_extent_skip(first, part);
		ring->bytes -= part;
		bytes -= part;
		if (first->bytes) {
			object->slots_used -= before - slots_of(first);
			continue;
		}
		object->slots_used -= before;
		ring->head = (ring->head + 1) % SIM_RING;
		ring->count--;
		first = entry(object, 0);
		if (ring->count && first->joined) {
			first->joined = false;
			object->slots_used++;
		}
	}
	if (object->kind != SIM_FIFO)
		object->slots_used = 0;
}

bool sim_pipe_is_full(const struct sim_object *object)
{
	return object->slots_used >= object->slots || object->ring.count == SIM_RING;
}

static bool follows(const struct sim_extent *before, const struct sim_extent *after)
{
	return before->what == after->what && before->which == after->which &&
	       before->at + before->bytes == after->at;
}

/* Takes slots for as much of extent as there is room for. */
static uint64_t put_slots(struct sim_object *object, struct sim_extent extent)
{
	struct sim_extent *last = last_entry(object);
	uint64_t room;

	if (object->ring.count == SIM_RING || (sim_pipe_is_full(object) && !extent.joined))
		return 0;
	room = (uint64_t)(object->slots - object->slots_used + extent.joined) * SIM_PAGE -
	       extent.phase;
	if (extent.bytes > room)
		extent.bytes = room;
	object->slots_used += slots_of(&extent);
	/* Runs of whole pages become one entry; the slots are the same. */
	if (last && last->merges == extent.merges && extent.phase == 0 && !extent.joined &&
	    (last->phase + last->bytes) % SIM_PAGE == 0 && follows(last, &extent)) {
		last->bytes += extent.bytes;
		object->ring.bytes += extent.bytes;
	} else {
		push(object, &extent);
	}
	return extent.bytes;
}

uint64_t sim_pipe_put(struct sim_object *object, const struct sim_run *run, bool moves)
{
	uint64_t put = 0;

	for (uint32_t i = 0; i < run->count; i++) {
		struct sim_extent extent = run->extent[i];
		uint64_t part;

		extent.merges &= moves;
		part = put_slots(object, extent);
		put += part;
		if (part < extent.bytes)
			break;
	}
	return put;
}

/*
 * fs/pipe.c, pipe_write(): what exceeds whole pages (write_bytes modulo the page size) goes to
 * the last page if all of it fits there, and the rest to new pages.
 */
uint64_t sim_pipe_write(struct sim_object *object, struct sim_extent extent,
			uint64_t write_bytes)
{
	struct sim_extent *last = last_entry(object);
	uint64_t head = write_bytes % SIM_PAGE;
	uint64_t put = 0;

	extent.phase = 0;
	extent.merges = true;
	if (head && last && last->merges && head <= extent.bytes) {
		uint64_t filled = (last->phase + last->bytes - 1) % SIM_PAGE + 1;
		struct sim_extent joined = extent;

		if (filled + head <= SIM_PAGE) {
			joined.bytes = head;
			joined.phase = (uint16_t)filled;
			joined.joined = true;
			if (follows(last, &extent)) {
				last->bytes += head;
				object->ring.bytes += head;
			} else if (put_slots(object, joined) < head) {
				return 0;
			}
			put = head;
			sim_extent_skip(&extent, head);
			extent.phase = 0;
		}
	}
	if (extent.bytes)
		put += put_slots(object, extent);
	return put;
}

uint64_t sim_queue_room(const struct sim_object *object)
{
	if (object->ring.count == SIM_RING || object->ring.bytes >= object->queue_bytes_max)
		return 0;
	return object->queue_bytes_max - object->ring.bytes;
}

uint64_t sim_queue_put(struct sim_object *object, const struct sim_run *run)
{
	uint64_t put = 0;

	for (uint32_t i = 0; i < run->count; i++) {
		struct sim_extent extent = run->extent[i];
		struct sim_extent *last = last_entry(object);
		uint64_t room = sim_queue_room(object);
		bool is_whole = extent.bytes <= room;

		if (!room)
			break;
		if (!is_whole)
			extent.bytes = room;
		extent.phase = 0;
		if (last && follows(last, &extent)) {
			last->bytes += extent.bytes;
			object->ring.bytes += extent.bytes;
		} else {
			push(object, &extent);
		}
		put += extent.bytes;
		if (!is_whole)
			break;
	}
	return put;
}
