import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { FactName, FactValues } from './facts.ts'
import type { KubernetesWorkload, Match } from './match.ts'
import type { Rule, Test } from './rule.ts'

/** The facts by which rules are found, the most telling first. */
export const dimensions = ['destination.id', 'source.id', 'path', 'destination.port', 'method'] as const satisfies readonly FactName[]
export type Dimension = typeof dimensions[number]

/** Whatever the fact is. */
export const anything = '*'

/**
 * Under which keys a rule is found: all requests that it can be about have one of them. A value is its own key, with `=` before it; what
 * begins with something has the longest part of that which ends with a slash.
 */
export function keysOf (dimension: Dimension, rule: Rule): readonly string[] {
  const { target, from, to, when } = rule
  const within = dimension === 'destination.id' ? [target] : dimension === 'source.id' ? from : to
  const everywhere = keysOfTests(dimension, [...target, ...when])
  if (everywhere !== undefined) return everywhere
  if (within === undefined) return [anything]
  const keys = new Set<string>()
  for (const tests of within) for (const key of keysOfTests(dimension, tests) ?? [anything]) keys.add(key)
  return keys.has(anything) ? [anything] : [...keys]
}

/** `undefined`: the tests say nothing of it that could be looked up. */
function keysOfTests (dimension: Dimension, tests: readonly Test[]): readonly string[] | undefined {
  for (const { fact, any } of tests) {
    if (fact.name !== dimension || any === undefined) continue
    const keys = any.flatMap(match => keysOfMatch(match))
    if (!keys.includes(anything)) return keys
  }
  return undefined
}

function keysOfMatch (match: Match): readonly string[] {
  switch (match.kind) {
    case 'exact': return [`=${match.value}`]
    case 'prefix': return [begin(match.value)]
    case 'template': return [begin(match.template.literal)]
    case 'selected': return [...match.ids ?? []].map(id => `=${id}`)
    case 'workload': return match.workload.domains?.map(domain => keyOfWorkload(domain, match.workload)) ?? [anything]
    case 'suffix':
    case 'present': return match.domains?.map(domain => `spiffe://${domain}/`) ?? [anything]
    default: return [anything]
  }
}

/** As much of the ID as is said exactly. */
function keyOfWorkload (domain: TrustDomain, { namespace, serviceAccount }: KubernetesWorkload): string {
  if (namespace?.kind !== 'exact') return `spiffe://${domain}/`
  const space = `spiffe://${domain}/ns/${namespace.value}/sa/`
  return serviceAccount?.kind === 'exact' ? `=${space}${serviceAccount.value}` : space
}

function begin (value: string): string {
  const slash = value.lastIndexOf('/')
  // What begins like the key of a whole value would be taken for one.
  return slash < 0 || value.startsWith('=') ? anything : value.slice(0, slash + 1)
}

/** What is kept under keys, so that looking it up makes no texts but those of beginnings that are kept. */
export class ByKey<T> {
  readonly #exact = new Map<string, T>()
  readonly #begins = new Map<string, T>()
  #anything: T | undefined

  /** @param key of `keysOf` */
  get (key: string): T | undefined {
    if (key === anything) return this.#anything
    return key.startsWith('=') ? this.#exact.get(key.slice(1)) : this.#begins.get(key)
  }

  set (key: string, kept: T): void {
    if (key === anything) this.#anything = kept
    else if (key.startsWith('=')) this.#exact.set(key.slice(1), kept)
    else this.#begins.set(key, kept)
  }

  /**
   * What is under the keys of these values, and what is under `anything`.
   * @param values of a fact; `undefined`: nobody knows it
   * @param visit may end it with `true`
   */
  some (values: FactValues, visit: (kept: T) => boolean): boolean {
    if (this.#anything !== undefined && visit(this.#anything)) return true
    if (values === undefined) return false
    for (const value of values) {
      const exact = this.#exact.get(value)
      if (exact !== undefined && visit(exact)) return true
      if (this.#begins.size === 0) continue
      for (let slash = value.indexOf('/'); slash >= 0; slash = value.indexOf('/', slash + 1)) {
        const begun = this.#begins.get(value.slice(0, slash + 1))
        if (begun !== undefined && visit(begun)) return true
      }
    }
    return false
  }

  /** What is kept under any key. */
  all (): readonly T[] {
    return [...this.#anything === undefined ? [] : [this.#anything], ...this.#exact.values(), ...this.#begins.values()]
  }
}
