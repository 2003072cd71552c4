import type { Decision } from '../policy/decision.ts'
import type { AuthzRequest } from '../policy/request.ts'
import { operationOf } from './operation.ts'

/** One (source, destination, operation) whose answer changes. */
export interface Flip {
  /** SPIFFE IDs; absent where the caller had none or the workload is not known. */
  readonly source?: string | undefined
  readonly destination?: string | undefined
  readonly operation: string
  /** `allow`, `deny`, or `ask A, B`: allowed if these providers say so too. */
  readonly before: string
  readonly after: string
  /** The rules, else the reasons, that decided the first such request. */
  readonly ruleBefore: string
  readonly ruleAfter: string
  /** How many requests. */
  readonly count: number
  readonly firstSeen: Date
  readonly lastSeen: Date
  /** Of the first such requests, by decision ID. */
  readonly examples: readonly string[]
}

type Mutable = { -readonly [Key in keyof Flip]: Flip[Key] } & { examples: string[] }

const mostExamples = 3

/** Collects flips by source, destination, operation, answer before and answer after. */
export class FlipList {
  readonly #flips = new Map<string, Mutable>()
  readonly #most: number
  /** Requests that flipped in ways for which there was no more room. */
  untold = 0
  /** Requests whose answer changed. */
  flipped = 0

  /** @param most how many flips are kept apart */
  constructor (most: number) { this.#most = most }

  /** @param example names the request; asked for the first few alone @returns whether the answer changed */
  add (request: AuthzRequest, before: Decision, after: Decision, example: () => string | undefined): boolean {
    const [was, is] = [answerOf(before), answerOf(after)]
    if (was === is) return false
    this.flipped++
    const { source: { id: source }, destination: { id: destination }, time } = request
    const operation = operationOf(request)
    const key = JSON.stringify([source, destination, operation, was, is])
    let flip = this.#flips.get(key)
    if (flip === undefined) {
      if (this.#flips.size >= this.#most) {
        this.untold++
        return true
      }
      flip = {
        source, destination, operation, before: was, after: is, ruleBefore: ruleOf(before), ruleAfter: ruleOf(after),
        count: 0, firstSeen: time, lastSeen: time, examples: []
      }
      this.#flips.set(key, flip)
    }
    flip.count++
    if (time < flip.firstSeen) flip.firstSeen = time
    if (time > flip.lastSeen) flip.lastSeen = time
    if (flip.examples.length < mostExamples) {
      const name = example()
      if (name !== undefined) flip.examples.push(name)
    }
    return true
  }

  /** The most frequent first. */
  list (): readonly Flip[] {
    const order = (a: Flip, b: Flip) => b.count - a.count || compare(keyOf(a), keyOf(b))
    return [...this.#flips.values()].toSorted(order)
  }
}

function answerOf ({ allowed, consult }: Decision): string {
  if (!allowed) return 'deny'
  return consult.length === 0 ? 'allow' : `ask ${consult.map(({ provider }) => provider).join(', ')}`
}

function ruleOf ({ rule, reason }: Decision): string { return rule ?? reason }

function keyOf ({ source, destination, operation, before }: Flip): string {
  return `${source ?? ''} ${destination ?? ''} ${operation} ${before}`
}

function compare (a: string, b: string): number { return a < b ? -1 : a > b ? 1 : 0 }
