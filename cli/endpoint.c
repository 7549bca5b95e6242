/* SPDX-License-Identifier: MIT */
#include "endpoint.h"

#include "clock.h"
#include "print.h"
#include "signals.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static bool fails(const struct endpoint *endpoint, int error, const char *call)
{
	print_failure(endpoint->name, endpoint->side, error, call);
	return false;
}

/* ---- Names ---- */

static bool wrong(const char *name, const char *what)
{
	char shown[512];

	print_name(shown, sizeof(shown), name);
	print_error("'%s': %s", shown, what);
	print_hint("a file of that name is './%s'", shown);
	return false;
}

/* All digits, and at most most. Returns -1 when it is not. */
static long number(const char *text, long most)
{
	long value = 0;

	if (!*text)
		return -1;
	for (; *text; text++) {
		if (!isdigit((unsigned char)*text))
			return -1;
		value = value * 10 + (*text - '0');
		if (value > most)
			return -1;
	}
	return value;
}

/* "HOST:PORT", "[HOST]:PORT", and for a listener "PORT". */
static bool parse_address(struct endpoint *endpoint, const char *address, bool listens)
{
	const char *colon = strrchr(address, ':');
	const char *host = address;
	size_t length = colon ? (size_t)(colon - address) : 0;

	endpoint->port = colon ? colon + 1 : address;
	if (!colon && !listens)
		return wrong(endpoint->name, "want tcp:HOST:PORT");
	if (number(endpoint->port, 65535) < (listens ? 0 : 1))
		return wrong(endpoint->name, "the port is a number up to 65535");
	if (!colon)
		return true;
	if (length >= 2 && host[0] == '[' && host[length - 1] == ']') {
		host++;
		length -= 2;
	} else if (memchr(host, ':', length)) {
		return wrong(endpoint->name,
			     "an IPv6 address stands in brackets: tcp:[::1]:PORT");
	}
	if (length == 0)
		return wrong(endpoint->name, "the host is missing");
	endpoint->host = strndup(host, length);
	if (!endpoint->host)
		return fails(endpoint, ENOMEM, NULL);
	return true;
}

static bool parse_descriptor(struct endpoint *endpoint, const char *digits)
{
	long fd = number(digits, 1 << 30);

	if (fd < 0)
		return wrong(endpoint->name, "want fd:N, a descriptor's number");
	endpoint->fd = (int)fd;
	return true;
}

bool endpoint_parse(struct endpoint *endpoint, const char *name, enum fid_side side)
{
	static const struct {
		const char *scheme;
		enum endpoint_kind kind;
	} schemes[] = {
		{"fd:", ENDPOINT_DESCRIPTOR},           {"tcp:", ENDPOINT_TCP},
		{"tcp-listen:", ENDPOINT_TCP_LISTEN},   {"unix:", ENDPOINT_UNIX},
		{"unix-listen:", ENDPOINT_UNIX_LISTEN},
	};

	*endpoint = (struct endpoint){.name = name, .side = side, .path = name, .fd = -1};
	if (!*name) {
		print_error("the name of a %s is empty",
			    side == FID_SIDE_SOURCE ? "SOURCE" : "SINK");
		print_hint("is a variable of the shell not set?");
		return false;
	}
	if (strcmp(name, "-") == 0) {
		endpoint->kind = ENDPOINT_DESCRIPTOR;
		endpoint->fd = side == FID_SIDE_SOURCE ? STDIN_FILENO : STDOUT_FILENO;
		endpoint->name = side == FID_SIDE_SOURCE ? "standard input" : "standard output";
		return true;
	}
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		size_t length = strlen(schemes[i].scheme);

		if (strncmp(name, schemes[i].scheme, length) != 0)
			continue;
		endpoint->kind = schemes[i].kind;
		endpoint->path = name + length;
		if (endpoint->kind == ENDPOINT_DESCRIPTOR)
			return parse_descriptor(endpoint, endpoint->path);
		if (endpoint->kind == ENDPOINT_TCP || endpoint->kind == ENDPOINT_TCP_LISTEN)
			return parse_address(endpoint, endpoint->path,
					     endpoint->kind == ENDPOINT_TCP_LISTEN);
		if (!*endpoint->path)
			return wrong(name, "the path of the socket is missing");
		return true;
	}
	return true;
}

/* ---- Sockets ---- */

static const char *call_of_socket(const struct endpoint *endpoint)
{
	bool listens = endpoint->kind == ENDPOINT_TCP_LISTEN ||
		       endpoint->kind == ENDPOINT_UNIX_LISTEN;

	return listens ? "listen" : "connect";
}

/* A failure whose error means something else here than for files, and so its hint. */
static void fails_as_socket(const struct endpoint *endpoint, int error, const char *hint)
{
	char shown[512];

	print_error("%s (%s): %s while in %s", print_name(shown, sizeof(shown), endpoint->name),
		    fid_side_name(endpoint->side), strerror(error), call_of_socket(endpoint));
	print_hint("%s", hint);
}

/* -1: no listening socket; errno says why. */
static int listen_at(const struct addrinfo *at)
{
	int on = 1, off = 0;
	int fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
	int error;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* "::" then stands for the IPv4 addresses as well. */
	if (at->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, 1) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

static int connect_to(const struct addrinfo *to)
{
	int fd = socket(to->ai_family, to->ai_socktype | SOCK_CLOEXEC, to->ai_protocol);
	int error;

	if (fd < 0)
		return -1;
	if (connect(fd, to->ai_addr, to->ai_addrlen) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

/* Says which port the kernel chose, where it was left to the kernel. */
static void tell_port(int fd)
{
	struct sockaddr_storage at = {0};
	socklen_t length = sizeof(at);
	unsigned port = 0;

	if (getsockname(fd, (struct sockaddr *)&at, &length) < 0)
		return;
	if (at.ss_family == AF_INET)
		port = ntohs(((struct sockaddr_in *)&at)->sin_port);
	else if (at.ss_family == AF_INET6)
		port = ntohs(((struct sockaddr_in6 *)&at)->sin6_port);
	print_error("listening on port %u", port);
}

/* The first address of the name that works. -1 after a message. */
static int open_address(const struct endpoint *endpoint)
{
	bool listens = endpoint->kind == ENDPOINT_TCP_LISTEN;
	struct addrinfo want = {
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICSERV | (listens ? AI_PASSIVE : 0),
	};
	/* Without a host: all addresses, "::" first, and 0.0.0.0 where there is no IPv6. */
	const char *hosts[] = {endpoint->host, NULL};
	struct addrinfo *list = NULL;
	int fd = -1, error = 0, found;

	if (!endpoint->host) {
		hosts[0] = "::";
		hosts[1] = "0.0.0.0";
	}
	for (int i = 0; i < 2 && hosts[i] && fd < 0; i++) {
		found = getaddrinfo(hosts[i], endpoint->port, &want, &list);
		if (found != 0) {
			char shown[512];

			if (found == EAI_SYSTEM) {
				fails(endpoint, errno, "getaddrinfo");
				return -1;
			}
			print_error("%s (%s): %s",
				    print_name(shown, sizeof(shown), endpoint->name),
				    fid_side_name(endpoint->side), gai_strerror(found));
			print_hint("is '%s' the name of a host?",
				   print_name(shown, sizeof(shown), hosts[i]));
			return -1;
		}
		for (struct addrinfo *at = list; at && fd < 0; at = at->ai_next) {
			fd = listens ? listen_at(at) : connect_to(at);
			if (fd < 0)
				error = errno;
		}
		freeaddrinfo(list);
	}
	if (fd < 0 && error == EACCES && listens)
		fails_as_socket(endpoint, error, "ports below 1024 want privileges");
	else if (fd < 0)
		fails(endpoint, error, call_of_socket(endpoint));
	return fd;
}

/*
 * Makes room for a listener at path: a socket there that nobody answers is a leftover and is
 * removed. Returns 0, or the errno value that tells why there is no room.
 */
static int remove_stale(const struct sockaddr_un *address)
{
	struct stat there;
	int probe, error;

	if (lstat(address->sun_path, &there) < 0)
		return errno == ENOENT ? 0 : errno;
	if (!S_ISSOCK(there.st_mode))
		return EEXIST;
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (probe < 0)
		return errno;
	error = connect(probe, (const struct sockaddr *)address, sizeof(*address)) < 0 ? errno
										       : 0;
	close(probe);
	if (error != ECONNREFUSED)
		return EADDRINUSE;
	return unlink(address->sun_path) < 0 && errno != ENOENT ? errno : 0;
}

static int listen_unix(const struct endpoint *endpoint, const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int error = 0;

	if (fd < 0 ||
	    (bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
	     (errno != EADDRINUSE || (error = remove_stale(address)) != 0 ||
	      bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)) ||
	    listen(fd, 1) < 0) {
		if (!error)
			error = errno;
		if (fd >= 0)
			close(fd);
		if (error == EEXIST)
			print_error("%s (%s): there is a file of that name that is no socket",
				    endpoint->name, fid_side_name(endpoint->side));
		else
			fails(endpoint, error, "listen");
		return -1;
	}
	return fd;
}

static int open_unix(const struct endpoint *endpoint)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(endpoint->path) >= sizeof(address.sun_path)) {
		fails(endpoint, ENAMETOOLONG, NULL);
		print_hint("the path of a unix socket has at most %zu bytes",
			   sizeof(address.sun_path) - 1);
		return -1;
	}
	strcpy(address.sun_path, endpoint->path);
	if (endpoint->kind == ENDPOINT_UNIX_LISTEN)
		return listen_unix(endpoint, &address);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno == ENOENT)
			fails_as_socket(endpoint, errno,
					"nobody listens there: start the listening side first");
		else
			fails(endpoint, errno, "connect");
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

/* Removes the name of a listener, unless somebody put something else there. */
static void remove_name(const struct endpoint *endpoint, const struct stat *ours)
{
	struct stat there;

	if (lstat(endpoint->path, &there) == 0 && there.st_dev == ours->st_dev &&
	    there.st_ino == ours->st_ino)
		unlink(endpoint->path);
}

/* Takes the one connection, and the listener with its name is gone. -1 after a message. */
static int accept_one(const struct endpoint *endpoint, int listener)
{
	bool named = endpoint->kind == ENDPOINT_UNIX_LISTEN;
	struct stat ours;
	int fd, result;

	/* The name has to go whatever happens, so that signals are caught here. */
	named = named && lstat(endpoint->path, &ours) == 0;
	if (named)
		signals_catch(0);
	do {
		result = signals_wait(listener);
		fd = result == 0 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
	} while (result == 0 && fd < 0 && (errno == ECONNABORTED || errno == EINTR));
	if (result == 0 && fd < 0)
		result = -errno;
	if (named)
		remove_name(endpoint, &ours);
	close(listener);
	signals_release();
	if (signals_caught())
		signals_die(signals_caught());
	if (fd < 0)
		fails(endpoint, result, "accept");
	return fd;
}

/*
 * Opening may sleep, and a signal there simply ends the program. Returns false when one came
 * before.
 */
static bool may_sleep(void)
{
	signals_let_go();
	return !signals_caught();
}

static bool open_socket(struct endpoint *endpoint)
{
	bool internet = endpoint->kind == ENDPOINT_TCP || endpoint->kind == ENDPOINT_TCP_LISTEN;
	int fd;

	if (!may_sleep())
		return fails(endpoint, EINTR, NULL);
	fd = internet ? open_address(endpoint) : open_unix(endpoint);
	if (fd >= 0 && endpoint->kind == ENDPOINT_TCP_LISTEN && number(endpoint->port, 0) == 0)
		tell_port(fd);
	if (fd >= 0 && strcmp(call_of_socket(endpoint), "listen") == 0)
		fd = accept_one(endpoint, fd);
	endpoint->fd = fd;
	return fd >= 0;
}

/* ---- Opening ---- */

/*
 * What this program opened nobody shares, so that it may be told never to sleep: splice(2) on a
 * blocking socket sleeps whatever its own flags say. A file that another process may have open
 * through the same description is left as it is.
 */
static void stop_sleeping(const struct endpoint *endpoint)
{
	int flags;

	if (!S_ISSOCK(endpoint->stat.st_mode) && !S_ISFIFO(endpoint->stat.st_mode))
		return;
	flags = fcntl(endpoint->fd, F_GETFL);
	if (flags >= 0)
		fcntl(endpoint->fd, F_SETFL, flags | O_NONBLOCK);
}

/* The steps that are the same for all. */
static bool opened(struct endpoint *endpoint)
{
	if (fstat(endpoint->fd, &endpoint->stat) < 0)
		return fails(endpoint, errno,
			     endpoint->kind == ENDPOINT_DESCRIPTOR ? NULL : "fstat");
	if (S_ISDIR(endpoint->stat.st_mode))
		return fails(endpoint, EISDIR, NULL);
	if (endpoint->kind != ENDPOINT_DESCRIPTOR)
		stop_sleeping(endpoint);
	return true;
}

/* A FIFO waits for its other end in open(2). */
static int open_path(const char *path, int flags, mode_t mode)
{
	struct stat there;
	int fd;

	if (signals_kept() && stat(path, &there) == 0 && !S_ISREG(there.st_mode) &&
	    !may_sleep()) {
		errno = EINTR;
		return -1;
	}
	do
		fd = open(path, flags | O_CLOEXEC | O_NOCTTY, mode);
	while (fd < 0 && errno == EINTR && !signals_caught());
	return fd;
}

bool endpoint_missing(const struct endpoint *source, int error)
{
	fails(source, error, NULL);
	if (error == ENOENT && strchr(source->path, ':'))
		print_hint("'fid help copy' lists the kinds of names");
	return false;
}

bool endpoint_open_source(struct endpoint *source)
{
	if (source->kind == ENDPOINT_PATH) {
		source->fd = open_path(source->path, O_RDONLY, 0);
		if (source->fd < 0)
			return endpoint_missing(source, errno);
	} else if (source->kind != ENDPOINT_DESCRIPTOR && !open_socket(source)) {
		return false;
	}
	return opened(source);
}

bool endpoint_enter_directory(struct endpoint *sink, const struct endpoint *source)
{
	const char *end, *start;
	bool slash;

	if (!source || source->kind != ENDPOINT_PATH)
		return fails(sink, EISDIR, NULL);
	end = source->path + strlen(source->path);
	while (end > source->path && end[-1] == '/')
		end--;
	start = end;
	while (start > source->path && start[-1] != '/')
		start--;
	slash = sink->path[strlen(sink->path) - 1] == '/';
	if (asprintf(&sink->joined, "%s%s%.*s", sink->path, slash ? "" : "/",
		     (int)(end - start), start) < 0) {
		sink->joined = NULL;
		return fails(sink, ENOMEM, NULL);
	}
	sink->path = sink->name = sink->joined;
	return true;
}

static bool open_file_sink(struct endpoint *sink, const struct endpoint *source, bool append)
{
	/*
	 * O_APPEND makes splice(2) and copy_file_range(2) refuse the file, so that every byte
	 * is copied by this process. Without it two that append at once would overwrite each
	 * other.
	 */
	int flags = O_WRONLY | (append ? O_APPEND : 0);
	mode_t mode = source && endpoint_is_regular(source) ? source->stat.st_mode & 0777
							    : 0666;
	struct stat there;
	int error;

	if (stat(sink->path, &there) == 0 && S_ISDIR(there.st_mode) &&
	    !endpoint_enter_directory(sink, source))
		return false;
	sink->fd = open_path(sink->path, flags, 0);
	if (sink->fd < 0 && errno == ENOENT) {
		sink->fd = open_path(sink->path, flags | O_CREAT | O_EXCL, mode);
		sink->created = sink->fd >= 0;
		/* A link to nothing, or somebody was faster. */
		if (sink->fd < 0 && errno == EEXIST)
			sink->fd = open_path(sink->path, flags | O_CREAT, mode);
		sink->is_new_name = sink->fd >= 0;
	}
	if (sink->fd >= 0)
		return true;
	/* The kernel takes "new/" for a directory, and there is none. */
	error = errno;
	if (error == EISDIR && stat(sink->path, &there) < 0)
		error = errno;
	return fails(sink, error, NULL);
}

bool endpoint_open_sink(struct endpoint *sink, const struct endpoint *source, bool append)
{
	if (sink->kind == ENDPOINT_PATH) {
		if (!open_file_sink(sink, source, append))
			return false;
	} else if (sink->kind != ENDPOINT_DESCRIPTOR && !open_socket(sink)) {
		return false;
	}
	return opened(sink);
}

bool endpoint_look(struct endpoint *endpoint)
{
	if (endpoint->kind == ENDPOINT_PATH)
		return stat(endpoint->path, &endpoint->stat) == 0;
	if (endpoint->kind == ENDPOINT_DESCRIPTOR)
		return fstat(endpoint->fd, &endpoint->stat) == 0;
	errno = EOPNOTSUPP;
	return false;
}

bool endpoint_is(const struct endpoint *endpoint, const struct stat *stat)
{
	return endpoint->stat.st_dev == stat->st_dev && endpoint->stat.st_ino == stat->st_ino;
}

bool endpoint_onto_itself(const struct endpoint *source, const struct endpoint *sink,
			  int64_t at)
{
	struct stat now;
	int flags;

	if (!endpoint_is_regular(source) || !endpoint_is(source, &sink->stat))
		return false;
	/* It would be truncated, or grow for ever. */
	if (sink->kind == ENDPOINT_PATH)
		return true;
	/* Writing behind the reading place never ends; before it is a shift that does. */
	flags = fcntl(sink->fd, F_GETFL);
	if (at < 0)
		at = lseek(source->fd, 0, SEEK_CUR);
	/* It may have grown since it was opened, by the sources before this one. */
	if (flags >= 0 && (flags & O_APPEND))
		return fstat(sink->fd, &now) == 0 && at < now.st_size;
	return at < lseek(sink->fd, 0, SEEK_CUR);
}

bool endpoint_truncate(struct endpoint *sink)
{
	if (sink->kind != ENDPOINT_PATH || !endpoint_is_regular(sink) || sink->created)
		return true;
	return ftruncate(sink->fd, 0) == 0 || fails(sink, errno, "ftruncate");
}

void endpoint_abandon(struct endpoint *sink)
{
	if (sink->created)
		unlink(sink->path);
}

/* ---- The end ---- */

bool endpoint_can_sync(const struct endpoint *sink)
{
	return endpoint_is_regular(sink) || S_ISBLK(sink->stat.st_mode);
}

/* The folder that has the file, wherever links lead. Returns 0 or an errno value. */
static int sync_folder(const char *path)
{
	char *real = realpath(path, NULL), *end;
	int fd, error = 0;

	if (!real)
		return errno;
	/* The root keeps its stroke. */
	end = strrchr(real, '/');
	end[end == real] = '\0';
	fd = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* EINVAL: a file system that has no folders of its own to write (CIFS). */
	if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
		error = errno;
	if (fd >= 0)
		close(fd);
	free(real);
	return error;
}

bool endpoint_sync(struct endpoint *sink)
{
	char shown[512];

	if (fsync(sink->fd) < 0) {
		sink->error = errno;
		return fails(sink, sink->error, "fsync");
	}
	sink->error = sink->is_new_name ? sync_folder(sink->path) : 0;
	if (!sink->error)
		return true;
	print_error("%s (sink): its bytes are on the disk, its name in the folder may not be: "
		    "%s",
		    print_name(shown, sizeof(shown), sink->name), strerror(sink->error));
	return false;
}

/* Drops what a peer sent to a socket that was only written to. Returns false at its end. */
static bool discard_input(int fd)
{
	char bytes[4096];
	ssize_t got;

	do
		got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	while (got > 0);
	return got < 0 && errno == EAGAIN;
}

static int socket_error(int fd)
{
	int error = 0;
	socklen_t length = sizeof(error);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 ? errno : error;
}

/*
 * Waits until the peer's kernel has acknowledged the last byte and the end. Closing earlier
 * loses bytes in silence: input that nobody read makes close(2) reset the connection, and a
 * reset drops what is still on its way; seen with a peer that greets and reads late.
 */
static int wait_for_acknowledgement(const struct endpoint *endpoint)
{
	struct pollfd input = {.fd = endpoint->fd, .events = POLLIN};
	int unacknowledged = 0, before = 0, error = 0, sleep_ms = 1;
	uint64_t since_ns = clock_ns();

	signals_catch(0);
	while (!error && !signals_caught()) {
		if (!discard_input(input.fd))
			input.events = 0;
		error = socket_error(input.fd);
		if (error || ioctl(input.fd, SIOCOUTQ, &unacknowledged) < 0 ||
		    unacknowledged == 0)
			break;
		if (unacknowledged != before)
			since_ns = clock_ns();
		before = unacknowledged;
		if (endpoint->idle_ms > 0 &&
		    clock_ns() - since_ns >= endpoint->idle_ms * MILLISECOND_NS)
			error = ETIME; /* which no socket says */
		signals_look();
		/* No event tells of an acknowledgement. POLLHUP comes when both are done. */
		poll(&input, 1, sleep_ms);
		sleep_ms = sleep_ms < 32 ? sleep_ms * 2 : sleep_ms;
	}
	signals_release();
	return error;
}

static int end_socket(const struct endpoint *endpoint)
{
	bool internet = endpoint->kind == ENDPOINT_TCP || endpoint->kind == ENDPOINT_TCP_LISTEN;

	if (shutdown(endpoint->fd, SHUT_WR) < 0 && errno != ENOTCONN)
		return errno;
	if (internet)
		return wait_for_acknowledgement(endpoint);
	/* What was written to a unix socket is with the peer already. */
	discard_input(endpoint->fd);
	return socket_error(endpoint->fd);
}

/*
 * Closes. Some file systems (NFS, FUSE, quota) tell of a lost write only here. A descriptor
 * that was handed in stays open; closing a copy of it brings the same news.
 */
static int close_end(const struct endpoint *endpoint)
{
	int fd = endpoint->fd;

	if (endpoint->kind == ENDPOINT_DESCRIPTOR) {
		if (endpoint->side == FID_SIDE_SOURCE || !endpoint_is_regular(endpoint))
			return 0;
		fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	}
	return fd >= 0 && close(fd) < 0 ? errno : 0;
}

static bool is_own_socket(const struct endpoint *endpoint)
{
	return endpoint->kind != ENDPOINT_DESCRIPTOR && S_ISSOCK(endpoint->stat.st_mode);
}

void endpoint_end(const struct endpoint *sink)
{
	if (is_own_socket(sink))
		shutdown(sink->fd, SHUT_WR);
}

void endpoint_forget(struct endpoint *endpoint)
{
	free(endpoint->host);
	free(endpoint->joined);
	endpoint->host = endpoint->joined = NULL;
}

static void tell_idle_end(const struct endpoint *sink)
{
	char shown[512];

	print_error("%s (sink): its peer took nothing for %.15g s, and may be without the last "
		    "bytes",
		    print_name(shown, sizeof(shown), sink->name), sink->idle_ms / 1000.0);
	print_hint("a longer --idle-timeout waits longer, and none for ever");
}

bool endpoint_close(struct endpoint *endpoint)
{
	const char *call = "shutdown";
	int error = 0, later = 0;

	if (endpoint->fd >= 0) {
		if (endpoint->side == FID_SIDE_SINK && is_own_socket(endpoint))
			error = end_socket(endpoint);
		later = close_end(endpoint);
	}
	if (!error && endpoint->side == FID_SIDE_SINK) {
		error = later;
		call = "close";
	}
	if (error == ETIME) {
		tell_idle_end(endpoint);
		error = ETIMEDOUT;
	} else if (error) {
		fails(endpoint, error, call);
	}
	endpoint->error = error;
	endpoint->fd = -1;
	endpoint_forget(endpoint);
	return error == 0;
}
