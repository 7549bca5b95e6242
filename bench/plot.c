/* SPDX-License-Identifier: MIT */
/*
 * The looks of a picture. Every line and bar has its name beside it, and not in a legend; lines
 * differ by dashes and points, and all shades by their lightness, so that colours can be lost.
 */
#include "plot.h"
#include "table.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

/* In pixels of a picture that is 800 wide. */
enum {
	WIDTH = 800,
	LINES_HEIGHT = 500,
	BAR_HEIGHT = 34,
	FONT = 16,
	TITLE_FONT = 20,
	SMALL_FONT = 14,
	TITLE_LINE = 27,
	TITLE_COLUMNS = 72,
	SMALL_LINE = 21,
	SMALL_COLUMNS = 104,
	X_AXIS = 62,
	FOOTER = 44,
};

/* The width of a letter, taken for a wide one: fonts differ. */
static const double LETTER = 9.2;

static const struct {
	const char *colour;
	const char *fill;
	int point;
	const char *dash;
} looks[] = {
	[ROLE_OURS] = {"#0b3c6f", "#0b3c6f", 7, "solid"},
	[ROLE_OURS_TOO] = {"#3f86c4", "#3f86c4", 13, "'-.'"},
	[ROLE_MARK] = {"#5f5f5f", "#8f8f8f", 5, "'-'"},
	[ROLE_RIVAL] = {"#d9822b", "#d9822b", 9, "'_'"},
	[ROLE_OTHER] = {"#9a9a9a", "#c8c8c8", 6, "'.'"},
};

/* Lines of the same role, in their order, differ by their points. */
static const int more_points[] = {0, 6, 4, 1};

/*
 * A literal of gnuplot. Between single quotes it takes two of them for one, but not everywhere
 * (5.4: not at the beginning), and between double ones it looks for commands and escapes, so
 * all that may mean something is written as a number.
 */
static void put_text(FILE *to, const char *text, size_t length)
{
	fputc('"', to);
	for (size_t i = 0; i < length && text[i]; i++) {
		if (isalnum((unsigned char)text[i]) || strchr(" .,;:()<>+-/=_%", text[i]))
			fputc(text[i], to);
		else
			fprintf(to, "\\%03o", (unsigned char)text[i]);
	}
	fputc('"', to);
}

/* Where to end a line of so many columns: at a space, if there is one. */
static size_t line_length(const char *text, size_t columns)
{
	size_t length = strlen(text);

	if (length <= columns)
		return length;
	length = columns;
	/* A number and its unit stay together. */
	while (length > 0 && (text[length] != ' ' || isdigit((unsigned char)text[length - 1])))
		length--;
	return length ? length : columns;
}

static int count_lines(const char *text, size_t columns)
{
	int lines = 0;

	for (; *text; lines++) {
		text += line_length(text, columns);
		text += *text == ' ';
	}
	return lines;
}

/* As few columns as take no more lines: they become about as long as each other. */
static size_t balance(const char *text, size_t columns)
{
	int lines = count_lines(text, columns);

	while (columns > 20 && count_lines(text, columns - 1) == lines)
		columns--;
	return columns;
}

/* From the top down, at the left edge. Returns how far down it goes. */
static int put_paragraph(FILE *to, const char *text, size_t columns, int font, int line_height,
			 const char *colour, int top, int height)
{
	for (size_t length; *text; text += length, text += *text == ' ') {
		length = line_length(text, columns);
		fputs("set label ", to);
		put_text(to, text, length);
		fprintf(to,
			" at screen %.4f, screen %.4f left font ',%d' textcolor rgb '%s' "
			"noenhanced\n",
			12.0 / WIDTH, 1 - (top + line_height / 2.0) / height, font, colour);
		top += line_height;
	}
	return top;
}

/* 2 to the power of the result is value, for values above 0; libm stays out of the command. */
static double logarithm(double value)
{
	double whole = 0, part = 0, step = 0.5;

	while (value >= 2) {
		value /= 2;
		whole++;
	}
	while (value < 1) {
		value *= 2;
		whole--;
	}
	for (int i = 0; i < 24; i++, step /= 2) {
		value *= value;
		if (value >= 2) {
			value /= 2;
			part += step;
		}
	}
	return whole + part;
}

static int height_of(const struct chart *chart, int *ret_top)
{
	int top = 10 + TITLE_LINE * count_lines(chart->finding, TITLE_COLUMNS) +
		  SMALL_LINE * count_lines(chart->subtitle, SMALL_COLUMNS) + 14;

	*ret_top = top;
	if (chart->lines_count > 0)
		return LINES_HEIGHT + top - 80;
	return top + BAR_HEIGHT * (int)chart->bars_count + X_AXIS + FOOTER;
}

static void put_frame(FILE *to, enum picture picture, const struct chart *chart, int height,
		      int top)
{
	int scale = picture == PICTURE_PNG ? 2 : 1, at;

	if (picture == PICTURE_SVG)
		fprintf(to,
			"set terminal svg size %d,%d dynamic font 'sans-serif,%d' "
			"background rgb 'white'\n",
			WIDTH, height, FONT);
	else
		/* Twice as large, for screens with fine dots. */
		fprintf(to,
			"set terminal pngcairo size %d,%d font 'sans,%d' fontscale 1.5 "
			"linewidth %d pointscale %d background rgb 'white'\n",
			WIDTH * scale, height * scale, FONT, scale, scale);
	at = put_paragraph(to, chart->finding, balance(chart->finding, TITLE_COLUMNS),
			   TITLE_FONT, TITLE_LINE, "#000000", 10, height);
	put_paragraph(to, chart->subtitle, SMALL_COLUMNS, SMALL_FONT, SMALL_LINE, "#404040", at,
		      height);
	put_paragraph(to, chart->footer, SMALL_COLUMNS, SMALL_FONT, SMALL_LINE, "#606060",
		      height - SMALL_LINE - 8, height);
	fprintf(to, "set tmargin at screen %.4f\n", 1 - (double)top / height);
	fprintf(to, "set bmargin at screen %.4f\n", (double)(X_AXIS + FOOTER) / height);
	fputs("set key off\nset border 3 linecolor rgb '#404040'\nset tics nomirror out\n", to);
	fputs("set xtics offset 0,0.4\nset xlabel ", to);
	put_text(to, chart->x_title, sizeof(chart->x_title));
	fputs(" offset 0,0.6 noenhanced\n", to);
}

static size_t longest_name(const struct chart *chart)
{
	size_t longest = 0;

	for (size_t i = 0; i < chart->bars_count; i++)
		if (strlen(chart->bars[i].name) > longest)
			longest = strlen(chart->bars[i].name);
	return longest;
}

/* 1, 2 or 5 times a power of ten, of which four to nine make most. */
static double find_step(double most)
{
	double step = 1;

	while (step > most / 4)
		step /= 10;
	while (step * 10 <= most / 4)
		step *= 10;
	if (step * 5 <= most / 4)
		return step * 5;
	return step * 2 <= most / 4 ? step * 2 : step;
}

/* So far to the right that what stands at the end of each bar has room, on so many pixels. */
static double find_end(const struct chart *chart, double least, double pixels)
{
	double end = 0;

	for (size_t i = 0; i < chart->bars_count; i++) {
		const struct bar *bar = &chart->bars[i];
		double high = isnan(bar->length.median) ? 0 : bar->length.high;
		double text = 14 + LETTER * (double)strlen(bar->value);

		/* A bar keeps its part, however long the text is. */
		text = text < pixels * 0.7 ? text : pixels * 0.7;
		/* What is below 0 takes its share of the pixels. */
		high = (high - least) * pixels / (pixels - text);
		end = high > end ? high : end;
	}
	return end > 0 ? end + least : 1;
}

static void put_bars(FILE *to, const struct chart *chart)
{
	double left = 28 + LETTER * (double)longest_name(chart);
	double most = 0, least = 0;

	left = left < WIDTH * 0.55 ? left : WIDTH * 0.55;
	fputs("$bars << END\n", to);
	for (size_t i = 0; i < chart->bars_count; i++) {
		const struct bar *bar = &chart->bars[i];

		if (isnan(bar->length.median))
			continue;
		most = bar->length.high > most ? bar->length.high : most;
		least = bar->length.low < least ? bar->length.low : least;
		fprintf(to, "%.6g %zu %.6g %.6g %d\n", bar->length.median, i, bar->length.low,
			bar->length.high, (int)bar->role);
	}
	fputs("END\n", to);
	most = most > 0 ? most : 1;
	fprintf(to, "set xrange [%.6g:%.6g]\nset xtics %.6g, %.6g, %.6g\n", least * 1.1,
		find_end(chart, least, WIDTH - left - 16),
		least < 0 ? -10 * find_step(most) : 0, find_step(most), most * 1.05);
	fprintf(to, "set yrange [%.1f:-0.6]\n", (double)chart->bars_count - 0.4);
	fprintf(to, "set lmargin at screen %.4f\n", left / WIDTH);
	fprintf(to, "set rmargin at screen %.4f\n", 1 - 16.0 / WIDTH);
	fputs("set border 1\nunset ytics\n", to);
	for (size_t i = 0; i < chart->bars_count; i++) {
		const struct bar *bar = &chart->bars[i];
		bool failed = isnan(bar->length.median);
		double end = bar->length.high > 0 ? bar->length.high : 0;

		fputs("set label ", to);
		put_text(to, bar->name, sizeof(bar->name));
		fprintf(to, " at graph -0.015, first %zu right noenhanced\n", i);
		fputs("set label ", to);
		put_text(to, bar->value, sizeof(bar->value));
		fprintf(to,
			" at first %.6g, first %zu left offset character 0.6,0 noenhanced\n",
			failed ? 0 : end, i);
	}
	fputs("set style fill solid 1.0 noborder\nplot ", to);
	for (size_t role = 0; role < sizeof(looks) / sizeof(looks[0]); role++)
		fprintf(to,
			"$bars using "
			"($5==%zu?$1:NaN):2:(0):($5==%zu?$1:NaN):($2-0.34):($2+0.34) "
			"notitle with boxxyerror linecolor rgb '%s', ",
			role, role, looks[role].fill);
	fputs("$bars using 1:2:3:4 notitle with xerrorbars linecolor rgb '#000000' linewidth "
	      "1.5 pointtype 0\n",
	      to);
}

/* Some multiples of the powers of ten between both: more of them where there are few powers. */
static void put_y_tics(FILE *to, double least, double most)
{
	static const double multiples[] = {1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9};
	static const char *const chosen[] = {"xxxxxxxxxxxx", "x..x.x.x.x..", "x..x...x....",
					     "x..........."};
	double range = most / least;
	size_t which = range < 4 ? 0 : range < 20 ? 1 : range < 1500 ? 2 : 3;
	const char *comma = "";
	double power = 1;

	while (power > least)
		power /= 10;
	while (power * 10 < least)
		power *= 10;
	fputs("set ytics (", to);
	while (power <= most) {
		for (size_t i = 0; chosen[which][i]; i++) {
			double tic = power * multiples[i];

			if (chosen[which][i] != 'x' || tic < least || tic > most)
				continue;
			fprintf(to, "%s'%.4g' %.6g", comma, tic, tic);
			comma = ", ";
		}
		power *= 10;
	}
	fputs(")\n", to);
}

static void put_x_tics(FILE *to, const struct chart *chart)
{
	const struct line *longest = &chart->lines[0];
	char text[FIGURE_SIZE];

	for (size_t i = 1; i < chart->lines_count; i++)
		if (chart->lines[i].count > longest->count)
			longest = &chart->lines[i];
	fputs("set logscale x 2\nset xtics (", to);
	for (size_t i = 0; i < longest->count; i++) {
		if (chart->x_is_bytes)
			figure_size(text, longest->at[i]);
		else
			snprintf(text, sizeof(text), "%.0f", longest->at[i]);
		fprintf(to, "%s'%s' %.6g", i ? ", " : "", text, longest->at[i]);
	}
	fprintf(to, ")\nset xrange [%.6g:%.6g]\n", longest->at[0] / 1.25,
		longest->at[longest->count - 1] * 1.02);
}

static void find_y_range(const struct chart *chart, double *ret_least, double *ret_most)
{
	*ret_least = chart->has_one ? 0.9 : INFINITY;
	*ret_most = chart->has_one ? 1.1 : 0;
	for (size_t i = 0; i < chart->lines_count; i++)
		for (size_t j = 0; j < chart->lines[i].count; j++) {
			const struct summary *y = &chart->lines[i].y[j];

			*ret_least = y->low < *ret_least ? y->low : *ret_least;
			*ret_most = y->high > *ret_most ? y->high : *ret_most;
		}
	*ret_least /= 1.15;
	*ret_most *= 1.15;
}

/* How high a name stands, as a part of the whole; those that would touch move apart. */
static void place_names(const struct chart *chart, double least, double most,
			double *ret_heights)
{
	const double gap = 0.075;
	size_t order[LINES_MAX];
	double range = logarithm(most / least), over;

	for (size_t i = 0; i < chart->lines_count; i++) {
		const struct line *line = &chart->lines[i];
		size_t at = i;

		ret_heights[i] =
			line->count ? logarithm(line->y[line->count - 1].median / least) / range
				    : 0;
		for (; at > 0 && ret_heights[order[at - 1]] > ret_heights[i]; at--)
			order[at] = order[at - 1];
		order[at] = i;
	}
	for (size_t i = 1; i < chart->lines_count; i++)
		if (ret_heights[order[i]] < ret_heights[order[i - 1]] + gap)
			ret_heights[order[i]] = ret_heights[order[i - 1]] + gap;
	over = ret_heights[order[chart->lines_count - 1]] - 0.98;
	for (size_t i = chart->lines_count; i-- > 0 && over > 0;) {
		ret_heights[order[i]] -= over;
		if (i > 0)
			over = ret_heights[order[i - 1]] + gap - ret_heights[order[i]];
	}
}

static void put_names(FILE *to, const struct chart *chart, double least, double most)
{
	double heights[LINES_MAX];

	place_names(chart, least, most, heights);
	for (size_t i = 0; i < chart->lines_count; i++) {
		const struct line *line = &chart->lines[i];
		const char *colour = looks[line->role].colour;

		if (line->count == 0)
			continue;
		fprintf(to,
			"set arrow from first %.6g, first %.6g to graph 1.025, graph %.4f "
			"nohead "
			"linecolor rgb '%s' linewidth 1\n",
			line->at[line->count - 1], line->y[line->count - 1].median, heights[i],
			colour);
		fputs("set label ", to);
		put_text(to, line->name, LABEL_SIZE);
		fprintf(to, " at graph 1.03, graph %.4f left textcolor rgb '%s' noenhanced\n",
			heights[i], line->role == ROLE_OTHER ? "#606060" : colour);
	}
}

static void put_lines(FILE *to, const struct chart *chart)
{
	size_t same[sizeof(looks) / sizeof(looks[0])] = {0};
	double least, most;
	size_t longest = 0;

	find_y_range(chart, &least, &most);
	for (size_t i = 0; i < chart->lines_count; i++) {
		const struct line *line = &chart->lines[i];

		longest = strlen(line->name) > longest ? strlen(line->name) : longest;
		fprintf(to, "$line%zu << END\n", i);
		for (size_t j = 0; j < line->count; j++)
			fprintf(to, "%.6g %.6g %.6g %.6g\n", line->at[j], line->y[j].median,
				line->y[j].low, line->y[j].high);
		fputs("END\n", to);
	}
	fprintf(to, "set lmargin at screen %.4f\nset rmargin at screen %.4f\n", 94.0 / WIDTH,
		1 - (34 + LETTER * (double)longest) / WIDTH);
	fprintf(to, "set logscale y 10\nset yrange [%.6g:%.6g]\n", least, most);
	put_y_tics(to, least, most);
	put_x_tics(to, chart);
	/* A title of the axis would move with the width of its numbers, out of the picture. */
	fputs("set label ", to);
	put_text(to, chart->y_title, sizeof(chart->y_title));
	fputs(" at screen 0.022, graph 0.5 center rotate by 90 noenhanced\n"
	      "set grid ytics linecolor rgb '#dddddd' linewidth 1\n",
	      to);
	put_names(to, chart, least, most);
	fputs("plot ", to);
	for (size_t i = 0; i < chart->lines_count; i++) {
		enum role role = chart->lines[i].role;
		int point = looks[role].point;

		if (chart->lines[i].count == 0)
			continue;
		if (same[role] > 0 && same[role] < sizeof(more_points) / sizeof(more_points[0]))
			point = more_points[same[role]];
		same[role]++;
		fprintf(to,
			"$line%zu using 1:2:3:4 notitle with yerrorbars linecolor rgb '%s' "
			"linewidth 1.5 pointtype 0, $line%zu using 1:2 notitle with "
			"linespoints "
			"linecolor rgb '%s' linewidth %d dashtype %s pointtype %d pointsize "
			"1, ",
			i, looks[role].colour, i, looks[role].colour, role == ROLE_OURS ? 3 : 2,
			looks[role].dash, point);
	}
	fprintf(to, "%s notitle linecolor rgb '#404040' linewidth 1 dashtype solid\n",
		chart->has_one ? "1" : "1/0");
}

void plot_write(FILE *to, enum picture picture, const struct chart *chart)
{
	int top, height = height_of(chart, &top);

	put_frame(to, picture, chart, height, top);
	if (chart->lines_count > 0)
		put_lines(to, chart);
	else
		put_bars(to, chart);
}
