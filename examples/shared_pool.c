/* SPDX-License-Identifier: MIT */
/*
 * Copies each FILE to FILE.copy, all at once and each through a connection: one thread sends
 * the file and another receives it. The receivers need a place for bytes between the socket and
 * the file, and all of them borrow it from one pool, which never lends more than two pipes. Who
 * gets none copies with a buffer instead of waiting.
 */
#include <fcntl.h>
#include <fid.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct leg {
	pthread_t thread;
	int source, sink;
	struct fid_pool *pool;
	int64_t moved;
};

static void *run(void *argument)
{
	struct leg *leg = argument;
	struct fid_options options = {.size = sizeof(options), .pool = leg->pool};

	leg->moved = fid_copy(leg->source, leg->sink, &options, NULL);
	/* fid closes nothing: the descriptors are ours, and closing them ends the stream. */
	close(leg->source);
	close(leg->sink);
	return NULL;
}

/* Sets up both legs of one file. Returns 0 or -1. */
static int prepare(struct leg legs[2], const char *path)
{
	char copy[4096];
	int ends[2];

	snprintf(copy, sizeof(copy), "%s.copy", path);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	legs[0].source = open(path, O_RDONLY | O_CLOEXEC);
	legs[0].sink = ends[0];
	legs[1].source = ends[1];
	legs[1].sink = open(copy, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	return legs[0].source < 0 || legs[1].sink < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
	const struct fid_pool_options options = {.size = sizeof(options), .pipes_max = 2};
	struct fid_pool_stats stats;
	struct fid_pool *pool;
	size_t legs_count = 2 * (size_t)(argc - 1);
	struct leg *legs = calloc(legs_count + 1, sizeof(*legs));
	int failed = 0;

	if (!legs || fid_pool_new(&pool, &options) < 0)
		return 1;
	for (size_t i = 0; i < legs_count; i++) {
		legs[i].pool = pool;
		if (i % 2 == 0 && prepare(&legs[i], argv[1 + i / 2]) < 0) {
			perror(argv[1 + i / 2]);
			return 1;
		}
	}
	for (size_t i = 0; i < legs_count; i++)
		if (pthread_create(&legs[i].thread, NULL, run, &legs[i]) != 0)
			abort();
	for (size_t i = 0; i < legs_count; i++) {
		pthread_join(legs[i].thread, NULL);
		failed |= legs[i].moved < 0;
	}
	fid_pool_stats(pool, &stats);
	printf("%d files; pipes made %llu, lent again %llu, refused %llu, still lent %u\n",
	       argc - 1, (unsigned long long)stats.pipes_made,
	       (unsigned long long)stats.pipes_reused, (unsigned long long)stats.pipes_refused,
	       stats.pipes_lent);
	/* Every flow that used the pool has ended. */
	fid_pool_free(pool);
	free(legs);
	return failed;
}
