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
complete -c fid -n __fid_is -a why -d 'tell how \'fid copy\' would move SOURCE to SINK, and why'
complete -c fid -n __fid_is -a run -d 'run COMMAND where the kernel refuses its splice calls'
complete -c fid -n __fid_is -a doctor -d 'find out what this kernel, container and user allow'
complete -c fid -n __fid_is -a bench -d 'measure what moving bytes costs on this machine'
complete -c fid -n __fid_is -a help -d 'explain a command'

complete -c fid -n '__fid_is copy' -l limit -x -d 'stop after so many bytes, of all sources'
complete -c fid -n '__fid_is copy' -l offset -x -d 'begin so far into SOURCE, of which there is one'
complete -c fid -n '__fid_is copy' -l append -d 'add to the end of the file SINK'
complete -c fid -n '__fid_is copy' -l sparse -d 'holes of a SOURCE become holes of SINK, a file'
complete -c fid -n '__fid_is copy' -l stable -d 'later writes to SOURCE never show in what was moved'
complete -c fid -n '__fid_is copy' -l route -x -a '(__fid_list reflink copy_file_range sendfile splice splice-pipe read-write)' -d 'move only in these ways'
complete -c fid -n '__fid_is copy' -l require -x -a 'by-reference no-user-copy' -d 'move nothing rather than in a dearer way'
complete -c fid -n '__fid_is copy' -l pipe-size -x -d 'the size of pipes, given or private'
complete -c fid -n '__fid_is copy' -l sync -d 'done is when the disk has all, and the name of SINK'
complete -c fid -n '__fid_is copy' -l idle-timeout -x -d 'fail when nothing moves for so long'
complete -c fid -n '__fid_is copy' -l rate-limit -x -d 'at most so many bytes a second'
complete -c fid -n '__fid_is copy' -l receipt -f -a 'text json' -d 'how every byte moved and why, on standard error'
complete -c fid -n '__fid_is copy' -l receipt-file -r -F -d 'write the receipt there'
complete -c fid -n '__fid_is copy' -l digest -x -a 'sha256 xxh3' -d 'print a digest of what was moved'
complete -c fid -n '__fid_is copy' -l progress -d 'always show progress'
complete -c fid -n '__fid_is copy' -l no-progress -d 'never show progress'
complete -c fid -n '__fid_is copy' -l name -x -d 'what the progress line begins with'
complete -c fid -n '__fid_is copy' -s h -d 'explain the command'
complete -c fid -n '__fid_is copy' -l help -d 'explain the command'
complete -c fid -n '__fid_is copy' -l version -d 'print the version'
complete -c fid -n '__fid_is copy' -F -a '(__fid_ends)'

complete -c fid -n '__fid_is cat' -l limit -x -d 'stop after so many bytes in all'
complete -c fid -n '__fid_is cat' -l offset -x -d 'wants one SOURCE only'
complete -c fid -n '__fid_is cat' -l sparse -d 'want a file as standard output'
complete -c fid -n '__fid_is cat' -l sync -d 'want a file as standard output'
complete -c fid -n '__fid_is cat' -l progress -d 'always show progress'
complete -c fid -n '__fid_is cat' -l digest -x -a 'sha256 xxh3' -d 'print a digest of what was moved'
complete -c fid -n '__fid_is cat' -l rate-limit -x -d 'at most so many bytes a second'
complete -c fid -n '__fid_is cat' -l require -x -a 'by-reference no-user-copy' -d 'move nothing rather than in a dearer way'
complete -c fid -n '__fid_is cat' -l receipt -f -a 'text json' -d 'how every byte moved and why, on standard error'
complete -c fid -n '__fid_is cat' -l stable -d 'later writes to SOURCE never show in what was moved'
complete -c fid -n '__fid_is cat' -l route -x -a '(__fid_list reflink copy_file_range sendfile splice splice-pipe read-write)' -d 'move only in these ways'
complete -c fid -n '__fid_is cat' -l pipe-size -x -d 'the size of pipes, given or private'
complete -c fid -n '__fid_is cat' -l idle-timeout -x -d 'fail when nothing moves for so long'
complete -c fid -n '__fid_is cat' -l receipt-file -r -F -d 'write the receipt there'
complete -c fid -n '__fid_is cat' -l no-progress -d 'never show progress'
complete -c fid -n '__fid_is cat' -l name -x -d 'what the progress line begins with'
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
complete -c fid -n '__fid_is tee' -l limit -x -d 'stop after so many bytes, of all sources'
complete -c fid -n '__fid_is tee' -l offset -x -d 'begin so far into SOURCE, of which there is one'
complete -c fid -n '__fid_is tee' -l stable -d 'later writes to SOURCE never show in what was moved'
complete -c fid -n '__fid_is tee' -l route -x -a '(__fid_list reflink copy_file_range sendfile splice splice-pipe read-write)' -d 'move only in these ways'
complete -c fid -n '__fid_is tee' -l pipe-size -x -d 'the size of pipes, given or private'
complete -c fid -n '__fid_is tee' -l receipt -f -a 'text json' -d 'how every byte moved and why, on standard error'
complete -c fid -n '__fid_is tee' -l receipt-file -r -F -d 'write the receipt there'
complete -c fid -n '__fid_is tee' -l progress -d 'always show progress'
complete -c fid -n '__fid_is tee' -l no-progress -d 'never show progress'
complete -c fid -n '__fid_is tee' -l name -x -d 'what the progress line begins with'
complete -c fid -n '__fid_is tee' -l help -d 'explain the command'
complete -c fid -n '__fid_is tee' -l version -d 'print the version'
complete -c fid -n '__fid_is tee' -s h -d 'explain the command'
complete -c fid -n '__fid_is tee' -F -a '(__fid_ends)'

complete -c fid -n '__fid_is why' -l limit -x -d 'so many bytes'
complete -c fid -n '__fid_is why' -l offset -x -d 'from so far into SOURCE'
complete -c fid -n '__fid_is why' -l append -d 'to the end of the file SINK'
complete -c fid -n '__fid_is why' -l stable -d 'later writes to SOURCE never show in what was moved'
complete -c fid -n '__fid_is why' -l route -x -a '(__fid_list reflink copy_file_range sendfile splice splice-pipe read-write)' -d 'move only in these ways'
complete -c fid -n '__fid_is why' -l require -x -a 'by-reference no-user-copy' -d 'move nothing rather than in a dearer way'
complete -c fid -n '__fid_is why' -l pipe-size -x -d 'the size of pipes, given or private'
complete -c fid -n '__fid_is why' -l try -d 'move some real bytes as well'
complete -c fid -n '__fid_is why' -l json -d 'all of it as one object'
complete -c fid -n '__fid_is why' -s h -d 'explain the command'
complete -c fid -n '__fid_is why' -l help -d 'explain the command'
complete -c fid -n '__fid_is why' -l version -d 'print the version'
complete -c fid -n '__fid_is why' -F -a '(__fid_ends)'

complete -c fid -n '__fid_is run; and not __fid_has_program' -l deny -x -a '(__fid_denials)' -d 'have the kernel refuse these calls'
complete -c fid -n '__fid_is run; and not __fid_has_program' -l no-preload -d 'run it without help'
complete -c fid -n '__fid_is run; and not __fid_has_program' -s h -d 'explain the command'
complete -c fid -n '__fid_is run; and not __fid_has_program' -l help -d 'explain the command'
complete -c fid -n '__fid_is run; and not __fid_has_program' -l version -d 'print the version'
complete -c fid -n '__fid_is run' -a '(__fid_program)'

complete -c fid -n '__fid_is doctor' -l json -d 'one line of JSON'
complete -c fid -n '__fid_is doctor' -s h -d 'explain the command'
complete -c fid -n '__fid_is doctor' -l help -d 'explain the command'
complete -c fid -n '__fid_is doctor' -l version -d 'print the version'
complete -c fid -n '__fid_is doctor' -F

complete -c fid -n '__fid_is bench' -l list -d 'the scenarios, with a line each'
complete -c fid -n '__fid_is bench' -l seconds -x -d 'the time for each scenario'
complete -c fid -n '__fid_is bench' -l rounds -x -d '6 to 64 rounds of each, in any case'
complete -c fid -n '__fid_is bench' -l dir -r -F -d 'make files there, up to 3 GiB, and remove them'
complete -c fid -n '__fid_is bench' -l peers -d 'cat, cp, dd, mbuffer, pv, socat, tee and yes as well'
complete -c fid -n '__fid_is bench' -l json -d 'print them as JSON, and no table'
complete -c fid -n '__fid_is bench' -l csv -d 'print them as CSV, and no table'
complete -c fid -n '__fid_is bench' -l plot -r -F -d 'draw them with gnuplot'
complete -c fid -n '__fid_is bench' -l from -r -F -d 'take the results that --json once printed into FILE'
complete -c fid -n '__fid_is bench' -s h -d 'explain the command'
complete -c fid -n '__fid_is bench' -l help -d 'explain the command'
complete -c fid -n '__fid_is bench' -l version -d 'print the version'
complete -c fid -n '__fid_is bench' -a 'file-pipe-splice file-pipe-read file-pipe-shell pipe-pipe pipe-file file-file file-memory file-tcp tcp-file tcp-pipe sweep-pipe sweep-chunk sweep-message memory-read memory-splice constant-read constant-splice fan-read fan-splice calls small start idle all'

complete -c fid -n '__fid_is help; and test (count (commandline -opc)) -eq 2' -a 'copy cat tee why run doctor bench help'
