/* SPDX-License-Identifier: MIT */
/*
 * Runs relay_epoll between clients and a target of our own, all on loopback.
 */
#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CLIENTS = 8, UP = 0, DOWN = 1, PATIENCE_S = 60 };

/* How many bytes connection number index carries in each direction; none at all is one case. */
static size_t bytes_of(int index, int direction)
{
	return (size_t)(index + direction) % 4 * 1234567;
}

/* The byte that belongs at a place of a stream: it differs in each stream. */
static unsigned char byte_at(int index, int direction, size_t at)
{
	return (unsigned char)((at * 2654435761u >> 13) + (size_t)(2 * index + direction) * 37);
}

static bool send_stream(int fd, int index, int direction)
{
	static _Thread_local unsigned char buffer[100000];
	size_t bytes = bytes_of(index, direction);

	for (size_t at = 0; at < bytes;) {
		size_t count = bytes - at < sizeof(buffer) ? bytes - at : sizeof(buffer);
		ssize_t sent;

		for (size_t i = 0; i < count; i++)
			buffer[i] = byte_at(index, direction, at + i);
		sent = send(fd, buffer, count, MSG_NOSIGNAL);
		if (sent < 0)
			return false;
		at += (size_t)sent;
	}
	return shutdown(fd, SHUT_WR) == 0;
}

static bool receive_stream(int fd, int index, int direction)
{
	static _Thread_local unsigned char buffer[100000];
	size_t at = 0;
	ssize_t got;

	while ((got = recv(fd, buffer, sizeof(buffer), 0)) > 0)
		for (ssize_t i = 0; i < got; i++, at++)
			if (buffer[i] != byte_at(index, direction, at))
				return false;
	return got == 0 && at == bytes_of(index, direction);
}

static struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_port = htons((uint16_t)port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* A listening socket on a free port. */
static int listen_somewhere(int *ret_port)
{
	struct sockaddr_in address = loopback(0);
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	CHECK_EQUAL(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	CHECK_EQUAL(listen(fd, 64), 0);
	CHECK_EQUAL(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	*ret_port = ntohs(address.sin_port);
	return fd;
}

static int connect_to(int port)
{
	struct sockaddr_in address = loopback(port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	CHECK_EQUAL(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* Starts the relay and learns its port. A relay that hangs is ended by its alarm. */
static pid_t start_relay(int target_port, int connections, int *ret_port)
{
	const char *program = getenv("FID_RELAY_EPOLL");
	char target[16], count[16], line[64] = "";
	int ends[2];
	pid_t pid;

	if (!program)
		SKIP("FID_RELAY_EPOLL does not name the program");
	snprintf(target, sizeof(target), "%d", target_port);
	snprintf(count, sizeof(count), "%d", connections);
	CHECK_EQUAL(pipe(ends), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		alarm(PATIENCE_S);
		dup2(ends[1], 1);
		close(ends[0]);
		close(ends[1]);
		execl(program, program, "0", target, count, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	CHECK(read(ends[0], line, sizeof(line) - 1) > 0);
	close(ends[0]);
	CHECK_EQUAL(sscanf(line, "listening on %d", ret_port), 1);
	return pid;
}

static void check_end_of(pid_t relay)
{
	int status;

	CHECK_EQUAL(waitpid(relay, &status, 0), relay);
	CHECK_EQUAL(status, 0);
}

struct peer {
	pthread_t thread;
	int fd;
	int index;
	bool is_right;
};

/* The target answers only after it has seen the end of what the client sends. */
static void *be_target(void *argument)
{
	struct peer *peer = argument;
	unsigned char index = 0;

	peer->fd = accept(peer->fd, NULL, NULL);
	peer->is_right = recv(peer->fd, &index, 1, MSG_WAITALL) == 1 &&
			 receive_stream(peer->fd, index, UP) &&
			 send_stream(peer->fd, index, DOWN);
	close(peer->fd);
	return NULL;
}

static void *be_client(void *argument)
{
	struct peer *peer = argument;
	unsigned char index = (unsigned char)peer->index;

	peer->is_right = send(peer->fd, &index, 1, MSG_NOSIGNAL) == 1 &&
			 send_stream(peer->fd, peer->index, UP) &&
			 receive_stream(peer->fd, peer->index, DOWN);
	close(peer->fd);
	return NULL;
}

TEST(relay_passes_both_directions_and_half_closes_each)
{
	struct peer clients[CLIENTS], targets[CLIENTS];
	int target_port, relay_port;
	int listener = listen_somewhere(&target_port);
	pid_t relay = start_relay(target_port, CLIENTS, &relay_port);

	alarm(PATIENCE_S);
	for (int i = 0; i < CLIENTS; i++) {
		targets[i] = (struct peer){.fd = listener};
		clients[i] = (struct peer){.fd = connect_to(relay_port), .index = i};
		CHECK_EQUAL(pthread_create(&targets[i].thread, NULL, be_target, &targets[i]),
			    0);
		CHECK_EQUAL(pthread_create(&clients[i].thread, NULL, be_client, &clients[i]),
			    0);
	}
	for (int i = 0; i < CLIENTS; i++) {
		pthread_join(targets[i].thread, NULL);
		pthread_join(clients[i].thread, NULL);
	}
	for (int i = 0; i < CLIENTS; i++) {
		CHECK(targets[i].is_right);
		CHECK(clients[i].is_right);
	}
	check_end_of(relay);
	close(listener);
}

TEST(relay_ends_the_client_when_the_target_refuses)
{
	int target_port, relay_port;
	char byte;
	int listener = listen_somewhere(&target_port);
	pid_t relay;
	int client;

	close(listener);
	alarm(PATIENCE_S);
	relay = start_relay(target_port, 1, &relay_port);
	client = connect_to(relay_port);
	CHECK(recv(client, &byte, 1, 0) <= 0);
	close(client);
	check_end_of(relay);
}

TEST(relay_ends_the_target_when_the_client_resets)
{
	static const struct linger reset = {.l_onoff = 1};
	static char buffer[100000];
	int target_port, relay_port;
	int listener = listen_somewhere(&target_port);
	pid_t relay = start_relay(target_port, 1, &relay_port);
	int client, target;

	alarm(PATIENCE_S);
	client = connect_to(relay_port);
	CHECK_EQUAL(send(client, buffer, sizeof(buffer), MSG_NOSIGNAL), sizeof(buffer));
	target = accept(listener, NULL, NULL);
	CHECK(target >= 0);
	CHECK(recv(target, buffer, 1, 0) == 1);
	CHECK_EQUAL(setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
	close(client);
	while (recv(target, buffer, sizeof(buffer), 0) > 0)
		;
	close(target);
	check_end_of(relay);
	close(listener);
}
