/* SPDX-License-Identifier: MIT */
/*
 * Constants, which nobody can write by any door, and how much memory a sender of small records
 * may pin.
 */
#include "ends.h"
#include "produce.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BYTES = (3 << 20) + 4321, SLAB = 2 << 20 };

static unsigned char content[BYTES];
static struct fid_pool *pool;

static void check_constant(int fd)
{
	unsigned char *bytes = malloc(BYTES + 1);
	struct stat stat;

	CHECK(fstat(fd, &stat) == 0);
	CHECK_EQUAL(stat.st_size, BYTES);
	CHECK_EQUAL(pread(fd, bytes, BYTES + 1, 0), BYTES);
	CHECK(memcmp(bytes, content, BYTES) == 0);
	free(bytes);
}

/* Tries to write through a descriptor in every way; all must fail. */
static void try_doors(int fd)
{
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	int other = memfd_create("other", MFD_CLOEXEC);
	struct iovec segment = {content + 1, 100};
	off_t at = 0;
	void *map;
	int fds[2];

	CHECK(zero >= 0 && other >= 0);
	CHECK_EQUAL(write(other, content + 1, 100), 100);
	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	CHECK_EQUAL(write(fds[1], content + 1, 100), 100);
	CHECK(lseek(fd, 0, SEEK_SET) == 0);
	CHECK(write(fd, content + 1, 100) < 0);
	CHECK(pwrite(fd, content + 1, 100, 0) < 0);
	CHECK(pwrite(fd, content + 1, 100, BYTES) < 0);
	CHECK(pwritev(fd, &segment, 1, 10) < 0);
	CHECK(splice(fds[0], NULL, fd, NULL, 100, 0) < 0);
	CHECK(sendfile(fd, zero, NULL, 100) < 0);
	CHECK(copy_file_range(other, &at, fd, &(off_t){0}, 100, 0) < 0);
	CHECK(ftruncate(fd, 0) < 0);
	CHECK(ftruncate(fd, BYTES - 1) < 0);
	CHECK(ftruncate(fd, BYTES + 1) < 0);
	CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0);
	CHECK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 4096) < 0);
	CHECK(fallocate(fd, 0, 0, BYTES + 4096) < 0);
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) < 0);
	map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(map == MAP_FAILED);
	map = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(map != MAP_FAILED);
	CHECK(mprotect(map, BYTES, PROT_READ | PROT_WRITE) < 0);
	CHECK(madvise(map, BYTES, MADV_REMOVE) < 0);
	/* A private map may be written: it is a copy. */
	CHECK(munmap(map, BYTES) == 0);
	map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(map != MAP_FAILED);
	memset(map, 0xdd, BYTES);
	CHECK(munmap(map, BYTES) == 0);
	close(zero);
	close(other);
	close(fds[0]);
	close(fds[1]);
}

/* Writes to fid's own map of it, which is at an address that this process can look up. */
static unsigned try_maps(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	unsigned found = 0;
	char line[512];

	CHECK(maps != NULL && memory >= 0);
	while (fgets(line, sizeof(line), maps)) {
		unsigned long begin = 0, end = 0;

		if (!strstr(line, "memfd:fid") || sscanf(line, "%lx-%lx", &begin, &end) != 2)
			continue;
		found++;
		/* It may become a private copy of this process, never a change of the file. */
		if (pwrite(memory, "changed", 7, (off_t)begin) == 7)
			FAIL("the map at %#lx was written", begin);
		CHECK(mprotect((void *)begin, end - begin, PROT_READ | PROT_WRITE) < 0);
	}
	fclose(maps);
	close(memory);
	return found;
}

static void doors(void *argument)
{
	struct producer producer;
	char path[64];
	struct end sink;
	unsigned maps;
	int fd, again;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	end_open_sink(&sink, END_PIPE, content, BYTES, false);
	producer_open(&producer, FID_MEMORY_CONST, sink.fd, 0, content, BYTES);
	fd = fid_memory_descriptor(producer.memory);
	CHECK(fd >= 0);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CHECK_EQUAL(fcntl(fd, F_GET_SEALS) & (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW),
		    F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW);
	check_constant(fd);
	doing("a write by the descriptor");
	try_doors(fd);
	check_constant(fd);
	doing("a write by a descriptor opened anew");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDWR | O_CLOEXEC);
	if (again >= 0)
		try_doors(again);
	CHECK(open(path, O_RDWR | O_TRUNC | O_CLOEXEC) < 0 || errno == 0);
	check_constant(fd);
	doing("a write by the map");
	maps = try_maps();
	test_note("fid has %u maps of the constant", maps);
	check_constant(fd);
	/* It can be sent all the same. */
	producer_finish(&producer, WAY_RUN);
	producer_close(&producer);
	if (again >= 0)
		close(again);
	CHECK_EQUAL(end_close_sink(&sink, content, BYTES, BYTES), BYTES);
}

TEST(a_constant_cannot_be_written_by_any_door)
{
	test_seed();
	in_child(5, doors, NULL);
}

/* ---- Sent again and again ---- */

enum { THREADS = 6, ROUNDS = 4 };

static void *send_parts(void *argument)
{
	static const enum end_kind kinds[] = {END_PIPE, END_TCP,    END_UNIX,
					      END_FILE, END_APPEND, END_MEMFD};
	static _Atomic uint64_t number;
	uint64_t random = test_seed() + ++number;
	int fd = *(const int *)argument;

	for (int i = 0; i < ROUNDS; i++) {
		size_t at = test_random(&random) % BYTES;
		size_t count = 1 + test_random(&random) % (BYTES - at);
		struct fid_options options = {.size = sizeof(options),
					      .flags = FID_SOURCE_OFFSET,
					      .source_offset = at,
					      .bytes_max = count,
					      .pool = pool};
		struct fid_receipt receipt;
		struct end sink;

		end_open_sink(&sink, kinds[test_random(&random) % 6], content + at, count,
			      false);
		CHECK_EQUAL(fid_copy(fd, sink.fd, &options, &receipt), count);
		receipt_check(&receipt);
		CHECK_EQUAL(end_close_sink(&sink, content + at, count, count), count);
	}
	return NULL;
}

static void sent_by_many(void *argument)
{
	struct fid_memory_options options = {
		.size = sizeof(options), .mode = FID_MEMORY_CONST, .bytes_max = BYTES + 5000};
	char *descriptors = descriptors_list();
	struct fid_memory *memory;
	pthread_t threads[THREADS];
	size_t done = 0;
	int fd;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	CHECK_EQUAL(fid_pool_new(&pool, NULL), 0);
	doing("threads that send one constant");
	CHECK_EQUAL(fid_memory_new(&memory, -1, &options), 0);
	CHECK_EQUAL(fid_memory_descriptor(memory), -EINVAL);
	while (done < BYTES) {
		size_t bytes = BYTES - done < 200000 ? BYTES - done : 200000;
		void *room;

		CHECK(fid_memory_reserve(memory, bytes, &room) >= (ssize_t)bytes);
		memcpy(room, content + done, bytes);
		CHECK_EQUAL(fid_memory_commit(memory, bytes), 0);
		done += bytes;
	}
	CHECK_EQUAL(fid_memory_seal(memory), 0);
	fd = fid_memory_descriptor(memory);
	check_constant(fd);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, send_parts, &fd) == 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	check_constant(fd);
	CHECK(fid_memory_free(memory) == NULL);
	CHECK(fid_pool_free(pool) == NULL);
	descriptors_check(descriptors);
}

TEST(threads_send_one_constant_to_sinks_of_every_kind)
{
	test_seed();
	in_child(10, sent_by_many, NULL);
}

static void sent_often(void *argument)
{
	struct producer producer;
	struct peer peer = PEER_NONE;
	unsigned char *expected = malloc(3 * (size_t)BYTES);
	int fds[2];

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (int i = 0; i < 3; i++)
		memcpy(expected + (size_t)i * BYTES, content, BYTES);
	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	peer_drain(&peer, fds[0], expected, 3 * (size_t)BYTES, true);
	producer_open(&producer, FID_MEMORY_CONST, fds[1], 0, content, BYTES);
	for (int i = 0; i < 3; i++) {
		producer.done = 0;
		producer_finish(&producer, WAY_STEP);
	}
	CHECK_EQUAL(fid_memory_queue(producer.memory, BYTES, 1), -EINVAL);
	CHECK_EQUAL(fid_memory_queue(producer.memory, 1, BYTES), -EINVAL);
	CHECK_EQUAL(fid_memory_queue(producer.memory, UINT64_MAX, 2), -EINVAL);
	CHECK_EQUAL(fid_memory_receipt(producer.memory)->bytes_out, 3 * (uint64_t)BYTES);
	producer_close(&producer);
	close(fds[1]);
	peer_join(&peer);
	CHECK(peer.wrong_at == SIZE_MAX);
	CHECK_EQUAL(peer.drained, 3 * (size_t)BYTES);
	free(expected);
}

TEST(a_constant_may_be_sent_again)
{
	test_seed();
	in_child(5, sent_often, NULL);
}

/* ---- What is mapped ---- */

/* Whether the page is there, asked without touching it. */
static bool is_mapped(const void *page)
{
	int fds[2];
	bool there;

	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	there = write(fds[1], page, 1) == 1;
	close(fds[0]);
	close(fds[1]);
	return there;
}

static void freed_in_child(void *argument)
{
	struct fid_memory_options options = {.size = sizeof(options), .mode = FID_MEMORY_CONST};
	struct fid_memory *memory = NULL;
	void *room = NULL;
	pid_t child;
	int status;

	(void)argument;
	CHECK_EQUAL(fid_memory_new(&memory, -1, &options), 0);
	CHECK(fid_memory_reserve(memory, 1, &room) >= 1);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		/* It is not there in a child, which may have something else there. */
		void *own = mmap(room, 4096, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

		CHECK(own == room);
		memset(own, 'x', 4096);
		CHECK(fid_memory_free(memory) == NULL);
		if (!is_mapped(own))
			FAIL("the child's own memory is gone");
		_exit(0);
	}
	status = reap(child);
	/* It has left its sentence for the test. */
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		_exit(WEXITSTATUS(status));
	CHECK_EQUAL(status, 0);
	memcpy(room, "abc", 3);
	CHECK_EQUAL(fid_memory_commit(memory, 3), 0);
	CHECK_EQUAL(fid_memory_seal(memory), 0);
	CHECK(fid_memory_free(memory) == NULL);
}

TEST(a_child_that_frees_a_constant_keeps_the_memory_that_it_has_at_that_place)
{
	in_child(5, freed_in_child, NULL);
}

static size_t address_space(void)
{
	FILE *sizes = fopen("/proc/self/statm", "re");
	unsigned long pages = 0;

	CHECK(sizes != NULL);
	CHECK_EQUAL(fscanf(sizes, "%lu", &pages), 1);
	fclose(sizes);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void make_constants(unsigned count, uint64_t bytes_max)
{
	struct fid_memory_options options = {
		.size = sizeof(options), .mode = FID_MEMORY_CONST, .bytes_max = bytes_max};

	for (unsigned i = 0; i < count; i++) {
		struct fid_memory *memory = NULL;
		void *room = NULL;

		CHECK_EQUAL(fid_memory_new(&memory, -1, &options), 0);
		CHECK(fid_memory_reserve(memory, 5, &room) >= 5);
		memcpy(room, "hello", 5);
		CHECK_EQUAL(fid_memory_commit(memory, 5), 0);
		CHECK_EQUAL(fid_memory_seal(memory), 0);
		CHECK(fid_memory_free(memory) == NULL);
	}
}

static void made_and_freed(void *argument)
{
	static const uint64_t sizes[] = {5, 1000, 5000, SLAB - 1, SLAB, SLAB + 1};

	(void)argument;
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t before;

		doing("constants of up to %llu bytes", (unsigned long long)sizes[i]);
		make_constants(2, sizes[i]);
		before = address_space();
		make_constants(32, sizes[i]);
		/* A byte of each would be enough to keep a huge page of each. */
		CHECK(address_space() < before + 8 * SLAB);
	}
}

TEST(constants_that_are_freed_give_all_their_address_space_back)
{
	in_child(5, made_and_freed, NULL);
}

/* ---- What may be outstanding ---- */

enum { FRAMES_MAX = 4096 };

static struct {
	uint64_t frame[FRAMES_MAX];
	unsigned count;
} pinned;

/* Notes which huge page the byte is in, by its place in the machine's memory. */
static void note_frame(int pagemap, const void *at)
{
	uint64_t entry = 0, frame;
	long page = sysconf(_SC_PAGESIZE);

	CHECK_EQUAL(pread(pagemap, &entry, 8, (off_t)((uintptr_t)at / (size_t)page * 8)), 8);
	frame = (entry & (((uint64_t)1 << 55) - 1)) * (uint64_t)page / SLAB;
	for (unsigned i = 0; i < pinned.count; i++)
		if (pinned.frame[i] == frame)
			return;
	CHECK(pinned.count < FRAMES_MAX);
	pinned.frame[pinned.count++] = frame;
}

static bool frames_are_shown(int pagemap)
{
	static char page[1];
	uint64_t entry = 0;

	page[0] = 1;
	return pagemap >= 0 &&
	       pread(pagemap, &entry, 8,
		     (off_t)((uintptr_t)page / (size_t)sysconf(_SC_PAGESIZE) * 8)) == 8 &&
	       (entry & (((uint64_t)1 << 55) - 1)) != 0;
}

static size_t resident_kib(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	char line[256];
	size_t kib = 0;

	CHECK(status != NULL);
	while (fgets(line, sizeof(line), status))
		if (sscanf(line, "VmRSS: %zu", &kib) == 1)
			break;
	fclose(status);
	CHECK(kib > 0);
	return kib;
}

/*
 * Every record gets a step of its own, and nobody reads. A pipe has 256 slots, each of which
 * may hold one byte and thereby the 2 MiB that the byte lies in.
 */
static void unread_records(void *argument)
{
	static const size_t sizes[] = {1, 100, 4000, 16384, 17000, 65537, 131072, 262144};
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	bool shown = frames_are_shown(pagemap);
	struct fid_facts facts;

	(void)argument;
	CHECK_EQUAL(fid_probe(&facts, 0), 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct fid_memory_options options = {
			.size = sizeof(options), .flags = FID_NOWAIT, .mode = FID_MEMORY_FRESH};
		size_t before = resident_kib(), records = 0, after;
		struct fid_memory *memory;
		int fds[2];

		doing("records of %zu bytes that nobody reads", sizes[i]);
		pinned.count = 0;
		CHECK(pipe2(fds, O_CLOEXEC) == 0);
		CHECK(fcntl(fds[1], F_SETPIPE_SZ, 1 << 20) > 0);
		CHECK_EQUAL(fid_memory_new(&memory, fds[1], &options), 0);
		for (; records < 100000; records++) {
			uint64_t given = fid_memory_receipt(memory)->by_method[FID_VMSPLICE];
			void *room;
			ssize_t got = fid_memory_reserve(memory, sizes[i], &room);

			if (got == -EAGAIN)
				break;
			if (records % 1000 == 0)
				doing("%zu records of %zu bytes that nobody reads", records,
				      sizes[i]);
			CHECK(got >= (ssize_t)sizes[i]);
			memset(room, 'a', sizes[i]);
			CHECK_EQUAL(fid_memory_commit(memory, sizes[i]), 0);
			if (shown)
				note_frame(pagemap, room);
			got = fid_memory_step(memory, NULL);
			CHECK(got >= 0);
			/* Copied bytes pin nothing. */
			if (fid_memory_receipt(memory)->by_method[FID_VMSPLICE] == given &&
			    got == FID_DONE)
				pinned.count = given ? pinned.count : 0;
		}
		after = resident_kib();
		test_note("%zu records of %zu bytes: %u huge pages, %zu KiB resident more",
			  records, sizes[i], pinned.count, after > before ? after - before : 0);
		CHECK(after < before + (8 << 10));
		CHECK(pinned.count <= 8);
		receipt_check(fid_memory_receipt(memory));
		CHECK(fid_memory_free(memory) == NULL);
		close(fds[0]);
		close(fds[1]);
	}
	if (!shown)
		test_note("the pages of this process are not shown to it: none was counted");
}

TEST(unread_records_pin_a_few_huge_pages_and_not_one_each)
{
	in_child(10, unread_records, NULL);
}

/* ---- What the calls refuse ---- */

static void refusals(void *argument)
{
	struct fid_memory_options options = {.size = sizeof(options)};
	struct fid_memory *memory = NULL;
	struct iovec segment = {content, 10};
	void *room = NULL;
	int fds[2];

	(void)argument;
	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	CHECK_EQUAL(fid_memory_new(&memory, -1, &options), -EBADF);
	CHECK_EQUAL(fid_memory_new(&memory, fds[0], &options), -EBADF);
	options.mode = FID_MEMORY_MODES;
	CHECK_EQUAL(fid_memory_new(&memory, fds[1], &options), -EINVAL);
	options.mode = FID_MEMORY_COPY;
	options.flags = FID_STABLE;
	CHECK_EQUAL(fid_memory_new(&memory, fds[1], &options), -EINVAL);
	options.flags = 0;
	CHECK(memory == NULL);
	for (int mode = 0; mode <= FID_MEMORY_FRESH; mode++) {
		options.mode = (uint32_t)mode;
		CHECK_EQUAL(fid_memory_new(&memory, fds[1], &options), 0);
		CHECK_EQUAL(fid_memory_commit(memory, 1), -EINVAL);
		CHECK(fid_memory_reserve(memory, 0, &room) >= 1);
		CHECK_EQUAL(fid_memory_reserve(memory, FID_MEMORY_RESERVE_MAX + 1, &room),
			    -EMSGSIZE);
		CHECK(fid_memory_reserve(memory, FID_MEMORY_RESERVE_MAX, &room) >=
		      (ssize_t)FID_MEMORY_RESERVE_MAX);
		CHECK_EQUAL(fid_memory_lend(memory, &segment, 1), -EINVAL);
		CHECK_EQUAL(fid_memory_queue(memory, 0, 1), -EINVAL);
		CHECK_EQUAL(fid_memory_seal(memory), -EINVAL);
		CHECK_EQUAL(fid_memory_descriptor(memory), -EINVAL);
		CHECK_EQUAL(fid_memory_step(memory, NULL), FID_DONE);
		CHECK_EQUAL(fid_memory_receipt(memory)->bytes_in, 0);
		CHECK(fid_memory_free(memory) == NULL);
	}
	options.mode = FID_MEMORY_LEND;
	CHECK_EQUAL(fid_memory_new(&memory, fds[1], &options), 0);
	CHECK_EQUAL(fid_memory_reserve(memory, 1, &room), -EINVAL);
	segment.iov_len = (size_t)SSIZE_MAX + 1;
	CHECK_EQUAL(fid_memory_lend(memory, &segment, 1), -EINVAL);
	CHECK_EQUAL(fid_memory_run(memory, 0), 0);
	CHECK(fid_memory_free(memory) == NULL);
	options.mode = FID_MEMORY_CONST;
	options.bytes_max = 5000;
	CHECK_EQUAL(fid_memory_new(&memory, -1, &options), 0);
	CHECK_EQUAL(fid_memory_queue(memory, 0, 0), -EINVAL);
	CHECK(fid_memory_reserve(memory, 5000, &room) >= 5000);
	CHECK_EQUAL(fid_memory_commit(memory, 4000), 0);
	CHECK_EQUAL(fid_memory_reserve(memory, 5000, &room), -ENOSPC);
	CHECK_EQUAL(fid_memory_seal(memory), 0);
	CHECK_EQUAL(fid_memory_reserve(memory, 1, &room), -EINVAL);
	CHECK_EQUAL(fid_memory_commit(memory, 1), -EINVAL);
	CHECK(fid_memory_free(memory) == NULL);
	CHECK(fid_memory_free(NULL) == NULL);
	close(fds[0]);
	close(fds[1]);
}

TEST(what_a_mode_does_not_have_is_einval)
{
	in_child(5, refusals, NULL);
}
