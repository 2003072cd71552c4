import type { FollowedWorkload } from '../attestation/workload/followed-workload.ts'
import type { PodAccess } from '../attestation/workload/pod-access.ts'
import type { PodReference } from '../attestation/workload/pod-finder.ts'
import type { CallContext, TlsCaller } from '../rpc/call.ts'
import type { Clock } from '../runtime/clock.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { WorkloadReference } from '../wire/generated/broker.ts'
import { brokerOf, type BrokerPolicies, checkTypeAllowed } from './broker-policy.ts'
import { parseReference, type Reference, referenceIn } from './reference.ts'
import { whileAllowed } from './while-allowed.ts'

export interface ReferencedWorkloadsDeps {
  readonly brokers: BrokerPolicies
  /** @throws {SpiffeError} `workload_not_found`, `workload_attestation_failed` */
  readonly attestPid: (pid: number, context: CallContext) => Promise<FollowedWorkload>
  /** @throws {SpiffeError} `workload_not_found` */
  readonly findNamespace: (name: string) => FollowedWorkload
  /** `undefined` where no attestor knows pods. @throws {SpiffeError} `workload_not_found`, `workload_attestation_failed` */
  readonly findPod?: ((pod: PodReference, context: CallContext) => Promise<FollowedWorkload>) | undefined
  /** Where an attestor has a say in who may name its pods. */
  readonly access?: PodAccess | undefined
  readonly clock: Clock
}

/** Finds what brokers reference; nothing they say about it counts (BRK-06). */
export class ReferencedWorkloads {
  readonly #deps: ReferencedWorkloadsDeps

  constructor (deps: ReferencedWorkloadsDeps) { this.#deps = deps }

  /**
   * @throws {SpiffeError} `workload_reference_invalid`, `reference_not_allowed`, `workload_not_found`, `workload_attestation_failed`,
   *   `kubernetes_unreachable`
   */
  async find (message: WorkloadReference | undefined, context: CallContext): Promise<FollowedWorkload> {
    const any = referenceIn(message)
    const broker = brokerOf(context, this.#deps.brokers)
    checkTypeAllowed(any.typeUrl, broker)
    const workload = await this.#find(parseReference(any), broker.caller, context)
    const { access, clock } = this.#deps
    if (access === undefined) return workload
    return await whileAllowed(workload, signal => access.review(broker.id, workload.selectors, signal), context, clock)
  }

  async #find (reference: Reference, caller: TlsCaller, context: CallContext): Promise<FollowedWorkload> {
    if (reference.kind === 'pod') return await this.#pod(reference.pod, context)
    checkOnNode(caller)
    return reference.kind === 'process' ? await this.#deps.attestPid(reference.pid, context) : this.#deps.findNamespace(reference.name)
  }

  async #pod (pod: PodReference, context: CallContext): Promise<FollowedWorkload> {
    const { findPod } = this.#deps
    if (findPod !== undefined) return await findPod(pod, context)
    throw new SpiffeError('workload_reference_invalid', 'this agent has no attestor for Kubernetes objects', { requirement: 'BRK-04' })
  }
}

/** A process or a namespace means something on this node, which nobody elsewhere does. @throws {SpiffeError} `reference_not_allowed` */
function checkOnNode ({ scope }: TlsCaller): void {
  if (scope !== 'network') return
  throw new SpiffeError('reference_not_allowed', 'a reference to something on this node came from another', { requirement: 'BRK-07' })
}
