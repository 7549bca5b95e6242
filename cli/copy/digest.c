/* SPDX-License-Identifier: MIT */
#include "digest.h"

#include "print.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	PIPE_BYTES = 1 << 20,
	/* What is read stays in the second-level cache until it is in the digest. */
	READ_BYTES = 128 << 10,
};

/* ---- Algorithms ---- */

/* What was looked up, in the order of the names in digest_kind.functions. */
static union {
	void *symbols[8];
	struct {
		void *(*create)(void);
		void (*free)(void *);
		const void *(*sha256)(void);
		int (*init)(void *, const void *, void *);
		int (*update)(void *, const void *, size_t);
		int (*final)(void *, unsigned char *, unsigned *);
	} crypto;
	struct {
		void *(*create)(void);
		int (*free)(void *);
		int (*reset)(void *);
		int (*update)(void *, const void *, size_t);
		uint64_t (*digest)(const void *);
	} xxhash;
} loaded;

static const char *const crypto_functions[] = {
	"EVP_MD_CTX_new",   "EVP_MD_CTX_free",    "EVP_sha256", "EVP_DigestInit_ex",
	"EVP_DigestUpdate", "EVP_DigestFinal_ex", NULL,
};

static void *sha256_begin(void)
{
	void *state = loaded.crypto.create();

	if (state && loaded.crypto.init(state, loaded.crypto.sha256(), NULL) == 1)
		return state;
	loaded.crypto.free(state);
	return NULL;
}

static bool sha256_add(void *state, const void *bytes, size_t count)
{
	return loaded.crypto.update(state, bytes, count) == 1;
}

static bool sha256_end(void *state, unsigned char value[DIGEST_BYTES_MAX])
{
	return loaded.crypto.final(state, value, NULL) == 1;
}

static void sha256_free(void *state)
{
	loaded.crypto.free(state);
}

static const char *const xxhash_functions[] = {
	"XXH3_createState",   "XXH3_freeState",     "XXH3_64bits_reset",
	"XXH3_64bits_update", "XXH3_64bits_digest", NULL,
};

static void *xxh3_begin(void)
{
	void *state = loaded.xxhash.create();

	if (state && loaded.xxhash.reset(state) == 0)
		return state;
	loaded.xxhash.free(state);
	return NULL;
}

static bool xxh3_add(void *state, const void *bytes, size_t count)
{
	return loaded.xxhash.update(state, bytes, count) == 0;
}

/* The canonical form is big-endian. */
static bool xxh3_end(void *state, unsigned char value[DIGEST_BYTES_MAX])
{
	uint64_t number = loaded.xxhash.digest(state);

	for (int i = 7; i >= 0; i--, number >>= 8)
		value[i] = (unsigned char)number;
	return true;
}

static void xxh3_free(void *state)
{
	loaded.xxhash.free(state);
}

static const struct digest_kind kinds[] = {
	{"sha256", "libcrypto.so.3", "libssl3", NULL, 32, crypto_functions, sha256_begin,
	 sha256_add, sha256_end, sha256_free},
	{"xxh3", "libxxhash.so.0", "libxxhash0", "XXH3", 8, xxhash_functions, xxh3_begin,
	 xxh3_add, xxh3_end, xxh3_free},
};

const char digest_names[] = "sha256 or xxh3";

const struct digest_kind *digest_find(const char *name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	return NULL;
}

bool digest_load(const struct digest_kind *kind)
{
	void *library = dlopen(kind->library, RTLD_NOW | RTLD_LOCAL);
	const char *why = library ? NULL : dlerror();
	char shown[512];

	for (size_t i = 0; !why && kind->functions[i]; i++) {
		loaded.symbols[i] = dlsym(library, kind->functions[i]);
		if (!loaded.symbols[i])
			why = dlerror();
	}
	if (!why)
		return true;
	print_error("--digest %s: its library cannot be loaded: %s", kind->name,
		    print_name(shown, sizeof(shown), why));
	print_hint("Debian and Ubuntu have %s in the package %s", kind->library, kind->package);
	return false;
}

/* ---- The thread ---- */

struct digest {
	const struct digest_kind *kind;
	void *state;
	unsigned char *buffer;
	int read_end;
	int write_end;
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	uint64_t allowed; /* under the mutex */
	bool ending;      /* likewise */
	/* Of the thread, until it has ended. */
	uint64_t hashed;
	bool failed;
	double cpu_seconds;
};

/* How many bytes may be taken now; waits for some. 0: no more will be allowed. */
static uint64_t wait_for_bytes(struct digest *digest)
{
	uint64_t bytes;

	pthread_mutex_lock(&digest->mutex);
	while (digest->allowed == digest->hashed && !digest->ending)
		pthread_cond_wait(&digest->changed, &digest->mutex);
	bytes = digest->allowed - digest->hashed;
	pthread_mutex_unlock(&digest->mutex);
	return bytes;
}

/*
 * The pipe is emptied also after the library has failed, since a full one would hold up the
 * sink, and a closed one would look like a failure of the copy.
 */
static void *hash(void *argument)
{
	struct digest *digest = argument;
	struct timespec used = {0};
	uint64_t bytes;

	while ((bytes = wait_for_bytes(digest)) > 0) {
		ssize_t got = read(digest->read_end, digest->buffer,
				   bytes < READ_BYTES ? (size_t)bytes : READ_BYTES);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			/* The copy goes on without its reader. */
			close(digest->read_end);
			digest->read_end = -1;
		}
		if (got <= 0)
			break;
		if (!digest->failed)
			digest->failed =
				!digest->kind->add(digest->state, digest->buffer, (size_t)got);
		digest->hashed += (uint64_t)got;
	}
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	digest->cpu_seconds = (double)used.tv_sec + (double)used.tv_nsec / 1e9;
	return NULL;
}

/* Signals are for the thread that moves the bytes: they have to end its sleep. */
static int start(struct digest *digest)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&digest->thread, NULL, hash, digest);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -error;
}

static void close_pipe(struct digest *digest)
{
	if (digest->write_end >= 0)
		close(digest->write_end);
	if (digest->read_end >= 0)
		close(digest->read_end);
}

static void release(struct digest *digest)
{
	close_pipe(digest);
	if (digest->state)
		digest->kind->free(digest->state);
	pthread_cond_destroy(&digest->changed);
	pthread_mutex_destroy(&digest->mutex);
	free(digest->buffer);
	free(digest);
}

int digest_open_pipe(int ret_ends[2], uint64_t bytes)
{
	if (pipe2(ret_ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	/* Where there is no room for that the usual size does as well. */
	fcntl(ret_ends[1], F_SETPIPE_SZ, bytes ? (int)bytes : PIPE_BYTES);
	return 0;
}

/* The thread sleeps in its reads. */
static int open_pipe(struct digest *digest)
{
	int ends[2], error = digest_open_pipe(ends, 0);

	if (error < 0)
		return error;
	fcntl(ends[0], F_SETFL, O_RDONLY);
	digest->read_end = ends[0];
	digest->write_end = ends[1];
	return 0;
}

int digest_new(struct digest **ret_digest, const struct digest_kind *kind)
{
	struct digest *digest = calloc(1, sizeof(*digest));
	int error = -ENOMEM;

	if (!digest)
		return error;
	digest->kind = kind;
	digest->read_end = digest->write_end = -1;
	pthread_mutex_init(&digest->mutex, NULL);
	pthread_cond_init(&digest->changed, NULL);
	digest->buffer = malloc(READ_BYTES);
	digest->state = kind->begin();
	if (digest->buffer && digest->state)
		error = open_pipe(digest);
	if (error == 0)
		error = start(digest);
	if (error < 0)
		release(digest);
	else
		*ret_digest = digest;
	return error;
}

int digest_pipe(const struct digest *digest)
{
	return digest->write_end;
}

void digest_allow(struct digest *digest, uint64_t bytes)
{
	pthread_mutex_lock(&digest->mutex);
	if (bytes > digest->allowed) {
		digest->allowed = bytes;
		pthread_cond_signal(&digest->changed);
	}
	pthread_mutex_unlock(&digest->mutex);
}

struct digest_result digest_end(struct digest *digest)
{
	struct digest_result result = {.kind = digest->kind};
	unsigned char value[DIGEST_BYTES_MAX];
	bool good;

	pthread_mutex_lock(&digest->mutex);
	digest->ending = true;
	pthread_cond_signal(&digest->changed);
	pthread_mutex_unlock(&digest->mutex);
	/* Bytes that are allowed and never come would be waited for. */
	close(digest->write_end);
	digest->write_end = -1;
	pthread_join(digest->thread, NULL);
	result.bytes = digest->hashed;
	result.cpu_seconds = digest->cpu_seconds;
	good = !digest->failed && digest->hashed == digest->allowed &&
	       digest->kind->end(digest->state, value);
	for (size_t i = 0; good && i < digest->kind->bytes; i++)
		snprintf(result.value + 2 * i, 3, "%02x", value[i]);
	release(digest);
	return result;
}

/* ---- How it is written ---- */

void digest_describe(char text[DIGEST_TEXT], const struct digest_result *result, bool json,
		     const char *way)
{
	const char *quote = result->value[0] ? "\"" : "";
	const char *value = result->value[0] ? result->value : json ? "null" : "of no value";

	if (json)
		snprintf(text, DIGEST_TEXT,
			 "\"digest\":{\"algorithm\":\"%s\",\"value\":%s%s%s,\"bytes\":%" PRIu64
			 ",\"cpu_seconds\":%.6f,\"route_without\":\"%s\"}",
			 result->kind->name, quote, value, quote, result->bytes,
			 result->cpu_seconds, way);
	else
		snprintf(text, DIGEST_TEXT,
			 "%s %s of %" PRIu64 " bytes by %.2f s of processor time; without it "
			 "%s would have been tried first.",
			 result->kind->name, value, result->bytes, result->cpu_seconds, way);
}

/* As sha256sum(1) does, so that a name with a newline stays on its line. Adds 1 to 2 bytes. */
static char *put_escaped(char *to, const char *name)
{
	for (; *name; name++) {
		if (*name != '\n' && *name != '\r' && *name != '\\') {
			*to++ = *name;
			continue;
		}
		*to++ = '\\';
		*to++ = *name == '\n' ? 'n' : *name == '\r' ? 'r' : '\\';
	}
	*to = '\0';
	return to;
}

char *digest_line(const struct digest_result *result, const char *name)
{
	bool escaped = strpbrk(name, "\n\r\\") != NULL;
	char *line = malloc(2 * strlen(name) + 2 * DIGEST_BYTES_MAX + 64), *end;

	if (!line)
		return NULL;
	/* xxhsum(1) tells this algorithm by its name alone, and knows no escapes. */
	if (result->kind->tag) {
		sprintf(line, "%s (%s) = %s\n", result->kind->tag, name, result->value);
		return line;
	}
	end = line + sprintf(line, "%s%s  ", escaped ? "\\" : "", result->value);
	strcpy(put_escaped(end, name), "\n");
	return line;
}
