import { once } from 'node:events'
import { connect, type ClientHttp2Session } from 'node:http2'
import { setTimeout as sleep } from 'node:timers/promises'
import { encodePem } from '../../src/x509/pem.ts'
import { createTestAuthority, type TestAuthority } from '../../test/fakes/authority.ts'
import { Envoy } from '../../test/fakes/envoy.ts'
import { withCallers } from '../measure/callers.ts'
import { cpuUsOfThreads } from '../measure/process-usage.ts'
import { percentile } from '../measure/statistics.ts'
import type { Row } from '../suite.ts'
import type { BenchCase, BenchRequest } from './cases.ts'
import { envoyOf, type Way, workloadConfig } from './envoy-chain.ts'
import type { Peer, Receiver } from './peers.ts'

type Judged = BenchRequest & { readonly allowed: boolean }

/** Callers and workloads that have a connection: with more, handshakes would be measured. */
const mostConnections = 16

export interface ThroughEnvoyOptions {
  readonly peers: readonly Peer[]
  /** Told of decisions, where what that costs is measured. */
  readonly receiver: Receiver | undefined
  readonly quick: boolean
}

/**
 * Requests through one real Envoy with one worker to a workload: not decided about, by compiled RBAC as the node's proxy has it, and by
 * asking each of the peers. The ways take turns, with requests that are let in; then each way has all requests once.
 * @returns rows for each way; the rate of RBAC is held against that of no authorization in the same round
 */
export async function measureThroughEnvoy (one: BenchCase, { peers, receiver, quick }: ThroughEnvoyOptions): Promise<Row[]> {
  const authority = await createTestAuthority('example.org')
  const ways: readonly Way[] = [
    { name: unruled, filters: 'none' }, { name: 'RBAC', filters: 'rbac' },
    ...receiver === undefined ? [] : [{ name: 'RBAC, reported', filters: 'rbac' as const, told: receiver.where }],
    ...peers.map(({ name, where }) => ({ name, ask: where }))
  ]
  await using workload = await Envoy.start(workloadConfig, { logLevel: 'warning' })
  await workload.ready()
  const workloadPort = await workload.listenerPort('workload') ?? 0
  const { config, destinations } = await envoyOf(one, ways, { authority, workloadPort })
  await using envoy = await Envoy.start(config, { logLevel: 'warning' })
  await envoy.ready()
  const requests = connected(one)
  const letIn = requests.filter(({ allowed }) => allowed)
  const rounds = new Map(ways.map(({ name }) => [name, [] as Round[]]))
  await using scope = new AsyncDisposableStack()
  const clients = new Map<string, Client>()
  for (const { name } of ways) {
    const port = await envoy.listenerPort(name) ?? 0
    clients.set(name, scope.use(await Client.open(port, requests, destinations, authority)))
  }
  const othersOf = (way: Way) => peers.find(({ name }) => name === way.name)?.pid ?? ('told' in way ? receiver?.pid : undefined)
  const count = quick ? 50 : 4_000
  for (let round = quick ? 0 : -1; round < (quick ? 1 : 7); round++) {
    // None of them is always the one that follows another.
    for (const way of round % 2 === 0 ? ways : ways.toReversed()) {
      const result = await measure(clients.get(way.name) as Client, letIn, { count, envoy, other: othersOf(way) })
      // The first round warms everybody up.
      if (round >= 0) rounds.get(way.name)?.push(result)
    }
  }
  const rateOf = ({ seconds }: Round) => count / seconds
  const rows: Row[] = []
  for (const way of ways) {
    const { name } = way
    const all = rounds.get(name) ?? []
    const row = (what: string, unit: string, of: (round: Round) => number): Row => ({ what: `${name}: ${what}`, unit, values: all.map(of) })
    const wrong = await wrongOf(clients.get(name) as Client, requests, name !== unruled)
    rows.push(
      row('CPU of Envoy per request', 'us', ({ envoyUs }) => envoyUs),
      ...othersOf(way) === undefined ? []
        : [row(`CPU of who is ${'told' in way ? 'told' : 'asked'} per request`, 'us', ({ otherUs }) => otherUs)],
      row('requests, 8 at a time', '/s', rateOf),
      ...name !== 'RBAC' ? [] : [{
        what: 'RBAC: requests, of those without authorization', unit: '%', budget: [95, 95] as const, better: 'higher' as const,
        values: all.map((round, i) => rateOf(round) * 100 / rateOf(rounds.get(unruled)?.[i] as Round))
      }],
      row('8 at a time, p50', 'ms', ({ times }) => percentile(times, 50)),
      row('8 at a time, p99', 'ms', ({ times }) => percentile(times, 99)),
      { what: `${name}: wrong answers`, unit: 'of all', values: [all.reduce((sum, { wrong }) => sum + wrong, wrong)] }
    )
    if (receiver === undefined || !('told' in way)) continue
    const sent = count * (quick ? 1 : 8) + requests.length
    rows.push({ what: `${name}: reports that did not arrive`, unit: `of ${sent}`, values: [await missing(receiver, sent)] })
  }
  return rows
}

/** Envoy keeps reports for a moment, and drops those for which there is no room. */
async function missing (receiver: Receiver, sent: number): Promise<number> {
  let arrived = 0
  for (let tries = 0; tries < 20 && arrived < sent; tries++) {
    await sleep(100)
    arrived = await receiver.count()
  }
  return sent - arrived
}

const unruled = 'no authorization'

interface Round {
  readonly times: readonly number[]
  readonly seconds: number
  readonly envoyUs: number
  readonly otherUs: number
  readonly wrong: number
}

/** @param other the process of who is asked or told, if anybody is */
async function measure (
  client: Client, requests: readonly Judged[],
  { count, envoy, other }: { readonly count: number, readonly envoy: Envoy, readonly other: number | undefined }
): Promise<Round> {
  const times: number[] = []
  let wrong = 0
  const otherCpu = () => other === undefined ? 0 : cpuUsOfThreads(other)
  const [begin, envoyBefore, otherBefore] = [performance.now(), cpuUsOfThreads(envoy.pid), otherCpu()]
  await withCallers(8, count, async i => {
    const asked = performance.now()
    const status = await client.ask(requests[i % requests.length] as Judged)
    times.push(performance.now() - asked)
    if (status !== 200) wrong++
  })
  const seconds = (performance.now() - begin) / 1_000
  return { times, wrong, seconds, envoyUs: (cpuUsOfThreads(envoy.pid) - envoyBefore) / count, otherUs: (otherCpu() - otherBefore) / count }
}

/** How many of all requests are answered otherwise than they should be. */
async function wrongOf (client: Client, requests: readonly Judged[], obeys: boolean): Promise<number> {
  let wrong = 0
  await withCallers(8, requests.length, async i => {
    const request = requests[i] as Judged
    if (await client.ask(request) !== (obeys && !request.allowed ? 403 : 200)) wrong++
  })
  return wrong
}

/** Requests of the first callers that come. */
function connected ({ requests }: BenchCase): Judged[] {
  const pairs = new Set<string>()
  return requests.filter(request => {
    if (pairs.size < mostConnections) pairs.add(pairOf(request))
    return pairs.has(pairOf(request))
  })
}

function pairOf ({ source, destination }: BenchRequest): string { return `${source} ${destination}` }

/** A connection for each caller and workload, with the caller's SVID. */
class Client implements AsyncDisposable {
  readonly #sessions: ReadonlyMap<string, ClientHttp2Session>

  private constructor (sessions: ReadonlyMap<string, ClientHttp2Session>) { this.#sessions = sessions }

  static async open (
    port: number, requests: readonly Judged[], destinations: readonly string[], authority: TestAuthority
  ): Promise<Client> {
    const sessions = new Map<string, ClientHttp2Session>()
    for (const request of requests) {
      if (sessions.has(pairOf(request))) continue
      const { chain, privateKey } = await authority.issue(request.source)
      const session = connect(`https://127.0.0.1:${port}`, {
        servername: `w${destinations.indexOf(request.destination)}`, rejectUnauthorized: false, ALPNProtocols: ['h2'],
        cert: chain.map(der => encodePem('CERTIFICATE', der)).join(''), key: encodePem('PRIVATE KEY', privateKey)
      })
      await once(session, 'connect')
      sessions.set(pairOf(request), session)
    }
    return new Client(sessions)
  }

  /** @returns the status */
  ask (request: Judged): Promise<number> {
    const session = this.#sessions.get(pairOf(request)) as ClientHttp2Session
    return new Promise((resolve, reject) => {
      const stream = session.request({ ':method': request.method, ':path': request.path }, { endStream: true })
      let status = 0
      stream.on('response', headers => { status = Number(headers[':status']) })
      stream.on('error', reject).on('end', () => resolve(status)).resume()
    })
  }

  async [Symbol.asyncDispose] (): Promise<void> { for (const session of this.#sessions.values()) session.destroy() }
}
