/* SPDX-License-Identifier: MIT */
#include "json.h"

#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What there is, and where nodes are added. */
static struct json root = {.kind = JSON_OBJECT}, *current = &root;

static void *allocate(size_t bytes)
{
	void *memory = calloc(1, bytes);

	if (!memory)
		fail("the results");
	return memory;
}

char *json_keep_text(const char *text, size_t length)
{
	char *kept = allocate(length + 1);

	memcpy(kept, text, length);
	return kept;
}

static void append(struct json *parent, struct json *json)
{
	json->parent = parent;
	if (parent->last)
		parent->last->next = json;
	else
		parent->first = json;
	parent->last = json;
}

struct json *json_new(struct json *parent, enum json_kind kind, const char *name)
{
	struct json *json = allocate(sizeof(*json));

	json->kind = kind;
	json->name = name ? json_keep_text(name, strlen(name)) : NULL;
	if (parent)
		append(parent, json);
	return json;
}

static struct json *add(enum json_kind kind, const char *name)
{
	struct json *json = json_new(NULL, kind, name);

	append(current, json);
	return json;
}

struct json *json_root(void)
{
	return &root;
}

static struct json *find(const struct json *json, const char *name)
{
	struct json *child = json ? json->first : NULL;

	while (child && !(child->name && strcmp(child->name, name) == 0))
		child = child->next;
	return child;
}

struct json *json_open(const char *name, char bracket)
{
	enum json_kind kind = bracket == '[' ? JSON_LIST : JSON_OBJECT;
	struct json *there;

	there = name ? find(current, name) : NULL;
	current = there && there->kind == kind ? there : add(kind, name);
	return current;
}

void json_close(char bracket)
{
	if (current->kind != (bracket == ']' ? JSON_LIST : JSON_OBJECT) || !current->parent)
		abort();
	current = current->parent;
}

void json_number(const char *name, double value)
{
	add(isfinite(value) ? JSON_NUMBER : JSON_NULL, name)->number = value;
}

void json_text(const char *name, const char *value)
{
	add(JSON_TEXT, name)->text = json_keep_text(value, strlen(value));
}

void json_summary(const char *name, const struct summary *summary)
{
	json_open(name, '{');
	json_number("median", summary->median);
	json_number("low", summary->low);
	json_number("high", summary->high);
	json_close('}');
}

/* What a file told of the machine may be anything: only ASCII is written as it is. */
static void write_text(FILE *to, const char *text)
{
	fputc('"', to);
	for (; *text; text++) {
		unsigned char letter = (unsigned char)*text;

		if (letter == '"' || letter == '\\')
			fprintf(to, "\\%c", letter);
		else if (letter < ' ' || letter > '~')
			fprintf(to, "\\u%04x", letter);
		else
			fputc(letter, to);
	}
	fputc('"', to);
}

void json_write_number(FILE *to, double value)
{
	/* Up to here each whole number is one, and has a type. */
	bool is_whole = value > -1e15 && value < 1e15 && value == (double)(int64_t)value;

	fprintf(to, is_whole ? "%.0f" : "%.6g", value);
}

static void write_node(FILE *to, const struct json *json)
{
	if (json->name) {
		write_text(to, json->name);
		fputc(':', to);
	}
	switch (json->kind) {
	case JSON_NUMBER:
		json_write_number(to, json->number);
		return;
	case JSON_TEXT:
		write_text(to, json->text);
		return;
	case JSON_BOOL:
		fputs(json->number != 0 ? "true" : "false", to);
		return;
	case JSON_NULL:
		fputs("null", to);
		return;
	default:
		break;
	}
	fputc(json->kind == JSON_LIST ? '[' : '{', to);
	for (const struct json *child = json->first; child; child = child->next) {
		write_node(to, child);
		if (child->next)
			fputc(',', to);
	}
	fputc(json->kind == JSON_LIST ? ']' : '}', to);
}

bool json_write(FILE *to, const struct json *json)
{
	write_node(to, json);
	fputc('\n', to);
	return fflush(to) == 0 && !ferror(to);
}

const struct json *json_get(const struct json *json, const char *name)
{
	return find(json, name);
}

double json_number_of(const struct json *json, const char *name)
{
	const struct json *child = find(json, name);

	return child && child->kind == JSON_NUMBER ? child->number : NAN;
}

const char *json_text_of(const struct json *json, const char *name)
{
	const struct json *child = find(json, name);

	return child && child->kind == JSON_TEXT ? child->text : "";
}

bool json_summary_of(const struct json *json, const char *name, struct summary *ret_summary)
{
	const struct json *child = find(json, name);

	ret_summary->median = json_number_of(child, "median");
	ret_summary->low = json_number_of(child, "low");
	ret_summary->high = json_number_of(child, "high");
	return !isnan(ret_summary->median) && !isnan(ret_summary->low) &&
	       !isnan(ret_summary->high);
}
