import { openUnixChannel } from '../../src/rpc/channel.ts'
import { RpcError } from '../../src/rpc/rpc-error.ts'
import { workloadService, type X509SVIDResponse } from '../../src/wire/generated/workload.ts'
import { parseCertificate, splitCertificates } from '../../src/x509/certificate.ts'

export const securityHeader = { 'workload.spiffe.io': 'true' }

/** This process as a workload: calls of the Workload API on one connection. */
export class Workload implements AsyncDisposable {
  readonly #channel: ReturnType<typeof openUnixChannel>
  readonly api

  constructor (socket: string) {
    this.#channel = openUnixChannel(socket)
    this.api = this.#channel.client(workloadService)
  }

  /** The first state that the agent sends. */
  async fetch (timeoutMs = 20_000): Promise<X509SVIDResponse> {
    const stop = new AbortController()
    try {
      for await (const state of this.watch(AbortSignal.any([stop.signal, AbortSignal.timeout(timeoutMs)]))) return state
      throw new Error('the stream ended without a state')
    } finally {
      stop.abort()
    }
  }

  /** The first state with this identity: an entry made just now takes the agent a moment to learn of. */
  async granted (id: string, timeoutMs = 60_000): Promise<X509SVIDResponse> {
    const end = Date.now() + timeoutMs
    for (;;) {
      const state = await this.fetch(timeoutMs).catch((error: unknown) => {
        if (!(error instanceof RpcError) || !['PERMISSION_DENIED', 'UNAVAILABLE'].includes(error.status) || Date.now() > end) throw error
      })
      if (state?.svids.some(svid => svid.spiffeId === id) === true) return state
      if (Date.now() > end) throw new Error(`waited ${timeoutMs} ms for ${id}`)
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }

  watch (signal: AbortSignal): AsyncIterable<X509SVIDResponse> {
    return this.api.fetchX509SVID({}, { signal, metadata: securityHeader })
  }

  async fetchJwt (spiffeId: string, audience: string): Promise<string> {
    const { svids } = await this.api.fetchJWTSVID({ spiffeId, audience: [audience] }, { metadata: securityHeader, timeoutMs: 20_000 })
    return svids[0]?.svid ?? ''
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#channel[Symbol.asyncDispose]() }
}

/** The leaf of the first identity. */
export function leafOf (state: X509SVIDResponse) {
  return parseCertificate(splitCertificates(state.svids[0]?.x509Svid ?? new Uint8Array())[0] ?? new Uint8Array())
}
