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
import { announcePod, checkPod, type PodMesh } from './pods/announce-pod.ts'
import { readPodAnnouncement } from './pods/read-pod-announcement.ts'
import type { AnnouncedWorkloads, Announcement } from './workloads/announced-workloads.ts'
import { ServedWorkloads } from './workloads/served-workloads.ts'
import type { WorkloadRegistry } from './workloads/workload-registry.ts'

export interface MeshHandlersDeps {
  readonly node: MeshNode
  readonly proxy: ProxyState
  readonly registry: WorkloadRegistry
  readonly announced: AnnouncedWorkloads
  /** Where labels decide which pods belong to the mesh. */
  readonly pods?: PodMesh | undefined
  /** Of all others, where the agent writes rules. */
  readonly redirects?: { untilDone (uid: string, signal: AbortSignal): Promise<boolean> } | undefined
  readonly envoy: SupervisedEnvoy | undefined
  readonly settings: MeshSettings
  readonly now: () => Date
}

/** Of one workload; a runtime that waits for it must not wait for ever. */
const servedWithinMs = 5_000
/** Tools wait for others who change rules; less than the plugin waits. */
const redirectedWithinMs = 20_000
const idPattern = /^[\w.-]{1,128}$/
const mostSelectors = 100

/** What the node's administrator may do: the agent's own user and root, nobody else. */
export function meshHandlers (deps: MeshHandlersDeps): MeshHandlers<CallContext> {
  const { node, proxy, registry, announced, pods, redirects, envoy, settings, now } = deps
  const served = new ServedWorkloads({ node, proxy, registry, now })
  const added = (uid: string, leftAlone: string) => ({
    spiffeId: served.find(uid)?.id ?? '', served: served.isServed(uid), leftAlone,
    outboundPort: settings.outboundPort, inboundPort: settings.inboundPort, mark: settings.mark
  })
  const redirected = async (uid: string, name: string, signal: AbortSignal) => {
    const isDone = await redirects?.untilDone(uid, AbortSignal.any([signal, AbortSignal.timeout(redirectedWithinMs)]))
    signal.throwIfAborted()
    if (isDone === false) throw new SpiffeError('redirect_failed', `the connections of ${name} are not redirected yet`)
  }
  return {
    async addWorkload (request, context) {
      checkAdministrator(context)
      const announcement = readAnnouncement(request)
      if (pods !== undefined && request.pod !== undefined) {
        const found = await announcePod(readPodAnnouncement(announcement, request.pod), pods, served, context.signal)
        return found.kind === 'served' ? added(found.uid, '') : added('', found.why)
      }
      const uid = await announced.add(announcement)
      const patience = AbortSignal.any([context.signal, AbortSignal.timeout(servedWithinMs)])
      await registry.untilAnswered(uid, patience)
      // It starts when this returns, and would speak in the clear until its rules are there.
      if (served.find(uid) !== undefined) await redirected(uid, announcement.name, context.signal)
      // Without an identity or a proxy there is nothing to wait for.
      for await (const _ of proxy.watch(patience)) {
        if (served.find(uid) === undefined || proxy.streams === 0 || served.isServed(uid)) break
      }
      return added(uid, '')
    },
    async removeWorkload ({ id }, context) {
      checkAdministrator(context)
      await pods?.enrolment.remove(id)
      await announced.remove(id)
      return {}
    },
    async checkWorkload ({ id }, context) {
      checkAdministrator(context)
      if (pods !== undefined && await checkPod(id, pods, served, context.signal)) return {}
      const uid = announced.find(id)
      if (uid === undefined) throw new SpiffeError('workload_not_found', `no workload was added as ${JSON.stringify(id.slice(0, 128))}`)
      if (served.find(uid) === undefined || served.isServed(uid)) return {}
      throw new SpiffeError('proxy_unready', `the node's proxy does not serve ${id}`)
    },
    async retainWorkloads ({ network, ids }, context) {
      checkAdministrator(context)
      if (network === '') throw new SpiffeError('argument_invalid', 'network is missing')
      await pods?.enrolment.retain(network, new Set(ids))
      await announced.retain(network, new Set(ids))
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
          ({ uid, name, addresses, spiffeId: served.find(uid)?.id ?? '', served: served.isServed(uid) })),
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
function readAnnouncement ({ id, name, netnsPath, addresses, selectors, network }: AddWorkloadRequest): Announcement {
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
    selectors: [{ type: 'cni', value: `id:${id}` }, ...network === '' ? [] : [{ type: 'cni', value: `network:${network}` }], ...selectors]
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
