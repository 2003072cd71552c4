import type { Fact } from './facts.ts'
import type { Match } from './match.ts'

/**
 * `custom` asks an engine of its own first, whose refusal is final; `deny` comes before `allow`; `audit` only leaves a mark.
 */
export type Action = 'custom' | 'deny' | 'allow' | 'audit'

/** One fact held against matches: some value must meet one of `any`, none may meet one of `none`. */
export interface Test {
  readonly fact: Fact
  readonly any?: readonly Match[] | undefined
  readonly none?: readonly Match[] | undefined
}

/** Every form that policies are written in becomes these, in the order in which they are looked at. */
export interface Rule {
  /** `<policy>/<rule>`: what answers and logs name. */
  readonly name: string
  readonly policy: string
  readonly action: Action
  /** Of `custom`. */
  readonly provider?: string | undefined
  /** Which workloads it is about; all of it must hold. An `allow` rule makes those refuse what no rule allows. */
  readonly target: readonly Test[]
  /** One of them, as a whole; `undefined`: whoever; empty: nobody. */
  readonly from: ReadonlyArray<readonly Test[]> | undefined
  /** One of them, as a whole; `undefined`: whatever; empty: nothing. */
  readonly to: ReadonlyArray<readonly Test[]> | undefined
  /** All of them. */
  readonly when: readonly Test[]
  /** Only looked at, never obeyed. */
  readonly shadow: boolean
}
