/* SPDX-License-Identifier: MIT */
/*
 * Descriptors of every kind, each with a peer that feeds or drains its far end with chunks of
 * random sizes and slow phases, so that a test can say: these bytes in, exactly these out.
 */
#ifndef FID_ENDS_H
#define FID_ENDS_H

#include "child.h"

#include <fid.h>
#include <pthread.h>

enum end_kind {
	END_FILE, /* in the scratch directory, which is ext4 on most machines */
	END_TMPFS,
	END_APPEND,
	END_DIRECT,
	END_MEMFD,
	END_PIPE,
	END_FIFO,
	END_TCP,
	END_UNIX,
	END_PTY,
	END_ZERO,
	END_NULL,
	END_FULL,
	END_PROC_STATUS,
	END_PROC_MEMINFO,
	END_PROC_CMDLINE,
	END_EVENTFD,
	END_KINDS,
};

const char *end_name(enum end_kind kind);

/* True for the kinds whose bytes come from or go to a peer. */
bool end_is_stream(enum end_kind kind);

/* A thread at the far end. Begin with PEER_NONE. */
struct peer {
	pthread_t thread;
	bool runs;
	int fd;
	bool slow;
	_Atomic bool stop;
	int watch; /* a terminal's master, while its slave is fed; or -1 */
	uint64_t random;
	const unsigned char *bytes; /* what to feed, or what is expected */
	size_t count;
	/* The outcome of a drain, to be read after peer_join(). */
	_Atomic size_t drained;
	size_t wrong_at; /* the first byte that is not the expected one, or SIZE_MAX */
	unsigned char *keep;
};

#define PEER_NONE ((struct peer){.fd = -1, .watch = -1})

enum { KEEP_BYTES = 256 << 10 };

struct end {
	enum end_kind kind;
	int fd; /* what the flow gets */
	struct peer peer;
	unsigned char *keep; /* where nothing is expected: what arrived; free() it */
	char path[512];
};

/* Bytes to move; of a kind that no shift or doubling leaves equal. */
void content_fill(unsigned char *bytes, size_t count, uint64_t seed);

/* The same, as words that are small enough for the counter of an eventfd. */
void content_fill_words(unsigned char *bytes, size_t count, uint64_t seed);

/*
 * Opens a source that has exactly these bytes and then ends; the peer of a stream starts at
 * once. Kinds with bytes of their own (/dev/zero, /proc) ignore them.
 */
void end_open_source(struct end *end, enum end_kind kind, const unsigned char *bytes,
		     size_t count, bool slow);

/*
 * Opens an empty sink, whose peer compares what arrives with bytes. If bytes is NULL the first
 * KEEP_BYTES of what arrives are kept instead.
 */
void end_open_sink(struct end *end, enum end_kind kind, const unsigned char *bytes,
		   size_t count, bool slow);

void end_nonblocking(struct end *end);

/*
 * Reads what the flow left in a source up to its end, compares it with bytes and returns how
 * many there were.
 */
size_t end_leftover(struct end *source, const unsigned char *bytes, size_t count);

/* Closes a source and ends its peer. */
void end_close_source(struct end *source);

/*
 * Closes a sink to which so many bytes were delivered, waits for its peer, fails if a byte
 * differs from what is expected, and returns how many arrived; for a sink that swallows bytes
 * that is what was delivered.
 */
size_t end_close_sink(struct end *sink, const unsigned char *bytes, size_t count,
		      size_t delivered);

/* A connected pair of stream sockets on the loopback interface. */
void tcp_pair(int ret_fds[2]);

/* A pipe, or a connected pair of END_TCP or END_UNIX sockets: fds[0] is read, fds[1] written.
 */
void stream_pair(enum end_kind kind, int fds[2]);

/* A pair that cannot hold much; pipe_bytes 0: the usual. */
void small_pair(enum end_kind kind, int pipe_bytes, int fds[2]);

/*
 * Takes at most so many pipes until this user's pages are gone: a new one then has two pages.
 * Returns how many, or 0 when there is no end to the pages. All but root have such a budget.
 */
unsigned pipes_exhaust(int (*pipes)[2], unsigned most);

/* A terminal that passes on bytes as they are. */
void pty_pair(int *ret_master, int *ret_slave);

void peer_feed(struct peer *peer, int fd, const unsigned char *bytes, size_t count, bool slow);
void peer_drain(struct peer *peer, int fd, const unsigned char *bytes, size_t count, bool slow);
void peer_join(struct peer *peer);

/* The name of the file system that a file is on. */
const char *file_system_name(int fd);

/* Fails unless the account balances: in is out, held and salvaged, and so on. */
void receipt_check(const struct fid_receipt *receipt);

#endif
