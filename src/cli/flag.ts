import { parseDuration } from '../runtime/duration.ts'
import { parseSelector, type Selector } from '../spiffe/selector.ts'
import { parseSpiffeId, parseTrustDomainOrId, type SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'

/** A flag in Go's manner: `-name value`, `--name=value`; a switch may stand alone or be `-name=false`. */
export interface Flag<T> {
  readonly help: string
  /** What stands for the value in help; absent for a switch. */
  readonly placeholder: string | undefined
  /** The value when the flag is not given; `undefined` lets the command tell. */
  readonly initial: T
  /** The default as help tells it, when `initial` does not. */
  readonly defaultText?: string | undefined
  readonly choices?: readonly string[]
  /** Shells complete paths. */
  readonly takesPath?: boolean
  /** Of a switch: `true` or `false` may follow it as the next word. */
  readonly valueMayFollow?: boolean
  /** Given more than once, the values collect. */
  readonly repeats?: boolean
  /** Reads one occurrence. @param before the value so far. Throws an `Error` that says the rule. */
  accept (text: string, before: T): T
}

export type Flags = Readonly<Record<string, Flag<unknown>>>
export type FlagValues<F extends Flags> = { readonly [Name in keyof F]: F[Name] extends Flag<infer T> ? T : never }

interface Options { readonly placeholder?: string, readonly defaultText?: string | undefined }

/** Any text that is not empty. */
export function textFlag (help: string, { placeholder = 'TEXT', defaultText }: Options = {}): Flag<string | undefined> {
  return { help, placeholder, defaultText, initial: undefined, accept: notEmpty }
}

export function pathFlag (help: string, { placeholder = 'FILE', defaultText }: Options = {}): Flag<string | undefined> {
  return { help, placeholder, defaultText, initial: undefined, takesPath: true, accept: notEmpty }
}

/** Repeats, and splits at commas: the audiences of `api fetch jwt`, as in SPIRE. */
export function commaListFlag (help: string, placeholder: string): Flag<readonly string[]> {
  const accept = (text: string, before: readonly string[]) => [...before, ...text.split(',').map(part => notEmpty(part.trim()))]
  return { help, placeholder, initial: [], repeats: true, accept }
}

export function textListFlag (help: string, placeholder: string): Flag<readonly string[]> {
  return { help, placeholder, initial: [], repeats: true, accept: (text, before) => [...before, notEmpty(text)] }
}

export function pathListFlag (help: string, { placeholder = 'FILE', defaultText }: Options = {}): Flag<readonly string[]> {
  return { ...textListFlag(help, placeholder), defaultText, takesPath: true }
}

export function switchFlag (help: string): Flag<boolean>
export function switchFlag (help: string, options: { orUnset: true, valueMayFollow?: true }): Flag<boolean | undefined>
export function switchFlag (help: string, options?: { orUnset: true, valueMayFollow?: true }): Flag<boolean | undefined> {
  const { valueMayFollow = false } = options ?? {}
  return { help, placeholder: undefined, initial: options === undefined ? false : undefined, valueMayFollow, accept: parseBoolean }
}

/** A whole number from `minimum` up. */
export function numberFlag (
  help: string, { minimum, placeholder = 'N' }: { minimum: number, placeholder?: string }
): Flag<number | undefined> {
  return {
    help,
    placeholder,
    initial: undefined,
    accept (text) {
      const value = /^-?\d{1,15}$/.test(text) ? Number(text) : NaN
      if (!(value >= minimum)) throw new Error(`must be a whole number of at least ${minimum}`)
      return value
    }
  }
}

/** A signed 32-bit field on the wire. */
const maxWireSeconds = 2_147_483_647

/** Whole seconds; a bare number counts seconds, or a duration such as `10m`. */
export function secondsFlag (help: string, defaultText?: string): Flag<number | undefined> {
  return {
    help,
    placeholder: 'TTL',
    defaultText,
    initial: undefined,
    accept (text) {
      const ms = /^\d{1,10}$/.test(text) ? Number(text) * 1_000 : parseDuration(text)
      if (ms === undefined || ms < 0 || ms % 1_000 !== 0) throw new Error('must be whole seconds, such as 600 or 10m')
      if (ms / 1_000 > maxWireSeconds) throw new Error(`must be at most ${maxWireSeconds} seconds`)
      return ms / 1_000
    }
  }
}

/** Milliseconds. */
export function durationFlag (help: string, initial: number, defaultText: string): Flag<number> {
  return {
    help,
    placeholder: 'DURATION',
    defaultText,
    initial,
    accept (text) {
      const ms = parseDuration(text)
      if (ms === undefined || ms <= 0) throw new Error('must be a duration such as 5s or 1h')
      return ms
    }
  }
}

export function choiceFlag<const C extends string> (help: string, choices: readonly C[], initial: C): Flag<C> {
  return { help, placeholder: choices.join('|'), choices, initial, defaultText: initial, accept: text => oneOf(choices, text) }
}

export function optionalChoiceFlag<const C extends string> (help: string, choices: readonly C[]): Flag<C | undefined> {
  return { help, placeholder: choices.join('|'), choices, initial: undefined, accept: text => oneOf(choices, text) }
}

/** An instant in RFC 3339 or in SPIRE's layout, or Unix seconds. */
export function instantFlag (help: string): Flag<Date | undefined> {
  return { help, placeholder: 'TIME', initial: undefined, accept: parseInstant }
}

export function spiffeIdFlag (help: string): Flag<SpiffeId | undefined> {
  return { help, placeholder: 'SPIFFE-ID', initial: undefined, accept: parseSpiffeId }
}

/** `example.org`, or as `spiffe://example.org`. */
export function trustDomainFlag (help: string): Flag<TrustDomain | undefined> {
  return { help, placeholder: 'TRUST-DOMAIN', initial: undefined, accept: parseTrustDomainOrId }
}

/** The same as it was typed: what servers repeat in their answers. */
export function typedTrustDomainFlag (help: string): Flag<string | undefined> {
  const accept = (text: string) => {
    parseTrustDomainOrId(text)
    return text
  }
  return { help, placeholder: 'TRUST-DOMAIN', initial: undefined, accept }
}

export function trustDomainListFlag (help: string): Flag<readonly TrustDomain[]> {
  const accept = (text: string, before: readonly TrustDomain[]) => [...before, parseTrustDomainOrId(text)]
  return { help, placeholder: 'TRUST-DOMAIN', initial: [], repeats: true, accept }
}

export function selectorListFlag (help: string): Flag<readonly Selector[]> {
  return { help, placeholder: 'TYPE:VALUE', initial: [], repeats: true, accept: (text, before) => [...before, parseSelector(text)] }
}

/** Go's layout `2006-01-02 15:04:05 -0700 -07` (spire-surface §1.3): the second offset is the zone's name and repeats the first. */
const goLayout = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) ([+-]\d\d)(\d\d) [+-]\d\d$/

function parseInstant (text: string): Date {
  const rfc3339 = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/
  const written = text.replace(goLayout, '$1T$2$3:$4')
  const date = /^\d{1,12}$/.test(text) ? new Date(Number(text) * 1_000) : new Date(rfc3339.test(written) ? written : NaN)
  if (Number.isNaN(date.getTime())) throw new Error('must be a time such as 2026-01-31T12:00:00Z, or Unix seconds')
  return date
}

function oneOf<C extends string> (choices: readonly C[], text: string): C {
  const choice = choices.find(choice => choice === text)
  if (choice === undefined) throw new Error(`must be one of ${choices.join(', ')}`)
  return choice
}

function parseBoolean (text: string): boolean {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(text)) return true
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(text)) return false
  throw new Error('must be true or false')
}

function notEmpty (text: string): string {
  if (text === '') throw new Error('must not be empty')
  return text
}
