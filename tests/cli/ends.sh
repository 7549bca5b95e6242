# SPDX-License-Identifier: MIT
# Every kind of name a source or a sink may have, over loopback.
. "$(dirname "$0")/tap.sh"

# port FILE: the port that a listener told there.
port() {
	until_true grep -q 'listening on port' "$1"
	sed -n 's/.*listening on port \([0-9]*\)$/\1/p' "$1"
}

descriptors_are_sources_and_sinks() {
	bytes 200000 > a
	"$fid" copy fd:5 fd:6 5< a 6> b
	same a b
	"$fid" copy - - < a > b
	same a b
	"$fid" copy a - | "$fid" copy - b
	same a b
}
run descriptors_are_sources_and_sinks

a_path_that_looks_like_a_scheme_is_written_with_a_dot() {
	echo text > tcp:x
	expect 0 "$fid" copy ./tcp:x ./fd:9
	same tcp:x fd:9
	# What is no scheme is a path.
	expect 0 "$fid" copy ./tcp:x http:y
	same tcp:x http:y
}
run a_path_that_looks_like_a_scheme_is_written_with_a_dot

a_fifo_waits_for_its_other_end() {
	mkfifo fifo
	bytes 500000 > a
	"$fid" copy a fifo &
	sender=$!
	expect 0 "$fid" copy fifo b
	wait "$sender"
	same a b
	silent
}
run a_fifo_waits_for_its_other_end

tcp_carries_a_file_both_ways() {
	bytes 3000000 > a
	"$fid" copy tcp-listen:127.0.0.1:0 b 2> told &
	receiver=$!
	at=$(port told)
	expect 0 "$fid" copy a "tcp:127.0.0.1:$at"
	silent
	wait "$receiver"
	same a b
	[ "$(wc -l < told)" -eq 1 ]
}
run tcp_carries_a_file_both_ways

tcp_ends_have_names() {
	getent hosts localhost > /dev/null || skip "there is no name localhost"
	printf 'by name\n' > a
	"$fid" copy a tcp-listen:localhost:0 2> told2 &
	sender=$!
	at=$(port told2)
	expect 0 "$fid" copy "tcp:localhost:$at" c
	wait "$sender"
	same a c
}
run tcp_ends_have_names

tcp_listen_without_a_host_listens_on_all_addresses() {
	"$fid" copy tcp-listen:0 b 2> told &
	receiver=$!
	at=$(port told)
	echo text | expect 0 "$fid" copy - "tcp:127.0.0.2:$at"
	wait "$receiver"
	[ "$(cat b)" = text ]
}
run tcp_listen_without_a_host_listens_on_all_addresses

tcp_takes_an_ipv6_address_in_brackets() {
	[ -e /proc/net/if_inet6 ] && grep -q ' lo$' /proc/net/if_inet6 ||
		skip 'no IPv6 on loopback'
	"$fid" copy 'tcp-listen:[::1]:0' b 2> told &
	receiver=$!
	at=$(port told)
	echo text | expect 0 "$fid" copy - "tcp:[::1]:$at"
	wait "$receiver"
	[ "$(cat b)" = text ]
}
run tcp_takes_an_ipv6_address_in_brackets

a_port_can_be_listened_on_again_at_once() {
	# The listener sends, so that it closes first and its port stays in TIME_WAIT.
	echo one > a
	"$fid" copy a tcp-listen:127.0.0.1:0 2> told &
	sender=$!
	at=$(port told)
	expect 0 "$fid" cat "tcp:127.0.0.1:$at"
	wait "$sender"
	"$fid" copy a "tcp-listen:127.0.0.1:$at" 2> told2 &
	sender=$!
	until_true "$fid" copy "tcp:127.0.0.1:$at" b
	wait "$sender"
	same a b
	[ ! -s told2 ]
}
run a_port_can_be_listened_on_again_at_once

a_port_in_use_is_reported_with_a_hint() {
	"$fid" copy tcp-listen:127.0.0.1:0 b 2> told &
	receiver=$!
	at=$(port told)
	expect 1 "$fid" copy "tcp-listen:127.0.0.1:$at" c
	says "tcp-listen:127.0.0.1:$at (source): Address already in use while in listen"
	says 'hint: somebody listens there'
	"$fid" copy /dev/null "tcp:127.0.0.1:$at"
	wait "$receiver"
}
run a_port_in_use_is_reported_with_a_hint

nobody_who_listens_is_reported_with_a_hint() {
	"$fid" copy tcp-listen:127.0.0.1:0 b 2> told &
	at=$(port told)
	"$fid" copy /dev/null "tcp:127.0.0.1:$at"
	wait $!
	expect 1 "$fid" copy /dev/null "tcp:127.0.0.1:$at"
	says "tcp:127.0.0.1:$at (sink): Connection refused while in connect"
	says 'hint: nobody listens there'
	expect 1 "$fid" copy /dev/null unix:none
	says 'unix:none (sink): No such file or directory while in connect'
	says 'hint: nobody listens there: start the listening side first'
}
run nobody_who_listens_is_reported_with_a_hint

a_host_that_has_no_address_is_reported() {
	expect 1 "$fid" copy tcp:no-such-host.invalid:9 b
	says 'tcp:no-such-host.invalid:9 (source): '
	says "hint: is 'no-such-host.invalid' the name of a host"
	[ ! -e b ]
}
run a_host_that_has_no_address_is_reported

a_unix_socket_carries_a_file_and_its_name_goes_away() {
	bytes 1000000 > a
	"$fid" copy unix-listen:socket b &
	receiver=$!
	until_true [ -S socket ]
	expect 0 "$fid" copy a unix:socket
	silent
	wait "$receiver"
	same a b
	[ ! -e socket ]

	"$fid" copy a unix-listen:socket &
	sender=$!
	until_true [ -S socket ]
	expect 0 "$fid" cat unix:socket
	wait "$sender"
	same a out
	[ ! -e socket ]
}
run a_unix_socket_carries_a_file_and_its_name_goes_away

unix_listen_replaces_no_file_and_no_living_socket() {
	echo keep > file
	expect 1 "$fid" copy unix-listen:file b
	says 'file of that name that is no socket'
	[ "$(cat file)" = keep ]

	command -v python3 > /dev/null || skip 'python3 is not installed'
	python3 -c 'import socket, time
s = socket.socket(socket.AF_UNIX); s.bind("alive"); s.listen(4); time.sleep(20)' &
	owner=$!
	until_true [ -S alive ]
	expect 1 "$fid" copy unix-listen:alive b
	says 'Address already in use'
	[ -S alive ]
	kill "$owner"
	wait "$owner" || :
	# Its owner is dead, and the name is still there: now it may go.
	[ -S alive ]
	"$fid" copy unix-listen:alive b &
	receiver=$!
	until_true "$fid" copy file unix:alive
	wait "$receiver"
	same file b
	[ ! -e alive ]
}
run unix_listen_replaces_no_file_and_no_living_socket

a_unix_path_that_is_too_long_is_reported() {
	long=$(printf '%0200d' 0)
	expect 1 "$fid" copy "unix:$long" b
	says 'File name too long'
	says 'at most 107 bytes'
	expect 1 "$fid" copy "unix-listen:$long" b
}
run a_unix_path_that_is_too_long_is_reported

a_socket_opened_as_a_file_gets_the_hint() {
	command -v python3 > /dev/null || skip 'python3 is not installed'
	python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("s")'
	expect 1 "$fid" copy s b
	says 's (source): No such device or address'
	says 'unix:PATH'
}
run a_socket_opened_as_a_file_gets_the_hint

a_listener_that_is_interrupted_removes_its_name() {
	"$fid" copy unix-listen:socket b 2> err &
	receiver=$!
	until_true [ -S socket ]
	kill -TERM "$receiver"
	status=0
	wait "$receiver" || status=$?
	[ "$status" -eq 143 ]
	[ ! -e socket ]
	[ ! -e b ]
}
run a_listener_that_is_interrupted_removes_its_name

a_peer_that_goes_away_is_an_error_that_tells_how_far_it_got() {
	command -v python3 > /dev/null || skip 'python3 is not installed'
	python3 -c 'import socket, struct
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(1)
print(s.getsockname()[1], flush=True)
c = s.accept()[0]; c.recv(1000)
c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); c.close()' > told &
	until_true [ -s told ]
	expect 1 "$fid" copy /dev/zero "tcp:127.0.0.1:$(cat told)"
	says '/dev/zero to tcp:.*: .*; [0-9]* bytes* delivered\|(sink): .*; [0-9]* bytes* delivered'
	says 'hint: '
	wait $!
}
run a_peer_that_goes_away_is_an_error_that_tells_how_far_it_got

a_peer_that_also_sends_loses_nothing_of_what_it_gets() {
	command -v python3 > /dev/null || skip 'python3 is not installed'
	# It greets when the sender has written all, and its small window makes most of that
	# wait in the sender's kernel: a close over the unread greeting would drop it.
	python3 -c 'import socket, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
s.bind(("127.0.0.1", 0)); s.listen(1)
print(s.getsockname()[1], flush=True)
c = s.accept()[0]; time.sleep(0.3); c.sendall(b"welcome\n"); time.sleep(0.3)
n = 0
while True:
    b = c.recv(65536)
    if not b: break
    n += len(b)
print(n, flush=True)' > told &
	peer=$!
	until_true [ -s told ]
	bytes 300000 > a
	expect 0 "$fid" copy a "tcp:127.0.0.1:$(cat told)"
	wait "$peer"
	[ "$(tail -n 1 told)" -eq 300000 ]
}
run a_peer_that_also_sends_loses_nothing_of_what_it_gets

finish
