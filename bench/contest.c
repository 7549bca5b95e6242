/* SPDX-License-Identifier: MIT */
#include "contest.h"

#include <stdio.h>
#include <string.h>

/* With so many rounds the volume is chosen; more follow while there is time. */
enum { ROUNDS_WISHED = 9 };

struct summary cost_ratio(const struct result *result, const struct result *mark)
{
	double ratio[ROUNDS_MAX];

	for (unsigned round = 0; round < result->rounds; round++)
		ratio[round] = result->cpu[round] / mark->cpu[round];
	return summarise(ratio, result->rounds);
}

struct summary speed_ratio(const struct result *result, const struct result *mark)
{
	double ratio[ROUNDS_MAX];

	for (unsigned round = 0; round < result->rounds; round++)
		ratio[round] = result->speed[round] / mark->speed[round];
	return summarise(ratio, result->rounds);
}

bool is_sound(const struct result *result)
{
	return result->takes_part && !result->failure[0];
}

/*
 * A new order for each round, the same in every run. A mere rotation would keep the neighbours,
 * and each entrant inherits caches and free memory from the one before it: seen to cost the
 * loop that follows socat up to half of its time again.
 */
static void shuffle(size_t *order, size_t count, uint64_t *state)
{
	for (size_t i = 0; i < count; i++) {
		size_t at;

		*state = *state * 6364136223846793005u + 1442695040888963407u;
		at = (size_t)(*state >> 33) % (i + 1);
		order[i] = order[at];
		order[at] = i;
	}
}

static void keep(const struct sample *sample, unsigned round, struct result *result)
{
	if (sample->failure[0])
		memcpy(result->failure, sample->failure, sizeof(result->failure));
	result->cpu[round] = sample->cpu_s / ((double)sample->bytes / 1e9);
	result->speed[round] = (double)sample->bytes / sample->wall_s / (double)(1 << 30);
}

/*
 * One sample that does not count: the first one makes files, and later ones find memory as the
 * rest will find it. Returns how long it took.
 */
static double warm_up(const struct contest *contest)
{
	double begin = seconds_now();
	struct sample sample;

	contest->take(contest->job, 0, &sample);
	return seconds_now() - begin;
}

/* Everybody once, which does not count either. */
static double rehearse(const struct contest *contest, struct result *results)
{
	double begin = seconds_now();
	struct sample sample;

	for (size_t i = 0; i < contest->count; i++)
		results[i].takes_part = contest->take(contest->job, i, &sample);
	return seconds_now() - begin;
}

/*
 * The largest volume whose rounds fit into the time. Two small ones are tried, since what a
 * sample costs by itself would hide what its bytes cost. Returns when the time is over.
 */
static double choose_volume(const struct contest *contest, struct result *results)
{
	double trial = (double)bench.volume_max / 32, left_s, small_s, large_s, byte_s, fixed_s;
	unsigned rounds = bench.rounds ? bench.rounds : ROUNDS_WISHED;

	left_s = bench.seconds / (contest->shares ? contest->shares : 1);
	trial = trial > (double)VOLUME_MIN ? trial : (double)VOLUME_MIN;
	bench.volume = (size_t)trial;
	warm_up(contest);
	small_s = rehearse(contest, results);
	bench.volume *= 4;
	left_s -= warm_up(contest);
	large_s = rehearse(contest, results);
	left_s -= small_s + large_s;
	byte_s = (large_s - small_s) / (3 * trial);
	/* Noise must not make bytes seem to cost nothing. */
	if (byte_s < large_s / (16 * trial))
		byte_s = large_s / (16 * trial);
	fixed_s = small_s > byte_s * trial ? small_s - byte_s * trial : 0;
	bench.volume = bench.volume_max;
	while (bench.volume > VOLUME_MIN &&
	       rounds * (fixed_s + byte_s * (double)bench.volume) > left_s)
		bench.volume /= 2;
	warm_up(contest);
	return seconds_now() + left_s;
}

static void run_round(const struct contest *contest, unsigned round, uint64_t *state,
		      struct result *results)
{
	size_t order[ENTRANTS_MAX] = {0};
	struct sample sample;

	shuffle(order, contest->count, state);
	for (size_t i = 0; i < contest->count; i++) {
		struct result *result = &results[order[i]];

		if (!result->takes_part || !contest->take(contest->job, order[i], &sample))
			continue;
		keep(&sample, round, result);
		result->rounds = round + 1;
	}
}

/* Returns how many rounds were made. */
static unsigned run_rounds(const struct contest *contest, struct result *results)
{
	unsigned most = bench.rounds ? bench.rounds : ROUNDS_MAX, round = 0;
	uint64_t state = 1;
	double until_s = 0;

	if (bench.seconds > 0)
		until_s = choose_volume(contest, results);
	else
		rehearse(contest, results);
	while (round < most && (round < ROUNDS_MIN || bench.rounds || seconds_now() < until_s))
		run_round(contest, round++, &state, results);
	return round;
}

static void add_result(const char *name, const struct result *result, const struct result *mark)
{
	struct summary cpu = summarise(result->cpu, result->rounds);
	struct summary speed = summarise(result->speed, result->rounds);
	struct summary cost = cost_ratio(result, mark);
	struct summary faster = speed_ratio(result, mark);

	json_open(NULL, '{');
	json_text("name", name);
	if (result->failure[0]) {
		json_text("failure", result->failure);
	} else {
		json_summary("cpu_s_per_gb", &cpu);
		json_summary("gib_per_s", &speed);
		json_summary("ratio", &cost);
		json_summary("speed_ratio", &faster);
		json_text("verdict", verdict(&cost));
	}
	json_close('}');
}

static void add_versus(const struct contest *contest, const struct versus *versus,
		       const struct result *results)
{
	const struct result *result = &results[versus->entrant];
	const struct result *mark = &results[versus->mark];
	struct summary cost, speed;

	if (!is_sound(result) || !is_sound(mark))
		return;
	cost = cost_ratio(result, mark);
	speed = speed_ratio(result, mark);
	json_open(NULL, '{');
	json_text("name", contest->names[versus->entrant]);
	json_text("to", contest->names[versus->mark]);
	json_summary("ratio", &cost);
	json_summary("speed_ratio", &speed);
	json_close('}');
}

const struct json *contest_run(const struct contest *contest, struct result *results)
{
	const struct json *json;
	unsigned rounds;

	memset(results, 0, contest->count * sizeof(*results));
	rounds = run_rounds(contest, results);
	json = json_open(NULL, '{');
	json_text("name", contest->name);
	json_text("scenario", contest->scenario ? contest->scenario : contest->name);
	if (contest->at)
		json_number("at", (double)contest->at);
	json_text("title", contest->title);
	json_text("mark", contest->mark);
	json_number("rounds", rounds);
	json_number("volume_bytes", (double)bench.volume);
	json_open("entrants", '[');
	for (size_t i = 0; i < contest->count; i++)
		if (results[i].takes_part)
			add_result(contest->names[i], &results[i], &results[0]);
	json_close(']');
	json_open("versus", '[');
	for (size_t i = 0; i < ENTRANTS_MAX && contest->versus[i].entrant; i++)
		add_versus(contest, &contest->versus[i], results);
	json_close(']');
	json_close('}');
	return json;
}
