/* SPDX-License-Identifier: MIT */
/*
 * The splice of io_uring(7), which fid does not use: for programs that do.
 */
#include "doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void set_up(struct answer *answer, const void *about)
{
	struct io_uring_params parameters = {0};

	(void)about;
	answer->number[0] = syscall(SYS_io_uring_setup, 2, &parameters);
	answer->error = answer->number[0] < 0 ? errno : 0;
}

/* A ring's memory from one of its offsets on, or NULL. */
static char *map(int ring, size_t length, int64_t offset)
{
	void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, ring, (off_t)offset);

	return at == MAP_FAILED ? NULL : at;
}

static void describe(struct io_uring_sqe *entry, int source, int sink)
{
	memset(entry, 0, sizeof(*entry));
	entry->opcode = IORING_OP_SPLICE;
	entry->fd = sink;
	entry->off = UINT64_MAX; /* pipes have none */
	entry->splice_fd_in = source;
	entry->splice_off_in = UINT64_MAX;
	entry->len = 1;
}

/* One byte from a pipe to a pipe by a ring. number[0]: what the ring says of it. */
static void splice_by_ring(struct answer *answer, const void *about)
{
	struct io_uring_params parameters = {0};
	const struct io_sqring_offsets *in = &parameters.sq_off;
	const struct io_cqring_offsets *out = &parameters.cq_off;
	int ring = (int)syscall(SYS_io_uring_setup, 2, &parameters), from[2], to[2];
	char *submitted, *completed, *entries;
	struct io_uring_cqe *done;

	(void)about;
	if (ring < 0 || pipe2(from, O_CLOEXEC) < 0 || pipe2(to, O_CLOEXEC) < 0 ||
	    write(from[1], "f", 1) != 1) {
		answer->error = errno;
		return;
	}
	submitted = map(ring, in->array + parameters.sq_entries * sizeof(uint32_t),
			IORING_OFF_SQ_RING);
	completed = map(ring, out->cqes + parameters.cq_entries * sizeof(*done),
			IORING_OFF_CQ_RING);
	entries =
		map(ring, parameters.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
	if (!submitted || !completed || !entries) {
		answer->error = errno;
		return;
	}
	describe((struct io_uring_sqe *)(void *)entries, from[0], to[1]);
	*(uint32_t *)(void *)(submitted + in->array) = 0;
	__atomic_store_n((uint32_t *)(void *)(submitted + in->tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1) {
		answer->error = errno;
		return;
	}
	done = (struct io_uring_cqe *)(void *)(completed + out->cqes);
	answer->number[0] = done->res;
}

static void refused(struct finding *finding, int error)
{
	int64_t disabled = number_in("/proc/sys/kernel/io_uring_disabled");

	finding->error = error;
	finding_is(finding, STATE_LIMITED, "refused with %s; fid does not need it",
		   fid_error_name(error));
	if (disabled > 0)
		finding_advise(finding, "sysctl kernel.io_uring_disabled=0 (it is %lld)",
			       (long long)disabled);
	else if (sandboxed())
		finding_advise(finding, "add \"io_uring_setup\", \"io_uring_enter\" and "
					"\"io_uring_register\" to the seccomp profile");
}

void check_ring(struct group *group)
{
	struct finding *ring = finding_add(group, "io_uring", "io_uring");
	struct finding *splice = finding_add(group, "io_uring_splice", "  its splice");
	struct answer answer;

	ring->informs = true;
	splice->informs = true;
	finding_blocked(splice, "there is no io_uring");
	ask(&answer, set_up, NULL);
	if (!finding_answered(ring, &answer, "io_uring_setup"))
		return;
	finding_truth(ring, answer.error == 0);
	if (answer.error) {
		refused(ring, answer.error);
		return;
	}
	finding_is(ring, STATE_OK, "is there; fid does not need it");
	ask(&answer, splice_by_ring, NULL);
	if (!finding_answered(splice, &answer, "io_uring_enter"))
		return;
	if (!answer.error && answer.number[0] < 0)
		answer.error = (int)-answer.number[0];
	finding_truth(splice, answer.error == 0 && answer.number[0] == 1);
	if (answer.error)
		refused(splice, answer.error);
	else
		finding_is(splice, STATE_OK, "moves bytes between pipes");
}
