import { hbonePort, type MeshSettings } from '../mesh/mesh-state.ts'
import type { WorkloadRegistry } from '../mesh/workloads/workload-registry.ts'
import { applyRedirect } from '../redirect/redirect.ts'
import type { Logger } from '../runtime/logger.ts'
import { isStop } from '../runtime/tasks.ts'

/**
 * Makes what the workloads of this node send and receive arrive at the proxy, until the signal aborts. A namespace is left alone until its
 * workload has an identity: not every namespace with a name belongs to the mesh. What was redirected once stays so while it is here: one
 * that lost its identity must not speak in the clear.
 */
export async function redirectWorkloads (
  registry: WorkloadRegistry, settings: MeshSettings, log: Logger, signal: AbortSignal
): Promise<void> {
  const done = new Set<string>()
  for await (const { workloads } of registry.watch(signal)) {
    for (const { uid, name, netnsPath } of workloads) {
      if (done.has(uid)) continue
      done.add(uid)
      try {
        const { tool } = await applyRedirect({
          scope: { kind: 'netns', path: netnsPath },
          outboundPort: settings.outboundPort,
          inboundPort: settings.inboundPort,
          tunnelPort: hbonePort,
          excludePorts: [],
          excludeCidrs: []
        }, signal)
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
