import { openUnixChannel } from '../../rpc/channel.ts'
import type { TlsIdentity } from '../../rpc/tls-identity.ts'
import { isStop } from '../../runtime/tasks.ts'
import { Watchable } from '../../runtime/watchable.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseSpiffeId, trustDomainOf, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import { workloadService, type X509SVIDResponse } from '../../wire/generated/workload.ts'
import { splitCertificates } from '../../x509/certificate.ts'
import type { UpstreamHost } from '../upstream-plugin.ts'

/** Who this server is to the upstream, and by what it knows the upstream. */
export interface WorkloadIdentity extends TlsIdentity {
  readonly id: SpiffeId
  /** Of the trust domain that both are of. */
  readonly bundle: Bundle
}

const retryEveryMs = 2_000
/** Every call of the Workload API carries this (WLE-04). */
const metadata = { 'workload.spiffe.io': 'true' }

/** Follows the Workload API of an agent of the upstream's: this server is a workload there. */
export class IdentitySource {
  readonly #path: string
  readonly #host: UpstreamHost
  readonly #state = new Watchable<WorkloadIdentity | undefined>(undefined)
  #lastFailure = 'it has not answered yet'

  /** @param path of the agent's socket */
  constructor (path: string, host: UpstreamHost) {
    this.#path = path
    this.#host = host
  }

  get current (): WorkloadIdentity | undefined { return this.#state.value }

  watch (signal: AbortSignal): AsyncIterable<WorkloadIdentity | undefined> { return this.#state.watch(signal) }

  /** The identity, once there is one. @throws {SpiffeError} `upstream_unavailable` */
  async first (signal: AbortSignal): Promise<WorkloadIdentity> {
    for await (const identity of this.#state.watch(signal)) if (identity !== undefined) return identity
    throw new SpiffeError('upstream_unavailable', `the Workload API at ${this.#path} gave this server no identity: ${this.#lastFailure}`)
  }

  /** Follows until the signal aborts; the agent may come and go. */
  async run (signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#host
    let said: string | undefined
    for (;;) {
      await using channel = openUnixChannel(this.#path)
      try {
        for await (const response of channel.client(workloadService).fetchX509SVID({}, { signal, metadata })) {
          this.#state.set(this.#read(response))
          said = undefined
        }
        this.#lastFailure = 'it ended the stream'
      } catch (error) {
        if (isStop(error, signal)) throw error
        this.#lastFailure = (error as Error).message
        // What was given before goes on until it ends.
        if (said !== this.#lastFailure) log.warn({ err: error, socket: this.#path }, 'the upstream\'s agent gives no identity')
        said = this.#lastFailure
      }
      await clock.sleep(retryEveryMs, signal)
    }
  }

  #read ({ svids }: X509SVIDResponse): WorkloadIdentity {
    const { trustDomain } = this.#host
    const [svid] = svids
    if (svid === undefined) throw new SpiffeError('upstream_invalid', 'the Workload API answered without an identity')
    const id = parseSpiffeId(svid.spiffeId)
    if (trustDomainOf(id) !== trustDomain) {
      throw new SpiffeError('upstream_invalid', `the upstream is of trust domain ${trustDomainOf(id)}, this server of ${trustDomain}`)
    }
    const x509Authorities = splitCertificates(svid.bundle).map(certificate => ({ certificate, tainted: false }))
    return {
      id, chain: splitCertificates(svid.x509Svid), privateKey: svid.x509SvidKey,
      bundle: { trustDomain, x509Authorities, jwtAuthorities: [] }
    }
  }
}
