/* SPDX-License-Identifier: MIT */
/*
 * Pipes are pooled for the user's budget and not for speed: making one costs 2 us, but a user
 * has 64 MiB of pipes in all (pipe-user-pages-soft, pipe(7)) and gets pipes of two pages after
 * that. Buffers are pooled for speed: the page faults of a fresh 256 KiB cost 95 us (measured
 * on Linux 6.18).
 *
 * The mutex guards lists and counters only. It is never held over a call that may sleep.
 */
#include "options.h"
#include "pipe/pipe.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum {
	PIPES_MAX = 64,
	PIPES_IDLE_MAX = 16,
	BUFFERS_IDLE_MAX = 8,
	/* A wish above it is the caller's mistake; it bounds the arrays below. */
	IDLE_LIMIT = 1 << 16,
};

struct fid_pool {
	struct fid_pool *next; /* in the list of all pools */
	struct fid_kernel *kernel;
	pthread_mutex_t lock;
	uint32_t generation; /* of the process that made what is idle */
	uint32_t pipes_max;
	uint32_t pipes_idle_max;
	uint32_t buffers_idle_max;
	struct fid_pool_stats stats;
	struct fid_pipe *pipes; /* stats.pipes_idle are in use; the last one is the warmest */
	void **buffers;         /* likewise */
};

/*
 * All pools of the process. Another thread may hold a lock at the moment of a fork, and in the
 * child nobody would free it; so a fork waits until it has them all.
 */
static struct {
	pthread_once_t once;
	pthread_mutex_t lock;
	struct fid_pool *first;
} pools = {.once = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER};

static void lock_pools(void)
{
	pthread_mutex_lock(&pools.lock);
	for (struct fid_pool *pool = pools.first; pool; pool = pool->next)
		pthread_mutex_lock(&pool->lock);
}

static void unlock_pools(void)
{
	for (struct fid_pool *pool = pools.first; pool; pool = pool->next)
		pthread_mutex_unlock(&pool->lock);
	pthread_mutex_unlock(&pools.lock);
}

static void watch_forks(void)
{
	pthread_atfork(lock_pools, unlock_pools, unlock_pools);
}

static void enlist(struct fid_pool *pool)
{
	pthread_once(&pools.once, watch_forks);
	pthread_mutex_lock(&pools.lock);
	pool->next = pools.first;
	pools.first = pool;
	pthread_mutex_unlock(&pools.lock);
}

static void delist(struct fid_pool *pool)
{
	struct fid_pool **at = &pools.first;

	pthread_mutex_lock(&pools.lock);
	while (*at != pool)
		at = &(*at)->next;
	*at = pool->next;
	pthread_mutex_unlock(&pools.lock);
}

int fid_pool_new_on(struct fid_kernel *kernel, struct fid_pool **ret_pool,
		    const struct fid_pool_options *options)
{
	struct fid_pool_options ours;
	struct fid_pool *pool;
	int got = fid_options_take(&ours, sizeof(ours), options, sizeof(size_t));

	if (got < 0)
		return got;
	if (!ret_pool || ours.flags || ours.pipes_idle_max > IDLE_LIMIT ||
	    ours.buffers_idle_max > IDLE_LIMIT)
		return -EINVAL;
	pool = calloc(1, sizeof(*pool));
	if (!pool)
		return -ENOMEM;
	pool->kernel = kernel;
	pool->generation = kernel->generation(kernel);
	pool->pipes_max = ours.pipes_max ? ours.pipes_max : PIPES_MAX;
	pool->pipes_idle_max = ours.pipes_idle_max ? ours.pipes_idle_max : PIPES_IDLE_MAX;
	pool->buffers_idle_max = ours.buffers_idle_max ? ours.buffers_idle_max
						       : BUFFERS_IDLE_MAX;
	pool->pipes = calloc(pool->pipes_idle_max, sizeof(*pool->pipes));
	pool->buffers = calloc(pool->buffers_idle_max, sizeof(*pool->buffers));
	if (!pool->pipes || !pool->buffers || pthread_mutex_init(&pool->lock, NULL) != 0) {
		free(pool->pipes);
		free(pool->buffers);
		free(pool);
		return -ENOMEM;
	}
	enlist(pool);
	*ret_pool = pool;
	return 0;
}

int fid_pool_new(struct fid_pool **ret_pool, const struct fid_pool_options *options)
{
	return fid_pool_new_on(fid_linux(), ret_pool, options);
}

/* Closes what is idle. The caller holds the lock or is alone. */
static void drop_idle(struct fid_pool *pool)
{
	struct fid_pool_stats *stats = &pool->stats;

	while (stats->pipes_idle)
		fid_pipe_close(pool->kernel, &pool->pipes[--stats->pipes_idle]);
	while (stats->buffers_idle)
		pool->kernel->unmap(pool->kernel, pool->buffers[--stats->buffers_idle],
				    FID_BUFFER_BYTES);
	stats->pipe_bytes_idle = 0;
}

/*
 * In a child the idle pipes are the parent's, too: bytes of one process would come out in the
 * other. The child closes its copies of the descriptors, and what was lent at the time of the
 * fork is the parent's business.
 */
static void notice_fork(struct fid_pool *pool)
{
	uint32_t generation = pool->kernel->generation(pool->kernel);

	if (generation == pool->generation)
		return;
	pool->generation = generation;
	drop_idle(pool);
	pool->stats.pipes_lent = 0;
	pool->stats.buffers_lent = 0;
}

/* Takes the idle pipe that is at least as large as asked, else the largest; newest first. */
static bool take_idle(struct fid_pool *pool, size_t bytes, struct fid_pipe *ret_pipe)
{
	struct fid_pool_stats *stats = &pool->stats;
	uint32_t best = 0;

	if (!stats->pipes_idle)
		return false;
	for (uint32_t i = stats->pipes_idle; i-- > 0;) {
		if (pool->pipes[i].capacity >= bytes) {
			best = i;
			break;
		}
		if (pool->pipes[i].capacity > pool->pipes[best].capacity)
			best = i;
	}
	*ret_pipe = pool->pipes[best];
	pool->pipes[best] = pool->pipes[--stats->pipes_idle];
	stats->pipe_bytes_idle -= ret_pipe->capacity;
	stats->pipes_reused++;
	return true;
}

int fid_pool_pipe_take(struct fid_pool *pool, size_t bytes, struct fid_pipe *ret_pipe)
{
	struct fid_kernel *kernel = pool->kernel;
	struct fid_pipe pipe;
	uint32_t generation;
	bool reused = false;
	int got = 0;

	if (bytes < FID_PIPE_BYTES_MIN)
		bytes = FID_PIPE_BYTES_MIN;
	pthread_mutex_lock(&pool->lock);
	notice_fork(pool);
	generation = pool->generation;
	if (pool->stats.pipes_lent >= pool->pipes_max) {
		pool->stats.pipes_refused++;
		got = -ENOBUFS;
	} else {
		pool->stats.pipes_lent++;
		reused = take_idle(pool, bytes, &pipe);
	}
	pthread_mutex_unlock(&pool->lock);
	if (got < 0)
		return got;
	if (reused) {
		if (pipe.capacity < bytes) {
			int size = kernel->pipe_resize(kernel, pipe.write_end, bytes);

			if (size > 0)
				pipe.capacity = (size_t)size;
		}
		pipe.generation = generation;
		*ret_pipe = pipe;
		return 0;
	}

	got = fid_pipe_open(kernel, bytes, &pipe);
	if (got == 0 && pipe.capacity < FID_PIPE_BYTES_MIN) {
		fid_pipe_close(kernel, &pipe);
		got = -ENOSPC;
	}
	pthread_mutex_lock(&pool->lock);
	if (got < 0) {
		pool->stats.pipes_refused++;
		pool->stats.pipes_lent--;
	} else {
		pool->stats.pipes_made++;
		pool->stats.pipes_small += pipe.capacity < bytes;
	}
	pthread_mutex_unlock(&pool->lock);
	if (got == 0) {
		pipe.generation = generation;
		*ret_pipe = pipe;
	}
	return got;
}

void fid_pool_pipe_give(struct fid_pool *pool, struct fid_pipe *pipe)
{
	bool clean = pipe->held == 0 && !pipe->doubtful;
	bool kept = false;

	if (!fid_pipe_is_open(pipe))
		return;
	pthread_mutex_lock(&pool->lock);
	notice_fork(pool);
	/* A pipe that was lent before a fork is not this process' alone. */
	clean &= pipe->generation == pool->generation;
	if (pool->stats.pipes_lent)
		pool->stats.pipes_lent--;
	if (clean && pool->stats.pipes_idle < pool->pipes_idle_max) {
		pool->pipes[pool->stats.pipes_idle++] = *pipe;
		pool->stats.pipe_bytes_idle += pipe->capacity;
		kept = true;
	}
	pool->stats.pipes_closed_dirty += !clean;
	pthread_mutex_unlock(&pool->lock);
	if (kept)
		*pipe = FID_PIPE_NONE;
	else
		fid_pipe_close(pool->kernel, pipe);
}

void *fid_pool_buffer_take(struct fid_pool *pool)
{
	void *buffer = NULL;

	pthread_mutex_lock(&pool->lock);
	notice_fork(pool);
	if (pool->stats.buffers_idle)
		buffer = pool->buffers[--pool->stats.buffers_idle];
	pool->stats.buffers_lent++;
	pthread_mutex_unlock(&pool->lock);
	if (buffer)
		return buffer;
	buffer = pool->kernel->map(pool->kernel, FID_BUFFER_BYTES);
	if (buffer)
		return buffer;
	pthread_mutex_lock(&pool->lock);
	pool->stats.buffers_lent--;
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

void fid_pool_buffer_give(struct fid_pool *pool, void *buffer)
{
	bool kept = false;

	if (!buffer)
		return;
	pthread_mutex_lock(&pool->lock);
	notice_fork(pool);
	if (pool->stats.buffers_lent)
		pool->stats.buffers_lent--;
	if (pool->stats.buffers_idle < pool->buffers_idle_max) {
		pool->buffers[pool->stats.buffers_idle++] = buffer;
		kept = true;
	}
	pthread_mutex_unlock(&pool->lock);
	if (!kept)
		pool->kernel->unmap(pool->kernel, buffer, FID_BUFFER_BYTES);
}

int fid_pool_stats(struct fid_pool *pool, struct fid_pool_stats *ret_stats)
{
	if (!pool || !ret_stats)
		return -EINVAL;
	pthread_mutex_lock(&pool->lock);
	notice_fork(pool);
	*ret_stats = pool->stats;
	pthread_mutex_unlock(&pool->lock);
	return 0;
}

struct fid_pool *fid_pool_free(struct fid_pool *pool)
{
	if (!pool)
		return NULL;
	delist(pool);
	drop_idle(pool);
	pthread_mutex_destroy(&pool->lock);
	free(pool->pipes);
	free(pool->buffers);
	free(pool);
	return NULL;
}

static pthread_once_t default_once = PTHREAD_ONCE_INIT;
static struct fid_pool *default_pool;

static void default_make(void)
{
	if (fid_pool_new(&default_pool, NULL) < 0)
		default_pool = NULL;
}

/*
 * When the library goes, its descriptors and buffers go. Other threads may still use the pool
 * while a process exits, so the pool itself stays and closes what they give back.
 */
__attribute__((destructor)) static void default_close(void)
{
	if (!default_pool)
		return;
	pthread_mutex_lock(&default_pool->lock);
	drop_idle(default_pool);
	default_pool->pipes_idle_max = 0;
	default_pool->buffers_idle_max = 0;
	pthread_mutex_unlock(&default_pool->lock);
}

struct fid_pool *fid_pool_default(void)
{
	pthread_once(&default_once, default_make);
	return default_pool;
}
