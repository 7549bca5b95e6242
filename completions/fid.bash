# SPDX-License-Identifier: MIT
# Completion of fid for bash. Made by ./dev completions from what fid says of itself.
# shellcheck shell=bash

# What begins as the word does. Bash replaces only what stands behind the last ":" or "=".
_fid_offer()
{
	local cut=${word%"${word##*[:=]}"} one

	case $COMP_WORDBREAKS in
	*:*=* | *=*:*) ;;
	*) cut= ;;
	esac
	for one; do
		[[ $one != "$word"* ]] || COMPREPLY+=("${one#"$cut"}")
	done
	# shellcheck disable=SC2128 # the first tells enough: all end alike
	[[ ${COMPREPLY-} != *[:=,] ]] || compopt -o nospace
}

_fid_files()
{
	# As bash itself has cut and quoted it.
	mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]#[:=]}")
	compopt -o filenames
}

_fid_end()
{
	case $word in
	unix:* | unix-listen:*) _fid_files ;;
	tcp:* | tcp-listen:* | fd:*) ;;
	*)
		_fid_offer tcp: tcp-listen: unix: unix-listen: fd:
		[[ ${#COMPREPLY[@]} -gt 0 && -n $word ]] || _fid_files
		;;
	esac
}

# Words with commas between them; $1 stands before the whole of it.
_fid_list()
{
	local before=${word%"${word##*[=,]}"} given=,${word#"$1"}, one all=()

	[[ $word == *,* ]] || before=$1
	shift
	for one; do
		[[ $given == *,"$one",* ]] || all+=("$before$one")
	done
	_fid_offer "${all[@]}"
}

# CALL=ERRNO,CALL=ERRNO; $1 stands before the whole of it.
_fid_denials()
{
	local rest=${word#"$1"} before call
	local last=${rest##*,}

	before=$1${rest%"$last"}
	if [[ $last == *=* ]]; then
		call=${last%%=*}
		set -- EPERM ENOSYS EOPNOTSUPP EACCES EINVAL
		_fid_offer "${@/#/$before$call=}"
	else
		set -- splice tee vmsplice vmsplice-gift sendfile copy_file_range
		set -- "${@/#/$before}"
		_fid_offer "${@/%/=}"
	fi
}

# The values of an option; $2 stands before them in the word. Fails where the option has none.
_fid_values()
{
	local option=$1 before=$2 all=()

	case $command$option in
	copy--route | cat--route | tee--route | why--route) _fid_list "$before" reflink copy_file_range sendfile splice splice-pipe read-write ;;
	copy--require | cat--require | why--require) all=(by-reference no-user-copy) ;;
	copy--receipt | cat--receipt | tee--receipt) all=(text json) ;;
	copy--receipt-file | cat--receipt-file | tee--receipt-file | bench--dir | bench--plot | bench--from) _fid_files ;;
	copy--digest | cat--digest) all=(sha256 xxh3) ;;
	tee--on-slow) all=(wait drop spill) ;;
	tee--on-error) all=(continue stop) ;;
	tee--output-error) all=(warn warn-nopipe exit exit-nopipe) ;;
	run--deny) _fid_denials "$before" ;;
	*) return 1 ;;
	esac
	[[ ${#all[@]} = 0 ]] || _fid_offer "${all[@]/#/$before}"
}

# The command that "fid run" is to run, and its own arguments.
_fid_program()
{
	local i=2

	while [[ $i -lt $((${#words[@]} - 1)) && ${words[i]} == -* ]]; do
		[[ ${words[i]} != -- ]] || break
		[[ ${words[i]} != --deny ]] || i=$((i + 1))
		i=$((i + 1))
	done
	[[ ${words[i]} != -- || $i -ge $((${#words[@]} - 1)) ]] || i=$((i + 1))
	if [[ $i -ge $((${#words[@]} - 1)) ]]; then
		mapfile -t COMPREPLY < <(compgen -c -- "$word")
		return 0
	fi
	# That of bash-completion knows the command's own words.
	if declare -F _command_offset >/dev/null; then
		local at=2

		while [[ $at -lt $COMP_CWORD && ${COMP_WORDS[at]} != "${words[i]}" ]]; do
			at=$((at + 1))
		done
		_command_offset "$at"
	else
		_fid_files
	fi
}

_fid()
{
	local words word command arguments options previous choices=()

	# Bash cuts words at ":" and "=". Those of fid end at spaces.
	read -r -a words <<<"${COMP_LINE:0:COMP_POINT}"
	[[ ${COMP_LINE:0:COMP_POINT} != *[[:space:]] ]] || words+=('')
	word=${words[${#words[@]} - 1]}
	# Where a space is quoted, bash knows where the word begins.
	case ${COMP_WORDS[COMP_CWORD]-} in
	*[[:space:]]*) word=${COMP_WORDS[COMP_CWORD]} ;;
	esac
	COMPREPLY=()
	if [[ ${#words[@]} -le 2 ]]; then
		_fid_offer copy cat tee why run doctor bench help --help --version
		return 0
	fi
	command=${words[1]}
	previous=${words[${#words[@]} - 2]}
	case $command in
	copy)
		arguments=ends
		options='--limit --offset --append --sparse --stable --route --require --pipe-size --sync --idle-timeout --rate-limit --receipt --receipt-file --digest --progress --no-progress --name -h --help --version'
		;;
	cat)
		arguments=ends
		options='--limit --offset --sparse --sync --progress --digest --rate-limit --require --receipt --stable --route --pipe-size --idle-timeout --receipt-file --no-progress --name -h --help --version'
		;;
	tee)
		arguments=ends
		options='-a --append -i --ignore-interrupts --no-stdout --on-slow --stall --spill-size --on-error -p --output-error --limit --offset --stable --route --pipe-size --receipt --receipt-file --progress --no-progress --name --help --version -h'
		;;
	why)
		arguments=ends
		options='--limit --offset --append --stable --route --require --pipe-size --try --json -h --help --version'
		;;
	run)
		arguments=program
		options='--deny --no-preload -h --help --version'
		;;
	doctor)
		arguments=files
		options='--json -h --help --version'
		;;
	bench)
		arguments=words
		options='--list --seconds --rounds --dir --peers --json --csv --plot --from -h --help --version'
		choices=(file-pipe-splice file-pipe-read file-pipe-shell pipe-pipe pipe-file file-file file-memory file-tcp tcp-file tcp-pipe sweep-pipe sweep-chunk sweep-message memory-read memory-splice constant-read constant-splice fan-read fan-splice calls small start idle all)
		;;
	help)
		arguments=commands
		options=''
		;;
	*) return 0 ;;
	esac
	[[ $arguments != program ]] || ! _fid_has_program || { _fid_program; return 0; }
	if [[ $word == --*=* ]]; then
		_fid_values "${word%%=*}" "${word%%=*}=" || :
	elif [[ $previous == --* && " --limit --offset --route --require --pipe-size --idle-timeout --rate-limit --receipt-file --digest --name --on-slow --stall --spill-size --on-error --deny --seconds --rounds --dir --plot --from " == *" $previous "* ]]; then
		_fid_values "$previous" '' || :
	elif [[ $word == -* ]]; then
		# shellcheck disable=SC2086 # a list of words
		_fid_offer $options
	else
		case $arguments in
		ends) _fid_end ;;
		files) _fid_files ;;
		words) _fid_offer "${choices[@]}" ;;
		program) _fid_program ;;
		commands) [[ ${#words[@]} -gt 3 ]] || _fid_offer copy cat tee why run doctor bench help ;;
		esac
	fi
}

# Whether a word before this one ends the options of "fid run".
_fid_has_program()
{
	local i

	for ((i = 2; i < ${#words[@]} - 1; i++)); do
		case ${words[i]} in
		--deny) i=$((i + 1)) ;;
		--) return 0 ;;
		-*) ;;
		*) return 0 ;;
		esac
	done
	return 1
}

complete -F _fid fid
