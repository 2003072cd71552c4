import { hbonePort, type MeshSettings } from '../mesh/mesh-state.ts'
import type { RedirectRules } from '../mesh/pods/redirect-rules.ts'
import type { WorkloadRegistry } from '../mesh/workloads/workload-registry.ts'
import { applyRedirect, listRedirects, removeRedirect } from '../redirect/redirect.ts'
import type { Logger } from '../runtime/logger.ts'
import { isStop } from '../runtime/tasks.ts'

/** Rules of namespaces, for this node's proxy. */
export function redirectRules ({ outboundPort, inboundPort }: MeshSettings): RedirectRules {
  return {
    apply: (path, signal) => applyRedirect({
      scope: { kind: 'netns', path }, outboundPort, inboundPort, tunnelPort: hbonePort, excludePorts: [], excludeCidrs: []
    }, signal),
    async remove (path, signal) { await removeRedirect({ kind: 'netns', path }, signal) },
    async exist (path, signal) {
      const found = await listRedirects(path, signal)
      return found.some(one => one.outboundPort === outboundPort && one.inboundPort === inboundPort)
    }
  }
}

/**
 * Makes what the workloads of this node send and receive arrive at the proxy, until the signal aborts. A namespace is left alone until its
 * workload has an identity: not every namespace with a name belongs to the mesh. What was redirected once stays so while it is here: one
 * that lost its identity must not speak in the clear.
 */
export async function redirectWorkloads (
  registry: WorkloadRegistry, settings: MeshSettings, isPod: (uid: string) => boolean, log: Logger, signal: AbortSignal
): Promise<void> {
  const rules = redirectRules(settings)
  const done = new Set<string>()
  for await (const { workloads } of registry.watch(signal)) {
    for (const { uid, name, netnsPath } of workloads) {
      // Of pods, labels say what is to become of their connections.
      if (done.has(uid) || isPod(uid)) continue
      done.add(uid)
      try {
        const { tool } = await rules.apply(netnsPath, signal)
        log.info({ uid, name, tool }, 'a workload\'s connections are redirected to the proxy')
      } catch (error) {
        if (isStop(error, signal)) return
        // Without the rules it is not protected, and a next look may do better.
        done.delete(uid)
        log.error({ uid, name, err: error }, 'a workload\'s connections are not redirected: it can be reached, and speaks, in the clear')
      }
    }
    const here = new Set(workloads.map(({ uid }) => uid))
    for (const uid of done) if (!here.has(uid) && !registry.arrivals.some(arrival => arrival.uid === uid)) done.delete(uid)
  }
}
