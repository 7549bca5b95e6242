/* SPDX-License-Identifier: MIT */
/*
 * Pipes: how many and how large, and what is left of this user's budget.
 */
#include "doctor.h"
#include "print.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	GROWN = 1 << 20,  /* what fid asks for */
	ENOUGH = 4 << 20, /* a few pipes that are large */
	PIPES_MAX = 68,   /* more than the budget that a kernel gives by itself, 64 MiB */
	SPARE = 256,      /* descriptors to look for */
	FEW = 16,         /* fewer are worth a word: a transfer takes up to four */
};

/* ---- The budget, by doing ---- */

/* Grows the pipe to size, or to a half, a quarter ... as long as that is more than it has. */
static int64_t grow(int pipe_end, int64_t *size)
{
	int64_t has = fcntl(pipe_end, F_GETPIPE_SZ);

	for (; *size > has; *size /= 2) {
		int got = fcntl(pipe_end, F_SETPIPE_SZ, (int)*size);

		if (got > 0)
			return got;
	}
	return has;
}

/*
 * Takes pipes until the user gets no more than two pages (6.18; others are refused altogether),
 * or there are enough of them. number[0]: bytes; [1]: pipes; yes: there was an end to it.
 */
static void take_pipes(struct answer *answer, const void *about)
{
	int64_t size = GROWN, page = sysconf(_SC_PAGESIZE);
	struct rlimit files;

	(void)about;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	for (; answer->number[1] < PIPES_MAX; answer->number[1]++) {
		int ends[2];
		int64_t got;

		if (pipe2(ends, O_CLOEXEC) < 0) {
			answer->error = errno;
			answer->yes = errno == ENFILE;
			return;
		}
		got = grow(ends[1], &size);
		if (got < 0) {
			answer->error = errno;
			return;
		}
		if (got <= 2 * page) {
			answer->yes = true;
			return;
		}
		answer->number[0] += got;
	}
}

static void say_left(struct finding *finding, const struct answer *answer, int64_t limit)
{
	int64_t left = answer->number[0];
	char had[PRINT_SIZE], of[PRINT_SIZE];

	print_size(had, (uint64_t)left);
	print_size(of, (uint64_t)(limit > 0 ? limit : 0));
	finding_number(finding, left);
	if (limit > 0 && left > limit) {
		finding_is(finding, STATE_OK,
			   "%s were had, and %s is the limit: this user is exempt", had, of);
	} else if (!answer->yes && answer->error) {
		finding->error = answer->error;
		finding_is(finding, left >= ENOUGH ? STATE_OK : STATE_UNKNOWN,
			   "at least %s: then %s", had, strerror(answer->error));
	} else if (!answer->yes) {
		finding_is(finding, STATE_OK, "%s or more", had);
	} else if (left >= GROWN) {
		finding_is(finding, STATE_OK, "%s", had);
	} else {
		finding_is(finding, left ? STATE_LIMITED : STATE_MISSING,
			   "%s: fid takes small pipes, and then copies",
			   left ? had : "nothing");
		finding_advise(finding, "this user's other programs hold the rest in pipes; "
					"sysctl fs.pipe-user-pages-soft=32768 doubles it");
	}
}

static void add_left(struct group *group, const struct facts *facts, int64_t limit)
{
	struct finding *finding = finding_add(group, "pipe_budget_left", "  of it left");
	struct answer answer;

	if (facts->of.pipe < 0) {
		finding_blocked(finding, "there is no pipe");
		return;
	}
	ask(&answer, take_pipes, NULL);
	if (finding_answered(finding, &answer, NULL))
		say_left(finding, &answer, limit);
}

/* ---- Limits ---- */

static struct finding *add_limit(struct group *group, const char *key, const char *title,
				 const char *path, const char *what)
{
	struct finding *finding = finding_add(group, key, title);
	int64_t pages = number_in(path), bytes = pages * sysconf(_SC_PAGESIZE);
	char size[PRINT_SIZE];

	if (pages < 0) {
		finding_is(finding, STATE_OK, "this kernel tells of none");
		return finding;
	}
	finding_number(finding, bytes);
	if (pages == 0)
		finding_is(finding, STATE_OK, "no limit (%s)", path + strlen("/proc/sys/fs/"));
	else
		finding_is(finding, STATE_OK, "%s %s", print_size(size, (uint64_t)bytes), what);
	return finding;
}

static int64_t add_size_max(struct group *group)
{
	struct finding *finding = finding_add(group, "pipe_max_size", "largest pipe");
	int64_t bytes = number_in("/proc/sys/fs/pipe-max-size");
	char size[PRINT_SIZE];

	if (bytes < 0) {
		finding_is(finding, STATE_OK, "this kernel does not tell");
		return bytes;
	}
	finding_number(finding, bytes);
	print_size(size, (uint64_t)bytes);
	if (bytes >= GROWN) {
		finding_is(finding, STATE_OK, "%s without privileges", size);
		return bytes;
	}
	finding_is(finding, STATE_LIMITED, "%s without privileges; fid asks for 1 MiB", size);
	finding_advise(finding, "sysctl fs.pipe-max-size=1048576");
	return bytes;
}

static void add_grown(struct group *group, const struct facts *facts, int64_t size_max)
{
	char size[PRINT_SIZE], works[64];
	struct finding *finding;
	bool told;

	snprintf(works, sizeof(works), "to %s", print_size(size, facts->of.pipe_bytes_grown));
	finding = add_call(group, facts, "pipe_grow", "a pipe grows", "fcntl",
			   facts->of.pipe_grow, works);
	told = facts->answer.reply == REPLY_DONE && facts->of.pipe == 0;
	if (told)
		finding_number(finding, (int64_t)facts->of.pipe_bytes_grown);
	if (facts->of.pipe < 0)
		finding_blocked(finding, "there is no pipe");
	else if (!told && facts->of.pipe_grow != FACT_KILLED)
		facts_tell(finding, facts, "fcntl", facts->of.pipe_grow);
	if (!told || facts->of.pipe_grow != -EPERM)
		return;
	/* A seccomp filter may refuse it as well, but these are the usual reasons. */
	if (size_max >= 0 && size_max < GROWN)
		finding_advise(finding, "sysctl fs.pipe-max-size=1048576");
	else
		finding_advise(finding,
			       "this user's budget of pipes is spent: see what is left of it");
}

static void add_pipe(struct group *group, const struct facts *facts)
{
	struct finding *finding;
	char size[PRINT_SIZE], works[64];
	bool told = facts->answer.reply == REPLY_DONE && facts->of.pipe == 0;

	if (told)
		snprintf(works, sizeof(works), "holds %s",
			 print_size(size, facts->of.pipe_bytes));
	else
		snprintf(works, sizeof(works), "is to be had");
	finding = add_call(group, facts, "pipe", "a new pipe", "pipe2", facts->of.pipe, works);
	if (!told)
		return;
	finding_number(finding, (int64_t)facts->of.pipe_bytes);
	if (facts->of.pipe_bytes >= 65536)
		return;
	finding_is(finding, STATE_LIMITED, "holds only %s",
		   print_size(size, facts->of.pipe_bytes));
	finding_advise(finding, "this user's budget of pipes is spent: see what is left of it");
}

/* ---- Descriptors ---- */

static void take_descriptors(struct answer *answer, const void *about)
{
	int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	(void)about;
	for (; fd >= 0 && answer->number[0] < SPARE; answer->number[0]++)
		fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static void add_descriptors(struct group *group)
{
	struct finding *finding = finding_add(group, "open_files", "descriptors");
	struct rlimit files = {0, 0};
	struct answer answer;
	char limit[64];
	long left;

	getrlimit(RLIMIT_NOFILE, &files);
	ask(&answer, take_descriptors, NULL);
	if (!finding_answered(finding, &answer, NULL))
		return;
	left = (long)answer.number[0];
	finding_number(finding, left);
	if (files.rlim_cur == RLIM_INFINITY)
		snprintf(limit, sizeof(limit), "no limit");
	else
		snprintf(limit, sizeof(limit), "limit %llu",
			 (unsigned long long)files.rlim_cur);
	finding_is(finding,
		   left >= FEW ? STATE_OK
		   : left > 0  ? STATE_LIMITED
			       : STATE_MISSING,
		   "%ld%s to be had (%s)", left, left == SPARE ? " or more" : "", limit);
	if (left < FEW)
		finding_advise(finding, "raise 'ulimit -n' (LimitNOFILE= of a service)");
}

void check_pipes(struct group *group, const struct facts *facts)
{
	struct finding *limit;
	int64_t size_max;

	add_pipe(group, facts);
	size_max = add_size_max(group);
	add_grown(group, facts, size_max);
	limit = add_limit(group, "pipe_budget", "user's budget",
			  "/proc/sys/fs/pipe-user-pages-soft",
			  "of pipes; past it a pipe has two pages");
	add_left(group, facts, atoll(limit->value));
	limit = add_limit(group, "pipe_budget_hard", "  its hard end",
			  "/proc/sys/fs/pipe-user-pages-hard",
			  "of pipes; past it there is none");
	limit->folded = strcmp(limit->value, "0") == 0;
	add_descriptors(group);
}
