/* SPDX-License-Identifier: MIT */
/*
 * A test that changes the state of its process, or that may hang, runs in a process of its own.
 * There a failed CHECK ends the child, and the parent ends the test with the child's sentence;
 * so does the watchdog when the child makes no progress.
 */
#ifndef FID_CHILD_H
#define FID_CHILD_H

#include "test.h"

#include <stddef.h>
#include <sys/types.h>

/*
 * Runs run(argument) in a child, with an empty scratch directory that is removed afterwards,
 * and ends the test as the child did. The watchdog bites when the child says nothing to
 * doing() for so many seconds.
 */
void in_child(unsigned seconds, void (*run)(void *), void *argument);

/* in_child() that returns instead of ending the test: NULL or the sentence of the failure. */
const char *try_in_child(unsigned seconds, void (*run)(void *), void *argument);

/* Says what is being done now, for the sentence of a failure, and restarts the watchdog. */
void doing(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * The path of a file in the scratch directory of $TMPDIR or of the working directory. It is
 * valid until the eighth call after.
 */
const char *scratch(const char *name);

/* The same on /dev/shm, which is tmpfs. */
const char *scratch_shm(const char *name);

/*
 * A directory of a new file system with room for so many bytes, in a mount namespace that this
 * child enters and that ends with it. Once a child; skips where that needs a right that is not
 * had.
 */
const char *scratch_small(size_t bytes);

/* Open descriptors of this process, each with what it refers to; free() it. */
char *descriptors_list(void);

/* Fails when the open descriptors are not those of before, which it frees. */
void descriptors_check(char *before);

/* Reaps a process that this test has started; returns its wait status. */
int reap(pid_t process);

_Noreturn void child_fail(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
_Noreturn void child_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* CHECK and its kin call these by name, so that they do the right thing on either side. */
#define test_fail(...) child_fail(__VA_ARGS__)
#define test_skip(...) child_skip(__VA_ARGS__)

#endif
