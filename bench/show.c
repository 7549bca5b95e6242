/* SPDX-License-Identifier: MIT */
/*
 * The results of a scenario as a table.
 */
#include "scenario.h"
#include "table.h"

#include <string.h>

static void show_sweep(FILE *to, const struct scenario *scenario, const struct json *document)
{
	const struct json *points[POINTS_MAX];
	size_t count = scenario_contests(scenario, document, points, POINTS_MAX);
	double fewest, most;
	const char *title = json_text_of(points[0], "title");
	int width = 0;

	for (size_t i = 0; i < count; i++)
		width = table_width(points[i], width);
	/* Some titles tell the place. */
	if (count > 1 && strcmp(title, json_text_of(points[1], "title")) != 0)
		title = scenario->line;
	table_text(to, 2, "%s; mark: %s", title, json_text_of(points[0], "mark"));
	if (scenario_rounds(scenario, document, &fewest, &most))
		table_text(to, 2, "%.0f to %.0f rounds; first column: %s", fewest, most,
			   scenario->axis);
	table_head(to, "", width);
	for (size_t i = 0; i < count; i++) {
		char place[FIGURE_SIZE];

		if (scenario->is_bytes)
			figure_size(place, contest_at(points[i]));
		else
			snprintf(place, sizeof(place), "%.0f", contest_at(points[i]));
		table_rows(to, place, width, points[i]);
	}
}

static void put_interval(FILE *to, enum figure kind, int both, const struct json *json,
			 const char *name)
{
	char median[FIGURE_SIZE], interval[FIGURES_SIZE];
	struct summary summary;

	if (json_summary_of(json, name, &summary))
		fprintf(to, "  %6s %-*s", figure(median, kind, summary.median), both,
			figure_interval(interval, kind, &summary));
	else
		fprintf(to, "  %6s %-*s", "-", both, "");
}

static void show_calls(FILE *to, const struct json *list)
{
	char size[FIGURE_SIZE];

	table_text(to, 2,
		   "nanoseconds for a bare call, how many more libfid takes, and their ratio");
	fprintf(to, "  %-25s %6s  %6s  %-27s  %s\n", "", "", "bare", "  libfid",
		"  with FID_NOSIGNAL");
	for (const struct json *one = list->first; one; one = one->next) {
		struct summary bare, ratio;
		char text[FIGURE_SIZE];

		fprintf(to, "  %-25.25s %6.6s", json_text_of(one, "title"),
			figure_size(size, json_number_of(one, "bytes")));
		if (*json_text_of(one, "failure")) {
			fprintf(to, "  failed: %.40s\n", json_text_of(one, "failure"));
			continue;
		}
		json_summary_of(one, "bare_ns", &bare);
		fprintf(to, "  %6s", figure(text, FIGURE_TIME, bare.median));
		for (int way = 0; way < 2; way++) {
			const struct json *ours = json_get(one, way ? "fid_nosignal" : "fid");

			/* "-12.3 to -10.1" */
			put_interval(to, FIGURE_TIME, 14, ours, "more_ns");
			if (json_summary_of(ours, "ratio", &ratio))
				fprintf(to, " %5s", figure(text, FIGURE_SHARE, ratio.median));
		}
		fputc('\n', to);
	}
}

static void show_small(FILE *to, const struct json *list)
{
	char size[FIGURE_SIZE];

	table_text(to, 2, "nanoseconds of processor time for one copy");
	fprintf(to, "  %-25s %6s  %-21s  %-21s  %s\n", "", "", "  read/write", "  fid_copy",
		" ratio");
	for (const struct json *one = list->first; one; one = one->next) {
		fprintf(to, "  %-25.25s %6.6s", json_text_of(one, "title"),
			figure_size(size, json_number_of(one, "bytes")));
		put_interval(to, FIGURE_TIME, 14, one, "read_write_ns");
		put_interval(to, FIGURE_TIME, 14, one, "fid_copy_ns");
		put_interval(to, FIGURE_RATIO, 0, one, "ratio");
		fputc('\n', to);
	}
}

static void show_start(FILE *to, const struct json *start)
{
	const char *failure = json_text_of(start, "failure");

	if (*failure) {
		table_text(to, 2, "failed: %s", failure);
		return;
	}
	table_text(to, 2, "milliseconds for a file of 4 KiB to /dev/null, whole process");
	fprintf(to, "  cat    ");
	put_interval(to, FIGURE_SPEED, 0, start, "cat_ms");
	fprintf(to, "\n  fid cat");
	put_interval(to, FIGURE_SPEED, 0, start, "fid_cat_ms");
	fprintf(to, "\n  ratio  ");
	put_interval(to, FIGURE_RATIO, 0, start, "ratio");
	fputc('\n', to);
}

static void show_idle(FILE *to, const struct json *list)
{
	table_text(to, 2, "%.0f flows that have passed 1 KiB each and wait for more",
		   json_number_of(list->first, "flows"));
	fprintf(to, "  %-16s  %5s  %11s  %14s  %14s\n", "", "bytes", "descriptors", "lent",
		"idle");
	fprintf(to, "  %-16s  %5s  %11s  %5s  %7s  %5s  %7s\n", "", "/flow", "in all", "pipes",
		"buffers", "pipes", "buffers");
	for (const struct json *one = list->first; one; one = one->next)
		fprintf(to, "  %-16.16s  %5.0f  %11.0f  %5.0f  %7.0f  %5.0f  %7.0f\n",
			json_text_of(one, "title"), json_number_of(one, "bytes_per_flow"),
			json_number_of(one, "descriptors"), json_number_of(one, "pipes_lent"),
			json_number_of(one, "buffers_lent"), json_number_of(one, "pipes_idle"),
			json_number_of(one, "buffers_idle"));
}

static void show_fill(FILE *to, const struct json *document)
{
	struct summary fill;

	if (json_summary_of(document, "fill_s_per_gb", &fill))
		table_text(to, 2,
			   "Storing the data alone costs %.4f s/GB. fid lend is memory that is "
			   "written again and again, which is UNSAFE behind a second pipe.",
			   fill.median);
}

void table_scenario(FILE *to, const struct scenario *scenario, const struct json *document)
{
	static void (*const show[])(FILE *, const struct json *) = {
		[FORM_CALLS] = show_calls,
		[FORM_SMALL] = show_small,
		[FORM_START] = show_start,
		[FORM_IDLE] = show_idle,
	};
	const struct json *section = json_get(document, scenario->section), *contest;
	char finding[256];

	finding_write(finding, sizeof(finding), scenario, document);
	fputc('\n', to);
	table_text(to, 0, "%s: %s", scenario->name, finding);
	if (scenario->form == FORM_SWEEP) {
		show_sweep(to, scenario, document);
		if (strcmp(scenario->section, "memory") == 0)
			show_fill(to, document);
	} else if (scenario->form == FORM_CONTEST) {
		scenario_contests(scenario, document, &contest, 1);
		table_contest(to, contest);
	} else {
		show[scenario->form](to, section);
	}
	fflush(to);
}

static void put_comparison(FILE *to, const struct json *comparison)
{
	struct summary ratio;

	if (json_summary_of(comparison, "ratio", &ratio)) {
		put_interval(to, FIGURE_RATIO, 11, comparison, "ratio");
		fprintf(to, "  %-8s  %.10s", verdict(&ratio), json_text_of(comparison, "to"));
	} else {
		fputs("  not measured", to);
	}
}

static bool has_peers(const struct json *list)
{
	struct summary ratio;

	for (const struct json *one = list->first; one; one = one->next)
		if (json_summary_of(json_get(one, "command"), "ratio", &ratio))
			return true;
	return false;
}

void table_conclusions(FILE *to, const struct json *document)
{
	const struct json *list = json_get(document, "conclusions");
	bool peers;

	if (!list || list->first == list->last)
		return;
	peers = has_peers(list);
	fputc('\n', to);
	table_text(to, 0, "In short: the cost of fid_copy to that of the hand loop%s",
		   peers ? ", and of fid to that of its cheapest peer."
			 : "; --peers has other commands to compare fid with.");
	for (const struct json *one = list->first; one; one = one->next) {
		fprintf(to, "  %-16.16s", json_text_of(one, "name"));
		put_comparison(to, json_get(one, "library"));
		if (peers)
			put_comparison(to, json_get(one, "command"));
		fputc('\n', to);
	}
}
