import type { ConfigProblem } from '../../runtime/config-file.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { Action } from '../policy/rule.ts'

/** Where a value stands, from the document's begin. */
export type Path = readonly PropertyKey[]

/** What a part of one policy is read with. Problems are collected; nothing that has one is used. */
export class ReadingContext {
  readonly namespace: string
  readonly action: Action
  /** The mesh's own trust domain, then its aliases. */
  readonly domains: readonly TrustDomain[]
  /** Claims whose text is a list of words. */
  readonly spaceDelimitedClaims: ReadonlySet<string>
  readonly problems: ConfigProblem[] = []
  readonly #where: (path: Path) => string

  constructor (
    { namespace, action, domains, spaceDelimitedClaims }: Pick<ReadingContext, 'namespace' | 'action' | 'domains' | 'spaceDelimitedClaims'>,
    where: (path: Path) => string
  ) {
    this.namespace = namespace
    this.action = action
    this.domains = domains
    this.spaceDelimitedClaims = spaceDelimitedClaims
    this.#where = where
  }

  refuse (path: Path, rule: string): void {
    this.problems.push({ where: this.#where(path), key: path.join('.'), rule })
  }

  /** Reads each member of a list; what a reader throws is a problem at the member's place. */
  each<T> (path: Path, values: readonly string[] | undefined, read: (text: string) => T): T[] | undefined {
    return values?.flatMap((value, i) => {
      try {
        return [read(value)]
      } catch (error) {
        this.refuse([...path, i], (error as Error).message)
        return []
      }
    })
  }
}
