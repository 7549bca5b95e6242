/* SPDX-License-Identifier: MIT */
/*
 * Reads a document from text. The text may be anything: what is no JSON is refused, and what is
 * deeper than any result could be. What is no printable ASCII becomes '?', so that no text of
 * it reaches a terminal or gnuplot as anything but text.
 */
#include "json.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 32 };

struct reader {
	const char *at;
	const char *end;
	unsigned line;
};

static int peek(struct reader *reader)
{
	while (reader->at < reader->end && strchr(" \t\r\n", *reader->at) && *reader->at) {
		reader->line += *reader->at == '\n';
		reader->at++;
	}
	return reader->at < reader->end ? (unsigned char)*reader->at : -1;
}

static bool take(struct reader *reader, int letter)
{
	if (peek(reader) != letter)
		return false;
	reader->at++;
	return true;
}

static bool take_word(struct reader *reader, const char *word)
{
	size_t length = strlen(word);

	if ((size_t)(reader->end - reader->at) < length ||
	    memcmp(reader->at, word, length) != 0)
		return false;
	reader->at += length;
	return true;
}

/* The letter behind a backslash. */
static bool read_escape(struct reader *reader, char *ret_letter)
{
	/* What would end a line or move a cursor becomes a space. */
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/     ";
	unsigned code = 0;
	const char *found;

	if (reader->at >= reader->end || !*reader->at)
		return false;
	found = strchr(from, *reader->at);
	if (found) {
		*ret_letter = to[found - from];
		reader->at++;
		return true;
	}
	if (!take_word(reader, "u") || reader->end - reader->at < 4)
		return false;
	for (int i = 0; i < 4; i++, reader->at++) {
		int letter = tolower((unsigned char)*reader->at);

		if (!isxdigit(letter))
			return false;
		code = code * 16 + (unsigned)(letter <= '9' ? letter - '0' : letter - 'a' + 10);
	}
	*ret_letter = code >= ' ' && code <= '~' ? (char)code : '?';
	return true;
}

/* Returns NULL where there is no text. */
static char *read_text(struct reader *reader)
{
	char *text;
	size_t length = 0;

	if (!take(reader, '"'))
		return NULL;
	/* No text is longer than what it is written as. */
	text = malloc((size_t)(reader->end - reader->at) + 1);
	while (text && reader->at < reader->end && *reader->at != '"') {
		char letter = *reader->at++;

		if ((unsigned char)letter < ' ' ||
		    (letter == '\\' && !read_escape(reader, &letter))) {
			free(text);
			return NULL;
		}
		text[length++] = (unsigned char)letter > '~' ? '?' : letter;
	}
	if (!text || !take_word(reader, "\"")) {
		free(text);
		return NULL;
	}
	text[length] = '\0';
	return text;
}

static bool read_number(struct reader *reader, double *ret_number)
{
	char digits[64], *end;
	size_t length = 0;

	while (reader->at < reader->end && *reader->at &&
	       strchr("+-.0123456789eE", *reader->at) && length < sizeof(digits) - 1)
		digits[length++] = *reader->at++;
	digits[length] = '\0';
	*ret_number = strtod(digits, &end);
	return length > 0 && !*end && isfinite(*ret_number);
}

static bool read_value(struct reader *reader, struct json *parent, const char *name,
		       unsigned depth, struct json **ret_json);

static bool read_children(struct reader *reader, struct json *json, unsigned depth)
{
	int bracket = json->kind == JSON_LIST ? ']' : '}';
	struct json *child;

	if (take(reader, bracket))
		return true;
	do {
		char *name = NULL;
		bool good;

		if (json->kind == JSON_OBJECT) {
			name = read_text(reader);
			if (!name || !take(reader, ':')) {
				free(name);
				return false;
			}
		}
		good = read_value(reader, json, name, depth + 1, &child);
		free(name);
		if (!good)
			return false;
	} while (take(reader, ','));
	return take(reader, bracket);
}

static bool read_value(struct reader *reader, struct json *parent, const char *name,
		       unsigned depth, struct json **ret_json)
{
	int first = peek(reader);
	struct json *json = *ret_json = json_new(parent, JSON_NULL, name);
	char *text;

	if (depth > DEPTH_MAX)
		return false;
	if (first == '{' || first == '[') {
		json->kind = first == '{' ? JSON_OBJECT : JSON_LIST;
		reader->at++;
		return read_children(reader, json, depth);
	}
	if (first == '"') {
		json->kind = JSON_TEXT;
		text = read_text(reader);
		json->text = text ? json_keep_text(text, strlen(text)) : NULL;
		free(text);
		return json->text != NULL;
	}
	if (take_word(reader, "null"))
		return true;
	json->kind = JSON_BOOL;
	if (take_word(reader, "true") || take_word(reader, "false")) {
		json->number = reader->at[-2] == 'u';
		return true;
	}
	json->kind = JSON_NUMBER;
	return read_number(reader, &json->number);
}

struct json *json_read(const char *text, size_t length, unsigned *ret_line)
{
	struct reader reader = {text, text + length, 1};
	/* It stays where it can be found, also when it was refused half way. */
	static struct json *json;
	bool good = read_value(&reader, NULL, NULL, 0, &json);

	*ret_line = reader.line;
	return good && peek(&reader) == -1 && json->kind == JSON_OBJECT ? json : NULL;
}
