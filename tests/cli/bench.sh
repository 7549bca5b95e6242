# SPDX-License-Identifier: MIT
# What 'fid bench' measures, shows and leaves behind. Nothing here asserts a time.
. "$(dirname "$0")/tap.sh"

command -v python3 > /dev/null || {
	echo '1..0 # SKIP python3 is not installed'
	exit 0
}

# A run of one scenario of each form, for the tests that look at results.
record=$here/record.json
some='file-pipe-read file-memory sweep-message memory-splice constant-read fan-read calls small
	start idle'

# measures ARGUMENT...: the least that there is to measure, in this folder.
measures() {
	expect 0 "$fid" bench --seconds 0.02 --dir . "$@"
}

# known EXPRESSION: Python's word on the JSON document d in ./out.
known() {
	python3 - out "$1" << 'END'
import json, sys
d = json.load(open(sys.argv[1]))
assert eval(f"({sys.argv[2]})"), sys.argv[2]
END
}

# sweep RATIO LOW HIGH ...: a document of a sweep of messages: for 1 KiB, 4 KiB and so on the
# cost of splice-pipe to that of read/write.
sweep() {
	python3 - "$@" << 'END'
import json, sys
def entrant(name, median, low, high):
    return {"name": name, "cpu_s_per_gb": {"median": median, "low": low, "high": high},
            "gib_per_s": {"median": 2, "low": 1, "high": 3},
            "ratio": {"median": median, "low": low, "high": high},
            "speed_ratio": {"median": 1, "low": 1, "high": 1}, "verdict": "tie"}
numbers = [float(word) for word in sys.argv[1:]]
points = []
for i in range(0, len(numbers), 3):
    points.append({"name": f"m{i}", "scenario": "sweep-message", "at": 1024 * 4 ** (i // 3),
                   "title": "t", "mark": "m", "rounds": 6 + i, "volume_bytes": 4194304,
                   "entrants": [entrant("read/write", 1, 1, 1),
                                entrant("splice-pipe", *numbers[i:i + 3]),
                                entrant("fid_copy", *[n * 1.1 for n in numbers[i:i + 3]])]})
print(json.dumps({"facts": {"cpu": "2 x Test", "kernel": "Linux 9.9-x", "date": "2026-01-02"},
                  "sweeps": points}))
END
}

# finds SENTENCE: the table of ./results begins its scenario with it, over two lines or one.
finds() {
	expect 0 "$fid" bench --from results
	tr '\n' ' ' < out | grep -q -F -e "$1" && return
	cat out
	return 1
}

list_has_a_line_for_each_scenario() {
	expect 0 "$fid" bench --list
	silent
	for name in file-pipe-read sweep-pipe sweep-chunk sweep-message memory-read \
		constant-splice fan-read calls small start idle; do
		grep -q "^[* ] $name  *[a-z]" out
	done
	awk 'length($0) > 80 { exit 1 }' out
}
run list_has_a_line_for_each_scenario

unknown_scenarios_suggest_the_nearest_and_measure_nothing() {
	expect 2 "$fid" bench --dir . calls fan-reed
	says "did you mean 'fan-read'"
	expect 2 "$fid" bench --dir . teleport
	says "no scenario 'teleport'"
	says 'lists the scenarios'
	expect 2 "$fid" bench --dir . ''
	[ ! -s out ]
	[ "$(ls)" = "$(printf 'err\nout')" ]
}
run unknown_scenarios_suggest_the_nearest_and_measure_nothing

wrong_options_are_status_2() {
	for option in --seconds=0 --seconds=-1 --seconds=inf --seconds=0x1 --seconds=1s \
		--seconds= --seconds=99999 --rounds=5 --rounds=65 --rounds=x --rounds=6.5 --plot=x.pdf \
		--plot=.svg --plot=x --bogus --json=x '--json --csv' '--csv --csv'; do
		# The words are split on purpose.
		expect 2 "$fid" bench $option calls
		says 'hint: '
		[ ! -s out ]
	done
}
run wrong_options_are_status_2

json_is_one_line_with_the_keys_that_the_manual_names() {
	# The words are split on purpose.
	measures --json $some
	silent
	[ "$(wc -l < out)" -eq 1 ]
	known 'd["facts"]["kernel"].startswith("Linux") and d["seconds"] == 0.02'
	known 'd["rounds"] == min(c["rounds"] for k in ("pairs", "memory", "constant", "fan",
		"sweeps") for c in d[k])'
	known '[c["name"] for c in d["pairs"]] == ["file-pipe-read", "file-memory"]'
	known '[c["at"] for c in d["fan"]] == [1, 2, 4, 8, 16]'
	known '[c["at"] for c in d["memory"]] == [4096 * 4 ** i for i in range(4)]'
	known '[c["at"] for c in d["sweeps"]] == [64 * 4 ** i for i in range(8)]'
	known 'all(6 <= c["rounds"] <= 64 and c["volume_bytes"] >= 4194304 for c in d["pairs"])'
	known 'all(set(e) == {"name", "cpu_s_per_gb", "gib_per_s", "ratio", "speed_ratio",
		"verdict"} for k in ("pairs", "memory", "constant", "fan", "sweeps")
		for c in d[k] for e in c["entrants"])'
	known 'all(s["low"] <= s["median"] <= s["high"] and s["low"] > 0 for c in d["pairs"]
		for e in c["entrants"] for s in (e["cpu_s_per_gb"], e["gib_per_s"]))'
	known 'all(c["entrants"][0]["ratio"]["high"] == 1 for c in d["sweeps"])'
	known '[c["name"] for c in d["conclusions"]] == ["file-pipe-read", "file-memory"]'
	known 'd["calls"][0]["fid"]["ratio"]["median"] > 0 and d["calls"][0]["samples"] >= 32'
	known 'd["small"][0]["fid_copy_ns"]["median"] > 0 and d["start"]["cat_ms"]["median"] > 0'
	known 'd["idle"][0]["flows"] == 10000 and d["idle"][0]["descriptors"] == 0'
	cp out "$record"
}
run json_is_one_line_with_the_keys_that_the_manual_names

table_has_each_entrant_and_fits_into_100_columns() {
	measures file-pipe-read sweep-pipe sweep-chunk calls
	silent
	for name in 'hand loop' fid_copy fid read/write 'splice loop'; do
		grep -q "^ .* $name  " out
	done
	grep -q '^file-pipe-read: .*fid_copy' out
	grep -q '^ *[1-9]* rounds of [0-9]* MiB' out
	grep -q '^ *256 KiB  read/write' out
	# Nothing but text: no colour, no bell.
	! grep -q '[^ -~]' out || return 1
	awk 'length($0) > 100 || / $/ { print; exit 1 }' out
	expect 0 "$fid" bench --from "$record"
	! grep -q '[^ -~]' out || return 1
	awk 'length($0) > 100 || / $/ { print; exit 1 }' out
	for name in $some; do
		grep -q "^$name: [a-z]" out
	done
	# Nothing is said of peers that had no part.
	grep -q '^In short: .*; --peers has other commands' out
	grep -q '^  file-memory  .*hand loop$' out
}
run table_has_each_entrant_and_fits_into_100_columns

csv_has_the_numbers_of_json() {
	expect 0 "$fid" bench --csv --from "$record"
	silent
	python3 - "$record" out << 'END'
import csv, json, sys
d = json.load(open(sys.argv[1]))
rows = list(csv.DictReader(open(sys.argv[2])))
have = {}
for row in rows:
    key = (row["scenario"], row["contest"], row["entrant"], row["measure"])
    have[key + (row["at"],)] = have[key] = tuple(row[k] for k in ("median", "low", "high"))
def same(key, summary):
    wanted = [summary["median"], summary["low"], summary["high"]]
    assert [float(n) for n in have[key]] == wanted, (key, wanted, have[key])
count = 0
for section in ("pairs", "memory", "constant", "fan", "sweeps"):
    for contest in d[section]:
        for entrant in contest["entrants"]:
            for measure in ("cpu_s_per_gb", "gib_per_s", "ratio", "speed_ratio"):
                same((contest["scenario"], contest["name"], entrant["name"], measure),
                     entrant[measure])
                count += 1
assert count > 200, count
for one in d["calls"]:
    at = str(one["bytes"])
    same(("calls", one["title"], "", "bare_ns", at), one["bare_ns"])
    same(("calls", one["title"], "fid", "more_ns", at), one["fid"]["more_ns"])
for one in d["small"]:
    same(("small", one["title"], "", "fid_copy_ns", str(one["bytes"])), one["fid_copy_ns"])
same(("start", "", "", "fid_cat_ms"), d["start"]["fid_cat_ms"])
assert float(have[("idle", d["idle"][0]["title"], "", "flows")][0]) == 10000
assert {row["scenario"] for row in rows} >= {"calls", "small", "start", "idle", "fan-read"}
assert all(None not in row and None not in row.values() for row in rows), "fields"
END
}
run csv_has_the_numbers_of_json

json_of_a_record_is_the_record() {
	expect 0 "$fid" bench --json --from "$record"
	same out "$record"
}
run json_of_a_record_is_the_record

results_may_come_on_standard_input() {
	expect 0 "$fid" bench --from "$record" calls
	mv out wanted
	expect 0 "$fid" bench --from - calls < "$record"
	same out wanted
	expect 1 "$fid" bench --from - < /dev/null
	says '^fid bench: standard input (results): it is empty$'
	expect 1 "$fid" bench --from - <&-
	says '^fid bench: standard input (results): Bad file descriptor$'
}
run results_may_come_on_standard_input

have_gnuplot() {
	command -v gnuplot > /dev/null || skip "gnuplot is not installed"
}

svg_is_xml_with_the_finding_titles_of_axes_and_names() {
	have_gnuplot
	expect 0 "$fid" bench --csv --from "$record" --plot p.svg
	silent
	expect 0 "$fid" bench --from "$record"
	cat > look.py << 'END'
import re, sys, xml.etree.ElementTree as tree
record, name, wanted = sys.argv[1:4]
texts = ["".join(e.itertext()) for e in tree.parse(f"p-{name}.svg").iter()
         if e.tag.endswith("}text")]
words = " ".join(" ".join(texts).split())
table = " ".join(open("out").read().split())
# The sentence behind the name of the scenario, up to the next name or description.
finding = re.search(rf" {name}: (.{{20,60}}?) ", table + " ").group(1)
for text in [finding, *wanted.split("|")]:
    assert text in words, (text, words)
END
	look() {
		python3 look.py "$record" "$1" "$2"
	}
	look file-pipe-read 'processor time, seconds per GB|hand loop|fid_copy|read/write|GiB/s'
	look sweep-message 'size of a message|processor time to that of|64 KiB|splice-pipe|fid_copy'
	look memory-splice 'bytes sent at once|seconds per GB|fid lend, UNSAFE|write()|fid fresh'
	look fan-read 'sinks|seconds per GB|fid_fan|tee loop|16'
	look constant-read 'seconds per GB|fid const|by hand'
	look calls 'nanoseconds|vmsplice, memory -> pipe, 64 KiB'
	look small 'nanoseconds|pipe -> pipe, 4 KiB: fid_copy'
	look start 'milliseconds|fid cat'
	look idle 'bytes of memory|0 descriptors'
	# What was measured once is no median.
	sed -n 's/<[^>]*>//gp' p-idle.svg > texts
	! grep -q median texts || return 1
}
run svg_is_xml_with_the_finding_titles_of_axes_and_names

one_scenario_is_drawn_into_the_file_itself() {
	have_gnuplot
	expect 0 "$fid" bench --csv --from "$record" --plot one.svg fan
	expect 0 "$fid" bench --csv --from "$record" --plot ./two.png calls start
	[ -s one.svg ] && [ -s two-calls.png ] && [ -s two-start.png ] && [ ! -e two.png ]
	[ "$(ls | wc -l)" -eq 5 ]
	python3 -c '
import struct
data = open("two-calls.png", "rb").read()
assert data[:8] == b"\x89PNG\r\n\x1a\n"
width, height = struct.unpack(">II", data[16:24])
assert width == 1600 and height > 400, (width, height)'
}
run one_scenario_is_drawn_into_the_file_itself

what_a_record_says_is_text_to_gnuplot_and_to_the_terminal() {
	sweep 1 1 1 0.5 0.4 0.6 | python3 -c '
import sys
hostile = "x\u0027; system \u0022touch owned\u0022 #`touch owned`\\u001b[31m\\n\\u009b"
print(sys.stdin.read().replace("splice-pipe", hostile.replace("\u0022", "\\\u0022")))' > results
	python3 -m json.tool results > /dev/null
	expect 0 "$fid" bench --from results
	! grep -q '[^ -~]' out || return 1
	if command -v gnuplot > /dev/null; then
		expect 0 "$fid" bench --from results --plot x.svg
		python3 -c 'import xml.etree.ElementTree as t; t.parse("x.svg")'
	fi
	[ ! -e owned ]
	# Quotes where gnuplot does not take two for one, and what it does with other signs.
	for name in "'" "'a" "a''b" "''; system('touch owned') #" '\\' '\\"' '`touch owned`' '{/a}' \
		'@a' '$line0' '%d%s' '~a{b}'; do
		sweep 1 1 1 0.5 0.4 0.6 > results
		NAME=$name python3 -c '
import json, os
d = json.load(open("results"))
for point in d["sweeps"]:
    point["entrants"][1]["name"] = os.environ["NAME"]
json.dump(d, open("results", "w"))'
		expect 0 "$fid" bench --csv --from results
		command -v gnuplot > /dev/null || continue
		expect 0 "$fid" bench --csv --from results --plot x.svg
		NAME=$name python3 -c '
import os, xml.etree.ElementTree as t
texts = ["".join(e.itertext()) for e in t.parse("x.svg").iter() if e.tag.endswith("}text")]
assert os.environ["NAME"] in [text.strip() for text in texts], texts'
	done
	[ ! -e owned ]
}
run what_a_record_says_is_text_to_gnuplot_and_to_the_terminal

finding_names_the_first_size_from_which_splice_always_wins() {
	sweep 1.2 1.1 1.3 0.9 0.8 0.95 0.5 0.4 0.6 > results
	finds 'sweep-message: splice-pipe wins over read/write from messages of 4 KiB on; fid_copy'
	finds 'at most 32 % more than the better, at messages of 1 KiB'
	finds '6 to 12 rounds'
	# A win that is followed by a tie is none: its interval holds 1.
	sweep 0.8 0.7 0.9 0.9 0.8 1.01 0.5 0.4 0.6 > results
	finds 'wins over read/write from messages of 16 KiB on'
	sweep 0.8 0.7 0.9 0.9 0.8 0.99 0.5 0.4 0.6 > results
	finds 'splice-pipe wins over read/write everywhere'
	sweep 0.5 0.4 0.6 0.9 0.8 1.01 > results
	finds 'splice-pipe does not win over read/write up to messages of 4 KiB'
}
run finding_names_the_first_size_from_which_splice_always_wins

a_title_keeps_a_number_and_its_unit_in_one_line() {
	have_gnuplot
	# "... from messages of 16 KiB on; fid_copy costs less than the better of both" is halved.
	sweep 1.2 1.1 1.3 1 0.8 1.3 0.5 0.4 0.6 | python3 -c '
import json, sys
d = json.load(sys.stdin)
for point in d["sweeps"]:
    point["entrants"][2] = dict(point["entrants"][min(0, 1, key=lambda i:
        point["entrants"][i]["ratio"]["median"])], name="fid_copy")
print(json.dumps(d))' > results
	finds 'from messages of 16 KiB on; fid_copy costs less than'
	expect 0 "$fid" bench --csv --from results --plot x.svg
	sed -n 's/<[^>]*>//gp' x.svg > texts
	grep -q '16 KiB on' texts
}
run a_title_keeps_a_number_and_its_unit_in_one_line

finding_of_a_pair_compares_with_both_loops() {
	pair() {
		sweep 1 1 1 | python3 -c '
import json, sys
d = json.load(sys.stdin)
d["pairs"] = d.pop("sweeps")
pair = d["pairs"][0]
pair["name"] = pair["scenario"] = "pipe-pipe"
def ratio(name, median, low, high):
    one = json.loads(json.dumps(pair["entrants"][0]))
    return dict(one, name=name, ratio={"median": median, "low": low, "high": high})
numbers = [float(word) for word in sys.argv[1:]]
pair["entrants"] = [ratio("hand loop", 1, 1, 1), ratio("fid_copy", *numbers[:3]),
                    ratio("read/write", *numbers[3:])]
print(json.dumps(d))' "$@" > results
	}
	pair 1.05 0.98 1.1 9.87 9 10
	finds 'pipe-pipe: read/write costs 9.4 times what fid_copy costs; with the best by hand it is a tie'
	# Which is no word of being equal, where the interval is wide.
	pair 1.29 0.98 1.57 3.2 3 3.4
	finds 'with the best by hand it is a tie'
	pair 1.25 1.2 1.3 1.25 1.2 1.3
	finds 'read/write costs about what fid_copy costs; the best by hand costs 20 % less'
	# A bound beside 1 is not written as if it were 1.
	pair 1.02 1.001 1.04 3 2 4
	finds 'the best by hand costs 2 % less'
	grep -q '^  fid_copy .* 1.02 1.001-1.04 ' out
	pair 1 0.99 0.9996 3 2 4
	finds 'pipe-pipe'
	grep -q '^  fid_copy .* 1.00 0.99-0.9996 ' out
	pair 1 1 1.01 3 2 4
	finds 'it is a tie'
	grep -q '^  fid_copy .* 1.00 1.00-1.01 ' out
	pair 0.8 0.7 0.9 0.7 0.6 0.8
	finds 'fid_copy costs 14 % more than read/write; the best by hand costs 25 % more'
}
run finding_of_a_pair_compares_with_both_loops

records_of_older_versions_are_shown() {
	sweep 0.8 0.7 0.9 0.9 0.8 0.99 | python3 -c '
import json, sys
d = json.load(sys.stdin)
d["memory"] = d.pop("sweeps")
d["rounds"] = 13
for at, one in zip((16, 64), d["memory"]):
    one["name"] = f"memory-read-{at}k"
    for key in ("scenario", "at", "rounds", "volume_bytes"):
        del one[key]
print(json.dumps(d))' > results
	finds 'memory-read: '
	grep -q '^ *16 KiB  read/write' out
	grep -q '^ *64 KiB  read/write' out
}
run records_of_older_versions_are_shown

records_that_are_none_are_refused_with_the_line() {
	refused() {
		expect 1 "$fid" bench --from results
		says "results (results): .*$1"
		[ ! -s out ]
	}
	printf '{"facts": {},\n"pairs": [,]}' > results
	refused 'line 2 is not what'
	head -c 300 "$record" > results
	refused 'line 1 is not what'
	echo '{"rounds": 1e999}' > results
	refused 'line 1'
	echo '[]' > results
	refused 'line 1'
	echo '{} {}' > results
	refused 'line 1'
	echo '{"pairs": 1e}' > results
	refused 'line 1'
	printf '{"a": "\\u00"}' > results
	refused 'line 1'
	python3 -c 'print("[" * 100000)' > results
	refused 'line 1'
	python3 -c 'print("{\"a\":" * 40 + "1" + "}" * 40)' > results
	refused 'line 1'
	: > results
	refused 'it is empty'
	echo '{"facts": {}}' > results
	refused 'nothing of any scenario'
	expect 1 "$fid" bench --from none
	says 'none (results): No such file'
	expect 1 "$fid" bench --from "$record" tcp-pipe
	says 'nothing of these scenarios'
	for option in --seconds=1 --rounds=6 --dir=. --peers; do
		expect 2 "$fid" bench --from "$record" "$option"
		says "measures nothing, so ${option%%=*} has no part in it"
		[ ! -s out ]
	done
}
run records_that_are_none_are_refused_with_the_line

strange_records_do_no_harm() {
	for document in '{"pairs":[1,"a",[],{},{"name":"pipe-pipe"}]}' '{"fan":[{"name":"fan-read"}]}' \
		'{"pairs":[{"scenario":"pipe-pipe","entrants":[[],{},1]}]}' '{"calls":[1],"idle":[[]]}' \
		'{"start":[1,2],"small":{"a":{"b":1}}}' '{"facts":[1],"calls":{"a":null}}' \
		'{"sweeps":[{"scenario":"sweep-pipe","at":-1,"entrants":[{"name":"x","ratio":
		{"median":-1,"low":-1,"high":1e308}}]}]}' '{"sweeps":[{"scenario":"sweep-pipe",
		"at":1,"entrants":[{"name":"x","cpu_s_per_gb":{"median":1,"low":1e-8,
		"high":1e305}}]}]}' '{"sweeps":[{"scenario":"sweep-pipe",
		"at":0,"entrants":[{"name":"x","cpu_s_per_gb":{"median":1,"low":1e-300,
		"high":1e300}}]}]}' '{"calls":[{"fid":{"more_ns":{"median":1e300,"low":1e300,
		"high":1e300}}}],"idle":[{"bytes_per_flow":1e300}]}'; do
		echo "$document" > results
		for way in --csv --json ''; do
			status=0
			# The word is left out on purpose.
			timeout 20 "$fid" bench --from results $way --plot x.svg > out 2> err ||
				status=$?
			[ "$status" -le 1 ] || {
				echo "status $status: $document"
				return 1
			}
		done
	done
}
run strange_records_do_no_harm

no_number_of_a_record_breaks_a_line() {
	for number in 1e5 123456789 1e22 1e-300 0; do
		python3 - "$record" "$number" > results << 'END'
import json, sys
d = json.load(open(sys.argv[1]))
def change(one):
    for key, value in one.items() if isinstance(one, dict) else enumerate(one):
        if isinstance(value, (dict, list)):
            change(value)
        elif key in ("median", "high"):
            one[key] = float(sys.argv[2])
change(d)
print(json.dumps(d))
END
		expect 0 "$fid" bench --from results
		awk 'length($0) > 100 { print; exit 1 }' out
	done
}
run no_number_of_a_record_breaks_a_line

results_are_shown_without_measuring() {
	mkdir bare
	ln -s "$fid" bare/fid
	expect 0 env -i PATH="$PWD/bare" TMPDIR=/nonexistent fid bench --from "$record" calls
	grep -q '^calls: ' out
	expect 0 env -i PATH="$PWD/bare" TMPDIR=/nonexistent fid bench --csv --from "$record"
}
run results_are_shown_without_measuring

without_gnuplot_nothing_is_measured_for_a_picture() {
	mkdir bare
	ln -s "$fid" bare/fid
	expect 1 env PATH="$PWD/bare" fid bench --dir . --plot x.svg calls
	says 'not in PATH'
	says 'gnuplot-nox'
	[ ! -s out ]
	[ ! -e x.svg ]
}
run without_gnuplot_nothing_is_measured_for_a_picture

a_picture_that_cannot_be_made_is_refused_before_measuring() {
	have_gnuplot
	expect 1 "$fid" bench --dir . --plot nowhere/x.svg calls
	says 'nowhere/x.svg: no picture can be made there'
	[ ! -s out ]
}
run a_picture_that_cannot_be_made_is_refused_before_measuring

gnuplot_that_fails_leaves_the_old_picture() {
	mkdir bare
	printf '#!/bin/sh\necho half\nexit 3\n' > bare/gnuplot
	chmod +x bare/gnuplot
	echo old > x.svg
	expect 1 env PATH="$PWD/bare:$PATH" "$fid" bench --csv --from "$record" --plot x.svg calls
	says 'status 3'
	[ "$(cat x.svg)" = old ]
	[ "$(ls)" = "$(printf 'bare\nerr\nout\nx.svg')" ]
}
run gnuplot_that_fails_leaves_the_old_picture

a_picture_that_is_interrupted_leaves_nothing() {
	mkdir bare there.svg
	printf '#!/bin/sh\necho half\nexec sleep 5\n' > bare/gnuplot
	chmod +x bare/gnuplot
	for signal in INT TERM HUP; do
		# A shell has its background jobs ignore SIGINT.
		PATH=$PWD/bare:$PATH timeout --foreground --preserve-status -s "$signal" 0.3 "$fid" \
			bench --csv --from "$record" --plot x.svg calls > out 2> err || :
		[ "$(ls)" = "$(printf 'bare\nerr\nout\nthere.svg')" ]
	done
	have_gnuplot
	expect 1 "$fid" bench --csv --from "$record" --plot there.svg calls
	says 'there.svg: no picture can be made there: Is a directory'
	# Nobody reads that message.
	{ "$fid" bench --csv --from "$record" --plot there.svg calls 2>&1 > out || :; } | :
	[ "$(ls)" = "$(printf 'bare\nerr\nout\nthere.svg')" ]
}
run a_picture_that_is_interrupted_leaves_nothing

folders_without_room_or_leave_are_refused() {
	expect 1 "$fid" bench --dir ./nowhere calls
	says 'nowhere: no files can be made there'
	says 'hint: --dir'
	[ ! -s out ]
	expect 1 "$fid" bench --dir /proc calls
	says '/proc: no files can be made there'
	mkdir small
	unshare -m true 2> /dev/null || skip 'mounting takes privileges'
	expect 1 unshare -m sh -c "mount -t tmpfs -o size=8m none small &&
		exec '$fid' bench --dir small --seconds 0.02 file-pipe-read"
	says 'small: 48.0 MiB are needed there for files, and 8.0 MiB are free'
	[ ! -s out ]
}
run folders_without_room_or_leave_are_refused

a_disk_that_fills_up_is_an_error_that_names_the_file() {
	unshare -m true 2> /dev/null || skip 'mounting takes privileges'
	mkdir small
	# No blocks are missing, but files: the folder itself takes the last one.
	expect 1 unshare -m sh -c "mount -t tmpfs -o size=64m,nr_inodes=2 none small &&
		'$fid' bench --dir small --seconds 0.02 file-pipe-read; status=\$?
		ls small; exit \$status"
	says 'source-.*No space left'
	[ "$(tail -n 1 out | grep -c fid-bench)" -eq 0 ]
}
run a_disk_that_fills_up_is_an_error_that_names_the_file

a_file_that_becomes_too_large_is_an_error_that_says_so() {
	(
		trap '' XFSZ
		ulimit -f 1000
		expect 1 "$fid" bench --dir . --seconds 0.02 file-pipe-read
	)
	says 'source-.*File too large'
	[ "$(ls | tr '\n' ' ')" = 'err out ' ]
}
run a_file_that_becomes_too_large_is_an_error_that_says_so

a_call_that_is_refused_does_not_end_the_rest() {
	for call in splice tee vmsplice; do
		expect 1 "$fid" run --deny "$call=EPERM" --no-preload -- \
			"$fid" bench --seconds 0.02 --dir . --json calls small
		says 'did not arrive'
		known "{one['title'].split(',')[0] for one in d['calls'] if one.get('failure') == 'EPERM'}
			== {'$call'}"
		known '[one for one in d["calls"] if "bare_ns" in one] and d["small"]'
		cp out results
		expect 0 "$fid" bench --from results
		grep -q "^  $call, .* failed: EPERM" out
		expect 0 "$fid" bench --csv --from results calls
		grep -q "^calls,\"*$call, .*,4096,,failure,,,,EPERM" out
		command -v gnuplot > /dev/null || continue
		expect 0 "$fid" bench --csv --from results --plot x.svg calls
		sed -n 's/<[^>]*>//gp' x.svg | grep -q '^[[:space:]]*failed: EPERM'
	done
}
run a_call_that_is_refused_does_not_end_the_rest

a_fan_is_measured_where_vmsplice_is_refused() {
	expect 0 "$fid" run --deny vmsplice=EPERM --no-preload -- \
		"$fid" bench --seconds 0.02 --dir . --json fan-read
	known 'len(d["fan"]) == 5 and all("ratio" in e for c in d["fan"] for e in c["entrants"])'
}
run a_fan_is_measured_where_vmsplice_is_refused

# left PID: what is left of a run: processes that work in this folder, and files.
left() {
	for link in /proc/[0-9]*/cwd; do
		[ "$(readlink "$link" 2> /dev/null)" = "$PWD" ] || continue
		pid=${link#/proc/}
		pid=${pid%/cwd}
		case $(cat "/proc/$pid/comm" 2> /dev/null) in
		fid | cat | dd | sleep) echo "process $pid" ;;
		esac
	done
	ls -d fid-bench-* "/dev/shm/fid-bench-$1".* 2> /dev/null
}

# Files and at least three processes: one that watches, one that measures, one that moves.
is_at_work() {
	[ "$(left "$1" | grep -c process)" -ge 3 ] && [ -n "$(ls fid-bench-"$1".*/source-*)" ]
}

signals_end_it_without_leaving_anything() {
	for signal in TERM HUP; do
		"$fid" bench --seconds 9 --dir . file-memory > out &
		pid=$!
		until_true is_at_work "$pid"
		kill "-$signal" "$pid"
		status=0
		wait "$pid" || status=$?
		[ "$status" -gt 128 ]
		[ -z "$(left "$pid")" ]
	done
	# A shell has its background jobs ignore it.
	status=0
	timeout --preserve-status -s INT 1 "$fid" bench --seconds 9 --dir . file-file > out ||
		status=$?
	[ "$status" -eq 130 ]
	[ -z "$(left none)" ]
	status=0
	timeout --foreground --preserve-status -s INT 1 "$fid" bench --seconds 9 --dir . \
		file-file > out || status=$?
	[ "$status" -eq 130 ]
	[ -z "$(left none)" ]
}
run signals_end_it_without_leaving_anything

a_command_that_hangs_is_ended_with_it() {
	mkdir bare
	printf '#!/bin/sh\n[ "$1" = --version ] || exec sleep 50\n' > bare/pv
	chmod +x bare/pv
	PATH=$PWD/bare:$PATH "$fid" bench --peers --dir . pipe-pipe > out &
	pid=$!
	hangs() {
		for link in /proc/[0-9]*/cwd; do
			[ "$(readlink "$link")" = "$PWD" ] || continue
			[ "$(cat "${link%cwd}comm")" != sleep ] || return 0
		done
		return 1
	}
	until_true hangs
	kill "$pid"
	gone() {
		! kill -0 "$pid"
	}
	until_true gone
	[ -z "$(left "$pid")" ]
}
run a_command_that_hangs_is_ended_with_it

processes_do_not_outlive_it() {
	"$fid" bench --seconds 9 --dir . file-memory > out &
	pid=$!
	until_true is_at_work "$pid"
	kill -KILL "$pid"
	wait "$pid" || :
	gone() {
		! left "$pid" | grep -q process
	}
	until_true gone
	rm -r "/dev/shm/fid-bench-$pid".* 2> /dev/null || :
}
run processes_do_not_outlive_it

a_reader_that_goes_away_ends_it() {
	timeout 20 "$fid" bench --seconds 0.02 --dir . calls small | head -n 1 > out
	[ "$(wc -l < out)" -eq 1 ]
	[ -z "$(left none)" ]
	status=0
	timeout 20 "$fid" bench --seconds 0.02 --dir . calls > /dev/full 2> err || status=$?
	[ "$status" -eq 1 ]
	# It is not measured for minutes what cannot be shown.
	status=0
	timeout 20 "$fid" bench --seconds 100 --dir . pipe-pipe > /dev/full 2> err || status=$?
	[ "$status" -eq 1 ]
	says 'cannot print: No space left'
	[ -z "$(left none)" ]
}
run a_reader_that_goes_away_ends_it

entrants_that_fail_are_shown_with_the_reason() {
	mkdir bare
	printf '#!/bin/sh\necho too little\n' > bare/pv
	printf '#!/bin/sh\nexit 9\n' > bare/socat
	chmod +x bare/*
	expect 1 env PATH="$PWD/bare" "$fid" bench --seconds 0.02 --dir . --peers --json pipe-pipe
	says 'did not arrive'
	known '{e["name"]: e.get("failure", "") for e in d["pairs"][0]["entrants"]} == {
		"hand loop": "", "fid_copy": "", "fid": "", "read/write": "",
		"pv": "delivered 11 of %d bytes" % (4 * d["pairs"][0]["volume_bytes"]),
		"socat": "exit status 9", "cat": "not installed", "dd": "not installed",
		"mbuffer": "not installed"}'
	cp out results
	expect 0 "$fid" bench --from results
	grep -q '^  pv  *failed: delivered 11 of' out
	grep -q '^  socat  *failed: exit status 9' out
	expect 0 "$fid" bench --from results --csv
	grep -q 'socat,failure,,,,exit status 9' out
	# That somebody is not there is no failure of this run.
	rm bare/*
	expect 0 env PATH="$PWD/bare" "$fid" bench --seconds 0.02 --dir . --peers pipe-pipe
	grep -q '^  pv  *failed: not installed' out
}
run entrants_that_fail_are_shown_with_the_reason

peers_take_part_only_when_asked_for() {
	measures --json --peers file-file constant-splice fan-splice
	known '{"cp", "cat", "dd"} <= {e["name"] for e in d["pairs"][0]["entrants"]}'
	known '"yes" in {e["name"] for e in d["constant"][0]["entrants"]}'
	known '"tee" in {e["name"] for e in d["fan"][0]["entrants"]}'
	known 'd["facts"]["cat, cp, dd, tee, yes"] and "mbuffer" in d["facts"]'
	measures --json constant-splice file-file
	known '{e["name"] for e in d["pairs"][0]["entrants"]} ==
		{"hand loop", "fid_copy", "fid", "read/write"}'
	known '"pv" not in d["facts"]'
}
run peers_take_part_only_when_asked_for

as_many_rounds_as_asked_for_are_made() {
	measures --rounds 7 --json pipe-file
	known 'd["pairs"][0]["rounds"] == 7 and d["rounds"] == 7'
}
run as_many_rounds_as_asked_for_are_made

progress_is_on_terminals_only_and_is_taken_away() {
	expect 0 "$terminal" 60 "$fid" bench --seconds 0.02 --dir . start calls
	tr '\r' '\n' < err > lines
	grep -q '^scenario 1 of 2: calls *$' lines
	grep -q '^scenario 2 of 2: start *$' lines
	# The last line is spaces, and the cursor is at its beginning.
	python3 -c '
text = open("err", "rb").read()
assert text.endswith(b"\r"), text
assert not text.split(b"\r")[-2].strip(), text
assert max(map(len, text.split(b"\r"))) < 60, text
# Each line is gone before a table comes.
assert sum(1 for part in text.split(b"\r") if part and not part.strip()) == 2, text'
	measures start
	silent
}
run progress_is_on_terminals_only_and_is_taken_away

finish
