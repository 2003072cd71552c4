import { until } from '../fakes/envoy.ts'
import type { Reply } from '../fakes/pod-workload.ts'
import { type FederatedDomain, patienceMs } from './federated-domain.ts'

/** Whether one domain's workload may call another's: it may, it may not, or that is just changing. */
type Right = 'may' | 'may not' | 'changing'

/** Workloads of all domains call each other, each in turn, and every answer is held against what their domains' relationships say. */
export class FederationLoad {
  calls = 0
  /** Not judged, since rights changed meanwhile. */
  unjudged = 0
  /** Should have worked. */
  readonly failed: string[] = []
  /** Should not have. */
  readonly accepted: string[] = []
  readonly #domains: readonly FederatedDomain[]
  readonly #rights = new Map<string, Right>()
  readonly #refusals = new Map<string, number>()

  constructor (domains: readonly FederatedDomain[]) { this.#domains = domains }

  async allReached (): Promise<void> {
    for (const caller of this.#domains) {
      for (const called of this.#domains) {
        if (caller === called) continue
        const reached = async () => (await caller.workload.http(called.serviceAddress, 80)).status === 200 &&
          says(await caller.workload.tcp(called.serviceAddress, 90), called)
        await until(`${caller.name} to reach ${called.name}`, reached, patienceMs)
      }
    }
  }

  start (): AsyncDisposable {
    const stop = new AbortController()
    const running = this.#domains.map(domain => this.#run(domain, stop.signal))
    return {
      async [Symbol.asyncDispose] () {
        stop.abort()
        await Promise.all(running)
      }
    }
  }

  /** From its end on no new connection may pass. @param change of rights */
  async cut (caller: FederatedDomain, called: FederatedDomain, change: () => Promise<void>): Promise<void> {
    this.#rights.set(pair(caller, called), 'changing')
    // The called one does not believe the caller any more, neither as one whom it calls itself.
    this.#rights.set(pair(called, caller), 'changing')
    await change()
    this.#rights.set(pair(caller, called), 'may not')
    this.#refusals.delete(pair(caller, called))
  }

  /** Until one was tried and refused. */
  async refusedOnce (caller: FederatedDomain, called: FederatedDomain): Promise<void> {
    await until('a call to be refused', () => (this.#refusals.get(pair(caller, called)) ?? 0) > 0, patienceMs)
  }

  async mend (caller: FederatedDomain, called: FederatedDomain, change: () => Promise<void>): Promise<void> {
    this.#rights.set(pair(caller, called), 'changing')
    await change()
    for (const [from, to] of [[caller, called], [called, caller]] as const) {
      let inRow = 0
      await until(`${from.name} to reach ${to.name} again`, async () => {
        const http = await from.workload.http(to.serviceAddress, 80)
        inRow = http.status === 200 && says(await from.workload.tcp(to.serviceAddress, 90), to) ? inRow + 1 : 0
        return inRow === 3
      }, patienceMs)
      this.#rights.delete(pair(from, to))
    }
  }

  async #run (caller: FederatedDomain, signal: AbortSignal): Promise<void> {
    const others = this.#domains.filter(other => other !== caller)
    for (let n = 0; !signal.aborted; n++) {
      const called = others[n % others.length]!
      const right = this.#rights.get(pair(caller, called)) ?? 'may'
      // Each connection of bytes is one between the proxies, with a handshake of its own; requests share some.
      const isHttp = Math.floor(n / others.length) % 4 === 3
      const begin = performance.now()
      const reply = isHttp ? await caller.workload.http(called.serviceAddress, 80) : await caller.workload.tcp(called.serviceAddress, 90)
      const passed = isHttp ? reply.status === 200 : says(reply, called)
      this.calls++
      const what = `${caller.name} → ${called.name} after ${Math.round(performance.now() - begin)} ms: ${JSON.stringify(reply)}`
      if (right === 'changing' || right !== (this.#rights.get(pair(caller, called)) ?? 'may')) this.unjudged++
      else if (right === 'may' && !passed) this.failed.push(what)
      else if (right === 'may not') this.#shouldFail(pair(caller, called), { isHttp, reply, what })
      else if (isHttp && !(reply.body ?? '').includes(`URI=${caller.id}"`)) this.accepted.push(`under another ID: ${what}`)
    }
  }

  #shouldFail (key: string, { isHttp, reply, what }: { isHttp: boolean, reply: Reply, what: string }): void {
    // Requests on connections that are open go on for as long as those live.
    if (isHttp) this.unjudged++
    else if ((reply.body ?? '') !== '') this.accepted.push(what)
    else this.#refusals.set(key, (this.#refusals.get(key) ?? 0) + 1)
  }
}

function pair (caller: FederatedDomain, called: FederatedDomain): string { return `${caller.name} → ${called.name}` }
function says ({ body }: Reply, { name }: FederatedDomain): boolean { return body === `${name.replace('.test', '')}/app hello` }
