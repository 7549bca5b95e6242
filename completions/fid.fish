# SPDX-License-Identifier: MIT
# Completion of fid for fish. Made by ./dev completions from what fid says of itself.

# Whether the command is one of these; without arguments: whether there is none yet.
function __fid_is
    set -l words (commandline -opc)
    if test (count $argv) -eq 0
        test (count $words) -eq 1
    else
        test (count $words) -ge 2; and contains -- $words[2] $argv
    end
end

# Whether "fid run" has its program: the first word that is no option of fid.
function __fid_has_program
    set -l words (commandline -opc)
    set -l i 3
    while test $i -le (count $words)
        switch $words[$i]
            case --deny
                set i (math $i + 1)
            case --
                return 0
            case '-*'
            case '*'
                return 0
        end
        set i (math $i + 1)
    end
    return 1
end

function __fid_program
    set -l words (commandline -opc) (commandline -ct | string collect --allow-empty)
    set -l i 3
    while test $i -lt (count $words); and string match -q -- '-*' $words[$i]
        if test "$words[$i]" = --
            set i (math $i + 1)
            break
        end
        test "$words[$i]" = --deny; and set i (math $i + 1)
        set i (math $i + 1)
    end
    set -l rest (string join ' ' -- $words[$i..-1])
    # The space: an empty line would be none at all.
    complete -C " $rest"
end

function __fid_ends
    set -l token (commandline -ct)
    if set -l kind (string match -r '^unix(?:-listen)?:' -- $token)
        for path in (__fish_complete_path (string replace -- $kind '' $token))
            echo $kind$path
        end
    else
        printf '%s\n' tcp: tcp-listen: unix: unix-listen: fd:
    end
end

# Words with commas between them.
function __fid_list
    set -l given (string match -r '^.*,' -- (commandline -ct | string replace -r '^--[\w-]+=' ''))
    for word in $argv
        contains -- $word (string split , -- "$given"); or echo "$given$word"
    end
end

function __fid_denials
    set -l token (commandline -ct | string replace -r '^--deny=' '')
    set -l given (string match -r '^.*,' -- $token)
    set -l last (string replace -r '^.*,' '' -- $token)
    if string match -q '*=*' -- $last
        for error in EPERM ENOSYS EOPNOTSUPP EACCES EINVAL
            echo "$given"(string replace -r '=.*' '' -- $last)"=$error"
        end
    else
        for call in splice tee vmsplice vmsplice-gift sendfile copy_file_range
            echo "$given$call="
        end
    end
end

complete -c fid -f
complete -c fid -n __fid_is -s h -l help -d 'Explain fid'
complete -c fid -n __fid_is -l version -d 'Print the version'
complete -c fid -n __fid_is -a copy -d 'move all bytes of SOURCE to SINK'
complete -c fid -n __fid_is -a cat -d 'move all bytes of each SOURCE to standard output'
complete -c fid -n __fid_is -a tee -d 'give standard input to standard output and to each SINK'
complete -c fid -n __fid_is -a run -d 'run COMMAND where the kernel refuses its splice calls'
complete -c fid -n __fid_is -a help -d 'explain a command'

complete -c fid -n '__fid_is copy' -l limit -x -d 'stop after so many bytes'
complete -c fid -n '__fid_is copy' -l offset -x -d 'begin so far into SOURCE'
complete -c fid -n '__fid_is copy' -l append -d 'add to the end of the file SINK'
complete -c fid -n '__fid_is copy' -l stable -d 'later writes to SOURCE never show in what was moved'
complete -c fid -n '__fid_is copy' -l route -x -a '(__fid_list reflink copy_file_range sendfile splice splice-pipe read-write)' -d 'move only in these ways'
complete -c fid -n '__fid_is copy' -l require -x -a 'by-reference no-user-copy' -d 'move nothing rather than in a dearer way'
complete -c fid -n '__fid_is copy' -l pipe-size -x -d 'the size of pipes, given or private'
complete -c fid -n '__fid_is copy' -l receipt -f -a 'text json' -d 'how every byte moved and why, on standard error'
complete -c fid -n '__fid_is copy' -l receipt-file -r -F -d 'write the receipt there'
complete -c fid -n '__fid_is copy' -l progress -d 'always show progress'
complete -c fid -n '__fid_is copy' -l no-progress -d 'never show progress'
complete -c fid -n '__fid_is copy' -s h -d 'explain the command'
complete -c fid -n '__fid_is copy' -l help -d 'explain the command'
complete -c fid -n '__fid_is copy' -l version -d 'print the version'
complete -c fid -n '__fid_is copy' -F -a '(__fid_ends)'

complete -c fid -n '__fid_is cat' -l limit -x -d 'stop after so many bytes in all'
complete -c fid -n '__fid_is cat' -l offset -x -d 'wants one SOURCE only'
complete -c fid -n '__fid_is cat' -l progress -d 'always show progress'
complete -c fid -n '__fid_is cat' -l require -x -a 'by-reference no-user-copy' -d 'move nothing rather than in a dearer way'
complete -c fid -n '__fid_is cat' -l receipt -f -a 'text json' -d 'how every byte moved and why, on standard error'
complete -c fid -n '__fid_is cat' -l stable -d 'later writes to SOURCE never show in what was moved'
complete -c fid -n '__fid_is cat' -l route -x -a '(__fid_list reflink copy_file_range sendfile splice splice-pipe read-write)' -d 'move only in these ways'
complete -c fid -n '__fid_is cat' -l pipe-size -x -d 'the size of pipes, given or private'
complete -c fid -n '__fid_is cat' -l receipt-file -r -F -d 'write the receipt there'
complete -c fid -n '__fid_is cat' -l no-progress -d 'never show progress'
complete -c fid -n '__fid_is cat' -s h -d 'explain the command'
complete -c fid -n '__fid_is cat' -l help -d 'explain the command'
complete -c fid -n '__fid_is cat' -l version -d 'print the version'
complete -c fid -n '__fid_is cat' -F -a '(__fid_ends)'

complete -c fid -n '__fid_is tee' -s a -d 'add to the end of files'
complete -c fid -n '__fid_is tee' -l append -d 'add to the end of files'
complete -c fid -n '__fid_is tee' -s i -d 'SIGINT does not end it'
complete -c fid -n '__fid_is tee' -l ignore-interrupts -d 'SIGINT does not end it'
complete -c fid -n '__fid_is tee' -l no-stdout -d 'not to standard output, unless it is named'
complete -c fid -n '__fid_is tee' -l on-slow -x -a 'wait drop spill' -d 'what happens when a sink is slow'
complete -c fid -n '__fid_is tee' -l stall -x -d 'how long a sink may take nothing'
complete -c fid -n '__fid_is tee' -l spill-size -x -d 'of each such file, at most'
complete -c fid -n '__fid_is tee' -l on-error -x -a 'continue stop' -d 'what happens when a sink fails'
complete -c fid -n '__fid_is tee' -s p
complete -c fid -n '__fid_is tee' -l output-error -f -a 'warn warn-nopipe exit exit-nopipe' -d 'as with tee(1)'
complete -c fid -n '__fid_is tee' -l limit -x -d 'stop after so many bytes'
complete -c fid -n '__fid_is tee' -l offset -x -d 'begin so far into SOURCE'
complete -c fid -n '__fid_is tee' -l stable -d 'later writes to SOURCE never show in what was moved'
complete -c fid -n '__fid_is tee' -l route -x -a '(__fid_list reflink copy_file_range sendfile splice splice-pipe read-write)' -d 'move only in these ways'
complete -c fid -n '__fid_is tee' -l pipe-size -x -d 'the size of pipes, given or private'
complete -c fid -n '__fid_is tee' -l receipt -f -a 'text json' -d 'how every byte moved and why, on standard error'
complete -c fid -n '__fid_is tee' -l receipt-file -r -F -d 'write the receipt there'
complete -c fid -n '__fid_is tee' -l progress -d 'always show progress'
complete -c fid -n '__fid_is tee' -l no-progress -d 'never show progress'
complete -c fid -n '__fid_is tee' -l help -d 'explain the command'
complete -c fid -n '__fid_is tee' -l version -d 'print the version'
complete -c fid -n '__fid_is tee' -s h -d 'explain the command'
complete -c fid -n '__fid_is tee' -F -a '(__fid_ends)'

complete -c fid -n '__fid_is run; and not __fid_has_program' -l deny -x -a '(__fid_denials)' -d 'have the kernel refuse these calls'
complete -c fid -n '__fid_is run; and not __fid_has_program' -l no-preload -d 'run it without help'
complete -c fid -n '__fid_is run; and not __fid_has_program' -s h -d 'explain the command'
complete -c fid -n '__fid_is run; and not __fid_has_program' -l help -d 'explain the command'
complete -c fid -n '__fid_is run; and not __fid_has_program' -l version -d 'print the version'
complete -c fid -n '__fid_is run' -a '(__fid_program)'

complete -c fid -n '__fid_is help; and test (count (commandline -opc)) -eq 2' -a 'copy cat tee run help'
