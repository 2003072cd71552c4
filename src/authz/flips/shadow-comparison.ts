import type { Decision } from '../policy/decision.ts'
import type { PolicyEngine } from '../policy/policy-engine.ts'
import type { AuthzRequest } from '../policy/request.ts'
import { FlipList, type Flip } from './flip-list.ts'

export interface ShadowOptions {
  /** How many flips are kept apart; 10,000. */
  readonly mostFlips?: number
  /** One request in so many is decided twice; 1. */
  readonly oneIn?: number
}

export interface ShadowReport {
  readonly before: string
  readonly after: string
  readonly compared: number
  readonly flipped: number
  readonly untold: number
  /** Requests at which the candidate failed; that is a bug, and harms nobody but the candidate. */
  readonly failed: number
  readonly flips: readonly Flip[]
}

/** Holds what is enforced against a candidate, on live traffic, in memory that has a limit. The candidate's answers go nowhere else. */
export class ShadowComparison {
  readonly #candidate: PolicyEngine
  readonly #flips: FlipList
  readonly #oneIn: number
  #seen = 0
  #compared = 0
  #failed = 0
  #before = ''

  constructor (candidate: PolicyEngine, { mostFlips = 10_000, oneIn = 1 }: ShadowOptions = {}) {
    this.#candidate = candidate
    this.#flips = new FlipList(mostFlips)
    this.#oneIn = oneIn
  }

  /**
   * @param enforced what was answered
   * @param example names the request, for the first few that flip
   * @returns whether the answer would change
   */
  observe (request: AuthzRequest, enforced: Decision, example: () => string | undefined = () => undefined): boolean {
    if (this.#seen++ % this.#oneIn !== 0) return false
    this.#before = enforced.revision
    try {
      const candidate = this.#candidate.decide(request)
      this.#compared++
      return this.#flips.add(request, enforced, candidate, example)
    } catch {
      this.#failed++
      return false
    }
  }

  report (): ShadowReport {
    const { flipped, untold } = this.#flips
    return {
      before: this.#before, after: this.#candidate.set.revision, compared: this.#compared, flipped, untold, failed: this.#failed,
      flips: this.#flips.list()
    }
  }
}
