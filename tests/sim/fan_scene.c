/* SPDX-License-Identifier: MIT */
/*
 * The promises of <fid.h> about fans as checks. They look at the simulated kernel's own account
 * of what was taken and delivered, so that receipts that agree only with themselves do not
 * pass.
 */
#include "fan_scene.h"

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum {
	IDLE_STEPS_MAX = 32,
	STEPS_MAX = 200000,
	STEP_CALLS_MAX = 16 * 50, /* a round over the source, */
	LEG_CALLS_MAX = 16 * 100, /* and over each sink and its file, of rounds of their own */
};

typedef unsigned long long ull;

static struct sim_fd *fd_of(struct sim *sim, int fd)
{
	return &sim->fd[fd - SIM_FD_FIRST];
}

struct fan_scene fan_scene_new(struct sim *sim, struct fid_pool *pool)
{
	return (struct fan_scene){
		.sim = sim,
		.pool = pool,
		.source = -1,
		.pages = -1,
	};
}

struct fan_leg *fan_leg_add(struct fan_scene *scene, enum sim_kind kind, int fd)
{
	struct fan_leg *leg = &scene->leg[scene->legs++];

	FAN_EXPECT(scene->legs <= FAN_LEGS_MAX, "too many sinks in a scene");
	*leg = (struct fan_leg){
		.kind = kind,
		.fd = fd,
		.options = {.size = sizeof(leg->options), .spill = -1},
	};
	return leg;
}

static bool source_offset_given(const struct fan_scene *scene)
{
	return scene->options.source_offset || scene->options.flags & FID_SOURCE_OFFSET;
}

static bool sink_offset_given(const struct fan_leg *leg)
{
	return leg->options.sink_offset || leg->options.flags & FID_SINK_OFFSET;
}

bool fan_is_limited(const struct fan_scene *scene)
{
	return (scene->options.bytes_max || scene->options.flags & FID_LIMIT_ZERO) &&
	       scene->options.bytes_max <= scene->available;
}

uint64_t fan_wanted_bytes(const struct fan_scene *scene)
{
	return fan_is_limited(scene) ? scene->options.bytes_max : scene->available;
}

/* ---- After each step ---- */

/* What was taken from the source, as the kernel sees it. */
static uint64_t taken_bytes(const struct fan_scene *scene)
{
	const struct sim_object *source = sim_object(scene->sim, scene->source);

	if (source->kind == SIM_NULL)
		return 0;
	if (scene->source_kind == SIM_REGULAR)
		return fd_of(scene->sim, scene->source)->offset - scene->source_start;
	return source->oracle.accepted - source->ring.bytes;
}

/* What holds for the receipt of the source and of a sink. */
static void check_sums(const struct fan_scene *scene, const char *whose,
		       const struct fid_receipt *receipt, uint64_t salvaged)
{
	uint64_t by_class = 0, by_method = 0;

	for (int i = 0; i < FID_CLASSES; i++)
		by_class += receipt->by_class[i];
	for (int i = 0; i < FID_METHODS; i++)
		by_method += receipt->by_method[i];
	FAN_EXPECT(receipt->bytes_in ==
			   receipt->bytes_out + receipt->bytes_held + receipt->bytes_salvaged,
		   "%s: %llu in, %llu out, %llu held, %llu salvaged", whose,
		   (ull)receipt->bytes_in, (ull)receipt->bytes_out, (ull)receipt->bytes_held,
		   (ull)receipt->bytes_salvaged);
	FAN_EXPECT(receipt->bytes_out == by_class && receipt->bytes_out == by_method,
		   "%s: %llu out, %llu by class, %llu by method", whose,
		   (ull)receipt->bytes_out, (ull)by_class, (ull)by_method);
	FAN_EXPECT(receipt->bytes_salvaged == salvaged,
		   "%s: the receipt says %llu bytes salvaged, it was %llu", whose,
		   (ull)receipt->bytes_salvaged, (ull)salvaged);
	FAN_EXPECT(receipt->bytes_in <= fan_wanted_bytes(scene),
		   "%s: %llu bytes are in, and %llu is the limit", whose,
		   (ull)receipt->bytes_in, (ull)fan_wanted_bytes(scene));
	FAN_EXPECT(receipt->demotions <= FID_DEMOTIONS_MAX, "%s: %u demotions", whose,
		   receipt->demotions);
	FAN_EXPECT(receipt->reason, "%s: no reason", whose);
	if (scene->options.flags & FID_STABLE)
		FAN_EXPECT(receipt->stable, "%s: a stable copy was asked for and not made",
			   whose);
}

static void check_offset(const struct fan_scene *scene, const struct fan_leg *leg)
{
	uint64_t offset = fd_of(scene->sim, leg->fd)->offset;
	uint64_t out = leg->last.bytes_out;

	if (leg->kind != SIM_REGULAR)
		return;
	if (sink_offset_given(leg))
		FAN_EXPECT(offset == leg->start,
			   "sink %d: its own offset moved although one was given", leg->number);
	else if (out)
		FAN_EXPECT(offset == leg->start + out,
			   "sink %d: its own offset is %llu, not %llu", leg->number,
			   (ull)offset, (ull)(leg->start + out));
}

static void check_leg(const struct fan_scene *scene, const struct fan_leg *leg)
{
	const struct fid_receipt *receipt = &leg->last;
	char whose[16] = "sink ??";

	whose[5] = (char)('0' + leg->number / 10);
	whose[6] = (char)('0' + leg->number % 10);
	check_sums(scene, whose, receipt, leg->salvaged);
	if (leg->options.on_slow == FID_SLOW_SPILL && leg->options.spill_bytes_max > leg->junk)
		FAN_EXPECT(sim_object(scene->sim, leg->options.spill)->content.size <=
				   leg->options.spill_bytes_max,
			   "%s: its file has grown above %llu bytes", whose,
			   (ull)leg->options.spill_bytes_max);
	FAN_EXPECT(receipt->bytes_out == sim_received(scene->sim, leg->fd),
		   "%s: the receipt says %llu bytes out, it has got %llu", whose,
		   (ull)receipt->bytes_out, (ull)sim_received(scene->sim, leg->fd));
	check_offset(scene, leg);
	if (!fan_leg_is_dead(leg))
		FAN_EXPECT(scene->last.bytes_out + scene->passed <=
				   receipt->bytes_in + leg->skipped,
			   "%llu bytes are given to every sink, and sink %d lives and has %llu",
			   (ull)scene->last.bytes_out, leg->number, (ull)receipt->bytes_in);
}

void fan_check_account(struct fan_scene *scene)
{
	check_sums(scene, "the source", &scene->last, scene->salvaged);
	if (source_offset_given(scene))
		FAN_EXPECT(fd_of(scene->sim, scene->source)->offset == scene->source_start,
			   "the source's own offset moved although one was given");
	else
		FAN_EXPECT(scene->last.bytes_in == taken_bytes(scene),
			   "the receipt says %llu bytes in, the source has given %llu",
			   (ull)scene->last.bytes_in, (ull)taken_bytes(scene));
	for (unsigned i = 0; i < scene->legs; i++)
		if (scene->leg[i].number >= 0)
			check_leg(scene, &scene->leg[i]);
}

static uint64_t progress_of(const struct fid_receipt *receipt)
{
	return receipt->bytes_in + receipt->bytes_out + receipt->demotions +
	       (receipt->error != 0);
}

bool fan_take_receipts(struct fan_scene *scene, uint64_t began_ns)
{
	const struct fid_receipt *receipt = fid_fan_receipt(scene->fan);
	bool moved = progress_of(receipt) != progress_of(&scene->last);

	scene->last = *receipt;
	for (unsigned i = 0; i < scene->legs; i++) {
		struct fan_leg *leg = &scene->leg[i];

		if (leg->number < 0)
			continue;
		receipt = fid_fan_sink_receipt(scene->fan, leg->number);
		FAN_EXPECT(receipt, "sink %d has no receipt", leg->number);
		FAN_EXPECT(!fan_leg_is_dead(leg) || leg->last.error == receipt->error,
			   "sink %d ended with %d and then with %d", leg->number,
			   leg->last.error, receipt->error);
		if (progress_of(receipt) != progress_of(&leg->last)) {
			/* A sink that is dropped has moved nothing by that. */
			if (receipt->error != -ETIMEDOUT)
				leg->progress_ns = began_ns;
			moved = true;
		}
		leg->last = *receipt;
	}
	return moved;
}

/* A line for the source and for each sink. */
void fan_describe(const struct fan_scene *scene, const char *when)
{
	static const char *const kinds[SIM_KINDS] = {"file",     "pipe", "tcp",  "unix",
						     "terminal", "null", "full", "directory"};
	static const char *const policies[] = {"wait", "drop", "spill"};
	const struct fid_receipt *receipt = &scene->last;

	test_note("%s: %s of %llu bytes from %llu, flags %x, routes %x: %llu in, %llu out, "
		  "%llu held, %s, returns %d",
		  when, kinds[scene->source_kind], (ull)scene->available, (ull)scene->first,
		  scene->options.flags, scene->options.routes, (ull)receipt->bytes_in,
		  (ull)receipt->bytes_out, (ull)receipt->bytes_held,
		  fid_method_name((enum fid_method)receipt->route), scene->result);
	for (unsigned i = 0; i < scene->legs; i++) {
		const struct fan_leg *leg = &scene->leg[i];

		receipt = &leg->last;
		test_note("  sink %u, %s, %s of %llu, faults %x: %llu in, %llu out, %llu held, "
			  "%s of %s",
			  i, kinds[leg->kind], policies[leg->options.on_slow],
			  (ull)leg->options.spill_bytes_max, leg->faults,
			  (ull)receipt->bytes_in, (ull)receipt->bytes_out,
			  (ull)receipt->bytes_held, fid_error_name(receipt->error),
			  fid_call_name((enum fid_call)receipt->error_call));
	}
}

/* ---- The beginning ---- */

static void prepare(struct fan_scene *scene)
{
	struct sim *sim = scene->sim;
	const struct sim_fd *source = fd_of(sim, scene->source);

	scene->options.size = sizeof(scene->options);
	scene->options.pool = scene->pool;
	scene->source_start = source->offset;
	scene->first = 0;
	if (scene->source_kind == SIM_REGULAR)
		scene->first = source_offset_given(scene) ? scene->options.source_offset
							  : source->offset;
	for (unsigned i = 0; i < scene->legs; i++) {
		struct fan_leg *leg = &scene->leg[i];
		const struct sim_fd *fd = fd_of(sim, leg->fd);
		struct sim_object *object = sim_object(sim, leg->fd);

		leg->start = fd->flags & O_APPEND ? object->content.size : fd->offset;
		leg->progress_ns = sim->now_ns;
		if (leg->options.on_slow == FID_SLOW_SPILL)
			leg->junk = sim_object(sim, leg->options.spill)->content.size;
		sim_expect(sim, leg->fd, scene->first);
		if (sink_offset_given(leg))
			object->oracle.offset_first = leg->options.sink_offset;
	}
	scene->sleeps = sim->sleeps;
	sim->idle_calls = 0;
}

int fan_begin(struct fan_scene *scene)
{
	struct sim *sim = scene->sim;
	bool is_injected = scene->faults & FAN_FAULT_INJECTED;
	int got;

	prepare(scene);
	sim->no_sleep = sim->no_poll_sleep = true;
	got = fid_fan_new_on(&sim->kernel, &scene->fan, scene->source, &scene->options);
	FAN_EXPECT(got <= 0, "fan_new returns %d", got);
	scene->result = got;
	if (got < 0) {
		FAN_EXPECT(is_injected, "fan_new returns %d", got);
		FAN_EXPECT(!scene->fan, "fan_new failed and made a fan");
		scene->is_over = true;
		scene->calls_at_end = sim->calls;
		return got;
	}
	for (unsigned i = 0, number = 0; i < scene->legs; i++) {
		struct fan_leg *leg = &scene->leg[i];

		sim->idle_calls = 0;
		leg->number = fid_fan_add(scene->fan, leg->fd,
					  leg->has_options ? &leg->options : NULL);
		FAN_EXPECT(leg->number == (int)number || (is_injected && leg->number < 0),
			   "fan_add returns %d for sink %u", leg->number, number);
		number += leg->number >= 0;
	}
	fan_take_receipts(scene, sim->now_ns);
	fan_check_account(scene);
	FAN_EXPECT(scene->last.bytes_in == 0, "fan_add moved bytes");
	return got;
}

/* ---- Steps ---- */

/* fid.h: a terminal may still make a write wait. */
static bool may_sleep(const struct fan_scene *scene)
{
	for (unsigned i = 0; i < scene->legs; i++)
		if (scene->leg[i].kind == SIM_TERMINAL &&
		    !(fd_of(scene->sim, scene->leg[i].fd)->flags & O_NONBLOCK))
			return true;
	return false;
}

static void demand(struct fan_scene *scene, bool is_run)
{
	struct sim *sim = scene->sim;

	sim->no_sleep = !may_sleep(scene);
	sim->no_poll_sleep = !is_run;
	sim->stable = scene->options.flags & FID_STABLE;
	sim->idle_calls = 0;
}

static void check_wait(const struct fan_scene *scene, int result)
{
	const struct fid_fan_wait *wait = &scene->wait;

	if (result != FID_WAIT) {
		FAN_EXPECT(wait->count == 0, "step returns %d and names %zu descriptors",
			   result, wait->count);
		return;
	}
	FAN_EXPECT(wait->timeout_ms >= -1, "a time-out of %d ms", wait->timeout_ms);
	FAN_EXPECT(wait->count > 0 || wait->timeout_ms >= 0, "step waits for nothing");
	for (size_t i = 0; i < wait->count; i++) {
		bool is_known = wait->fds[i].fd == scene->source;

		for (unsigned n = 0; n < scene->legs; n++)
			is_known |= wait->fds[i].fd == scene->leg[n].fd &&
				    !fan_leg_is_dead(&scene->leg[n]);
		FAN_EXPECT(is_known, "step waits for descriptor %d", wait->fds[i].fd);
	}
}

/* What nobody will be given any more, and is not to be salvaged, may be overwritten. */
static void overwrite(struct fan_scene *scene)
{
	struct sim *sim = scene->sim;
	uint64_t delivered = scene->last.bytes_out;
	uint64_t from, bytes;

	for (unsigned i = 0; i < scene->legs; i++)
		if (scene->leg[i].last.bytes_out < delivered)
			delivered = scene->leg[i].last.bytes_out;
	if (!scene->overwrites || scene->pages < 0 || !delivered || sim_random(sim) % 4 ||
	    sim_object(sim, scene->pages)->content.count > 16)
		return;
	from = sim_random(sim) % delivered;
	bytes = 1 + sim_random(sim) % (delivered - from);
	sim_overwrite(sim, scene->pages, scene->first + from, bytes);
}

/* A sink that was dropped has taken nothing for as long as was said. */
static void check_drops(const struct fan_scene *scene)
{
	for (unsigned i = 0; i < scene->legs; i++) {
		const struct fan_leg *leg = &scene->leg[i];
		uint64_t stall_ms = leg->options.stall_ms;

		if (leg->last.error != -ETIMEDOUT || scene->faults & FAN_FAULT_INJECTED)
			continue;
		if (leg->options.on_slow == FID_SLOW_DROP && !stall_ms)
			stall_ms = 1000;
		FAN_EXPECT(leg->options.on_slow != FID_SLOW_WAIT && stall_ms,
			   "sink %d is dropped and was to be waited for", leg->number);
		FAN_EXPECT(scene->sim->now_ns - leg->progress_ns >= stall_ms * 1000000,
			   "sink %d is dropped after %llu ns", leg->number,
			   (ull)(scene->sim->now_ns - leg->progress_ns));
	}
}

unsigned fan_dead_legs(const struct fan_scene *scene)
{
	unsigned dead = 0;

	for (unsigned i = 0; i < scene->legs; i++)
		dead += fan_leg_is_dead(&scene->leg[i]);
	return dead;
}

static void after(struct fan_scene *scene, int result, uint64_t eintrs, uint64_t began_ns)
{
	struct sim *sim = scene->sim;
	bool is_interruptible = scene->options.flags & FID_INTERRUPTIBLE;
	bool moved = fan_take_receipts(scene, began_ns);

	FAN_EXPECT(result <= 0 || !(scene->options.flags & FID_FAN_STOP) ||
			   fan_dead_legs(scene) == 0,
		   "a sink has failed, and the fan goes on");
	FAN_EXPECT(!sim->sigpipe_held, "SIGPIPE is held back between two calls");
	fan_check_account(scene);
	check_drops(scene);
	scene->eintrs += result == -EINTR;
	FAN_EXPECT(result != -EINTR || is_interruptible, "-EINTR without FID_INTERRUPTIBLE");
	/* A terminal's write may sleep in a step, and is made again. */
	FAN_EXPECT(!is_interruptible || may_sleep(scene) ||
			   scene->faults & FAN_FAULT_INJECTED ||
			   sim->eintrs - eintrs == (result == -EINTR),
		   "%llu calls were interrupted, and it returns %d",
		   (ull)(sim->eintrs - eintrs), result);
	if (moved || sim->sleeps != scene->sleeps || result == -EINTR || result == -ETIMEDOUT)
		scene->idle_steps = 0;
	else
		scene->idle_steps++;
	FAN_EXPECT(scene->idle_steps <= IDLE_STEPS_MAX,
		   "spinning: %d steps in a row moved nothing and did not sleep, the last "
		   "returned %d",
		   IDLE_STEPS_MAX, result);
	scene->sleeps = sim->sleeps;
	scene->result = result;
	scene->steps++;
	FAN_EXPECT(scene->steps < STEPS_MAX, "it never ends");
	FAN_EXPECT(result == scene->last.error || result > 0 || result == -EINTR ||
			   result == -ETIMEDOUT,
		   "it returns %d and the receipt says %d", result, scene->last.error);
	/* ETIMEDOUT is also what ends a sink, the last one for instance: then it is told. */
	if (result <= 0 && result == scene->last.error) {
		scene->is_over = true;
		scene->calls_at_end = sim->calls;
	}
	scene->timeouts += result == -ETIMEDOUT && !scene->is_over;
	if (scene->is_told)
		fan_describe(scene, "after a step");
	overwrite(scene);
}

int fan_step(struct fan_scene *scene)
{
	struct sim *sim = scene->sim;
	uint64_t calls = sim->calls;
	uint64_t eintrs = sim->eintrs;
	uint64_t began_ns = sim->now_ns;
	int result;

	demand(scene, false);
	scene->wait = (struct fid_fan_wait){.count = 12345};
	result = fid_fan_step(scene->fan, &scene->wait);
	FAN_EXPECT(result <= FID_WAIT, "step returns %d", result);
	FAN_EXPECT(result != -ETIMEDOUT || fid_fan_receipt(scene->fan)->error == result,
		   "step times out");
	FAN_EXPECT(sim->calls - calls <= STEP_CALLS_MAX + LEG_CALLS_MAX * scene->legs,
		   "one step makes %llu calls for %u sinks", (ull)(sim->calls - calls),
		   scene->legs);
	if (result == FID_WAIT)
		scene->wait_until_ns =
			scene->wait.timeout_ms < 0
				? SIM_NEVER
				: sim->now_ns + (uint64_t)scene->wait.timeout_ms * 1000000;
	after(scene, result, eintrs, began_ns);
	check_wait(scene, result);
	return result;
}

int fan_run(struct fan_scene *scene, int timeout_ms)
{
	struct sim *sim = scene->sim;
	uint64_t eintrs = sim->eintrs;
	uint64_t began_ns = sim->now_ns;
	uint64_t until = began_ns + (timeout_ms > 0 ? (uint64_t)timeout_ms * 1000000 : 0);
	bool is_error;
	int result;

	demand(scene, true);
	scene->wait = (struct fid_fan_wait){.timeout_ms = -1};
	result = fid_fan_run(scene->fan, timeout_ms);
	FAN_EXPECT(result <= 0, "run returns %d", result);
	is_error = result && fid_fan_receipt(scene->fan)->error == result;
	if (timeout_ms >= 0 && sim->no_sleep) {
		/* Calls take time, too, and poll counts in milliseconds. */
		FAN_EXPECT(sim->now_ns <= until + 2000000, "run of %d ms takes %llu ns more",
			   timeout_ms, (ull)(sim->now_ns - until));
		FAN_EXPECT(result != -ETIMEDOUT || sim->now_ns >= until || is_error,
			   "run times out before its time");
	} else if (timeout_ms < 0) {
		FAN_EXPECT(result != -ETIMEDOUT || is_error, "run without a bound times out");
	}
	after(scene, result, eintrs, began_ns);
	return result;
}

bool fan_is_due(struct fan_scene *scene)
{
	return scene->result != FID_WAIT || scene->sim->now_ns >= scene->wait_until_ns ||
	       sim_wait(scene->sim, scene->wait.fds, scene->wait.count, 0) > 0;
}

void fan_wait(struct fan_scene *scene)
{
	if (scene->result == FID_WAIT)
		sim_wait(scene->sim, scene->wait.fds, scene->wait.count,
			 scene->wait.timeout_ms);
}

int fan_finish(struct fan_scene *scene)
{
	while (!scene->is_over) {
		fan_step(scene);
		fan_wait(scene);
	}
	return scene->result;
}
