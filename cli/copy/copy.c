/* SPDX-License-Identifier: MIT */
#include "command.h"
#include "folder.h"
#include "signals.h"
#include "sources.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

const char copy_help[] =
	"Usage: fid copy [OPTION]... SOURCE... SINK\n"
	"\n"
	"Moves all bytes of SOURCE to SINK by the cheapest way that this kernel has. The\n"
	"bytes of several sources are joined in SINK, in that order; where it is a\n"
	"folder each goes into it under its own name.\n"
	"\n"
	"A SOURCE or SINK is\n"
	"  PATH                      a file, a FIFO, a device; a SINK may be a directory\n"
	"  -                         standard input, standard output\n"
	"  fd:N                      a descriptor that is open already\n"
	"  tcp:HOST:PORT             a connection to there; tcp:[::1]:9000 for IPv6\n"
	"  tcp-listen:[HOST:]PORT    the first connection from there; without HOST from\n"
	"                            anywhere; port 0 takes a free one and tells it\n"
	"  unix:PATH                 a connection to the unix socket PATH\n"
	"  unix-listen:PATH          the first connection to a new unix socket PATH\n"
	"A file whose name looks like one of these is written ./tcp:x.\n"
	"\n"
	"What to move\n"
	"  --limit SIZE              stop after so many bytes, of all sources\n"
	"  --offset SIZE             begin so far into SOURCE, of which there is one\n"
	"  --append                  add to the end of the file SINK (O_APPEND, for which\n"
	"                            the kernel wants the bytes copied by this process)\n"
	"  --sparse                  holes of a SOURCE become holes of SINK, a file\n"
	"\n"
	"How to move it\n"
	"  --stable                  later writes to SOURCE never show in what was moved\n"
	"  --route NAME[,NAME...]    only in these ways: reflink, copy_file_range,\n"
	"                            sendfile, splice, splice-pipe, read-write\n"
	"  --require WHAT            by-reference or no-user-copy, or else move nothing\n"
	"  --pipe-size SIZE          the size of pipes, given or private\n"
	"  --sync                    done is when the disk has all, and the name of SINK\n"
	"  --idle-timeout SECONDS    fail when nothing moves for so long: 30, 0.5\n"
	"  --rate-limit SIZE         at most so many bytes a second\n"
	"\n"
	"What to tell\n"
	"  --receipt[=text|json]     how every byte moved and why, on standard error\n"
	"  --receipt-file PATH       the same, in a file; - is standard output\n"
	"  --digest sha256|xxh3      of what was moved, as a line for sha256sum -c or\n"
	"                            xxhsum -c on standard output, and in the receipt\n"
	"  --progress                always show progress; by itself it is shown on a\n"
	"  --no-progress             terminal, after a second; or never\n"
	"  --name TEXT               what the progress line begins with\n"
	"  -h, --help                this text\n"
	"  --version                 the version\n"
	"\n"
	"A SIZE is 4096, 64K or 64KiB (1024 each), 64KB (1000 each); and so M, G and T.\n"
	"'kill -USR1' has it print the receipt so far, on standard error.\n"
	"\n"
	"Exit status: 0 done, 1 failed, 2 wrong usage, 3 what --require wants cannot be.\n"
	"\n"
	"  fid copy --receipt --sparse disk.img backup.img\n"
	"  fid copy part.* whole                  # and part.* folder: each by itself\n"
	"  fid copy tcp-listen:9000 backup.tar    # on one machine\n"
	"  fid copy backup.tar tcp:thathost:9000  # on the other\n";

/*
 * On a terminal that takes part in the transfer there is no room for another line, and the
 * reader of standard output may be a pager that has the terminal.
 */
static bool quiet_by_itself(const struct endpoint *source, const struct endpoint *sink)
{
	return isatty(source->fd) || isatty(sink->fd) ||
	       (sink->fd == STDOUT_FILENO && endpoint_is_pipe(sink));
}

/* Whether both ends may be used together; an exit status. */
static int check(const struct sources *list, const struct endpoint *source,
		 struct endpoint *sink)
{
	const struct job *job = list->job;
	int64_t at = job->offset_given ? (int64_t)job->offset : -1;
	int status;

	if (endpoint_onto_itself(source, sink, at)) {
		print_error("source and sink are the same file; nothing was done");
		return STATUS_FAILED;
	}
	if (job_receipt_meets(job, source) || job_receipt_meets(job, sink)) {
		print_error("the receipt would go into the source or the sink");
		print_hint("--receipt-file wants a file of its own");
		endpoint_abandon(sink);
		return STATUS_USAGE;
	}
	/* What the sink is in a folder is known only now. */
	if (!transfer_takes_sink(job, sink))
		return STATUS_USAGE;
	/* The first of several is checked twice, and the others as far as they can be now. */
	status = list->names[1] ? sources_check(list, sink) : STATUS_DONE;
	if (status != STATUS_DONE)
		endpoint_abandon(sink);
	return status;
}

/* All sources into one sink; the first of them is source. */
static int copy(struct sources *list, struct endpoint *source, struct endpoint *sink)
{
	struct job *job = list->job;
	struct transfer transfer;
	enum outcome outcome;
	int status;

	if (!endpoint_open_source(source))
		return STATUS_FAILED;
	if (!job_open_receipt(job))
		return STATUS_FAILED;
	if (!endpoint_open_sink(sink, source, job->append))
		return STATUS_FAILED;
	status = check(list, source, sink);
	if (status != STATUS_DONE)
		return status;
	transfer_begin(&transfer, job, !isatty(STDERR_FILENO) || quiet_by_itself(source, sink));
	transfer_to(&transfer, sink);
	transfer.expect = sources_expect;
	transfer.context = list;
	/* What is known to fail fails before the sink has lost what it held. */
	outcome = transfer_try(&transfer, source);
	if (outcome != OUTCOME_DONE)
		endpoint_abandon(sink);
	else if (!job->append && !endpoint_truncate(sink))
		outcome = OUTCOME_FAILED;
	else
		outcome = sources_move(&transfer, list, source);
	return transfer_finish(&transfer, outcome);
}

/* Whether the sink that the name stands for may be one, before anything is opened. */
static bool takes_sink(const struct job *job, struct endpoint *sink)
{
	/* A file that is not there yet will be a file, and in a folder it is one as well. */
	if (!endpoint_look(sink) && errno != EOPNOTSUPP)
		return true;
	return S_ISDIR(sink->stat.st_mode) || transfer_takes_sink(job, sink);
}

/* Options that do not go with these names are wrong before anything is opened. */
static int copy_checked(struct job *job, char **names, struct endpoint *sink)
{
	struct sources list = {.job = job, .names = names, .stops = true};
	struct endpoint source;
	int status;

	if (job->append && sink->kind != ENDPOINT_PATH)
		return job_misused(job, "--append wants a file as the SINK");
	if (job->append && job->sparse)
		return job_misused(job, "--append and --sparse do not go together");
	if (job->receipt_path && strcmp(job->receipt_path, "-") == 0 &&
	    sink->fd == STDOUT_FILENO)
		return job_misused(job, "standard output is the SINK: no room for a receipt");
	if (!takes_sink(job, sink))
		return STATUS_USAGE;
	if (names[1] && S_ISDIR(sink->stat.st_mode) && job->digest)
		return job_misused(job, "--digest is of what goes into one file: one SOURCE at "
					"a time, please");
	if (names[1] && S_ISDIR(sink->stat.st_mode))
		return folder_copy(job, names, sink->path);
	/* One source that cannot be read is told of by opening it, with what to do about it. */
	if (names[1] || job->sparse) {
		status = sources_look(&list);
		if (status != STATUS_DONE)
			return status;
	}
	endpoint_parse(&source, names[0], FID_SIDE_SOURCE);
	status = copy(&list, &source, sink);
	endpoint_forget(&source);
	return status;
}

int copy_run(int argc, char **argv)
{
	struct job job = {.command = "copy", .help = copy_help};
	struct endpoint sink = {0};
	int status, first;
	char *last;

	signals_take_reports();
	signals_take_limits();
	first = job_parse(&job, argc, argv, &status);
	if (first < 0)
		return status;
	if (argc - first < 2)
		return job_misused(&job, argc == first ? "the SOURCE and the SINK are missing"
						       : "the SINK is missing");
	if (job.offset_given && argc - first > 2)
		return job_misused(&job, "--offset wants one SOURCE only");
	last = argv[argc - 1];
	argv[argc - 1] = NULL;
	status = STATUS_USAGE;
	if (sources_parse(argv + first) && endpoint_parse(&sink, last, FID_SIDE_SINK))
		status = copy_checked(&job, argv + first, &sink);
	endpoint_forget(&sink);
	return job_end(&job, status);
}
