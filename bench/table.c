/* SPDX-License-Identifier: MIT */
#include "table.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

enum { NAME_MIN = 10, NAME_MAX = 22, PLACE_WIDTH = 9 };

const char *figure(char text[FIGURE_SIZE], enum figure kind, double value)
{
	/* Digits behind the point below 0.01, 1, 10 and 100. */
	static const int digits[][4] = {
		[FIGURE_COST] = {4, 4, 3, 2},  [FIGURE_RATIO] = {2, 2, 2, 1},
		[FIGURE_SHARE] = {3, 3, 3, 3}, [FIGURE_SPEED] = {4, 3, 2, 1},
		[FIGURE_TIME] = {1, 1, 1, 1},
	};
	double size = value < 0 ? -value : value;
	int last = kind == FIGURE_COST && size < 999.95 ? 1 : 0;

	last = size < 0.00995   ? digits[kind][0]
	       : size < 0.99995 ? digits[kind][1]
	       : size < 9.995   ? digits[kind][2]
	       : size < 99.95   ? digits[kind][3]
				: last;
	/* No machine measures that, but a record may say it: the columns stay. */
	snprintf(text, FIGURE_SIZE, size < 99999 ? "%.*f" : "%.*e", size < 99999 ? last : 0,
		 value);
	return text;
}

static bool is_written_as_1(const char *text)
{
	return strncmp(text, "1.", 2) == 0 && !text[2 + strspn(text + 2, "0")];
}

/* What lies beside 1 is not written as 1: whether the interval has it in it is what counts. */
static const char *figure_bound(char text[FIGURE_SIZE], enum figure kind, double value)
{
	figure(text, kind, value);
	for (int digits = 3;
	     kind == FIGURE_RATIO && value != 1 && digits <= 6 && is_written_as_1(text);
	     digits++)
		snprintf(text, FIGURE_SIZE, "%.*f", digits, value);
	return text;
}

const char *figure_interval(char text[FIGURES_SIZE], enum figure kind,
			    const struct summary *summary)
{
	char low[FIGURE_SIZE], high[FIGURE_SIZE];

	snprintf(text, FIGURES_SIZE, "%s%s%s", figure_bound(low, kind, summary->low),
		 summary->low < 0 ? " to " : "-", figure_bound(high, kind, summary->high));
	return text;
}

const char *figure_size(char text[FIGURE_SIZE], double bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB"};
	size_t unit = 0;

	for (; bytes >= 1024 && unit < 3; unit++)
		bytes /= 1024;
	snprintf(text, FIGURE_SIZE, "%.4g %s", bytes, units[unit]);
	return text;
}

void table_text(FILE *to, int spaces, const char *format, ...)
{
	char text[2048], *word, *rest = text;
	int column = 0;
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	while ((word = strsep(&rest, " "))) {
		int length = (int)strlen(word);

		if (column > 0 && column + 1 + length > TABLE_COLUMNS) {
			fputc('\n', to);
			column = 0;
		}
		column += fprintf(to, "%*s%.*s", column ? 1 : spaces, "",
				  TABLE_COLUMNS - spaces, word);
	}
	fputc('\n', to);
}

void table_facts(FILE *to, const struct json *document)
{
	const struct json *facts = json_get(document, "facts");

	for (const struct json *fact = facts ? facts->first : NULL; fact; fact = fact->next)
		if (fact->kind == JSON_TEXT)
			fprintf(to, "%-21.40s  %.75s\n", fact->name, fact->text);
}

void table_explain(FILE *to)
{
	fputc('\n', to);
	table_text(
		to, 0,
		"Cost is that of the mover alone: user and system seconds for a gigabyte (1e9 "
		"bytes). \"to mark\" is its ratio to the cost of the first entrant in the "
		"same round. Beside each median is the interval that holds the true one with "
		"95 %%; a tie cannot be told from noise.");
}

int table_width(const struct json *contest, int width)
{
	const struct json *list = json_get(contest, "entrants");

	width = width < NAME_MIN ? NAME_MIN : width;
	for (const struct json *one = list ? list->first : NULL; one; one = one->next) {
		int length = (int)strlen(json_text_of(one, "name"));

		length = length > NAME_MAX ? NAME_MAX : length;
		width = length > width ? length : width;
	}
	return width;
}

void table_head(FILE *to, const char *place, int width)
{
	if (place)
		fprintf(to, "  %*s", PLACE_WIDTH, place);
	fprintf(to, "  %-*s  %-20s  %-17s  %s\n", width, "", "cpu s/GB", "to mark", " GiB/s");
}

static void put_summary(FILE *to, enum figure kind, int both, const struct summary *summary)
{
	char median[FIGURE_SIZE], interval[FIGURES_SIZE];

	fprintf(to, "  %*s %-*s", kind == FIGURE_RATIO ? 5 : 6,
		figure(median, kind, summary->median), both,
		figure_interval(interval, kind, summary));
}

static void put_entrant(FILE *to, bool is_mark, const struct json *entrant)
{
	struct summary cost, speed, ratio;

	if (!json_summary_of(entrant, "cpu_s_per_gb", &cost) ||
	    !json_summary_of(entrant, "gib_per_s", &speed) ||
	    !json_summary_of(entrant, "ratio", &ratio)) {
		const char *why = json_text_of(entrant, "failure");

		fprintf(to, "  failed: %.50s\n", *why ? why : "it could not be measured");
		return;
	}
	put_summary(to, FIGURE_COST, 13, &cost);
	put_summary(to, FIGURE_RATIO, 11, &ratio);
	put_summary(to, FIGURE_SPEED, 12, &speed);
	fprintf(to, "  %.8s\n", is_mark ? "mark" : json_text_of(entrant, "verdict"));
}

void table_rows(FILE *to, const char *place, int width, const struct json *contest)
{
	const struct json *list = json_get(contest, "entrants");

	for (const struct json *one = list ? list->first : NULL; one; one = one->next) {
		if (place)
			fprintf(to, "  %*.*s", PLACE_WIDTH, PLACE_WIDTH,
				one == list->first ? place : "");
		fprintf(to, "  %-*.*s", width, width, json_text_of(one, "name"));
		put_entrant(to, one == list->first, one);
	}
}

static void put_versus(FILE *to, const struct json *versus)
{
	struct summary cost, speed;
	char text[2][FIGURE_SIZE], interval[2][FIGURES_SIZE];

	if (!json_summary_of(versus, "ratio", &cost) ||
	    !json_summary_of(versus, "speed_ratio", &speed))
		return;
	table_text(to, 2, "%s to %s: cost %s %s, speed %s %s", json_text_of(versus, "name"),
		   json_text_of(versus, "to"), figure(text[0], FIGURE_RATIO, cost.median),
		   figure_interval(interval[0], FIGURE_RATIO, &cost),
		   figure(text[1], FIGURE_RATIO, speed.median),
		   figure_interval(interval[1], FIGURE_RATIO, &speed));
}

void table_contest(FILE *to, const struct json *contest)
{
	const struct json *entrants = json_get(contest, "entrants");
	const struct json *list = json_get(contest, "versus");
	int width = table_width(contest, 0);
	double rounds = json_number_of(contest, "rounds");
	double volume = json_number_of(contest, "volume_bytes");
	char size[FIGURE_SIZE];

	fputc('\n', to);
	table_text(to, 0, "%s: %s", json_text_of(contest, "name"),
		   json_text_of(contest, "title"));
	table_text(to, 0, "%s: %s",
		   entrants && entrants->first ? json_text_of(entrants->first, "name") : "mark",
		   json_text_of(contest, "mark"));
	if (!isnan(rounds) && !isnan(volume))
		table_text(to, 0, "%.0f rounds of %s", rounds, figure_size(size, volume));
	table_head(to, NULL, width);
	table_rows(to, NULL, width, contest);
	for (const struct json *one = list ? list->first : NULL; one; one = one->next)
		put_versus(to, one);
}
