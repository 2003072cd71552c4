import { nearestWord } from '../runtime/nearest-word.ts'
import { isGroup, type CommandGroup, type CommandNode } from './command.ts'
import type { SpiffeError } from '../spiffe/errors.ts'
import { usage } from './parse-flags.ts'

export interface FoundCommand {
  /** The words that led there, from `assay`. */
  readonly path: readonly string[]
  readonly node: CommandNode
  /** What follows: flags and the argument; after a group, flags or words that name no command. */
  readonly rest: readonly string[]
}

/** Follows the leading words as far as they name commands. @param program the first word of the path */
export function findCommand (root: CommandGroup, words: readonly string[], program = 'assay'): FoundCommand {
  let node: CommandNode = root
  const path = [program]
  for (const [index, word] of words.entries()) {
    if (!isGroup(node) || word.startsWith('-')) return { path, node, rest: words.slice(index) }
    const next: CommandNode | undefined = Object.hasOwn(node.commands, word) ? node.commands[word] : undefined
    if (next === undefined) return { path, node, rest: words.slice(index) }
    node = next
    path.push(word)
  }
  return { path, node, rest: [] }
}

/** The command that a group means when flags or nothing follow its name; whatever else was found stays as it is. */
export function orDefault (found: FoundCommand): FoundCommand {
  const { path, node, rest } = found
  if (!isGroup(node) || node.byDefault === undefined || rest[0]?.startsWith('-') === false) return found
  const meant = node.commands[node.byDefault]
  return meant === undefined ? found : { path: [...path, node.byDefault], node: meant, rest }
}

/** @returns {SpiffeError} `usage_invalid`, with the nearest known command */
export function unknownCommand (path: readonly string[], word: string, group: CommandGroup): SpiffeError {
  const nearest = nearestWord(word, Object.keys(group.commands))
  const hint = nearest === undefined
    ? `commands here: ${Object.keys(group.commands).join(', ')}`
    : `did you mean \`${[...path, nearest].join(' ')}\`?`
  return usage(`unknown command ${JSON.stringify([...path.slice(1), word].join(' '))}; ${hint}`)
}
