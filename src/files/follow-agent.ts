import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import type { Watchable } from '../runtime/watchable.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { watchStream, type WatchEvent } from '../workloadapi/watch-stream.ts'
import type { FilesConfig } from './files-config.ts'
import type { FilesMetrics } from './files-metrics.ts'
import { readJwtBundles } from './jwt-material.ts'
import { nothingYet, type Material } from './material.ts'
import { metadata, type WorkloadClient } from './workload-client.ts'
import { readX509Material } from './x509-material.ts'

export interface FollowDeps {
  readonly config: Pick<FilesConfig, 'hint' | 'removeAfterRevokedMs'>
  readonly client: WorkloadClient
  readonly state: Watchable<Material>
  readonly clock: Clock
  /** 0 to 1. */
  readonly random: () => number
  readonly log: Logger
  readonly metrics: FilesMetrics
}

/** Keeps what the agent says of X509-SVIDs, until the signal aborts. What it says later takes the place of all before. */
export async function followX509 (deps: FollowDeps, signal: AbortSignal): Promise<never> {
  const { config, client, state, clock, random, log, metrics } = deps
  const trouble = new Trouble(log)
  const absence = new Absence(deps)
  for await (const event of watchStream(() => client.fetchX509SVID({}, { signal, metadata }), { clock, random, signal })) {
    metrics.agentAnswers(event.kind === 'state')
    if (event.kind === 'lost') {
      trouble.tell(event, 'the agent is asked again for X509-SVIDs; the files stay as they are')
      absence.note(event)
      continue
    }
    absence.end()
    try {
      const x509 = readX509Material(event.response, config.hint)
      state.set({ ...state.value, x509, isRevoked: false })
      log.info({ spiffeId: x509.id, serial: x509.leaf.serialNumber, notAfter: x509.leaf.notAfter }, 'the agent gave an X509-SVID')
      warnOfClock(x509.leaf, deps)
      trouble.end()
    } catch (error) {
      if (!(error instanceof SpiffeError)) throw error
      metrics.refusedAnswer()
      log.error({ code: error.code, reason: error.message }, 'what the agent gave is not written; the files stay as they are')
    }
  }
  throw new Error('unreachable')
}

export async function followJwtBundles ({ client, state, clock, random, log }: FollowDeps, signal: AbortSignal): Promise<never> {
  const trouble = new Trouble(log)
  for await (const event of watchStream(() => client.fetchJWTBundles({}, { signal, metadata }), { clock, random, signal })) {
    if (event.kind === 'lost') {
      trouble.tell(event, 'the agent is asked again for JWT bundles; the file stays as it is')
      continue
    }
    state.set({ ...state.value, jwtBundles: readJwtBundles(event.response) })
    trouble.end()
  }
  throw new Error('unreachable')
}

/** An agent that is away is told of once for each reason, not each time. */
class Trouble {
  readonly #log: Logger
  #said: string | undefined

  constructor (log: Logger) { this.#log = log }

  tell ({ error, retryInMs }: WatchEvent<unknown> & { kind: 'lost' }, what: string): void {
    const reason = error?.message ?? 'it ended the stream'
    if (reason === this.#said) return
    this.#said = reason
    // A stream that is opened again at once is the standard's way of life.
    this.#log[retryInMs === 0 ? 'debug' : 'warn']({ status: error?.status, code: error?.code, reason, retryInMs }, what)
  }

  end (): void { this.#said = undefined }
}

/** How long the agent has answered that there is no identity, as it does when an operator takes it away. */
class Absence {
  readonly #deps: FollowDeps
  #sinceMs: number | undefined
  #expiryTold = false

  constructor (deps: FollowDeps) { this.#deps = deps }

  note ({ error }: WatchEvent<unknown> & { kind: 'lost' }): void {
    const { config, state, clock, log } = this.#deps
    const notAfter = state.value.x509?.leaf.notAfter
    if (notAfter !== undefined && notAfter <= clock.now() && !this.#expiryTold) {
      this.#expiryTold = true
      log.error({ notAfter }, 'the X509-SVID in the files has expired: nobody accepts it any more')
    }
    if (error?.status !== 'PERMISSION_DENIED') {
      this.#sinceMs = undefined
      return
    }
    this.#sinceMs ??= clock.monotonicMs()
    const { removeAfterRevokedMs: limit } = config
    if (limit === undefined || state.value.isRevoked || clock.monotonicMs() - this.#sinceMs < limit) return
    log.warn({ afterMs: limit }, 'the agent has no identity for this process any more: the files are removed')
    // Bundles are no secret, and that stream may still be open.
    state.set({ ...nothingYet, jwtBundles: state.value.jwtBundles, isRevoked: true })
  }

  end (): void {
    this.#sinceMs = undefined
    this.#expiryTold = false
  }
}

function warnOfClock ({ notBefore, notAfter }: { readonly notBefore: Date, readonly notAfter: Date }, { clock, log }: FollowDeps): void {
  const now = clock.now()
  if (notBefore <= now && now < notAfter) return
  log.warn({ now, notBefore, notAfter }, 'by the clock of this machine the X509-SVID is not valid now; it is written all the same')
}
