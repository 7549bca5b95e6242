/* SPDX-License-Identifier: MIT */
/*
 * A file into a pipe, for pipes of several sizes and for calls of several sizes.
 */
#include "pair.h"
#include "scenario.h"

#include <fid.h>

enum { READ_WRITE, SPLICE, LIBRARY, SWEEPERS };

static const struct entrant sweepers[SWEEPERS] = {
	[READ_WRITE] = {.name = "read/write", .kind = ENTRANT_READ_WRITE},
	[SPLICE] = {.name = "splice loop", .kind = ENTRANT_HAND, .splices = true},
	[LIBRARY] = {.name = "fid_copy", .kind = ENTRANT_LIBRARY, .splices = true},
};

static bool take(const void *job, size_t entrant, struct sample *ret_sample)
{
	return sample_take(job, &sweepers[entrant], ret_sample);
}

static void run_point(const struct scenario *scenario, const struct pair *pair, size_t at,
		      unsigned points)
{
	static struct result results[SWEEPERS];
	char name[64];
	struct contest contest = {
		.name = name,
		.title = pair->title,
		.scenario = scenario->name,
		.at = at,
		.shares = points,
		.mark = pair->hand_title,
		.count = SWEEPERS,
		.take = take,
		.job = pair,
		.versus = {{LIBRARY, SPLICE}},
	};

	snprintf(name, sizeof(name), "%s-%zuk", scenario->name, at / KIB);
	for (size_t i = 0; i < SWEEPERS; i++)
		contest.names[i] = sweepers[i].name;
	contest_run(&contest, results);
}

void sweep_pipe_run(const struct scenario *scenario)
{
	json_open("sweeps", '[');
	for (size_t at = 4 * KIB; at <= MIB; at *= 4) {
		const struct pair pair = {
			.name = scenario->name,
			.title = "file -> pipe, reader reads 256 KiB",
			.source = END_FILE,
			.sink = END_PIPE,
			.sink_pipe = at,
			.reader = READER_READS,
			.hand = {LOOP_SPLICE, MIB},
			.hand_title = "read and write, 128 KiB a call; splice asks for 1 MiB",
			.splicing_times = 2,
		};

		run_point(scenario, &pair, at, 5);
	}
	json_close(']');
}

void sweep_chunk_run(const struct scenario *scenario)
{
	json_open("sweeps", '[');
	for (size_t at = KIB; at <= MIB; at *= 4) {
		const struct pair pair = {
			.name = scenario->name,
			.title = "file -> pipe of 1 MiB, reader reads; fid_copy chooses by "
				 "itself",
			.source = END_FILE,
			.sink = END_PIPE,
			.sink_pipe = MIB,
			.reader = READER_READS,
			.hand = {LOOP_SPLICE, at},
			.hand_title = "read and write, so much a call",
			.copy_bytes = at,
			.splicing_times = 2,
		};

		run_point(scenario, &pair, at, 6);
	}
	json_close(']');
}
