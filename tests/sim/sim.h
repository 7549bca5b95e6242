/* SPDX-License-Identifier: MIT */
/*
 * A kernel that does not exist: every call of lib/kernel/kernel.h, simulated, so that a test
 * can choose what each call answers, when time passes and who hangs up, and can say afterwards
 * which byte went where.
 *
 * Bytes are not stored. A source holds a stream whose byte at position p is a function of
 * (seed, stream, p); what lies in a pipe or a socket is a list of extents of such streams. A
 * transfer of any size therefore costs as much as it has extents, and the sink still knows for
 * each byte whether it is the right one.
 *
 * The simulator judges as well as it simulates. A byte out of place, a descriptor that leaks or
 * is closed twice, SIGPIPE that reaches the caller, a call that sleeps for ever or sleeps on a
 * pipe that others share, calls without end that move nothing: each ends the test.
 */
#ifndef FID_SIM_H
#define FID_SIM_H

#include "kernel/kernel.h"

#include <setjmp.h>

#define SIM_NEVER UINT64_MAX

enum {
	SIM_PAGE = 4096,
	SIM_FDS = 512,
	SIM_FD_FIRST = 100,
	SIM_OBJECTS = 160,
	SIM_RING = 512,            /* extents that a pipe or a socket can hold */
	SIM_RUN = 64,              /* extents that one call can move */
	SIM_MAPS = 128,            /* mappings at once */
	SIM_SLOTS = 16,            /* of a new pipe */
	SIM_SLOTS_MAX = 256,       /* of the largest pipe: 1 MiB */
	SIM_SEND_BYTES = 64 << 10, /* what a socket queues unless a test says otherwise */
	SIM_BLOCK = 1 << 15,
	SIM_SAYS_ZERO = 1,        /* a refusal that is not an errno value: the call answers 0 */
	SIM_IDLE_CALLS_MAX = 128, /* calls in a row that move nothing before it is spinning */
};

/* The calls, as the log and the fault injection name them. */
enum sim_call {
	SIM_NONE = 0,
	SIM_READ,
	SIM_WRITE,
	SIM_SPLICE,
	SIM_TEE,
	SIM_VMSPLICE,
	SIM_SENDFILE,
	SIM_COPY_FILE_RANGE,
	SIM_REFLINK,
	SIM_STAT,
	SIM_STATUS_FLAGS,
	SIM_SOCKET,
	SIM_SOCKET_ERROR,
	SIM_IS_TERMINAL,
	SIM_FILE_SYSTEM,
	SIM_SEEK,
	SIM_PIPE,
	SIM_PIPE_RESIZE,
	SIM_PIPE_SIZE,
	SIM_CLOSE,
	SIM_POLL,
	SIM_MAP,
	SIM_DISCARD,
	SIM_PEEK,
	SIM_SLAB_MAP,
	SIM_SLAB_IS_HUGE,
	SIM_MEMORY_FILE,
	SIM_MEMORY_FILE_MAP,
	SIM_MEMORY_FILE_SEAL,
	SIM_CALLS,
};

/* ---- Bytes ------------------------------------------------------------------------------ */

enum sim_what {
	SIM_STREAM = 0, /* which: the stream, at: the position */
	SIM_FILE,       /* a reference: which: the object, at: the offset */
	SIM_MEMORY,     /* a reference: at: the address, which: the huge page it is on, or 0 */
	SIM_LITERAL,    /* at: the address of bytes that the simulator owns, which: as above */
	SIM_ZEROS,
};

/* The stream of every source, and the one that overwrites a source behind the flow's back. */
enum { SIM_STREAM_SOURCE = 0, SIM_STREAM_LATER = 1 };

struct sim_extent {
	uint64_t at;
	uint64_t bytes;
	uint32_t which;
	uint16_t phase; /* where in its first page it begins */
	uint8_t what;   /* enum sim_what */
	bool merges;    /* a write may append to its last page */
	bool joined;    /* its first page is also the last one of the extent before it */
};

/* A bounded queue of extents. */
struct sim_ring {
	struct sim_extent *extent;
	uint32_t head;
	uint32_t count;
	uint64_t bytes;
};

/* What one call moves. */
struct sim_run {
	struct sim_extent extent[SIM_RUN];
	uint32_t count;
	uint64_t bytes;
};

/* The contents of a file: extents in order of offset, without gaps. */
struct sim_content {
	struct sim_piece {
		uint64_t offset;
		struct sim_extent extent;
	} * piece;
	uint32_t count;
	uint32_t room;
	uint64_t size;
};

/* ---- Objects ---------------------------------------------------------------------------- */

enum sim_kind {
	SIM_REGULAR = 0,
	SIM_FIFO,
	SIM_TCP,
	SIM_UNIX,
	SIM_TERMINAL,
	SIM_NULL,
	SIM_FULL,
	SIM_DIRECTORY,
	SIM_KINDS,
};

/* What a peer does when it has had its share of bytes. */
enum sim_end {
	SIM_END_CLOSE = 0,
	SIM_END_RESET, /* ECONNRESET on a socket, else the same as SIM_END_CLOSE */
	SIM_END_IDLE,  /* nothing, for ever */
};

/* Who produces into a source or drains a sink. */
struct sim_peer {
	bool is_there;
	bool ended;
	uint8_t end;         /* enum sim_end */
	uint64_t next_ns;    /* when it acts; SIM_NEVER: it waits for the other side */
	uint64_t bytes_left; /* before it ends */
	uint32_t bytes_max;  /* of one action */
	uint32_t delay_ns;   /* at most, between two actions */
	uint32_t lends; /* of a producer into a pipe: the descriptor of a regular file whose
			 * pages it gives, as vmsplice and splice do; 0: it writes */
};

/* What a sink must receive. */
struct sim_oracle {
	bool is_on;
	uint64_t first;        /* position in the stream of the first byte */
	uint64_t offset_first; /* the file offset that it belongs at */
	uint64_t accepted;     /* position of the next byte to come in */
	uint64_t drained;      /* position of the next byte that the peer reads */
	uint64_t changed;      /* bytes that changed after they were delivered */
};

struct sim_object {
	bool in_use;
	bool is_private; /* a pipe that was made through kernel->pipe */
	uint8_t kind;    /* enum sim_kind */
	uint32_t index;
	uint32_t readers; /* descriptors and peers */
	uint32_t writers;
	uint32_t other; /* the far end of a socket: the object whose ring takes what is sent */
	uint64_t inode;
	uint64_t device;
	uint64_t magic; /* of its file system */

	/* Regular files. */
	struct sim_content content;
	uint64_t room;  /* offsets from here on take no bytes */
	int room_error; /* and writing there says this; ENOSPC unless a test says otherwise */
	int64_t size_told; /* what stat says; -1: the truth */
	bool early_end;    /* splice, sendfile and copy_file_range believe size_told */
	bool hides_error;  /* splice and sendfile say 0 where read says error */
	bool no_splice;    /* splice and sendfile from it are EINVAL, as from some of /proc */
	uint64_t error_at; /* reading there fails; SIM_NEVER: nowhere */
	int error;         /* with this */
	uint64_t modified_ns;
	bool is_memory; /* made by memory_file */
	bool sealed;
	uint32_t maps_writable;
	unsigned char *memory;
	size_t memory_bytes;
	void *reserved;
	size_t reserved_bytes;

	/* Pipes, and what waits to be read from a socket or terminal. */
	struct sim_ring ring;
	uint32_t slots; /* of a pipe */
	uint32_t slots_used;
	uint64_t queue_bytes_max; /* of a socket or terminal */
	uint32_t segment_bytes;   /* how a splice cuts it: one slot or more a segment */
	int pending_error;        /* SO_ERROR */
	bool noisy;      /* its error queue holds something: POLLERR, and SO_ERROR is 0 */
	bool write_shut; /* the far end sends no more: end of file after the ring */
	bool read_shut;  /* the far end reads no more */

	/* As a sink: from so many accepted bytes on, splice and sendfile to it are refused. */
	uint64_t refuses_from;
	int refuses_error;

	struct sim_peer producer;
	struct sim_peer consumer;
	struct sim_oracle oracle;
};

struct sim_fd {
	bool is_open;
	bool was_open;
	bool is_borrowed; /* the caller's: fid may not close it */
	bool reads;
	bool writes;
	uint32_t object;
	int flags; /* O_NONBLOCK, O_APPEND, O_DIRECT */
	uint64_t offset;
};

/* ---- The kernel ------------------------------------------------------------------------- */

/* What this kernel allows. Zero means that of a stock kernel with everything allowed. */
struct sim_world {
	const char *name;
	/* Refusals: a negative errno value, 0: it works. */
	int splice;
	int tee;
	int vmsplice;
	int vmsplice_gift;
	int sendfile;
	int copy_file_range;
	int reflink; /* 0: -EOPNOTSUPP unless reflinks is set */
	int pipe;
	int pipe_grow;
	bool reflinks;
	bool vmsplice_copies;
	bool empty_pipe_says_zero; /* gVisor */
	bool no_write_nosignal;
	bool no_memory;     /* map */
	bool no_slabs;      /* slab_map */
	bool no_huge_pages; /* slab_is_huge */
	int discard;
	int memory_file;
	bool no_memory_file_map;
	int memory_file_seal;
	uint32_t pipe_slots;   /* of a new pipe; 0: SIM_SLOTS */
	uint32_t slots_budget; /* slots that the user's pipes may have in all; 0: no bound */
	/* How unkind it is, in thousandths. */
	uint32_t short_permille;  /* calls that move less than they could */
	uint32_t again_permille;  /* EAGAIN from a non-blocking socket that is ready */
	uint64_t chunk_bytes_max; /* no call moves more; 0: no bound */
	uint64_t signal_every_ns; /* a signal interrupts a sleep; 0: none */
};

struct sim {
	struct fid_kernel kernel; /* must be first */
	struct sim_world world;
	uint64_t seed;
	uint64_t random;
	uint64_t now_ns;
	uint64_t next_ns;  /* the earliest action of a peer */
	uint64_t acted_ns; /* when a peer last acted */
	uint64_t signal_ns;
	uint32_t generation;

	/* Faults: the call of this number, counted from 1, and with sticky every later one of
	 * its kind, answers fail_error. */
	uint64_t fail_at;
	int fail_error;
	bool fail_sticky;
	enum sim_call fail_call; /* what that call was */
	int fail_fd[2];          /* on which descriptors */
	size_t fail_bytes;       /* and how much it wanted, if it was a read */

	/* What the test demands of the calls that follow. */
	bool no_sleep;            /* only poll may sleep */
	bool no_poll_sleep;       /* and not even that */
	bool stable;              /* delivered bytes may not change */
	bool may_sleep_on_shared; /* splice may sleep with the lock of a pipe that others see */
	bool is_sole_reader;      /* nobody else reads what the caller reads */
	bool takes_sigpipe;       /* the caller expects SIGPIPE: it is counted */
	uintptr_t hole;           /* memory of the process that is not there */
	size_t hole_bytes;

	/* The account. */
	uint64_t calls;      /* in this round */
	uint64_t calls_ever; /* in all rounds */
	uint64_t idle_calls; /* in a row */
	int guilty;          /* of the present call, as in last_error */
	uint64_t eagains;    /* EAGAIN, and polls that found something not ready */
	uint64_t eintrs;
	uint64_t sleeps;
	uint64_t changed; /* bytes that changed after they were delivered */
	struct sim_error {
		enum sim_call call;
		int error;
		int fd[2];
		int guilty;         /* 0: the source, 1: the sink, -1: the call itself */
	} last_error, error_before; /* the last two that were neither EAGAIN nor EINTR */
	uint8_t *log; /* enum sim_call of each call of the round, when a test wants it */
	uint64_t log_size;

	/* SIGPIPE of the only thread. */
	bool sigpipe_blocked;
	bool sigpipe_pending;
	bool sigpipe_pending_first; /* as the caller had them */
	bool sigpipe_blocked_first;
	uint64_t sigpipes; /* that reached a caller who expects them */
	bool sigpipe_held;
	bool lends_memory;  /* a pipe may refer to memory of the process */
	bool sigpipe_maybe; /* a call while it was held may have raised one */

	struct sim_fd fd[SIM_FDS];
	uint32_t fd_next;
	uint32_t fds_open;
	struct sim_object object[SIM_OBJECTS];
	uint64_t objects_made;
	uint32_t objects; /* used slots are below this */
	uint32_t peers[SIM_OBJECTS];
	uint32_t peer_count;
	uint32_t slots_private;
	struct sim_mapping {
		void *memory;
		size_t bytes;
		uint32_t *slab; /* of a slab_map: the number of each huge page */
		struct sim_object *file;
		bool writable; /* of a file's */
	} map[SIM_MAPS];
	uint32_t maps;
	uint32_t slabs_made;
	struct sim_block {
		struct sim_block *next;
		size_t used;
		size_t room;
		unsigned char bytes[];
	} * literals;

	jmp_buf *catch; /* where a failure goes; NULL: it ends the test */
	char failure[512];
	unsigned char table[2 * SIM_BLOCK]; /* what streams are made of */
};

static inline struct sim *sim_of(struct fid_kernel *kernel)
{
	return (struct sim *)kernel;
}

/* Makes a kernel without any descriptor. */
struct sim *sim_new(void);

/* Begins a round: everything is as new, cheaper than sim_new(). world may be NULL. */
void sim_start(struct sim *sim, uint64_t seed, const struct sim_world *world);

/*
 * Ends a round: what fid took from the kernel must have been given back, the caller's
 * descriptors must be open, and SIGPIPE must be as it was.
 */
void sim_finish(struct sim *sim);

struct sim *sim_free(struct sim *sim);

/* Ends the test with a sentence about what fid did wrong. */
_Noreturn void sim_fail(struct sim *sim, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

const char *sim_call_name(enum sim_call call);

/* ---- What the caller has ---------------------------------------------------------------- */

/* A regular file of size bytes of the source's stream, open with flags; offset 0. */
int sim_regular(struct sim *sim, uint64_t size, int flags);

/* A second descriptor of the same object, with an offset of its own. */
int sim_reopen(struct sim *sim, int fd, int flags);

/* The two ends of a pipe or of a unix socket pair, with nobody else at them. */
void sim_pipe_pair(struct sim *sim, int ends[2], int flags);
void sim_socket_pair(struct sim *sim, int ends[2], int flags);

/*
 * One end of a pipe, a socket or a terminal whose other end is a peer, which produces bytes of
 * the source's stream and then does end, or drains without end.
 */
int sim_source(struct sim *sim, enum sim_kind kind, int flags, uint64_t bytes,
	       enum sim_end end);
int sim_sink(struct sim *sim, enum sim_kind kind, int flags);

/* /dev/null, /dev/full or a directory. */
int sim_device(struct sim *sim, enum sim_kind kind, int flags);

/* The object of a descriptor, and the one where a sink's bytes end: the far end of a socket. */
struct sim_object *sim_object(struct sim *sim, int fd);
struct sim_object *sim_far(struct sim *sim, int fd);

/* From now on fd must receive the source's stream from this position on. */
void sim_expect(struct sim *sim, int fd, uint64_t position);

/*
 * How many huge pages of slabs a pipe or socket refers to, pages that the process has dropped
 * since included.
 */
uint32_t sim_slabs_referenced(struct sim *sim, const struct sim_object *object);

/* How many bytes fd has received since sim_expect(). */
uint64_t sim_received(struct sim *sim, int fd);

/* The caller's close(2) of a descriptor of its own. */
void sim_close_borrowed(struct sim *sim, int fd);

/* Somebody overwrites a part of a regular file. */
void sim_overwrite(struct sim *sim, int fd, uint64_t offset, uint64_t bytes);

/* Lets the peers drain what was delivered. */
void sim_settle(struct sim *sim);

/* The caller's poll(2): not a call of the engine. */
int sim_wait(struct sim *sim, struct pollfd *fds, size_t count, int timeout_ms);

/* The source's stream: fill memory with it, or find the first byte that differs from it. */
void sim_stream_fill(const struct sim *sim, uint32_t stream, uint64_t position, void *to,
		     size_t bytes);
size_t sim_stream_differs(const struct sim *sim, uint32_t stream, uint64_t position,
			  const void *from, size_t bytes);

/* ---- Between the files of the simulator ------------------------------------------------- */

uint64_t sim_random(struct sim *sim);

/* bytes.c */
void *sim_literal(struct sim *sim, const void *from, size_t bytes);
void sim_literals_free(struct sim *sim);
void sim_extent_fill(struct sim *sim, const struct sim_extent *extent, void *to);
/* The first part of extent that lies on one piece of what it refers to, resolved. */
struct sim_extent sim_extent_resolve(struct sim *sim, const struct sim_extent *extent);
/* The same, and what only refers to memory becomes bytes that the simulator owns. */
struct sim_extent sim_extent_own(struct sim *sim, const struct sim_extent *extent);
void sim_extent_skip(struct sim_extent *extent, uint64_t bytes);
void sim_content_write(struct sim_content *content, uint64_t offset,
		       const struct sim_extent *extent);
struct sim_extent sim_content_at(const struct sim_content *content, uint64_t offset,
				 uint64_t bytes);
void sim_content_clear(struct sim_content *content);

/* pipes.c */
void sim_ring_clear(struct sim_object *object);
void sim_ring_peek(const struct sim_object *object, uint64_t bytes, uint64_t segment_bytes,
		   struct sim_run *run);
void sim_ring_drop(struct sim_object *object, uint64_t bytes);
/*
 * Puts extents into a pipe as slots of their own; returns how many bytes found room. moves:
 * they leave another pipe, and a page that does so whole may still be appended to.
 */
uint64_t sim_pipe_put(struct sim_object *object, const struct sim_run *run, bool moves);
/* Puts bytes into a pipe as write(2) does, which may append to the last page. */
uint64_t sim_pipe_write(struct sim_object *object, struct sim_extent extent,
			uint64_t write_bytes);
/* Puts extents into a queue that counts bytes. */
uint64_t sim_queue_put(struct sim_object *object, const struct sim_run *run);
bool sim_pipe_is_full(const struct sim_object *object);
uint64_t sim_queue_room(const struct sim_object *object);

/* objects.c */
struct sim_object *sim_object_new(struct sim *sim, enum sim_kind kind);
void sim_object_drop(struct sim *sim, struct sim_object *object);
int sim_fd_new(struct sim *sim, struct sim_object *object, bool reads, bool writes, int flags,
	       bool is_borrowed);
void sim_fd_close(struct sim *sim, int fd);
short sim_ready(struct sim *sim, const struct sim_fd *fd);
void sim_peers_run(struct sim *sim);
void sim_peer_wake(struct sim *sim, struct sim_object *object);
void sim_peer_join(struct sim *sim, struct sim_object *object);
/* Sleeps until a peer has acted. Returns 0 or -EINTR. */
int sim_sleep(struct sim *sim, enum sim_call call, uint64_t until_ns);
int sim_poll_now(struct sim *sim, struct pollfd *fds, size_t count);

/* oracle.c */
void sim_oracle_accept(struct sim *sim, struct sim_object *object,
		       const struct sim_extent *extent, uint64_t bytes, uint64_t offset);
/* The sink's peer reads an extent of it. */
void sim_oracle_drain(struct sim *sim, struct sim_object *object, struct sim_extent extent);

/* calls.c */
void sim_table_fill(struct fid_kernel *kernel);

#endif
