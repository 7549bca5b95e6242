/* SPDX-License-Identifier: MIT */
/*
 * A test program: each TEST is a fact about fid, and its name says the fact. The output is TAP.
 *
 *	TEST(flow_keeps_held_bytes_when_sink_returns_epipe)
 *	{
 *		CHECK(bytes == 3);
 *		CHECK_EQUAL(fid_flow_step(flow, NULL), -EPIPE);
 *	}
 *
 * It needs nothing but libc, so that the same program runs with -m32 and alone in an initramfs.
 * "program NAME..." runs the tests whose names contain a NAME; "program -l" lists them.
 */
#ifndef FID_TEST_H
#define FID_TEST_H

#include <stdbool.h>
#include <stdint.h>

#define TEST(name)                                                      \
	static void name(void);                                         \
	__attribute__((constructor)) static void name##_registers(void) \
	{                                                               \
		test_register(#name, name);                             \
	}                                                               \
	static void name(void)

/* End the test as failed unless the condition holds. */
#define CHECK(condition)                                                 \
	do {                                                             \
		if (!(condition))                                        \
			test_fail(__FILE__, __LINE__, "%s", #condition); \
	} while (0)

/* The same, and show both values. */
#define CHECK_EQUAL(got, wanted)                                                            \
	do {                                                                                \
		long long got_ = (long long)(got), wanted_ = (long long)(wanted);           \
		if (got_ != wanted_)                                                        \
			test_fail(__FILE__, __LINE__, "%s is %lld, wanted %s = %lld", #got, \
				  got_, #wanted, wanted_);                                  \
	} while (0)

#define CHECK_TEXT(got, wanted) test_check_text(__FILE__, __LINE__, #got, (got), (wanted))

/* End the test as failed, with a sentence. */
#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)

/* End the test as skipped; the reason is printed and counted. */
#define SKIP(...) test_skip(__VA_ARGS__)

void test_register(const char *name, void (*run)(void));
_Noreturn void test_fail(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
_Noreturn void test_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));
void test_check_text(const char *file, int line, const char *what, const char *got,
		     const char *wanted);

/* A diagnostic line of the running test. */
void test_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * The seed of this run: FID_SEED, or a new one. It is printed, and printed again beside any
 * failure, so that FID_SEED=N replays it.
 */
uint64_t test_seed(void);

/* The next number of a generator (splitmix64); state is any number, often test_seed(). */
uint64_t test_random(uint64_t *state);

#endif
