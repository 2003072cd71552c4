import type { Clock } from '../../runtime/clock.ts'
import { firstOf } from '../../runtime/first-of.ts'
import type { Logger } from '../../runtime/logger.ts'
import { isStop } from '../../runtime/tasks.ts'
import { certificateSecret } from '../../sds/identity-secrets.ts'
import type { Found } from '../../sds/secret-resource.ts'
import { codeOf } from '../../spiffe/errors.ts'
import { formatSelector, type Selector } from '../../spiffe/selector.ts'
import type { WorkloadIdentity } from '../../spiffe/svid.ts'
import type { IdentitySource } from '../workloads/workload-registry.ts'

export interface ConnectionSecretsDeps {
  /** What holds for the process behind a connection of that name. @throws {SpiffeError} when none is to be had */
  readonly attest: (name: string, signal: AbortSignal) => Promise<readonly Selector[]>
  readonly identities: IdentitySource
  readonly clock: Clock
  readonly log: Logger
  /** A name means something else now. */
  readonly onChange: () => void
}

/** Envoy gives a connection up after three seconds. */
const patienceMs = 2_500
/** Long enough for the handshake. The connection lives on without its secret; the name is never used again. */
const keptMs = 3_000
/** After that the name is as unknown as any other: who asks again is looked at again. */
const refusedMs = 10_000
/** Connections whose processes are looked for at one time. */
const mostAtOnce = 200
/** Names that are remembered, with a secret or without: some thousand new connections a second. */
const mostKnown = 10_000

const absent: Found = { kind: 'absent' }

/**
 * Secrets of connections of the host's own processes: that Envoy asks for one is the call to attest the process behind that very
 * connection. Each is answered once and then taken away.
 */
export class ConnectionSecrets implements Disposable {
  readonly #deps: ConnectionSecretsDeps
  readonly #known = new Map<string, Found>()
  readonly #stop = new AbortController()
  #looking = 0

  constructor (deps: ConnectionSecretsDeps) { this.#deps = deps }

  find (name: string): Found {
    const known = this.#known.get(name)
    if (known !== undefined) return known
    if (this.#looking >= mostAtOnce || this.#known.size >= mostKnown || this.#stop.signal.aborted) return absent
    this.#known.set(name, { kind: 'pending' })
    void this.#look(name)
    return { kind: 'pending' }
  }

  [Symbol.dispose] (): void { this.#stop.abort(new Error('the agent is stopping')) }

  async #look (name: string): Promise<void> {
    const { clock } = this.#deps
    this.#looking++
    const found = await this.#secretOf(name)
    // What is kept is not looked for any more: others may be.
    this.#looking--
    if (this.#stop.signal.aborted) return
    try {
      this.#tell(name, found)
      if (found.kind === 'usable') await clock.sleep(keptMs, this.#stop.signal)
      if (found.kind !== 'absent') this.#tell(name, absent)
      await clock.sleep(refusedMs, this.#stop.signal)
    } catch (error) {
      if (!isStop(error, this.#stop.signal)) throw error
    }
    this.#known.delete(name)
  }

  #tell (name: string, found: Found): void {
    this.#known.set(name, found)
    this.#deps.onChange()
  }

  /** @returns `absent` where there is none, whatever the reason, which is logged */
  async #secretOf (name: string): Promise<Found> {
    const { attest, identities, log } = this.#deps
    const within = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(patienceMs)])
    try {
      const selectors = await attest(name, within)
      const identity = await firstOf(served(identities.watch(selectors, within)))
      const svid = identity?.svids[0]
      if (svid !== undefined) return certificateSecret(name, svid)
      log.info({ connection: name, selectors: selectors.map(formatSelector) }, 'a connection has no identity: no entry matches')
    } catch (error) {
      const code = codeOf(error)
      if (this.#stop.signal.aborted) return absent
      if (code === undefined) log.error({ connection: name, err: error }, 'whose a connection is could not be looked up')
      else log.info({ connection: name, code, reason: (error as Error).message }, 'a connection has no identity')
    }
    return absent
  }
}

/** Entries may be there before their SVIDs are signed. */
async function * served (states: AsyncIterable<WorkloadIdentity>): AsyncGenerator<WorkloadIdentity, void, undefined> {
  for await (const state of states) if (state.awaitsSvids !== true) yield state
}
