/* SPDX-License-Identifier: MIT */
/*
 * The simulated kernel answers as the real one does, in scripts and in random sequences of
 * calls.
 */
#include "both.h"
#include "test.h"

#include <stdlib.h>

TEST(files_have_the_same_ends_and_offsets)
{
	both_run((const struct step[]){
		{READ, FILE_A, 0, 1000, OWN, OWN, 0},
		{SEEK, FILE_A, 0, 0, 0, OWN, SEEK_CUR},
		{READ, FILE_A, 0, 1000, FILE_BYTES - 10, OWN, 0},
		{READ, FILE_A, 0, 1000, FILE_BYTES, OWN, 0},
		{READ, FILE_A, 0, 1000, FILE_BYTES + 10, OWN, 0},
		{SEEK, FILE_A, 0, 0, 0, OWN, SEEK_CUR},
		{SEEK, FILE_A, 0, 0, -100, OWN, SEEK_END},
		{READ, FILE_A, 0, 1000, OWN, OWN, 0},
		{READ, FILE_A, 0, 1000, OWN, OWN, 0},
		{WRITE, FILE_B, 0, 5000, OWN, OWN, 0},
		{WRITE, FILE_B, 0, 100, 200, OWN, 0},
		{WRITE, FILE_B, 0, 100, 10000, OWN, 0},
		{SIZE, FILE_B, 0, 0, OWN, OWN, 0},
		{SEEK, FILE_B, 0, 0, 0, OWN, SEEK_CUR},
		{READ, FILE_B, 0, 20000, 0, OWN, 0},
		{WRITE, APPEND, 0, 77, OWN, OWN, 0},
		{WRITE, APPEND, 0, 77, 5, OWN, 0},
		{SIZE, APPEND, 0, 0, OWN, OWN, 0},
		{READ, FILE_B, 0, 20000, 0, OWN, 0},
		{SEEK, APPEND, 0, 0, 0, OWN, SEEK_CUR},
		{SEEK, PIPE_OUT, 0, 0, 0, OWN, SEEK_CUR},
		{SEEK, SOCKET_A, 0, 0, 0, OWN, SEEK_CUR},
		{SEEK, NULL_DEVICE, 0, 0, 0, OWN, SEEK_CUR},
		{SEEK, FILE_A, 0, 0, -1, OWN, SEEK_SET},
		{READ, FOLDER, 0, 10, OWN, OWN, 0},
		{READ, PIPE_IN, 0, 10, OWN, OWN, 0},
		{WRITE, PIPE_OUT, 0, 10, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 10, 0, OWN, 0},
		{WRITE, PIPE_IN, 0, 10, 0, OWN, 0},
		{READ, NULL_DEVICE, 0, 10, OWN, OWN, 0},
		{WRITE, NULL_DEVICE, 0, 10, OWN, OWN, 0},
		{WRITE, FULL_DEVICE, 0, 10, OWN, OWN, 0},
		{FLAGS, APPEND, 0, 0, OWN, OWN, 0},
		{FLAGS, PIPE_OUT, 0, 0, OWN, OWN, 0},
		{FLAGS, PIPE_IN, 0, 0, OWN, OWN, 0},
		{FLAGS, SOCKET_A, 0, 0, OWN, OWN, 0},
		{0},
	});
}

TEST(pipes_count_slots_and_join_small_writes)
{
	struct step tiny[4200] = {0};
	unsigned n = 0;

	for (int i = 0; i < 4097; i++)
		tiny[n++] = (struct step){WRITE, PIPE_IN, 0, 1, OWN, OWN, 0};
	tiny[n++] = (struct step){READ, PIPE_OUT, 0, 5000, OWN, OWN, 0};
	for (int i = 0; i < 17; i++)
		tiny[n++] = (struct step){VMSPLICE, PIPE_IN, 0, 1, OWN, OWN, NB};
	tiny[n++] = (struct step){POLL, PIPE_IN, 0, 0, OWN, OWN, 0};
	tiny[n++] = (struct step){WRITE, PIPE_IN, 0, 1, OWN, OWN, 0};
	tiny[n++] = (struct step){READ, PIPE_OUT, 0, 100, OWN, OWN, 0};
	both_run(tiny);

	both_run((const struct step[]){
		{CAPACITY, PIPE_IN, 0, 0, OWN, OWN, 0},
		{POLL, PIPE_IN, 0, 0, OWN, OWN, 0},
		{POLL, PIPE_OUT, 0, 0, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 100000, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 1, OWN, OWN, 0},
		{POLL, PIPE_IN, 0, 0, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 4095, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 1, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 1, OWN, OWN, 0},
		{POLL, PIPE_IN, 0, 0, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 5000, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 100000, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 100000, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 5000, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 5000, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 50000, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 50000, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 100000, OWN, OWN, 0},
		{RESIZE, PIPE_IN, 0, 1, OWN, OWN, 0},
		{RESIZE, PIPE_IN, 0, 0, OWN, OWN, 0},
		{RESIZE, PIPE_OUT, 0, 5000, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 50000, OWN, OWN, 0},
		{RESIZE, PIPE_IN, 0, 4096, OWN, OWN, 0},
		{RESIZE, PIPE_IN, 0, 16384, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 50000, OWN, OWN, 0},
		{CAPACITY, FILE_A, 0, 0, OWN, OWN, 0},
		{RESIZE, SOCKET_A, 0, 4096, OWN, OWN, 0},
		{0},
	});
}

TEST(splice_from_and_to_files_takes_slots_and_moves_offsets)
{
	both_run((const struct step[]){
		{SPLICE, FILE_A, PIPE_IN, 1 << 20, 1, OWN, 0},
		{SPLICE, FILE_A, PIPE_IN, 1 << 20, 1, OWN, NB},
		{SEEK, FILE_A, 0, 0, 0, OWN, SEEK_CUR},
		{SPLICE, PIPE_OUT, FILE_B, 1000, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, FILE_B, 1000, OWN, 5000, 0},
		{SEEK, FILE_B, 0, 0, 0, OWN, SEEK_CUR},
		{SIZE, FILE_B, 0, 0, OWN, OWN, 0},
		{READ, FILE_B, 0, 9000, 0, OWN, 0},
		{SPLICE, PIPE_OUT, APPEND, 1000, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, FULL_DEVICE, 1000, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, NULL_DEVICE, 1000, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, PIPE_IN, 1000, OWN, OWN, NB},
		{SPLICE, PIPE_OUT, FULL_IN, 1000, OWN, OWN, NB},
		{SPLICE, PIPE_OUT, FULL_IN, 1 << 20, OWN, OWN, NB},
		{SPLICE, PIPE_OUT, FULL_IN, 1 << 20, OWN, OWN, NB},
		{READ, FULL_OUT, 0, 70000, OWN, OWN, 0},
		{SPLICE, FILE_A, FULL_IN, 5000, OWN, OWN, 0},
		{SPLICE, FILE_A, FULL_IN, 5000, OWN, OWN, 0},
		{SEEK, FILE_A, 0, 0, 0, OWN, SEEK_CUR},
		{READ, FULL_OUT, 0, 70000, OWN, OWN, 0},
		{SPLICE, FILE_A, FULL_IN, 5000, FILE_BYTES - 7, OWN, 0},
		{SPLICE, FILE_A, FULL_IN, 5000, FILE_BYTES, OWN, 0},
		{SPLICE, FILE_A, FILE_B, 5000, OWN, OWN, 0},
		{SPLICE, NULL_DEVICE, FULL_IN, 5000, OWN, OWN, 0},
		{SPLICE, FOLDER, FULL_IN, 5000, OWN, OWN, 0},
		{SPLICE, FILE_A, FULL_IN, 0, OWN, OWN, 0},
		{SPLICE, FILE_A, FULL_IN, 10, OWN, OWN, 0x80},
		{SPLICE, FULL_OUT, FILE_B, 10, 0, OWN, 0},
		{SPLICE, FILE_A, FULL_IN, 10, OWN, 0, 0},
		{SPLICE, FULL_OUT, PIPE_IN, 10, OWN, 0, 0},
		{SPLICE, FULL_IN, FILE_B, 10, OWN, OWN, 0},
		{SPLICE, FILE_A, FULL_OUT, 10, OWN, OWN, 0},
		{0},
	});
}

TEST(an_empty_pipe_is_eagain_and_a_closed_one_is_the_end)
{
	both_run((const struct step[]){
		{SPLICE, PIPE_OUT, FILE_B, 10, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, FULL_IN, 10, OWN, OWN, 0},
		{SPLICE, WAIT_OUT, FULL_IN, 10, OWN, OWN, 0},
		{SPLICE, WAIT_OUT, FILE_B, 10, OWN, OWN, NB},
		{SPLICE, PIPE_OUT, SOCKET_A, 10, OWN, OWN, 0},
		{SPLICE, SOCKET_A, PIPE_IN, 10, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 10, OWN, OWN, 0},
		{READ, SOCKET_A, 0, 10, OWN, OWN, 0},
		{TEE, PIPE_OUT, FULL_IN, 10, OWN, OWN, NB},
		{CLOSE, PIPE_IN, 0, 0, OWN, OWN, 0},
		{POLL, PIPE_OUT, 0, 0, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, FILE_B, 10, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, FULL_IN, 10, OWN, OWN, 0},
		{TEE, PIPE_OUT, FULL_IN, 10, OWN, OWN, NB},
		{READ, PIPE_OUT, 0, 10, OWN, OWN, 0},
		{CLOSE, FULL_OUT, 0, 0, OWN, OWN, 0},
		{POLL, FULL_IN, 0, 0, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, FULL_IN, 10, OWN, OWN, 0},
		{SPLICE, FILE_A, FULL_IN, 10, OWN, OWN, 0},
		{SENDFILE, FILE_A, FULL_IN, 10, OWN, OWN, 0},
		{WRITE, FULL_IN, 0, 10, OWN, OWN, 0},
		{SPLICE, SOCKET_A, FULL_IN, 10, OWN, OWN, 0},
		{WRITE, WAIT_IN, 0, 10, OWN, OWN, 0},
		{SPLICE, WAIT_OUT, FULL_IN, 10, OWN, OWN, 0},
		{TEE, WAIT_OUT, FULL_IN, 10, OWN, OWN, 0},
		{READ, WAIT_OUT, 0, 100, OWN, OWN, 0},
		{0},
	});
}

TEST(tee_copies_from_the_head_and_takes_nothing)
{
	both_run((const struct step[]){
		{WRITE, PIPE_IN, 0, 10000, OWN, OWN, 0},
		{TEE, PIPE_OUT, FULL_IN, 5000, OWN, OWN, NB},
		{TEE, PIPE_OUT, FULL_IN, 100000, OWN, OWN, NB},
		{TEE, PIPE_OUT, PIPE_IN, 5000, OWN, OWN, NB},
		{TEE, PIPE_OUT, FILE_B, 5000, OWN, OWN, NB},
		{READ, FULL_OUT, 0, 100000, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 100000, OWN, OWN, 0},
		{0},
	});
}

TEST(sendfile_and_copy_file_range_have_the_same_borders)
{
	both_run((const struct step[]){
		{SENDFILE, FILE_A, FILE_B, 1000, OWN, OWN, 0},
		{SENDFILE, FILE_A, FILE_B, 1000, 50, OWN, 0},
		{SEEK, FILE_A, 0, 0, 0, OWN, SEEK_CUR},
		{SEEK, FILE_B, 0, 0, 0, OWN, SEEK_CUR},
		{SENDFILE, FILE_A, FILE_B, 1 << 20, FILE_BYTES - 5, OWN, 0},
		{SENDFILE, FILE_A, FILE_B, 1 << 20, FILE_BYTES, OWN, 0},
		{SENDFILE, FILE_A, APPEND, 10, OWN, OWN, 0},
		{SENDFILE, FILE_A, FULL_DEVICE, 10, OWN, OWN, 0},
		{SENDFILE, FILE_A, NULL_DEVICE, 10, OWN, OWN, 0},
		{SENDFILE, FILE_A, SOCKET_A, 1000, OWN, OWN, 0},
		{READ, SOCKET_B, 0, 2000, OWN, OWN, 0},
		{SENDFILE, FILE_A, FULL_IN, 1000, OWN, OWN, 0},
		{READ, FULL_OUT, 0, 2000, OWN, OWN, 0},
		{SENDFILE, FILE_A, FULL_IN, 1 << 20, 3, OWN, 0},
		{SENDFILE, FILE_A, FULL_IN, 1 << 20, 3, OWN, 0},
		{READ, FULL_OUT, 0, 70000, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 100, OWN, OWN, 0},
		{SENDFILE, PIPE_OUT, FILE_B, 100, OWN, OWN, 0},
		{COPY, FILE_A, FILE_B, 1000, OWN, OWN, 0},
		{COPY, FILE_A, FILE_B, 1000, 0, 0, 0},
		{COPY, FILE_A, FILE_B, 1 << 20, FILE_BYTES - 9, 4, 0},
		{COPY, FILE_A, FILE_B, 1 << 20, FILE_BYTES, 4, 0},
		{COPY, FILE_A, APPEND, 1000, OWN, OWN, 0},
		{COPY, FILE_A, PIPE_IN, 1000, OWN, OWN, 0},
		{COPY, PIPE_OUT, FILE_B, 1000, OWN, OWN, 0},
		{COPY, FILE_A, FILE_A, 1000, 0, 500, 0},
		{COPY, FOLDER, FILE_B, 1000, OWN, OWN, 0},
		{SEEK, FILE_A, 0, 0, 0, OWN, SEEK_CUR},
		{SEEK, FILE_B, 0, 0, 0, OWN, SEEK_CUR},
		{SIZE, FILE_B, 0, 0, OWN, OWN, 0},
		{READ, FILE_B, 0, 100000, 0, OWN, 0},
		{0},
	});
}

TEST(sockets_and_their_ends)
{
	both_run((const struct step[]){
		{POLL, SOCKET_A, 0, 0, OWN, OWN, 0},
		{SEND, SOCKET_A, 0, 100, OWN, OWN, 0},
		{SEND, PIPE_IN, 0, 100, OWN, OWN, 0},
		{POLL, SOCKET_B, 0, 0, OWN, OWN, 0},
		{READ, SOCKET_B, 0, 10, OWN, OWN, 0},
		{SPLICE, SOCKET_B, PIPE_IN, 1000, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, SOCKET_B, 50, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, SOCKET_B, 50, OWN, OWN, 0},
		{READ, SOCKET_A, 0, 1000, OWN, OWN, 0},
		{SPLICE, SOCKET_A, SOCKET_B, 10, OWN, OWN, 0},
		{SPLICE, SOCKET_A, PIPE_IN, 10, 0, OWN, 0},
		{SEND, SOCKET_A, 0, 10, OWN, OWN, 0},
		{CLOSE, SOCKET_A, 0, 0, OWN, OWN, 0},
		{POLL, SOCKET_B, 0, 0, OWN, OWN, 0},
		{READ, SOCKET_B, 0, 1000, OWN, OWN, 0},
		{READ, SOCKET_B, 0, 1000, OWN, OWN, 0},
		{SPLICE, SOCKET_B, PIPE_IN, 10, OWN, OWN, 0},
		{SEND, SOCKET_B, 0, 10, OWN, OWN, 0},
		{SENDFILE, FILE_A, SOCKET_B, 10, OWN, OWN, 0},
		{SEEK, FILE_A, 0, 0, 0, OWN, SEEK_CUR},
		{WRITE, PIPE_IN, 0, 10, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, SOCKET_B, 50, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 100, OWN, OWN, 0},
		{0},
	});
}

static int64_t random_bytes(uint64_t *random)
{
	static const int64_t bytes[] = {1,    7,     511,   4095,  4096,  4097,
					8192, 10000, 16384, 65535, 65536, 100000};
	uint64_t choice = test_random(random);

	if (choice & 1)
		return bytes[(choice >> 8) % (sizeof(bytes) / sizeof(bytes[0]))];
	return 1 + (int64_t)((choice >> 8) % 9000);
}

/* Any call on pipes and files that cannot sleep. */
static struct step random_step(uint64_t *random)
{
	static const int sources[] = {PIPE_OUT, FULL_OUT, FILE_A, FILE_B, PIPE_OUT, FULL_OUT};
	static const int sinks[] = {PIPE_IN, FULL_IN, FILE_B, APPEND, NULL_DEVICE, PIPE_IN};
	static const enum what whats[] = {READ,   READ,     WRITE,    WRITE, SPLICE, SPLICE,
					  TEE,    SENDFILE, COPY,     POLL,  SIZE,   SEEK,
					  RESIZE, SPLICE,   VMSPLICE, TEE};
	uint64_t choice = test_random(random);
	struct step step = {
		.what = whats[choice % (sizeof(whats) / sizeof(whats[0]))],
		.a = sources[(choice >> 8) % 6],
		.b = sinks[(choice >> 16) % 6],
		.bytes = random_bytes(random),
		.from = OWN,
		.to = OWN,
		.flags = choice >> 24 & 1 ? NB : 0,
	};

	if ((step.a == FILE_A || step.a == FILE_B) && choice >> 25 & 1)
		step.from = (int64_t)(test_random(random) % (FILE_BYTES + 1000));
	if (step.b == FILE_B && choice >> 26 & 1)
		step.to = (int64_t)(test_random(random) % 200000);
	switch (step.what) {
	case WRITE:
		step.a = step.b;
		step.from = step.to;
		break;
	case VMSPLICE:
		if (choice >> 27 & 1)
			step.a = step.b;
		step.from = step.to = OWN;
		step.flags = NB;
		break;
	case POLL:
		if (choice >> 27 & 1)
			step.a = step.b;
		break;
	case SEEK:
		step.a = choice >> 27 & 1 ? FILE_A : FILE_B;
		step.from = (int64_t)(test_random(random) % (FILE_BYTES + 1000));
		step.flags = SEEK_SET;
		break;
	case RESIZE:
		step.bytes *= 2;
		break;
	case SENDFILE:
		/* What is sent from a file to itself depends on the kernel's chunks. */
		if (step.a == FILE_B && step.b == FILE_B)
			step.a = FILE_A;
		step.to = OWN;
		break;
	default:
		break;
	}
	return step;
}

/*
 * A pipe's pages may be the file's own: it shows a later write, here as there. What the
 * simulator does not follow is how files share pages when one is overwritten with itself, so
 * the file that is written to is not the one that pipes refer to.
 */
TEST(random_calls_answer_alike)
{
	uint64_t random = test_seed();
	const char *given = getenv("FID_CALLS");
	unsigned rounds = given ? (unsigned)strtoul(given, NULL, 0) / 200 : 150;
	unsigned calls = 0;

	for (unsigned round = 0; round < rounds; round++) {
		struct both *both = both_new(test_random(&random));

		for (unsigned i = 0; i < 200; i++, calls++) {
			struct step step = random_step(&random);

			if (step.a == FILE_B && step.what != SEEK && step.what != READ &&
			    step.what != SIZE && step.what != WRITE && step.what != POLL)
				step.a = FILE_A;
			both_compare(both, &step, i + 1);
		}
		both_free(both);
	}
	test_note("%u calls compared", calls);
}
