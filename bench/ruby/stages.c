/* SPDX-License-Identifier: MIT */
/*
 * The stages, each with the best hand-written loop that is known for it, and the loop of the
 * same calls that a Ruby program makes with IO.splice.
 */
#include "../table.h"
#include "ruby.h"

static const struct stage stages[] = {
	{
		.pair =
			{
				.name = "ruby-file-pipe-64k-splice",
				.title = "file -> pipe of 64 KiB, reader splices",
				.source = END_FILE,
				.sink = END_PIPE,
				.reader = READER_SPLICES,
				.hand = {LOOP_SPLICE, 64 * KIB},
				.hand_title = "splice, 64 KiB a call",
				.splicing_times = 8,
			},
		.polled = {LOOP_SPLICE, 64 * KIB},
	},
	{
		.pair =
			{
				.name = "ruby-file-pipe-64k-read",
				.title = "file -> pipe of 64 KiB, reader reads",
				.source = END_FILE,
				.sink = END_PIPE,
				.reader = READER_READS,
				.hand = {LOOP_SPLICE, 64 * KIB},
				.hand_title = "splice, 64 KiB a call",
				.splicing_times = 4,
			},
		.polled = {LOOP_SPLICE, 64 * KIB},
	},
	{
		.pair =
			{
				.name = "ruby-file-pipe-1m-splice",
				.title = "file -> pipe of 1 MiB, reader splices",
				.source = END_FILE,
				.sink = END_PIPE,
				.sink_pipe = MIB,
				.reader = READER_SPLICES,
				.hand = {LOOP_SPLICE, MIB},
				.hand_title = "splice, 1 MiB a call",
				.splicing_times = 16,
			},
		.polled = {LOOP_SPLICE, MIB},
	},
	{
		.pair =
			{
				.name = "ruby-file-pipe-1m-read",
				.title = "file -> pipe of 1 MiB, reader reads",
				.source = END_FILE,
				.sink = END_PIPE,
				.sink_pipe = MIB,
				.reader = READER_READS,
				.hand = {LOOP_SPLICE, MIB},
				.hand_title = "splice, 1 MiB a call",
				.splicing_times = 4,
			},
		.polled = {LOOP_SPLICE, MIB},
	},
	{
		.pair =
			{
				.name = "ruby-pipe-pipe-64k",
				.title = "pipe -> pipe, both of 64 KiB, reader reads",
				.source = END_PIPE,
				.sink = END_PIPE,
				.reader = READER_READS,
				.hand = {LOOP_SPLICE, 64 * KIB},
				.hand_title = "splice, 64 KiB a call",
				.splicing_times = 2,
			},
		.polled = {LOOP_SPLICE, 64 * KIB},
	},
	{
		.pair =
			{
				.name = "ruby-pipe-pipe-1m",
				.title = "pipe -> pipe, both of 1 MiB, reader reads",
				.source = END_PIPE,
				.source_pipe = MIB,
				.sink = END_PIPE,
				.sink_pipe = MIB,
				.reader = READER_READS,
				.hand = {LOOP_SPLICE, MIB},
				.hand_title = "splice, 1 MiB a call",
				.splicing_times = 2,
			},
		.polled = {LOOP_SPLICE, MIB},
	},
	{
		.pair =
			{
				.name = "ruby-file-tcp",
				.title = "file -> TCP over loopback",
				.source = END_FILE,
				.sink = END_TCP,
				.reader = READER_READS,
				.hand = {LOOP_SENDFILE, MIB},
				.hand_title = "sendfile, 1 MiB a call",
				.splicing_times = 2,
			},
		.polled = {LOOP_SPLICE_PIPE, 64 * KIB, 64 * KIB},
	},
	{
		.pair =
			{
				.name = "ruby-tcp-tcp",
				.title = "TCP -> TCP over loopback, as a proxy does it",
				.source = END_TCP,
				.sink = END_TCP,
				.reader = READER_READS,
				.hand = {LOOP_SPLICE_PIPE, 256 * KIB, 256 * KIB},
				.hand_title = "splice through a private pipe of 256 KiB",
				.splicing_times = 1,
			},
		.polled = {LOOP_SPLICE_PIPE, 256 * KIB, 256 * KIB},
	},
};

enum { HAND, POLLED, LIBRARY, COPY, DROP_IN, LOOP, CORE, MOVERS = 9 };

static const struct mover movers[MOVERS] = {
	[HAND] = {"C loop", MOVER_HAND, true, NULL},
	[POLLED] = {"C loop, polls", MOVER_POLLED, true, NULL},
	[LIBRARY] = {"fid_copy in C", MOVER_LIBRARY, true, NULL},
	[COPY] = {"Fid.copy", MOVER_RUBY, true, "Fid.copy"},
	[DROP_IN] = {"IO::Splice.copy_stream", MOVER_RUBY, true, "IO::Splice.copy_stream"},
	[LOOP] = {"IO.splice loop", MOVER_RUBY, true, "IO.splice"},
	[CORE] = {"IO.copy_stream", MOVER_RUBY, false, "IO.copy_stream"},
	{"readpartial 16 KiB", MOVER_RUBY, false, "readpartial 16"},
	{"readpartial 64 KiB", MOVER_RUBY, false, "readpartial 64"},
};

static bool take(const void *job, size_t mover, struct sample *ret_sample)
{
	return stage_take(job, &movers[mover], ret_sample);
}

static void conclude(const struct stage *stage, const struct result *results)
{
	if (!is_sound(&results[HAND]) || !is_sound(&results[POLLED]))
		return;
	for (size_t at = COPY; at <= LOOP; at++)
		if (is_sound(&results[at]))
			conclusion_add(stage->pair.name, movers[at].name, &results[at],
				       &results[HAND], &results[POLLED]);
}

static void run_stage(const struct stage *stage)
{
	static struct result results[MOVERS];
	struct contest contest = {
		.name = stage->pair.name,
		.title = stage->pair.title,
		.mark = stage->pair.hand_title,
		.count = MOVERS,
		.take = take,
		.job = stage,
		.versus = {{POLLED, HAND},
			   {LOOP, POLLED},
			   {COPY, LIBRARY},
			   {DROP_IN, LIBRARY},
			   {COPY, CORE}},
	};

	for (size_t at = 0; at < MOVERS; at++)
		contest.names[at] = movers[at].name;
	fprintf(stderr, "%s ...\n", contest.name);
	table_contest(stdout, contest_run(&contest, results));
	conclude(stage, results);
}

bool stages_chosen(void)
{
	for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++)
		if (is_chosen(stages[i].pair.name))
			return true;
	return false;
}

void stages_run(void)
{
	json_open("stages", '[');
	for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++)
		if (is_chosen(stages[i].pair.name))
			run_stage(&stages[i]);
	json_close(']');
}
