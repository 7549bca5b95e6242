/* SPDX-License-Identifier: MIT */
#include "command.h"
#include "transfer.h"

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

struct list {
	const struct job *job;
	struct endpoint *source; /* the one that is open */
	char **rest;             /* those that are to come, ends with NULL */
	uint64_t before;         /* bytes of those that were */
};

/* What all sources together have; asked once, when it is to be shown. */
static uint64_t expect(void *context)
{
	const struct list *list = context;
	uint64_t bytes = transfer_size(list->job, list->source);

	if (bytes == PROGRESS_UNKNOWN)
		return bytes;
	bytes += list->before;
	for (char **name = list->rest; *name; name++) {
		struct stat there;

		if (stat(*name, &there) < 0 || !S_ISREG(there.st_mode))
			return PROGRESS_UNKNOWN;
		bytes += (uint64_t)there.st_size;
	}
	return list->job->limit_given && list->job->limit < bytes ? list->job->limit : bytes;
}

static enum outcome cat_one(struct transfer *transfer, struct list *list, const char *name)
{
	const struct job *job = transfer->job;
	uint64_t limit = UINT64_MAX;
	struct endpoint source;
	enum outcome outcome;

	if (job->limit_given) {
		limit = job->limit - transfer->receipt.bytes_out;
		/* Nothing more is wanted: what cannot be opened is no matter. */
		if (limit == 0 && transfer->count > 0)
			return OUTCOME_DONE;
	}
	/* Understood before, when all names were. */
	endpoint_parse(&source, name, FID_SIDE_SOURCE);
	if (!endpoint_open_source(&source)) {
		endpoint_forget(&source);
		return OUTCOME_SOURCE_FAILED;
	}
	if (endpoint_onto_itself(&source, transfer->sink,
				 job->offset_given ? (int64_t)job->offset : -1)) {
		print_error("%s (source): it is standard output as well", source.name);
		outcome = OUTCOME_SOURCE_FAILED;
	} else if (job_receipt_meets(job, &source)) {
		print_error("%s (source): the receipt would go there", source.name);
		outcome = OUTCOME_SOURCE_FAILED;
	} else {
		list->source = &source;
		list->before = transfer->receipt.bytes_out;
		outcome = transfer_run(transfer, &source, limit);
		list->source = NULL;
	}
	endpoint_close(&source);
	return outcome;
}

static int cat(struct job *job, char **names)
{
	struct list list = {.job = job};
	struct transfer transfer;
	enum outcome outcome = OUTCOME_DONE;
	struct endpoint sink;

	if (!job_open_receipt(job))
		return STATUS_FAILED;
	endpoint_parse(&sink, "-", FID_SIDE_SINK);
	if (!endpoint_open_sink(&sink, NULL, false))
		return STATUS_FAILED;
	if (job_receipt_meets(job, &sink)) {
		print_error("the receipt would go to standard output");
		return STATUS_USAGE;
	}
	transfer_begin(&transfer, job, &sink, true);
	transfer.expect = expect;
	transfer.context = &list;
	for (; *names; names++) {
		enum outcome this;

		list.rest = names + 1;
		this = cat_one(&transfer, &list, *names);
		if (this != OUTCOME_DONE)
			outcome = this;
		if (this != OUTCOME_DONE && this != OUTCOME_SOURCE_FAILED)
			break;
	}
	return transfer_finish(&transfer, outcome);
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
	struct endpoint endpoint;
	int status, first = job_parse(&job, argc, argv, &status);

	if (first < 0)
		return status;
	for (int i = first; i < argc; i++) {
		bool understood = endpoint_parse(&endpoint, argv[i], FID_SIDE_SOURCE);

		endpoint_forget(&endpoint);
		if (!understood)
			return STATUS_USAGE;
	}
	if (job.offset_given && argc - first > 1)
		return job_misused(&job, "--offset wants one SOURCE only");
	if (job.receipt_path && strcmp(job.receipt_path, "-") == 0)
		return job_misused(&job, "standard output is the sink: no room for a receipt");
	return cat(&job, first < argc ? argv + first : alone);
}
