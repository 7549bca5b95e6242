# SPDX-License-Identifier: MIT
# What the command line takes, and what is said where it is wrong.
. "$(dirname "$0")/tap.sh"

fid_alone_explains_itself_and_is_wrong_usage() {
	expect 2 "$fid"
	says '^Usage: fid COMMAND'
	says '^  copy '
	[ ! -s out ]
}
run fid_alone_explains_itself_and_is_wrong_usage

help_is_on_standard_output_and_at_most_80_columns_wide() {
	for words in help --help -h 'help copy' 'help cat' 'help help' 'copy --help' 'copy -h' 'help bench' \
		'help tee' 'help why' 'help doctor' 'cat --help' 'help run' 'run --help' 'run -h'; do
		# The words are split on purpose.
		expect 0 "$fid" $words
		silent
		grep -q '^Usage: fid' out
		awk 'length($0) > 80 { print "too wide: " $0; exit 1 }' out
	done
}
run help_is_on_standard_output_and_at_most_80_columns_wide

help_names_each_option_of_copy() {
	expect 0 "$fid" help copy
	for option in receipt receipt-file progress no-progress stable route require limit \
		offset pipe-size append sparse sync idle-timeout rate-limit digest name \
		help version; do
		grep -q -e "--$option" out || {
			echo "no --$option"
			return 1
		}
	done
	grep -q -F './tcp:x' out
}
run help_names_each_option_of_copy

version_is_one_line() {
	expect 0 "$fid" --version
	grep -q -x 'fid [0-9]*\.[0-9]*\.[0-9]*' out
	cp out first
	expect 0 "$fid" copy --version
	same first out
	silent
}
run version_is_one_line

an_unknown_command_suggests_the_nearest() {
	expect 2 "$fid" coppy
	says "did you mean 'fid copy'"
	expect 2 "$fid" cta
	says "did you mean 'fid cat'"
	expect 2 "$fid" frobnicate
	says "no command 'frobnicate'"
	says 'lists the commands'
	expect 2 "$fid" help bogus
	says 'no command'
}
run an_unknown_command_suggests_the_nearest

wrong_operands_are_status_2_with_a_hint() {
	expect 2 "$fid" copy
	says 'SOURCE and the SINK are missing'
	says "hint: see 'fid help copy'"
	expect 2 "$fid" copy one
	says 'SINK is missing'
	expect 2 "$fid" copy --offset 1 one two three
	says 'one SOURCE only'
	[ ! -e three ]
}
run wrong_operands_are_status_2_with_a_hint

empty_names_are_wrong_usage_and_touch_nothing() {
	echo keep > b
	expect 2 "$fid" copy '' b
	says '^fid copy: the name of a SOURCE is empty$'
	says '^fid copy: hint: '
	expect 2 "$fid" copy b ''
	says 'the name of a SINK is empty'
	expect 2 "$fid" copy b '' c
	expect 2 "$fid" cat b ''
	[ ! -s out ]
	echo text | expect 2 "$fid" tee b ''
	expect 2 "$fid" why '' b
	[ "$(cat b)" = keep ]
	[ ! -e c ]
}
run empty_names_are_wrong_usage_and_touch_nothing

hints_name_what_is_there() {
	expect 1 "$fid" copy tpc:host:1 b
	says "hint: 'fid help copy' lists the kinds of names"
	expect 0 "$fid" help copy
	grep -q -F 'tcp:HOST:PORT' out
	echo text > a
	expect 1 "$fid" copy --receipt-file no-dir/r a b
	says '^fid copy: no-dir/r (receipt): No such file or directory$'
	says 'hint: its folder must exist'
	[ ! -e b ]
}
run hints_name_what_is_there

unknown_options_are_status_2_with_a_hint() {
	expect 2 "$fid" copy --bogus a b
	says "no option '--bogus'"
	says "hint: see 'fid help copy'"
	expect 2 "$fid" copy --recept=json a b
	says "no option '--recept'"
	says "hint: did you mean '--receipt'"
	expect 2 "$fid" copy -x a b
	says "no option '-x'"
	expect 2 "$fid" cat --nothing
	says "hint: see 'fid help cat'"
	expect 2 "$fid" copy a b --limit
	says "'--limit' wants a value"
	expect 2 "$fid" copy --stable=1 a b
	says "'--stable' takes no value"
	expect 2 "$fid" cat --append
	says "shell's >>"
	[ ! -e b ]
}
run unknown_options_are_status_2_with_a_hint

wrong_values_are_status_2_and_touch_nothing() {
	echo keep > b
	for option in --receipt=xml --require=speed --route=teleport --route= \
		--route=splice,teleport --limit= --limit=x --limit=-1 --limit=+1 '--limit= 1' \
		--idle-timeout=0 --idle-timeout=-1 --idle-timeout=2m --idle-timeout=1e3 \
		--idle-timeout= --idle-timeout=.5 --idle-timeout=0.0001 --idle-timeout=99999999 \
		--limit=1.5G --limit=1X --limit=1KK --limit=18446744073709551616 \
		--limit=18446744073709551615K --limit=99999999999T --offset=9223372036854775808 \
		--pipe-size=0 --pipe-size=2G; do
		expect 2 "$fid" copy "$option" /dev/null b
		says 'hint: '
	done
	[ "$(cat b)" = keep ]
}
run wrong_values_are_status_2_and_touch_nothing

an_unknown_route_lists_the_known_ones() {
	expect 2 "$fid" copy --route=teleport a b
	says 'splice.*read-write'
}
run an_unknown_route_lists_the_known_ones

sizes_have_units_of_1024_and_1000() {
	check() {
		expect 0 "$fid" copy --limit "$1" /dev/zero out.bin
		[ "$(wc -c < out.bin)" -eq "$2" ] || {
			echo "$1 is $(wc -c < out.bin)"
			return 1
		}
	}
	check 0 0
	check 1 1
	check 17B 17
	check 2K 2048
	check 2k 2048
	check 2KiB 2048
	check 2KB 2000
	check 1M 1048576
	check 1MiB 1048576
	check 1MB 1000000
}
run sizes_have_units_of_1024_and_1000

the_largest_sizes_are_taken() {
	echo text > a
	for size in 18446744073709551615 16777215T 1GiB 1GB 1TiB 1TB; do
		expect 0 "$fid" copy --limit "$size" a b
		same a b
	done
}
run the_largest_sizes_are_taken

operands_and_options_mix_and_two_dashes_end_options() {
	echo text > a
	expect 0 "$fid" copy a b --limit 2
	[ "$(cat b)" = te ]
	echo dash > --limit
	expect 0 "$fid" copy -- --limit c
	[ "$(cat c)" = dash ]
}
run operands_and_options_mix_and_two_dashes_end_options

malformed_names_are_status_2_and_name_the_way_out() {
	for name in fd: fd:x fd:-1 fd:1x tcp: tcp:host tcp:host: tcp:host:0 tcp:host:65536 \
		tcp::80 tcp:::1:80 tcp:host:http tcp-listen: tcp-listen:x tcp-listen:70000 \
		unix: unix-listen:; do
		expect 2 "$fid" copy "$name" b
		says 'a file of that name is'
		expect 2 "$fid" cat "$name"
	done
	[ ! -e b ]
}
run malformed_names_are_status_2_and_name_the_way_out

append_wants_a_file() {
	for sink in - fd:1 tcp:localhost:1 unix:x; do
		expect 2 "$fid" copy --append /dev/null "$sink"
		says 'append wants a file'
	done
}
run append_wants_a_file

control_characters_of_a_name_do_not_reach_the_terminal() {
	expect 1 "$fid" copy "$(printf 'no\033[31mfile')" b
	says 'no?\[31mfile (source)'
}
run control_characters_of_a_name_do_not_reach_the_terminal

output_that_cannot_be_written_is_a_failure() {
	status=0
	"$fid" help > /dev/full 2> err || status=$?
	[ "$status" -eq 1 ]
	says 'cannot print'
}
run output_that_cannot_be_written_is_a_failure

finish
