/* SPDX-License-Identifier: MIT */
/*
 * Questions about a file system, for ask(). All is done with files that have no name, or lose
 * it at once.
 */
#ifndef FID_CLI_DOCTOR_FILES_H
#define FID_CLI_DOCTOR_FILES_H

#include "doctor.h"

/*
 * About a path. text: its directory; word: the type of the file system; yes: it is a regular
 * file; number[0]: the error of making a file; [1]: whether a server stands behind it; [2]:
 * whether the error was that of removing one.
 */
void look(struct answer *answer, const void *path);

/* What the others are about. */
struct files {
	const char *directory;
	const char *file; /* to read, or NULL: one is made */
};

/* number[0]: what the call said; yes: bytes have moved, and they are the right ones. */
void try_reflink(struct answer *answer, const void *files);
void try_copy_file_range(struct answer *answer, const void *files);
void try_source(struct answer *answer, const void *files);
void try_sink(struct answer *answer, const void *files);
void try_append(struct answer *answer, const void *files);

/*
 * number[0]: splice from it; [1]: splice to it; [2]: the error of setting O_DIRECT; yes: what
 * moved is right.
 */
void try_direct(struct answer *answer, const void *files);

/*
 * How many of a file's first 64 KiB come by splice, number[0], and by read, [1]. yes: neither
 * was tried, since a read may take them from others.
 */
void try_end_of_file(struct answer *answer, const void *files);

#endif
