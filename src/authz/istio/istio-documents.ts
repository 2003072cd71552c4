import { checkValue, type ConfigProblem } from '../../runtime/config-file.ts'
import type { Action, Rule } from '../policy/rule.ts'
import type { ForeignDocuments, PolicySettings, RawDocument } from '../policy/read-policies.ts'
import { authorizationPolicy, group, type AuthorizationPolicy } from './authorization-policy.ts'
import { rulesOf } from './istio-rules.ts'
import { ReadingContext } from './reading-context.ts'

export interface IstioOptions {
  /** The namespace whose policies cover the mesh; `istio-system` by default. */
  readonly rootNamespace?: string
  /** Claims, dotted, whose text is a list of words, besides `scope` and `permission`: `spaceDelimitedClaims` of Istio's JWT rules. */
  readonly spaceDelimitedClaims?: readonly string[]
}

const actions: Readonly<Record<AuthorizationPolicy['spec']['action'], Action>> = {
  ALLOW: 'allow', DENY: 'deny', AUDIT: 'audit', CUSTOM: 'custom'
}

/**
 * Istio's `AuthorizationPolicy` documents (`security.istio.io/v1` and `v1beta1`), alone or in a `List`, with the meaning that they have
 * there. See docs/istio-policies.md for what differs and what is refused.
 */
export function istioDocuments ({ rootNamespace = 'istio-system', spaceDelimitedClaims = [] }: IstioOptions = {}): ForeignDocuments {
  const words = new Set(['scope', 'permission', ...spaceDelimitedClaims])
  return {
    claims,
    read (documents, settings) {
      const [first] = documents
      if (first === undefined) return { rules: [] }
      if (settings === undefined) return { problems: [withoutSettings(first)] }
      const reader = new Reader(settings, rootNamespace, words)
      for (const document of documents.flatMap(itemsOf)) reader.read(document)
      return reader.problems.length > 0 ? { problems: reader.problems } : { rules: reader.rules }
    }
  }
}

/** Whether it is a document of Istio's security API, or a list with one. */
export function claims (raw: unknown): boolean {
  const { apiVersion } = fieldsOf(raw)
  if (typeof apiVersion === 'string' && apiVersion.startsWith(`${group}/`)) return true
  return listOf(raw)?.some(claims) ?? false
}

class Reader {
  readonly rules: Rule[] = []
  readonly problems: ConfigProblem[] = []
  readonly #settings: PolicySettings
  readonly #rootNamespace: string
  readonly #words: ReadonlySet<string>
  readonly #names = new Set<string>()

  constructor (settings: PolicySettings, rootNamespace: string, words: ReadonlySet<string>) {
    this.#settings = settings
    this.#rootNamespace = rootNamespace
    this.#words = words
  }

  read (item: Item): void {
    const { within } = item
    const where = (path: readonly PropertyKey[]) => item.where(path)
    if (fieldsOf(item.raw)['kind'] !== 'AuthorizationPolicy') {
      const rule = 'must be AuthorizationPolicy: nothing else of Istio is read here'
      return this.#report([{ where: where(['kind']), key: 'kind', rule }], within)
    }
    const reading = checkValue(authorizationPolicy, item.raw, where)
    if (reading.problems !== undefined) return this.#report(reading.problems, within)
    const { metadata, spec } = reading.value
    const { trustDomain, trustDomainAliases } = this.#settings
    const context = new ReadingContext({
      namespace: metadata.namespace,
      action: actions[spec.action],
      domains: [trustDomain, ...trustDomainAliases],
      spaceDelimitedClaims: this.#words
    }, where)
    const name = `${metadata.namespace}/${metadata.name}`
    if (this.#names.has(name)) context.refuse(['metadata', 'name'], `there is a policy ${name} already: its rules are named by it`)
    this.#names.add(name)
    const rules = rulesOf(reading.value, metadata.namespace === this.#rootNamespace, context)
    for (const rule of rules) this.rules.push(rule)
    this.#report(context.problems, within)
  }

  #report (problems: readonly ConfigProblem[], within: string): void {
    for (const problem of problems) this.problems.push({ ...problem, key: `${within}${problem.key}` })
  }
}

/** `within`: the key of the list's member, with a dot, or nothing. */
interface Item extends RawDocument { readonly within: string }

function itemsOf (document: RawDocument): Item[] {
  const items = listOf(document.raw)
  if (items === undefined) return [{ raw: document.raw, where: path => document.where(path), within: '' }]
  return items.map((raw, i) => ({ raw, where: path => document.where(['items', i, ...path]), within: `items.${i}.` }))
}

/** The members of a list, as `kubectl get -o yaml` writes them. */
function listOf (raw: unknown): readonly unknown[] | undefined {
  const { apiVersion, kind, items } = fieldsOf(raw)
  const isList = kind === 'AuthorizationPolicyList' || (apiVersion === 'v1' && kind === 'List')
  return isList && Array.isArray(items) ? items : undefined
}

function fieldsOf (raw: unknown): Record<string, unknown> {
  return (typeof raw === 'object' && raw !== null ? raw : {}) as Record<string, unknown>
}

function withoutSettings (document: RawDocument): ConfigProblem {
  return {
    where: document.where([]),
    key: '',
    rule: "Istio's policies need a document of kind Settings (apiVersion: assay/v1) with the mesh's trustDomain, its trustDomainAliases " +
      'and defaultAction: allow, as Istio has it for workloads that no ALLOW policy is about'
  }
}
