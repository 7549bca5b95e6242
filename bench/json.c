/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <math.h>

static FILE *out;
static int depth;
static bool first = true;

void json_to(FILE *file)
{
	out = file;
}

/* A comma if one is due, the place in the tree, and the name unless it is in a list. */
static void start(const char *name)
{
	fprintf(out, "%s%s%*s", first ? "" : ",", depth ? "\n" : "", depth, "");
	if (name)
		fprintf(out, "\"%s\": ", name);
	first = false;
}

void json_open(const char *name, char bracket)
{
	if (!out)
		return;
	start(name);
	fputc(bracket, out);
	depth++;
	first = true;
}

void json_close(char bracket)
{
	if (!out)
		return;
	depth--;
	fprintf(out, "\n%*s%c%s", depth, "", bracket, depth ? "" : "\n");
	first = false;
}

void json_number(const char *name, double value)
{
	if (!out)
		return;
	start(name);
	if (isfinite(value))
		fprintf(out, "%.6g", value);
	else
		fputs("null", out);
}

void json_text(const char *name, const char *value)
{
	if (!out)
		return;
	start(name);
	fputc('"', out);
	for (; *value; value++) {
		if (*value == '"' || *value == '\\')
			fputc('\\', out);
		if ((unsigned char)*value >= ' ')
			fputc(*value, out);
	}
	fputc('"', out);
}

void json_summary(const char *name, const struct summary *summary)
{
	json_open(name, '{');
	json_number("median", summary->median);
	json_number("low", summary->low);
	json_number("high", summary->high);
	json_close('}');
}
