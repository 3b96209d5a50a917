# SPDX-License-Identifier: BSL-1.0
# Completion of wal-recovery for bash. Installed as share/bash-completion/completions/wal-recovery.

_wal_recovery() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command='' i
    for ((i = 1; i < COMP_CWORD; ++i)); do
        case ${COMP_WORDS[i]} in
        validate | inspect | dump | load | repair | undo | accept-loss) command=${COMP_WORDS[i]} && break ;;
        esac
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
    --from-lsn) return ;;
    esac
    local words
    case $command in
    '') words='validate inspect dump load repair undo accept-loss --help --version' ;;
    validate) words='--data-dir --deep --json --help' ;;
    dump) words='--data-dir --from-lsn --json --help' ;;
    load) words='--data-dir --input --json --help' ;;
    repair) words='--data-dir --strategy --dry-run --undo --json --help' ;;
    *) words='--data-dir --json --help' ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _wal_recovery wal-recovery
