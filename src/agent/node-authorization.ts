import { Decider, type DecisionFacts } from '../authz/decider.ts'
import { extAuthzMethods } from '../authz/ext-authz/ext-authz-methods.ts'
import { PolicyEngine } from '../authz/policy/policy-engine.ts'
import { noPolicies } from '../authz/policy/policy-set.ts'
import { regoProvider } from '../authz/rego/rego-provider.ts'
import { openRpcServer } from '../rpc/server.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { NodePolicies, NodePolicyState } from './node-policies.ts'

export interface NodeAuthorizationDeps {
  readonly policies: Pick<NodePolicies, 'state'>
  /** Of the socket; nobody but the agent's own user and root may open it. */
  readonly path: string
  readonly takeOver: boolean
  /** Told of each decision. */
  readonly onDecided?: ((facts: DecisionFacts) => void) | undefined
  readonly clock: Clock
  readonly log: Logger
}

/**
 * Answers the node's proxy about requests to workloads whose rules it cannot be told (Envoy's ext_authz). What it says of the caller beside
 * its question is believed, since the agent configured it.
 * @throws {SpiffeError} `socket_in_use`, `file_unusable`
 */
export async function openNodeAuthorization (
  { policies, path, takeOver, onDecided, clock, log }: NodeAuthorizationDeps
): Promise<AsyncDisposable> {
  const deciders = new WeakMap<NodePolicyState, Decider>()
  // Of each state its own: one decision sees the rules and the Rego of one version, also while they change.
  const deciderOf = (state: NodePolicyState): Decider => {
    const known = deciders.get(state)
    if (known !== undefined) return known
    const rego = state.kind === 'set' ? state.rego : undefined
    const decider = new Decider({
      engine: () => engineOf(state),
      // Nobody else whom a `custom` rule may name is configured at a node: its requests are refused.
      providers: name => rego === undefined ? undefined : regoProvider(name, () => rego),
      onDecided,
      monotonicMs: () => clock.monotonicMs()
    })
    deciders.set(state, decider)
    return decider
  }
  const decider: Pick<Decider, 'decide'> = { decide: (...asked) => deciderOf(policies.state).decide(...asked) }
  await using scope = new AsyncDisposableStack()
  const rpc = scope.use(openRpcServer({ services: [], unary: extAuthzMethods(decider, clock, { trustsMetadata: true }), log, clock }))
  await rpc.listenUnix({ path, mode: 0o600, takeOver })
  return scope.move()
}

const everybody = new PolicyEngine(noPolicies)

function engineOf (state: NodePolicyState): PolicyEngine {
  if (state.kind === 'unknown') throw new SpiffeError('server_initializing', 'no server has said yet which policies there are')
  // Without policies a chain of before asks, which is about to go.
  return state.kind === 'set' ? state.engine : everybody
}

