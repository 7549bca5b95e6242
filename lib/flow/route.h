/* SPDX-License-Identifier: MIT */
/*
 * The choice of a way: a pure function from facts about two descriptors to a ladder of methods.
 */
#ifndef FID_ROUTE_H
#define FID_ROUTE_H

#include "kernel/kernel.h"

/* What a descriptor is, as far as the choice of a way needs it. */
enum fid_kind {
	FID_KIND_UNKNOWN =
		0, /* not asked, or none of the others: eventfd, timerfd, inotify ... */
	FID_KIND_REGULAR,
	FID_KIND_PIPE,   /* pipe or FIFO */
	FID_KIND_TCP,    /* an Internet stream socket */
	FID_KIND_UNIX,   /* a unix stream socket */
	FID_KIND_SOCKET, /* any other socket: datagrams, packets */
	FID_KIND_TERMINAL,
	FID_KIND_MEMORY, /* /dev/null, /dev/zero, /dev/full, /dev/random: never sleeps long */
	FID_KIND_CHARACTER,
	FID_KIND_BLOCK,
	FID_KIND_DIRECTORY,
	FID_KINDS,
};

/* One end, as seen by fstat, F_GETFL and getsockopt. */
struct fid_end {
	uint8_t kind;  /* enum fid_kind */
	bool readable; /* by its access mode */
	bool writable;
	bool append;      /* O_APPEND */
	bool direct;      /* O_DIRECT */
	bool nonblocking; /* O_NONBLOCK */
	bool remote; /* its pages may come from a process or network: FUSE, NFS, CIFS, 9p */
	bool plain;  /* a regular file whose file system copies as any other program would */
	bool page_cache; /* a regular file whose pages splice is known to pass on by reference
			  */
	bool offset_given;
	bool is_null; /* /dev/null */
	uint64_t device;
	uint64_t inode;
	uint64_t size; /* st_size: a hint about what to expect and never believed */
};

/* One method of a ladder. */
struct fid_rung {
	uint8_t method; /* enum fid_method */
	uint8_t class_; /* enum fid_class: how its bytes count */
	bool stable;    /* what it delivers cannot change afterwards */
	bool asks;      /* poll the source before each call, which must not sleep for it */
	uint32_t chunk_bytes;
	uint32_t pipe_bytes; /* the private pipe to ask for; 0: none is needed */
	const char *reason;  /* why it stands here; static storage */
};

struct fid_ladder {
	uint32_t count;
	bool start_small; /* read and write first, and take a pipe when the stream is fast */
	struct fid_rung rung[FID_ROUTES];
};

/*
 * The ladder from source to sink. facts may be NULL: nothing is known about the kernel yet.
 * bytes_expected is a hint: bytes_max or st_size, UINT64_MAX for a stream. The result may have
 * no rung: then nothing that options allow can move these bytes. ret_refused, by method, says
 * why a method is not on the ladder, or NULL where it is; it may be NULL itself.
 */
void fid_route(const struct fid_end *source, const struct fid_end *sink,
	       const struct fid_options *options, const struct fid_facts *facts,
	       uint64_t bytes_expected, struct fid_ladder *ret_ladder,
	       const char *ret_refused[FID_ROUTES]);

/*
 * The ladder of a fan's sink: tee for a pipe, a private pipe for what splices, and a copy.
 * source_is_stable: nobody can write to the pages that it is fed.
 */
void fid_route_fed(const struct fid_end *sink, const struct fid_facts *facts,
		   bool source_is_stable, struct fid_ladder *ret_ladder);

/* What fid_route() answers for a small transfer between any two descriptors, without a look. */
void fid_route_plain(struct fid_ladder *ret_ladder);

static inline bool fid_kind_is_stream_socket(uint8_t kind)
{
	return kind == FID_KIND_TCP || kind == FID_KIND_UNIX;
}

static inline bool fid_kind_is_socket(uint8_t kind)
{
	return kind == FID_KIND_SOCKET || fid_kind_is_stream_socket(kind);
}

/* A descriptor that may make a reader or writer wait. */
static inline bool fid_kind_may_wait(uint8_t kind)
{
	return kind != FID_KIND_REGULAR && kind != FID_KIND_MEMORY && kind != FID_KIND_BLOCK &&
	       kind != FID_KIND_DIRECTORY;
}

/* Below this many expected bytes read and write win: no facts are asked, no pipe is taken. */
#define FID_SMALL_BYTES ((uint64_t)16 << 10)

#endif
