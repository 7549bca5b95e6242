/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *left, const void *right)
{
	const double *a = left, *b = right;

	return (*a > *b) - (*a < *b);
}

/*
 * How many samples may be left out at each end so that the rest still encloses the true median
 * with 95 %: the sign test in its normal approximation. It is the floor of
 * count / 2 - 0.5 - 0.98 * sqrt(count), without a root. Without the half, by which whole
 * numbers are corrected for continuity, eight samples would enclose it with 93 % only.
 */
static size_t left_out(size_t count)
{
	size_t out = count / 2;

	while (out > 0) {
		double rest = (double)count / 2 - 0.5 - (double)out;

		if (rest > 0 && rest * rest >= 0.9604 * (double)count)
			break;
		out--;
	}
	return out;
}

/*
 * The interval holds the median with 95 %. Below six samples no interval does, and it is that
 * of the lowest and the highest.
 */
struct summary summarise(const double *samples, size_t count)
{
	double sorted[SAMPLES_MAX];
	size_t out;

	if (count > SAMPLES_MAX)
		fail("more samples than SAMPLES_MAX");
	if (count == 0)
		return (struct summary){NAN, NAN, NAN};
	memcpy(sorted, samples, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), by_value);
	out = left_out(count);
	return (struct summary){
		.median = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2,
		.low = sorted[out],
		.high = sorted[count - 1 - out],
	};
}

/* Whether the difference to the mark can be told from noise. */
const char *verdict(const struct summary *ratio)
{
	if (ratio->high < 1)
		return "cheaper";
	if (ratio->low > 1)
		return "dearer";
	return "tie";
}

void table_note(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
	fflush(stdout);
}
