/* SPDX-License-Identifier: MIT */
/*
 * Files without a name: whatever ends this process, nothing of them is left behind.
 */
#ifndef FID_CLI_UNNAMED_H
#define FID_CLI_UNNAMED_H

#include <stdbool.h>

/*
 * Makes one in a folder, which is named from the folder at (AT_FDCWD) on, with an access mode
 * and status flags as open(2) has them. Where the file system has no such files it is made as
 * .fid-PID-N, and loses that name before a signal can end this process.
 *
 * Returns its descriptor, or -1 with errno. *ret_stays, unless that is NULL, is whether an
 * empty file with such a name has stayed behind, in a folder where one may make files and not
 * remove them.
 */
int unnamed_open(int at, const char *folder, int flags, bool *ret_stays);

#endif
