import type { CallContext } from '../rpc/call.ts'
import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import { parseIpAddress } from '../spiffe/ip-address.ts'
import { checkSelector } from '../spiffe/selector.ts'
import type { AddWorkloadRequest, MeshHandlers, MeshStatus } from '../wire/generated/agent-sync.ts'
import type { ProxyState } from './ads/proxy-state.ts'
import type { SupervisedEnvoy } from './envoy/supervise-envoy.ts'
import { readEnvoyState } from './envoy/envoy-state.ts'
import { readTraffic } from './envoy/traffic.ts'
import type { MeshNode } from './mesh-node.ts'
import type { MeshSettings } from './mesh-state.ts'
import { inboundListener, tunnelListener } from './resources/names.ts'
import { policyNames } from './resources/authorization.ts'
import { listenerType } from './resources/mesh-resources.ts'
import type { AnnouncedWorkloads, Announcement } from './workloads/announced-workloads.ts'
import type { WorkloadRegistry } from './workloads/workload-registry.ts'

export interface MeshHandlersDeps {
  readonly node: MeshNode
  readonly proxy: ProxyState
  readonly registry: WorkloadRegistry
  readonly announced: AnnouncedWorkloads
  readonly envoy: SupervisedEnvoy | undefined
  readonly settings: MeshSettings
  readonly now: () => Date
}

/** Of one workload; a runtime that waits for it must not wait for ever. */
const servedWithinMs = 5_000
const idPattern = /^[\w.-]{1,128}$/
const mostSelectors = 100

/** What the node's administrator may do: the agent's own user and root, nobody else. */
export function meshHandlers (deps: MeshHandlersDeps): MeshHandlers<CallContext> {
  const { node, proxy, registry, announced, envoy, settings, now } = deps
  const workloadOf = (uid: string) => registry.state.workloads.find(workload => workload.uid === uid)
  const isServed = (uid: string): boolean => {
    const workload = workloadOf(uid)
    if (workload === undefined) return false
    const at = now()
    return proxy.holds(node.views, listenerType, [tunnelListener(workload), inboundListener(workload)], at) &&
      policyNames(workload).every(([typeUrl, name]) => !proxy.lags(node.views, typeUrl, [name], at))
  }
  return {
    async addWorkload (request, context) {
      checkAdministrator(context)
      const uid = await announced.add(readAnnouncement(request))
      const patience = AbortSignal.any([context.signal, AbortSignal.timeout(servedWithinMs)])
      // Without an identity or a proxy there is nothing to wait for.
      for await (const _ of proxy.watch(patience)) {
        if (workloadOf(uid) === undefined || proxy.streams === 0 || isServed(uid)) break
      }
      return {
        spiffeId: workloadOf(uid)?.id ?? '', served: isServed(uid),
        outboundPort: settings.outboundPort, inboundPort: settings.inboundPort, mark: settings.mark
      }
    },
    async removeWorkload ({ id }, context) {
      checkAdministrator(context)
      await announced.remove(id)
      return {}
    },
    async getMeshStatus (_request, context): Promise<MeshStatus> {
      checkAdministrator(context)
      const status = envoy?.status
      const [state, traffic] = status?.pid === undefined ? [undefined, []] : await Promise.all([
        readEnvoyState(status.adminSocketPath, context.signal), readTraffic(status.adminSocketPath, context.signal)
      ])
      return {
        workloads: registry.arrivals.map(({ uid, name, addresses }) =>
          ({ uid, name, addresses, spiffeId: workloadOf(uid)?.id ?? '', served: isServed(uid) })),
        proxies: proxy.streams,
        refused: proxy.refused(node.views, now()).map(({ typeUrl, name, reason }) =>
          ({ type: typeUrl.slice(typeUrl.lastIndexOf('.') + 1), name, reason })),
        envoy: status === undefined ? undefined : {
          pid: status.pid ?? 0, restarts: status.restarts, lastExit: status.lastExit ?? '', adminSocket: status.adminSocketPath,
          state: state?.state ?? '', version: state?.version ?? '', uptimeSeconds: BigInt(state?.uptimeSeconds ?? 0),
          listeners: state?.listeners ?? 0, listenersWarming: state?.listenersWarming ?? 0, log: status.recentLines
        },
        services: node.directory.services.length,
        endpoints: node.directory.endpoints.length,
        plaintext: traffic.filter(({ name }) => name === 'plaintext').map(({ labels, value }) =>
          ({ address: labels.get('from') ?? '', spiffeId: labels.get('destination') ?? '', count: BigInt(value) }))
      }
    }
  }
}

function checkAdministrator ({ caller }: CallContext): void {
  const own = process.geteuid?.()
  if (caller.kind === 'unix' && (caller.peer.uid === 0 || caller.peer.uid === own)) return
  throw new SpiffeError('authorization_denied', 'only root and the agent\'s own user may do this')
}

/** @throws {SpiffeError} `argument_invalid`, `selector_malformed` */
function readAnnouncement ({ id, name, netnsPath, addresses, selectors }: AddWorkloadRequest): Announcement {
  const refuse = (what: string) => new SpiffeError('argument_invalid', what)
  if (!idPattern.test(id)) throw refuse('id must be 1 to 128 of A-Z a-z 0-9 . _ -')
  if (!netnsPath.startsWith('/')) throw refuse('netns_path must be absolute')
  if (selectors.length > mostSelectors) throw refuse(`more than ${mostSelectors} selectors`)
  for (const selector of selectors) {
    // Facts of other kinds have their own attestors.
    if (checkSelector(selector).type !== 'cni') throw refuse(`selectors must be of type cni, not ${selector.type}`)
  }
  return {
    id, name: name === '' ? id : name, netnsPath, addresses: addresses.map(readAddress),
    selectors: [{ type: 'cni', value: `id:${id}` }, ...selectors]
  }
}

/** In its one spelling: the proxy compares texts. */
function readAddress (text: string): string {
  try {
    return parseIpAddress(text, 'address')
  } catch (error) {
    throw codeOf(error) === undefined ? error : new SpiffeError('argument_invalid', (error as Error).message, { cause: error })
  }
}
