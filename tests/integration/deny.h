/* SPDX-License-Identifier: MIT */
/*
 * A sandbox for the calling thread that needs no library: a filter that refuses whole calls.
 */
#ifndef FID_DENY_H
#define FID_DENY_H

#include <stddef.h>

/* As an error: the process is killed. */
enum { DENY_KILLS = -1 };

/*
 * From now on each of these calls (SYS_splice, ...) returns error in this thread and in those
 * that it makes. Skips the test where the kernel has no filters.
 */
void deny(const int *calls, size_t count, int error);

#endif
