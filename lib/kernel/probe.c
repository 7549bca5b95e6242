/* SPDX-License-Identifier: MIT */
/*
 * What the kernel, the container and the user allow, found by doing each thing once with pipes
 * of our own. Versions tell nothing: seccomp, budgets and backports change each answer.
 */
#include "kernel/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

enum {
	PAGE = 64 << 10, /* the largest page size in use; a multiple of the others */
	GROWN = 1 << 20,
};

struct probe {
	struct fid_kernel *kernel;
	struct fid_facts *facts;
	int one[2];
	int two[2];
	char *page;
};

/* A call on descriptors that cannot be open tells whether the call exists: EBADF. */
static int32_t refusal(ssize_t result)
{
	return result >= 0 || result == -EBADF ? 0 : (int32_t)result;
}

/* Reads what is in a pipe of ours; the first byte, or -1 when there was none. Never sleeps. */
static int drain(struct probe *probe, int read_end)
{
	struct fid_kernel *kernel = probe->kernel;
	struct pollfd wait = {.fd = read_end, .events = POLLIN};
	char bytes[16];
	ssize_t got;

	if (kernel->poll(kernel, &wait, 1, 0) <= 0)
		return -1;
	got = kernel->read(kernel, read_end, bytes, sizeof(bytes), FID_OWN_OFFSET);
	return got > 0 ? (unsigned char)bytes[0] : -1;
}

static ssize_t fill(struct probe *probe, int write_end, char byte, unsigned flags)
{
	return probe->kernel->write(probe->kernel, write_end, &byte, 1, FID_OWN_OFFSET, flags);
}

static void probe_write(struct probe *probe)
{
	ssize_t written = fill(probe, probe->one[1], 'a', FID_WRITE_NOSIGNAL);

	probe->facts->write_nosignal = written == 1 ? 0 : (int32_t)written;
	if (written == 1)
		drain(probe, probe->one[0]);
}

/* gVisor knows an empty pipe before a pipe, and says "end of file" before a file. */
static bool empty_pipe_ends_file(struct probe *probe)
{
	struct fid_kernel *kernel = probe->kernel;
	int file = kernel->memory_file(kernel, 1);
	int64_t at = 0;
	bool ends;

	if (file < 0)
		return false;
	ends = kernel->splice(kernel, probe->one[0], NULL, file, &at, 1, SPLICE_F_NONBLOCK) ==
	       0;
	kernel->close(kernel, file);
	return ends;
}

static void probe_splice(struct probe *probe)
{
	struct fid_kernel *kernel = probe->kernel;
	struct fid_facts *facts = probe->facts;
	ssize_t moved;

	fill(probe, probe->one[1], 'a', 0);
	moved = kernel->splice(kernel, probe->one[0], NULL, probe->two[1], NULL, 1,
			       SPLICE_F_NONBLOCK);
	facts->splice = moved < 0 ? (int32_t)moved : 0;
	if (moved == 1) {
		moved = kernel->splice(kernel, probe->one[0], NULL, probe->two[1], NULL, 1,
				       SPLICE_F_NONBLOCK);
		facts->splice_empty_is_eof = moved == 0 || empty_pipe_ends_file(probe);
		drain(probe, probe->two[0]);
	} else {
		drain(probe, probe->one[0]);
	}

	fill(probe, probe->one[1], 'a', 0);
	moved = kernel->tee(kernel, probe->one[0], probe->two[1], 1, SPLICE_F_NONBLOCK);
	facts->tee = moved < 0 ? (int32_t)moved : 0;
	if (moved == 1)
		drain(probe, probe->two[0]);
	drain(probe, probe->one[0]);
	if (moved == 1 && facts->splice < 0)
		facts->splice_empty_is_eof = kernel->tee(kernel, probe->one[0], probe->two[1],
							 1, SPLICE_F_NONBLOCK) == 0;
}

/* Gives a page to a pipe; the caller changes it and looks what comes out. */
static ssize_t give_page(struct probe *probe, char byte, unsigned flags)
{
	struct iovec segment = {.iov_base = probe->page, .iov_len = 1};

	probe->page[0] = byte;
	return probe->kernel->vmsplice(probe->kernel, probe->one[1], &segment, 1,
				       flags | SPLICE_F_NONBLOCK);
}

static void probe_vmsplice(struct probe *probe)
{
	struct fid_kernel *kernel = probe->kernel;
	struct fid_facts *facts = probe->facts;
	ssize_t given = give_page(probe, 'a', 0);

	facts->vmsplice = given < 0 ? (int32_t)given : 0;
	facts->vmsplice_gift = facts->vmsplice;
	facts->vmsplice_meaning = FID_VMSPLICE_REFUSED;
	if (given != 1)
		return;
	probe->page[0] = 'b';
	facts->vmsplice_meaning = drain(probe, probe->one[0]) == 'b' ? FID_VMSPLICE_BY_REFERENCE
								     : FID_VMSPLICE_COPIES;

	if (give_page(probe, 'a', 0) == 1) {
		int dropped = kernel->discard(kernel, probe->page, PAGE);

		probe->page[0] = 'b';
		facts->vmsplice_fresh = drain(probe, probe->one[0]) == 'a' && dropped == 0;
	}
	given = give_page(probe, 'a', SPLICE_F_GIFT);
	facts->vmsplice_gift = given < 0 ? (int32_t)given : 0;
	if (given == 1)
		drain(probe, probe->one[0]);
}

static void probe_pipes(struct probe *probe)
{
	struct fid_kernel *kernel = probe->kernel;
	struct fid_facts *facts = probe->facts;
	int size = kernel->pipe_size(kernel, probe->one[1]);

	facts->pipe_bytes = size > 0 ? (uint64_t)size : 0;
	facts->pipe_bytes_grown = facts->pipe_bytes;
	size = kernel->pipe_resize(kernel, probe->one[1], GROWN);
	facts->pipe_grow = size < 0 ? size : 0;
	if (size > 0)
		facts->pipe_bytes_grown = (uint64_t)size;
}

static void probe_memory(struct fid_kernel *kernel, struct fid_facts *facts)
{
	void *slab = kernel->slab_map(kernel, FID_SLAB_BYTES);
	int file = kernel->memory_file(kernel, PAGE);

	if (slab) {
		facts->huge_pages = kernel->slab_is_huge(kernel, slab) == 1;
		kernel->unmap(kernel, slab, FID_SLAB_BYTES);
	}
	facts->memory_seal = file;
	if (file >= 0) {
		facts->memory_seal = kernel->memory_file_seal(kernel, file, PAGE);
		kernel->close(kernel, file);
	}
}

static int probe_open(struct probe *probe)
{
	struct fid_kernel *kernel = probe->kernel;
	int got = kernel->pipe(kernel, probe->one);

	if (got < 0)
		return got;
	got = kernel->pipe(kernel, probe->two);
	if (got < 0) {
		kernel->close(kernel, probe->one[0]);
		kernel->close(kernel, probe->one[1]);
	}
	return got;
}

void fid_kernel_probe(struct fid_kernel *kernel, struct fid_facts *ret_facts)
{
	struct probe probe = {.kernel = kernel, .facts = ret_facts};
	struct fid_facts *facts = ret_facts;

	memset(facts, 0, sizeof(*facts));
	facts->sendfile = refusal(kernel->sendfile(kernel, -1, NULL, -1, 1));
	facts->copy_file_range =
		refusal(kernel->copy_file_range(kernel, -1, NULL, -1, NULL, 1));
	probe_memory(kernel, facts);
	facts->pipe = probe_open(&probe);
	if (facts->pipe < 0) {
		facts->splice = refusal(kernel->splice(kernel, -1, NULL, -1, NULL, 1, 0));
		facts->tee = refusal(kernel->tee(kernel, -1, -1, 1, 0));
		facts->vmsplice = refusal(kernel->vmsplice(kernel, -1, NULL, 0, 0));
		facts->vmsplice_gift = facts->vmsplice;
		facts->pipe_grow = facts->pipe;
		facts->write_nosignal = facts->pipe;
		return;
	}
	probe_write(&probe);
	probe_splice(&probe);
	probe.page = kernel->map(kernel, PAGE);
	if (probe.page) {
		probe_vmsplice(&probe);
		kernel->unmap(kernel, probe.page, PAGE);
	}
	probe_pipes(&probe);
	kernel->close(kernel, probe.one[0]);
	kernel->close(kernel, probe.one[1]);
	kernel->close(kernel, probe.two[0]);
	kernel->close(kernel, probe.two[1]);
}

/*
 * Nobody waits for this lock: whoever finds it taken asks the kernel again. So a fork while
 * another thread holds it costs the child some microseconds and not its life.
 */
static struct {
	pthread_mutex_t lock;
	bool known;
	uint32_t generation;
	struct fid_facts facts;
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER};

bool fid_probe_known(struct fid_kernel *kernel, struct fid_facts *ret_facts)
{
	bool known;

	if (kernel != fid_linux() || pthread_mutex_trylock(&cache.lock) != 0)
		return false;
	known = cache.known && cache.generation == kernel->generation(kernel);
	if (known)
		*ret_facts = cache.facts;
	pthread_mutex_unlock(&cache.lock);
	return known;
}

void fid_facts_of(struct fid_kernel *kernel, struct fid_facts *ret_facts)
{
	if (kernel == fid_linux())
		fid_probe(ret_facts, 0);
	else
		fid_kernel_probe(kernel, ret_facts);
}

int fid_probe(struct fid_facts *ret_facts, int again)
{
	struct fid_kernel *kernel = fid_linux();
	struct fid_facts facts;

	if (!ret_facts)
		return -EINVAL;
	if (!again && fid_probe_known(kernel, ret_facts))
		return 0;
	fid_kernel_probe(kernel, &facts);
	if (facts.pipe == 0 && pthread_mutex_trylock(&cache.lock) == 0) {
		cache.facts = facts;
		cache.generation = kernel->generation(kernel);
		cache.known = true;
		pthread_mutex_unlock(&cache.lock);
	}
	*ret_facts = facts;
	return 0;
}
