/* SPDX-License-Identifier: MIT */
/*
 * The bucket of --rate-limit, by a clock that the test sets.
 */
#include "../../cli/copy/pace.h"

#include "test.h"

#define SECOND_NS UINT64_C(1000000000)
#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)

static const uint64_t rates[] = {1,   7,       100,      4 * KIB,   64 * KIB, 100000,
				 MIB, 3000001, 10 * MIB, 100 * MIB, GIB,      INT64_MAX};
#define RATES (sizeof(rates) / sizeof(rates[0]))

/* What is moved in so long by somebody who sleeps as told, and late_ns longer each time. */
static uint64_t move(struct pace *pace, uint64_t *now_ns, uint64_t length_ns, uint64_t late_ns)
{
	uint64_t end_ns = *now_ns + length_ns, total = 0;

	while (*now_ns < end_ns) {
		uint64_t bytes = pace_take(pace, *now_ns);

		total += bytes;
		if (bytes == 0)
			*now_ns += pace_wait_ns(pace, *now_ns) + late_ns;
	}
	return total;
}

static void check_rate(uint64_t rate, uint64_t late_ns)
{
	uint64_t now_ns = 77, moved, wanted = rate * 10, margin = wanted / 50;
	struct pace pace;

	pace_begin(&pace, rate);
	moved = move(&pace, &now_ns, 10 * SECOND_NS, late_ns);
	/* Single bytes a second are not to be had in fractions. */
	margin += rate < 100;
	if (moved > wanted + margin || moved + margin < wanted)
		FAIL("at %llu bytes a second %llu were moved in ten seconds",
		     (unsigned long long)rate, (unsigned long long)moved);
}

TEST(rate_is_kept_within_two_percent_over_ten_seconds)
{
	for (unsigned i = 0; i < RATES - 1; i++)
		check_rate(rates[i], 0);
}

TEST(sleeps_that_last_longer_than_asked_are_made_up_for)
{
	for (unsigned i = 0; i < RATES - 1; i++) {
		check_rate(rates[i], 60000);
		check_rate(rates[i], 20000000);
	}
}

TEST(beginning_is_one_slice_and_then_a_sleep)
{
	for (unsigned i = 0; i < RATES; i++) {
		struct pace pace;

		pace_begin(&pace, rates[i]);
		CHECK_EQUAL(pace_take(&pace, 5 * SECOND_NS), pace.slice_bytes);
		CHECK_EQUAL(pace_take(&pace, 5 * SECOND_NS), 0);
		CHECK(pace_wait_ns(&pace, 5 * SECOND_NS) > 0);
	}
}

TEST(time_that_passes_before_the_beginning_earns_nothing)
{
	struct pace pace;

	pace_begin(&pace, MIB);
	CHECK_EQUAL(pace_take(&pace, 1000 * SECOND_NS), pace.slice_bytes);
}

TEST(sink_that_stood_still_is_given_a_quarter_of_a_second_at_most)
{
	for (unsigned i = 0; i < RATES - 1; i++) {
		uint64_t most = rates[i] < 8 ? 2 : rates[i] / 4;
		uint64_t now_ns = 0;
		struct pace pace;

		pace_begin(&pace, rates[i]);
		pace_take(&pace, now_ns);
		now_ns += 3600 * SECOND_NS;
		CHECK(pace_take(&pace, now_ns) <= most);
		CHECK_EQUAL(pace_take(&pace, now_ns), 0);
	}
}

TEST(slices_are_whole_pages_and_of_64_kib_where_the_rate_allows)
{
	for (unsigned i = 0; i < RATES; i++) {
		uint64_t now_ns = 0;
		struct pace pace;

		pace_begin(&pace, rates[i]);
		for (int takes = 0; takes < 100; takes++) {
			uint64_t bytes = pace_take(&pace, now_ns);

			if (bytes == 0) {
				now_ns += pace_wait_ns(&pace, now_ns) + 12345678;
				continue;
			}
			if (rates[i] >= 512 * KIB)
				CHECK(bytes >= 64 * KIB);
			if (rates[i] >= 32 * KIB)
				CHECK_EQUAL(bytes % (4 * KIB), 0);
		}
	}
}

TEST(nobody_is_woken_more_than_50_times_a_second_or_for_nothing)
{
	for (unsigned i = 0; i < RATES; i++) {
		uint64_t now_ns = 0;
		unsigned sleeps = 0;
		struct pace pace;

		pace_begin(&pace, rates[i]);
		while (now_ns < 10 * SECOND_NS)
			if (pace_take(&pace, now_ns) == 0) {
				now_ns += pace_wait_ns(&pace, now_ns);
				sleeps++;
			}
		CHECK(sleeps <= 510);
	}
}

TEST(what_was_not_moved_goes_back_into_the_same_bucket)
{
	uint64_t now_ns = 0, total = 0;
	struct pace pace;

	/* Many small sources: each takes 100 bytes of what it is granted. */
	pace_begin(&pace, 100000);
	while (now_ns < 10 * SECOND_NS) {
		uint64_t bytes = pace_take(&pace, now_ns);

		if (bytes == 0) {
			now_ns += pace_wait_ns(&pace, now_ns);
			continue;
		}
		total += 100;
		pace_give_back(&pace, bytes - 100);
	}
	CHECK(total >= 980000 && total <= 1020000);
}

TEST(pages_are_kept_whole_at_any_rate)
{
	for (uint64_t rate = 1; rate < 100 * KIB; rate += 1111) {
		uint64_t now_ns = 0, total = 0;
		struct pace pace;

		pace_begin(&pace, rate);
		pace_keep_pages(&pace);
		while (total < 100 * KIB) {
			uint64_t bytes = pace_take(&pace, now_ns);

			now_ns += bytes ? 0 : pace_wait_ns(&pace, now_ns);
			CHECK_EQUAL(bytes % (4 * KIB), 0);
			total += bytes;
		}
		CHECK((double)total <= (double)rate * (double)now_ns / 1e9 + 16 * KIB);
	}
}

TEST(what_is_given_back_is_no_larger_burst)
{
	struct pace pace;

	pace_begin(&pace, MIB);
	pace_take(&pace, 0);
	pace_give_back(&pace, 100 * MIB);
	CHECK(pace_take(&pace, 0) <= MIB / 4);
}

TEST(clock_that_is_asked_too_early_costs_nothing)
{
	uint64_t now_ns = 0, total = 0;
	struct pace pace;

	/* A tick five times a second wakes it as well, and others do a thousand times. */
	pace_begin(&pace, 333333);
	for (; now_ns < 10 * SECOND_NS; now_ns += 1000003)
		total += pace_take(&pace, now_ns);
	CHECK(total >= 3266664 && total <= 3400000);
}
