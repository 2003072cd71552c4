import type { Agent } from 'undici'
import type { ApiAccess } from './api-access.ts'

export interface ApiConnectionLimits {
  /** Bytes of one answer; of a watch, none. */
  readonly maxBytes: number
  /** From the request to the answer's head. */
  readonly headersTimeoutMs: number
  /** Between two pieces of the answer; 0: as long as it takes. */
  readonly bodyTimeoutMs: number
}

const connectTimeoutMs = 5_000

/** Connections to an API server that last until what they were made with changes. */
export class ApiConnection implements AsyncDisposable {
  readonly #limits: ApiConnectionLimits
  #held: { readonly agent: Agent, readonly key: string } | undefined

  constructor (limits: ApiConnectionLimits) { this.#limits = limits }

  /**
   * To be used at once: the next one ends it, if that is made with something else.
   * @param undici is loaded by whoever asks, when he asks: it is a sixth of what an agent loads, and few have a cluster
   */
  dispatcher ({ ca, serverName, skipVerify, client }: ApiAccess, { Agent }: Pick<typeof import('undici'), 'Agent'>): Agent {
    const key = JSON.stringify([ca, serverName, skipVerify, client])
    if (this.#held?.key === key) return this.#held.agent
    void this.#held?.agent.close()
    const { maxBytes, headersTimeoutMs, bodyTimeoutMs } = this.#limits
    const agent = new Agent({
      maxResponseSize: maxBytes,
      headersTimeout: headersTimeoutMs,
      bodyTimeout: bodyTimeoutMs,
      connect: {
        timeout: connectTimeoutMs,
        minVersion: 'TLSv1.2',
        rejectUnauthorized: !skipVerify,
        ...ca === undefined ? {} : { ca },
        ...serverName === undefined ? {} : { servername: serverName },
        ...client === undefined ? {} : { cert: client.certificate, key: client.key }
      }
    })
    this.#held = { agent, key }
    return agent
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#held?.agent.destroy() }
}
