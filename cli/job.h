/* SPDX-License-Identifier: MIT */
/*
 * What the command line asks for: the options that the commands share.
 */
#ifndef FID_CLI_JOB_H
#define FID_CLI_JOB_H

#include "copy/digest.h"
#include "endpoint.h"
#include "print.h"

#include <getopt.h>

enum progress_wish {
	PROGRESS_BY_ITSELF = 0,
	PROGRESS_ALWAYS,
	PROGRESS_NEVER,
};

struct job;

/* The options that one command has for itself. */
struct job_own {
	const struct option
		*options;    /* end with {0}; each val is a letter or from JOB_OWN on */
	const char *letters; /* as getopt(3) wants them */
	/* Takes one, with optarg as its value. Returns false after a message. */
	bool (*take)(struct job *job, int option);
};

#define JOB_OWN 1000
#define JOB_OPTIONS_MAX 32

/* An option that the commands share and that makes no sense for this one. */
struct job_refusal {
	const char *option;
	const char *why; /* a whole sentence */
};

struct job {
	const char *command; /* "copy" */
	const char *help;
	const struct job_own *own;         /* NULL: none */
	const struct job_refusal *refused; /* end with {0}; NULL: none */
	uint32_t flags;                    /* of struct fid_options */
	uint32_t routes;                   /* 0: all */
	uint32_t require;
	uint64_t pipe_bytes; /* 0: not given */
	uint64_t offset;
	bool offset_given;
	uint64_t limit;
	bool limit_given;
	uint64_t rate;                    /* bytes a second at most; 0: as fast as it goes */
	const struct digest_kind *digest; /* of what is moved; NULL: none */
	bool append;
	bool sparse;
	bool sync;
	uint32_t idle_ms;  /* 0: it may stand still for ever */
	const char *label; /* of the progress line; NULL: none */
	enum progress_wish progress;
	enum receipt_form receipt;
	const char *receipt_path; /* NULL: standard error */
	int receipt_fd;
	bool receipt_created; /* this run made its file */
};

/*
 * Reads the options of argv and moves them before the operands. Returns the index of the first
 * operand; or -1 when the command is over, and *ret_status is how.
 */
int job_parse(struct job *job, int argc, char **argv, int *ret_status);

/* A wrong command line: one message, a hint where help is, STATUS_USAGE. */
int job_misused(const struct job *job, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* What getopt_long() returned ':' or '?' for, among the options that are known. Likewise. */
struct option;
int job_option_misused(const struct job *job, const struct option *known, int option,
		       const char *argument);

/* What a flow is asked for: at most limit bytes, UINT64_MAX for all. */
struct fid_options job_flow_options(const struct job *job, uint64_t limit);

/* Opens the receipt's file. Returns false after a message. */
bool job_open_receipt(struct job *job);

/* Empties it, as the receipt is about to be written. */
void job_empty_receipt(const struct job *job);

/*
 * The command is over, with that exit status, which is returned. Removes the receipt's file
 * again if this run made it and had nothing to write into it.
 */
int job_end(const struct job *job, int status);

/* Whether the receipt would be written into this endpoint. */
bool job_receipt_meets(const struct job *job, const struct endpoint *endpoint);

/* The size that an option wants, at most so large. Returns false after a message. */
bool job_parse_size(const char *option, const char *text, uint64_t most, uint64_t *ret_bytes);

/* Seconds with decimals, at least one millisecond. Returns false after a message. */
bool job_parse_seconds(const struct job *job, const char *option, const char *text,
		       uint32_t *ret_ms);

#endif
