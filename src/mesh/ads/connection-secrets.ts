import type { Clock } from '../../runtime/clock.ts'
import { firstOf } from '../../runtime/first-of.ts'
import type { Logger } from '../../runtime/logger.ts'
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

const absent: Found = { kind: 'absent' }

/**
 * Secrets of connections of the host's own processes: that Envoy asks for one is the call to attest the process behind that very
 * connection. Each is answered once and then taken away.
 */
export class ConnectionSecrets implements Disposable {
  readonly #deps: ConnectionSecretsDeps
  readonly #known = new Map<string, Found>()
  readonly #stop = new AbortController()
  #running = 0

  constructor (deps: ConnectionSecretsDeps) { this.#deps = deps }

  find (name: string): Found {
    const known = this.#known.get(name)
    if (known !== undefined) return known
    if (this.#running >= mostAtOnce || this.#stop.signal.aborted) return absent
    this.#known.set(name, { kind: 'pending' })
    void this.#look(name)
    return { kind: 'pending' }
  }

  [Symbol.dispose] (): void { this.#stop.abort(new Error('the agent is stopping')) }

  async #look (name: string): Promise<void> {
    const { clock, log, onChange } = this.#deps
    this.#running++
    try {
      const found = await this.#secretOf(name)
      this.#known.set(name, found)
      onChange()
      if (found.kind === 'usable') await clock.sleep(keptMs, this.#stop.signal)
    } catch (error) {
      if (this.#stop.signal.aborted) return
      if (codeOf(error) === undefined) log.error({ connection: name, err: error }, 'whose a connection is could not be looked up')
      else log.info({ connection: name, code: codeOf(error), reason: (error as Error).message }, 'a connection has no identity')
    } finally {
      this.#running--
    }
    this.#known.set(name, absent)
    onChange()
    await clock.sleep(refusedMs, this.#stop.signal).catch(() => {})
    this.#known.delete(name)
  }

  async #secretOf (name: string): Promise<Found> {
    const within = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(patienceMs)])
    const selectors = await this.#deps.attest(name, within)
    const identity = await firstOf(served(this.#deps.identities.watch(selectors, within)))
    const svid = identity?.svids[0]
    if (svid !== undefined) return certificateSecret(name, svid)
    this.#deps.log.info({ connection: name, selectors: selectors.map(formatSelector) }, 'a connection has no identity: no entry matches')
    return absent
  }
}

/** Entries may be there before their SVIDs are signed. */
async function * served (states: AsyncIterable<WorkloadIdentity>): AsyncGenerator<WorkloadIdentity, void, undefined> {
  for await (const state of states) if (state.awaitsSvids !== true) yield state
}
