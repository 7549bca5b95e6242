# SPDX-License-Identifier: MIT
# Programs of this system under fid run, with the calls denied: what comes out is what comes out
# without. sh run-programs.sh FID MIRROR, a file system by libfuse; or "none".
mirror=$2
. "$(dirname "$0")/tap.sh"
[ "$mirror" = none ] || mirror=$(realpath "$mirror")
three=splice=EPERM,tee=EPERM,vmsplice=EPERM
everything=$three,sendfile=EPERM,copy_file_range=EPERM

# with PROGRAM: ends the test where it is not there or is for another machine than fid.
with() {
	command -v "$1" > /dev/null || skip "$1 is not installed"
	"$fid" run -- "$1" --version > /dev/null 2> err < /dev/null || :
	! grep -q 'cannot be helped' err || skip "fid is for another machine than $1"
}

# the_same SCRIPT ARGUMENT...: a script that puts what comes out into ./result, run without a
# denial and then with each.
the_same() {
	sh "$@"
	mv result wanted
	for denied in splice=EPERM splice=ENOSYS,tee=EPERM vmsplice=EPERM $three $everything; do
		echo "$denied"
		timeout 60 "$fid" run --deny "$denied" -- sh "$@"
		cmp result wanted
		rm result
	done
}

# calls FUNCTION PROGRAM...: the program calls the library's function, says the loader.
calls() {
	function=$1
	shift
	LD_DEBUG=bindings LD_DEBUG_OUTPUT=bindings "$fid" run -- "$@"
	grep -q "libfid-preload.so .*symbol .$function'" bindings.*
}

pv_passes_on_every_byte_between_files_and_pipes() {
	with pv
	bytes 3000017 > a
	cat > script << 'END'
set -e
pv -q a > b
cat a | pv -q > c
cat a | pv -q | cat > d
pv -q a | cat > e
pv -q a a | (sleep 0.1; cat) > f
cat a b c d e f | sha256sum > result
END
	the_same script
	calls splice sh -c 'cat a | pv -q > b'
}
run pv_passes_on_every_byte_between_files_and_pipes

socat_passes_on_every_byte() {
	with socat
	bytes 3000017 > a
	cat > script << 'END'
set -e
socat -u OPEN:a STDOUT > b
cat a | socat -u STDIN STDOUT | cat > c
socat -u UNIX-LISTEN:socket,unlink-close=1 CREATE:d &
until [ -S socket ]; do sleep 0.05; done
socat -u OPEN:a UNIX-CONNECT:socket
wait
cat a b c d | sha256sum > result
END
	the_same script
}
run socat_passes_on_every_byte

copy_stream_of_ruby_moves_files_to_pipes_sockets_and_files() {
	with ruby
	bytes 3000017 > a
	cat > program.rb << 'END'
require 'socket'
require 'digest'
sums = []
from, to = IO.pipe
[from, to].each(&:binmode)
reader = Thread.new { from.read }
sums << File.open('a', 'rb') { |file| IO.copy_stream(file, to) }
to.close
sums << Digest::SHA256.hexdigest(reader.value)
from, to = UNIXSocket.pair
reader = Thread.new { from.read }
sums << File.open('a', 'rb') { |file| IO.copy_stream(file, to, 2_000_000, 17) }
to.close
sums << Digest::SHA256.hexdigest(reader.value)
sums << IO.copy_stream('a', 'b')
sums << Digest::SHA256.file('b').hexdigest
IO.popen('cat a', 'rb') { |file| sums << IO.copy_stream(file, 'c') }
sums << Digest::SHA256.file('c').hexdigest
File.write('result', sums.join("\n"))
END
	echo 'exec ruby program.rb' > script
	the_same script
	grep -q 3000017 wanted
	# What it does by itself where sendfile is refused differs by version; 3.1 raises EPERM.
	"$fid" run --deny sendfile=EPERM --no-preload -- ruby program.rb 2> err ||
		echo "by itself: $(head -n 1 err)"
}
run copy_stream_of_ruby_moves_files_to_pipes_sockets_and_files

a_file_system_of_libfuse_keeps_every_byte() {
	begin_on_mirror
	bytes 3000017 > a
	cat >> script << 'END'
for size in 1000 4096 64K 1M; do
	timeout 10 dd if=a of=mounted/$size bs=$size status=none
	timeout 10 dd if=mounted/$size of=c bs=$size status=none
	cmp a c
	cmp a inside/$size
	rm c
done
timeout 10 cat mounted/64K mounted/1M | sha256sum > result
rm inside/*
umount mounted
wait
[ ! -s server ] || { cat server; exit 1; }
END
	status=0
	timeout 60 sh script "$mirror" || status=$?
	[ "$status" != 77 ] || skip "a FUSE mount is refused here"
	[ "$status" = 0 ]
	the_same script "$mirror"
	calls splice sh script "$mirror"
}
run a_file_system_of_libfuse_keeps_every_byte

criu_dumps_and_restores_a_process() {
	with criu
	[ "$(id -u)" = 0 ] || skip "criu takes root"
	criu check > check 2>&1 || {
		# The first line says only that there was an error.
		skip "criu does not run here: $(grep Error check | grep -v exited | head -n 1)"
	}
	cat > script << 'END'
set -e
rm -rf images counted
mkdir images
setsid sh -c 'i=0; while [ $i -lt 600 ]; do i=$((i + 1)); echo $i >> counted; sleep 0.1; done' \
	< /dev/null > /dev/null 2>&1 &
victim=$!
trap 'kill $(cat restored) $victim 2> /dev/null || :' EXIT
until [ -s counted ]; do sleep 0.05; done
timeout 30 criu dump -t $victim -D images -o log > /dev/null
timeout 30 criu restore -D images -o log -d --pidfile "$PWD/restored" > /dev/null
before=$(wc -l < counted)
until [ "$(wc -l < counted)" -gt "$before" ]; do sleep 0.05; done
head -n "$before" counted | awk '$1 != NR { exit 1 }'
echo restored > result
END
	sh script || skip "criu cannot dump or restore here: $(grep -h Error images/log | head -n 1)"
	the_same script
}
run criu_dumps_and_restores_a_process

finish
