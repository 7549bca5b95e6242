/* SPDX-License-Identifier: MIT */
/*
 * Tests that run as COMMAND of "fid run" and call libc's functions, as any program does: which
 * of the calls this process is denied, and that the preloaded library is there at all.
 */
#ifndef FID_PRELOADED_H
#define FID_PRELOADED_H

#include "ends.h"

#include <fcntl.h>
#include <sys/uio.h>

/* Whether the kernel refuses the call itself; the refusal is then in errno. */
bool splice_is_denied(void);
bool tee_is_denied(void);
bool vmsplice_is_denied(void);

/* Skips the test where this program is not COMMAND of "fid run". */
void needs_preload(void);

/* Whether the dynamic linker gives this name from the preloaded library. */
bool is_preloaded(const char *name);

/* read(2) as a program has it that was compiled with _FORTIFY_SOURCE. */
ssize_t read_fortified(int fd, void *to, size_t bytes);

#endif
