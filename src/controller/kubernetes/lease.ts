import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { isStop } from '../../runtime/tasks.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { type KubeClient, statusOf } from './kube-client.ts'
import { isRecord, type KubeObject } from './kube-object.ts'

export interface LeaseOptions {
  readonly namespace: string
  readonly name: string
  /** Of this process, and of no other one. */
  readonly identity: string
  /** Others wait for so long after the last renewal that they saw. */
  readonly durationMs: number
  /** Less than `durationMs`: a leader that could not renew for so long does nothing any more. */
  readonly renewDeadlineMs: number
  readonly retryMs: number
}

export interface LeaseDeps {
  readonly client: Pick<KubeClient, 'get' | 'create' | 'replace'>
  readonly clock: Clock
  readonly log: Logger
}

/** The right to write, while it lasts. */
export interface Tenure {
  /** To be called before each write. @throws {SpiffeError} `lease_lost` */
  check (): void
  /** What the leaders write down for those after them. */
  note (): string
  /** @throws {SpiffeError} `lease_lost`, `kubernetes_unreachable`: then it is not written */
  setNote (text: string): Promise<void>
}

/** The leaders' note, in the Lease's annotations. */
const noteKey = 'assay.io/controller-note'

/**
 * One leader among several controllers, by a Lease of `coordination.k8s.io/v1` as client-go elects: times of others are never compared with
 * the own clock, only how long a Lease stays unchanged. Whoever could not renew in time stops before another one begins.
 */
export class Lease {
  readonly #options: LeaseOptions
  readonly #deps: LeaseDeps
  readonly #path: string
  /** What was seen last, and since when by the own clock. */
  #seen: { readonly version: string | undefined, readonly sinceMs: number } | undefined
  #held: KubeObject | undefined
  #note = ''
  #renewedMs = 0
  /** One change at a time: each needs the version that the one before made. */
  #queue: Promise<unknown> = Promise.resolve()

  constructor (options: LeaseOptions, deps: LeaseDeps) {
    this.#options = options
    this.#deps = deps
    this.#path = leasesPath(options.namespace)
  }

  get isHeld (): boolean { return this.#held !== undefined }

  /** Leads whenever it is its turn, until the signal aborts; gives the Lease back then. */
  async run (lead: (tenure: Tenure, signal: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps
    for (;;) {
      const isLeader = await this.#attempt(signal)
      if (isLeader) {
        log.info({ identity: this.#options.identity }, 'controller leads')
        try {
          await this.#lead(lead, signal)
        } finally {
          if (signal.aborted) await this.#release()
          this.#held = undefined
        }
        log.warn('controller leads no more')
      }
      await clock.sleep(this.#options.retryMs, signal)
    }
  }

  async #lead (lead: (tenure: Tenure, signal: AbortSignal) => Promise<void>, outer: AbortSignal): Promise<void> {
    const lost = new AbortController()
    const signal = AbortSignal.any([outer, lost.signal])
    const check = () => {
      if (this.#held === undefined || this.#isLate()) throw leaseLost()
    }
    const tenure: Tenure = {
      check,
      note: () => this.#note,
      setNote: async text => {
        check()
        await this.#change(signal, text)
      }
    }
    const leading = lead(tenure, signal)
    // Its failure is looked at below; until then it is nobody's.
    leading.catch(() => lost.abort(leaseLost()))
    try {
      await this.#renewForever(signal)
    } catch (error) {
      lost.abort(error)
    }
    try {
      await leading
    } catch (error) {
      // A write that was too late is no failure: the next leader makes it.
      if (!isStop(error, signal) && !(error instanceof SpiffeError && error.code === 'lease_lost')) throw error
    }
  }

  async #renewForever (signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps
    for (;;) {
      await clock.sleep(this.#options.retryMs, signal)
      try {
        await this.#change(signal, undefined)
      } catch (error) {
        if (isStop(error, signal)) throw error
        if (this.#isLate() || statusOf(error) === 409 || statusOf(error) === 404) throw leaseLost()
        log.warn({ err: error }, 'the Lease could not be renewed; trying again')
      }
    }
  }

  #isLate (): boolean { return this.#deps.clock.monotonicMs() - this.#renewedMs >= this.#options.renewDeadlineMs }

  /** Takes a Lease that nobody holds. */
  async #attempt (signal: AbortSignal): Promise<boolean> {
    const { client, clock, log } = this.#deps
    const startedMs = clock.monotonicMs()
    const { identity, name, durationMs } = this.#options
    try {
      const found = await client.get(`${this.#path}/${name}`, signal)
      const version = found?.metadata.resourceVersion
      // From when it was seen: what a slow answer tells of may have been written long after it was asked for.
      if (this.#seen === undefined || this.#seen.version !== version) this.#seen = { version, sinceMs: clock.monotonicMs() }
      const holder = found?.spec?.['holderIdentity']
      const isTaken = typeof holder === 'string' && holder !== '' && holder !== identity
      if (isTaken && startedMs - this.#seen.sinceMs < durationOf(found, durationMs)) return false
      const transitions = Number(found?.spec?.['leaseTransitions'] ?? 0)
      const spec = { ...this.#spec(), acquireTime: microTime(clock.now()), leaseTransitions: transitions + (found === undefined ? 0 : 1) }
      this.#note = found?.metadata.annotations?.[noteKey] ?? ''
      this.#held = found === undefined
        ? await client.create(this.#path, { metadata: { name, namespace: this.#options.namespace }, spec }, signal)
        : await client.replace(`${this.#path}/${name}`, { ...found, spec }, signal)
      this.#renewedMs = startedMs
      return true
    } catch (error) {
      if (isStop(error, signal)) throw error
      // Another one was faster.
      if (statusOf(error) !== 409) log.warn({ err: error }, 'the Lease cannot be taken; trying again')
      return false
    }
  }

  /** Renews, with another note if one is given. */
  #change (signal: AbortSignal, note: string | undefined): Promise<void> {
    const changed = this.#queue.then(async () => {
      const { client, clock } = this.#deps
      const startedMs = clock.monotonicMs()
      const held = this.#held
      if (held === undefined) throw leaseLost()
      const annotations = { ...held.metadata.annotations, ...note === undefined ? {} : { [noteKey]: note } }
      const body = { ...held, metadata: { ...held.metadata, annotations }, spec: { ...held.spec, ...this.#spec() } }
      this.#held = await client.replace(`${this.#path}/${this.#options.name}`, body, signal)
      this.#renewedMs = startedMs
      if (note !== undefined) this.#note = note
    })
    this.#queue = changed.catch(() => {})
    return changed
  }

  /** So that the next one need not wait. */
  async #release (): Promise<void> {
    const held = this.#held
    if (held === undefined || this.#isLate()) return
    const { client, log, clock } = this.#deps
    const spec = { ...held.spec, holderIdentity: '', leaseDurationSeconds: 1, renewTime: microTime(clock.now()) }
    await client.replace(`${this.#path}/${this.#options.name}`, { ...held, spec }, AbortSignal.timeout(5_000)).catch((error: unknown) => {
      log.warn({ err: error }, 'the Lease could not be given back: the next leader waits until it ends')
    })
  }

  #spec () {
    const { identity, durationMs } = this.#options
    return {
      holderIdentity: identity, leaseDurationSeconds: Math.ceil(durationMs / 1_000), renewTime: microTime(this.#deps.clock.now())
    }
  }
}

/** What the leaders have written down, for who does not lead. @throws {SpiffeError} `kubernetes_unreachable` */
export async function readLeaseNote (
  client: Pick<KubeClient, 'get'>, { namespace, name }: Pick<LeaseOptions, 'namespace' | 'name'>, signal: AbortSignal
): Promise<string> {
  const found = await client.get(`${leasesPath(namespace)}/${name}`, signal)
  return found?.metadata.annotations?.[noteKey] ?? ''
}

function leasesPath (namespace: string): string { return `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases` }

/** What its holder promised, which may be configured otherwise. */
function durationOf (found: KubeObject | undefined, fallbackMs: number): number {
  const seconds = isRecord(found?.spec) ? found.spec['leaseDurationSeconds'] : undefined
  return typeof seconds === 'number' && seconds > 0 ? seconds * 1_000 : fallbackMs
}

/** Kubernetes' MicroTime. */
function microTime (date: Date): string { return date.toISOString().replace('Z', '000Z') }

function leaseLost (): SpiffeError {
  return new SpiffeError('lease_lost', 'another controller may lead: this one could not renew its Lease in time')
}
