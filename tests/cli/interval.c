/* SPDX-License-Identifier: MIT */
/*
 * The intervals of fid bench, against the chances that they hold what they are said to hold.
 */
#include "../../bench/bench.h"

#include "test.h"

enum { COUNT_MAX = 1000 }; /* past that the chance of a single case is no double any more */

void fail(const char *what)
{
	FAIL("%s", what);
}

/* The chance that of so many samples at least least and at most most lie below the median. */
static double chance(size_t count, size_t least, size_t most)
{
	double one = 1, sum = 0;

	for (size_t i = 0; i < count; i++)
		one /= 2;
	for (size_t below = 0; below <= most; below++) {
		sum += below >= least ? one : 0;
		one = one * (double)(count - below) / (double)(below + 1);
	}
	return sum;
}

static struct summary summarise_ranks(size_t count)
{
	static double ranks[COUNT_MAX];

	/* Not in their order. */
	for (size_t i = 0; i < count; i++)
		ranks[(i + count / 3) % count] = (double)i;
	return summarise(ranks, count);
}

TEST(interval_holds_the_median_with_95_percent_whatever_the_number_of_samples)
{
	for (size_t count = ROUNDS_MIN; count <= COUNT_MAX; count++) {
		struct summary got = summarise_ranks(count);
		double holds = chance(count, (size_t)got.low + 1, (size_t)got.high);

		if (holds < 0.95)
			FAIL("%zu samples: %.2f %%", count, holds * 100);
	}
}

TEST(interval_is_no_wider_than_it_has_to_be)
{
	for (size_t count = ROUNDS_MIN; count <= COUNT_MAX; count++) {
		struct summary got = summarise_ranks(count);
		double without = chance(count, (size_t)got.low + 3, (size_t)got.high - 2);

		if (without >= 0.95)
			FAIL("%zu samples: two less at each end still have %.2f %%", count,
			     without * 100);
	}
}

TEST(median_is_between_the_two_in_the_middle)
{
	CHECK(summarise_ranks(7).median == 3);
	CHECK(summarise_ranks(8).median == 3.5);
	CHECK(summarise_ranks(1).median == 0);
	/* Below six samples there is no interval of 95 %: all are in it. */
	CHECK(summarise_ranks(5).low == 0 && summarise_ranks(5).high == 4);
}

TEST(verdict_is_a_tie_where_the_interval_holds_1)
{
	CHECK_TEXT(verdict(&(struct summary){1.1, 1, 1.2}), "tie");
	CHECK_TEXT(verdict(&(struct summary){0.9, 0.8, 1}), "tie");
	CHECK_TEXT(verdict(&(struct summary){1.1, 1.01, 1.2}), "dearer");
	CHECK_TEXT(verdict(&(struct summary){0.9, 0.8, 0.99}), "cheaper");
}
