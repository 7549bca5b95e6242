/* SPDX-License-Identifier: MIT */
/*
 * relay_epoll LISTEN_PORT TARGET_PORT CONNECTIONS relays so many connections on loopback, both
 * ways and in one thread, and prints the port that it listens on. Each direction is a flow.
 * FID_WAIT comes only after the kernel said that it would block, which is what edge-triggered
 * epoll asks for; so the loop needs nothing but the return value.
 */
#include <arpa/inet.h>
#include <fid.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct relay {
	int sockets[2];           /* the client's and the target's */
	struct fid_flow *flow[2]; /* flow[i] is from sockets[i] to the other; NULL: ended */
};

enum { TCP = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC };

static void watch(int epoll, int change, struct relay *relay)
{
	struct epoll_event event = {EPOLLIN | EPOLLOUT | EPOLLET, {.ptr = relay}};

	for (int i = 0; i < 2; i++)
		epoll_ctl(epoll, change, relay->sockets[i], &event);
}

static void begin(int epoll, int client, const struct sockaddr_in *target)
{
	struct relay *relay = calloc(1, sizeof(*relay));
	int server = socket(AF_INET, TCP, 0);

	/* Until it is connected both flows wait; when it is refused they end with the error. */
	connect(server, (const struct sockaddr *)target, sizeof(*target));
	if (!relay || fid_flow_new(&relay->flow[0], client, server, NULL, NULL) < 0 ||
	    fid_flow_new(&relay->flow[1], server, client, NULL, NULL) < 0)
		abort();
	relay->sockets[0] = client;
	relay->sockets[1] = server;
	watch(epoll, EPOLL_CTL_ADD, relay);
}

/* Gives both directions a turn. Returns 1 when one of them can go on at once. */
static int take_turn(struct relay *relay)
{
	int more = 0;

	for (int i = 0; i < 2; i++) {
		int step = relay->flow[i] ? fid_flow_step(relay->flow[i], NULL) : FID_WAIT;

		more |= step == FID_MORE;
		if (step == FID_MORE || step == FID_WAIT)
			continue;
		/* Done: all is delivered, and only this direction ends. Failed: both end. */
		relay->flow[i] = fid_flow_free(relay->flow[i]);
		shutdown(relay->sockets[!i], SHUT_WR);
		if (step < 0)
			relay->flow[!i] = fid_flow_free(relay->flow[!i]);
	}
	return more;
}

int main(int argc, char **argv)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = socket(AF_INET, TCP, 0), epoll = epoll_create1(EPOLL_CLOEXEC);
	int left = argc == 4 ? atoi(argv[3]) : 0;

	address.sin_port = htons((uint16_t)(left ? atoi(argv[1]) : 0));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, 64) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) < 0)
		return 1;
	getsockname(listener, (struct sockaddr *)&address, &(socklen_t){sizeof(address)});
	dprintf(1, "listening on %d\n", ntohs(address.sin_port));
	address.sin_port = htons((uint16_t)(left ? atoi(argv[2]) : 0));
	/* One event at a time: none can be left over for a relay that has just ended. */
	while (left > 0 && epoll_wait(epoll, &event, 1, -1) == 1) {
		struct relay *relay = event.data.ptr;
		int client = relay ? -1 : accept4(listener, NULL, NULL, SOCK_NONBLOCK);

		if (client >= 0) {
			begin(epoll, client, &address);
		} else if (relay && take_turn(relay)) {
			/* Asked for again, it comes after all others. */
			watch(epoll, EPOLL_CTL_MOD, relay);
		} else if (relay && !relay->flow[0] && !relay->flow[1]) {
			close(relay->sockets[0]);
			close(relay->sockets[1]);
			free(relay);
			left--;
		}
	}
	return 0;
}
