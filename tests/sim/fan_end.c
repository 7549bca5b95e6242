/* SPDX-License-Identifier: MIT */
/*
 * How a fan and its sinks may have ended, and what salvage hands over then.
 */
#include "fan_scene.h"

#include "test.h"

#include <errno.h>

enum { SALVAGE_BYTES = 3000 };

typedef unsigned long long ull;

/* Why a sink may have ended, as the scene knows it. */
static void check_leg_error(const struct fan_scene *scene, const struct fan_leg *leg)
{
	const struct fid_receipt *receipt = &leg->last;
	bool may_be = false;

	if (scene->faults & FAN_FAULT_INJECTED)
		return;
	switch (receipt->error) {
	case -EPIPE:
	case -ECONNRESET:
		may_be = leg->faults & FAN_FAULT_PEER && leg->kind != SIM_REGULAR;
		break;
	case -EIO:
		may_be = (leg->faults & FAN_FAULT_PEER && leg->kind == SIM_TERMINAL) ||
			 leg->faults & FAN_FAULT_SPILL;
		break;
	case -ENOSPC:
		may_be = leg->faults & FAN_FAULT_ROOM || leg->kind == SIM_FULL;
		break;
	case -ETIMEDOUT: /* check_drops() has looked at it */
		may_be = true;
		break;
	default:
		break;
	}
	FAN_EXPECT(may_be, "sink %d ends with %s of %s for no reason", leg->number,
		   fid_error_name(receipt->error),
		   fid_call_name((enum fid_call)receipt->error_call));
	FAN_EXPECT(receipt->error_side == FID_SIDE_SINK ||
			   (leg->faults & FAN_FAULT_SPILL && receipt->error == -EIO),
		   "sink %d ends with %s, and the %s is blamed", leg->number,
		   fid_error_name(receipt->error),
		   fid_side_name((enum fid_side)receipt->error_side));
	FAN_EXPECT(fid_receipt_text(receipt, NULL, 0) > 0, "no text");
}

/* A sink that did not fail has had all there was. */
static void check_leg_ending(const struct fan_scene *scene, const struct fan_leg *leg)
{
	const struct fid_receipt *receipt = &leg->last;

	if (fan_leg_is_dead(leg)) {
		check_leg_error(scene, leg);
		return;
	}
	if (scene->result == 0)
		FAN_EXPECT(receipt->bytes_out + receipt->bytes_salvaged + leg->skipped ==
				   fan_wanted_bytes(scene),
			   "done, and sink %d has had %llu of %llu bytes", leg->number,
			   (ull)receipt->bytes_out, (ull)fan_wanted_bytes(scene));
	else if (scene->last.error_side == FID_SIDE_SOURCE && !scene->sim->fail_sticky)
		FAN_EXPECT(receipt->bytes_out + receipt->bytes_salvaged + leg->skipped ==
				   scene->last.bytes_in,
			   "the source failed after %llu bytes, and sink %d has had %llu",
			   (ull)scene->last.bytes_in, leg->number, (ull)receipt->bytes_out);
	else
		return;
	FAN_EXPECT(receipt->bytes_held == 0, "it is over, and sink %d holds %llu bytes",
		   leg->number, (ull)receipt->bytes_held);
}

static bool is_same_error(const struct fid_receipt *one, const struct fid_receipt *other)
{
	return one->error == other->error && one->error_side == other->error_side &&
	       one->error_call == other->error_call;
}

/* Why the fan may have ended with an error. */
static void check_fan_error(const struct fan_scene *scene)
{
	const struct fid_receipt *receipt = &scene->last;
	unsigned dead = fan_dead_legs(scene), named = 0;

	if (scene->faults & FAN_FAULT_INJECTED)
		return;
	for (unsigned i = 0; i < scene->legs; i++)
		named += is_same_error(&scene->leg[i].last, receipt);
	if (receipt->error_side == FID_SIDE_SOURCE) {
		FAN_EXPECT(scene->faults & FAN_FAULT_SOURCE,
			   "the source is blamed with %s of %s", fid_error_name(receipt->error),
			   fid_call_name((enum fid_call)receipt->error_call));
		return;
	}
	FAN_EXPECT(named, "the fan ends with %s of %s, which no sink had",
		   fid_error_name(receipt->error),
		   fid_call_name((enum fid_call)receipt->error_call));
	FAN_EXPECT(dead == scene->legs || scene->options.flags & FID_FAN_STOP,
		   "the fan ends with %s of a sink, and %u of %u sinks live",
		   fid_error_name(receipt->error), scene->legs - dead, scene->legs);
}

static void check_ending(const struct fan_scene *scene)
{
	const struct fid_receipt *receipt = &scene->last;

	for (unsigned i = 0; i < scene->legs; i++)
		if (scene->leg[i].number >= 0)
			check_leg_ending(scene, &scene->leg[i]);
	if (scene->result < 0) {
		check_fan_error(scene);
		return;
	}
	FAN_EXPECT(receipt->bytes_in == fan_wanted_bytes(scene),
		   "done after %llu of %llu bytes", (ull)receipt->bytes_in,
		   (ull)fan_wanted_bytes(scene));
	FAN_EXPECT(receipt->bytes_held == 0, "done, and %llu bytes are held",
		   (ull)receipt->bytes_held);
	FAN_EXPECT(!(scene->faults & FAN_FAULT_SOURCE) || scene->faults & FAN_FAULT_INJECTED ||
			   fan_is_limited(scene),
		   "done, and the source had an error");
}

/* What salvage hands over for a sink, or with number -1, is what follows from position on. */
static uint64_t salvage(struct fan_scene *scene, int number, uint64_t position, uint64_t held)
{
	struct sim *sim = scene->sim;
	unsigned char buffer[SALVAGE_BYTES];
	unsigned failures = 0;
	uint64_t all = 0;

	/* What is always refused is not what salvage is tested with. */
	if (sim->fail_sticky)
		sim->fail_at = 0;
	while (all < held) {
		size_t capacity = 1 + (size_t)(sim_random(sim) % sizeof(buffer));
		ssize_t got;
		size_t same;

		sim->no_sleep = sim->no_poll_sleep = true;
		sim->idle_calls = 0;
		got = fid_fan_salvage(scene->fan, number, buffer, capacity);
		/* What failed once may be asked again: nothing is lost. */
		if (got < 0 && scene->faults & FAN_FAULT_INJECTED && failures++ == 0)
			continue;
		/* A spill file that cannot be read cannot be salvaged either. */
		if (got == -EIO && number >= 0 && scene->leg[number].faults & FAN_FAULT_SPILL)
			return all;
		FAN_EXPECT(got > 0, "salvage(%d) of %llu bytes returns %lld", number,
			   (ull)(held - all), (long long)got);
		FAN_EXPECT((size_t)got <= capacity, "salvage returns more than it was given");
		same = sim_stream_differs(sim, SIM_STREAM_SOURCE, position + all, buffer,
					  (size_t)got);
		FAN_EXPECT(same == (size_t)got, "salvage(%d) hands over a wrong byte at %llu",
			   number, (ull)(position + all + same));
		all += (uint64_t)got;
	}
	FAN_EXPECT(fid_fan_salvage(scene->fan, number, buffer, sizeof(buffer)) == 0,
		   "salvage(%d) finds more than was held", number);
	return all;
}

void fan_salvage_leg(struct fan_scene *scene, struct fan_leg *leg)
{
	leg->salvaged += salvage(scene, leg->number,
				 scene->first + leg->last.bytes_out + leg->last.bytes_salvaged +
					 leg->skipped,
				 leg->last.bytes_held);
	fan_take_receipts(scene, scene->sim->now_ns);
	fan_check_account(scene);
	FAN_EXPECT(leg->last.bytes_held == 0 || leg->faults & FAN_FAULT_SPILL,
		   "salvage leaves %llu bytes of sink %d", (ull)leg->last.bytes_held,
		   leg->number);
}

/* What the fan took and a sink that lives has not had. */
static void salvage_fan(struct fan_scene *scene)
{
	for (unsigned i = 0; i < scene->legs; i++) {
		const struct fan_leg *leg = &scene->leg[i];

		FAN_EXPECT(leg->number < 0 || fan_leg_is_dead(leg) ||
				   leg->last.bytes_in + leg->skipped >=
					   scene->last.bytes_out + scene->passed,
			   "salvage begins at %llu, and sink %d has had %llu bytes",
			   (ull)scene->last.bytes_out, leg->number, (ull)leg->last.bytes_in);
	}
	scene->salvaged += salvage(scene, -1,
				   scene->first + scene->last.bytes_out + scene->salvaged,
				   scene->last.bytes_held);
	fan_take_receipts(scene, scene->sim->now_ns);
	fan_check_account(scene);
	FAN_EXPECT(scene->last.bytes_held == 0, "salvage leaves %llu bytes",
		   (ull)scene->last.bytes_held);
}

static void salvage_all(struct fan_scene *scene)
{
	bool last = sim_random(scene->sim) % 2;

	if (!last)
		salvage_fan(scene);
	for (unsigned i = 0; i < scene->legs; i++)
		if (scene->leg[i].number >= 0)
			fan_salvage_leg(scene, &scene->leg[i]);
	if (last)
		salvage_fan(scene);
}

/* What comes next for the sink is what neither it nor the fan, up to position, has had. */
static void jump(struct fan_scene *scene, struct fan_leg *leg, uint64_t position)
{
	struct sim_oracle *oracle = &sim_far(scene->sim, leg->fd)->oracle;
	uint64_t had = leg->last.bytes_in + leg->skipped;
	uint64_t missing;

	if (had < position) {
		leg->skipped += position - had;
		had = position;
	}
	missing = scene->first + had - oracle->accepted;
	oracle->first += missing;
	oracle->accepted += missing;
	oracle->drained = oracle->accepted;
}

bool fan_salvage_midway(struct fan_scene *scene)
{
	for (unsigned i = 0; i < scene->legs; i++)
		if (scene->leg[i].number < 0 ||
		    scene->leg[i].faults & (FAN_FAULT_STUCK | FAN_FAULT_SPILL))
			return false;
	salvage_all(scene);
	/* Nothing of what was delivered is still to be read when the positions jump. */
	sim_settle(scene->sim);
	for (unsigned i = 0; i < scene->legs; i++)
		if (!fan_leg_is_dead(&scene->leg[i]))
			jump(scene, &scene->leg[i], scene->last.bytes_in);
	scene->passed = scene->salvaged;
	scene->overwrites = false;
	scene->result = FID_MORE;
	return true;
}

static void check_settled(struct fan_scene *scene)
{
	sim_settle(scene->sim);
	for (unsigned i = 0; i < scene->legs; i++) {
		struct sim_object *object = sim_far(scene->sim, scene->leg[i].fd);

		if (object->consumer.is_there && !object->consumer.ended)
			FAN_EXPECT(object->oracle.drained == object->oracle.accepted,
				   "the reader of sink %u has not got what was delivered", i);
	}
}

void fan_end(struct fan_scene *scene)
{
	if (!scene->fan)
		return;
	if (scene->is_over) {
		check_ending(scene);
		/* The error, or the end, is repeated. */
		FAN_EXPECT(fid_fan_step(scene->fan, NULL) == scene->result,
			   "a further step forgets how the fan ended");
		FAN_EXPECT(fid_fan_run(scene->fan, -1) == scene->result,
			   "a further run forgets how the fan ended");
	}
	if (!scene->abandons)
		salvage_all(scene);
	scene->fan = fid_fan_free(scene->fan);
	FAN_EXPECT(!scene->fan, "fan_free returns something");
	check_settled(scene);
}
