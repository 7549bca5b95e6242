/* SPDX-License-Identifier: MIT */
/*
 * Runs the entrants of one pair in rounds, and prints the table of that pair.
 */
#include "bench.h"

#include <string.h>

/* What is known about one entrant after all rounds. */
struct result {
	bool takes_part;
	char failure[sizeof(((struct sample *)0)->failure)];
	double cpu[ROUNDS_MAX];   /* cpu-seconds a gigabyte (1e9 bytes) */
	double speed[ROUNDS_MAX]; /* GiB/s */
};

/* The cost of one entrant over that of another, round by round. */
static struct summary compare(const struct result *result, const struct result *mark)
{
	double ratio[ROUNDS_MAX];

	for (unsigned round = 0; round < bench.rounds; round++)
		ratio[round] = result->cpu[round] / mark->cpu[round];
	return summarise(ratio, bench.rounds);
}

static bool is_sound(const struct result *result)
{
	return result->takes_part && !result->failure[0];
}

static void print_result(const struct entrant *entrant, const struct result *result,
			 const struct result *hand)
{
	struct summary cpu = summarise(result->cpu, bench.rounds);
	struct summary speed = summarise(result->speed, bench.rounds);
	struct summary ratio = compare(result, hand);

	json_open(NULL, '{');
	json_text("name", entrant->name);
	if (result->failure[0]) {
		json_text("failure", result->failure);
		table_note("  %-10s  %s", entrant->name, result->failure);
	} else {
		json_summary("cpu_s_per_gb", &cpu);
		json_summary("gib_per_s", &speed);
		json_summary("ratio", &ratio);
		json_text("verdict", verdict(&ratio));
		table_note("  %-10s  %7.4f %6.4f-%-6.4f  %7.2f %5.1f-%-5.1f  %7.2f "
			   "%5.2f-%-5.2f  %s",
			   entrant->name, cpu.median, cpu.low, cpu.high, speed.median,
			   speed.low, speed.high, ratio.median, ratio.low, ratio.high,
			   entrant->kind == ENTRANT_HAND ? "the mark" : verdict(&ratio));
	}
	json_close('}');
}

static void keep(const struct sample *sample, unsigned round, struct result *result)
{
	if (sample->failure[0])
		memcpy(result->failure, sample->failure, sizeof(result->failure));
	result->cpu[round] = sample->cpu_s / ((double)sample->bytes / 1e9);
	result->speed[round] = (double)sample->bytes / sample->wall_s / (double)(1 << 30);
}

/* The library to the hand loop, and the command to the cheapest other command. */
static void conclude(const struct pair *pair, const struct result *results,
		     struct conclusion *ret_conclusion)
{
	const struct result *library = NULL, *hand = NULL, *fid = NULL, *peer = NULL;
	const char *peer_name = "";

	for (size_t at = 0; at < ENTRANTS_MAX; at++) {
		const struct entrant *entrant = &entrants[at];
		const struct result *result = &results[at];

		if (!is_sound(result))
			continue;
		if (entrant->kind == ENTRANT_HAND)
			hand = result;
		else if (entrant->kind == ENTRANT_LIBRARY)
			library = result;
		else if (entrant->kind == ENTRANT_FID)
			fid = result;
		else if (entrant->kind == ENTRANT_PEER &&
			 (!peer || summarise(result->cpu, bench.rounds).median <
					   summarise(peer->cpu, bench.rounds).median)) {
			peer = result;
			peer_name = entrant->name;
		}
	}
	*ret_conclusion = (struct conclusion){.pair = pair, .peer = peer_name};
	if (hand && library)
		ret_conclusion->library = compare(library, hand);
	if (fid && peer)
		ret_conclusion->command = compare(fid, peer);
}

/*
 * A new order for each round, the same in every run. A mere rotation would keep the neighbours,
 * and each entrant inherits caches and free memory from the one before it: seen to cost the
 * loop that follows socat up to half of its time again.
 */
static void shuffle(size_t order[ENTRANTS_MAX], uint64_t *state)
{
	for (size_t i = 0; i < ENTRANTS_MAX; i++) {
		size_t at;

		*state = *state * 6364136223846793005u + 1442695040888963407u;
		at = (size_t)(*state >> 33) % (i + 1);
		order[i] = order[at];
		order[at] = i;
	}
}

void pair_run(const struct pair *pair, struct conclusion *ret_conclusion)
{
	static struct result results[ENTRANTS_MAX];
	struct sample sample;
	size_t order[ENTRANTS_MAX];
	uint64_t state = 1;

	memset(results, 0, sizeof(results));
	/* One run that does not count, so that the first round finds memory as the others do.
	 */
	sample_take(pair, &entrants[0], &sample);
	for (unsigned round = 0; round < bench.rounds; round++) {
		shuffle(order, &state);
		for (unsigned i = 0; i < ENTRANTS_MAX; i++) {
			size_t at = order[i];

			results[at].takes_part = sample_take(pair, &entrants[at], &sample);
			if (results[at].takes_part)
				keep(&sample, round, &results[at]);
		}
	}
	json_open(NULL, '{');
	json_text("name", pair->name);
	json_text("title", pair->title);
	json_text("hand_loop", pair->hand_title);
	json_open("entrants", '[');
	table_note("\n%s: %s\nhand loop: %s", pair->name, pair->title, pair->hand_title);
	table_note("  %-10s  %7s %13s  %7s %11s  %7s", "", "s/GB", "", "GiB/s", "", "ratio");
	for (size_t at = 0; at < ENTRANTS_MAX; at++)
		if (results[at].takes_part)
			print_result(&entrants[at], &results[at], &results[0]);
	json_close(']');
	json_close('}');
	conclude(pair, results, ret_conclusion);
}

static void print_comparison(const char *name, const struct summary *ratio, const char *to)
{
	json_open(name, '{');
	json_text("to", to);
	if (ratio->median == 0) {
		printf("  %-26s  %s", "not measured", to);
	} else {
		printf("  %5.2f %5.2f-%-5.2f  %-7s  %s", ratio->median, ratio->low, ratio->high,
		       verdict(ratio), to);
		json_summary("ratio", ratio);
	}
	json_close('}');
}

void pair_conclusions(const struct conclusion *conclusions, size_t count)
{
	table_note("\nIn short: fid_copy to the hand loop, and fid to its cheapest peer.");
	json_open("conclusions", '[');
	for (size_t i = 0; i < count; i++) {
		json_open(NULL, '{');
		json_text("name", conclusions[i].pair->name);
		printf("  %-16s", conclusions[i].pair->name);
		print_comparison("library", &conclusions[i].library, "hand loop");
		print_comparison("command", &conclusions[i].command, conclusions[i].peer);
		table_note("%s", "");
		json_close('}');
	}
	json_close(']');
}
