/* SPDX-License-Identifier: MIT */
#include "command.h"
#include "signals.h"
#include "sources.h"

#include <string.h>
#include <unistd.h>

const char cat_help[] =
	"Usage: fid cat [OPTION]... [SOURCE]...\n"
	"\n"
	"Moves all bytes of each SOURCE to standard output, in that order. Without a\n"
	"SOURCE, or where it is -, that is standard input.\n"
	"\n"
	"Sources and options are those of 'fid copy' (see 'fid help copy') except\n"
	"  --limit SIZE              stop after so many bytes in all\n"
	"  --offset SIZE             wants one SOURCE only\n"
	"  --append                  is not there: use the shell's >>\n"
	"  --sparse, --sync          want a file as standard output\n"
	"  --progress                progress is never shown by itself\n"
	"  --digest NAME             prints its line on standard error\n"
	"The receipt is the sum over all sources, --rate-limit and --digest hold for all\n"
	"of them together.\n"
	"\n"
	"A SOURCE that fails does not keep those after it from being moved.\n"
	"When the reader of standard output goes away, 'fid cat' dies by SIGPIPE, and\n"
	"says nothing, as cat(1) does.\n"
	"\n"
	"Exit status: 0 done, 1 failed, 2 wrong usage, 3 what --require wants cannot be.\n"
	"\n"
	"  fid cat part.* > whole\n"
	"  fid cat --limit 1M --receipt /dev/urandom | sha256sum\n";

static int cat(struct job *job, char **names)
{
	struct sources list = {.job = job, .names = names};
	struct transfer transfer;
	struct endpoint sink;
	int status = sources_look(&list);

	if (status != STATUS_DONE)
		return status;
	if (!job_open_receipt(job))
		return STATUS_FAILED;
	endpoint_parse(&sink, "-", FID_SIDE_SINK);
	if (!endpoint_open_sink(&sink, NULL, false))
		return STATUS_FAILED;
	if (job_receipt_meets(job, &sink)) {
		print_error("the receipt would go to standard output");
		return STATUS_USAGE;
	}
	if (!transfer_takes_sink(job, &sink))
		return STATUS_USAGE;
	transfer_begin(&transfer, job, true);
	transfer_to(&transfer, &sink);
	transfer.expect = sources_expect;
	transfer.context = &list;
	return transfer_finish(&transfer, sources_move(&transfer, &list, NULL));
}

int cat_run(int argc, char **argv)
{
	static char input[] = "-";
	static char *alone[] = {input, NULL};
	static const struct job_refusal refused[] = {
		{"append", "'fid cat' has no --append; use the shell's >>"},
		{0},
	};
	struct job job = {.command = "cat", .help = cat_help, .refused = refused};
	int status, first;

	signals_take_reports();
	signals_take_limits();
	first = job_parse(&job, argc, argv, &status);
	if (first < 0)
		return status;
	if (!sources_parse(argv + first))
		return STATUS_USAGE;
	if (job.offset_given && argc - first > 1)
		return job_misused(&job, "--offset wants one SOURCE only");
	if (job.receipt_path && strcmp(job.receipt_path, "-") == 0)
		return job_misused(&job, "standard output is the sink: no room for a receipt");
	return job_end(&job, cat(&job, first < argc ? argv + first : alone));
}
