/* SPDX-License-Identifier: MIT */
/*
 * What a program is, found out before it runs: whether a preloaded library will reach it.
 */
#ifndef FID_CLI_PROGRAM_H
#define FID_CLI_PROGRAM_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

enum reach {
	REACH_YES = 0, /* or nothing is known against it */
	REACH_STATIC,
	REACH_PRIVILEGED,
	REACH_OTHER_MACHINE,
	REACH_OTHER_LOADER,
};

struct program {
	char path[PATH_MAX]; /* what will run: for a script its interpreter */
	enum reach reach;
};

/* Finds name as execvp(3) does and looks at it. Returns false where nothing is found. */
bool program_look(struct program *ret_program, const char *name);

#endif
