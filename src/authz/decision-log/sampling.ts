import type { Match } from '../policy/match.ts'
import { matches } from '../policy/match.ts'
import type { DecisionRecord } from './decision-record.ts'

/** Which allowed decisions are written down: all, one in so many, or none. The first rule that is about a decision counts. */
export interface SampleRule {
  /** `<policy>/<rule>` that decided. */
  readonly rule?: string | undefined
  readonly sources?: readonly Match[] | undefined
  readonly destinations?: readonly Match[] | undefined
  /** Of the path without its query; nothing that is no HTTP matches. */
  readonly paths?: readonly Match[] | undefined
  /** 1 keeps all, 0 none. */
  readonly keepOneIn: number
}

/** Denied decisions are always kept, and so are those that shadow rules would deny. */
export class Sampling {
  readonly #rules: ReadonlyArray<{ readonly rule: SampleRule, seen: number }>

  constructor (rules: readonly SampleRule[]) { this.#rules = rules.map(rule => ({ rule, seen: 0 })) }

  keeps (record: DecisionRecord): boolean {
    const { allowed, shadow } = record.decision
    if (this.#rules.length === 0 || !allowed || shadow?.allowed === false) return true
    const counted = this.#rules.find(({ rule }) => isAbout(rule, record))
    if (counted === undefined) return true
    const { keepOneIn } = counted.rule
    return keepOneIn > 0 && counted.seen++ % keepOneIn === 0
  }
}

function isAbout ({ rule, sources, destinations, paths }: SampleRule, { decision, request }: DecisionRecord): boolean {
  return (rule === undefined || decision.rule === rule) && meets(sources, request.source.id) &&
    meets(destinations, request.destination.id) && meets(paths, request.http?.path.split('?', 1)[0])
}

function meets (wanted: readonly Match[] | undefined, value: string | undefined): boolean {
  return wanted === undefined || (value !== undefined && wanted.some(match => matches(match, value)))
}
