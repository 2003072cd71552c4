import { callersOf } from '../contract/callers.ts'
import { rpcs } from '../contract/answers.ts'
import { type Caller, type Step, steps } from './step.ts'

/** By the letters of spire-surface §1. */
const callers: ReadonlyArray<readonly [Caller, string]> =
  [['local', 'U'], ['/admin', 'A'], ['agent:one', 'G'], ['/nested', 'D'], ['/workload', ''], ['nobody', '']]

/** Whoever may not call a method, calls it (spire-surface §1.1). */
export const callerSteps: readonly Step[] = callers.flatMap(([caller, letter]) => steps(caller, [...rpcs].flatMap(([method, { path }]) => {
  const allowed = callersOf[path]?.split(' ') ?? []
  return allowed.includes(letter) || allowed.includes('*') ? [] : [[method, 'who may not'] as const]
})))

/** spire-surface §1.9. */
export const healthSteps: readonly Step[] = [
  ...steps('local', [
    ['Check', 'the server'], ['Check', 'a service', { service: 'x' }], ['List', 'any'], ['Watch', 'any'], ['GetInfo', 'once']
  ]),
  ...steps('nobody', [['Check', 'the server'], ['List', 'any'], ['Watch', 'any']]),
  ...steps('/admin', [['Check', 'the server']])
]
