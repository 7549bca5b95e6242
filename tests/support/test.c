/* SPDX-License-Identifier: MIT */
#include "test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TESTS_MAX = 512 };

static struct {
	const char *name;
	void (*run)(void);
} tests[TESTS_MAX];
static int test_count;

static jmp_buf out;
static char skip_reason[512];
static bool seed_was_used;

enum { PASSED, FAILED, SKIPPED };

void test_register(const char *name, void (*run)(void))
{
	if (test_count == TESTS_MAX) {
		fprintf(stderr, "more than %d tests: raise TESTS_MAX\n", TESTS_MAX);
		abort();
	}
	tests[test_count].name = name;
	tests[test_count].run = run;
	test_count++;
}

uint64_t test_seed(void)
{
	static uint64_t seed;

	if (!seed_was_used) {
		const char *given = getenv("FID_SEED");
		struct timespec now;

		clock_gettime(CLOCK_REALTIME, &now);
		seed = given ? strtoull(given, NULL, 0)
			     : (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 20;
		seed_was_used = true;
		printf("# FID_SEED=%llu\n", (unsigned long long)seed);
	}
	return seed;
}

uint64_t test_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

void test_note(const char *format, ...)
{
	va_list arguments;

	printf("# ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
}

void test_fail(const char *file, int line, const char *format, ...)
{
	va_list arguments;

	printf("# %s:%d: ", file, line);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	if (seed_was_used)
		printf("# replay with FID_SEED=%llu\n", (unsigned long long)test_seed());
	longjmp(out, FAILED);
}

void test_skip(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(skip_reason, sizeof(skip_reason), format, arguments);
	va_end(arguments);
	longjmp(out, SKIPPED);
}

void test_check_text(const char *file, int line, const char *what, const char *got,
		     const char *wanted)
{
	if (strcmp(got, wanted) != 0)
		test_fail(file, line, "%s is \"%s\", wanted \"%s\"", what, got, wanted);
}

static bool is_chosen(const char *name, int count, char **words)
{
	if (count == 0)
		return true;
	for (int i = 0; i < count; i++)
		if (strstr(name, words[i]))
			return true;
	return false;
}

/* Here and not in main, whose variables longjmp might clobber. */
static int run_one(int test)
{
	int result = setjmp(out);

	if (result == PASSED)
		tests[test].run();
	return result;
}

int main(int argc, char **argv)
{
	int planned = 0;
	int number = 0;
	int failures = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 2 && strcmp(argv[1], "-l") == 0) {
		for (int i = 0; i < test_count; i++)
			puts(tests[i].name);
		return 0;
	}
	for (int i = 0; i < test_count; i++)
		planned += is_chosen(tests[i].name, argc - 1, argv + 1);
	printf("1..%d\n", planned);
	for (int i = 0; i < test_count; i++) {
		int result;

		if (!is_chosen(tests[i].name, argc - 1, argv + 1))
			continue;
		number++;
		result = run_one(i);
		if (result == SKIPPED)
			printf("ok %d - %s # SKIP %s\n", number, tests[i].name, skip_reason);
		else
			printf("%s %d - %s\n", result == FAILED ? "not ok" : "ok", number,
			       tests[i].name);
		failures += result == FAILED;
	}
	return failures != 0;
}
