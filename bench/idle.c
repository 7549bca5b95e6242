/* SPDX-License-Identifier: MIT */
/*
 * What thousands of flows cost that have moved something and now wait for more.
 */
#include "scenario.h"

#include <dirent.h>
#include <fcntl.h>
#include <fid.h>
#include <malloc.h>
#include <math.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FLOWS = 10000 };

/* Not known where the C library does not tell: the result is null then. */
static double bytes_allocated(void)
{
#ifdef HAVE_MALLINFO2
	return (double)(mallinfo2().uordblks + mallinfo2().hblkhd);
#else
	return NAN;
#endif
}

static unsigned count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

/* Passes one kilobyte through the flow, and steps it until it waits. */
static void pass(struct fid_flow *flow, int feed, int drain)
{
	static char buffer[64 * KIB];
	int step;

	if (write(feed, buffer, KIB) != (ssize_t)KIB)
		fail("write");
	while ((step = fid_flow_step(flow, NULL)) == FID_MORE)
		;
	if (step != FID_WAIT || read(drain, buffer, sizeof(buffer)) != (ssize_t)KIB)
		fail("an idle flow");
}

/* All flows share one source and one sink, so that descriptors are not what limits them. */
static void measure(const char *title, int source, int sink, int feed, int drain)
{
	static struct fid_flow *flows[FLOWS];
	struct fid_pool *pool;
	struct fid_pool_stats stats;
	struct fid_options options = {.size = sizeof(options)};
	unsigned descriptors;
	double before, bytes;

	if (fid_pool_new(&pool, NULL) < 0)
		fail("fid_pool_new");
	options.pool = pool;
	before = bytes_allocated();
	descriptors = count_descriptors();
	for (size_t i = 0; i < FLOWS; i++) {
		if (fid_flow_new(&flows[i], source, sink, &options, NULL) < 0)
			fail("fid_flow_new");
		pass(flows[i], feed, drain);
	}
	bytes = (bytes_allocated() - before) / FLOWS;
	descriptors = count_descriptors() - descriptors;
	fid_pool_stats(pool, &stats);
	json_open(NULL, '{');
	json_text("title", title);
	json_number("flows", FLOWS);
	json_number("bytes_per_flow", bytes);
	json_number("descriptors", descriptors);
	json_number("pipes_lent", stats.pipes_lent);
	json_number("buffers_lent", stats.buffers_lent);
	json_number("pipes_idle", stats.pipes_idle);
	json_number("buffers_idle", stats.buffers_idle);
	json_close('}');
	for (size_t i = 0; i < FLOWS; i++)
		fid_flow_free(flows[i]);
	fid_pool_free(pool);
}

void idle_run(const struct scenario *scenario)
{
	int in[2], out[2];

	json_open("idle", '[');
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, in) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, out) < 0)
		fail("socketpair");
	measure("socket -> socket", in[0], out[1], in[1], out[0]);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
	if (pipe2(in, O_NONBLOCK | O_CLOEXEC) < 0 || pipe2(out, O_NONBLOCK | O_CLOEXEC) < 0)
		fail("pipe2");
	measure("pipe -> pipe", in[0], out[1], in[1], out[0]);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
	json_close(']');
}
