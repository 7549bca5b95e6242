/* SPDX-License-Identifier: MIT */
/*
 * Each pair is a contest, and what matters about it is said again at the end.
 */
#include "pair.h"

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
		ret_conclusion->library = cost_ratio(library, hand);
	if (fid && peer)
		ret_conclusion->command = cost_ratio(fid, peer);
}

static bool take(const void *job, size_t entrant, struct sample *ret_sample)
{
	return sample_take(job, &entrants[entrant], ret_sample);
}

void pair_run(const struct pair *pair, struct conclusion *ret_conclusion)
{
	static struct result results[ENTRANTS_MAX];
	struct contest contest = {
		.name = pair->name,
		.title = pair->title,
		.mark = pair->hand_title,
		.count = ENTRANTS_MAX,
		.take = take,
		.job = pair,
	};

	for (size_t at = 0; at < ENTRANTS_MAX; at++)
		contest.names[at] = entrants[at].name;
	contest_run(&contest, results);
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
