import { setTimeout } from 'node:timers/promises'
import type { Test } from 'tap'
import { eventually } from '../fakes/eventually.ts'
import { Workload, securityHeader } from '../faults/workload.ts'
import { NestedWorkload } from '../interop/nested-workload.ts'
import { patienceMs } from './operator.ts'

/** A workload, and its agent's socket, at which SPIRE's agent and ours take turns. */
export interface Party { readonly id: string, readonly socket: string, readonly workload: NestedWorkload }

/** Returns once it has this identity. */
export async function startParty (socket: string, id: string): Promise<Party> {
  const workload = await NestedWorkload.start({ socket }, { again: true })
  if (workload.given.id === id) return { id, socket, workload }
  await workload[Symbol.asyncDispose]()
  throw new Error(`${socket} gave ${workload.given.id}, not ${id}`)
}

const pauseMs = 20

/** Handshakes of mutual TLS of everybody with everybody, over and over: OpenSSL judges each side by what its agent gave it. */
export class MutualCalls implements AsyncDisposable {
  readonly #parties: readonly Party[]
  readonly #running: Promise<unknown>
  readonly #rounds: number[]
  #stopped = false
  readonly failures: string[] = []
  handshakes = 0

  constructor (parties: readonly Party[]) {
    this.#parties = parties
    this.#rounds = parties.map(() => 0)
    this.#running = Promise.all(parties.map((party, index) => this.#call(party, index)))
  }

  /** A token of each is taken by the agent of each. @returns who is not taken for whom they are, and by whom */
  async refusedTokens (): Promise<readonly string[]> {
    const refused: string[] = []
    for (const from of this.#parties) {
      await using subject = new Workload(from.socket)
      let svid = ''
      try {
        svid = await subject.fetchJwt(from.id, 'audience')
      } catch (error) {
        // An agent that took its turn just now may not listen yet, or not know of the workload.
        refused.push(`${from.id} has no token: ${(error as Error).message}`)
        continue
      }
      for (const to of this.#parties) {
        await using judge = new Workload(to.socket)
        try {
          await judge.api.validateJWTSVID({ svid, audience: 'audience' }, { metadata: securityHeader, timeoutMs: 20_000 })
        } catch (error) {
          refused.push(`${from.id} at ${to.id}: ${(error as Error).message}`)
        }
      }
    }
    return refused
  }

  /** Returns once everybody has called everybody with what they have now. */
  async another (): Promise<void> {
    const before = [...this.#rounds]
    await eventually('calls', () => this.#rounds.every((round, index) => round > (before[index] as number) + 1), patienceMs)
  }

  /** Asserts that everybody reaches everybody by mutual TLS, and that everybody's tokens are taken by everybody. */
  async verify (t: Pick<Test, 'same'>, what: string): Promise<void> {
    await this.another()
    t.same(this.failures, [], `mutual TLS ${what}`)
    let refused: readonly string[] = []
    // A key that was published or fetched just now takes agents a moment to hear of.
    await eventually(() => `tokens of both to be taken by both: ${what}: ${refused.join('; ')}`, async () => {
      refused = await this.refusedTokens()
      return refused.length === 0
    }, patienceMs)
  }

  async stop (): Promise<void> {
    this.#stopped = true
    await this.#running
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    await this.stop()
    for (const { workload } of this.#parties) await workload[Symbol.asyncDispose]()
  }

  async #call ({ id, workload }: Party, index: number): Promise<void> {
    while (!this.#stopped) {
      for (const other of this.#parties) {
        await workload.call(other.workload).catch((error: Error) => { this.failures.push(`${id} to ${other.id}: ${error.message}`) })
        this.handshakes++
      }
      (this.#rounds[index] as number)++
      await setTimeout(pauseMs)
    }
  }
}
