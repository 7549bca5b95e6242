/* SPDX-License-Identifier: MIT */
/*
 * gnuplot, which draws.
 */
#ifndef FID_CLI_GNUPLOT_H
#define FID_CLI_GNUPLOT_H

#include <stdbool.h>
#include <stdio.h>

/* Whether it can be run. Returns false after a message. */
bool gnuplot_is_here(void);

/*
 * Runs the program that write() prints, and puts what it draws into a file of that name.
 * Returns false after a message; the file is as it was then.
 */
bool gnuplot_draw(const char *path, void (*write)(FILE *to, const void *about),
		  const void *about);

#endif
