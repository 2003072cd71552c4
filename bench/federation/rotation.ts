import { setTimeout as sleep } from 'node:timers/promises'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { Envoy } from '../../test/fakes/envoy.ts'
import { eventually } from '../../test/fakes/eventually.ts'
import { postgresMissing } from '../../test/fakes/postgres.ts'
import { startAgent, startServer, type RunningServer } from '../../test/fakes/processes.ts'
import { serverConfig } from '../../test/sds/mtls-config.ts'
import { cpuMsOf } from '../measure/process-usage.ts'
import { ReplicaBed } from '../measure/replica-bed.ts'
import { percentile } from '../measure/statistics.ts'
import { EnvoyObserver } from '../propagate/observers.ts'
import type { Row, Section, SuiteOptions } from '../suite.ts'
import { followingConfig, relate, webCaFile } from './follower.ts'
import { Partners, type Partner } from './partners.ts'

export interface RotationPlan {
  readonly count: number
  readonly rounds: number
  readonly windowMs: number
}

/** Milliseconds. */
interface Delay { readonly asked: number, readonly envoy: number }

const storedWithinMs = 120_000
/** As often as configuration allows. */
const refreshHintSeconds = 1

/** From a partner's new authority to real Envoys, one at an agent of each server; their secret `ALL` has the bundles of all partners. */
export async function measureRotation (plan: RotationPlan, progress: SuiteOptions['progress']): Promise<Section> {
  const { count, rounds, windowMs } = plan
  await using scope = new AsyncDisposableStack()
  const partners = scope.use(await Partners.open({ count, profile: 'https_web', refreshHintSeconds }))
  const ca = scope.use(await webCaFile(partners.webRoot))
  const servers = await startServers(scope, { federation: followingConfig(ca.path, `${refreshHintSeconds}s`) })
  progress(`${servers.length} servers fetch from ${count} partners`)
  await using admin = openUnixChannel((servers[0] as RunningServer).adminSocket)
  await relate(admin, partners)
  await eventually('all bundles are stored', async () =>
    (await admin.client(bundleService).listFederatedBundles({ pageSize: 1_000 })).bundles.length === count, storedWithinMs)
  const proxies: EnvoyObserver[] = []
  for (const server of servers) {
    const agent = scope.use(await startAgent({ server }))
    const id = `spiffe://example.org/web-${proxies.length}`
    await register(server, agent.id, id, partners.trustDomains)
    const envoy = scope.use(await Envoy.start(serverConfig({ agentSocket: agent.socket, api: 'DELTA_GRPC', certificate: id })))
    await envoy.ready()
    proxies.push(new EnvoyObserver(envoy, 'ALL'))
  }
  progress(`followed once a second for ${windowMs / 1_000} s`)
  const cpu = () => servers.reduce((sum, { pid }) => sum + cpuMsOf(pid), 0)
  const [asked, cpuMs, begin] = [partners.asked, cpu(), performance.now()]
  await sleep(windowMs)
  const passed = performance.now() - begin
  const [fetches, spentMs] = [partners.asked - asked, cpu() - cpuMs]

  const delays: Delay[] = []
  for (let round = -1; round < rounds; round++) {
    if (round % 25 === 0) progress(`rotation ${round + 1} of ${rounds}`)
    const delay = await rotate(partners.all[(round + 1) * 7 % count] as Partner, proxies)
    if (round >= 0) delays.push(delay)
  }
  progress('all rotate at once')
  const last = await rotateAll(partners, proxies)
  return sectionOf(plan, servers.length, delays, { perHour: fetches * 3_600_000 / passed, cpu: spentMs * 100 / passed, last })
}

/** Two replicas on PostgreSQL, which only one of them follows partners for; without PostgreSQL one server on SQLite. */
async function startServers (scope: AsyncDisposableStack, config: Readonly<Record<string, unknown>>): Promise<readonly RunningServer[]> {
  if (postgresMissing() !== false) return [scope.use(await startServer({ config }))]
  return scope.use(await ReplicaBed.open(2, config)).servers
}

async function register (server: RunningServer, agentId: string, id: string, federatesWith: readonly string[]): Promise<void> {
  await using admin = openUnixChannel(server.adminSocket)
  const selectors = [{ type: 'unix', value: `uid:${process.getuid?.() ?? 0}` }]
  const entry = { spiffeId: idOf(id), parentId: idOf(agentId), selectors, federatesWith }
  const { results: [result] } = await admin.client(entryService).batchCreateEntry({ entries: [entry] })
  if (result?.status?.code !== 0) throw new Error(`the entry was not created: ${result?.status?.message}`)
}

async function rotate (partner: Partner, proxies: readonly EnvoyObserver[]): Promise<Delay> {
  const before = await Promise.all(proxies.map(proxy => proxy.updates()))
  const begin = Date.now()
  const asked = partner.rotate()
  const inEnvoys = await Promise.all(proxies.map((proxy, index) => proxy.updateAfter(before[index] as number)))
  return { asked: await asked - begin, envoy: Math.max(...inEnvoys) - begin }
}

/** @returns milliseconds to the last update that any Envoy took over */
async function rotateAll (partners: Partners, proxies: readonly EnvoyObserver[]): Promise<number> {
  const begin = Date.now()
  await Promise.all(partners.all.map(partner => partner.rotate()))
  let seen = 0
  for (let calm = 0; calm < 20;) {
    await sleep(100)
    const updates = (await Promise.all(proxies.map(proxy => proxy.updates()))).reduce((sum, each) => sum + each, 0)
    calm = updates === seen ? calm + 1 : 0
    seen = updates
  }
  return Math.max(...await Promise.all(proxies.map(proxy => proxy.updateAfter(0)))) - begin
}

interface Rest { readonly perHour: number, readonly cpu: number, readonly last: number }

function sectionOf (
  { count, rounds }: RotationPlan, servers: number, delays: readonly Delay[], { perHour, cpu, last }: Rest
): Section {
  const spread = (what: string, values: readonly number[], budget?: Row['budget']): Row[] => [50, 99, 100].map(p => ({
    what: `${what}, ${p === 100 ? 'max' : `p${p}`}`, unit: 'ms', values: [p === 100 ? Math.max(...values) : percentile(values, p)], budget
  }))
  return {
    title: `Rotation of one of ${count} partners to ${servers === 1 ? 'one Envoy' : `${servers} Envoys`}`,
    rows: [
      { what: 'fetches per hour', unit: '/h', values: [perHour] },
      { what: 'CPU of all servers, of one core', unit: '%', values: [cpu] },
      ...spread('rotation → asked for the new bundle', delays.map(({ asked }) => asked)),
      ...spread('asked → last Envoy', delays.map(({ asked, envoy }) => envoy - asked), [1_000, 1_000]),
      ...spread('rotation → last Envoy', delays.map(({ envoy }) => envoy)),
      { what: 'all partners rotate at once → last Envoy', unit: 'ms', values: [last] }
    ],
    notes: [
      `${rounds} rotations; refresh hint and \`least_refresh_interval\` of ${refreshHintSeconds} s: the next poll is up to that away.`,
      servers === 1
        ? 'One server on SQLite: there is no PostgreSQL.'
        : 'Two replicas on PostgreSQL, one of which follows; an agent and an Envoy at each.',
      'Endpoints, servers, agents and Envoys share the cores. SPIRE asks no more often than once a minute, and was not measured here.'
    ]
  }
}

function idOf (spiffeId: string): { trustDomain: string | undefined, path: string } {
  const [, , trustDomain, ...path] = spiffeId.split('/')
  return { trustDomain, path: `/${path.join('/')}` }
}
