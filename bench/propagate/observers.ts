import { setTimeout as sleep } from 'node:timers/promises'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import { X509SVIDRequest, X509SVIDResponse } from '../../src/wire/generated/workload.ts'
import type { Envoy } from '../../test/fakes/envoy.ts'
import { monotonicMs } from '../../test/fakes/simulated-agents.ts'
import { GrpcStream } from '../sds/grpc-stream.ts'

const timeoutMs = 60_000
/** Seldom enough not to be in the way: the time comes from Envoy. */
const lookEveryMs = 10

/** A workload with an open FetchX509SVID stream. */
export class WorkloadObserver implements Disposable {
  readonly #stream: GrpcStream
  /** By SPIFFE ID: the leaf and its chain, as it came. */
  #held = new Map<string, string>()
  #failure: Error | undefined
  #look: () => void = () => {}

  /** Asks again until the agent knows its entries, and one of them is the workload's. */
  static async open (agentSocket: string): Promise<WorkloadObserver> {
    for (const end = monotonicMs() + timeoutMs; ;) {
      const observer = new WorkloadObserver(agentSocket)
      try {
        await observer.until(() => observer.#held.size > 0)
        return observer
      } catch (error) {
        observer[Symbol.dispose]()
        if (monotonicMs() > end) throw error
        await sleep(100)
      }
    }
  }

  private constructor (agentSocket: string) {
    this.#stream = new GrpcStream(agentSocket, '/SpiffeWorkloadAPI/FetchX509SVID', message => {
      const { svids } = decodeMessage(X509SVIDResponse, message)
      this.#held = new Map(svids.map(({ spiffeId, x509Svid }) => [spiffeId, Buffer.from(x509Svid).toString('base64')]))
      this.#look()
    }, why => {
      this.#failure = new Error(`the workload's stream ended: ${why}`)
      this.#look()
    })
    this.#stream.send(encodeMessage(X509SVIDRequest, {}))
    this.#stream.end()
  }

  /** The SVID it has for this ID, to compare with. */
  svidOf (spiffeId: string): string | undefined { return this.#held.get(spiffeId) }

  /** @returns when the first message came after which the condition holds: Unix milliseconds */
  async until (condition: () => boolean): Promise<number> {
    return await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`the workload waited ${timeoutMs} ms in vain`)), timeoutMs)
      this.#look = () => {
        if (this.#failure === undefined && !condition()) return
        clearTimeout(timer)
        if (this.#failure === undefined) resolve(Date.now())
        else reject(this.#failure)
      }
      this.#look()
    })
  }

  [Symbol.dispose] (): void {
    this.#look = () => {}
    this.#stream.close()
  }
}

/** What an Envoy took over of its SDS subscription to one secret, by its own counters. */
export class EnvoyObserver {
  readonly #envoy: Envoy
  readonly #prefix: string

  constructor (envoy: Envoy, secret: string) {
    this.#envoy = envoy
    this.#prefix = `sds.${secret.replace('://', '_')}`
  }

  async updates (): Promise<number> { return (await this.#read()).updates }

  /** @returns when Envoy took over the first update after so many: Unix milliseconds, dated by Envoy itself */
  async updateAfter (before: number): Promise<number> {
    const end = monotonicMs() + timeoutMs
    for (;;) {
      const { updates, lastAt } = await this.#read()
      if (updates > before) return lastAt
      if (monotonicMs() > end) throw new Error(`${this.#prefix}.update_success stayed at ${before} for ${timeoutMs} ms`)
      await sleep(lookEveryMs)
    }
  }

  async #read (): Promise<{ updates: number, lastAt: number }> {
    const stats = await this.#envoy.stats(`^${this.#prefix}.update_`)
    const valueOf = (name: string) => Number(stats.get(`${this.#prefix}.${name}`) ?? 0)
    return { updates: valueOf('update_success'), lastAt: valueOf('update_time') }
  }
}
