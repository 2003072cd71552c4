import { brokerHandlers } from '../broker/broker-handlers.ts'
import { admitBroker } from '../broker/broker-policy.ts'
import type { FollowedWorkload } from '../attestation/workload/followed-workload.ts'
import type { PodAccess } from '../attestation/workload/pod-access.ts'
import type { CallContext } from '../rpc/call.ts'
import { reflectionServices } from '../rpc/reflection/reflection-service.ts'
import { bind, openRpcServer, type RpcServer } from '../rpc/server.ts'
import type { TlsDemands, TlsIdentity } from '../rpc/tls-identity.ts'
import type { Clock } from '../runtime/clock.ts'
import type { ListenAddress } from '../runtime/config-schema.ts'
import type { Logger } from '../runtime/logger.ts'
import type { Task } from '../runtime/tasks.ts'
import type { Watchable } from '../runtime/watchable.ts'
import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import { brokerService } from '../wire/generated/broker.ts'
import type { BrokerConfig } from './broker-config.ts'
import type { AttestPid, findByPod } from './follow-workload.ts'
import type { AgentIdentitySource } from './identity-source.ts'
import type { NodeIdentities } from './node-identities.ts'

export interface AgentBrokerDeps extends TlsDemands {
  readonly identities: NodeIdentities
  /** What may be had for others. */
  readonly delegable: AgentIdentitySource
  readonly attestPid: AttestPid
  readonly findNamespace: (name: string) => FollowedWorkload
  readonly findPod: ReturnType<typeof findByPod>
  readonly access: PodAccess | undefined
  /** The agent's own SVID, by which brokers know it; `undefined` until there is one. */
  readonly identity: Watchable<TlsIdentity | undefined>
  readonly takeOver: boolean
  readonly clock: Clock
  readonly log: Logger
}

export interface AgentBroker extends AsyncDisposable {
  readonly rpc: RpcServer
  /** Opens the endpoint once the agent has an identity, and shows each newer one. */
  readonly run: Task
}

const handoverPatienceMs = 30_000
const portRetryMs = 100

/** The SPIFFE Broker Endpoint: mutual TLS in both directions, on a Unix socket too (§3.1). */
export function openAgentBroker (config: BrokerConfig, deps: AgentBrokerDeps): AgentBroker {
  const { identities, clock, log, takeOver } = deps
  const services = [bind(brokerService, brokerHandlers({
    brokers: config.brokers, identities: deps.delegable, attestPid: deps.attestPid, findNamespace: deps.findNamespace,
    findPod: deps.findPod, access: deps.access, clock
  }))]
  const rpc = openRpcServer({
    services: [...services, ...reflectionServices(services)],
    before: context => {
      admitBroker(context, config.brokers)
      checkReflection(context)
    },
    log,
    clock
  })
  const tls = {
    identity: () => {
      const { value } = deps.identity
      if (value === undefined) throw new SpiffeError('server_initializing', 'the agent has not joined yet')
      return value
    },
    // A broker of another trust domain is known by that domain's own bundle, where this node has it.
    bundleOf: (trustDomain: string) =>
      [identities.bundle, ...identities.federatedBundles.values()].find(bundle => bundle.trustDomain === trustDomain),
    clientRequired: true,
    requirePqKem: deps.requirePqKem
  }
  const openTcp = async (address: ListenAddress, signal: AbortSignal) => {
    const patienceEndsMs = clock.monotonicMs() + handoverPatienceMs
    for (;;) {
      try {
        return await rpc.listenTls({ ...address, ...tls })
      } catch (error) {
        // The agent whose place this one takes holds the port until it leaves.
        if (!takeOver || codeOf(error) !== 'address_unusable' || clock.monotonicMs() > patienceEndsMs) throw error
        await clock.sleep(portRetryMs, signal)
      }
    }
  }
  const open = async (signal: AbortSignal) => {
    const { socketPath, bind: tcp } = config
    const brokers = [...config.brokers.keys()]
    if (socketPath !== undefined) {
      await rpc.listenUnixTls({ path: socketPath, mode: 0o770, takeOver, ...tls })
      log.info({ socket: socketPath, brokers }, 'broker endpoint is open')
    }
    if (tcp !== undefined) {
      const { host, port } = await openTcp(tcp, signal)
      log.info({ address: host, port, brokers }, 'broker endpoint is open')
    }
  }
  let isOpen = false
  return {
    rpc,
    async run (signal) {
      for await (const identity of deps.identity.watch(signal)) {
        if (identity === undefined) continue
        if (isOpen) rpc.refreshIdentity()
        else await open(signal)
        isOpen = true
      }
    },
    [Symbol.asyncDispose]: () => rpc[Symbol.asyncDispose]()
  }
}

/** What is offered is told on this machine only. @throws {SpiffeError} `authorization_denied` */
function checkReflection ({ method, caller }: CallContext): void {
  if (!method.startsWith('/grpc.reflection.') || (caller.kind === 'tls' && caller.scope === 'unix')) return
  throw new SpiffeError('authorization_denied', 'server reflection is only available over the Unix socket')
}
