/* SPDX-License-Identifier: MIT */
/*
 * Who takes part, and how each command is told to do a pair. Every command reads its standard
 * input and writes its standard output, except where it is better at files that it opens
 * itself, and each has the options that serve it best.
 */
#include "pair.h"

#include <string.h>

static bool is_file(enum end end)
{
	return end == END_FILE || end == END_MEMORY;
}

/* Appends the name of a source file, if there is one, so many times, and ends the list. */
static void add_sources(const struct pair *pair, unsigned times, const char *source,
			const char **argv, size_t at)
{
	for (unsigned i = 0; is_file(pair->source) && i < times; i++)
		argv[at++] = source;
	argv[at] = NULL;
}

static bool fid(const struct pair *pair, unsigned times, const char *source, const char *sink,
		const char **argv)
{
	if (is_file(pair->source) && is_file(pair->sink)) {
		memcpy(argv, (const char *[]){bench.fid, "copy", source, sink, NULL},
		       5 * sizeof(*argv));
		return true;
	}
	argv[0] = bench.fid;
	argv[1] = "cat";
	add_sources(pair, times, source, argv, 2);
	return true;
}

static bool cat(const struct pair *pair, unsigned times, const char *source, const char *sink,
		const char **argv)
{
	argv[0] = "cat";
	add_sources(pair, times, source, argv, 1);
	return true;
}

static bool pv(const struct pair *pair, unsigned times, const char *source, const char *sink,
	       const char **argv)
{
	argv[0] = "pv";
	argv[1] = "-q";
	add_sources(pair, times, source, argv, 2);
	return true;
}

static bool cp(const struct pair *pair, unsigned times, const char *source, const char *sink,
	       const char **argv)
{
	memcpy(argv, (const char *[]){"cp", source, sink, NULL}, 4 * sizeof(*argv));
	return is_file(pair->source) && is_file(pair->sink);
}

static bool dd(const struct pair *pair, unsigned times, const char *source, const char *sink,
	       const char **argv)
{
	memcpy(argv, (const char *[]){"dd", "bs=128K", "status=none", NULL}, 4 * sizeof(*argv));
	return true;
}

static bool socat(const struct pair *pair, unsigned times, const char *source, const char *sink,
		  const char **argv)
{
	memcpy(argv, (const char *[]){"socat", "-u", "-b", "262144", "STDIN", "STDOUT", NULL},
	       7 * sizeof(*argv));
	return true;
}

static bool mbuffer(const struct pair *pair, unsigned times, const char *source,
		    const char *sink, const char **argv)
{
	memcpy(argv, (const char *[]){"mbuffer", "-q", "-s", "128k", "-m", "8M", NULL},
	       7 * sizeof(*argv));
	return true;
}

const struct entrant entrants[ENTRANTS_MAX] = {
	{.name = "hand loop", .kind = ENTRANT_HAND, .splices = true},
	{.name = "fid_copy", .kind = ENTRANT_LIBRARY, .splices = true},
	{.name = "fid",
	 .kind = ENTRANT_FID,
	 .splices = true,
	 .names_files = true,
	 .command = fid},
	{.name = "read/write", .kind = ENTRANT_READ_WRITE},
	{.name = "pv", .kind = ENTRANT_PEER, .splices = true, .command = pv},
	{.name = "cat", .kind = ENTRANT_PEER, .command = cat},
	{.name = "cp", .kind = ENTRANT_PEER, .names_files = true, .command = cp},
	{.name = "dd", .kind = ENTRANT_PEER, .command = dd},
	{.name = "socat", .kind = ENTRANT_PEER, .command = socat},
	{.name = "mbuffer", .kind = ENTRANT_PEER, .command = mbuffer},
};
