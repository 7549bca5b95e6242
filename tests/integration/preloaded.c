/* SPDX-License-Identifier: MIT */
#include "preloaded.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

bool splice_is_denied(void)
{
	return syscall(SYS_splice, -1, NULL, -1, NULL, (size_t)0, 0u) < 0;
}

bool tee_is_denied(void)
{
	return syscall(SYS_tee, -1, -1, (size_t)0, 0u) < 0;
}

bool vmsplice_is_denied(void)
{
	int ends[2];
	bool denied;

	CHECK(pipe(ends) == 0);
	denied = syscall(SYS_vmsplice, ends[1], NULL, (size_t)0, 0u) < 0;
	close(ends[0]);
	close(ends[1]);
	return denied;
}

bool is_preloaded(const char *name)
{
	/* A sanitizer has a read() of its own before it, in the program itself. */
	void *function = dlsym(RTLD_NEXT, name);
	Dl_info info;

	return function && dladdr(function, &info) && strstr(info.dli_fname, "libfid-preload");
}

void needs_preload(void)
{
	if (!is_preloaded("splice"))
		SKIP("libfid-preload.so is not in this process: see fid run");
}

ssize_t read_fortified(int fd, void *to, size_t bytes)
{
	static ssize_t (*function)(int, void *, size_t, size_t);

	if (!function)
		*(void **)&function = dlsym(RTLD_DEFAULT, "__read_chk");
	CHECK(function != NULL);
	return function(fd, to, bytes, bytes);
}
