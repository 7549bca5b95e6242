/* SPDX-License-Identifier: MIT */
/*
 * Several sources, one after the other, into the one sink that a transfer has.
 */
#ifndef FID_CLI_SOURCES_H
#define FID_CLI_SOURCES_H

#include "transfer.h"

struct sources {
	struct job *job;
	char **names;        /* those that are to come; ends with NULL */
	bool stops;          /* at the first that fails; else the others are moved */
	uint64_t open_bytes; /* of the one that is being moved, when it was opened */
	uint64_t before;     /* how far those that were have brought it */
};

/* Whether all names are understood. Returns false after a message (STATUS_USAGE). */
bool sources_parse(char **names);

/*
 * What can be known of them without opening one: those that are to stop it all are there and
 * may be read, and with --sparse each is a file. Returns an exit status, after a message.
 */
int sources_look(const struct sources *list);

/*
 * Whether none of them is the sink, or where the receipt goes: before the sink loses what it
 * holds. Returns an exit status, after a message.
 */
int sources_check(const struct sources *list, const struct endpoint *sink);

/* For transfer.expect, with the list as its context: what all together have. */
uint64_t sources_expect(void *context);

/* Moves them all. first: the first one, if it is open already; else NULL. */
enum outcome sources_move(struct transfer *transfer, struct sources *list,
			  struct endpoint *first);

#endif
