import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { isStop } from '../runtime/tasks.ts'
import { Waiter } from '../runtime/waiter.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { endpointOf, isSameEndpoint, mostLocalEndpoints, type LocalEndpoint, type ServiceEndpoint } from '../spiffe/service-endpoint.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { EndpointStore } from '../storage/endpoint-store.ts'
import type { Endpoint as EndpointMessage } from '../wire/generated/assay-types.ts'
import { decodeLocalEndpoint } from '../wire/service-codec.ts'
import type { Replica } from './replication/replica.ts'
import { RateAllowance } from './rate-allowance.ts'

export interface EndpointReportsDeps {
  readonly replica: Pick<Replica, 'registry' | 'agents' | 'services' | 'onChange' | 'catchUp'>
  readonly endpoints: EndpointStore
  readonly clock: Clock
  readonly log: Logger
}

/** Reports of many agents are written together. */
const flushEveryMs = 50
const retryEveryMs = 1_000
/**
 * Of one agent so many are written at once, and then four a second: a node that cannot make up its mind keeps nobody busy, and one on which
 * pods come and go is not held up: until callers hear of it, they call who is gone.
 */
const burst = 20
const refillEveryMs = 250

/** One stream's reports. */
export interface EndpointReport extends Disposable {
  /** @param endpoints the whole set: what was said before is forgotten */
  say (endpoints: readonly EndpointMessage[]): void
}

interface Reporter {
  readonly agentId: SpiffeId
  readonly allowance: RateAllowance
  /** The newest one that said something; `undefined` once it has ended. */
  stream: EndpointReport | undefined
  said: readonly EndpointMessage[]
}

/**
 * Keeps the database's endpoints of this replica's agents at what they report and may serve. Looked at again whenever the agent says
 * something, its entries change, or the database comes to say otherwise: whoever removed rows of an agent that lives is put right.
 */
export class EndpointReports {
  readonly #deps: EndpointReportsDeps
  readonly #reporters = new Map<SpiffeId, Reporter>()
  readonly #due = new Set<Reporter>()
  /** Whose stream has ended, the oldest first: an agent that comes back again and again has one allowance all the same. */
  readonly #ended = new Set<Reporter>()
  /** What was complained of last. */
  readonly #complaints = new Map<SpiffeId, string>()
  readonly #waiter = new Waiter()

  constructor (deps: EndpointReportsDeps) {
    this.#deps = deps
    deps.replica.onChange(({ touched, agents, reporters }) => {
      if (this.#reporters.size === 0) return
      for (const ids of [touched.keys(), agents, reporters]) for (const id of ids) this.#look(this.#reporters.get(id))
    })
  }

  /** Of a stream that begins; once it says something it takes the place of an earlier one of the same agent. Close what this returns. */
  open (agentId: SpiffeId): EndpointReport {
    let ended = false
    const report: EndpointReport = {
      // A message may still be on its way through when its stream has ended: nobody would take it back.
      say: endpoints => { if (!ended) this.#say(agentId, report, endpoints) },
      // What was written stays: a node whose agent is away is not gone.
      [Symbol.dispose]: () => {
        ended = true
        this.#end(agentId, report)
      }
    }
    return report
  }

  /** Writes until the signal aborts. */
  async run (signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps
    for (;;) {
      if (this.#due.size === 0) await this.#waiter.wait(signal)
      signal.throwIfAborted()
      try {
        await this.flush()
      } catch (error) {
        if (isStop(error, signal)) throw error
        log.debug({ err: error }, 'the endpoints of agents could not be written')
        await clock.sleep(retryEveryMs, signal)
      }
      await clock.sleep(flushEveryMs, signal)
    }
  }

  /** Writes what is due and may be written yet. */
  async flush (): Promise<void> {
    const { replica, endpoints } = this.#deps
    const nowMs = this.#now()
    const reports = new Map<SpiffeId, readonly ServiceEndpoint[]>()
    for (const reporter of [...this.#due].filter(({ allowance }) => allowance.left(nowMs) > 0)) {
      this.#due.delete(reporter)
      const wanted = this.#wanted(reporter)
      if (isSameSet(wanted, replica.services.reportedBy(reporter.agentId))) continue
      reporter.allowance.take(nowMs)
      reports.set(reporter.agentId, wanted)
    }
    if (reports.size === 0) return
    try {
      await endpoints.replace(reports)
      // So that the next look sees it.
      await replica.catchUp()
    } catch (error) {
      for (const agentId of reports.keys()) this.#look(this.#reporters.get(agentId))
      throw error
    }
  }

  #say (agentId: SpiffeId, stream: EndpointReport, said: readonly EndpointMessage[]): void {
    const reporter = this.#reporters.get(agentId) ??
      { agentId, allowance: new RateAllowance(burst, refillEveryMs, this.#now()), stream, said }
    Object.assign(reporter, { stream, said })
    this.#reporters.set(agentId, reporter)
    this.#ended.delete(reporter)
    this.#look(reporter)
  }

  #end (agentId: SpiffeId, stream: EndpointReport): void {
    const reporter = this.#reporters.get(agentId)
    if (reporter?.stream !== stream) return
    reporter.stream = undefined
    this.#due.delete(reporter)
    this.#ended.add(reporter)
    for (const ended of this.#ended) {
      if (ended.allowance.left(this.#now()) < burst) break
      this.#ended.delete(ended)
      this.#reporters.delete(ended.agentId)
      this.#complaints.delete(ended.agentId)
    }
  }

  #look (reporter: Reporter | undefined): void {
    if (reporter?.stream === undefined) return
    this.#due.add(reporter)
    this.#waiter.wake()
  }

  /** What the agent says, as far as it may serve it: a node speaks of no identity that it could not have. */
  #wanted ({ agentId, said }: Reporter): ServiceEndpoint[] {
    const { registry, agents } = this.#deps.replica
    const agent = agents.get(agentId) ?? { id: agentId, selectors: [] }
    const allowed = said.length === 0 ? new Set<SpiffeId>() : new Set(registry.authorizedEntries(agent).map(({ spiffeId }) => spiffeId))
    const wanted = new Map<string, ServiceEndpoint>()
    const refused: string[] = []
    for (const message of said.slice(0, mostLocalEndpoints)) {
      const local = readEndpoint(message)
      if (local instanceof SpiffeError) refused.push(local.message)
      else if (!allowed.has(local.spiffeId)) refused.push(`it may not serve ${local.spiffeId}`)
      else {
        const endpoint = endpointOf(agentId, local)
        wanted.set(endpoint.id, endpoint)
      }
    }
    if (said.length > mostLocalEndpoints) refused.push(`it reports more than ${mostLocalEndpoints}`)
    this.#complain(agentId, refused)
    return [...wanted.values()]
  }

  /** Once, until there is another reason. */
  #complain (agent: SpiffeId, refused: readonly string[]): void {
    const [reason] = refused
    if (this.#complaints.get(agent) === reason) return
    if (reason === undefined) {
      this.#complaints.delete(agent)
      return
    }
    this.#complaints.set(agent, reason)
    this.#deps.log.warn({ agent, refused: refused.length, reason }, 'an agent reports endpoints that it may not; they are left out')
  }

  #now (): number { return this.#deps.clock.monotonicMs() }
}

function readEndpoint (message: EndpointMessage): LocalEndpoint | SpiffeError {
  try {
    return decodeLocalEndpoint(message)
  } catch (error) {
    if (error instanceof SpiffeError) return error
    throw error
  }
}

function isSameSet (a: readonly ServiceEndpoint[], b: readonly ServiceEndpoint[]): boolean {
  const byId = new Map(b.map(endpoint => [endpoint.id, endpoint]))
  return a.length === b.length && a.every(endpoint => {
    const other = byId.get(endpoint.id)
    return other !== undefined && isSameEndpoint(endpoint, other)
  })
}
