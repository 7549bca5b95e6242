/* SPDX-License-Identifier: MIT */
#include "contest.h"

#include <string.h>

struct summary cost_ratio(const struct result *result, const struct result *mark)
{
	double ratio[ROUNDS_MAX];

	for (unsigned round = 0; round < bench.rounds; round++)
		ratio[round] = result->cpu[round] / mark->cpu[round];
	return summarise(ratio, bench.rounds);
}

struct summary speed_ratio(const struct result *result, const struct result *mark)
{
	double ratio[ROUNDS_MAX];

	for (unsigned round = 0; round < bench.rounds; round++)
		ratio[round] = result->speed[round] / mark->speed[round];
	return summarise(ratio, bench.rounds);
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

static void run_rounds(const struct contest *contest, struct result *results)
{
	struct sample sample;
	size_t order[ENTRANTS_MAX] = {0};
	uint64_t state = 1;

	/* One run that does not count, so that the first round finds memory as the others do.
	 */
	contest->take(contest->job, 0, &sample);
	for (unsigned round = 0; round < bench.rounds; round++) {
		shuffle(order, contest->count, &state);
		for (size_t i = 0; i < contest->count; i++) {
			struct result *result = &results[order[i]];

			result->takes_part = contest->take(contest->job, order[i], &sample);
			if (result->takes_part)
				keep(&sample, round, result);
		}
	}
}

static void print_result(int width, const char *name, const struct result *result,
			 const struct result *mark)
{
	struct summary cpu = summarise(result->cpu, bench.rounds);
	struct summary speed = summarise(result->speed, bench.rounds);
	struct summary cost = cost_ratio(result, mark);
	struct summary faster = speed_ratio(result, mark);

	json_open(NULL, '{');
	json_text("name", name);
	if (result->failure[0]) {
		json_text("failure", result->failure);
		table_note("  %-*s  %s", width, name, result->failure);
	} else {
		json_summary("cpu_s_per_gb", &cpu);
		json_summary("gib_per_s", &speed);
		json_summary("ratio", &cost);
		json_summary("speed_ratio", &faster);
		json_text("verdict", verdict(&cost));
		printf("  %-*s  %6.4f %6.4f-%-6.4f ", width, name, cpu.median, cpu.low,
		       cpu.high);
		printf(" %5.2f %5.2f-%-5.2f ", cost.median, cost.low, cost.high);
		printf(" %6.2f %5.1f-%-5.1f ", speed.median, speed.low, speed.high);
		table_note(" %5.2f %5.2f-%-5.2f  %s", faster.median, faster.low, faster.high,
			   result == mark ? "the mark" : verdict(&cost));
	}
	json_close('}');
}

static void print_versus(const struct contest *contest, const struct versus *versus,
			 const struct result *results)
{
	const struct result *result = &results[versus->entrant];
	const struct result *mark = &results[versus->mark];
	struct summary cost, speed;

	if (!is_sound(result) || !is_sound(mark))
		return;
	cost = cost_ratio(result, mark);
	speed = speed_ratio(result, mark);
	table_note("  %s to %s: cost %.2f %.2f-%.2f, speed %.2f %.2f-%.2f",
		   contest->names[versus->entrant], contest->names[versus->mark], cost.median,
		   cost.low, cost.high, speed.median, speed.low, speed.high);
	json_open(NULL, '{');
	json_text("name", contest->names[versus->entrant]);
	json_text("to", contest->names[versus->mark]);
	json_summary("ratio", &cost);
	json_summary("speed_ratio", &speed);
	json_close('}');
}

/* Before the first table. */
static void explain(void)
{
	static bool done;

	if (done)
		return;
	done = true;
	table_note(
		"\nCost of the mover alone. s/GB is user and system seconds a gigabyte (1e9 "
		"bytes)."
		"\nBehind it and behind GiB/s stand their ratios to those of the mark in the "
		"same round."
		"\nBeside each median of %u rounds is the interval that holds the true one "
		"with 95 %%;"
		"\na tie of costs cannot be told from noise.",
		bench.rounds);
}

void contest_run(const struct contest *contest, struct result *results)
{
	int width = 10;

	memset(results, 0, contest->count * sizeof(*results));
	fprintf(stderr, "%s ...\n", contest->name);
	explain();
	run_rounds(contest, results);
	for (size_t i = 0; i < contest->count; i++)
		if (results[i].takes_part && (int)strlen(contest->names[i]) > width)
			width = (int)strlen(contest->names[i]);
	json_open(NULL, '{');
	json_text("name", contest->name);
	json_text("title", contest->title);
	json_text("mark", contest->mark);
	json_open("entrants", '[');
	table_note("\n%s: %s\n%s: %s", contest->name, contest->title, contest->names[0],
		   contest->mark);
	table_note("  %-*s  %6s %13s  %5s %11s  %6s %11s  %5s", width, "", "s/GB", "", "ratio",
		   "", "GiB/s", "", "ratio");
	for (size_t i = 0; i < contest->count; i++)
		if (results[i].takes_part)
			print_result(width, contest->names[i], &results[i], &results[0]);
	json_close(']');
	json_open("versus", '[');
	for (size_t i = 0; i < ENTRANTS_MAX && contest->versus[i].entrant; i++)
		print_versus(contest, &contest->versus[i], results);
	json_close(']');
	json_close('}');
}
