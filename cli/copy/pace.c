/* SPDX-License-Identifier: MIT */
#include "pace.h"

#include "clock.h"

enum {
	/* Whole pages stay whole on their way, and a copy to a file writes whole blocks. */
	PAGE_BYTES = 4 << 10,
	/*
	 * Below 4 KiB at once a flow finds a copy cheaper, and above 16 KiB a pipe; with some
	 * room above that each slice is worth its wake-up.
	 */
	SLICE_BYTES = 64 << 10,
	/* Slower than 512 KiB a second a slice is smaller rather than seldom ... */
	SLICES_A_SECOND_MIN = 8,
	/* ... and at high rates it is larger rather than often. */
	SLICES_A_SECOND_MAX = 50,
	/* A sleep that lasts too long is made up for; a sink that stood still is not. */
	BURSTS_A_SECOND = 4,
};

static uint64_t whole_pages(uint64_t bytes)
{
	return bytes - bytes % PAGE_BYTES;
}

void pace_begin(struct pace *pace, uint64_t rate)
{
	uint64_t longest = rate / SLICES_A_SECOND_MIN;
	uint64_t slice = rate / SLICES_A_SECOND_MAX;

	if (slice < SLICE_BYTES)
		slice = longest < SLICE_BYTES ? longest : SLICE_BYTES;
	if (slice >= PAGE_BYTES)
		slice = whole_pages(slice);
	*pace = (struct pace){.rate = rate, .slice_bytes = slice ? slice : 1};
	pace->burst_bytes = rate / BURSTS_A_SECOND;
	/* Two slices everywhere, and at a few bytes a second as well. */
	if (pace->burst_bytes < 2)
		pace->burst_bytes = 2;
}

void pace_keep_pages(struct pace *pace)
{
	if (pace->slice_bytes < PAGE_BYTES)
		pace->slice_bytes = PAGE_BYTES;
	if (pace->burst_bytes < 2 * PAGE_BYTES)
		pace->burst_bytes = 2 * PAGE_BYTES;
}

static void fill(struct pace *pace, double bytes)
{
	pace->saved += bytes;
	if (pace->saved > (double)pace->burst_bytes)
		pace->saved = (double)pace->burst_bytes;
}

uint64_t pace_take(struct pace *pace, uint64_t now_ns)
{
	uint64_t bytes;

	if (!pace->started)
		fill(pace, (double)pace->slice_bytes);
	else
		fill(pace,
		     (double)(now_ns - pace->seen_ns) * (double)pace->rate / (double)SECOND_NS);
	pace->started = true;
	pace->seen_ns = now_ns;
	bytes = (uint64_t)pace->saved;
	if (bytes < pace->slice_bytes)
		return 0;
	if (bytes > PAGE_BYTES)
		bytes = whole_pages(bytes);
	pace->saved -= (double)bytes;
	return bytes;
}

void pace_give_back(struct pace *pace, uint64_t bytes)
{
	fill(pace, (double)bytes);
}

uint64_t pace_wait_ns(const struct pace *pace, uint64_t now_ns)
{
	double missing = (double)pace->slice_bytes - pace->saved;
	uint64_t since_ns = now_ns - pace->seen_ns;
	uint64_t wait_ns;

	if (!pace->started || missing <= 0)
		return 0;
	/* One more, so that what a fraction of a nanosecond brings is there. */
	wait_ns = (uint64_t)(missing * (double)SECOND_NS / (double)pace->rate) + 1;
	return wait_ns > since_ns ? wait_ns - since_ns : 0;
}
