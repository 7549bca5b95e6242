/* SPDX-License-Identifier: MIT */
/*
 * A file system that tells less than the truth about its sizes and errors, as real ones in user
 * space do. splice and sendfile believe it: they stop at st_size and swallow an EIO that read
 * reports (seen on Linux 6.18 with direct_io).
 */
#define FUSE_USE_VERSION 35

#include "ends.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BYTES = 10000, ERROR_AT = 4096, SHORT_REPLY = 700, LARGE = 700001 };

static unsigned char content[LARGE];

static const struct file {
	const char *path;
	off_t size_told;
	size_t bytes;    /* that it really has */
	size_t reply;    /* at most so many at once; 0: as many as asked for */
	size_t error_at; /* EIO from here on; 0: nowhere */
} files[] = {
	{"/liar", 100, BYTES, 0, 0},
	{"/empty-liar", 0, BYTES, 0, 0},
	{"/boaster", LARGE, BYTES, 0, 0},
	{"/short", BYTES, BYTES, SHORT_REPLY, 0},
	{"/broken", BYTES, BYTES, 0, ERROR_AT},
	{"/broken-liar", 100, BYTES, 0, ERROR_AT},
	{"/broken-at-once", BYTES, BYTES, 0, SIZE_MAX},
	{"/large", LARGE, LARGE, 0, 0},
	{"/large-short", LARGE, LARGE, 10 * SHORT_REPLY, 0},
	{"/large-liar", 100, LARGE, 0, 0},
	/* Sizes that are worth a pipe: a small file is read in any case. */
	{"/grown", 100000, LARGE, 0, 0},
	{"/large-broken", LARGE, LARGE, 0, 300000},
	{"/grown-broken", 100000, LARGE, 0, 150000},
};

enum { FILES = sizeof(files) / sizeof(files[0]) };

static const struct file *find(const char *path)
{
	for (size_t i = 0; i < FILES; i++)
		if (strcmp(files[i].path, path) == 0)
			return &files[i];
	return NULL;
}

/* ---- The server, a process of its own ---- */

static int ready_fd;

static void *serve_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
	(void)connection;
	config->direct_io = 1;
	config->kernel_cache = 0;
	if (write(ready_fd, "+", 1) != 1)
		_exit(1);
	return NULL;
}

static int serve_getattr(const char *path, struct stat *stat, struct fuse_file_info *info)
{
	const struct file *file = find(path);

	(void)info;
	memset(stat, 0, sizeof(*stat));
	if (strcmp(path, "/") == 0) {
		stat->st_mode = S_IFDIR | 0755;
		stat->st_nlink = 2;
		return 0;
	}
	if (!file)
		return -ENOENT;
	stat->st_mode = S_IFREG | 0444;
	stat->st_nlink = 1;
	stat->st_size = file->size_told;
	return 0;
}

static int serve_open(const char *path, struct fuse_file_info *info)
{
	info->direct_io = 1;
	return find(path) ? 0 : -ENOENT;
}

static int serve_read(const char *path, char *to, size_t size, off_t offset,
		      struct fuse_file_info *info)
{
	const struct file *file = find(path);
	size_t at = (size_t)offset;
	size_t end;

	(void)info;
	if (!file)
		return -ENOENT;
	if (file->error_at == SIZE_MAX || (file->error_at && at >= file->error_at))
		return -EIO;
	end = file->error_at ? file->error_at : file->bytes;
	if (at >= end)
		return 0;
	if (size > end - at)
		size = end - at;
	if (file->reply && size > file->reply)
		size = file->reply;
	memcpy(to, content + at, size);
	return (int)size;
}

static const struct fuse_operations operations = {
	.init = serve_init,
	.getattr = serve_getattr,
	.open = serve_open,
	.read = serve_read,
};

static void serve(char *directory)
{
	char name[] = "fid-test";
	char *words[] = {name, NULL};
	struct fuse_args arguments = FUSE_ARGS_INIT(1, words);
	struct fuse *fuse = fuse_new(&arguments, &operations, sizeof(operations), NULL);

	/* Never outlives the test, whatever ends it. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (!fuse || fuse_mount(fuse, directory) != 0) {
		if (write(ready_fd, "-", 1) != 1)
			_exit(2);
		_exit(1);
	}
	fuse_set_signal_handlers(fuse_get_session(fuse));
	fuse_loop(fuse);
	fuse_unmount(fuse);
	fuse_destroy(fuse);
	_exit(0);
}

static void run_mounted(void (*body)(void *))
{
	char directory[] = "/tmp/fid-fuse-XXXXXX";
	int ready[2];
	char answer = '-';
	pid_t server;
	const char *failure;

	if (access("/dev/fuse", R_OK | W_OK) != 0)
		SKIP("/dev/fuse: %s", strerror(errno));
	CHECK(mkdtemp(directory) != NULL);
	CHECK(pipe(ready) == 0);
	content_fill(content, sizeof(content), test_seed());
	fflush(stdout);
	server = fork();
	CHECK(server >= 0);
	if (server == 0) {
		close(ready[0]);
		ready_fd = ready[1];
		/* What the library complains about is said by the name of the skip. */
		if (!freopen("/dev/null", "w", stderr))
			_exit(3);
		serve(directory);
	}
	close(ready[1]);
	if (read(ready[0], &answer, 1) != 1)
		answer = '-';
	close(ready[0]);
	failure = answer == '+' ? try_in_child(10, body, directory) : NULL;
	umount2(directory, MNT_DETACH);
	kill(server, SIGTERM);
	reap(server);
	rmdir(directory);
	if (answer != '+')
		SKIP("a FUSE mount is refused here (it needs root or fusermount3)");
	if (failure)
		FAIL("%s", failure);
}

/* ---- The flows ---- */

static const enum end_kind sinks[] = {END_FILE, END_MEMFD, END_PIPE,
				      END_TCP,  END_UNIX,  END_NULL};

enum { SINKS = sizeof(sinks) / sizeof(sinks[0]) };

static int open_served(const char *directory, const char *path)
{
	char whole[300];
	int fd;

	snprintf(whole, sizeof(whole), "%s%s", directory, path);
	fd = open(whole, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	return fd;
}

static void move_one(const char *directory, const struct file *file, enum end_kind kind,
		     uint32_t flags, uint32_t routes)
{
	struct fid_options options = {
		.size = sizeof(options), .flags = flags, .routes = routes};
	int error = file->error_at ? -EIO : 0;
	size_t wanted = file->error_at == SIZE_MAX ? 0
			: file->error_at           ? file->error_at
						   : file->bytes;
	const struct fid_receipt *receipt;
	unsigned char *salvaged;
	struct fid_flow *flow;
	struct end sink;
	uint64_t delivered;
	int source = open_served(directory, file->path);

	doing("%s to %s, flags %#x, routes %#x", file->path, end_name(kind), flags, routes);
	end_open_sink(&sink, kind, content, wanted, false);
	CHECK_EQUAL(fid_flow_new(&flow, source, sink.fd, &options, NULL), 0);
	CHECK_EQUAL(fid_flow_run(flow, -1), error);
	receipt = fid_flow_receipt(flow);
	receipt_check(receipt);
	CHECK_EQUAL(receipt->bytes_in, wanted);
	if (error) {
		CHECK_EQUAL(receipt->error_side, FID_SIDE_SOURCE);
		CHECK(receipt->error_call != FID_CALL_NONE);
	}
	delivered = receipt->bytes_out;
	salvaged = malloc(wanted + 1);
	CHECK_EQUAL(fid_flow_salvage(flow, salvaged, wanted + 1), wanted - delivered);
	CHECK(memcmp(salvaged, content + delivered, wanted - delivered) == 0);
	free(salvaged);
	if (!error)
		CHECK_EQUAL(delivered, wanted);
	CHECK(fid_flow_free(flow) == NULL);
	CHECK_EQUAL(lseek(source, 0, SEEK_CUR), wanted);
	close(source);
	CHECK_EQUAL(end_close_sink(&sink, content, wanted, delivered), delivered);
}

static void every_file(void *argument)
{
	static const uint32_t flags[] = {0, FID_STABLE, FID_NOWAIT};
	char *descriptors = descriptors_list();
	struct end trial;
	char *word;

	/* The file system does lie: else these tests would prove nothing. */
	trial.fd = open_served(argument, "/liar");
	CHECK_EQUAL(lseek(trial.fd, 0, SEEK_END), 100);
	close(trial.fd);
	for (size_t i = 0; i < FILES; i++)
		for (size_t k = 0; k < SINKS; k++)
			for (size_t f = 0; f < 3; f++)
				move_one(argument, &files[i], sinks[k], flags[f], 0);
	for (word = strtok(descriptors_list(), " "); word; word = strtok(NULL, " "))
		CHECK(strstr(descriptors, word) || strstr(word, "=pipe:"));
}

TEST(every_byte_of_a_file_system_in_user_space_arrives_and_eio_is_reported)
{
	test_seed();
	run_mounted(every_file);
}

static void every_route(void *argument)
{
	/* With read and write to confirm it no method may lose the rest. */
	for (unsigned method = 0; method < FID_READ_WRITE; method++)
		for (size_t i = 0; i < FILES; i++)
			for (size_t k = 0; k < SINKS; k++)
				move_one(argument, &files[i], sinks[k], 0,
					 FID_ROUTE(method) | FID_ROUTE(FID_READ_WRITE));
}

TEST(no_route_believes_the_size_or_the_end_that_a_file_tells)
{
	test_seed();
	run_mounted(every_route);
}

static void limits(void *argument)
{
	static const struct {
		const char *path;
		uint64_t limit;
	} cases[] = {
		{"/liar", 1},       {"/liar", 99},         {"/liar", 100},
		{"/liar", 101},     {"/liar", 4095},       {"/liar", 9999},
		{"/grown", 99999},  {"/grown", 100000},    {"/grown", 100001},
		{"/grown", 400000}, {"/grown", LARGE - 1},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t k = 0; k < SINKS; k++) {
			uint64_t limit = cases[i].limit;
			struct fid_options options = {.size = sizeof(options),
						      .bytes_max = limit};
			int source = open_served(argument, cases[i].path);
			struct end sink;

			doing("%llu bytes of %s to %s", (unsigned long long)limit,
			      cases[i].path, end_name(sinks[k]));
			end_open_sink(&sink, sinks[k], content, LARGE, false);
			CHECK_EQUAL(fid_copy(source, sink.fd, &options, NULL), limit);
			CHECK_EQUAL(lseek(source, 0, SEEK_CUR), limit);
			close(source);
			CHECK_EQUAL(end_close_sink(&sink, content, LARGE, (size_t)limit),
				    limit);
		}
}

TEST(a_limit_beyond_the_told_size_is_reached)
{
	test_seed();
	run_mounted(limits);
}

/* ---- The call ---- */

/* Takes all of a file, a random number of bytes at a time; returns the error at its end. */
static int splice_all(int source, bool by_offset, const int ends[2], size_t *moved)
{
	static unsigned char got[64 << 10];
	uint64_t random = test_seed();
	int64_t offset = 0;

	for (*moved = 0;;) {
		size_t bytes = test_random(&random) % sizeof(got) + 1;
		ssize_t result = fid_splice(source, by_offset ? &offset : NULL, ends[1], NULL,
					    bytes, SPLICE_F_NONBLOCK);

		if (result <= 0)
			return (int)result;
		CHECK((size_t)result <= bytes);
		CHECK_EQUAL(read(ends[0], got, sizeof(got)), result);
		CHECK(memcmp(got, content + *moved, (size_t)result) == 0);
		*moved += (size_t)result;
		CHECK_EQUAL(lseek(source, 0, SEEK_CUR), by_offset ? 0 : *moved);
		CHECK_EQUAL(offset, by_offset ? *moved : 0);
	}
}

static void by_the_call(void *argument)
{
	int ends[2], trial = open_served(argument, "/liar");

	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	/* The bare call says that a file ends where st_size says it does. */
	CHECK_EQUAL(lseek(trial, 100, SEEK_SET), 100);
	CHECK_EQUAL(splice(trial, NULL, ends[1], NULL, 1000, SPLICE_F_NONBLOCK), 0);
	close(trial);
	for (size_t i = 0; i < 2 * (size_t)FILES; i++) {
		const struct file *file = &files[i / 2];
		size_t wanted = file->error_at == SIZE_MAX ? 0
				: file->error_at           ? file->error_at
							   : file->bytes;
		int source = open_served(argument, file->path);
		size_t moved;

		doing("splice of %s%s", file->path, i % 2 ? " by offset" : "");
		CHECK_EQUAL(splice_all(source, i % 2, ends, &moved), file->error_at ? -EIO : 0);
		CHECK_EQUAL(moved, wanted);
		close(source);
	}
}

TEST(fid_splice_does_not_believe_the_size_of_a_file_and_reports_its_eio)
{
	test_seed();
	run_mounted(by_the_call);
}
