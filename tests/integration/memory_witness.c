/* SPDX-License-Identifier: MIT */
/*
 * Who may write sent bytes again: nobody. What a producer sent is passed on within the kernel,
 * by splice and tee, to pipes, sockets and files, and is read only after the producer has gone
 * on for a long time, has forked, or is gone. The one mode that promises nothing shows what
 * that means.
 */
#include "ends.h"
#include "produce.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PR_SET_THP_DISABLE
#define PR_SET_THP_DISABLE 41
#endif

enum { BYTES = (20 << 20) + 4321, PAGE = 4096, SLAB = 2 << 20 };

static unsigned char content[BYTES];

static struct fid_facts facts_now(void)
{
	struct fid_facts facts;

	CHECK_EQUAL(fid_probe(&facts, 0), 0);
	return facts;
}

static bool lends_by_reference(void)
{
	return facts_now().vmsplice_meaning == FID_VMSPLICE_BY_REFERENCE;
}

static bool fresh_pays(void)
{
	struct fid_facts facts = facts_now();

	return facts.huge_pages && facts.vmsplice_fresh &&
	       facts.vmsplice_meaning == FID_VMSPLICE_BY_REFERENCE;
}

/* ---- Witnesses ---- */

enum witness_kind { BY_SPLICE, BY_TEE, TCP, UNIX, FILES, WITNESS_KINDS };

enum { RANGES_MAX = 8192, WITNESSES = 14 };

/* Holds ranges of the stream, in the order in which they came. */
struct witness {
	enum witness_kind kind;
	int in;
	int out;
	unsigned ranges;
	struct {
		size_t at;
		size_t bytes;
	} range[RANGES_MAX];
};

static struct witness witnesses[WITNESSES];

static void witness_open(struct witness *witness, enum witness_kind kind)
{
	static const enum end_kind pairs[] = {END_PIPE, END_PIPE, END_TCP, END_UNIX};
	int fds[2];

	witness->kind = kind;
	witness->ranges = 0;
	if (kind == FILES) {
		fds[0] = fds[1] = open(scratch("witness"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		CHECK(fds[0] >= 0);
		CHECK(unlink(scratch("witness")) == 0);
	} else {
		stream_pair(pairs[kind], fds);
		if (kind <= BY_TEE)
			fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);
		CHECK(fcntl(fds[1], F_SETFL, fcntl(fds[1], F_GETFL) | O_NONBLOCK) == 0);
	}
	witness->out = fds[0];
	witness->in = fds[1];
}

static void witnesses_open(void)
{
	for (int i = 0; i < WITNESSES; i++)
		witness_open(&witnesses[i], (enum witness_kind)(i % WITNESS_KINDS));
}

/* Passes on some of what is in the pipe; returns how many bytes left it. */
static size_t witness_take(struct witness *witness, int pipe, size_t head, size_t bytes)
{
	ssize_t moved;

	if (witness->ranges == RANGES_MAX)
		return 0;
	if (witness->kind == BY_TEE)
		moved = tee(pipe, witness->in, bytes, SPLICE_F_NONBLOCK);
	else
		moved = splice(pipe, NULL, witness->in, NULL, bytes, SPLICE_F_NONBLOCK);
	if (moved <= 0)
		return 0;
	witness->range[witness->ranges].at = head;
	witness->range[witness->ranges++].bytes = (size_t)moved;
	return witness->kind == BY_TEE ? 0 : (size_t)moved;
}

/* Lets the witnesses have all that is in the pipe, in random pieces. */
static void witnesses_take(int pipe, size_t *head, uint64_t *random)
{
	for (;;) {
		size_t bytes = 1 + test_random(random) % (256 << 10);
		int left = 0;

		CHECK(ioctl(pipe, FIONREAD, &left) == 0);
		if (left == 0)
			return;
		*head += witness_take(&witnesses[test_random(random) % WITNESSES], pipe, *head,
				      bytes);
	}
}

/* Reads everything and compares it; returns how many bytes there were. */
static size_t witness_check(struct witness *witness)
{
	unsigned char *buffer = malloc(256 << 10);
	size_t total = 0;

	if (witness->kind == FILES)
		CHECK(lseek(witness->out, 0, SEEK_SET) == 0);
	else
		close(witness->in);
	for (unsigned i = 0; i < witness->ranges; i++) {
		size_t at = witness->range[i].at, left = witness->range[i].bytes;

		while (left) {
			ssize_t got = read(witness->out, buffer, left);

			CHECK(got > 0);
			if (memcmp(buffer, content + at, (size_t)got) != 0)
				FAIL("witness %d has other bytes than were sent at %zu",
				     (int)witness->kind, at);
			at += (size_t)got;
			left -= (size_t)got;
			total += (size_t)got;
		}
	}
	free(buffer);
	close(witness->out);
	return total;
}

static const int pipe_sizes[] = {4096, 65536, 1 << 20};

enum { PIPE_SIZES = sizeof(pipe_sizes) / sizeof(pipe_sizes[0]) };

static void nobody_writes(void *argument)
{
	enum fid_memory_mode mode = *(const enum fid_memory_mode *)argument;
	size_t reached[WITNESS_KINDS] = {0};
	uint64_t random = test_seed(), by_reference = 0;
	char *descriptors;

	content_fill(content, sizeof(content), test_seed());
	facts_now();
	descriptors = descriptors_list();
	for (int i = 0; i < 2 * PIPE_SIZES; i++) {
		struct producer producer;
		size_t head = 0;
		int fds[2];
		int got;

		doing("%s into a pipe of %d bytes, %s", memory_mode_name(mode),
		      pipe_sizes[i % PIPE_SIZES], i & 1 ? "freed first" : "read first");
		CHECK(pipe2(fds, O_CLOEXEC) == 0);
		fcntl(fds[1], F_SETPIPE_SZ, pipe_sizes[i % PIPE_SIZES]);
		witnesses_open();
		producer_open(&producer, mode, fds[1], FID_NOWAIT, content, BYTES);
		producer.record_min = i < PIPE_SIZES ? 1 : 16 << 10;
		while (producer.done < BYTES || head < BYTES) {
			got = producer.done < BYTES ? producer_next(&producer, 0) : 0;
			CHECK(got == 0 || got == -EAGAIN);
			got = fid_memory_step(producer.memory, NULL);
			CHECK(got >= 0);
			if (got == FID_WAIT || producer.done == BYTES ||
			    test_random(&random) % 4 == 0)
				witnesses_take(fds[0], &head, &random);
		}
		CHECK_EQUAL(fid_memory_step(producer.memory, NULL), FID_DONE);
		by_reference += fid_memory_receipt(producer.memory)->by_class[FID_BY_REFERENCE];
		CHECK_EQUAL(fid_memory_receipt(producer.memory)->bytes_out, BYTES);
		if (i & 1)
			producer_close(&producer);
		for (int w = 0; w < WITNESSES; w++)
			reached[witnesses[w].kind] += witness_check(&witnesses[w]);
		if (!(i & 1))
			producer_close(&producer);
		close(fds[0]);
		close(fds[1]);
	}
	descriptors_check(descriptors);
	test_note("%s: %llu of %d bytes by reference; witnesses %zu %zu %zu %zu %zu",
		  memory_mode_name(mode), (unsigned long long)by_reference,
		  2 * PIPE_SIZES * BYTES, reached[0], reached[1], reached[2], reached[3],
		  reached[4]);
	for (int k = 0; k < WITNESS_KINDS; k++)
		CHECK(reached[k] > 0);
	if (mode == FID_MEMORY_FRESH && fresh_pays())
		CHECK(by_reference > BYTES);
}

TEST(no_witness_sees_a_byte_change_after_it_was_sent)
{
	static const enum fid_memory_mode modes[] = {FID_MEMORY_COPY, FID_MEMORY_FRESH,
						     FID_MEMORY_CONST};

	test_seed();
	for (int i = 0; i < 3; i++)
		in_child(10, nobody_writes, (void *)(uintptr_t)&modes[i]);
}

/* ---- Lent memory ---- */

static void lent(void *argument)
{
	enum witness_kind kind = *(const enum witness_kind *)argument;
	struct fid_memory_options options = {.size = sizeof(options), .mode = FID_MEMORY_LEND};
	unsigned char *memory = mmap(NULL, 64 << 10, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec segment = {memory, 32 << 10};
	struct witness *witness = &witnesses[0];
	struct fid_memory *sender;
	unsigned char got[32 << 10];
	bool seen = true, by_reference;
	int fds[2];

	CHECK(memory != MAP_FAILED);
	memset(memory, 'a', 32 << 10);
	doing("a store to lent memory, seen by witness %d", (int)kind);
	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	witness_open(witness, kind);
	CHECK_EQUAL(fid_memory_new(&sender, fds[1], &options), 0);
	CHECK_EQUAL(fid_memory_lend(sender, &segment, 1), 0);
	CHECK_EQUAL(fid_memory_run(sender, 5000), 0);
	by_reference = fid_memory_receipt(sender)->by_class[FID_BY_REFERENCE] == 32 << 10;
	CHECK_EQUAL(by_reference, lends_by_reference());
	CHECK_EQUAL(fid_memory_receipt(sender)->stable, !by_reference);
	CHECK(fid_memory_free(sender) == NULL);
	for (size_t done = 0; done < 32 << 10;) {
		ssize_t moved;

		if (kind == BY_TEE)
			moved = tee(fds[0], witness->in, 32 << 10, SPLICE_F_NONBLOCK);
		else
			moved = splice(fds[0], NULL, witness->in, NULL, (32 << 10) - done,
				       SPLICE_F_NONBLOCK);
		CHECK(moved > 0);
		done += (size_t)moved;
	}
	/* The pipe is empty, everything was delivered, and fid has let go. */
	memset(memory, 'b', 32 << 10);
	if (kind == FILES)
		CHECK(lseek(witness->out, 0, SEEK_SET) == 0);
	for (size_t done = 0; done < sizeof(got);) {
		ssize_t moved = read(witness->out, got + done, sizeof(got) - done);

		CHECK(moved > 0);
		done += (size_t)moved;
	}
	for (size_t i = 0; i < sizeof(got); i++) {
		CHECK(got[i] == 'a' || got[i] == 'b');
		seen &= got[i] == 'b';
	}
	/* A file copies. In all else the later store takes the place of what was sent. */
	CHECK_EQUAL(seen, by_reference && kind != FILES);
}

TEST(a_store_to_lent_memory_after_it_was_sent_is_seen_downstream)
{
	for (int i = 0; i < WITNESS_KINDS; i++) {
		enum witness_kind kind = (enum witness_kind)i;

		in_child(5, lent, &kind);
	}
}

/*
 * F_SEAL_WRITE on a memfd succeeds only while nobody refers to its pages, which makes it a
 * perfect test and no way to reuse memory: it cannot be undone.
 */
static void let_go(void *argument)
{
	struct fid_memory_options options = {.size = sizeof(options), .mode = FID_MEMORY_LEND};
	static const enum end_kind kinds[] = {END_PIPE, END_TCP, END_UNIX};

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (int i = 0; i < 3; i++) {
		int file = memfd_create("lent", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		struct fid_memory *sender;
		struct iovec segment;
		struct peer peer = PEER_NONE;
		int fds[2];

		doing("memory lent to %s", end_name(kinds[i]));
		CHECK(file >= 0);
		CHECK_EQUAL(write(file, content, 64 << 10), 64 << 10);
		segment.iov_base = mmap(NULL, 64 << 10, PROT_READ, MAP_SHARED, file, 0);
		segment.iov_len = 64 << 10;
		CHECK(segment.iov_base != MAP_FAILED);
		stream_pair(kinds[i], fds);
		CHECK_EQUAL(fid_memory_new(&sender, fds[1], &options), 0);
		CHECK_EQUAL(fid_memory_lend(sender, &segment, 1), 0);
		CHECK_EQUAL(fid_memory_run(sender, 5000), 0);
		CHECK(munmap(segment.iov_base, 64 << 10) == 0);
		if (kinds[i] == END_PIPE && lends_by_reference()) {
			CHECK(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE) < 0);
			CHECK_EQUAL(errno, EBUSY);
		}
		close(fds[1]);
		peer_drain(&peer, fds[0], content, 64 << 10, false);
		peer_join(&peer);
		CHECK_EQUAL(peer.drained, 64 << 10);
		CHECK(peer.wrong_at == SIZE_MAX);
		/* The sender is still there and refers to nothing. */
		CHECK(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE) == 0);
		CHECK(fid_memory_free(sender) == NULL);
		close(file);
	}
}

TEST(when_the_reader_is_done_nobody_refers_to_lent_memory_any_more)
{
	test_seed();
	in_child(5, let_go, NULL);
}

/* ---- A fork in the middle ---- */

enum forked { CHILD_EXITS, CHILD_FREES, CHILD_WRITES, CHILD_STAYS, FORKS };

/* What the child does to the memory that it shares with its parent, or not. */
static _Noreturn void be_the_child(struct producer *producer, enum forked forked, int until)
{
	unsigned char *at = NULL;
	void *room = NULL;
	char byte;

	if (forked == CHILD_FREES)
		fid_memory_free(producer->memory);
	if (forked == CHILD_WRITES) {
		ssize_t got = fid_memory_reserve(producer->memory, 1, &room);

		at = room;
		if (got > 0)
			memset(at, 0xdd, (size_t)got);
		/* The whole slab that it lies in, sent or not: the child's own copy. */
		if (got > 0 && fid_memory_receipt(producer->memory)->by_class[FID_BY_REFERENCE])
			memset((void *)((uintptr_t)at & ~(uintptr_t)(SLAB - 1)), 0xdd,
			       (size_t)((uintptr_t)at & (SLAB - 1)));
	}
	if (forked == CHILD_STAYS)
		while (read(until, &byte, 1) < 0)
			;
	_exit(0);
}

static void fork_in_the_middle(void *argument)
{
	enum fid_memory_mode mode = *(const enum fid_memory_mode *)argument;

	content_fill(content, sizeof(content), test_seed());
	for (int i = 0; i < 3 * FORKS; i++) {
		enum forked forked = (enum forked)(i % FORKS);
		size_t count = 5 << 20, sent;
		pid_t children[8];
		struct producer producer;
		struct peer peer = PEER_NONE;
		int fds[2], until[2], got;
		unsigned n = 0;

		doing("%s, forks %d with %s bytes", memory_mode_name(mode), (int)forked,
		      i < FORKS       ? "unsent"
		      : i < 2 * FORKS ? "sent"
				      : "sent and unsent");
		CHECK(pipe2(fds, O_CLOEXEC) == 0);
		CHECK(pipe2(until, O_CLOEXEC) == 0);
		fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);
		producer_open(&producer, mode, fds[1], FID_NOWAIT, content, count);
		producer.record_min = 20 << 10;
		for (int k = 0; k < 6; k++) {
			got = producer_next(&producer, 0);
			CHECK(got == 0 || got == -EAGAIN);
			if (i >= FORKS)
				CHECK(fid_memory_step(producer.memory, NULL) >= 0);
			if (i >= 2 * FORKS) {
				got = producer_next(&producer, 0);
				CHECK(got == 0 || got == -EAGAIN);
			}
			children[n] = fork();
			CHECK(children[n] >= 0);
			if (children[n] == 0) {
				close(until[1]);
				be_the_child(&producer, forked, until[0]);
			}
			if (forked != CHILD_STAYS)
				CHECK_EQUAL(reap(children[n]), 0);
			else
				n++;
		}
		sent = (size_t)fid_memory_receipt(producer.memory)->bytes_out;
		CHECK(i < FORKS || sent > 0);
		peer_drain(&peer, fds[0], content, count, false);
		producer_finish(&producer, WAY_RUN);
		producer_close(&producer);
		close(fds[1]);
		close(until[1]);
		while (n)
			CHECK_EQUAL(reap(children[--n]), 0);
		peer_join(&peer);
		CHECK(peer.wrong_at == SIZE_MAX);
		CHECK_EQUAL(peer.drained, count);
		close(until[0]);
	}
}

TEST(a_fork_with_bytes_sent_and_unsent_changes_none_of_them)
{
	static const enum fid_memory_mode modes[] = {FID_MEMORY_COPY, FID_MEMORY_FRESH,
						     FID_MEMORY_CONST};

	test_seed();
	for (int i = 0; i < 3; i++)
		in_child(10, fork_in_the_middle, (void *)(uintptr_t)&modes[i]);
}

/* ---- Memory that cannot be dropped, or does not come in huge pages ---- */

enum memory_trouble {
	LOCKED, /* MADV_DONTNEED is refused on locked memory */
	LOCKED_LATER,
	NO_HUGE_PAGES,
	SMALL_PAGES, /* the slabs lose theirs after they were made */
	TROUBLES,
};

static bool dontneed_is_refused(void)
{
	void *page =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool refused = madvise(page, PAGE, MADV_DONTNEED) < 0 && errno == EINVAL;

	munmap(page, PAGE);
	return refused;
}

static void lock_memory(void)
{
#if defined(__SANITIZE_ADDRESS__)
	SKIP("a sanitizer's shadow is too large to be locked");
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
	SKIP("a sanitizer's shadow is too large to be locked");
#endif
#endif
	if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
		SKIP("this user may not lock memory: %s", strerror(errno));
	if (!dontneed_is_refused())
		SKIP("locked memory can be dropped here");
}

static void trouble(void *argument)
{
	enum memory_trouble kind = *(const enum memory_trouble *)argument;
	const struct fid_receipt *receipt;
	struct producer producer;
	size_t head = 0, total = 0;
	uint64_t random = test_seed();
	void *room;
	int fds[2];
	int got;

	doing("fresh memory with trouble %d", (int)kind);
	content_fill(content, sizeof(content), test_seed());
	if (kind == NO_HUGE_PAGES && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0)
		SKIP("huge pages cannot be disabled: %s", strerror(errno));
	if (kind == LOCKED)
		lock_memory();
	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);
	witnesses_open();
	producer_open(&producer, FID_MEMORY_FRESH, fds[1], FID_NOWAIT, content, BYTES);
	producer.record_min = 16 << 10;
	while (producer.done < BYTES || head < BYTES) {
		if (kind == SMALL_PAGES && producer.done < BYTES &&
		    fid_memory_reserve(producer.memory, 1, &room) > 0)
			madvise((void *)((uintptr_t)room & ~(uintptr_t)(SLAB - 1)), SLAB,
				MADV_NOHUGEPAGE);
		if (kind == LOCKED_LATER && head > BYTES / 2 && !dontneed_is_refused())
			lock_memory();
		got = producer.done < BYTES ? producer_next(&producer, 0) : 0;
		CHECK(got == 0 || got == -EAGAIN);
		got = fid_memory_step(producer.memory, NULL);
		CHECK(got >= 0);
		if (got == FID_WAIT || producer.done == BYTES)
			witnesses_take(fds[0], &head, &random);
	}
	receipt = fid_memory_receipt(producer.memory);
	CHECK_EQUAL(receipt->bytes_out, BYTES);
	test_note("trouble %d: %llu bytes by reference: %s", (int)kind,
		  (unsigned long long)receipt->by_class[FID_BY_REFERENCE], receipt->reason);
	if (kind == NO_HUGE_PAGES) {
		CHECK_EQUAL(facts_now().huge_pages, 0);
		CHECK_EQUAL(receipt->by_method[FID_READ_WRITE], BYTES);
		CHECK(strstr(receipt->reason, "huge") != NULL);
	}
	for (int w = 0; w < WITNESSES; w++)
		total += witness_check(&witnesses[w]);
	CHECK(total >= BYTES);
	producer_close(&producer);
}

TEST(fresh_memory_that_cannot_be_dropped_or_is_not_huge_changes_no_byte)
{
	test_seed();
	for (int i = 0; i < TROUBLES; i++) {
		enum memory_trouble kind = (enum memory_trouble)i;

		in_child(10, trouble, &kind);
	}
}

/* Bytes of huge pages in the mapping that an address is in. */
static unsigned long huge_bytes_at(const void *address)
{
	FILE *maps = fopen("/proc/self/smaps", "re");
	unsigned long begin, end, huge = 0, more;
	bool is_inside = false;
	char line[512];

	CHECK(maps != NULL);
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
			is_inside = (uintptr_t)address >= begin && (uintptr_t)address < end;
		else if (is_inside && sscanf(line, "AnonHugePages: %lu kB", &more) == 1)
			huge += more << 10;
	}
	fclose(maps);
	return huge;
}

static void locked_after_probe(void *argument)
{
	struct fid_memory_options options = {.size = sizeof(options), .mode = FID_MEMORY_FRESH};
	struct fid_memory *memory = NULL;
	unsigned long huge;
	void *room;
	int fds[2];

	(void)argument;
	facts_now();
	lock_memory();
	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	CHECK(fcntl(fds[1], F_SETPIPE_SZ, 1 << 20) > 0);
	CHECK_EQUAL(fid_memory_new(&memory, fds[1], &options), 0);
	CHECK(fid_memory_reserve(memory, 1 << 16, &room) >= 1 << 16);
	huge = huge_bytes_at(room);
	memset(room, 1, 1 << 16);
	CHECK_EQUAL(fid_memory_commit(memory, 1 << 16), 0);
	CHECK_EQUAL(fid_memory_run(memory, -1), 0);
	test_note("%lu bytes of huge pages, %llu bytes by reference", huge,
		  (unsigned long long)fid_memory_receipt(memory)->by_class[FID_BY_REFERENCE]);
	CHECK(huge > 0 || fid_memory_receipt(memory)->by_class[FID_BY_REFERENCE] == 0);
	fid_memory_free(memory);
}

TEST(fresh_memory_on_locked_small_pages_is_copied)
{
	in_child(10, locked_after_probe, NULL);
}
