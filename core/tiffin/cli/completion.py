"""`completion`: the script that makes a shell ask `tiffin __complete` (complete.py)."""

from __future__ import annotations

import sys

from ..errors import UserError
from .flags import Call, Command, suggestion

BASH = r"""# bash completion of tiffin: source it, or put it where bash-completion looks:
#   tiffin completion bash > /usr/share/bash-completion/completions/tiffin
_tiffin() {
    local line=${COMP_LINE:0:COMP_POINT} words last more found item
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] || ${#words[@]} -eq 0 ]] && words+=("")
    last=${words[-1]}
    COMPREPLY=()
    mapfile -t found < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
    [ ${#found[@]} -gt 0 ] || return 0
    more=${found[-1]}
    unset 'found[-1]'
    # What bash takes for words of their own (: and =) is there already.
    local start=""
    [[ $last == *[:=]* ]] && start=${last%"${last##*[:=]}"}
    for item in "${found[@]}"; do
        item=${item%%$'\t'*}
        COMPREPLY+=("${item#"$start"}")
    done
    local -A kinds=([:files]=-f [:dirs]=-d)
    if [[ -n ${kinds[$more]} ]]; then
        compopt -o filenames
        last=${last#"$start"}
        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen "${kinds[$more]}" -- "$last")
    fi
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[:=] ]] && compopt -o nospace
    return 0
}
complete -F _tiffin tiffin
"""

ZSH = r"""#compdef tiffin
# zsh completion of tiffin: put it into a directory of $fpath, or source it after compinit:
#   tiffin completion zsh > "${fpath[1]}/_tiffin"
_tiffin() {
    local -a found plain open
    local more item word
    found=("${(@f)$(${words[1]} __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    (( ${#found} )) || return 1
    more=${found[-1]}
    found=("${(@)found[1,-2]}")
    for item in "${found[@]}"; do
        [[ -n $item ]] || continue
        word=${${item%%$'\t'*}//:/\\:}
        [[ $item == *$'\t'* ]] && word="$word:${item#*$'\t'}"
        if [[ ${item%%$'\t'*} == *[:=] ]]; then open+=("$word"); else plain+=("$word"); fi
    done
    (( ${#plain} )) && _describe tiffin plain
    (( ${#open} )) && _describe tiffin open -S ''
    case $more in
        :files) _files ;;
        :dirs) _files -/ ;;
    esac
}
if [ "${funcstack[1]}" = _tiffin ]; then
    _tiffin "$@"
else
    compdef _tiffin tiffin
fi
"""

FISH = r"""# fish completion of tiffin:
#   tiffin completion fish > ~/.config/fish/completions/tiffin.fish
function __tiffin_complete
    set -l words (commandline -opc)
    set -l last (commandline -ct)
    set -l found ($words[1] __complete $words[2..-1] "$last" 2>/dev/null)
    set -q found[1]; or return
    set -q found[2]; and printf '%s\n' $found[1..-2]
    switch $found[-1]
        case :files
            __fish_complete_path "$last"
        case :dirs
            __fish_complete_directories "$last"
    end
end
complete -c tiffin -f -a '(__tiffin_complete)'
"""

SHELLS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def _completion(call: Call) -> int:
    shell = call.arguments[0]
    if shell not in SHELLS:
        raise UserError(
            f"there is no completion for {shell!r}{suggestion(shell, list(SHELLS))}",
            hint=", ".join(SHELLS),
        )
    sys.stdout.write(SHELLS[shell])
    return 0


COMPLETION = Command(
    "completion",
    "bash|zsh|fish",
    "Print the script that lets a shell complete commands, flags and names",
    (),
    (1, 1),
    (
        "source <(tiffin completion bash)",
        'tiffin completion zsh > "${fpath[1]}/_tiffin"',
        "tiffin completion fish > ~/.config/fish/completions/tiffin.fish",
    ),
    _completion,
)
