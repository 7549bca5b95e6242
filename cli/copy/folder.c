/* SPDX-License-Identifier: MIT */
#include "folder.h"

#include "command.h"
#include "signals.h"
#include "sources.h"
#include "sparse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A name of a file that is read or written, and what it is now. */
struct named {
	const char *source; /* of which it is made, or that it is; NULL: the receipt */
	char *path;         /* of a file in the folder; NULL: it is not one */
	dev_t device;
	ino_t inode; /* 0: nothing is there yet */
};

static int by_path(const void *one, const void *other)
{
	const struct named *a = one, *b = other;

	/* What is only read has none, and stands first. */
	if (!a->path || !b->path)
		return (a->path != NULL) - (b->path != NULL);
	return strcmp(a->path, b->path);
}

static int by_file(const void *one, const void *other)
{
	const struct named *a = one, *b = other;

	if (a->device != b->device)
		return a->device < b->device ? -1 : 1;
	return (a->inode > b->inode) - (a->inode < b->inode);
}

static bool is_only_read(const struct named *named)
{
	return named->source && !named->path;
}

static void tell_same_path(const struct named *one, const struct named *other)
{
	char a[256], b[256], path[256];

	print_error("%s and %s would both be %s; nothing was done",
		    print_name(a, sizeof(a), one->source),
		    print_name(b, sizeof(b), other->source),
		    print_name(path, sizeof(path), one->path));
}

static const char *describe(char *text, size_t capacity, const struct named *named)
{
	char shown[256];

	if (!named->source)
		return "the receipt";
	snprintf(text, capacity, "%s (%s)",
		 print_name(shown, sizeof(shown), named->path ? named->path : named->source),
		 fid_side_name(named->path ? FID_SIDE_SINK : FID_SIDE_SOURCE));
	return text;
}

static void tell_same_file(const struct named *one, const struct named *other)
{
	char a[300], b[300];

	print_error("%s and %s are the same file; nothing was done",
		    describe(a, sizeof(a), one), describe(b, sizeof(b), other));
}

/*
 * Whether each file that is written is another one than all that are read and written besides:
 * a later one would take what an earlier one has just got, or an earlier one what a later one
 * is still to give.
 */
static bool are_distinct(struct named *list, size_t count)
{
	qsort(list, count, sizeof(*list), by_path);
	for (size_t i = 1; i < count; i++) {
		if (!list[i - 1].path || strcmp(list[i - 1].path, list[i].path) != 0)
			continue;
		tell_same_path(&list[i - 1], &list[i]);
		return false;
	}
	qsort(list, count, sizeof(*list), by_file);
	for (size_t i = 1; i < count; i++) {
		if (!list[i].inode || by_file(&list[i - 1], &list[i]) != 0 ||
		    (is_only_read(&list[i - 1]) && is_only_read(&list[i])))
			continue;
		tell_same_file(&list[i - 1], &list[i]);
		return false;
	}
	return true;
}

static void note_file(struct named *named, const struct stat *there)
{
	/* Devices are meant to be shared. */
	if (!S_ISREG(there->st_mode))
		return;
	named->device = there->st_dev;
	named->inode = there->st_ino;
}

/* Adds a source and the file that is to be made of it. Returns false after a message. */
static bool note_source(struct named list[2], const char *name, const char *folder)
{
	struct endpoint source, sink;
	bool entered;

	endpoint_parse(&source, name, FID_SIDE_SOURCE);
	endpoint_parse(&sink, folder, FID_SIDE_SINK);
	list[0] = list[1] = (struct named){.source = source.name};
	/* What is not there is told of when its turn comes. */
	if (endpoint_look(&source))
		note_file(&list[0], &source.stat);
	entered = endpoint_enter_directory(&sink, &source);
	if (entered) {
		if (endpoint_look(&sink))
			note_file(&list[1], &sink.stat);
		list[1].path = sink.joined;
		sink.joined = NULL;
	}
	endpoint_forget(&source);
	endpoint_forget(&sink);
	return entered;
}

/* What is known to destroy bytes is refused before anything is opened; an exit status. */
static int check(const struct job *job, char **names, const char *folder)
{
	size_t count = 0, used = 0;
	struct named *list;
	bool fit = true;
	struct stat receipt;

	while (names[count])
		count++;
	list = calloc(2 * count + 1, sizeof(*list));
	if (!list) {
		print_error("%s", strerror(ENOMEM));
		return STATUS_FAILED;
	}
	for (; fit && *names; names++, used += 2)
		fit = note_source(list + used, *names, folder);
	if (job->receipt_path && fstat(job->receipt_fd, &receipt) == 0)
		note_file(&list[used++], &receipt);
	fit = fit && are_distinct(list, used);
	for (size_t i = 0; i < used; i++)
		free(list[i].path);
	free(list);
	return fit ? STATUS_DONE : STATUS_FAILED;
}

/* The files that have been written. */
struct written {
	struct stat *files;
	size_t count;
};

/*
 * Notes a file that is to be written. Returns false when it was already, for another source:
 * what is not there yet can have several names, by links to it, or since the file system takes
 * "A" for "a".
 */
static bool note_written(struct written *written, const struct endpoint *sink)
{
	if (!endpoint_is_regular(sink))
		return true;
	for (size_t i = 0; i < written->count; i++)
		if (endpoint_is(sink, &written->files[i]))
			return false;
	written->files[written->count++] = sink->stat;
	return true;
}

/* Both ends are open. */
static enum outcome move(struct transfer *transfer, struct sources *list,
			 struct written *written, struct endpoint *source,
			 struct endpoint *sink)
{
	const struct job *job = transfer->job;
	enum outcome outcome;
	char shown[512];

	/* As it was when they were looked at, unless somebody else was at work. */
	if (!transfer_takes_sink(job, sink) ||
	    (job->sparse && !sparse_takes_source(job, source)))
		return OUTCOME_FAILED;
	if (endpoint_onto_itself(source, sink, -1)) {
		print_error("%s and the sink are the same file",
			    print_name(shown, sizeof(shown), source->name));
		return OUTCOME_FAILED;
	}
	if (!note_written(written, sink)) {
		print_error("%s (sink): it has the bytes of another source already",
			    print_name(shown, sizeof(shown), sink->name));
		return OUTCOME_FAILED;
	}
	transfer_to(transfer, sink);
	outcome = transfer_try(transfer, source);
	if (outcome != OUTCOME_DONE) {
		endpoint_abandon(sink);
		transfer->sink = NULL;
		return outcome;
	}
	list->open_bytes = transfer_size(job, source);
	list->before = transfer_done(transfer);
	outcome = job->append || endpoint_truncate(sink)
			  ? transfer_run(transfer, source, UINT64_MAX)
			  : OUTCOME_FAILED;
	return transfer_end_sink(transfer, outcome);
}

static enum outcome copy_one(struct transfer *transfer, struct sources *list,
			     struct written *written, const char *name, const char *folder)
{
	enum outcome outcome = OUTCOME_SOURCE_FAILED;
	struct endpoint source, sink;

	endpoint_parse(&source, name, FID_SIDE_SOURCE);
	endpoint_parse(&sink, folder, FID_SIDE_SINK);
	if (endpoint_open_source(&source)) {
		if (endpoint_open_sink(&sink, &source, transfer->job->append))
			outcome = move(transfer, list, written, &source, &sink);
		else
			outcome = OUTCOME_FAILED;
	}
	/* A sink that failed is open still, and what closing it says is no news. */
	if (sink.fd >= 0)
		close(sink.fd);
	if (source.fd >= 0)
		close(source.fd);
	endpoint_forget(&source);
	endpoint_forget(&sink);
	return outcome;
}

/* One after the other. */
static enum outcome copy_all(struct transfer *transfer, struct sources *list,
			     const char *folder)
{
	enum outcome outcome = OUTCOME_DONE;
	struct written written = {0};
	size_t count = 0;

	while (list->names[count])
		count++;
	written.files = calloc(count + 1, sizeof(*written.files));
	if (!written.files) {
		print_error("%s", strerror(ENOMEM));
		return OUTCOME_FAILED;
	}
	/* A signal during the sync of one ends it before the next one is emptied. */
	while (*list->names && !signals_caught()) {
		enum outcome this = copy_one(transfer, list, &written, *list->names++, folder);

		if (this == OUTCOME_DONE)
			continue;
		/* One that fails does not keep those after it from being moved. */
		outcome = this;
		if (this != OUTCOME_SOURCE_FAILED && this != OUTCOME_FAILED)
			break;
	}
	free(written.files);
	return outcome;
}

int folder_copy(struct job *job, char **names, const char *folder)
{
	struct sources list = {.job = job, .names = names};
	struct transfer transfer;
	int status;

	if (job->limit_given)
		return job_misused(job, "--limit wants one SOURCE where the SINK is a folder");
	status = sources_look(&list);
	if (status != STATUS_DONE)
		return status;
	if (!job_open_receipt(job))
		return STATUS_FAILED;
	status = check(job, names, folder);
	if (status != STATUS_DONE)
		return status;
	transfer_begin(&transfer, job, !isatty(STDERR_FILENO));
	transfer.expect = sources_expect;
	transfer.context = &list;
	return transfer_finish(&transfer, copy_all(&transfer, &list, folder));
}
