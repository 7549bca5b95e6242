/* SPDX-License-Identifier: MIT */
#include "sources.h"

#include "command.h"
#include "signals.h"
#include "sparse.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

bool sources_parse(char **names)
{
	for (; *names; names++) {
		struct endpoint source;
		bool understood = endpoint_parse(&source, *names, FID_SIDE_SOURCE);

		endpoint_forget(&source);
		if (!understood)
			return false;
	}
	return true;
}

/* Why that one cannot be read, as far as can be told; an errno value, or 0. */
static int look_at(struct endpoint *source)
{
	if (!endpoint_look(source))
		return errno == EOPNOTSUPP ? 0 : errno;
	if (S_ISDIR(source->stat.st_mode))
		return EISDIR;
	if (source->kind == ENDPOINT_PATH &&
	    faccessat(AT_FDCWD, source->path, R_OK, AT_EACCESS) < 0)
		return errno;
	return 0;
}

int sources_look(const struct sources *list)
{
	int status = STATUS_DONE;

	for (char **name = list->names; *name && status == STATUS_DONE; name++) {
		struct endpoint source;
		int error;

		endpoint_parse(&source, *name, FID_SIDE_SOURCE);
		error = look_at(&source);
		if (error && list->stops) {
			print_failure(source.name, FID_SIDE_SOURCE, error, NULL);
			status = STATUS_FAILED;
		}
		if (!error && list->job->sparse && !sparse_takes_source(list->job, &source))
			status = STATUS_USAGE;
		endpoint_forget(&source);
	}
	return status;
}

int sources_check(const struct sources *list, const struct endpoint *sink)
{
	int status = STATUS_DONE;

	for (char **name = list->names; *name && status == STATUS_DONE; name++) {
		struct endpoint source;
		char shown[512];

		endpoint_parse(&source, *name, FID_SIDE_SOURCE);
		if (!endpoint_look(&source)) {
			endpoint_forget(&source);
			continue;
		}
		if (endpoint_onto_itself(&source, sink,
					 source.kind == ENDPOINT_PATH ? 0 : -1)) {
			print_error("%s and the sink are the same file; nothing was done",
				    print_name(shown, sizeof(shown), source.name));
			status = STATUS_FAILED;
		} else if (job_receipt_meets(list->job, &source)) {
			print_error("the receipt would go into %s",
				    print_name(shown, sizeof(shown), source.name));
			print_hint("--receipt-file wants a file of its own");
			status = STATUS_USAGE;
		}
		endpoint_forget(&source);
	}
	return status;
}

uint64_t sources_expect(void *context)
{
	const struct sources *list = context;
	uint64_t bytes = list->open_bytes;

	if (bytes == PROGRESS_UNKNOWN)
		return bytes;
	bytes += list->before;
	for (char **name = list->names; *name; name++) {
		struct endpoint source;
		bool is_file;

		endpoint_parse(&source, *name, FID_SIDE_SOURCE);
		is_file = source.kind == ENDPOINT_PATH && endpoint_look(&source) &&
			  endpoint_is_regular(&source);
		endpoint_forget(&source);
		if (!is_file)
			return PROGRESS_UNKNOWN;
		bytes += (uint64_t)source.stat.st_size;
	}
	return list->job->limit_given && list->job->limit < bytes ? list->job->limit : bytes;
}

/* Moves one that is open, and closes it. */
static enum outcome move_open(struct transfer *transfer, struct sources *list,
			      struct endpoint *source, uint64_t limit)
{
	const struct job *job = transfer->job;
	enum outcome outcome = OUTCOME_SOURCE_FAILED;
	char shown[512], sink[512];

	print_name(shown, sizeof(shown), source->name);
	if (endpoint_onto_itself(source, transfer->sink,
				 job->offset_given ? (int64_t)job->offset : -1)) {
		print_error("%s (source): it is %s as well", shown,
			    print_name(sink, sizeof(sink), transfer->sink->name));
	} else if (job_receipt_meets(job, source)) {
		print_error("%s (source): the receipt would go there", shown);
	} else if (!job->sparse || sparse_takes_source(job, source)) {
		list->open_bytes = transfer_size(job, source);
		list->before = transfer_done(transfer);
		outcome = transfer_run(transfer, source, limit);
	}
	endpoint_close(source);
	return outcome;
}

static enum outcome move_named(struct transfer *transfer, struct sources *list,
			       const char *name, uint64_t limit)
{
	struct endpoint source;

	/* Nothing more is wanted: what cannot be opened is no matter. */
	if (limit == 0 && transfer->count > 0)
		return OUTCOME_DONE;
	/* Understood before, when all names were. */
	endpoint_parse(&source, name, FID_SIDE_SOURCE);
	if (endpoint_open_source(&source))
		return move_open(transfer, list, &source, limit);
	endpoint_forget(&source);
	return OUTCOME_SOURCE_FAILED;
}

enum outcome sources_move(struct transfer *transfer, struct sources *list,
			  struct endpoint *first)
{
	const struct job *job = transfer->job;
	enum outcome outcome = OUTCOME_DONE;

	while (*list->names && !signals_caught()) {
		const char *name = *list->names++;
		uint64_t limit = job->limit_given ? job->limit - transfer_done(transfer)
						  : UINT64_MAX;
		enum outcome this = first ? move_open(transfer, list, first, limit)
					  : move_named(transfer, list, name, limit);

		first = NULL;
		if (this != OUTCOME_DONE)
			outcome = this;
		if (this != OUTCOME_DONE && (list->stops || this != OUTCOME_SOURCE_FAILED))
			break;
	}
	return outcome;
}
