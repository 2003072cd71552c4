import { once } from 'node:events'
import { connect, type ClientHttp2Session } from 'node:http2'
import { encodePem } from '../../src/x509/pem.ts'
import { createTestAuthority, type TestAuthority } from '../../test/fakes/authority.ts'
import { Envoy } from '../../test/fakes/envoy.ts'
import { withCallers } from '../measure/callers.ts'
import { cpuMsOf } from '../measure/process-usage.ts'
import { percentile } from '../measure/statistics.ts'
import type { Row } from '../suite.ts'
import type { BenchCase, BenchRequest } from './cases.ts'
import { envoyOf, type Way } from './envoy-chain.ts'
import type { Peer } from './peers.ts'

type Judged = BenchRequest & { readonly allowed: boolean }

/** Callers and workloads that have a connection: with more, handshakes would be measured. */
const mostConnections = 16

/**
 * Requests through one real Envoy with one worker: not decided about, by compiled RBAC, and by asking each of the peers. The ways take
 * turns.
 * @returns rows for each way
 */
export async function measureThroughEnvoy (one: BenchCase, peers: readonly Peer[], quick: boolean): Promise<Row[]> {
  const authority = await createTestAuthority('example.org')
  const ways: readonly Way[] = [
    { name: 'no authorization', filters: 'none' }, { name: 'RBAC', filters: 'rbac' },
    ...peers.map(({ name, where }) => ({ name, ask: where }))
  ]
  const { config, destinations } = await envoyOf(one, ways, authority)
  await using envoy = await Envoy.start(config, { logLevel: 'warning' })
  await envoy.ready()
  const requests = connected(one)
  const rounds = new Map(ways.map(({ name }) => [name, [] as Round[]]))
  await using scope = new AsyncDisposableStack()
  const clients = new Map<string, Client>()
  for (const { name } of ways) {
    const port = await envoy.listenerPort(name) ?? 0
    clients.set(name, scope.use(await Client.open(port, requests, destinations, authority)))
  }
  const count = quick ? 50 : 8_000
  for (let round = quick ? 0 : -1; round < (quick ? 1 : 3); round++) {
    for (const { name } of ways) {
      const peer = peers.find(known => known.name === name)
      const result = await measure(clients.get(name) as Client, requests, { count, obeys: name !== 'no authorization', envoy, peer })
      // The first round warms everybody up.
      if (round >= 0) rounds.get(name)?.push(result)
    }
  }
  return ways.flatMap(({ name }) => {
    const all = rounds.get(name) ?? []
    const row = (what: string, unit: string, of: (round: Round) => number): Row => ({ what: `${name}: ${what}`, unit, values: all.map(of) })
    return [
      row('CPU of Envoy per request', 'us', ({ envoyUs }) => envoyUs),
      ...peers.some(peer => peer.name === name) ? [row('CPU of who is asked per request', 'us', ({ askedUs }) => askedUs)] : [],
      row('requests, 8 at a time', '/s', ({ seconds }) => count / seconds),
      row('8 at a time, p50', 'ms', ({ times }) => percentile(times, 50)),
      row('8 at a time, p99', 'ms', ({ times }) => percentile(times, 99)),
      { what: `${name}: wrong answers`, unit: 'of all', values: [all.reduce((sum, { wrong }) => sum + wrong, 0)] }
    ]
  })
}

interface Round {
  readonly times: readonly number[]
  readonly seconds: number
  readonly envoyUs: number
  readonly askedUs: number
  readonly wrong: number
}

async function measure (
  client: Client, requests: readonly Judged[],
  { count, obeys, envoy, peer }: { readonly count: number, readonly obeys: boolean, readonly envoy: Envoy, readonly peer: Peer | undefined }
): Promise<Round> {
  const times: number[] = []
  let wrong = 0
  const askedCpu = () => peer === undefined ? 0 : cpuMsOf(peer.pid)
  const [begin, envoyBefore, askedBefore] = [performance.now(), cpuMsOf(envoy.pid), askedCpu()]
  await withCallers(8, count, async i => {
    const request = requests[i % requests.length] as Judged
    const asked = performance.now()
    const status = await client.ask(request)
    times.push(performance.now() - asked)
    if (status !== (obeys && !request.allowed ? 403 : 200)) wrong++
  })
  const perRequest = 1_000 / count
  return {
    times, wrong, seconds: (performance.now() - begin) / 1_000,
    envoyUs: (cpuMsOf(envoy.pid) - envoyBefore) * perRequest, askedUs: (askedCpu() - askedBefore) * perRequest
  }
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
