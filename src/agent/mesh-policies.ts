import { scopesInForce } from '../authz/policy/scopes-in-force.ts'
import type { MeshPolicies } from '../mesh/mesh-state.ts'
import type { Clock } from '../runtime/clock.ts'
import { isOvertaken } from '../runtime/is-overtaken.ts'
import type { NodePolicies } from './node-policies.ts'

/** Somebody may set the machine's clock: it is looked at once in a while. */
const longestWaitMs = 60_000

/**
 * The trust domain's policies as the proxy's configuration is made of them. When a relationship with another trust domain ends, they come
 * again without it: the proxy asks nobody about a connection that is open, and only a change ends it.
 */
export async function * meshPolicies (
  policies: Pick<NodePolicies, 'watch'>, clock: Pick<Clock, 'now' | 'sleep'>, signal: AbortSignal
): AsyncGenerator<MeshPolicies> {
  const states = policies.watch(signal)
  for (let next = states.next(); ;) {
    const { value: state, done } = await next
    if (done === true) return
    next = states.next()
    if (state.kind !== 'set') {
      yield state
      continue
    }
    let told: MeshPolicies | undefined
    for (;;) {
      const now = clock.now()
      const { set, nextEnd } = scopesInForce(state.engine.set, now)
      if (told?.kind !== 'set' || told.set.scopes.length !== set.scopes.length) yield told = { kind: 'set', set }
      if (nextEnd === undefined || await isOvertaken(next, Math.min(longestWaitMs, nextEnd.getTime() - now.getTime()), clock, signal)) break
    }
  }
}
