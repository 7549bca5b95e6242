/* SPDX-License-Identifier: MIT */
/* The two descriptions of a receipt: an English sentence and a JSON object. */
#include "test.h"

#include <ctype.h>
#include <errno.h>
#include <fid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- A JSON reader that knows the grammar of RFC 8259 and nothing of fid ---- */

struct json {
	const char *at;
	int depth;
	char keys[64][64]; /* of the outermost object */
	char values[64][256];
	int count;
};

static bool json_value(struct json *json);

static void json_space(struct json *json)
{
	while (*json->at == ' ' || *json->at == '\n' || *json->at == '\t' || *json->at == '\r')
		json->at++;
}

static bool json_string(struct json *json)
{
	if (*json->at++ != '"')
		return false;
	while (*json->at != '"') {
		if ((unsigned char)*json->at < 0x20)
			return false;
		if (*json->at == '\\') {
			json->at++;
			if (*json->at == 'u') {
				for (int i = 1; i <= 4; i++)
					if (!isxdigit((unsigned char)json->at[i]))
						return false;
				json->at += 4;
			} else if (!strchr("\"\\/bfnrt", *json->at)) {
				return false;
			}
		}
		json->at++;
	}
	json->at++;
	return true;
}

static bool json_digits(struct json *json)
{
	const char *begin = json->at;

	while (isdigit((unsigned char)*json->at))
		json->at++;
	return json->at > begin;
}

static bool json_number(struct json *json)
{
	json->at += *json->at == '-';
	if (*json->at == '0')
		json->at++;
	else if (!json_digits(json))
		return false;
	if (*json->at == '.') {
		json->at++;
		if (!json_digits(json))
			return false;
	}
	if (*json->at == 'e' || *json->at == 'E') {
		json->at++;
		json->at += *json->at == '-' || *json->at == '+';
		return json_digits(json);
	}
	return true;
}

static void json_copy(char *to, size_t capacity, const char *from, const char *end)
{
	size_t length = (size_t)(end - from);

	if (length >= capacity)
		length = capacity - 1;
	memcpy(to, from, length);
	to[length] = 0;
}

static bool json_members(struct json *json, char close)
{
	bool outermost = close == '}' && json->depth == 1;

	json_space(json);
	if (*json->at == close) {
		json->at++;
		return true;
	}
	for (;;) {
		const char *begin;

		json_space(json);
		if (close == '}') {
			begin = json->at + 1;
			if (!json_string(json))
				return false;
			if (outermost && json->count < 64)
				json_copy(json->keys[json->count], 64, begin, json->at - 1);
			json_space(json);
			if (*json->at++ != ':')
				return false;
			json_space(json);
		}
		begin = json->at;
		if (!json_value(json))
			return false;
		if (outermost && json->count < 64)
			json_copy(json->values[json->count++], 256, begin, json->at);
		json_space(json);
		if (*json->at == close) {
			json->at++;
			return true;
		}
		if (*json->at++ != ',')
			return false;
	}
}

static bool json_word(struct json *json, const char *word)
{
	size_t length = strlen(word);

	if (strncmp(json->at, word, length) != 0)
		return false;
	json->at += length;
	return true;
}

static bool json_value(struct json *json)
{
	char first;
	bool good;

	json_space(json);
	first = *json->at;
	if (first == '{' || first == '[') {
		json->at++;
		json->depth++;
		good = json_members(json, first == '{' ? '}' : ']');
		json->depth--;
		return good;
	}
	if (first == '"')
		return json_string(json);
	if (first == 't' || first == 'f' || first == 'n')
		return json_word(json, "true") || json_word(json, "false") ||
		       json_word(json, "null");
	return json_number(json);
}

static void json_parse(struct json *json, const char *text)
{
	*json = (struct json){.at = text};
	if (*text != '{' || !json_value(json) || *json->at)
		FAIL("no JSON object at \"%.30s\" of %s", json->at, text);
}

static const char *json_get(struct json *json, const char *key)
{
	for (int i = 0; i < json->count; i++)
		if (strcmp(json->keys[i], key) == 0)
			return json->values[i];
	FAIL("no key \"%s\"", key);
}

TEST(the_json_reader_of_these_tests_refuses_what_is_not_json)
{
	static const char *const bad[] = {
		"{",           "{}x",         "{\"a\":}",    "{\"a\":1,}",
		"{a:1}",       "{\"a\":01}",  "{\"a\":1 2}", "{\"a\":\"\n\"}",
		"{\"a\":nan}", "{\"a\":'b'}", "{\"a\":[1}",  "{\"a\":\"\\x\"}",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct json json = {.at = bad[i]};

		CHECK(!(json_value(&json) && *json.at == 0));
	}
}

/* ---- Receipts ---- */

static struct fid_receipt finished(void)
{
	return (struct fid_receipt){
		.bytes_in = 5000000000,
		.bytes_out = 5000000000,
		.by_class = {[FID_BY_REFERENCE] = 4999000000, [FID_USER_COPY] = 1000000},
		.by_method = {[FID_SPLICE] = 4999000000, [FID_READ_WRITE] = 1000000},
		.calls = {[FID_SPLICE] = 77, [FID_READ_WRITE] = 5},
		.waits = 9,
		.elapsed_ns = 1234567890,
		.pipe_bytes = 1048576,
		.pipe_bytes_asked = 1048576,
		.route = FID_SPLICE,
		.stable = 0,
		.reason = "one side is a pipe",
	};
}

static struct fid_receipt failed(void)
{
	struct fid_receipt receipt = finished();

	receipt.bytes_out = 4999000000;
	receipt.bytes_held = 600000;
	receipt.bytes_salvaged = 400000;
	receipt.by_class[FID_USER_COPY] = 0;
	receipt.by_method[FID_READ_WRITE] = 0;
	receipt.error = -EPIPE;
	receipt.error_side = FID_SIDE_SINK;
	receipt.error_call = FID_CALL_WRITE;
	receipt.source_changed = 1;
	receipt.reason = "a copy, since a stable one was asked for";
	receipt.demotions = 2;
	receipt.demotion[0] = (struct fid_demotion){.from = FID_SENDFILE,
						    .to = FID_SPLICE,
						    .call = FID_CALL_SENDFILE,
						    .side = FID_SIDE_SINK,
						    .error = -EINVAL};
	receipt.demotion[1] = (struct fid_demotion){.from = FID_SPLICE,
						    .to = FID_READ_WRITE,
						    .call = FID_CALL_SPLICE,
						    .side = FID_SIDE_NONE,
						    .at_bytes = 4999000000};
	return receipt;
}

static struct fid_receipt full(void)
{
	struct fid_receipt receipt = failed();

	receipt.demotions = FID_DEMOTIONS_MAX;
	for (int i = 0; i < FID_DEMOTIONS_MAX; i++)
		receipt.demotion[i] = (struct fid_demotion){.from = FID_COPY_FILE_RANGE,
							    .to = FID_SPLICE_PIPE,
							    .call = FID_CALL_COPY_FILE_RANGE,
							    .side = FID_SIDE_SOURCE,
							    .error = -EOPNOTSUPP,
							    .at_bytes = UINT64_MAX};
	receipt.bytes_in = receipt.bytes_out = UINT64_MAX;
	receipt.elapsed_ns = UINT64_MAX;
	receipt.waits = UINT64_MAX;
	receipt.source_changed = -1;
	return receipt;
}

static char *whole(int (*describe)(const struct fid_receipt *, char *, size_t),
		   const struct fid_receipt *receipt)
{
	int length = describe(receipt, NULL, 0);
	char *text;

	CHECK(length > 0);
	text = malloc((size_t)length + 1);
	CHECK(text);
	CHECK_EQUAL(describe(receipt, text, (size_t)length + 1), length);
	CHECK_EQUAL(strlen(text), length);
	return text;
}

static void check_capacities(int (*describe)(const struct fid_receipt *, char *, size_t),
			     const struct fid_receipt *receipt)
{
	char *text = whole(describe, receipt);
	size_t length = strlen(text);
	char *buffer = malloc(length + 17);

	CHECK(buffer);
	for (size_t capacity = 0; capacity <= length + 1; capacity++) {
		memset(buffer, 0x55, length + 17);
		CHECK_EQUAL(describe(receipt, buffer, capacity), length);
		for (size_t i = capacity; i < length + 17; i++)
			CHECK_EQUAL(buffer[i], 0x55);
		if (capacity == 0)
			continue;
		CHECK_EQUAL(buffer[capacity - 1], 0);
		CHECK_EQUAL(strlen(buffer), capacity - 1);
		CHECK(strncmp(buffer, text, capacity - 1) == 0);
	}
	free(buffer);
	free(text);
}

TEST(both_descriptions_obey_snprintf_at_every_capacity)
{
	struct fid_receipt receipts[] = {finished(), failed(), full(), {0}};

	for (size_t i = 0; i < sizeof(receipts) / sizeof(receipts[0]); i++) {
		check_capacities(fid_receipt_text, &receipts[i]);
		check_capacities(fid_receipt_json, &receipts[i]);
	}
}

TEST(the_json_has_every_key_and_is_valid)
{
	static const char *const keys[] = {
		"bytes_in",    "bytes_out",  "bytes_held", "bytes_salvaged", "by_reference",
		"kernel_copy", "user_copy",  "route",      "reason",         "demotions",
		"calls",       "waits",      "pipe_bytes", "source_changed", "seconds",
		"error",       "error_side",
	};
	struct fid_receipt receipts[] = {finished(), failed(), full(), {0}};

	for (size_t i = 0; i < sizeof(receipts) / sizeof(receipts[0]); i++) {
		char *text = whole(fid_receipt_json, &receipts[i]);
		struct json json;

		json_parse(&json, text);
		for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
			json_get(&json, keys[k]);
		for (int k = 0; k < json.count; k++)
			for (int l = 0; l < k; l++)
				CHECK(strcmp(json.keys[k], json.keys[l]) != 0);
		CHECK(strchr(text, '\n') == NULL);
		free(text);
	}
}

TEST(the_json_of_a_finished_transfer_says_what_happened)
{
	struct fid_receipt receipt = finished();
	char *text = whole(fid_receipt_json, &receipt);
	struct json json;

	json_parse(&json, text);
	CHECK_TEXT(json_get(&json, "bytes_in"), "5000000000");
	CHECK_TEXT(json_get(&json, "bytes_out"), "5000000000");
	CHECK_TEXT(json_get(&json, "bytes_held"), "0");
	CHECK_TEXT(json_get(&json, "by_reference"), "4999000000");
	CHECK_TEXT(json_get(&json, "kernel_copy"), "0");
	CHECK_TEXT(json_get(&json, "user_copy"), "1000000");
	CHECK_TEXT(json_get(&json, "route"), "\"splice\"");
	CHECK_TEXT(json_get(&json, "reason"), "\"one side is a pipe\"");
	CHECK_TEXT(json_get(&json, "waits"), "9");
	CHECK_TEXT(json_get(&json, "pipe_bytes"), "1048576");
	CHECK(strncmp(json_get(&json, "seconds"), "1.23", 4) == 0);
	CHECK(strstr(json_get(&json, "error"), "E") == NULL);
	free(text);
}

TEST(the_json_of_a_failed_transfer_names_the_error_and_the_demotions)
{
	struct fid_receipt receipt = failed();
	char *text = whole(fid_receipt_json, &receipt);
	struct json json;

	json_parse(&json, text);
	CHECK_TEXT(json_get(&json, "bytes_held"), "600000");
	CHECK_TEXT(json_get(&json, "bytes_salvaged"), "400000");
	CHECK_TEXT(json_get(&json, "error"), "\"EPIPE\"");
	CHECK_TEXT(json_get(&json, "error_side"), "\"sink\"");
	CHECK(strstr(json_get(&json, "demotions"), "\"EINVAL\""));
	CHECK(strstr(json_get(&json, "demotions"), "\"sendfile\""));
	CHECK(strstr(json_get(&json, "demotions"), "\"read-write\""));
	free(text);
}

TEST(seconds_keep_their_leading_zeros)
{
	struct fid_receipt receipt = finished();
	struct json json;
	char *text;

	receipt.elapsed_ns = 2003000000;
	text = whole(fid_receipt_json, &receipt);
	json_parse(&json, text);
	CHECK(strncmp(json_get(&json, "seconds"), "2.003", 5) == 0);
	free(text);
}

TEST(the_text_is_one_sentence_with_the_facts_in_it)
{
	struct fid_receipt receipt = finished();
	char *text = whole(fid_receipt_text, &receipt);

	CHECK(strchr(text, '\n') == NULL);
	CHECK(strstr(text, "splice") != NULL);
	free(text);
	receipt = failed();
	receipt.bytes_held = 321;
	text = whole(fid_receipt_text, &receipt);
	CHECK(strchr(text, '\n') == NULL);
	CHECK(strstr(text, "EPIPE") != NULL);
	CHECK(strstr(text, "sink") != NULL);
	CHECK(strstr(text, "321 ") != NULL);
	free(text);
}
