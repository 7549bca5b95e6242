/* SPDX-License-Identifier: MIT */
/*
 * All that the command says to people: messages, hints, sizes, rates, receipts.
 */
#ifndef FID_CLI_PRINT_H
#define FID_CLI_PRINT_H

#include <fid.h>
#include <stdbool.h>
#include <stdio.h>

/* What begins each message from now on: "fid copy". */
void print_begin_with(const char *words);

/* What to do before each message, such as to take a progress line away; NULL: nothing. */
void print_before_messages(void (*before)(void *context), void *context);

/* One message, one write to standard error: "fid copy: ..." and a newline. */
void print_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* What to try: the same with "hint: " before it. */
void print_hint(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* "NAME (source): REASON while in CALL", and the hint that belongs to the error. call: or NULL.
 */
void print_failure(const char *name, enum fid_side side, int error, const char *call);
/* "10 bytes delivered, 3 bytes were read and could not be delivered" */
const char *print_account(char *buffer, size_t capacity, const struct fid_receipt *receipt);
/*
 * How a transfer ended: "WHO: REASON while in CALL; ACCOUNT", and the hint. fd: the guilty
 * descriptor.
 */
void print_end(const char *who, int fd, const struct fid_receipt *receipt, int error);
/* The hint that belongs to an error of that side, if there is one. */
void print_hint_for(int error, enum fid_side side);

/* Writes all of text to fd. Returns false, after a message, when it cannot. */
bool print_text(int fd, const char *text);

/* "fid 0.1.0" on standard output. Returns false, after a message, when it cannot. */
bool print_version(void);

/* A name that is safe to show: control characters become '?'. Writes at most capacity bytes. */
const char *print_name(char *buffer, size_t capacity, const char *name);

/*
 * The text as a string of JSON, or null for NULL. JSON is UTF-8, and a name may be any bytes:
 * those that are no character are replaced.
 */
void print_json_string(FILE *to, const char *text);

/* "123 B", "1.5 GiB": at most eight characters. */
#define PRINT_SIZE 16
const char *print_size(char buffer[PRINT_SIZE], uint64_t bytes);
/* "0:07", "1:02:03". */
const char *print_duration(char buffer[PRINT_SIZE], uint64_t seconds);

/* What somebody may have meant by word, or NULL. */
const char *nearest_word(const char *word, const char *const *words, size_t count);

/* Adds the receipt of one more flow to *total, which is the sum of count others. */
void receipt_add(struct fid_receipt *total, unsigned count, const struct fid_receipt *part);

/* Its demotions alone, which came after so many other bytes. */
void receipt_add_demotions(struct fid_receipt *total, const struct fid_receipt *part,
			   uint64_t before);

enum receipt_form {
	RECEIPT_NONE = 0,
	RECEIPT_TEXT,
	RECEIPT_JSON,
};

/* The receipt in words, with room for one character more. NULL: no memory. */
char *receipt_text(enum receipt_form form, const struct fid_receipt *receipt);

/* What a command knows beyond the receipt of its flows. */
struct receipt_notes {
	bool so_far;        /* the transfer goes on */
	char words[256];    /* "; 1.0 GiB of holes left as holes" */
	char sentence[260]; /* " And another sentence." */
	char members[512];  /* the same as JSON: ",\"hole_bytes\":1073741824" */
};

/*
 * Writes it to fd as one line, and the notes at its end; NULL: none. Returns false, after a
 * message, when it cannot.
 */
bool receipt_print(int fd, enum receipt_form form, const struct fid_receipt *receipt,
		   const struct receipt_notes *notes);

/*
 * One receipt among several: a line that begins with the name and the side, or the object with
 * "name" as its first key and no newline. Returns false when there is no memory.
 */
bool receipt_put(FILE *to, enum receipt_form form, const char *name, enum fid_side side,
		 const struct fid_receipt *receipt);

#endif
