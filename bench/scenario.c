/* SPDX-License-Identifier: MIT */
#include "scenario.h"

#include "pair.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void pair_scenario_run(const struct scenario *scenario)
{
	for (size_t i = 0; i < pairs_count; i++)
		if (strcmp(pairs[i].name, scenario->name) == 0)
			pair_run(&pairs[i]);
}

#define PAIR(name_, line_, default_)                                                    \
	{                                                                               \
		.name = name_, .line = line_, .section = "pairs", .form = FORM_CONTEST, \
		.by_default = default_, .wants_files = true, .run = pair_scenario_run,  \
		.ours = "fid_copy", .rival = "read/write"                               \
	}

const struct scenario scenarios[] = {
	PAIR("file-pipe-splice", "a file into a pipe whose reader splices", false),
	PAIR("file-pipe-read", "a file into a pipe whose reader reads", true),
	PAIR("file-pipe-shell", "a file into a pipe as a shell makes it", false),
	PAIR("pipe-pipe", "a pipe into a pipe", true),
	PAIR("pipe-file", "a pipe into a file", false),
	PAIR("file-file", "a file into a file of the same file system", true),
	PAIR("file-memory", "a file into a file on tmpfs", false),
	PAIR("file-tcp", "a file into TCP over loopback", true),
	PAIR("tcp-file", "TCP over loopback into a file", false),
	PAIR("tcp-pipe", "TCP over loopback into a pipe", false),
	{
		.name = "sweep-pipe",
		.line = "a file into pipes of 4 KiB to 1 MiB",
		.section = "sweeps",
		.form = FORM_SWEEP,
		.by_default = true,
		.wants_files = true,
		.run = sweep_pipe_run,
		.axis = "capacity of the pipe",
		.is_bytes = true,
		.each = "pipes",
		.rival = "splice loop",
		.ours = "fid_copy",
	},
	{
		.name = "sweep-chunk",
		.line = "a file into a pipe, 1 KiB to 1 MiB asked for by each call",
		.section = "sweeps",
		.form = FORM_SWEEP,
		.by_default = true,
		.wants_files = true,
		.run = sweep_chunk_run,
		.axis = "bytes asked for by a call",
		.is_bytes = true,
		.each = "calls",
		.rival = "splice loop",
		.ours = "fid_copy",
	},
	{
		.name = "sweep-message",
		.line = "messages of 64 B to 1 MiB through a relay of TCP",
		.section = "sweeps",
		.form = FORM_SWEEP,
		.by_default = true,
		.run = sweep_message_run,
		.axis = "size of a message",
		.is_bytes = true,
		.each = "messages",
		.rival = "splice-pipe",
		.ours = "fid_copy",
		.shows_ratio = true,
	},
	{
		.name = "memory-read",
		.line = "new data into a pipe whose reader reads, by mode and block",
		.section = "memory",
		.form = FORM_SWEEP,
		.by_default = true,
		.run = memory_read_run,
		.axis = "bytes sent at once",
		.is_bytes = true,
		.each = "blocks",
		.rival = "fresh by hand",
		.ours = "fid fresh",
	},
	{
		.name = "memory-splice",
		.line = "new data into a pipe whose reader splices, by mode and block",
		.section = "memory",
		.form = FORM_SWEEP,
		.run = memory_splice_run,
		.axis = "bytes sent at once",
		.is_bytes = true,
		.each = "blocks",
		.rival = "fresh by hand",
		.ours = "fid fresh",
	},
	{
		.name = "constant-read",
		.line = "the same bytes over and over, to a reader that reads",
		.section = "constant",
		.form = FORM_CONTEST,
		.ours = "fid const",
		.rival = "yes",
		.run = constant_read_run,
	},
	{
		.name = "constant-splice",
		.line = "the same bytes over and over, to a reader that splices",
		.section = "constant",
		.form = FORM_CONTEST,
		.ours = "fid const",
		.rival = "yes",
		.run = constant_splice_run,
	},
	{
		.name = "fan-read",
		.line = "one pipe into 1 to 16 pipes whose readers read",
		.section = "fan",
		.form = FORM_SWEEP,
		.by_default = true,
		.run = fan_read_run,
		.axis = "sinks",
		.each = "sinks",
		.rival = "tee loop",
		.ours = "fid_fan",
	},
	{
		.name = "fan-splice",
		.line = "one pipe into 1 to 16 pipes whose readers splice",
		.section = "fan",
		.form = FORM_SWEEP,
		.run = fan_splice_run,
		.axis = "sinks",
		.each = "sinks",
		.rival = "tee loop",
		.ours = "fid_fan",
	},
	{
		.name = "calls",
		.line = "what fid_splice() and its sisters add to a call",
		.section = "calls",
		.form = FORM_CALLS,
		.by_default = true,
		.run = calls_run,
	},
	{
		.name = "small",
		.line = "what fid_copy() adds to a read and a write of 1 or 4 KiB",
		.section = "small",
		.form = FORM_SMALL,
		.by_default = true,
		.run = small_run,
	},
	{
		.name = "start",
		.line = "the whole run of 'fid cat', and of cat, for a file of 4 KiB",
		.section = "start",
		.form = FORM_START,
		.by_default = true,
		.run = start_run,
	},
	{
		.name = "idle",
		.line = "the memory and descriptors of 10000 flows that wait",
		.section = "idle",
		.form = FORM_IDLE,
		.run = idle_run,
	},
};
const size_t scenarios_count = sizeof(scenarios) / sizeof(scenarios[0]);

bool scenario_is_meant(const struct scenario *scenario, const char *word)
{
	size_t length = strlen(word);

	if (strcmp(word, "all") == 0)
		return true;
	return length > 0 && strncmp(scenario->name, word, length) == 0 &&
	       (scenario->name[length] == '-' || !scenario->name[length]);
}

/* Results that are older than sweeps tell the place in the name only: "memory-read-64k". */
double contest_at(const struct json *contest)
{
	double at = json_number_of(contest, "at");
	const char *name = json_text_of(contest, "name"), *number = strrchr(name, '-');

	if (!isnan(at))
		return at;
	if (strncmp(name, "fan-", 4) == 0)
		return 4;
	return number ? (double)KIB * strtod(number + 1, NULL) : 0;
}

static bool is_of(const struct scenario *scenario, const struct json *contest)
{
	const char *told = json_text_of(contest, "scenario");
	const char *name = json_text_of(contest, "name");
	size_t length = strlen(scenario->name);

	if (*told)
		return strcmp(told, scenario->name) == 0;
	return strncmp(name, scenario->name, length) == 0 &&
	       (!name[length] || (scenario->form == FORM_SWEEP && name[length] == '-'));
}

size_t scenario_contests(const struct scenario *scenario, const struct json *document,
			 const struct json **ret_contests, size_t most)
{
	const struct json *list = json_get(document, scenario->section);
	size_t count = 0;

	if (scenario->form != FORM_CONTEST && scenario->form != FORM_SWEEP)
		return 0;
	for (const struct json *one = list ? list->first : NULL; one && count < most;
	     one = one->next)
		if (is_of(scenario, one))
			ret_contests[count++] = one;
	return count;
}

bool scenario_is_in(const struct scenario *scenario, const struct json *document)
{
	const struct json *contests[POINTS_MAX], *section;

	if (scenario->form == FORM_CONTEST || scenario->form == FORM_SWEEP)
		return scenario_contests(scenario, document, contests, POINTS_MAX) > 0;
	section = json_get(document, scenario->section);
	return section && section->first;
}

/* Older results have one number for all. */
bool scenario_rounds(const struct scenario *scenario, const struct json *document,
		     double *ret_fewest, double *ret_most)
{
	const struct json *contests[POINTS_MAX];
	size_t count = scenario_contests(scenario, document, contests, POINTS_MAX);

	*ret_fewest = INFINITY;
	*ret_most = 0;
	for (size_t i = 0; i < count; i++) {
		double rounds = json_number_of(contests[i], "rounds");

		if (isnan(rounds))
			rounds = json_number_of(document, "rounds");
		*ret_fewest = rounds < *ret_fewest ? rounds : *ret_fewest;
		*ret_most = rounds > *ret_most ? rounds : *ret_most;
	}
	return isfinite(*ret_fewest);
}

void rounds_add(void)
{
	double least = INFINITY, fewest, most;

	for (size_t i = 0; i < scenarios_count; i++)
		if (scenario_rounds(&scenarios[i], json_root(), &fewest, &most) &&
		    fewest < least)
			least = fewest;
	if (isfinite(least))
		json_number("rounds", least);
}
