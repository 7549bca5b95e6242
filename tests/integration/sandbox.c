/* SPDX-License-Identifier: MIT */
#include "sandbox.h"

#include "deny.h"

#include <errno.h>
#include <fid.h>
#include <stdio.h>
#include <sys/syscall.h>

const int sandbox_errors[3] = {EPERM, ENOSYS, EOPNOTSUPP};

void sandbox_enter(unsigned refused, int error)
{
	static const int all[] = {SYS_splice, SYS_tee, SYS_vmsplice};
	size_t count = 0;
	int calls[3];

	for (unsigned i = 0; i < 3; i++)
		if (refused & 1u << i)
			calls[count++] = all[i];
	if (count > 0)
		deny(calls, count, error);
}

const char *sandbox_name(unsigned refused, int error)
{
	static char name[64];

	if (!refused)
		return "nothing is refused";
	snprintf(name, sizeof(name), "%s%s%sgive %s", refused & REFUSE_SPLICE ? "splice " : "",
		 refused & REFUSE_TEE ? "tee " : "",
		 refused & REFUSE_VMSPLICE ? "vmsplice " : "", fid_error_name(error));
	return name;
}
