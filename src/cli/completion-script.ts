import type { Flag } from './flag.ts'
import type { CompletionPoint } from './completion.ts'

/** For bash 4 and later, without the bash-completion package. */
export function formatBashCompletion (points: readonly CompletionPoint[]): string {
  return `# bash completion for assay; made by \`assay completion bash\`
_assay () {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" at='' word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) break ;; esac
    if _assay_words "\${at:+$at }$word" > /dev/null; then at="\${at:+$at }$word"; else break; fi
  done
  local values
  if values="$(_assay_values "$at" "$previous")"; then
    case "$values" in
      @path) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
      *) mapfile -t COMPREPLY < <(compgen -W "$values" -- "$current") ;;
    esac
    return
  fi
  local words
  words="$(_assay_words "$at")"
  case " $words " in
    *' @path '*) mapfile -t COMPREPLY < <(compgen -W "\${words//@path/}" -- "$current"; compgen -f -- "$current") ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current") ;;
  esac
}

_assay_words () {
  case "$1" in
${points.map(point => `    '${point.path}') echo '${wordsOf(point).join(' ')}' ;;`).join('\n')}
    *) return 1 ;;
  esac
}

_assay_values () {
  case "$1 $2" in
${valueCases(points)}
    *) return 1 ;;
  esac
}

complete -o filenames -F _assay assay
`
}

/** For zsh: a native function for \`fpath\`, with descriptions. */
export function formatZshCompletion (points: readonly CompletionPoint[]): string {
  return `#compdef assay
# zsh completion for assay; made by \`assay completion zsh\`
_assay_point () {
  case "$1" in
${points.map(zshPoint).join('\n')}
    *) return 1 ;;
  esac
}

_assay_values () {
  case "$1 $2" in
${valueCases(points)}
    *) return 1 ;;
  esac
}

_assay () {
  local at='' word values files=0
  local -a choices
  for word in "\${(@)words[2,CURRENT-1]}"; do
    [[ "$word" == -* ]] && break
    _assay_point "\${at:+$at }$word" || break
    at="\${at:+$at }$word"
  done
  if values="$(_assay_values "$at" "\${words[CURRENT-1]}")"; then
    if [[ "$values" == '@path' ]]; then _files; else compadd -- \${=values}; fi
    return
  fi
  _assay_point "$at"
  _describe 'assay' choices
  (( files )) && _files
}

if [[ "\${funcstack[1]}" == _assay ]]; then _assay "$@"; else compdef _assay assay; fi
`
}

export function formatFishCompletion (points: readonly CompletionPoint[]): string {
  return `# fish completion for assay; made by \`assay completion fish\`
function __assay_at
  set -l path
  for word in (commandline -opc)[2..-1]
    string match -q -- '-*' $word; and break
    set -a path $word
  end
  test "$path" = "$argv"
end
complete -c assay -f
${points.flatMap(fishLines).join('\n')}
`
}

function zshPoint (point: CompletionPoint): string {
  const choices = descriptionsOf(point).map(([word, text]) => quote(`${word}:${text}`)).join(' ')
  return `    '${point.path}') choices=(${choices}); files=${point.takesPath ? 1 : 0} ;;`
}

function fishLines (point: CompletionPoint): string[] {
  const at = `complete -c assay -n '__assay_at ${point.path}'`
  return [
    ...point.commands.map(({ name, summary }) => `${at} -a ${name} -d ${quote(summary)}`),
    ...point.argument.map(word => `${at} -a ${word}`),
    ...point.takesPath ? [`${at} -F`] : [],
    ...Object.entries(point.flags).map(([name, flag]) => {
      return `${at} -o ${name} -l ${name}${fishValue(flag)} -d ${quote(flag.help)}`
    })
  ]
}

function fishValue ({ placeholder, takesPath, choices }: Flag<unknown>): string {
  if (placeholder === undefined) return ''
  if (takesPath === true) return ' -r -F'
  return choices === undefined ? ' -x' : ` -x -a '${choices.join(' ')}'`
}

/** Shell `case` arms that print the values of a flag in either dash form; `@path` stands for files. */
function valueCases (points: readonly CompletionPoint[]): string {
  return points.flatMap(({ path, flags }) => Object.entries(flags).flatMap(([name, flag]) => {
    if (flag.placeholder === undefined) return []
    const values = flag.takesPath === true ? '@path' : flag.choices?.join(' ') ?? ''
    return [`    '${path} -${name}'|'${path} --${name}') echo '${values}' ;;`]
  })).join('\n')
}

function wordsOf ({ commands, flags, argument, takesPath }: CompletionPoint): string[] {
  return [...commands.map(({ name }) => name), ...argument, ...Object.keys(flags).map(name => `-${name}`), ...takesPath ? ['@path'] : []]
}

function descriptionsOf ({ commands, flags, argument }: CompletionPoint): [string, string][] {
  return [
    ...commands.map(({ name, summary }): [string, string] => [name, summary]),
    ...argument.map((word): [string, string] => [word, word]),
    ...Object.entries(flags).map(([name, { help }]): [string, string] => [`-${name}`, help])
  ]
}

/** One word of a POSIX shell; zsh's `_describe` splits at the first colon only. */
function quote (text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
