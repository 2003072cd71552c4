import { isCollection, LineCounter, parseDocument, type Document } from 'yaml'
import type { z } from 'zod'
import { nearestWord } from './nearest-word.ts'

/** A value that wins over the file, with the flag it came from. */
export interface ConfigOverride {
  /** e.g. `['server', 'bind_port']` */
  readonly path: readonly string[]
  readonly value: unknown
  /** How to name it in a refusal, e.g. `-serverPort`. */
  readonly from: string
}

export interface ConfigSource {
  /** Name for messages; the text is YAML 1.2, of which JSON is a part. Absent: overrides and defaults only. */
  readonly file?: { readonly name: string, readonly text: string } | undefined
  readonly overrides?: readonly ConfigOverride[]
  /** Characters; 1 Mi by default, a limit against a file that is no configuration at all. */
  readonly maxLength?: number
}

/** One thing wrong with a configuration. */
export interface ConfigProblem {
  /** `file:line`, the file's name, or the flag. */
  readonly where: string
  /** Dotted, e.g. `server.ca_ttl`; empty for the document itself. */
  readonly key: string
  /** Lower case, no period. Never a value: values may be secrets. */
  readonly rule: string
}

export type ConfigReading<T> =
  | { readonly value: T }
  | { readonly value?: undefined, readonly problems: readonly ConfigProblem[] }

/** Reads a configuration: overrides over file over the schema's defaults. All problems are reported, not the first alone. */
export function readConfig<Schema extends z.ZodType> (schema: Schema, source: ConfigSource): ConfigReading<z.output<Schema>> {
  const lines = new LineCounter()
  const name = source.file?.name ?? 'flags'
  const { maxLength = 1_048_576 } = source
  const text = source.file?.text ?? ''
  if (text.length > maxLength) return { problems: [{ where: name, key: '', rule: `longer than ${maxLength} characters` }] }
  // The library's own warnings would show keys on standard error.
  const options = { strict: true, uniqueKeys: true, version: '1.2', lineCounter: lines, prettyErrors: false, logLevel: 'error' } as const
  const document = parseDocument(text, options)
  const broken = [...document.errors, ...document.warnings]
  if (broken.length > 0) {
    const where = (offset: number) => `${name}:${lines.linePos(offset).line}`
    return { problems: broken.map(({ code, pos }) => ({ where: where(pos[0]), key: '', rule: syntaxRule(code) })) }
  }
  const raw = rawOf(document)
  if (raw === undefined) return { problems: [{ where: name, key: '', rule: 'has aliases that expand too far' }] }
  for (const { path, value } of source.overrides ?? []) assign(raw, path, value)
  const result = schema.safeParse(raw, { reportInput: true })
  if (result.success) return { value: result.data }
  const where = (path: readonly PropertyKey[]) => placeOf(path, source, document, lines)
  const problems = result.error.issues.flatMap(issue => problemsOf(issue, schema, where))
  return { problems: problems.toSorted((a, b) => lineOf(a) - lineOf(b)) }
}

function lineOf ({ where }: ConfigProblem): number {
  return Number(/:(\d+)$/.exec(where)?.[1] ?? 0)
}

/** One line per problem: `agent.yaml:4: agent.sokcet_path: unknown key; did you mean socket_path?` */
export function formatProblems (problems: readonly ConfigProblem[]): string {
  return problems.map(({ where, key, rule }) => `${where}: ${key === '' ? '' : `${key}: `}${rule}`).join('\n')
}

/** `$NAME` and `${NAME}` become the variable's value, or nothing when unset; `$$` becomes `$`. */
export function expandEnvironment (text: string, environment: Readonly<Record<string, string | undefined>>): string {
  return text.replace(/\$(?:\$|\{(\w+)\}|([A-Za-z_]\w*))/g, (whole, braced?: string, bare?: string) => {
    const name = braced ?? bare ?? ''
    return whole === '$$' ? '$' : Object.hasOwn(environment, name) ? environment[name] ?? '' : ''
  })
}

function rawOf (document: Document): Record<string, unknown> | undefined {
  try {
    const value: unknown = document.toJS({ maxAliasCount: 100 })
    return value === null ? {} : value as Record<string, unknown>
  } catch {
    return undefined
  }
}

function assign (target: Record<string, unknown>, [first, ...rest]: readonly string[], value: unknown): void {
  if (first === undefined || typeof target !== 'object') return
  if (rest.length === 0) {
    target[first] = value
    return
  }
  target[first] ??= {}
  assign(target[first] as Record<string, unknown>, rest, value)
}

type Where = (path: readonly PropertyKey[]) => string

function problemsOf (issue: z.core.$ZodIssue, schema: z.ZodType, where: Where): ConfigProblem[] {
  if (issue.code !== 'unrecognized_keys') return [{ where: where(issue.path), key: issue.path.join('.'), rule: ruleOf(issue) }]
  const known = keysAt(schema, issue.path)
  return issue.keys.map(key => {
    const nearest = nearestWord(key, known)
    const hint = nearest !== undefined ? `did you mean ${nearest}?` : `known here: ${known.join(', ')}`
    return { where: where([...issue.path, key]), key: [...issue.path, key].join('.'), rule: `unknown key; ${hint}` }
  })
}

/** Our own wording where zod's would start with a capital or show the value. */
function ruleOf (issue: z.core.$ZodIssue): string {
  if (issue.input === undefined && (issue.code === 'invalid_type' || issue.code === 'invalid_value')) return 'is required'
  if (issue.code === 'invalid_type' && issue.message.startsWith('Invalid input')) return `must be ${article(issue.expected)}`
  if (issue.code === 'invalid_value') return `must be one of ${issue.values.join(', ')}`
  return issue.message.charAt(0).toLowerCase() + issue.message.slice(1)
}

function article (expected: string): string {
  const word = ({ object: 'map', array: 'list', int: 'whole number' } as Record<string, string>)[expected] ?? expected
  return `a ${word}`
}

function placeOf (path: readonly PropertyKey[], { file, overrides = [] }: ConfigSource, document: Document, lines: LineCounter): string {
  const flag = overrides.find(override => override.path.length <= path.length && override.path.every((key, index) => path[index] === key))
  if (flag !== undefined) return flag.from
  if (file === undefined) return 'flags'
  for (let end = path.length; end > 0; end--) {
    const parent = end === 1 ? document.contents : document.getIn(path.slice(0, end - 1), true)
    if (!isCollection(parent)) continue
    const item = parent.items.find((entry, index) => keyOf(entry) === path[end - 1] || index === path[end - 1])
    const range = (item as { key?: { range?: [number] }, range?: [number] } | undefined)
    const start = range?.key?.range?.[0] ?? range?.range?.[0]
    if (start !== undefined) return `${file.name}:${lines.linePos(start).line}`
  }
  return file.name
}

function keyOf (entry: unknown): unknown {
  return (entry as { key?: { value?: unknown } }).key?.value
}

interface SchemaParts {
  readonly type: string
  readonly innerType?: unknown
  readonly in?: { readonly def: SchemaParts }
  readonly out?: unknown
  readonly element?: unknown
  readonly shape?: Readonly<Record<string, unknown>>
}

/** The keys of the map a path leads to, looking through optional, default and transformed schemas. */
function keysAt (schema: unknown, path: readonly PropertyKey[]): string[] {
  const { def } = schema as { def: SchemaParts }
  if (def.innerType !== undefined) return keysAt(def.innerType, path)
  if (def.in !== undefined) return keysAt(def.in.def.type === 'transform' ? def.out : def.in, path)
  const [first, ...rest] = path
  if (def.shape !== undefined) return first === undefined ? Object.keys(def.shape) : keysAt(def.shape[String(first)], rest)
  return def.element !== undefined ? keysAt(def.element, rest) : []
}

function syntaxRule (code: string): string {
  return code === 'DUPLICATE_KEY' ? 'the same key twice in one map' : `not valid YAML (${code.toLowerCase().replaceAll('_', ' ')})`
}
