import { createHash } from 'node:crypto'
import type { z } from 'zod'
import { checkValue, formatProblems, type ConfigProblem } from '../../runtime/config-file.ts'
import { parseYaml } from '../../runtime/yaml-text.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { policyLimits } from '../../spiffe/policy-version.ts'
import { parseStrictJson } from '../../spiffe/strict-json.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { apiVersion, bundleDocument, policyDocument, scopeDocument, settingsDocument } from './policy-schema.ts'
import { rulesOf } from './policy-rules.ts'
import type { FederationScope, PolicyBundle, PolicySet } from './policy-set.ts'
import type { Rule } from './rule.ts'

/** One text with one or more documents, YAML or JSON. */
export interface PolicyText {
  /** For messages, e.g. the file's path. */
  readonly name: string
  readonly text: string
}

/** One document of a text, not yet looked at. */
export interface RawDocument {
  readonly raw: unknown
  where (path: readonly PropertyKey[]): string
}

/** What other kinds of documents become. */
export interface ForeignDocuments {
  /** Whether it is one of these; what `read` says of it counts. */
  claims (raw: unknown): boolean
  read (documents: readonly RawDocument[], settings: PolicySettings | undefined): ForeignReading
}

export type ForeignReading = { readonly rules: readonly Rule[] } | { readonly problems: readonly ConfigProblem[] }

export interface PolicySettings {
  readonly trustDomain: TrustDomain
  readonly trustDomainAliases: readonly TrustDomain[]
  readonly defaultAction: 'allow' | 'deny'
}

export interface ReadOptions {
  /** Where no document says them. */
  readonly settings?: PolicySettings | undefined
  readonly foreign?: readonly ForeignDocuments[]
}

/** Of all texts together, in characters. */
const mostCharacters = 64 * 1_048_576

/**
 * Reads policies: all of them, or none.
 * @throws {SpiffeError} `policy_malformed`, with every problem and its place
 */
export function readPolicies (texts: readonly PolicyText[], { settings, foreign = [] }: ReadOptions = {}): PolicySet {
  if (texts.reduce((sum, { text }) => sum + text.length, 0) > mostCharacters) {
    throw new SpiffeError('policy_malformed', `the policies are longer than ${mostCharacters} characters`)
  }
  const collected = new Collected()
  const others = new Map(foreign.map(kind => [kind, [] as RawDocument[]]))
  const revision = createHash('sha256')
  for (const text of texts) {
    const documents = documentsOf(text, collected.problems)
    const deciding = documents.filter(({ raw }) => !isAside(raw))
    // A text with tests alone leaves the policies' revision as it is.
    if (deciding.length > 0 || documents.length === 0) revision.update(`${text.text.length}\n${text.text}`)
    for (const document of deciding) sort(document)
  }
  function sort (document: RawDocument): void {
    const kind = foreign.find(one => one.claims(document.raw))
    if (kind === undefined) collected.add(document)
    else others.get(kind)?.push(document)
  }
  const used = collected.settings ?? settings
  for (const [kind, documents] of others) if (documents.length > 0) collected.take(kind.read(documents, used))
  if (collected.problems.length > 0) throw malformed(collected.problems)
  return {
    revision: revision.digest('hex'),
    trustDomain: used?.trustDomain,
    trustDomainAliases: used?.trustDomainAliases ?? [],
    defaultAction: used?.defaultAction ?? 'deny',
    rules: collected.rules,
    scopes: collected.scopes,
    bundles: collected.bundles
  }
}

class Collected {
  readonly problems: ConfigProblem[] = []
  readonly rules: Rule[] = []
  readonly scopes: FederationScope[] = []
  readonly bundles: PolicyBundle[] = []
  settings: PolicySettings | undefined
  readonly #names = new Set<string>()

  add (document: RawDocument): void {
    switch (kindOf(document.raw)) {
      case 'Policy': return this.#read(policyDocument, document, policy => this.#addPolicy(policy, document))
      case 'FederationScope': return this.#read(scopeDocument, document, scope => this.#addScope(scope, document))
      case 'Settings': return this.#read(settingsDocument, document, settings => this.#addSettings(settings, document))
      case 'RegoBundle': return this.#read(bundleDocument, document, bundle => this.#addBundle(bundle, document))
      default: this.#at(document, 'kind', `must be Policy, FederationScope, RegoBundle or Settings of ${apiVersion}`)
    }
  }

  take (read: ForeignReading): void {
    if ('problems' in read) this.problems.push(...read.problems)
    else for (const rule of read.rules) this.rules.push(rule)
  }

  #read<Schema extends z.ZodType> (schema: Schema, document: RawDocument, add: (value: z.output<Schema>) => void): void {
    const reading = checkValue(schema, document.raw, path => document.where(path))
    if (reading.problems === undefined) add(reading.value)
    else this.problems.push(...reading.problems)
  }

  #addPolicy (policy: z.output<typeof policyDocument>, document: RawDocument): void {
    if (this.#names.has(policy.name)) this.#at(document, 'name', `there is a policy ${policy.name} already: its rules are named by it`)
    this.#names.add(policy.name)
    for (const rule of rulesOf(policy)) this.rules.push(rule)
  }

  #addScope ({ trustDomain, accept = [], workloads, until }: z.output<typeof scopeDocument>, document: RawDocument): void {
    if (accept.some(match => 'value' in match && !match.value.startsWith(`spiffe://${trustDomain}/`))) {
      this.#at(document, 'accept', `an ID is not of ${trustDomain}`)
    }
    this.scopes.push({ trustDomain, accept, workloads, until })
  }

  #addBundle ({ name, bundle: archive, entrypoints = [], key }: z.output<typeof bundleDocument>, document: RawDocument): void {
    if (this.bundles.some(other => other.name === name)) this.#at(document, 'name', `there is a bundle ${name} already`)
    if (this.bundles.length >= policyLimits.bundles) this.#at(document, 'kind', `there are more than ${policyLimits.bundles} bundles`)
    this.bundles.push({ name, archive, entrypoints, key })
  }

  #addSettings ({ trustDomainAliases = [], ...settings }: z.output<typeof settingsDocument>, document: RawDocument): void {
    if (this.settings !== undefined) this.#at(document, 'kind', 'there are Settings already: one document says them for all')
    this.settings = { ...settings, trustDomainAliases }
  }

  #at (document: RawDocument, key: string, rule: string): void {
    this.problems.push({ where: document.where([key]), key, rule })
  }
}

/** Of a document of Assay's own. */
export function kindOf (raw: unknown): string | undefined {
  const { apiVersion: version, kind } = (typeof raw === 'object' && raw !== null ? raw : {}) as Record<string, unknown>
  return version === apiVersion && typeof kind === 'string' ? kind : undefined
}

/** About policies, and none: tests of them, and what was signed of their changes. */
export const asideKinds = ['PolicyTest', 'FlipSignoff'] as const

function isAside (raw: unknown): boolean { return asideKinds.some(kind => kind === kindOf(raw)) }

/** The documents of a kind, as they stand. @throws {SpiffeError} `policy_malformed` for a text that is no YAML */
export function documentsOfKind (text: PolicyText, kind: typeof asideKinds[number]): RawDocument[] {
  return documentsIn(text).filter(({ raw }) => kindOf(raw) === kind)
}

/** All documents, as they stand. @throws {SpiffeError} `policy_malformed` for a text that is no YAML */
export function documentsIn (text: PolicyText): RawDocument[] {
  const problems: ConfigProblem[] = []
  const documents = documentsOf(text, problems)
  if (problems.length > 0) throw malformed(problems)
  return documents
}

function documentsOf ({ name, text }: PolicyText, problems: ConfigProblem[]): RawDocument[] {
  // JSON is YAML too, but read ten times as fast.
  const json = /^\s*[{[]/.test(text) ? fromJson(name, text) : undefined
  if (json !== undefined) return json
  const documents = parseYaml(name, text)
  if ('problems' in documents) {
    problems.push(...documents.problems.map(({ where, rule }) => ({ where, key: '', rule })))
    return []
  }
  return documents.filter(({ raw }) => raw !== null)
}

/** `undefined`: no JSON, or not as strictly as it should be. */
function fromJson (name: string, text: string): RawDocument[] | undefined {
  try {
    const value = parseStrictJson(text, { maxLength: mostCharacters }) as unknown
    return (Array.isArray(value) ? value : [value]).map(raw => ({ raw: raw as unknown, where: () => name }))
  } catch {
    return undefined
  }
}

/** The refusal `policy_malformed`, with the first problems and their places. */
export function malformed (problems: readonly ConfigProblem[]): SpiffeError {
  const shown = problems.slice(0, 20)
  const more = problems.length - shown.length
  return new SpiffeError('policy_malformed', `${formatProblems(shown)}${more > 0 ? `\nand ${more} more` : ''}`)
}
