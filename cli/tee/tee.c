/* SPDX-License-Identifier: MIT */
#include "tee.h"

#include "command.h"
#include "signals.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char tee_help[] =
	"Usage: fid tee [OPTION]... [SINK]...\n"
	"\n"
	"Gives all bytes of standard input to standard output and to each SINK, at once\n"
	"and in order; pipes get them without a copy.\n"
	"\n"
	"A SINK is named as in 'fid copy' (see 'fid help copy'). Standard output gets the\n"
	"bytes once, named by - or not; a file of that name is ./- (for tee(1) it is -).\n"
	"\n"
	"  -a, --append              add to the end of files (for which the kernel wants\n"
	"                            the bytes copied by this process)\n"
	"  -i, --ignore-interrupts   SIGINT does not end it\n"
	"  --no-stdout               not to standard output, unless it is named\n"
	"\n"
	"When a SINK is slow\n"
	"  --on-slow wait            all go at its pace; by itself it is so\n"
	"  --on-slow drop            it fails when it took nothing for --stall SECONDS\n"
	"  --on-slow spill           what it does not take waits in a file without a name\n"
	"                            in $TMPDIR or /tmp\n"
	"  --stall SECONDS           drop: 1 by itself, 0.25 is a quarter; spill: a SINK\n"
	"                            whose file is full may fail so, too\n"
	"  --spill-size SIZE         of each such file, at most; 1G by itself\n"
	"\n"
	"When a SINK fails\n"
	"  --on-error continue       the others go on, and the exit status is 1 then\n"
	"  --on-error stop           all end\n"
	"                            By itself the others go on, but 'fid tee' dies by\n"
	"                            SIGPIPE when whoever read standard output has gone\n"
	"  -p, --output-error[=MODE] as with tee(1): warn, warn-nopipe, exit, exit-nopipe\n"
	"\n"
	"As in 'fid copy' are --limit, --offset, --stable, --route, --pipe-size,\n"
	"--receipt, --receipt-file, --progress, --no-progress, --name, --help, --version\n"
	"and 'kill -USR1', but progress is not shown by itself. A receipt has a line for\n"
	"standard input and one for each SINK; json is one line:\n"
	"{\"source\":{...},\"sinks\":[{\"name\":...},...]}\n"
	"\n"
	"Exit status: 0 done, 1 a SINK or standard input failed, 2 wrong usage.\n"
	"\n"
	"  make 2>&1 | fid tee build.log\n"
	"  tar c . | fid tee --no-stdout tcp:one:9000 tcp:two:9000 here.tar\n";

enum {
	OPTION_NO_STDOUT = JOB_OWN,
	OPTION_ON_SLOW,
	OPTION_STALL,
	OPTION_SPILL_SIZE,
	OPTION_ON_ERROR,
};

static const struct option options[] = {
	{"ignore-interrupts", no_argument, NULL, 'i'},
	{"output-error", optional_argument, NULL, 'p'},
	{"no-stdout", no_argument, NULL, OPTION_NO_STDOUT},
	{"on-slow", required_argument, NULL, OPTION_ON_SLOW},
	{"stall", required_argument, NULL, OPTION_STALL},
	{"spill-size", required_argument, NULL, OPTION_SPILL_SIZE},
	{"on-error", required_argument, NULL, OPTION_ON_ERROR},
	{0},
};

static const struct job_refusal refused[] = {
	{"require", "--require is for one sink: 'fid tee' tells in its receipt how each was "
		    "served"},
	{"sparse", "'fid tee' has no --sparse; use 'fid copy'"},
	{"sync", "'fid tee' has no --sync; use 'fid copy', or sync(1) afterwards"},
	{"idle-timeout", "'fid tee' has no --idle-timeout; --on-slow drop --stall is for a "
			 "slow SINK"},
	{"digest", "'fid tee' has no --digest: let 'fid cat --digest' feed it"},
	{"rate-limit", "'fid tee' has no --rate-limit: let 'fid cat --rate-limit' feed it"},
	{0},
};

/* Which of the words that end with NULL it is. Returns -1 after a message. */
static int find_word(const struct job *job, const char *option, const char *const *words,
		     const char *wish)
{
	char known[128] = "", shown[128];

	for (int i = 0; words[i]; i++) {
		if (strcmp(words[i], wish) == 0)
			return i;
		snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s",
			 i == 0         ? ""
			 : words[i + 1] ? ", "
					: " or ",
			 words[i]);
	}
	job_misused(job, "%s wants %s, not '%s'", option, known,
		    print_name(shown, sizeof(shown), wish));
	return -1;
}

static bool take_on_slow(struct tee *tee)
{
	static const char *const words[] = {"wait", "drop", "spill", NULL};
	int found = find_word(&tee->job, "--on-slow", words, optarg);

	tee->on_slow = (uint32_t)found;
	return found >= 0;
}

static bool take_on_error(struct tee *tee)
{
	static const char *const words[] = {"continue", "stop", NULL};
	int found = find_word(&tee->job, "--on-error", words, optarg);

	tee->stop = found == 1;
	tee->broken_pipe = BROKEN_PIPE_FAILS;
	return found >= 0;
}

/* The modes of GNU tee; without one it is the first. */
static bool take_output_error(struct tee *tee)
{
	static const char *const words[] = {"warn-nopipe", "warn", "exit", "exit-nopipe", NULL};
	int found = optarg ? find_word(&tee->job, "--output-error", words, optarg) : 0;

	tee->stop = found >= 2;
	tee->broken_pipe = found == 0 || found == 3 ? BROKEN_PIPE_IS_QUIET : BROKEN_PIPE_FAILS;
	return found >= 0;
}

static bool take(struct job *job, int option)
{
	struct tee *tee = (struct tee *)job;

	switch (option) {
	case 'a':
		job->append = true;
		return true;
	case 'i':
		tee->ignore_interrupts = true;
		return true;
	case 'p':
		return take_output_error(tee);
	case OPTION_NO_STDOUT:
		tee->no_stdout = true;
		return true;
	case OPTION_ON_SLOW:
		return take_on_slow(tee);
	case OPTION_STALL:
		return job_parse_seconds(job, "--stall", optarg, &tee->stall_ms);
	case OPTION_SPILL_SIZE:
		if (!job_parse_size("--spill-size", optarg, INT64_MAX, &tee->spill_bytes))
			return false;
		if (tee->spill_bytes > 0)
			return true;
		job_misused(job, "--spill-size: a file has at least one byte");
		return false;
	default:
		return take_on_error(tee);
	}
}

/* Understands the names: standard output is the first sink. Returns an exit status. */
static int parse_names(struct tee *tee, char **names)
{
	bool to_stdout = !tee->no_stdout;

	for (; *names; names++) {
		struct sink *sink = &tee->sinks[tee->count];

		if (!endpoint_parse(&sink->end, *names, FID_SIDE_SINK))
			return STATUS_USAGE;
		if (tee_is_stdout(sink))
			to_stdout = true;
		else
			tee->count++;
	}
	if (to_stdout) {
		memmove(tee->sinks + 1, tee->sinks, tee->count++ * sizeof(*tee->sinks));
		endpoint_parse(&tee->sinks[0].end, "-", FID_SIDE_SINK);
	}
	for (size_t i = 0; i < tee->count; i++)
		tee->sinks[i].spill = -1;
	if (tee->count > FID_FAN_SINKS_MAX)
		return job_misused(&tee->job, "at most %d sinks, please", FID_FAN_SINKS_MAX);
	if (to_stdout && tee->job.receipt_path && strcmp(tee->job.receipt_path, "-") == 0)
		return job_misused(&tee->job,
				   "standard output is a sink: no room for a receipt");
	return STATUS_DONE;
}

static int tee_checked(struct tee *tee, int count, char **names)
{
	bool spills = tee->on_slow == FID_SLOW_SPILL;
	int status;

	if (tee->stall_ms > 0 && tee->on_slow == FID_SLOW_WAIT)
		return job_misused(&tee->job, "--stall goes with --on-slow drop or spill");
	if (tee->job.routes && tee->job.routes != FID_ROUTE(FID_READ_WRITE))
		return job_misused(&tee->job, "--route: only read-write can be asked for; "
					      "'fid tee' chooses itself among the others");
	if (tee->spill_bytes > 0 && !spills)
		return job_misused(&tee->job, "--spill-size goes with --on-slow spill");
	/* One more for standard output. */
	tee->sinks = calloc((size_t)count + 1, sizeof(*tee->sinks));
	if (!tee->sinks) {
		print_error("%s", strerror(ENOMEM));
		return STATUS_FAILED;
	}
	status = parse_names(tee, names);
	if (status == STATUS_DONE)
		status = tee_spread(tee);
	for (size_t i = 0; i <= (size_t)count; i++)
		endpoint_forget(&tee->sinks[i].end);
	return status;
}

int tee_run(int argc, char **argv)
{
	static const struct job_own own = {.options = options, .letters = "aip", .take = take};
	struct tee tee = {
		.job = {.command = "tee", .help = tee_help, .own = &own, .refused = refused},
	};
	int status, first;

	signals_take_reports();
	signals_take_limits();
	first = job_parse(&tee.job, argc, argv, &status);
	if (first < 0)
		return status;
	status = tee_checked(&tee, argc - first, argv + first);
	fid_fan_free(tee.fan);
	free(tee.sinks);
	return job_end(&tee.job, status);
}
