/* SPDX-License-Identifier: MIT */
/*
 * Each pair is a contest, and what matters about it is said again at the end.
 */
#include "pair.h"

/* What matters about a pair. A median of 0: it could not be measured. */
struct conclusion {
	struct summary library; /* fid_copy() to the hand loop */
	struct summary command; /* the command to the cheapest of its peers */
	const char *peer;
};

/* The library to the hand loop, and the command to the cheapest other command. */
static void conclude(const struct result *results, struct conclusion *ret_conclusion)
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
			 (!peer || summarise(result->cpu, result->rounds).median <
					   summarise(peer->cpu, peer->rounds).median)) {
			peer = result;
			peer_name = entrant->name;
		}
	}
	*ret_conclusion = (struct conclusion){.peer = peer_name};
	if (hand && library)
		ret_conclusion->library = cost_ratio(library, hand);
	if (fid && peer)
		ret_conclusion->command = cost_ratio(fid, peer);
}

static bool take(const void *job, size_t entrant, struct sample *ret_sample)
{
	return sample_take(job, &entrants[entrant], ret_sample);
}

static void add_comparison(const char *name, const struct summary *ratio, const char *to)
{
	json_open(name, '{');
	json_text("to", to);
	if (ratio->median != 0)
		json_summary("ratio", ratio);
	json_close('}');
}

void pair_run(const struct pair *pair)
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
	struct conclusion conclusion;

	for (size_t at = 0; at < ENTRANTS_MAX; at++)
		contest.names[at] = entrants[at].name;
	json_open("pairs", '[');
	contest_run(&contest, results);
	json_close(']');
	conclude(results, &conclusion);
	json_open("conclusions", '[');
	json_open(NULL, '{');
	json_text("name", pair->name);
	add_comparison("library", &conclusion.library, "hand loop");
	add_comparison("command", &conclusion.command, conclusion.peer);
	json_close('}');
	json_close(']');
}
