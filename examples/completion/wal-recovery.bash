# SPDX-License-Identifier: BSL-1.0
# Completion of wal-recovery for bash. Installed as share/bash-completion/completions/wal-recovery.

_wal_recovery() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command='' i
    local commands='validate inspect dump get scan put erase load repair undo accept-loss explain help'
    for ((i = 1; i < COMP_CWORD; ++i)); do
        [[ ${COMP_WORDS[i - 1]} == --data-dir ]] && continue
        if [[ ${COMP_WORDS[i]} != -* && " $commands " == *" ${COMP_WORDS[i]} "* ]]; then
            command=${COMP_WORDS[i]}
            break
        fi
    done
    COMPREPLY=()
    case $before in
    --data-dir)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$word")
        return
        ;;
    --input)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    --strategy)
        mapfile -t COMPREPLY < <(compgen -W 'skip partial rollback' -- "$word")
        return
        ;;
    --from | --from-lsn | --limit | --memory-limit | --prefix | --to) return ;;
    esac
    local words='' folders='' files=''
    case $command in
    '') words="$commands --data-dir --help --version" ;;
    validate) words='--data-dir --deep --json --memory-limit --help' folders=1 ;;
    inspect) words='--data-dir --json --memory-limit --help' folders=1 ;;
    dump) words='--data-dir --from-lsn --json --memory-limit --help' folders=1 ;;
    get) words='--data-dir --json --raw --help' ;;
    scan) words='--data-dir --from --json --keys --limit --prefix --reverse --to --help' ;;
    put) words='--data-dir --input --json --help' ;;
    load) words='--data-dir --input --json --help' files=1 ;;
    repair) words='--data-dir --strategy --dry-run --undo --json --memory-limit --help' folders=1 ;;
    undo | accept-loss) words='--data-dir --json --help' folders=1 ;;
    explain) words='--json --help' ;;
    help) words=$commands ;;
    *) words='--data-dir --json --help' ;;
    esac
    [[ -z $word || $word == -* || -z $folders$files ]] && mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    if [[ $word != -* && -n $folders$files ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen ${folders:+-d} ${files:+-f} -- "$word")
    fi
}
complete -F _wal_recovery wal-recovery
