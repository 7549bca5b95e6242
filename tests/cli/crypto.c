/* SPDX-License-Identifier: MIT */
/*
 * A libcrypto.so.3 that is slow, and fails after so many bytes as FAIL_AFTER says. Its digest
 * is the count of the bytes and their Adler-32, which Python makes as well.
 */
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

struct state {
	uint64_t seen;
	uint32_t low;
	uint32_t high;
};

void *EVP_MD_CTX_new(void);
void EVP_MD_CTX_free(void *state);
const void *EVP_sha256(void);
int EVP_DigestInit_ex(void *state, const void *kind, void *engine);
int EVP_DigestUpdate(void *state, const void *bytes, size_t count);
int EVP_DigestFinal_ex(void *state, unsigned char *value, unsigned *length);

void *EVP_MD_CTX_new(void)
{
	return calloc(1, sizeof(struct state));
}

void EVP_MD_CTX_free(void *state)
{
	free(state);
}

const void *EVP_sha256(void)
{
	return "";
}

int EVP_DigestInit_ex(void *state, const void *kind, void *engine)
{
	((struct state *)state)->low = 1;
	return 1;
}

int EVP_DigestUpdate(void *state, const void *bytes, size_t count)
{
	const char *fail_after = getenv("FAIL_AFTER");
	struct state *sum = state;

	usleep(15000);
	for (size_t i = 0; i < count; i++) {
		sum->low = (sum->low + ((const unsigned char *)bytes)[i]) % 65521;
		sum->high = (sum->high + sum->low) % 65521;
	}
	sum->seen += count;
	return !fail_after || sum->seen <= strtoull(fail_after, NULL, 10);
}

int EVP_DigestFinal_ex(void *state, unsigned char *value, unsigned *length)
{
	const struct state *sum = state;
	uint64_t words[] = {sum->seen, (uint64_t)sum->high << 16 | sum->low};

	for (int i = 0; i < 32; i++)
		value[i] = i < 16 ? 0 : (unsigned char)(words[i / 8 - 2] >> (56 - i % 8 * 8));
	return 1;
}
