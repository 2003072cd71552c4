import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { get } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { SecureContextOptions, TLSSocket } from 'node:tls'
import t from 'tap'
import { agentNames } from '../../src/agent/spire-agent-metrics.ts'
import type { SpireNames } from '../../src/rpc/spire-metrics.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { serverNames } from '../../src/server/spire-server-names.ts'
import { contextOptions } from '../../src/rpc/tls-identity.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { type AnyServer, startAgent, startServer } from '../fakes/processes.ts'
import { startSpireAgent, startSpireServer, withoutSpireAgent, withoutSpireServer } from '../fakes/spire.ts'
import { type LineReceiver, openReceiver, openUnixReceiver } from '../fakes/telemetry.ts'
import { exposedMetrics, type ExposedMetric, makeTypicalCalls } from '../fakes/typical-calls.ts'

t.setTimeout(300_000)

const docs = join(import.meta.dirname, '../../docs/metrics.md')
const trustDomain = 'example.org'
type Exposed = ReadonlyMap<string, ExposedMetric>
interface Told {
  readonly exposed: Exposed
  /** What came at `DogStatsd`: type and tags by name. */
  readonly sent: ReadonlyMap<string, string>
  /** What came at `Statsd`: names with their labels' values, and types. */
  readonly plain: ReadonlySet<string>
}
type BySide = { readonly server: Told, readonly agent: Told }

void t.test('the same calls at SPIRE and here show the same metrics, but for those that docs/metrics.md says are not here', {
  skip: withoutSpireServer || withoutSpireAgent
}, async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-names-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const absent = await saidToBeAbsent()
  const isAbsent = (name: string) => absent.some(pattern => pattern.test(name.replaceAll('.', '_')))
  const theirs = await ofSpire(folder)
  const ours = await ofAssay(folder, theirs, isAbsent)
  for (const [side, names] of [['server', serverNames], ['agent', agentNames]] as const) {
    const known: SpireNames = names
    t.ok(theirs[side].exposed.size > 20, `SPIRE's ${side} shows its metrics`)
    for (const [name, metric] of theirs[side].exposed) {
      if (!isAbsent(`spire_${side}_${name}`)) t.strictSame(ours[side].exposed.get(name), metric, `spire_${side}_${name}`)
    }
    t.ok(theirs[side].sent.size > 20 && theirs[side].plain.size > 20, `SPIRE's ${side} sends them`)
    for (const [name, form] of theirs[side].sent) if (!isAbsent(name)) t.equal(ours[side].sent.get(name), form, `DogStatsd: ${name}`)
    for (const line of plainOf(theirs[side], isAbsent)) t.ok(ours[side].plain.has(line), `Statsd: ${line}`)
    for (const name of Object.keys(known).map(key => key.replaceAll('.', '_'))) {
      t.notOk(absent.some(pattern => pattern.test(`spire_${side}_${name}`)), `${name} is not said to be absent`)
    }
  }
})

void t.test('prefix, labels and filters have the effect that they have at SPIRE', { skip: withoutSpireServer }, async t => {
  const filters = { BlockedPrefixes: ['acme', 'acme.rpc.bundle.v1.bundle.get'], AllowedPrefixes: ['acme.rpc.bundle', 'acme.star'] }
  for (const [what, telemetry] of Object.entries({
    'names, and both labels of all': {
      ...filters, MetricPrefix: 'acme', EnableTrustDomainLabel: true, AllowedLabels: ['trust_domain', 'host', 'version']
    },
    'no label of all': { ...filters, MetricPrefix: 'acme', EnableHostnameLabel: false, BlockedLabels: ['status'] },
    'an empty list is none': { ...filters, MetricPrefix: 'acme', AllowedLabels: [] }
  })) {
    const linesOf = async (start: (end: End) => Promise<AnyServer & AsyncDisposable>) => {
      // As Datadog's agent is reached in Kubernetes.
      const folder = await mkdtemp(join(tmpdir(), 'dsd-'))
      t.teardown(() => rm(folder, { recursive: true, force: true }))
      await using end = await openEnd(openUnixReceiver(join(folder, 'dsd.socket')))
      await using server = await start(end)
      await using admin = openUnixChannel(server.adminSocket)
      await admin.client(bundleService).getBundle({})
      await admin.client(bundleService).countBundles({})
      await end.dogStatsd.has(/^acme\.rpc\.bundle\.v1\.bundle\.count_bundles\.elapsed_time:/)
      await end.statsd.has(/^acme\.rpc\.bundle\.v1\.bundle\.count_bundles\.elapsed_time.*:/)
      // Where counters and times are told by different hands, either may come first.
      await end.dogStatsd.has(/^acme\.rpc\.bundle\.v1\.bundle\.count_bundles(?!\.elapsed_time)/)
      await end.statsd.has(/^acme\.rpc\.bundle\.v1\.bundle\.count_bundles(?!\.elapsed_time)/)
      await end.dogStatsd.has(/^acme\.started/)
      await end.statsd.has(/^acme\.started/)
      const { sent, plain } = sentTo(end)
      return [...sent].map(pair => pair.join(' ')).concat([...plain]).toSorted()
    }
    const theirs = await linesOf(end => startSpireServer({ telemetry: { ...end.asked.telemetry, ...telemetry } }))
    const ours = await linesOf(end => startServer({ blocks: { telemetry: { ...end.asked.telemetry, ...telemetry } } }))
    t.strictSame(ours, theirs, what)
    t.equal(ours.length, 6, 'three names at each end')
  }
})

void t.test('those that SPIRE lets read over TLS are let read here, and nobody else', { skip: withoutSpireServer }, async t => {
  const tls = { use_spire_svid: true, authorized_spiffe_ids: [`spiffe://${trustDomain}/prometheus`] }
  const outcomesOf = async (start: (port: number) => Promise<AnyServer & AsyncDisposable>) => {
    const port = await freePort()
    await using server = await start(port)
    await using admin = openUnixChannel(server.adminSocket)
    const outcomes: string[] = []
    for (const path of ['/prometheus', '/other']) {
      const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
      const csr = createCertificateRequest(privateKey, { uriSans: [`spiffe://${trustDomain}${path}`] })
      const chain = (await admin.client(svidService).mintX509SVID({ csr, ttl: 600 })).svid?.certChain ?? []
      const shown = contextOptions({ chain, privateKey: privateKey.export({ format: 'der', type: 'pkcs8' }) })
      outcomes.push(`${path}: ${await readMetrics(port, shown)}`)
    }
    outcomes.push(`nobody: ${await readMetrics(port, {})}`)
    return outcomes
  }
  const telemetry = (port: number) => ({ Prometheus: { host: '127.0.0.1', port, tls } })
  const theirs = await outcomesOf(port => startSpireServer({ telemetry: telemetry(port) }))
  const ours = await outcomesOf(port => startServer({ blocks: { telemetry: telemetry(port) } }))
  t.strictSame(ours, theirs)
  t.strictSame(theirs, [`/prometheus: 200 by URI:spiffe://${trustDomain}/spire/server`, '/other: refused', 'nobody: refused'])
})

/** @returns the status, and by whom */
async function readMetrics (port: number, shown: SecureContextOptions): Promise<string> {
  return await new Promise(resolve => {
    get({ host: '127.0.0.1', port, path: '/metrics', agent: false, rejectUnauthorized: false, ...shown }, response => {
      const { subjectaltname } = (response.socket as TLSSocket).getPeerCertificate()
      response.resume().on('end', () => resolve(`${response.statusCode} by ${subjectaltname}`))
    }).on('error', () => resolve('refused'))
  })
}

async function ofSpire (folder: string): Promise<BySide> {
  await using serverEnd = await openEnd()
  await using agentEnd = await openEnd()
  const admin = join(folder, 'theirs.sock')
  await using server = await startSpireServer(serverEnd.asked)
  await using agent = await startSpireAgent(server, undefined, { ...agentEnd.asked, config: { admin_socket_path: admin } })
  await makeTypicalCalls({ trustDomain, adminSocket: server.adminSocket, socket: agent.socket, agentAdminSocket: admin, agentId: agent.id })
  return await bothAt(serverEnd, agentEnd)
}

async function ofAssay (folder: string, theirs: BySide, isAbsent: (name: string) => boolean): Promise<BySide> {
  await using serverEnd = await openEnd()
  await using agentEnd = await openEnd()
  const admin = join(folder, 'ours.sock')
  const blocks = ({ asked: { prometheusPort: port, telemetry } }: End) =>
    ({ telemetry: { Prometheus: { host: '127.0.0.1', port }, ...telemetry } })
  await using server = await startServer({ blocks: blocks(serverEnd) })
  await using agent = await startAgent({ server, config: { admin_socket_path: admin }, blocks: blocks(agentEnd) })
  await makeTypicalCalls({ trustDomain, adminSocket: server.adminSocket, socket: agent.socket, agentAdminSocket: admin, agentId: agent.id })
  for (const [end, told] of [[serverEnd, theirs.server], [agentEnd, theirs.agent]] as const) {
    const wanted = plainOf(told, isAbsent)
    const prefix = end === serverEnd ? 'spire_server_' : 'spire_agent_'
    const isThere = async () => {
      const [{ plain, sent }, exposed] = [sentTo(end), await exposedMetrics(end.asked.prometheusPort, prefix)]
      return wanted.every(line => plain.has(line)) && [...told.sent.keys()].every(name => isAbsent(name) || sent.has(name)) &&
        [...told.exposed.keys()].every(name => isAbsent(`${prefix}${name}`) || exposed.has(name))
    }
    // Gauges are sent in intervals, and by three ways. What does not come is told by the comparison.
    await eventually('all metrics', isThere, 60_000).catch(() => undefined)
  }
  return await bothAt(serverEnd, agentEnd)
}

interface End extends AsyncDisposable {
  readonly asked: { readonly prometheusPort: number, readonly telemetry: Readonly<Record<string, unknown>> }
  readonly statsd: LineReceiver
  readonly dogStatsd: LineReceiver
}

/** Where one program tells its metrics. @param dogStatsd over UDP by default */
async function openEnd (dogStatsd?: LineReceiver): Promise<End> {
  return endOf(await freePort(), await openReceiver(), dogStatsd ?? await openReceiver())
}

function endOf (prometheusPort: number, statsd: LineReceiver, dogStatsd: LineReceiver): End {
  const address = ({ address }: LineReceiver) => [{ address }]
  return {
    asked: { prometheusPort, telemetry: { Statsd: address(statsd), DogStatsd: address(dogStatsd) } }, statsd, dogStatsd,
    async [Symbol.asyncDispose] () { for (const receiver of [statsd, dogStatsd]) await receiver[Symbol.asyncDispose]() }
  }
}

/** Once the entry that was removed last is gone at the agent too. */
async function bothAt (serverEnd: End, agentEnd: End): Promise<BySide> {
  await eventually('the agent has heard of the removal', async () =>
    (await exposedMetrics(agentEnd.asked.prometheusPort, 'spire_agent_')).has('lru_cache_entry_remove'))
  await agentEnd.statsd.has(/lru_cache_entry_remove/)
  await agentEnd.dogStatsd.has(/lru_cache_entry_remove/)
  const toldAt = async (end: End, prefix: string) => ({ exposed: await exposedMetrics(end.asked.prometheusPort, prefix), ...sentTo(end) })
  return { server: await toldAt(serverEnd, 'spire_server_'), agent: await toldAt(agentEnd, 'spire_agent_') }
}

function sentTo ({ statsd, dogStatsd }: Pick<End, 'statsd' | 'dogStatsd'>): Pick<Told, 'sent' | 'plain'> {
  const sent = dogStatsd.lines().flatMap(line => {
    const [, name = '', value = '', type = '', tags = ''] = /^([^:]+):(-?[\d.]+)\|(c|g|ms)(?:\|#(.*))?$/.exec(line) ?? []
    // Of Datadog's library, about itself.
    if (name.startsWith('datadog.')) return []
    const digits = type === 'ms' ? 'six digits' : value.includes('.') && type === 'c' ? 'no whole number' : 'a number'
    return [[name, `${type} ${digits} ${tags.replaceAll(/:[^,]*/g, '')}`] as const]
  })
  const plain = statsd.lines().map(line => line.replace(/:-?\d+\.\d{6}\|/, ':N|').replace(/(?<=\.started\.)\w+/, 'version'))
  return { sent: new Map(sent), plain: new Set(plain) }
}

/** Those that are to be here too. */
function plainOf ({ sent, plain }: Pick<Told, 'sent' | 'plain'>, isAbsent: (name: string) => boolean): readonly string[] {
  const here = [...sent.keys()].filter(name => !isAbsent(name))
  const longestFirst = [...sent.keys()].toSorted((a, b) => b.length - a.length)
  const longestOf = (line: string) => longestFirst.find(name => line.startsWith(name)) ?? ''
  // Whoever asks before the agent knows the entry is refused: that hangs on how long it takes to get there.
  const isEarly = (line: string) => /\.fetch_x509svid\..*PermissionDenied/.test(line)
  return [...plain].filter(line => here.includes(longestOf(line)) && !isEarly(line))
}

/** Names in the first column of the table of what is not here; `*` is any end. */
async function saidToBeAbsent (): Promise<readonly RegExp[]> {
  const section = (await readFile(docs, 'utf8')).split('\n## ').find(text => text.startsWith('SPIRE\'s names that are not here')) ?? ''
  const cells = section.split('\n').filter(line => line.startsWith('| `')).map(line => line.split(' | ')[0] ?? '')
  return cells.flatMap(cell => [...cell.matchAll(/`([^`]+)`/g)].map(([, name = '']) =>
    new RegExp(`^${name.replace('*', '\\w*')}(_elapsed_time)?$`)))
}
