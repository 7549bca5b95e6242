/* SPDX-License-Identifier: MIT */
#include "scenario.h"
#include "table.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

/* Costs that differ by less are called the same; no reader acts on them. */
static const double ABOUT = 1.05;

static const struct json *find_entrant(const struct json *contest, const char *name)
{
	const struct json *list = json_get(contest, "entrants");

	for (const struct json *one = list ? list->first : NULL; one; one = one->next)
		if (strcmp(json_text_of(one, "name"), name) == 0)
			return one;
	return NULL;
}

/* The cost of one entrant to that of the mark; false where there is none. */
static bool ratio_of(const struct json *contest, const char *name, struct summary *ret_ratio)
{
	return json_summary_of(find_entrant(contest, name), "ratio", ret_ratio);
}

static const char *mark_of(const struct json *contest)
{
	const struct json *list = json_get(contest, "entrants");

	return list && list->first ? json_text_of(list->first, "name") : "";
}

static void add(char *text, size_t capacity, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void add(char *text, size_t capacity, const char *format, ...)
{
	size_t length = strlen(text);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text + length, capacity - length, format, arguments);
	va_end(arguments);
}

/* "9.4": how many times as much. */
static const char *times(char text[FIGURE_SIZE], double ratio)
{
	snprintf(text, FIGURE_SIZE, "%.*f", ratio < 9.95 ? 1 : 0, ratio);
	return text;
}

static double percent(double ratio)
{
	return ratio > 1 ? (ratio - 1) * 100 : (1 - ratio) * 100;
}

/* Said of the library: how it stands to the plain way, and to the best by hand. */
static void find_contest(char *text, size_t capacity, const struct scenario *scenario,
			 const struct json *contest)
{
	const char *why;
	struct summary ours, plain;
	char number[FIGURE_SIZE];

	if (!ratio_of(contest, scenario->ours, &ours)) {
		why = json_text_of(find_entrant(contest, scenario->ours), "failure");
		add(text, capacity, "%s failed: %s", scenario->ours,
		    *why ? why : "it could not be measured");
		return;
	}
	if (ratio_of(contest, scenario->rival, &plain)) {
		double more = plain.median / ours.median;

		if (more >= 1.2)
			add(text, capacity, "%s costs %s times what %s costs; ",
			    scenario->rival, times(number, more), scenario->ours);
		else if (more > ABOUT)
			add(text, capacity, "%s costs %.0f %% more than %s; ", scenario->rival,
			    percent(more), scenario->ours);
		else if (more < 1 / ABOUT)
			add(text, capacity, "%s costs %.0f %% more than %s; ", scenario->ours,
			    percent(1 / more), scenario->rival);
		else
			add(text, capacity, "%s costs about what %s costs; ", scenario->rival,
			    scenario->ours);
	} else {
		add(text, capacity, "%s: ", scenario->ours);
	}
	if (ours.low <= 1 && ours.high >= 1)
		add(text, capacity, "with the best by hand it is a tie");
	else
		add(text, capacity, "the best by hand costs %.0f %% %s",
		    percent(1 / ours.median), ours.median > 1 ? "less" : "more");
}

static void add_place(char *text, size_t capacity, const struct scenario *scenario,
		      const struct json *contest)
{
	char place[FIGURE_SIZE];

	if (scenario->is_bytes)
		add(text, capacity, "%s of %s", scenario->each,
		    figure_size(place, contest_at(contest)));
	else
		add(text, capacity, "%.0f %s", contest_at(contest), scenario->each);
}

/*
 * The first point from which on the rival is cheaper than the mark, beyond doubt, at every
 * point; count where there is none.
 */
static size_t find_crossover(const struct scenario *scenario, const struct json *const *points,
			     size_t count)
{
	size_t first = count;
	struct summary ratio;

	while (first > 0 && ratio_of(points[first - 1], scenario->rival, &ratio) &&
	       ratio.high < 1)
		first--;
	return first;
}

/*
 * How much dearer the library is, at its worst, than the better of the mark and the rival: by
 * what the picture shows, since the ratios of medians and the medians of ratios differ a
 * little.
 */
static double find_worst(const struct scenario *scenario, const struct json *const *points,
			 size_t count, const struct json **ret_where)
{
	const char *measure = scenario->shows_ratio ? "ratio" : "cpu_s_per_gb";
	double worst = 0;

	for (size_t i = 0; i < count; i++) {
		struct summary ours, rival, mark;
		double best = INFINITY;

		if (!json_summary_of(find_entrant(points[i], scenario->ours), measure, &ours))
			continue;
		if (json_summary_of(find_entrant(points[i], mark_of(points[i])), measure,
				    &mark))
			best = mark.median;
		if (json_summary_of(find_entrant(points[i], scenario->rival), measure,
				    &rival) &&
		    rival.median < best)
			best = rival.median;
		if (ours.median / best > worst) {
			worst = ours.median / best;
			*ret_where = points[i];
		}
	}
	return worst;
}

static void find_sweep(char *text, size_t capacity, const struct scenario *scenario,
		       const struct json *const *points, size_t count)
{
	const char *mark = mark_of(points[0]);
	size_t from = find_crossover(scenario, points, count);
	const struct json *where = NULL;
	double worst = find_worst(scenario, points, count, &where);

	if (from == count)
		add(text, capacity, "%s does not win over %s up to ", scenario->rival, mark);
	else if (from == 0)
		add(text, capacity, "%s wins over %s everywhere", scenario->rival, mark);
	else
		add(text, capacity, "%s wins over %s from ", scenario->rival, mark);
	if (from > 0)
		add_place(text, capacity, scenario, points[from < count ? from : count - 1]);
	if (from > 0 && from < count)
		add(text, capacity, " on");
	if (!where)
		return;
	if (worst <= 1)
		add(text, capacity, "; %s costs less than the better of both", scenario->ours);
	else if (worst <= ABOUT)
		add(text, capacity, "; %s costs what the better of both costs", scenario->ours);
	else
		add(text, capacity, "; %s costs at most %.0f %% more than the better",
		    scenario->ours, percent(worst));
	if (worst > ABOUT && count > 1) {
		add(text, capacity, ", at ");
		add_place(text, capacity, scenario, where);
	}
}

/* The least and the largest of a median in a list. */
static void find_range(const struct json *list, const char *inner, const char *name,
		       double *ret_least, double *ret_most)
{
	*ret_least = INFINITY;
	*ret_most = -INFINITY;
	for (const struct json *one = list->first; one; one = one->next) {
		struct summary summary;

		if (!json_summary_of(inner ? json_get(one, inner) : one, name, &summary))
			continue;
		*ret_least = summary.median < *ret_least ? summary.median : *ret_least;
		*ret_most = summary.median > *ret_most ? summary.median : *ret_most;
	}
}

static void find_calls(char *text, size_t capacity, const struct json *list)
{
	double least, most, ratio;

	find_range(list, "fid", "ratio", &least, &ratio);
	find_range(list, "fid", "more_ns", &least, &most);
	if (!isfinite(most) || !isfinite(ratio)) {
		add(text, capacity, "no call could be measured");
		return;
	}
	add(text, capacity, "libfid adds at most %.0f ns to a call, and at most %.1f %%", most,
	    (ratio - 1) * 100);
}

static void find_small(char *text, size_t capacity, const struct json *list)
{
	double least, most;

	find_range(list, NULL, "ratio", &least, &most);
	if (most <= ABOUT)
		add(text, capacity, "fid_copy takes no longer than a read and a write");
	else
		add(text, capacity,
		    "fid_copy takes %.0f to %.0f %% longer than a read and a write",
		    least > 1 ? percent(least) : 0, percent(most));
}

static void find_start(char *text, size_t capacity, const struct json *start)
{
	struct summary fid, cat;

	if (*json_text_of(start, "failure"))
		add(text, capacity, "failed: %s", json_text_of(start, "failure"));
	else if (json_summary_of(start, "fid_cat_ms", &fid) &&
		 json_summary_of(start, "cat_ms", &cat))
		add(text, capacity,
		    "for 4 KiB 'fid cat' takes %.2f ms from start to end, cat %.2f", fid.median,
		    cat.median);
}

static void find_idle(char *text, size_t capacity, const struct json *list)
{
	double bytes = 0, descriptors = 0;

	for (const struct json *one = list->first; one; one = one->next) {
		double more = json_number_of(one, "bytes_per_flow");

		bytes = isnan(more) || more < bytes ? bytes : more;
		more = json_number_of(one, "descriptors");
		descriptors = isnan(more) || more < descriptors ? descriptors : more;
	}
	if (descriptors > 0)
		add(text, capacity,
		    "flows that wait take %.0f bytes each, and %.0f descriptors", bytes,
		    descriptors);
	else
		add(text, capacity, "a flow that waits takes %.0f bytes and no descriptor",
		    bytes);
}

void finding_write(char *text, size_t capacity, const struct scenario *scenario,
		   const struct json *document)
{
	static void (*const find[])(char *, size_t, const struct json *) = {
		[FORM_CALLS] = find_calls,
		[FORM_SMALL] = find_small,
		[FORM_START] = find_start,
		[FORM_IDLE] = find_idle,
	};
	const struct json *points[POINTS_MAX];
	size_t count = scenario_contests(scenario, document, points, POINTS_MAX);

	text[0] = '\0';
	if (scenario->form == FORM_CONTEST)
		find_contest(text, capacity, scenario, points[0]);
	else if (scenario->form == FORM_SWEEP)
		find_sweep(text, capacity, scenario, points, count);
	else
		find[scenario->form](text, capacity, json_get(document, scenario->section));
}
