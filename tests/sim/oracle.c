/* SPDX-License-Identifier: MIT */
/*
 * What a sink must receive: the source's stream, byte by byte, when bytes come in and again
 * when somebody reads them there.
 */
#include "sim.h"

#include <fcntl.h>
#include <stdio.h>

void sim_expect(struct sim *sim, int fd, uint64_t position)
{
	struct sim_fd *descriptor = &sim->fd[fd - SIM_FD_FIRST];
	struct sim_object *object = sim_far(sim, fd);

	object->oracle = (struct sim_oracle){
		.is_on = true,
		.first = position,
		.accepted = position,
		.drained = position,
		.offset_first = descriptor->flags & O_APPEND ? object->content.size
							     : descriptor->offset,
	};
}

uint64_t sim_received(struct sim *sim, int fd)
{
	struct sim_object *object = sim_far(sim, fd);

	return object->oracle.accepted - object->oracle.first;
}

static void describe(const struct sim_extent *extent, char *text, size_t size)
{
	static const char *const names[] = {"the stream", "the file", "memory", "strange bytes",
					    "zeros"};

	if (extent->what == SIM_STREAM && extent->which == SIM_STREAM_LATER)
		snprintf(text, size, "what was written later at %llu",
			 (unsigned long long)extent->at);
	else if (extent->what == SIM_STREAM || extent->what == SIM_FILE)
		snprintf(text, size, "%s at %llu", names[extent->what],
			 (unsigned long long)extent->at);
	else
		snprintf(text, size, "%s", names[extent->what]);
}

/*
 * Where bytes that lie in memory are not those of the stream any more: how many of them are the
 * same. A position of a file says what its bytes are unless they are somebody's memory.
 */
static uint64_t same_bytes(struct sim *sim, const struct sim_extent *extent, uint64_t bytes,
			   uint64_t position)
{
	struct sim_extent rest = *extent;
	uint64_t same = 0;

	while (same < bytes) {
		struct sim_extent part = sim_extent_resolve(sim, &rest);
		uint64_t alike = 0;

		if (part.bytes > bytes - same)
			part.bytes = bytes - same;
		if (part.what == SIM_MEMORY || part.what == SIM_LITERAL)
			alike = sim_stream_differs(sim, SIM_STREAM_SOURCE, position + same,
						   (const void *)(uintptr_t)part.at,
						   (size_t)part.bytes);
		else if (part.what == SIM_STREAM && part.at == position + same)
			alike = part.bytes;
		same += alike;
		if (alike < part.bytes)
			break;
		sim_extent_skip(&rest, part.bytes);
	}
	return same;
}

static bool is_in_memory(const struct sim *sim, const struct sim_extent *extent)
{
	return extent->what == SIM_MEMORY || extent->what == SIM_LITERAL ||
	       (extent->what == SIM_FILE && sim->object[extent->which].is_memory);
}

/* Bytes come into a sink: they must be the next ones, whatever way they come. */
void sim_oracle_accept(struct sim *sim, struct sim_object *object,
		       const struct sim_extent *extent, uint64_t bytes, uint64_t offset)
{
	struct sim_oracle *oracle = &object->oracle;
	char text[64];

	if (!oracle->is_on || !bytes)
		return;
	if (is_in_memory(sim, extent)) {
		uint64_t same = same_bytes(sim, extent, bytes, oracle->accepted);

		if (same < bytes)
			sim_fail(sim,
				 "the sink gets memory that differs from the stream at %llu",
				 (unsigned long long)oracle->accepted + same);
	} else if ((extent->what != SIM_STREAM && extent->what != SIM_FILE) ||
		   extent->at != oracle->accepted) {
		describe(extent, text, sizeof(text));
		sim_fail(sim, "the sink expects byte %llu of the stream and gets %s",
			 (unsigned long long)oracle->accepted, text);
	}
	if (object->kind == SIM_REGULAR &&
	    offset - oracle->offset_first != oracle->accepted - oracle->first)
		sim_fail(sim, "byte %llu of the stream is written to offset %llu, not %llu",
			 (unsigned long long)oracle->accepted, (unsigned long long)offset,
			 (unsigned long long)(oracle->offset_first + oracle->accepted -
					      oracle->first));
	oracle->accepted += bytes;
}

static void changed(struct sim *sim, struct sim_oracle *oracle, uint64_t position,
		    uint64_t bytes)
{
	oracle->changed += bytes;
	sim->changed += bytes;
	if (sim->stable)
		sim_fail(sim,
			 "byte %llu changed after it was delivered, and a stable copy was "
			 "asked for",
			 (unsigned long long)position);
}

/* The sink's peer reads them: they must still be what was delivered. */
void sim_oracle_drain(struct sim *sim, struct sim_object *object, struct sim_extent extent)
{
	struct sim_oracle *oracle = &object->oracle;
	char text[64];

	while (extent.bytes) {
		struct sim_extent part = sim_extent_resolve(sim, &extent);

		if (is_in_memory(sim, &part)) {
			uint64_t same = same_bytes(sim, &part, part.bytes, oracle->drained);

			oracle->drained += same;
			sim_extent_skip(&extent, same);
			if (same == part.bytes)
				continue;
			changed(sim, oracle, oracle->drained++, 1);
			sim_extent_skip(&extent, 1);
			continue;
		}
		if (part.what != SIM_STREAM || part.at != oracle->drained) {
			describe(&part, text, sizeof(text));
			sim_fail(sim, "the peer expects byte %llu of the stream and reads %s",
				 (unsigned long long)oracle->drained, text);
		}
		if (part.which == SIM_STREAM_LATER)
			changed(sim, oracle, part.at, part.bytes);
		oracle->drained += part.bytes;
		sim_extent_skip(&extent, part.bytes);
	}
}
