/* SPDX-License-Identifier: MIT */
/*
 * Pictures of the results, drawn by gnuplot.
 */
#ifndef FID_BENCH_PLOT_H
#define FID_BENCH_PLOT_H

#include "scenario.h"

enum { BARS_MAX = 24, LINES_MAX = 10, LABEL_SIZE = 64 };

/* What a bar or a line is to the reader. */
enum role {
	ROLE_OURS,
	ROLE_OURS_TOO, /* of a sweep: what the finding does not speak of */
	ROLE_MARK,     /* what the others are measured against */
	ROLE_RIVAL,    /* of a sweep */
	ROLE_OTHER,
};

struct bar {
	char name[LABEL_SIZE];
	char value[LABEL_SIZE]; /* what stands at its end */
	enum role role;
	struct summary length; /* NAN: it failed */
};

struct line {
	const char *name;
	enum role role;
	size_t count;
	double at[POINTS_MAX];
	struct summary y[POINTS_MAX];
};

/* A picture without its looks. Either bars or lines. */
struct chart {
	char finding[256];
	char subtitle[256];
	char footer[256];
	char x_title[96];
	char y_title[96];
	size_t bars_count;
	struct bar bars[BARS_MAX];
	size_t lines_count;
	struct line lines[LINES_MAX];
	bool x_is_bytes;
	bool has_one; /* a line at 1, where both cost the same */
};

/* chart.c: returns false when there is nothing to draw. */
bool chart_make(struct chart *chart, const struct scenario *scenario,
		const struct json *document);

enum picture { PICTURE_SVG, PICTURE_PNG };

/* plot.c: the program that gnuplot is to run, which draws to its standard output. */
void plot_write(FILE *to, enum picture picture, const struct chart *chart);

#endif
