import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { AgentSvid, agentState } from '../../src/agent/agent-svid.ts'
import type { AgentState } from '../../src/agent/agent-state.ts'
import { attestNode } from '../../src/agent/attest-node.ts'
import { followServer } from '../../src/agent/follow-server.ts'
import { NodeIdentities } from '../../src/agent/node-identities.ts'
import { NodePolicies } from '../../src/agent/node-policies.ts'
import { Revocations } from '../../src/agent/revocations.ts'
import { ServerClient } from '../../src/agent/server-client.ts'
import { SvidCache } from '../../src/agent/svid-cache.ts'
import { verifyServerIdOnly, verifyServerWith } from '../../src/rpc/verify-server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger, type Logger } from '../../src/runtime/logger.ts'
import { runTasks } from '../../src/runtime/tasks.ts'
import type { TrustDomain } from '../../src/spiffe/trust-domain.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'

export interface SimulatedAgentOptions {
  /** `host:port` of equal replicas. */
  readonly addresses: readonly string[]
  readonly trustDomain: TrustDomain
  readonly log?: Logger
}

export interface RunSimulatedAgentOptions {
  /** The agent's own SVID is renewed at once, as if half of its life had passed meanwhile. */
  readonly renewalDue?: boolean
  readonly onRenewed?: () => void
  /** All SVIDs of a state are there, or could not be had. */
  readonly onSettled?: () => void
}

/**
 * An agent without a socket of its own, so that thousands share a process: what follows, renews and signs is the real agent's code, over
 * TLS connections of its own. Only its state is in memory, and nobody asks it for SVIDs: it has them all signed ahead of need.
 */
export class SimulatedAgent {
  readonly #options: SimulatedAgentOptions
  #state: AgentState
  #svids: SvidCache | undefined
  #identities: NodeIdentities | undefined

  private constructor (state: AgentState, options: SimulatedAgentOptions) {
    this.#state = state
    this.#options = options
  }

  static async join (token: string, options: SimulatedAgentOptions): Promise<SimulatedAgent> {
    const { addresses, trustDomain, log = silentLogger } = options
    const key: KeyObject = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
    const attestor = {
      name: 'join_token',
      async * attest () { yield Buffer.from(token) },
      async [Symbol.asyncDispose] () {}
    }
    const result = await attestNode({
      address: addresses[0] as string,
      trustDomain,
      verifyServer: verifyServerIdOnly(trustDomain),
      requirePqKem: false,
      attestor,
      csr: createCertificateRequest(key),
      log
    }, new AbortController().signal)
    return new SimulatedAgent(agentState(result.chain, key, { ...result, cacheGeneration: 0 }), options)
  }

  /** Whether it has an SVID for an entry with this ID, or with `undefined` for all its entries, of which it has some. */
  holds (spiffeId?: string): boolean {
    const entries = [...this.#identities?.entries.values() ?? []]
    const wanted = spiffeId === undefined ? entries : entries.filter(entry => entry.spiffeId === spiffeId)
    return wanted.length > 0 && wanted.every(entry => this.#svids?.svidOf(entry) !== undefined)
  }

  /** IDs for whose entries it has an SVID. */
  held (): ReadonlySet<string> {
    const entries = [...this.#identities?.entries.values() ?? []]
    return new Set(entries.filter(entry => this.#svids?.svidOf(entry) !== undefined).map(({ spiffeId }) => spiffeId))
  }

  /** From its start to its stop, with nothing but its state from the run before. @throws what ends an agent */
  async run (signal: AbortSignal, { renewalDue = false, onRenewed, onSettled }: RunSimulatedAgentOptions = {}): Promise<void> {
    const { addresses, trustDomain, log = silentLogger } = this.#options
    const clock = systemClock
    const store = {
      folder: undefined,
      read: async () => this.#state,
      write: async (state: AgentState) => { this.#state = state },
      remove: async () => {}
    }
    // Drawn once for what is renewed when: far beyond 1, the first is over since long.
    let draw = renewalDue ? 5 : Math.random()
    const svid = new AgentSvid(this.#state, { store, clock, log, random: () => draw })
    draw = Math.random()
    const svids = new SvidCache({ keyType: 'ec-p256', maxSize: 1000, random: Math.random }, clock, log)
    const identities = new NodeIdentities(svid.bundle, svids, clock)
    this.#svids = svids
    this.#identities = identities
    await using client = new ServerClient({
      addresses,
      random: Math.random,
      agentId: () => svid.id,
      identity: () => svid.identity,
      verifyServer: verifyServerWith(() => identities.bundle, clock),
      log
    })
    await runTasks(signal, [
      signal => svid.run(
        (csr, signal) => client.renewAgent(csr, signal), { onRenewed, reconnect: () => client.reconnect() }, signal
      ),
      signal => identities.run(client, signal),
      signal => followServer({
        client,
        agentId: svid.id,
        ownSvid: svid,
        identities,
        revocations: new Revocations(),
        policies: new NodePolicies({ trustDomain, foreign: [] }, log),
        trustDomain,
        intervalMs: 5000,
        onBundle: bundle => svid.setBundle(bundle),
        onSynced: () => {},
        postStatus: async () => {},
        clock,
        log,
        random: Math.random
      }, signal),
      async signal => {
        for await (const revision of identities.watchSettled(signal)) if (revision > 0 && identities.synced) onSettled?.()
      }
    ])
  }
}
