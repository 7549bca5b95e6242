/* SPDX-License-Identifier: MIT */
#include "deny.h"

#include "print.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__i386__)
#define ARCHITECTURE AUDIT_ARCH_I386
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#elif defined(__arm__)
#define ARCHITECTURE AUDIT_ARCH_ARM
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCHITECTURE AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCHITECTURE AUDIT_ARCH_PPC64LE
#elif defined(__s390x__)
#define ARCHITECTURE AUDIT_ARCH_S390X
#endif

/* The one with a condition stands before the same call without. */
static const struct {
	const char *name;
	int numbers[2];
	unsigned with_flags; /* only when the fourth argument has one of these; 0: always */
} calls[] = {
	{"splice", {SYS_splice, -1}, 0},
	{"tee", {SYS_tee, -1}, 0},
	{"vmsplice-gift", {SYS_vmsplice, -1}, SPLICE_F_GIFT},
	{"vmsplice", {SYS_vmsplice, -1}, 0},
#ifdef SYS_sendfile64
	{"sendfile", {SYS_sendfile, SYS_sendfile64}, 0},
#else
	{"sendfile", {SYS_sendfile, -1}, 0},
#endif
	{"copy_file_range", {SYS_copy_file_range, -1}, 0},
};

enum { CALLS = sizeof(calls) / sizeof(calls[0]) };

/* Linux has no error above this number that a call may return (include/linux/err.h). */
enum { ERROR_MAX = 4095 };

static int find_call(const char *name)
{
	for (int i = 0; i < CALLS; i++)
		if (strcmp(calls[i].name, name) == 0)
			return i;
	return -1;
}

static int find_error(const char *name)
{
	for (int error = 1; error <= 200; error++)
		if (strcasecmp(fid_error_name(error), name) == 0)
			return error;
	return strcmp(name, "EWOULDBLOCK") == 0 ? EWOULDBLOCK
	       : strcmp(name, "ENOTSUP") == 0   ? ENOTSUP
						: 0;
}

static void unknown_call(const char *name)
{
	const char *names[CALLS], *nearest;
	char known[256] = "", shown[128];

	for (int i = 0; i < CALLS; i++) {
		names[i] = calls[i].name;
		snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s",
			 i ? ", " : "", names[i]);
	}
	print_error("--deny: there is no call '%s'", print_name(shown, sizeof(shown), name));
	nearest = nearest_word(name, names, CALLS);
	if (nearest)
		print_hint("did you mean '%s'?", nearest);
	else
		print_hint("the calls are %s", known);
}

static bool parse_one(struct denials *denials, char *text)
{
	char *mark = strchr(text, '=');
	char shown[128];
	int call, error;

	if (!mark) {
		print_error("--deny: '%s' has no '='", print_name(shown, sizeof(shown), text));
		print_hint("a denial is written CALL=ERRNO: splice=EPERM");
		return false;
	}
	*mark = '\0';
	call = find_call(text);
	if (call < 0) {
		unknown_call(text);
		return false;
	}
	error = find_error(mark + 1);
	if (error == 0) {
		print_error("--deny: there is no error '%s'",
			    print_name(shown, sizeof(shown), mark + 1));
		print_hint("errors are written as in errno(3): EPERM, ENOSYS, EOPNOTSUPP");
		return false;
	}
	denials->error[call] = error;
	denials->any = true;
	return true;
}

bool denials_parse(struct denials *denials, const char *text)
{
	char copy[1024], *rest = copy;

	_Static_assert(CALLS <= sizeof(denials->error) / sizeof(denials->error[0]), "room");
	if ((size_t)snprintf(copy, sizeof(copy), "%s", text) >= sizeof(copy)) {
		print_error("--deny: that is too long a list");
		return false;
	}
	while (rest) {
		char *one = strsep(&rest, ",");

		if (!parse_one(denials, one))
			return false;
	}
	return true;
}

#ifdef ARCHITECTURE

#define FIELD(name) ((unsigned)offsetof(struct seccomp_data, name))
/* The half of an argument of 64 bits that holds flags. */
#define LOW_HALF (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4u : 0u)

struct program {
	struct sock_filter steps[8 * CALLS + 8];
	unsigned short count;
};

static void add(struct program *program, unsigned code, unsigned k, unsigned yes, unsigned no)
{
	program->steps[program->count++] = (struct sock_filter){
		.code = (uint16_t)code, .jt = (uint8_t)yes, .jf = (uint8_t)no, .k = k};
}

static void add_denial(struct program *program, int number, unsigned with_flags, int error)
{
	add(program, BPF_LD | BPF_W | BPF_ABS, FIELD(nr), 0, 0);
	add(program, BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, with_flags ? 3 : 1);
	if (with_flags) {
		add(program, BPF_LD | BPF_W | BPF_ABS, FIELD(args[3]) + LOW_HALF, 0, 0);
		add(program, BPF_JMP | BPF_JSET | BPF_K, with_flags, 0, 1);
	}
	add(program, BPF_RET | BPF_K,
	    SECCOMP_RET_ERRNO | ((unsigned)error & SECCOMP_RET_DATA & ERROR_MAX), 0, 0);
}

/*
 * The numbers are those of this program's own architecture. Calls of another one (a 32-bit
 * program) pass, and so do those of x32, whose numbers have a bit of their own.
 */
static void make(struct program *program, const struct denials *denials)
{
	program->count = 0;
	add(program, BPF_LD | BPF_W | BPF_ABS, FIELD(arch), 0, 0);
	add(program, BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
	add(program, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	for (int i = 0; i < CALLS; i++)
		for (int n = 0; n < 2; n++)
			if (denials->error[i] && calls[i].numbers[n] >= 0)
				add_denial(program, calls[i].numbers[n], calls[i].with_flags,
					   denials->error[i]);
	add(program, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

bool denials_install(const struct denials *denials)
{
	struct program program;
	struct sock_fprog filter;

	make(&program, denials);
	filter = (struct sock_fprog){.len = program.count, .filter = program.steps};
	/* Without this promise only a privileged process may install a filter. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0)
		return true;
	print_error("the calls cannot be denied: %s", strerror(errno));
	print_hint("this kernel or container has no seccomp filters: run without --deny");
	return false;
}

#else

bool denials_install(const struct denials *denials)
{
	(void)denials;
	print_error("the calls cannot be denied: fid does not know this processor");
	return false;
}

#endif
