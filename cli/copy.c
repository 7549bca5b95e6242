/* SPDX-License-Identifier: MIT */
#include "command.h"
#include "transfer.h"

#include <string.h>
#include <unistd.h>

const char copy_help[] =
	"Usage: fid copy [OPTION]... SOURCE SINK\n"
	"\n"
	"Moves all bytes of SOURCE to SINK by the cheapest way that this kernel has.\n"
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
	"  --limit SIZE              stop after so many bytes\n"
	"  --offset SIZE             begin so far into SOURCE\n"
	"  --append                  add to the end of the file SINK (O_APPEND, for which\n"
	"                            the kernel wants the bytes copied by this process)\n"
	"\n"
	"How to move it\n"
	"  --stable                  later writes to SOURCE never show in what was moved\n"
	"  --route NAME[,NAME...]    only in these ways: reflink, copy_file_range,\n"
	"                            sendfile, splice, splice-pipe, read-write\n"
	"  --require WHAT            by-reference or no-user-copy, or else move nothing\n"
	"  --pipe-size SIZE          the size of pipes, given or private\n"
	"  --rate-limit SIZE         at most so many bytes a second\n"
	"\n"
	"What to tell\n"
	"  --receipt[=text|json]     how every byte moved and why, on standard error\n"
	"  --receipt-file PATH       the same, in a file; - is standard output\n"
	"  --digest sha256|xxh3      of what was moved, as a line for sha256sum -c or\n"
	"                            xxhsum -c on standard output, and in the receipt\n"
	"  --progress                always show progress; by itself it is shown on a\n"
	"  --no-progress             terminal, after a second; or never\n"
	"  -h, --help                this text\n"
	"  --version                 the version\n"
	"\n"
	"A SIZE is 4096, 64K or 64KiB (1024 each), 64KB (1000 each); and so M, G and T.\n"
	"\n"
	"Exit status: 0 done, 1 failed, 2 wrong usage, 3 what --require wants cannot be.\n"
	"\n"
	"  fid copy --receipt disk.img backup.img\n"
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
static int check(const struct job *job, const struct endpoint *source, struct endpoint *sink)
{
	int64_t at = job->offset_given ? (int64_t)job->offset : -1;

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
	return STATUS_DONE;
}

static int copy(struct job *job, struct endpoint *source, struct endpoint *sink)
{
	struct transfer transfer;
	enum outcome outcome;
	int status;

	if (!endpoint_open_source(source))
		return STATUS_FAILED;
	if (!job_open_receipt(job))
		return STATUS_FAILED;
	if (!endpoint_open_sink(sink, source, job->append))
		return STATUS_FAILED;
	status = check(job, source, sink);
	if (status != STATUS_DONE)
		return status;
	transfer_begin(&transfer, job, sink,
		       !isatty(STDERR_FILENO) || quiet_by_itself(source, sink));
	transfer.expected = transfer_size(job, source);
	/* What is known to fail fails before the sink has lost what it held. */
	outcome = transfer_try(&transfer, source);
	if (outcome != OUTCOME_DONE) {
		endpoint_abandon(sink);
	} else {
		if (!job->append && !endpoint_truncate(sink))
			return STATUS_FAILED;
		outcome = transfer_run(&transfer, source,
				       job->limit_given ? job->limit : UINT64_MAX);
	}
	endpoint_close(source);
	return transfer_finish(&transfer, outcome);
}

/* Options that do not go with these names are wrong before anything is opened. */
static int copy_checked(struct job *job, struct endpoint *source, struct endpoint *sink)
{
	if (job->append && sink->kind != ENDPOINT_PATH)
		return job_misused(job, "--append wants a file as the SINK");
	if (job->receipt_path && strcmp(job->receipt_path, "-") == 0 &&
	    sink->fd == STDOUT_FILENO)
		return job_misused(job, "standard output is the SINK: no room for a receipt");
	return copy(job, source, sink);
}

int copy_run(int argc, char **argv)
{
	struct job job = {.command = "copy", .help = copy_help};
	struct endpoint source = {0}, sink = {0};
	int status, first = job_parse(&job, argc, argv, &status);

	if (first < 0)
		return status;
	if (argc - first < 2)
		return job_misused(&job, argc == first ? "the SOURCE and the SINK are missing"
						       : "the SINK is missing");
	if (argc - first > 2)
		return job_misused(&job, "only one SOURCE and one SINK, please");
	status = STATUS_USAGE;
	if (endpoint_parse(&source, argv[first], FID_SIDE_SOURCE) &&
	    endpoint_parse(&sink, argv[first + 1], FID_SIDE_SINK))
		status = copy_checked(&job, &source, &sink);
	endpoint_forget(&source);
	endpoint_forget(&sink);
	return status;
}
