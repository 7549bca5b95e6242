/* SPDX-License-Identifier: MIT */
/*
 * Several sources into a folder, each under its own name.
 */
#ifndef FID_CLI_FOLDER_H
#define FID_CLI_FOLDER_H

#include "job.h"

/* Returns an exit status, or dies by a signal. */
int folder_copy(struct job *job, char **names, const char *folder);

#endif
