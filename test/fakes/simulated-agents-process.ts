import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { pino } from 'pino'
import type { FromProcess, ToProcess } from './simulated-agents.ts'
import { SimulatedAgent } from './simulated-agent.ts'

/** Some hundred simulated agents, told what to do by the process that started this one. */
const agents: SimulatedAgent[] = []
/** One `expect` at a time: who has not what was asked for, and who saw it when. */
let awaited: { readonly spiffeId: string | undefined, readonly missing: Set<SimulatedAgent>, readonly reached: number[] } | undefined
let running = new AbortController()
let runs: Promise<void>[] = []
const unrenewed = new Set<SimulatedAgent>()
const warnings: Record<string, number> = {}
const log = pino({ level: 'warn', base: null }, { write: text => count(JSON.parse(text) as LogLine) })

interface LogLine { readonly msg: string, readonly err?: { readonly code?: string, readonly status?: string, readonly message: string } }

function count ({ msg, err }: LogLine): void {
  const key = `${msg.replace(/[;:].*/, '')}: ${err?.code ?? err?.status ?? err?.message ?? 'no reason'}`
  warnings[key] = (warnings[key] ?? 0) + 1
}

process.on('message', message => {
  handle(message as ToProcess).catch((error: unknown) => send({ kind: 'failed', message: (error as Error).stack ?? String(error) }))
})
process.on('disconnect', () => process.exit())

async function handle (message: ToProcess): Promise<void> {
  if (message.kind === 'join') {
    const options = { addresses: message.addresses, trustDomain: parseTrustDomain(message.trustDomain), log }
    const tokens = [...message.tokens]
    await Promise.all(Array.from({ length: 4 }, async () => {
      for (let token = tokens.pop(); token !== undefined; token = tokens.pop()) agents.push(await SimulatedAgent.join(token, options))
    }))
    send({ kind: 'done' })
  } else if (message.kind === 'run') {
    running = new AbortController()
    for (const name of Object.keys(warnings)) delete warnings[name]
    expect(undefined)
    for (const agent of message.renewalDue ? agents : []) unrenewed.add(agent)
    runs = agents.map(async agent => await start(agent, message.renewalDue, running.signal))
  } else if (message.kind === 'stop') {
    running.abort(new Error('the agents are stopped'))
    await Promise.all(runs)
    send({ kind: 'done' })
  } else {
    expect(message.spiffeId)
    send({ kind: 'done' })
    for (const agent of agents) look(agent)
  }
}

async function start (agent: SimulatedAgent, renewalDue: boolean, signal: AbortSignal): Promise<void> {
  try {
    await agent.run(signal, {
      renewalDue,
      onRenewed: () => {
        unrenewed.delete(agent)
        look(agent)
      },
      onSettled: () => look(agent)
    })
  } catch (error) {
    send({ kind: 'failed', message: (error as Error).stack ?? String(error) })
  }
}

function expect (spiffeId: string | undefined): void { awaited = { spiffeId, missing: new Set(agents), reached: [] } }

function look (agent: SimulatedAgent): void {
  if (awaited?.missing.has(agent) !== true || unrenewed.has(agent) || !agent.holds(awaited.spiffeId)) return
  awaited.missing.delete(agent)
  awaited.reached.push(monotonicMs())
  if (awaited.missing.size === 0) send({ kind: 'reached', at: awaited.reached, warnings })
}

/** CLOCK_MONOTONIC: the same for all processes of a machine. */
function monotonicMs (): number { return Number(process.hrtime.bigint()) / 1e6 }

function send (message: FromProcess): void { process.send?.(message) }
