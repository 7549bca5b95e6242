/* SPDX-License-Identifier: MIT */
/*
 * What a picture of a scenario shows.
 */
#include "plot.h"
#include "table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char COST[] = "processor time, seconds per GB: less is better";

static enum role role_of(const struct scenario *scenario, const char *name, bool is_first)
{
	if (is_first)
		return ROLE_MARK;
	if (strncmp(name, "fid", 3) == 0 && !strstr(name, "UNSAFE"))
		return scenario->form == FORM_SWEEP && strcmp(name, scenario->ours) != 0
			       ? ROLE_OURS_TOO
			       : ROLE_OURS;
	if (scenario->form == FORM_SWEEP && strcmp(name, scenario->rival) == 0)
		return ROLE_RIVAL;
	return ROLE_OTHER;
}

/* Whether it can be drawn: a record may say anything. */
static bool take_summary(const struct json *json, const char *name, struct summary *ret_summary)
{
	struct summary summary;

	if (!json_summary_of(json, name, &summary) || summary.low < -1e12 ||
	    summary.high > 1e12 || summary.median < summary.low ||
	    summary.median > summary.high)
		return false;
	*ret_summary = summary;
	return true;
}

static struct bar *add_bar(struct chart *chart, const char *name, enum role role)
{
	struct bar *bar;

	if (chart->bars_count == BARS_MAX)
		return NULL;
	bar = &chart->bars[chart->bars_count++];
	snprintf(bar->name, sizeof(bar->name), "%s", name);
	bar->role = role;
	bar->length.median = NAN;
	return bar;
}

/* The cheapest first; those that failed last. */
static int by_length(const void *left, const void *right)
{
	double a = ((const struct bar *)left)->length.median;
	double b = ((const struct bar *)right)->length.median;

	if (isnan(a) || isnan(b))
		return isnan(a) - isnan(b);
	return (a > b) - (a < b);
}

static void draw_contest(struct chart *chart, const struct scenario *scenario,
			 const struct json *contest)
{
	const struct json *list = json_get(contest, "entrants");

	snprintf(chart->x_title, sizeof(chart->x_title), "%s", COST);
	for (const struct json *one = list ? list->first : NULL; one; one = one->next) {
		const char *name = json_text_of(one, "name");
		struct bar *bar =
			add_bar(chart, name, role_of(scenario, name, one == list->first));
		char cost[FIGURE_SIZE], speed[FIGURE_SIZE];
		struct summary gib;

		if (!bar)
			break;
		if (take_summary(one, "cpu_s_per_gb", &bar->length) &&
		    json_summary_of(one, "gib_per_s", &gib))
			snprintf(bar->value, sizeof(bar->value), "%s s, at %s GiB/s",
				 figure(cost, FIGURE_COST, bar->length.median),
				 figure(speed, FIGURE_SPEED, gib.median));
		else
			snprintf(bar->value, sizeof(bar->value), "failed: %.40s",
				 json_text_of(one, "failure"));
	}
	qsort(chart->bars, chart->bars_count, sizeof(*chart->bars), by_length);
	snprintf(chart->subtitle, sizeof(chart->subtitle), "%.120s; %s: %.100s",
		 json_text_of(contest, "title"),
		 list && list->first ? json_text_of(list->first, "name") : "mark",
		 json_text_of(contest, "mark"));
}

static struct line *line_of(struct chart *chart, const struct scenario *scenario,
			    const char *name, bool is_first)
{
	for (size_t i = 0; i < chart->lines_count; i++)
		if (strcmp(chart->lines[i].name, name) == 0)
			return &chart->lines[i];
	if (chart->lines_count == LINES_MAX)
		return NULL;
	chart->lines[chart->lines_count] = (struct line){
		.name = name,
		.role = role_of(scenario, name, is_first),
	};
	return &chart->lines[chart->lines_count++];
}

static void draw_sweep(struct chart *chart, const struct scenario *scenario,
		       const struct json *document)
{
	const char *measure = scenario->shows_ratio ? "ratio" : "cpu_s_per_gb";
	const struct json *points[POINTS_MAX];
	size_t count = scenario_contests(scenario, document, points, POINTS_MAX);

	for (size_t i = 0; i < count; i++) {
		const struct json *list = json_get(points[i], "entrants");

		for (const struct json *one = list ? list->first : NULL; one; one = one->next) {
			struct line *line = line_of(chart, scenario, json_text_of(one, "name"),
						    one == list->first);

			/* A logarithm has no place for less. */
			if (line && line->count < POINTS_MAX &&
			    take_summary(one, measure, &line->y[line->count]) &&
			    line->y[line->count].low > 1e-9 && contest_at(points[i]) > 0)
				line->at[line->count++] = contest_at(points[i]);
		}
	}
	/* A line without a point is of one that failed everywhere. */
	count = chart->lines_count;
	chart->lines_count = 0;
	for (size_t i = 0; i < count; i++)
		if (chart->lines[i].count > 0)
			chart->lines[chart->lines_count++] = chart->lines[i];
	chart->x_is_bytes = scenario->is_bytes;
	chart->has_one = scenario->shows_ratio;
	snprintf(chart->x_title, sizeof(chart->x_title), "%s", scenario->axis);
	if (scenario->shows_ratio)
		snprintf(chart->y_title, sizeof(chart->y_title),
			 "processor time to that of %.40s", chart->lines[0].name);
	else
		snprintf(chart->y_title, sizeof(chart->y_title),
			 "processor time, seconds per GB");
	snprintf(chart->subtitle, sizeof(chart->subtitle), "%s; less is better",
		 scenario->line);
}

/* No "-0.0" where one digit behind the point is shown. */
static double rounded(double value)
{
	return value < 0 && value > -0.05 ? 0 : value;
}

static void draw_calls(struct chart *chart, const struct json *list)
{
	snprintf(chart->x_title, sizeof(chart->x_title),
		 "nanoseconds that libfid adds to a call");
	snprintf(chart->subtitle, sizeof(chart->subtitle),
		 "fid_splice() and its sisters against the bare calls");
	for (const struct json *one = list->first; one; one = one->next) {
		char name[LABEL_SIZE], size[FIGURE_SIZE];
		struct summary bare, ratio;
		struct bar *bar;

		snprintf(name, sizeof(name), "%.40s, %s", json_text_of(one, "title"),
			 figure_size(size, json_number_of(one, "bytes")));
		bar = add_bar(chart, name, ROLE_OURS);
		if (bar && take_summary(json_get(one, "fid"), "more_ns", &bar->length) &&
		    json_summary_of(json_get(one, "fid"), "ratio", &ratio) &&
		    json_summary_of(one, "bare_ns", &bare))
			snprintf(bar->value, sizeof(bar->value), "%.1f ns on %.0f, %+.1f %%",
				 rounded(bar->length.median), bare.median,
				 rounded((ratio.median - 1) * 100));
		else if (bar)
			snprintf(bar->value, sizeof(bar->value), "failed: %.40s",
				 json_text_of(one, "failure"));
	}
}

static void draw_small(struct chart *chart, const struct json *list)
{
	snprintf(chart->x_title, sizeof(chart->x_title),
		 "nanoseconds for one copy: less is better");
	snprintf(chart->subtitle, sizeof(chart->subtitle),
		 "fid_copy() of so few bytes against a read and a write by hand");
	for (const struct json *one = list->first; one; one = one->next)
		for (int ours = 0; ours < 2; ours++) {
			char name[LABEL_SIZE], size[FIGURE_SIZE];
			struct bar *bar;

			snprintf(name, sizeof(name), "%.30s, %s: %s",
				 json_text_of(one, "title"),
				 figure_size(size, json_number_of(one, "bytes")),
				 ours ? "fid_copy" : "read/write");
			bar = add_bar(chart, name, ours ? ROLE_OURS : ROLE_MARK);
			if (bar && take_summary(one, ours ? "fid_copy_ns" : "read_write_ns",
						&bar->length))
				snprintf(bar->value, sizeof(bar->value), "%.0f ns",
					 bar->length.median);
		}
}

static void draw_start(struct chart *chart, const struct json *start)
{
	snprintf(chart->x_title, sizeof(chart->x_title),
		 "milliseconds from start to end: less is better");
	snprintf(chart->subtitle, sizeof(chart->subtitle), "a file of 4 KiB to /dev/null");
	for (int ours = 0; ours < 2; ours++) {
		struct bar *bar =
			add_bar(chart, ours ? "fid cat" : "cat", ours ? ROLE_OURS : ROLE_MARK);

		if (take_summary(start, ours ? "fid_cat_ms" : "cat_ms", &bar->length))
			snprintf(bar->value, sizeof(bar->value), "%.3f ms", bar->length.median);
		else
			snprintf(bar->value, sizeof(bar->value), "failed");
	}
}

static void draw_idle(struct chart *chart, const struct json *list)
{
	snprintf(chart->x_title, sizeof(chart->x_title), "bytes of memory for each flow");
	snprintf(chart->subtitle, sizeof(chart->subtitle),
		 "%.0f flows that have passed 1 KiB each and wait for more",
		 json_number_of(list->first, "flows"));
	for (const struct json *one = list->first; one; one = one->next) {
		struct bar *bar = add_bar(chart, json_text_of(one, "title"), ROLE_OURS);
		double bytes = json_number_of(one, "bytes_per_flow");

		if (!bar)
			break;
		if (bytes >= 0 && bytes < 1e12)
			bar->length = (struct summary){bytes, bytes, bytes};
		snprintf(bar->value, sizeof(bar->value), "%.0f bytes, %.0f descriptors", bytes,
			 json_number_of(one, "descriptors"));
	}
}

static void write_footer(struct chart *chart, const struct scenario *scenario,
			 const struct json *document)
{
	const struct json *facts = json_get(document, "facts");
	const char *kernel = json_text_of(facts, "kernel");
	double fewest, most;
	char of[64] = "";

	if (scenario_rounds(scenario, document, &fewest, &most) && fewest < most)
		snprintf(of, sizeof(of), " of %.0f to %.0f rounds", fewest, most);
	else if (scenario_rounds(scenario, document, &fewest, &most))
		snprintf(of, sizeof(of), " of %.0f rounds", fewest);
	snprintf(chart->footer, sizeof(chart->footer), "%.60s, %.*s, %.10s%s%s%s",
		 json_text_of(facts, "cpu"), (int)strcspn(kernel, "-"), kernel,
		 json_text_of(facts, "date"), scenario->form == FORM_IDLE ? "" : "; medians",
		 of, scenario->form == FORM_IDLE ? "" : ", 95 % intervals");
}

bool chart_make(struct chart *chart, const struct scenario *scenario,
		const struct json *document)
{
	static void (*const draw[])(struct chart *, const struct json *) = {
		[FORM_CALLS] = draw_calls,
		[FORM_SMALL] = draw_small,
		[FORM_START] = draw_start,
		[FORM_IDLE] = draw_idle,
	};
	const struct json *contest;

	*chart = (struct chart){0};
	finding_write(chart->finding, sizeof(chart->finding), scenario, document);
	write_footer(chart, scenario, document);
	if (scenario->form == FORM_CONTEST) {
		scenario_contests(scenario, document, &contest, 1);
		draw_contest(chart, scenario, contest);
	} else if (scenario->form == FORM_SWEEP) {
		draw_sweep(chart, scenario, document);
	} else {
		draw[scenario->form](chart, json_get(document, scenario->section));
	}
	return chart->bars_count > 0 || chart->lines_count > 0;
}
