import type { z } from 'zod'
import { nearestWord } from './nearest-word.ts'
import { parseYaml } from './yaml-text.ts'

/** A value that wins over the file, with the flag it came from. */
export interface ConfigOverride {
  /** e.g. `['server', 'bind_port']` */
  readonly path: readonly string[]
  readonly value: unknown
  /** How to name it in a refusal, e.g. `-serverPort`. */
  readonly from: string
}

export interface ConfigFile {
  readonly name: string
  readonly text: string
  readonly parse?: typeof parseYaml | undefined
  /** Whether `"8081"` may stand for a number and `"true"` for a flag, and a number for a text. */
  readonly looselyTyped?: boolean | undefined
}

export interface ConfigSource {
  /**
   * Name for messages; the text is YAML 1.2, of which JSON is a part, unless `parse` reads another form.
   * Absent: overrides and defaults only.
   */
  readonly file?: ConfigFile | undefined
  /** For keys that the file does not have. */
  readonly defaults?: ReadonlyArray<Pick<ConfigOverride, 'path' | 'value'>>
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
  | { readonly value: T, readonly problems?: undefined }
  | { readonly value?: undefined, readonly problems: readonly ConfigProblem[] }

/** Reads a configuration: overrides over file over the schema's defaults. All problems are reported, not the first alone. */
export function readConfig<Schema extends z.ZodType> (schema: Schema, source: ConfigSource): ConfigReading<z.output<Schema>> {
  const name = source.file?.name ?? 'flags'
  const { maxLength = 1_048_576, overrides = [] } = source
  const text = source.file?.text ?? ''
  const whole = (rule: string) => ({ problems: [{ where: name, key: '', rule }] })
  if (text.length > maxLength) return whole(`longer than ${maxLength} characters`)
  const documents = (source.file?.parse ?? parseYaml)(name, text)
  if ('problems' in documents) return { problems: documents.problems.map(({ where, rule }) => ({ where, key: '', rule })) }
  const [document] = documents
  if (document === undefined || documents.length > 1) return whole('has more than one document')
  const raw = document.raw === null ? {} : document.raw as Record<string, unknown>
  for (const { path, value } of source.defaults ?? []) if (valueAt(raw, path) === undefined) assign(raw, path, value)
  if (source.file?.looselyTyped === true) fitTypes(schema, raw)
  for (const { path, value } of overrides) assign(raw, path, value)
  const problems = checkValue(schema, raw, path => {
    const flag = overrides.find(override => override.path.length <= path.length && override.path.every((key, index) => path[index] === key))
    return flag?.from ?? (path.length === 0 ? name : document.where(path))
  })
  return problems.problems === undefined ? problems : { problems: problems.problems.toSorted((a, b) => lineOf(a) - lineOf(b)) }
}

/** Holds a value against a schema; problems in our own words, each with its place. */
export function checkValue<Schema extends z.ZodType> (
  schema: Schema, raw: unknown, where: (path: readonly PropertyKey[]) => string
): ConfigReading<z.output<Schema>> {
  const result = schema.safeParse(raw, { reportInput: true })
  return result.success ? { value: result.data } : { problems: result.error.issues.flatMap(issue => problemsOf(issue, schema, where)) }
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

function assign (target: Record<string, unknown>, [first, ...rest]: readonly string[], value: unknown): void {
  if (first === undefined || typeof target !== 'object') return
  if (rest.length === 0) {
    target[first] = value
    return
  }
  target[first] ??= {}
  assign(target[first] as Record<string, unknown>, rest, value)
}

function valueAt (raw: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, key) => typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[key]
    : undefined, raw)
}

/** As often as values that were changed may bring up others. */
const mostFits = 8

/** Where the schema wants another type than the text has, and the value can be read as that, it is put in place of it. */
function fitTypes (schema: z.ZodType, raw: Record<string, unknown>): void {
  for (let round = 0; round < mostFits; round++) {
    const { error } = schema.safeParse(raw)
    const fitted = error?.issues.flatMap(issue => {
      if (issue.code !== 'invalid_type') return []
      const value = asType(issue.expected, valueAt(raw, issue.path))
      return value === undefined ? [] : [{ path: issue.path, value }]
    }) ?? []
    if (fitted.length === 0) return
    for (const { path, value } of fitted) (valueAt(raw, path.slice(0, -1)) as Record<PropertyKey, unknown>)[path.at(-1)!] = value
  }
}

function asType (expected: string, value: unknown): unknown {
  if (typeof value === 'string') {
    if (expected === 'number' || expected === 'int') return /^-?\d{1,15}(?:\.\d{1,15})?$/.test(value) ? Number(value) : undefined
    if (expected === 'boolean') return ({ true: true, false: false } as Record<string, boolean>)[value]
    if (expected === 'array') return [value]
  }
  return (typeof value === 'number' || typeof value === 'boolean') && expected === 'string' ? String(value) : undefined
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

interface SchemaParts {
  readonly type: string
  readonly innerType?: unknown
  readonly in?: { readonly def: SchemaParts }
  readonly out?: unknown
  readonly element?: unknown
  readonly valueType?: unknown
  readonly shape?: Readonly<Record<string, unknown>>
  readonly catchall?: unknown
}

/** The keys of the map a path leads to, looking through optional, default and transformed schemas. */
function keysAt (schema: unknown, path: readonly PropertyKey[]): string[] {
  const { def } = schema as { def: SchemaParts }
  if (def.innerType !== undefined) return keysAt(def.innerType, path)
  if (def.in !== undefined) return keysAt(def.in.def.type === 'transform' ? def.out : def.in, path)
  const [first, ...rest] = path
  if (def.shape !== undefined) return first === undefined ? Object.keys(def.shape) : keysAt(def.shape[String(first)] ?? def.catchall, rest)
  if (def.valueType !== undefined && first !== undefined) return keysAt(def.valueType, rest)
  return def.element !== undefined ? keysAt(def.element, rest) : []
}
