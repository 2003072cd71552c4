import type { ProxyState } from '../ads/proxy-state.ts'
import type { MeshNode } from '../mesh-node.ts'
import type { MeshWorkload } from '../mesh-state.ts'
import { policyNames } from '../resources/authorization.ts'
import { listenerType } from '../resources/mesh-resources.ts'
import { inboundListener, outboundListener, tunnelListener } from '../resources/names.ts'
import type { WorkloadRegistry } from './workload-registry.ts'

export interface ServedWorkloadsDeps {
  readonly node: Pick<MeshNode, 'views'>
  readonly proxy: ProxyState
  readonly registry: Pick<WorkloadRegistry, 'state' | 'watch'>
  readonly now: () => Date
}

/** Which workloads have an identity, and which of them the proxy serves. */
export class ServedWorkloads {
  readonly #deps: ServedWorkloadsDeps

  constructor (deps: ServedWorkloadsDeps) { this.#deps = deps }

  get proxies (): number { return this.#deps.proxy.streams }

  /** With the identity that it has now; `undefined`: it has none. */
  find (uid: string): MeshWorkload | undefined { return this.#deps.registry.state.workloads.find(workload => workload.uid === uid) }

  /** Whether every proxy that is there has its listeners as they are now, and the rules that these name. */
  isServed (uid: string): boolean {
    const { node, proxy, now } = this.#deps
    const workload = this.find(uid)
    if (workload === undefined) return false
    const at = now()
    const out = outboundListener(workload)
    // There is none where there is nothing that it might reach.
    const calls = node.views?.get(listenerType)?.find(out, at).kind !== 'absent'
    const listeners = [tunnelListener(workload), inboundListener(workload), ...calls ? [out] : []]
    return proxy.holds(node.views, listenerType, listeners, at) &&
      policyNames(workload).every(([typeUrl, name]) => !proxy.lags(node.views, typeUrl, [name], at))
  }

  /** Until it has an identity, or the signal aborts. @returns whether it has */
  async untilKnown (uid: string, signal: AbortSignal): Promise<boolean> {
    for await (const _ of this.#deps.registry.watch(signal)) if (this.find(uid) !== undefined) return true
    return false
  }

  /** Until it is served, or the signal aborts. @returns whether it is */
  async untilServed (uid: string, signal: AbortSignal): Promise<boolean> {
    for await (const _ of this.#deps.proxy.watch(signal)) if (this.isServed(uid)) return true
    return false
  }

  /** What the proxy said against one's listeners; `undefined`: nothing. */
  refusalOf (uid: string): string | undefined {
    const { node, proxy, now } = this.#deps
    const workload = this.find(uid)
    if (workload === undefined) return undefined
    const names = new Set([outboundListener, tunnelListener, inboundListener].map(nameOf => nameOf(workload)))
    return proxy.refused(node.views, now()).find(({ name }) => names.has(name))?.reason
  }
}
