/* SPDX-License-Identifier: MIT */
/*
 * The document for people: text of at most 100 columns.
 */
#ifndef FID_BENCH_TABLE_H
#define FID_BENCH_TABLE_H

#include "json.h"

enum { TABLE_COLUMNS = 100, FIGURE_SIZE = 24, FIGURES_SIZE = 56 };

/* What a number is of, and so how many digits tell it. */
enum figure { FIGURE_COST, FIGURE_RATIO, FIGURE_SHARE, FIGURE_SPEED, FIGURE_TIME };

const char *figure(char text[FIGURE_SIZE], enum figure kind, double value);
/* "0.95-1.20", or "-1.2 to 0.3" where a minus would hide. */
const char *figure_interval(char text[FIGURES_SIZE], enum figure kind,
			    const struct summary *summary);
/* "64 B", "4 KiB", "1 MiB": of sizes that are powers of two. */
const char *figure_size(char text[FIGURE_SIZE], double bytes);

/* A paragraph, each line of which begins with so many spaces. */
void table_text(FILE *to, int spaces, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

void table_facts(FILE *to, const struct json *document);
/* What the columns mean. */
void table_explain(FILE *to);
void table_contest(FILE *to, const struct json *contest);

/*
 * The rows of a contest: one for each entrant. place stands in front of the first and is NULL
 * where it is not in a sweep; width is that of the names.
 */
void table_head(FILE *to, const char *place, int width);
void table_rows(FILE *to, const char *place, int width, const struct json *contest);
/* The longest of the names in a contest, or width if that is longer. */
int table_width(const struct json *contest, int width);

#endif
