/* SPDX-License-Identifier: MIT */
#include <fid.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const char *fid_version(void)
{
	return TEXT(FID_VERSION_MAJOR) "." TEXT(FID_VERSION_MINOR) "." TEXT(FID_VERSION_PATCH);
}
