/* SPDX-License-Identifier: MIT */
/*
 * cage CALL[,CALL]... PROGRAM [ARGUMENT]...
 *
 * Runs a program in a sandbox that kills whoever makes one of these calls, as a strict seccomp
 * profile does. The status is 125 where there can be no such sandbox.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
	const char *name;
	unsigned number;
} calls[] = {
	{"splice", SYS_splice},
	{"tee", SYS_tee},
	{"vmsplice", SYS_vmsplice},
	{"sendfile", SYS_sendfile},
#ifdef SYS_sendfile64
	{"sendfile", SYS_sendfile64}, /* with 32 bits, where offsets have 64 */
#endif
	{"copy_file_range", SYS_copy_file_range},
	{"pwritev2", SYS_pwritev2},
	{"memfd_create", SYS_memfd_create},
	{"io_uring_setup", SYS_io_uring_setup},
};

enum { CALLS = sizeof(calls) / sizeof(calls[0]) };

static struct sock_filter filter[2 * CALLS + 2] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
static struct sock_fprog program = {.len = 1, .filter = filter};

static void add(struct sock_filter step)
{
	filter[program.len++] = step;
}

static int add_call(const char *name)
{
	bool known = false;

	for (size_t i = 0; i < CALLS; i++) {
		if (strcmp(calls[i].name, name) != 0)
			continue;
		known = true;
		add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].number, 0,
						 1));
		add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
	}
	if (known)
		return 0;
	fprintf(stderr, "cage: there is no call '%s'\n", name);
	return -1;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 125;
	for (char *name = strtok(argv[1], ","); name; name = strtok(NULL, ","))
		if (program.len > 2 * CALLS || add_call(name) < 0)
			return 125;
	add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
		perror("cage: seccomp");
		return 125;
	}
	execvp(argv[2], argv + 2);
	perror(argv[2]);
	return 125;
}
