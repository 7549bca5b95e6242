/* SPDX-License-Identifier: MIT */
#include "doctor.h"

#include "command.h"
#include "job.h"
#include "signals.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char doctor_help[] =
	"Usage: fid doctor [OPTION]... [PATH]...\n"
	"\n"
	"Finds out by doing what this kernel, container and user allow: splice, tee,\n"
	"vmsplice and what they mean here, pipes and what is left of this user's budget\n"
	"of them, SIGPIPE, which descriptors splice takes, and how files are shared,\n"
	"copied and spliced on the file system of each PATH. Without PATH that is the\n"
	"current directory or, where one cannot write there, TMPDIR or /tmp.\n"
	"\n"
	"  --json                    one line of JSON; fid-doctor(1) has the keys\n"
	"  -h, --help                this text\n"
	"  --version                 the version\n"
	"\n"
	"A line says ok, limited (fid does without it, at a cost), missing (something\n"
	"here refuses what fid would use) or unknown. Under what is amiss there is what\n"
	"would help, behind a '>'. Nothing is changed, and nothing stays behind.\n"
	"\n"
	"Exit status: 0 when all that fid can use is there, 1 when something is missing\n"
	"or could not be found out, 2 for wrong usage.\n"
	"\n"
	"  fid doctor\n"
	"  fid doctor /mnt/backup /tmp\n"
	"  fid run --deny splice=EPERM --no-preload -- fid doctor\n";

enum {
	OPTION_JSON = 256,
	OPTION_VERSION,
};

static const struct option options[] = {
	{"json", no_argument, NULL, OPTION_JSON},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, OPTION_VERSION},
	{0},
};

/* Where nobody named a path: here, or where temporary files go. */
static void check_default(struct place *place, const struct facts *facts)
{
	const char *elsewhere = getenv("TMPDIR");

	check_place(place, ".", facts, false);
	if (place->writable)
		return;
	/* One may stand where one may not even look: root's home, after su. */
	if (!place->directory[0] && place->group.findings[0].error != EACCES)
		return;
	check_place(place, elsewhere && *elsewhere ? elsewhere : "/tmp", facts, false);
}

static void examine(struct report *report, char **paths, size_t count)
{
	static const char *const names[GROUPS][2] = {
		[CALLS] = {"calls", "Calls"},
		[MEMORY] = {"memory", "Memory"},
		[PIPES] = {"pipes", "Pipes and descriptors"},
		[SIGNALS] = {"signals", "Signals"},
		[ENDS] = {"ends", "What splice takes"},
		[RING] = {"ring", "For other programs"},
	};
	struct facts facts;

	for (int i = 0; i < GROUPS; i++) {
		report->groups[i].key = names[i][0];
		report->groups[i].title = names[i][1];
	}
	facts_find(&facts);
	check_calls(&report->groups[CALLS], &facts);
	check_memory(&report->groups[MEMORY], &facts);
	check_pipes(&report->groups[PIPES], &facts);
	check_signals(&report->groups[SIGNALS], &facts);
	check_ends(&report->groups[ENDS], &facts);
	check_ring(&report->groups[RING]);
	if (count == 0)
		check_default(&report->places[0], &facts);
	for (size_t i = 0; i < count; i++)
		check_place(&report->places[i], paths[i], &facts, true);
}

static int diagnose(char **paths, size_t count, bool json)
{
	struct report *report = calloc(1, sizeof(*report));
	struct tally tally;
	bool printed;

	if (report) {
		report->places_count = count ? count : 1;
		report->places = calloc(report->places_count, sizeof(*report->places));
	}
	if (!report || !report->places) {
		print_error("%s", strerror(ENOMEM));
		free(report);
		return STATUS_FAILED;
	}
	examine(report, paths, count);
	printed = json ? report_json(report) : report_show(report);
	report_count(report, &tally);
	free(report->places);
	free(report);
	return printed && tally.missing + tally.unknown == 0 ? STATUS_DONE : STATUS_FAILED;
}

int doctor_run(int argc, char **argv)
{
	struct job job = {.command = "doctor", .help = doctor_help};
	bool json = false;
	int option;

	signals_take_limits();
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (option) {
		case OPTION_JSON:
			json = true;
			break;
		case 'h':
			return print_text(STDOUT_FILENO, doctor_help) ? STATUS_DONE
								      : STATUS_FAILED;
		case OPTION_VERSION:
			return print_version() ? STATUS_DONE : STATUS_FAILED;
		default:
			return job_option_misused(&job, options, option, argv[optind - 1]);
		}
	}
	for (int i = optind; i < argc; i++)
		if (!argv[i][0])
			return job_misused(&job, "a PATH is empty");
	return diagnose(argv + optind, (size_t)(argc - optind), json);
}
