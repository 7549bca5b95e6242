/* SPDX-License-Identifier: MIT */
/*
 * The rule for structures that begin with their size (fid.h).
 */
#ifndef FID_OPTIONS_H
#define FID_OPTIONS_H

#include <stddef.h>

/*
 * Copies a caller's options of any age into ours, which has known bytes. from may be NULL: all
 * defaults. Returns 0, -EINVAL for a size below smallest, -E2BIG for a longer structure whose
 * tail is not zero.
 */
int fid_options_take(void *ours, size_t known, const void *from, size_t smallest);

#endif
