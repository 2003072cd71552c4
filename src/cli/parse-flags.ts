import { nearestWord } from '../runtime/nearest-word.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { Command } from './command.ts'
import type { Flag, Flags } from './flag.ts'

export interface ParsedFlags {
  readonly values: Readonly<Record<string, unknown>>
  readonly argument: string | undefined
  /** All of them. */
  readonly arguments: readonly string[]
}

/** Whether the words ask for help: one of them, before any `--`, is `-h`, `-help` or `--help`. */
export function asksForHelp (words: readonly string[]): boolean {
  const end = words.indexOf('--')
  return words.slice(0, end < 0 ? undefined : end).some(word => /^(-h|--?help)$/.test(word))
}

/**
 * Reads Go-style flags; unlike Go's, they may follow the argument.
 * @throws {SpiffeError} `usage_invalid`, with the nearest flag for a mistyped one
 */
export function parseFlags ({ flags, argument }: Command, words: readonly string[]): ParsedFlags {
  const values: Record<string, unknown> = Object.fromEntries(Object.entries(flags).map(([name, flag]) => [name, flag.initial]))
  const given = new Set<string>()
  const rest: string[] = []
  for (let index = 0; index < words.length; index++) {
    const word = words[index] as string
    if (word === '--') {
      rest.push(...words.slice(index + 1))
      break
    }
    const [, name, , inline] = /^--?([A-Za-z][\w-]*)(=(.*))?$/s.exec(word) ?? []
    if (name === undefined) {
      if (word.startsWith('-') && word !== '-') throw usage(`${word} is not a flag`)
      rest.push(word)
      continue
    }
    const flag = flagNamed(flags, name)
    if (given.has(name) && flag.repeats !== true) throw usage(`-${name} is given twice`)
    given.add(name)
    const follows = flag.placeholder !== undefined || (flag.valueMayFollow === true && /^(true|false)$/.test(words[index + 1] ?? ''))
    const value = inline ?? (follows ? words[++index] : 'true')
    if (value === undefined) throw usage(`-${name} needs a value: -${name} ${flag.placeholder}`)
    values[name] = accept(name, flag, value, values[name])
  }
  const { most = 1, least = argument?.optional === true ? 0 : 1 } = argument ?? { most: 0, least: 0 }
  const beyond = rest[most]
  if (beyond !== undefined) throw usage(`unexpected argument ${JSON.stringify(beyond)}`)
  if (rest.length < least) throw usage(`${argument?.name ?? 'an argument'} is missing`)
  return { values, argument: rest[0], arguments: rest }
}

/** A refusal of the way a command was called. */
export function usage (message: string, cause?: unknown): SpiffeError {
  return new SpiffeError('usage_invalid', message, { cause })
}

function flagNamed (flags: Flags, name: string): Flag<unknown> {
  const flag = Object.hasOwn(flags, name) ? flags[name] : undefined
  if (flag !== undefined) return flag
  const nearest = nearestWord(name, Object.keys(flags))
  throw usage(`unknown flag -${name}${nearest === undefined ? '' : `; did you mean -${nearest}?`}`)
}

function accept (name: string, flag: Flag<unknown>, text: string, before: unknown): unknown {
  try {
    return flag.accept(text, before)
  } catch (error) {
    throw usage(`-${name}: ${(error as Error).message}`, error)
  }
}
