/* SPDX-License-Identifier: MIT */
#include "tell.h"

#include "clock.h"
#include "command.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- Receipts ---- */

/* Adds to one of the notes. */
__attribute__((format(printf, 3, 4))) static void add(char *text, size_t capacity,
						      const char *format, ...)
{
	size_t length = strlen(text);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text + length, capacity - length, format, arguments);
	va_end(arguments);
}

static struct receipt_notes take_notes(const struct transfer *transfer, bool so_far)
{
	struct receipt_notes notes = {.so_far = so_far};
	bool synced = transfer->sync_ns > 0 && !transfer->sync_failed;
	uint64_t tenths = transfer->sync_ns / (MILLISECOND_NS / 10);
	char size[PRINT_SIZE];

	if (transfer->job->sparse)
		add(notes.members, sizeof(notes.members), ",\"hole_bytes\":%" PRIu64,
		    transfer->hole_bytes);
	if (transfer->hole_bytes > 0)
		add(notes.words, sizeof(notes.words), "; %s of holes left as holes",
		    print_size(size, transfer->hole_bytes));
	if (transfer->job->sync && !synced)
		add(notes.members, sizeof(notes.members), ",\"sync_seconds\":null");
	if (!synced)
		return notes;
	add(notes.members, sizeof(notes.members), ",\"sync_seconds\":%" PRIu64 ".%09" PRIu64,
	    transfer->sync_ns / SECOND_NS, transfer->sync_ns % SECOND_NS);
	add(notes.words, sizeof(notes.words),
	    "; on the disk after %" PRIu64 ".%" PRIu64 " ms more", tenths / 10, tenths % 10);
	return notes;
}

void tell_so_far(void *context)
{
	struct transfer *transfer = context;
	enum receipt_form form = transfer->job->receipt == RECEIPT_JSON ? RECEIPT_JSON
									: RECEIPT_TEXT;
	struct receipt_notes notes = take_notes(transfer, true);
	struct fid_receipt part = transfer->part, all = transfer->receipt, now;

	if (transfer->flow || transfer->passage) {
		now = transfer->flow ? *fid_flow_receipt(transfer->flow)
				     : branch_so_far(transfer->passage);
		receipt_add(&part, transfer->parts, &now);
		receipt_add(&all, transfer->count, &part);
	} else if (transfer->parts > 0) {
		receipt_add(&all, transfer->count, &part);
	}
	progress_clear(&transfer->progress);
	receipt_print(STDERR_FILENO, form, &all, &notes);
}

static void note_digest(const struct transfer *transfer, const struct digest_result *digest,
			struct receipt_notes *notes)
{
	const char *way = fid_method_name(transfer->direct);
	char text[DIGEST_TEXT];

	digest_describe(text, digest, true, way);
	add(notes->members, sizeof(notes->members), ",%s", text);
	digest_describe(text, digest, false, way);
	add(notes->sentence, sizeof(notes->sentence), " %s", text);
}

bool tell_receipt(const struct transfer *transfer, const struct digest_result *digest)
{
	const struct job *job = transfer->job;
	struct receipt_notes notes = take_notes(transfer, false);

	if (job->receipt == RECEIPT_NONE || transfer->count == 0)
		return true;
	if (digest->kind)
		note_digest(transfer, digest, &notes);
	job_empty_receipt(job);
	return receipt_print(job->receipt_fd, job->receipt, &transfer->receipt, &notes);
}

/* ---- The line of a digest ---- */

char *tell_line_of(const struct transfer *transfer, const struct digest_result *digest)
{
	const struct endpoint *sink = transfer->sink;

	if (!digest->value[0])
		return NULL;
	return digest_line(digest, transfer->sink_is_stdout && sink->kind != ENDPOINT_PATH
					   ? "-"
					   : sink->name);
}

/* It goes where results go and no receipt has gone. */
static bool print_digest(const struct transfer *transfer, const char *line)
{
	const struct job *job = transfer->job;
	bool receipt = job->receipt != RECEIPT_NONE;
	bool elsewhere = transfer->sink_is_stdout ||
			 (receipt && job->receipt_fd == STDOUT_FILENO);
	int fd = elsewhere ? STDERR_FILENO : STDOUT_FILENO;

	return (receipt && job->receipt_fd == fd) || print_text(fd, line);
}

int tell_digest(const struct transfer *transfer, const struct digest_result *digest,
		const char *line, int status)
{
	const struct fid_receipt *receipt = &transfer->receipt;

	if (!line) {
		print_error("the digest failed: there is none of the %" PRIu64
			    " bytes delivered",
			    receipt->bytes_out);
		return status == STATUS_DONE ? STATUS_FAILED : status;
	}
	/* What did not come to its end gets no line that looks as if it had. */
	if (status == STATUS_DONE)
		return print_digest(transfer, line) ? STATUS_DONE : STATUS_FAILED;
	if (receipt->bytes_out > 0 && transfer->job->receipt == RECEIPT_NONE)
		print_error("%s of the %" PRIu64 " bytes delivered: %s", digest->kind->name,
			    receipt->bytes_out, digest->value);
	return status;
}
