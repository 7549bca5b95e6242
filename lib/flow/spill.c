/* SPDX-License-Identifier: MIT */
/*
 * A ring of bytes in a file, before a sink that falls behind. Bytes are read from the file into
 * a buffer and never spliced out of it: a pipe or socket would keep references to pages that
 * the ring writes again.
 */
#include "flow/fan_state.h"
#include "flow/judge.h"
#include "flow/machine.h"

#include <errno.h>
#include <stdlib.h>

enum { SPILL_BYTES = 1 << 30 };

static bool is_same_file(const struct fid_end *one, const struct fid_end *other)
{
	return one->device == other->device && one->inode == other->inode;
}

int fid_spill_new(struct fid_fan *fan, struct fan_sink *sink,
		  const struct fid_fan_sink_options *options)
{
	struct fid_options into = {
		.flags = FID_SINK_OFFSET,
		.pool = fan->pool,
	};
	struct fan_spill *spill = calloc(1, sizeof(*spill));
	int got;

	if (!spill)
		return -ENOMEM;
	spill->file = options->spill;
	spill->bytes_max = options->spill_bytes_max ? options->spill_bytes_max : SPILL_BYTES;
	got = fid_flow_new_fed(fan->kernel, &spill->in, options->spill, &into, false);
	if (got == 0 && (spill->in->sink_end.kind != FID_KIND_REGULAR ||
			 !spill->in->sink_end.readable || spill->bytes_max > INT64_MAX))
		got = -EINVAL;
	if (got == -ESPIPE) /* no file */
		got = -EINVAL;
	/* What is written to it may not be what is read, or what was delivered. */
	if (got == 0 && (is_same_file(&spill->in->sink_end, &fan->source_end) ||
			 is_same_file(&spill->in->sink_end, &sink->flow->sink_end)))
		got = -EINVAL;
	if (got < 0) {
		fid_spill_free(spill);
		return got;
	}
	sink->spill = spill;
	return 0;
}

void fid_spill_free(struct fan_spill *spill)
{
	if (!spill)
		return;
	fid_flow_free(spill->in);
	free(spill);
}

/*
 * What was lent to the sink and not taken by it goes the new way, since whoever lends wants his
 * buffer back.
 */
static void take_back(struct fan_sink *sink)
{
	struct fid_flow *flow = sink->flow;
	size_t bytes = flow->buffer_held;

	if (!flow->buffer_is_lent)
		return;
	sink->fed -= bytes;
	flow->receipt.bytes_in -= bytes;
	flow->receipt.bytes_held -= bytes;
	flow->buffer_held = 0;
	fid_flow_release(flow);
	fid_flow_assert_account(flow);
}

bool fid_spill_begin(struct fid_fan *fan, struct fan_sink *sink)
{
	struct fan_spill *spill = sink->spill;

	if (!spill || spill->active || spill->broken)
		return false;
	spill->active = true;
	sink->full = false;
	take_back(sink);
	return true;
}

/* What was given to the file and is or will be in it. Salvaged on the way it never comes there.
 */
static uint64_t bytes_put(const struct fan_spill *spill)
{
	return spill->in->receipt.bytes_in - spill->in->receipt.bytes_salvaged;
}

uint64_t fid_spill_room(struct fan_spill *spill)
{
	const struct fid_receipt *in = &spill->in->receipt;
	uint64_t put = bytes_put(spill);
	uint64_t at = put % spill->bytes_max;
	uint64_t room = spill->bytes_max - (put - spill->read);

	if (spill->broken)
		return 0;
	/* At the end of the ring the file's offset starts anew, once all is there. */
	if (at == 0 && put > 0 && spill->in->sink_at != 0) {
		if (in->bytes_held > 0)
			return 0;
		spill->in->sink_at = 0;
	}
	return room < spill->bytes_max - at ? room : spill->bytes_max - at;
}

uint64_t fid_spill_bytes(const struct fan_spill *spill)
{
	return spill ? bytes_put(spill) - spill->read : 0;
}

ssize_t fid_spill_read(struct fid_fan *fan, struct fan_spill *spill, void *to, size_t bytes)
{
	uint64_t at = spill->read % spill->bytes_max;
	uint64_t there = spill->in->receipt.bytes_out - spill->read;
	ssize_t got;

	if (there == 0)
		return fid_flow_salvage(spill->in, to, bytes);
	bytes = at_most(there, bytes);
	bytes = at_most(spill->bytes_max - at, bytes);
	do
		got = fan->kernel->read(fan->kernel, spill->file, to, bytes, (int64_t)at);
	while (got == -EINTR);
	if (got == 0) /* somebody has cut the file */
		return -EIO;
	if (got > 0)
		spill->read += (uint64_t)got;
	return got;
}

/* The next piece from the file into the sink's own flow. */
static bool refill(struct fid_fan *fan, struct fan_sink *sink)
{
	struct fid_flow *flow = sink->flow;
	ssize_t got;

	if (!fid_flow_take_buffer(flow)) {
		fid_flow_fail(flow, -ENOMEM, FID_SIDE_FID, FID_CALL_MEMORY);
		return true;
	}
	got = fid_spill_read(fan, sink->spill, flow->buffer, FID_BUFFER_BYTES);
	if (got < 0) {
		fid_flow_fail(flow, (int)got, FID_SIDE_FID, FID_CALL_READ);
		return true;
	}
	flow->buffer_at = 0;
	flow->buffer_held = (size_t)got;
	fid_flow_taken(flow, (size_t)got);
	sink->idle = false;
	return got > 0;
}

/* The file failed. What is on the way into it is kept and delivered after what is in it. */
static void break_file(struct fan_sink *sink, int error)
{
	struct fid_receipt *receipt = &sink->flow->receipt;

	sink->spill->broken = true;
	if (receipt->demotions < FID_DEMOTIONS_MAX)
		receipt->demotion[receipt->demotions++] = (struct fid_demotion){
			.from = FID_SPLICE_PIPE,
			.to = FID_READ_WRITE,
			.call = (uint8_t)sink->spill->in->receipt.error_call,
			.side = FID_SIDE_FID,
			.error = error,
			.at_bytes = sink->fed,
		};
}

bool fid_spill_pump(struct fid_fan *fan, struct fan_sink *sink)
{
	struct fan_spill *spill = sink->spill;
	struct fid_flow *in = spill->in;
	bool moved = false;

	if (!spill->active)
		return false;
	if (in->receipt.bytes_held && !in->ended) {
		uint64_t before = in->receipt.bytes_out;
		int result = fid_flow_advance(in);

		if (result < 0)
			break_file(sink, result);
		moved = result < 0 || in->receipt.bytes_out > before;
	}
	if (sink->flow->receipt.bytes_held)
		return moved;
	if (spill->read < in->receipt.bytes_out || (spill->broken && in->receipt.bytes_held))
		return refill(fan, sink) || moved;
	/* Nothing is left in the file or before it: straight to the sink again. */
	if (!in->receipt.bytes_held) {
		spill->active = false;
		sink->full = false;
		moved = true;
	}
	return moved;
}
