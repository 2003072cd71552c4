import { generateKeyPairSync } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { createCaCertificate } from '../../src/x509/ca-certificate.ts'
import { signerOf } from '../../src/x509/private-key-signer.ts'
import { startAgent } from '../../test/fakes/processes.ts'
import { cpuMsOf, residentMibOf } from '../measure/process-usage.ts'
import { TestBed } from '../measure/test-bed.ts'
import type { Range, Row, Section, SuiteOptions } from '../suite.ts'
import { type Arrival, type Fleet, SdsFleet, WorkloadFleet } from './fleet.ts'

const workloadId = 'spiffe://example.org/workload'
/** Envoy's usual name for the own bundle. */
const bundleName = 'ROOTCA'
/** The agent's poll; SPIRE was measured at 5 s. What the poll costs in time is not in "first to last". */
const syncInterval = '200ms'

interface Change {
  readonly total: number
  readonly workload: number
  readonly sds: number
  readonly agentCpuMs: number
}

/**
 * One agent with many open streams, one entry: what it takes to open them, and to give all of them a new SVID and a new bundle.
 * Server and agent are processes of their own; this process is all the clients.
 */
export async function runSds ({ quick, progress }: SuiteOptions): Promise<readonly Section[]> {
  const [count, rounds, settleMs] = quick ? [20, 2, 300] : [1000, 7, 2000]
  await using bed = await TestBed.open()
  await using agent = await startAgent({ server: bed.server, config: { experimental: { sync_interval: syncInterval } } })
  const entry = await createEntry(bed, agent.id)
  const rss: number[] = []
  const settle = async () => {
    await sleep(settleMs)
    rss.push(residentMibOf(agent.pid))
  }
  await settle()

  const workloads = new WorkloadFleet(agent.socket)
  const proxies = new SdsFleet(agent.socket, [workloadId, bundleName])
  using fleets = new DisposableStack()
  fleets.use(workloads)
  fleets.use(proxies)
  progress(`${count} Workload API streams`)
  const workloadsOpened = await opening(agent.pid, () => workloads.openAll(count, ['state']))
  await settle()
  progress(`${count} SDS streams`)
  const proxiesOpened = await opening(agent.pid, () => proxies.openAll(count, [workloadId, bundleName]))
  await settle()

  const changes: Record<'entry' | 'bundle', Change[]> = { entry: [], bundle: [] }
  const measureChange = (resource: string, change: () => Promise<void>) =>
    changing({ agentPid: agent.pid, workloads, proxies, resource, settleMs: settleMs / 2 }, change)
  for (let round = 0; round < rounds; round++) {
    progress(`changes, round ${round + 1} of ${rounds}`)
    changes.entry.push(await measureChange(workloadId, () => changeEntry(bed, entry, round)))
    if (round < 3) changes.bundle.push(await measureChange(bundleName, () => appendAuthority(bed)))
  }
  await settle()
  fleets.dispose()
  await agent.stop()
  const log = agent.log()
  if (/"level":(50|60|"error"|"fatal")/.test(log)) throw new Error(`the agent logged an error:\n${log.slice(-2000)}`)

  const streams = `${count} + ${count} streams`
  const value = (what: string, unit: string, values: readonly number[], rest: Partial<Row> = {}): Row => ({ what, unit, values, ...rest })
  return [{
    title: `${streams}, each on a connection of its own`,
    rows: [
      value('FetchX509SVID opened: all have the first answer', 'ms', [workloadsOpened.wallMs], { spire: [2824, 3000] }),
      value('DeltaSecrets opened: all have both secrets', 'ms', [proxiesOpened.wallMs], { spire: [2833, 2930] }),
      value('agent CPU per FetchX509SVID opened', 'ms', [workloadsOpened.cpuMs / count], { spire: [0.97, 1.1] }),
      value('agent CPU per DeltaSecrets opened', 'ms', [proxiesOpened.cpuMs / count], { spire: [0.94, 0.98] }),
      ...changeRows('entry changed', changes.entry, { first: [843, 965], total: [3123, 5700] }),
      ...changeRows('CA appended to the bundle', changes.bundle, { first: [239, 595], total: [2887, 3455] }),
      ...memoryRows(count, rss)
    ],
    notes: [
      'First to last: from the first stream of its kind that has the change to the last. To all: from the administrator\'s call, ' +
      `with a poll of up to ${syncInterval} in it (SPIRE: two polls of 5 s).`,
      'Clients, agent and server share the cores.'
    ]
  }]
}

function changeRows (what: string, changes: readonly Change[], spire: { readonly first: Range, readonly total: Range }): Row[] {
  const row = (detail: string, pick: (change: Change) => number, rest: Partial<Row> = {}): Row =>
    ({ what: `${what}: ${detail}`, unit: 'ms', values: changes.map(pick), ...rest })
  const firstToLast = { spire: spire.first, budget: [200, 200] } as const
  return [
    row('first to last Workload API stream', ({ workload }) => workload, firstToLast),
    row('first to last SDS stream', ({ sds }) => sds, firstToLast),
    row('to all streams', ({ total }) => total, { spire: spire.total }),
    row('agent CPU for all streams', ({ agentCpuMs }) => agentCpuMs)
  ]
}

function memoryRows (count: number, rss: readonly number[]): Row[] {
  const [idle, workloads, both, after] = rss as [number, number, number, number]
  return [
    { what: 'agent RSS idle', unit: 'MiB', values: [idle], spire: [56, 63] },
    { what: `agent RSS with ${count} Workload API streams`, unit: 'MiB', values: [workloads], spire: [139, 139] },
    { what: `agent RSS with ${count} + ${count} streams`, unit: 'MiB', values: [both], spire: [191, 204] },
    { what: 'agent RSS after the changes', unit: 'MiB', values: [after], spire: [263, 274], budget: [263, 274] }
  ]
}

async function opening (pid: number, open: () => Promise<number>): Promise<{ wallMs: number, cpuMs: number }> {
  const cpu = cpuMsOf(pid)
  const wallMs = await open()
  return { wallMs, cpuMs: cpuMsOf(pid) - cpu }
}

interface Watched {
  readonly agentPid: number
  readonly workloads: Fleet
  readonly proxies: Fleet
  /** Of the SDS streams. */
  readonly resource: string
  readonly settleMs: number
}

async function changing ({ agentPid, workloads, proxies, resource, settleMs }: Watched, change: () => Promise<void>): Promise<Change> {
  const cpu = cpuMsOf(agentPid)
  const arrivals = Promise.all([workloads.expect('state'), proxies.expect(resource)])
  const begin = performance.now()
  await change()
  const [workload, sds] = await arrivals
  // Acknowledgements are part of the work.
  await sleep(settleMs)
  const agentCpuMs = cpuMsOf(agentPid) - cpu
  const length = ({ first, last }: Arrival) => last - first
  return { total: Math.max(workload.last, sds.last) - begin, workload: length(workload), sds: length(sds), agentCpuMs }
}

async function createEntry (bed: TestBed, agentId: string): Promise<string> {
  const [, , trustDomain, ...path] = agentId.split('/')
  const [id] = await bed.createEntries([{
    spiffeId: { trustDomain: 'example.org', path: '/workload' },
    parentId: { trustDomain, path: `/${path.join('/')}` },
    selectors: [{ type: 'unix', value: `uid:${process.getuid?.() ?? 0}` }]
  }])
  return id as string
}

/** A further DNS name: the agent needs a new SVID, the name of the secret stays. */
async function changeEntry (bed: TestBed, id: string, round: number): Promise<void> {
  const { results } = await bed.entries.batchUpdateEntry({
    entries: [{ id, dnsNames: [`workload-${round}.example.org`] }], inputMask: { dnsNames: true }
  })
  if (results[0]?.status?.code !== 0) throw new Error(`the entry was not changed: ${results[0]?.status?.message}`)
}

async function appendAuthority (bed: TestBed): Promise<void> {
  const signer = signerOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey)
  const now = Date.now()
  const asn1 = await createCaCertificate({
    trustDomain: parseTrustDomain('example.org'), signer, notBefore: new Date(now - 10_000), notAfter: new Date(now + 86_400_000)
  })
  await bed.bundles.appendBundle({ x509Authorities: [{ asn1 }] })
}
