import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

export type ToProcess =
  | { readonly kind: 'join', readonly addresses: readonly string[], readonly trustDomain: string, readonly tokens: readonly string[] }
  /** Answered by `reached` once each agent has renewed itself, if that is due, and has SVIDs for all its entries. */
  | { readonly kind: 'run', readonly renewalDue: boolean }
  | { readonly kind: 'stop' }
  /** Answered at once, and by `reached` when each agent has an SVID for an entry with this ID. */
  | { readonly kind: 'expect', readonly spiffeId: string }

export type FromProcess =
  | { readonly kind: 'done' }
  | { readonly kind: 'reached', readonly at: readonly number[], readonly warnings: Readonly<Record<string, number>> }
  | { readonly kind: 'failed', readonly message: string }

export interface Reached {
  /** When each agent had it, ascending, as `monotonicMs`. */
  readonly at: readonly number[]
  /** What agents logged since they run, and how often. */
  readonly warnings: ReadonlyMap<string, number>
}

interface StartSimulatedAgents {
  /** `host:port` of equal replicas; they join at the first. */
  readonly addresses: readonly string[]
  readonly trustDomain: string
  /** A join token for each agent. */
  readonly tokens: readonly string[]
  readonly processes: number
}

const timeoutMs = 600_000

/** CLOCK_MONOTONIC in milliseconds: the same for all processes of a machine. */
export function monotonicMs (): number { return Number(process.hrtime.bigint()) / 1e6 }

/** Many simulated agents, spread over a few processes. */
export class SimulatedAgents implements AsyncDisposable {
  readonly #processes: AgentProcess[]

  private constructor (processes: AgentProcess[]) { this.#processes = processes }

  /** They have joined when this returns, and do nothing until `run`. */
  static async start ({ addresses, trustDomain, tokens, processes: count }: StartSimulatedAgents): Promise<SimulatedAgents> {
    const used = Math.min(count, tokens.length)
    const agents = new SimulatedAgents(Array.from({ length: used }, () => new AgentProcess()))
    await Promise.all(agents.#processes.map((process, index) => process.ask({
      kind: 'join', addresses, trustDomain, tokens: tokens.filter((_token, at) => at % used === index)
    }, 'done')))
    return agents
  }

  /** @returns when each had all its SVIDs; the agents run on until `stop` */
  async run ({ renewalDue = false } = {}): Promise<Reached> {
    return together(await Promise.all(this.#processes.map(process => process.ask({ kind: 'run', renewalDue }, 'reached'))))
  }

  /** As if their nodes went down: all connections end, and only their own identities are kept. */
  async stop (): Promise<void> {
    await Promise.all(this.#processes.map(process => process.ask({ kind: 'stop' }, 'done')))
  }

  /** @returns once all look out for an entry with this ID; settles when each has its SVID */
  async expect (spiffeId: string): Promise<{ readonly reached: Promise<Reached> }> {
    const reached = this.#processes.map(process => process.next('reached'))
    await Promise.all(this.#processes.map(process => process.ask({ kind: 'expect', spiffeId }, 'done')))
    return { reached: Promise.all(reached).then(together) }
  }

  async [Symbol.asyncDispose] (): Promise<void> { await Promise.all(this.#processes.map(process => process[Symbol.asyncDispose]())) }
}

type Answer<Kind extends FromProcess['kind']> = Extract<FromProcess, { kind: Kind }>

function together (answers: readonly Answer<'reached'>[]): Reached {
  const warnings = new Map<string, number>()
  for (const answer of answers) {
    for (const [what, times] of Object.entries(answer.warnings)) warnings.set(what, (warnings.get(what) ?? 0) + times)
  }
  return { at: answers.flatMap(({ at }) => at).toSorted((a, b) => a - b), warnings }
}

class AgentProcess implements AsyncDisposable {
  readonly #child: ChildProcess
  #failure: Error | undefined

  constructor () {
    this.#child = fork(join(import.meta.dirname, 'simulated-agents-process.ts'))
    // Each agent has a call or two under way.
    this.#child.setMaxListeners(50)
  }

  async ask<Kind extends FromProcess['kind']> (message: ToProcess, kind: Kind): Promise<Answer<Kind>> {
    const answer = this.next(kind)
    this.#child.send(message)
    return await answer
  }

  /** The next message of this kind. @throws when the process fails or ends first */
  next<Kind extends FromProcess['kind']> (kind: Kind): Promise<Answer<Kind>> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) return reject(this.#failure)
      const end = () => {
        clearTimeout(timer)
        this.#child.off('message', take).off('exit', fail)
      }
      const fail = (why: unknown) => {
        end()
        this.#failure = new Error(`simulated agents failed: ${String(why)}`)
        reject(this.#failure)
      }
      const take = (message: FromProcess) => {
        if (message.kind === 'failed') return fail(message.message)
        if (message.kind !== kind) return
        end()
        resolve(message as Answer<Kind>)
      }
      const timer = setTimeout(() => fail(`no "${kind}" within ${timeoutMs} ms`), timeoutMs)
      this.#child.on('message', take).on('exit', fail)
    })
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exited = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await exited
  }
}
