import { z } from 'zod'
import type { Clock } from '../../runtime/clock.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { RegoSet } from '../rego/rego-set.ts'
import { builtInPolicy, type ApiCall, type ApiDecision, type ApiPolicyEvaluator } from './evaluator.ts'

/** What SPIRE asks of a policy: `data.spire.result`. */
export const entrypoint = 'spire/result'

/** Whether SPIRE has the method: of others such a policy cannot know. */
export function isSpires (method: string): boolean { return method.startsWith('/spire.api.') || method.startsWith('/grpc.health.') }

const schema = z.object({
  allow: z.boolean(),
  allow_if_admin: z.boolean(),
  allow_if_local: z.boolean(),
  allow_if_downstream: z.boolean(),
  allow_if_agent: z.boolean()
})

/** Decides by Rego as SPIRE does (`spire-surface` §1.1). Methods that SPIRE does not have stay with the built-in table. */
export class RegoEvaluator implements ApiPolicyEvaluator {
  readonly name: string
  readonly wantsRequest = true
  readonly #set: RegoSet
  readonly #clock: Clock

  constructor (name: string, set: RegoSet, clock: Clock) {
    this.name = name
    this.#set = set
    this.#clock = clock
  }

  /** @throws {SpiffeError} `rego_evaluation_failed`, `rego_timeout`, `server_overloaded`: nobody is admitted */
  async evaluate (call: ApiCall): Promise<ApiDecision> {
    const { caller, callerFilePath, fullMethod, req } = call
    if (!isSpires(fullMethod)) return await builtInPolicy.evaluate(call)
    const input = { caller, caller_file_path: callerFilePath, full_method: fullMethod, req }
    const { result } = await this.#set.evaluate(entrypoint, input, { time: this.#clock.now() })
    const read = schema.safeParse(result)
    if (!read.success) {
      const what = result === undefined ? 'undefined' : `no object with booleans for ${Object.keys(schema.shape).join(', ')}`
      throw new SpiffeError('rego_evaluation_failed', `${this.name}: data.spire.result is ${what} for ${fullMethod}`)
    }
    const { data } = read
    return {
      allow: data.allow,
      allowIfAdmin: data.allow_if_admin,
      allowIfLocal: data.allow_if_local,
      allowIfDownstream: data.allow_if_downstream,
      allowIfAgent: data.allow_if_agent
    }
  }
}
