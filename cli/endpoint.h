/* SPDX-License-Identifier: MIT */
/*
 * Where bytes come from and go to, as named on the command line.
 */
#ifndef FID_CLI_ENDPOINT_H
#define FID_CLI_ENDPOINT_H

#include <fid.h>
#include <stdbool.h>
#include <sys/stat.h>

enum endpoint_kind {
	ENDPOINT_PATH = 0,
	ENDPOINT_DESCRIPTOR, /* "-", "fd:N" */
	ENDPOINT_TCP,
	ENDPOINT_TCP_LISTEN,
	ENDPOINT_UNIX,
	ENDPOINT_UNIX_LISTEN,
};

struct endpoint {
	const char *name; /* for messages */
	enum fid_side side;
	enum endpoint_kind kind;
	const char *path; /* of a file or a unix socket */
	char *host;       /* NULL: none was given */
	const char *port;
	char *joined; /* DIRECTORY/NAME, where the sink is a directory */
	int fd;
	bool created;     /* this run made the file */
	bool is_new_name; /* it may have: a link to nothing led there */
	uint32_t idle_ms; /* so long the peer may take nothing at the end; 0: for ever */
	int error;        /* what syncing or closing failed with; 0 */
	struct stat stat;
};

/* Understands a name. Returns false, after a message, when it is not one (STATUS_USAGE). */
bool endpoint_parse(struct endpoint *endpoint, const char *name, enum fid_side side);

/*
 * Open what was understood. Neither changes a byte of a file: endpoint_truncate() does. Both
 * return false after a message. Source tells the name of the file in a sink that is a
 * directory, and the mode of a new one; NULL: no directory is taken, and the mode is 0666.
 */
bool endpoint_open_source(struct endpoint *source);
bool endpoint_open_sink(struct endpoint *sink, const struct endpoint *source, bool append);

/* Says that a source that is a path cannot be opened. Returns false. */
bool endpoint_missing(const struct endpoint *source, int error);

/*
 * A directory stands for the file in it that has the source's last name, as with cp(1). Returns
 * false after a message.
 */
bool endpoint_enter_directory(struct endpoint *sink, const struct endpoint *source);

/*
 * What a name stands for, or what the descriptor is, as stat: nothing is opened. Returns false,
 * with errno, when there is nothing such; a socket that is to be connected is EOPNOTSUPP.
 */
bool endpoint_look(struct endpoint *endpoint);

/*
 * Whether reading source into sink would read what it wrote, or destroy what it is to read.
 * at: where in source reading begins, or -1: at the descriptor's own offset.
 */
bool endpoint_onto_itself(const struct endpoint *source, const struct endpoint *sink,
			  int64_t at);

/* Whether that descriptor is the same file, pipe or socket as the endpoint. */
bool endpoint_is(const struct endpoint *endpoint, const struct stat *stat);

/* Empties a regular file that was there before. Returns false after a message. */
bool endpoint_truncate(struct endpoint *sink);

/* Removes the sink again if this run made it. */
void endpoint_abandon(struct endpoint *sink);

/* Frees what endpoint_parse() and the opening allocated; descriptors stay as they are. */
void endpoint_forget(struct endpoint *endpoint);

/* Whether --sync can be had of it: a file, a disk. */
bool endpoint_can_sync(const struct endpoint *sink);

/*
 * Has the disk take the sink's bytes, and its name where that may be new. Returns false after a
 * message.
 */
bool endpoint_sync(struct endpoint *sink);

/*
 * Where several sinks are closed one after the other: tells the peer of a socket sink already
 * that no more will come.
 */
void endpoint_end(const struct endpoint *sink);

/*
 * Ends an endpoint: a socket sink tells its peer that no more will come and waits until the
 * peer's kernel has it all, and what only now is known of the last bytes is reported. Returns
 * false after such a message. A signal ends the waiting; see signals_caught().
 */
bool endpoint_close(struct endpoint *endpoint);

static inline bool endpoint_is_pipe(const struct endpoint *endpoint)
{
	return S_ISFIFO(endpoint->stat.st_mode);
}

static inline bool endpoint_is_regular(const struct endpoint *endpoint)
{
	return S_ISREG(endpoint->stat.st_mode);
}

#endif
