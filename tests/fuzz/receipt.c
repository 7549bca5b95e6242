/* SPDX-License-Identifier: MIT */
/*
 * The descriptions of any receipt, also of one that no flow could have written, though its
 * reason is always a string of fid: they stay inside the buffer, end with a NUL, tell the same
 * length whatever the capacity, and the JSON is JSON.
 */
#include "fuzz.h"

#include <fid.h>

/* ---- A JSON reader that only says yes or no ---- */

static const char *json_value(const char *at, int depth);

static const char *json_space(const char *at)
{
	while (*at == ' ' || *at == '\n' || *at == '\t')
		at++;
	return at;
}

static const char *json_string(const char *at)
{
	if (*at++ != '"')
		return NULL;
	for (; *at != '"'; at++) {
		if ((unsigned char)*at < 0x20)
			return NULL;
		if (*at == '\\' && (!at[1] || !strchr("\"\\/bfnrtu", *++at)))
			return NULL;
	}
	return at + 1;
}

static const char *json_number(const char *at)
{
	const char *first = at += *at == '-';

	while (*at >= '0' && *at <= '9')
		at++;
	if (at == first || (*first == '0' && at > first + 1))
		return NULL;
	if (*at == '.') {
		const char *point = at++;

		while (*at >= '0' && *at <= '9')
			at++;
		if (at == point + 1)
			return NULL;
	}
	return at;
}

static const char *json_members(const char *at, char end, int depth)
{
	at = json_space(at + 1);
	if (*at == end)
		return at + 1;
	for (;;) {
		if (end == '}') {
			at = json_string(json_space(at));
			if (!at || *(at = json_space(at)) != ':')
				return NULL;
			at++;
		}
		at = json_value(json_space(at), depth + 1);
		if (!at)
			return NULL;
		at = json_space(at);
		if (*at == end)
			return at + 1;
		if (*at++ != ',')
			return NULL;
	}
}

static const char *json_value(const char *at, int depth)
{
	if (depth > 8)
		return NULL;
	switch (*at) {
	case '{':
		return json_members(at, '}', depth);
	case '[':
		return json_members(at, ']', depth);
	case '"':
		return json_string(at);
	case 't':
		return strncmp(at, "true", 4) == 0 ? at + 4 : NULL;
	case 'f':
		return strncmp(at, "false", 5) == 0 ? at + 5 : NULL;
	case 'n':
		return strncmp(at, "null", 4) == 0 ? at + 4 : NULL;
	default:
		return json_number(at);
	}
}

static bool is_json_object(const char *text)
{
	const char *end = *text == '{' ? json_value(text, 0) : NULL;

	return end && *json_space(end) == 0;
}

/* ---- The receipt ---- */

typedef int describe(const struct fid_receipt *, char *, size_t);

/* The whole text, which the caller frees; every smaller capacity gives the front of it. */
static char *describe_in_all_sizes(describe *call, const struct fid_receipt *receipt,
				   size_t capacity)
{
	int length = call(receipt, NULL, 0);
	char *whole, *part;

	REQUIRE(length > 0 && length < 1 << 20);
	whole = malloc((size_t)length + 1);
	part = malloc(capacity ? capacity : 1);
	REQUIRE(whole && part);
	REQUIRE(call(receipt, whole, (size_t)length + 1) == length);
	REQUIRE(strlen(whole) == (size_t)length);
	REQUIRE(call(receipt, part, capacity) == length);
	if (capacity > (size_t)length) {
		REQUIRE(strcmp(part, whole) == 0);
	} else if (capacity > 0) {
		REQUIRE(part[capacity - 1] == 0);
		REQUIRE(memcmp(part, whole, capacity - 1) == 0);
	}
	free(part);
	return whole;
}

static void names_are_never_missing(int value)
{
	REQUIRE(fid_side_name((enum fid_side)value) != NULL);
	REQUIRE(fid_class_name((enum fid_class)value) != NULL);
	REQUIRE(fid_method_name((enum fid_method)value) != NULL);
	REQUIRE(fid_call_name((enum fid_call)value) != NULL);
	REQUIRE(fid_error_name(value) != NULL);
	if (value > 0)
		REQUIRE(strcmp(fid_error_name(value), fid_error_name(-value)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const char *const reasons[] = {NULL, "", "a reason", "another reason"};
	struct input input = {data, bytes};
	uint8_t shape = input_byte(&input);
	size_t capacity = input_u16(&input) % 2048;
	struct fid_receipt receipt;
	char *text;

	input_take(&input, &receipt, sizeof(receipt));
	receipt.reason = reasons[shape & 3];
	if (shape & 4)
		receipt.demotions %= FID_DEMOTIONS_MAX + 1;
	if (shape & 8)
		receipt.route %= FID_METHODS;
	if (shape & 16)
		receipt.error = -(int32_t)((uint32_t)receipt.error % 140);
	text = describe_in_all_sizes(fid_receipt_text, &receipt, capacity);
	REQUIRE(text[strlen(text) - 1] != '\n');
	free(text);
	text = describe_in_all_sizes(fid_receipt_json, &receipt, capacity);
	if (!is_json_object(text))
		fprintf(stderr, "%s\n", text);
	REQUIRE(is_json_object(text));
	free(text);
	names_are_never_missing(receipt.error);
	return 0;
}
