/* SPDX-License-Identifier: MIT */
/*
 * The document: all that a run of the benchmark found, as a tree. Measuring adds to it, and
 * tables, CSV and pictures are made from it, be it new or read from a file.
 */
#ifndef FID_BENCH_JSON_H
#define FID_BENCH_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_TEXT, JSON_LIST, JSON_OBJECT };

struct json {
	enum json_kind kind;
	char *name; /* NULL in a list */
	double number;
	char *text;
	struct json *first, *last, *next, *parent;
};

/* The middle of some samples, and an interval around it (see summarise()). */
struct summary {
	double median;
	double low;
	double high;
};

/* The document that the functions below add to. It lives as long as the process. */
struct json *json_root(void);

/*
 * Opens an object or a list, by its bracket. A list that is there already goes on. Returns it.
 */
struct json *json_open(const char *name, char bracket);
void json_close(char bracket);
void json_number(const char *name, double value);
void json_text(const char *name, const char *value);
void json_summary(const char *name, const struct summary *summary);

/* Whole numbers whole, others with six digits. */
void json_write_number(FILE *to, double value);
/* One line, and a newline. Returns false when it cannot be written. */
bool json_write(FILE *to, const struct json *json);

/* From here on NULL is taken for a node that has nothing in it. */
const struct json *json_get(const struct json *json, const char *name);
double json_number_of(const struct json *json, const char *name);    /* NAN: there is none */
const char *json_text_of(const struct json *json, const char *name); /* "": there is none */
bool json_summary_of(const struct json *json, const char *name, struct summary *ret_summary);

/* read.c: returns the document, or NULL, and *ret_line is where it went wrong. */
struct json *json_read(const char *text, size_t length, unsigned *ret_line);
/* For it: a node behind the others of parent, which may be NULL. */
struct json *json_new(struct json *parent, enum json_kind kind, const char *name);
char *json_keep_text(const char *text, size_t length);

#endif
