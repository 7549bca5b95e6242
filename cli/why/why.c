/* SPDX-License-Identifier: MIT */
#include "why.h"

#include "command.h"
#include "copy/transfer.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

const char why_help[] =
	"Usage: fid why [OPTION]... SOURCE SINK\n"
	"\n"
	"Tells how 'fid copy' would move the bytes of SOURCE to SINK, and why so: what\n"
	"is seen of both ends, the ways in the order of trying, and what speaks against\n"
	"the others. Nothing is moved, made or changed; no FIFO is woken, and nobody is\n"
	"connected to.\n"
	"\n"
	"A SOURCE or SINK is named as for 'fid copy'; a SINK need not be there yet.\n"
	"\n"
	"What would be moved\n"
	"  --limit SIZE              so many bytes\n"
	"  --offset SIZE             from so far into SOURCE\n"
	"  --append                  to the end of the file SINK\n"
	"\n"
	"How it would be moved\n"
	"  --stable, --route NAME[,NAME...], --require WHAT, --pipe-size SIZE\n"
	"                            as for 'fid copy'\n"
	"\n"
	"What to tell\n"
	"  --try                     move some real bytes as well, and tell whether their\n"
	"                            receipt agrees: into a file of its own beside SINK;\n"
	"                            for pipes, sockets and terminals between others like\n"
	"                            them, so that nobody misses a byte\n"
	"  --json                    all of it as one object\n"
	"  -h, --help                this text\n"
	"  --version                 the version\n"
	"\n"
	"Exit status: 0 'fid copy' has a way, 1 it would fail, or --try did not agree,\n"
	"2 wrong usage, 3 what --require wants cannot be.\n"
	"\n"
	"  fid why disk.img backup.img\n"
	"  fid why --try --require no-user-copy log tcp:thathost:9000\n";

/* ---- The choice ---- */

static bool is_clonable(const struct why *why, uint32_t routes)
{
	return why->source.end.kind == FID_KIND_REGULAR &&
	       why->sink.end.kind == FID_KIND_REGULAR &&
	       (!routes || routes & FID_ROUTE(FID_REFLINK));
}

/* Of all refusals the one that a flow gives: a clone's between files, else the last way's. */
static const char *most_telling(const struct why *why, const char *const refused[])
{
	uint32_t routes = why->job.routes;

	if (is_clonable(why, routes))
		return refused[FID_REFLINK];
	for (int method = FID_READ_WRITE; method >= 0; method--)
		if (!routes || routes & FID_ROUTE(method))
			return refused[method];
	return NULL;
}

/* With what the kernel answers the call that the method makes; 0: it does it. */
static int answer_of(const struct fid_facts *facts, enum fid_method method)
{
	switch (method) {
	case FID_COPY_FILE_RANGE:
		return facts->copy_file_range;
	case FID_SENDFILE:
		return facts->sendfile;
	case FID_SPLICE:
	case FID_SPLICE_PIPE:
		return facts->splice;
	default:
		return 0;
	}
}

/* As fid(3) has it: with another error a copy ends, and does not go on with the next way. */
static bool is_refusal(enum fid_method method, int error)
{
	switch (error) {
	case 0:
	case -EINVAL:
	case -EPERM:
	case -ENOSYS:
	case -EOPNOTSUPP:
	case -ENOMEM:
		return true;
	case -EXDEV:
	case -EBADF:
	case -ETXTBSY:
	case -EISDIR:
		return method == FID_COPY_FILE_RANGE;
	case -EOVERFLOW:
	case -ESPIPE:
		return method == FID_COPY_FILE_RANGE || method == FID_SENDFILE;
	default:
		return false;
	}
}

/* The error that would end a copy at one of the ways that it tries in vain; 0: none. */
static int find_fatal(const struct prediction *prediction, const struct fid_ladder *whole)
{
	for (uint32_t i = 0; i < whole->count; i++) {
		enum fid_method method = (enum fid_method)whole->rung[i].method;
		int answer = answer_of(&prediction->facts, method);

		if (!prediction->left_out[method])
			return 0;
		if (!is_refusal(method, answer))
			return answer;
	}
	return 0;
}

/*
 * A copy asks the kernel what it refuses only where something is required; else it tries, and
 * goes on with the next way. So the reasons are those of the ladder that it would have, and
 * what would only be refused is left out of it.
 */
static int choose(struct why *why, const struct fid_end *sink,
		  const struct fid_options *options)
{
	struct prediction *prediction = &why->prediction;
	struct fid_ladder whole;
	int got;

	got = fid_route(&why->source.end, sink, options,
			options->require ? &prediction->facts : NULL, &whole, NULL);
	if (got == 0)
		got = fid_route(&why->source.end, sink, options, &prediction->facts,
				&prediction->ladder, prediction->left_out);
	if (got < 0)
		return got;
	prediction->ladder.count = 0;
	prediction->fatal = find_fatal(prediction, &whole);
	for (uint32_t i = 0; i < whole.count && !prediction->fatal; i++)
		if (!prediction->left_out[whole.rung[i].method])
			prediction->ladder.rung[prediction->ladder.count++] = whole.rung[i];
	if (prediction->fatal)
		prediction->nothing = "this kernel or container answers a call that would be "
				      "made with an error that is no refusal";
	else
		prediction->nothing = prediction->ladder.count
					      ? NULL
					      : most_telling(why, prediction->left_out);
	prediction->ladder.start_small &= prediction->ladder.count > 0;
	return 0;
}

/* What may become of a rung that no fact tells beforehand. */
static const char *what_only_doing_tells(const struct fid_end *source,
					 const struct fid_end *sink, enum fid_method method)
{
	bool known = sink->kind != FID_KIND_REGULAR || sink->plain || sink->page_cache;

	if (source->kind == FID_KIND_REGULAR && !source->plain && !source->page_cache)
		known = false;
	switch (method) {
	case FID_REFLINK:
		return "if these two files cannot share extents";
	case FID_COPY_FILE_RANGE:
		if (source->device != sink->device)
			return "if the kernel does not copy between these two by itself";
		return known ? NULL : "if the file system does not copy by itself";
	case FID_READ_WRITE:
		return NULL;
	default:
		/* /dev/full takes no pages, and /dev/null gives none. */
		if ((sink->kind == FID_KIND_MEMORY && !sink->is_null) || source->is_null)
			return "if the device refuses it";
		if (sink->direct && sink->kind != FID_KIND_PIPE)
			return "if something comes that is not aligned as O_DIRECT wants it";
		return known ? NULL : "if the file system refuses it";
	}
}

uint32_t why_last_rung(const struct prediction *prediction)
{
	uint32_t last = 0;

	while (last + 1 < prediction->ladder.count && prediction->unless[last])
		last++;
	return last;
}

static uint64_t bytes_expected(const struct why *why)
{
	const struct fid_end *source = &why->source.end;
	uint64_t at = why->job.offset_given ? why->job.offset : source->position;
	uint64_t bytes = UINT64_MAX;

	if (source->kind == FID_KIND_REGULAR)
		bytes = source->size > at ? source->size - at : 0;
	return why->job.limit_given && why->job.limit < bytes ? why->job.limit : bytes;
}

/* ---- Refusals ---- */

/* Why a flow would not be made, as the message of a copy. */
static int refused(const struct why *why, int error)
{
	const struct endpoint *source = why->source.endpoint, *sink = why->sink.endpoint;
	bool is_source = error == -ESPIPE || (error == -EBADF && !why->source.end.readable);

	if (error == -EINVAL) {
		print_error("source and sink are the same pipe; nothing can be moved");
		return STATUS_FAILED;
	}
	print_failure(is_source ? source->name : sink->name,
		      is_source ? FID_SIDE_SOURCE : FID_SIDE_SINK, error, NULL);
	return STATUS_FAILED;
}

/* Whether there is a way; an exit status, after the message of the copy that would fail. */
static int check_way(const struct why *why)
{
	struct fid_receipt receipt = {
		.reason = why->prediction.nothing,
		.require_unmet = why->job.require != FID_REQUIRE_NOTHING,
	};
	char from[256], to[256];

	if (why->prediction.ladder.count)
		return STATUS_DONE;
	if (why->prediction.fatal) {
		print_error("from %s to %s: %s: %s",
			    print_name(from, sizeof(from), why->source.endpoint->name),
			    print_name(to, sizeof(to), why->sink.endpoint->name),
			    why->prediction.nothing, fid_error_name(why->prediction.fatal));
		print_hint("--route can leave that way out");
		return STATUS_FAILED;
	}
	return outcome_unmet(&why->job, why->source.endpoint, why->sink.endpoint, &receipt) ==
			       OUTCOME_UNMET
		       ? STATUS_UNMET
		       : STATUS_FAILED;
}

/* ---- The command ---- */

/*
 * A copy makes its choice twice: before the sink is emptied, where what cannot be is found out,
 * and after that.
 */
static int predict(struct why *why)
{
	struct fid_options options = job_flow_options(&why->job, UINT64_MAX);
	struct prediction *prediction = &why->prediction;
	struct fid_end *sink = &why->sink.end;
	int got;

	fid_probe(&prediction->facts, 0);
	got = choose(why, sink, &options);
	if (got == 0 && prediction->ladder.count) {
		if (why->sink.endpoint->kind == ENDPOINT_PATH && !why->job.append)
			sink->size = 0;
		options = job_flow_options(&why->job,
					   why->job.limit_given ? why->job.limit : UINT64_MAX);
		got = choose(why, sink, &options);
	}
	if (got < 0)
		return refused(why, got);
	prediction->bytes_expected = bytes_expected(why);
	for (uint32_t i = 0; i < prediction->ladder.count; i++)
		prediction->unless[i] = what_only_doing_tells(
			&why->source.end, sink,
			(enum fid_method)prediction->ladder.rung[i].method);
	return STATUS_DONE;
}

/* Whether the receipt has a rung that was predicted, with its class and its reason. */
static bool agrees(const struct prediction *prediction, const struct fid_receipt *receipt)
{
	uint32_t last = why_last_rung(prediction), best = 0;
	bool starts_as_copy = prediction->ladder.start_small;

	for (uint32_t i = 1; i < FID_CLASSES; i++)
		if (receipt->by_class[i] > receipt->by_class[best])
			best = i;
	for (uint32_t i = 0; i < prediction->ladder.count; i++) {
		const struct fid_rung *rung = &prediction->ladder.rung[i];

		if (i > last && !(starts_as_copy && rung->method == FID_READ_WRITE))
			continue;
		if (rung->method == receipt->route && rung->reason == receipt->reason)
			return receipt->bytes_out == 0 || rung->class_ == best;
	}
	return false;
}

static int why_checked(struct why *why, struct endpoint *source, struct endpoint *sink)
{
	uint64_t limit = why->job.limit_given ? why->job.limit : UINT64_MAX;
	struct fid_options options = job_flow_options(&why->job, limit);
	int64_t at;
	int status;
	bool shown;

	if (why->job.append && sink->kind != ENDPOINT_PATH)
		return job_misused(&why->job, "--append wants a file as the SINK");
	if (!look_at_source(&why->source, source) ||
	    !look_at_sink(&why->sink, sink, source, why->job.append))
		return STATUS_FAILED;
	at = (int64_t)(why->job.offset_given ? why->job.offset : why->source.end.position);
	if (endpoint_onto_itself(source, sink, at)) {
		print_error("source and sink are the same file; nothing was done");
		return STATUS_FAILED;
	}
	status = predict(why);
	if (status != STATUS_DONE)
		return status;
	status = check_way(why);
	if (status == STATUS_DONE && why->try) {
		why->tried = why_try(why, &options);
		why->trial.agrees = why->tried && !why->trial.error &&
				    agrees(&why->prediction, &why->trial.receipt);
		if (!why->trial.agrees)
			status = STATUS_FAILED;
	}
	shown = why->json ? why_show_json(why) : why_show(why);
	return shown || status != STATUS_DONE ? status : STATUS_FAILED;
}

enum {
	OPTION_TRY = JOB_OWN,
	OPTION_JSON,
};

static bool take(struct job *job, int option)
{
	struct why *why = (struct why *)job;

	if (option == OPTION_TRY)
		why->try = true;
	else
		why->json = true;
	return true;
}

#define NO_RECEIPT "nothing is moved, so there is no receipt: --try has one in what it tells"
#define NO_PROGRESS "nothing is moved, so there is no progress to show"
#define NO_WAY "it is about how fid copy goes about its work, and no choice of a way"

int why_run(int argc, char **argv)
{
	static const struct option options[] = {
		{"try", no_argument, NULL, OPTION_TRY},
		{"json", no_argument, NULL, OPTION_JSON},
		{0},
	};
	static const struct job_refusal refusals[] = {
		{"receipt", NO_RECEIPT},
		{"receipt-file", NO_RECEIPT},
		{"progress", NO_PROGRESS},
		{"no-progress", NO_PROGRESS},
		{"name", NO_PROGRESS},
		{"sync", NO_WAY},
		{"idle-timeout", NO_WAY},
		{"sparse",
		 "with --sparse 'fid copy' makes the choice for each part between holes"},
		{"rate-limit",
		 "with --rate-limit the way is the same, but for clones, which are "
		 "all at once"},
		{"digest", "with --digest the bytes pass through pipes: 'fid copy --receipt' "
			   "tells how"},
		{0},
	};
	static const struct job_own own = {.options = options, .letters = "", .take = take};
	struct why why = {
		.job = {.command = "why", .help = why_help, .own = &own, .refused = refusals},
		.source = {.folder = -1},
		.sink = {.folder = -1},
	};
	struct endpoint source = {.fd = -1}, sink = {.fd = -1};
	int status, first = job_parse(&why.job, argc, argv, &status);

	if (first < 0)
		return status;
	if (argc - first < 2)
		return job_misused(&why.job, argc == first
						     ? "the SOURCE and the SINK are missing"
						     : "the SINK is missing");
	if (argc - first > 2)
		return job_misused(&why.job, "only one SOURCE and one SINK, please");
	status = STATUS_USAGE;
	if (endpoint_parse(&source, argv[first], FID_SIDE_SOURCE) &&
	    endpoint_parse(&sink, argv[first + 1], FID_SIDE_SINK))
		status = why_checked(&why, &source, &sink);
	look_end(&why.source);
	look_end(&why.sink);
	endpoint_forget(&source);
	endpoint_forget(&sink);
	return status;
}
