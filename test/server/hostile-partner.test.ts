import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { contextOptions } from '../../src/rpc/tls-identity.ts'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { trustDomainService } from '../../src/wire/generated/server-trust-domain.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { eventually } from '../fakes/eventually.ts'
import { startServer } from '../fakes/processes.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { document, redirect, startFakePartner, type Answer } from '../federation/fake-partner.ts'
import { createWebCa } from '../federation/web-ca.ts'

/** Of the server's process, in MiB. */
const memory = (pid: number, what: 'VmRSS' | 'VmHWM') =>
  Number(new RegExp(`^${what}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1_024

/** Each turns bad in its own way, after it has given a good bundle: what it answers then, and the code that is expected. */
const ways = {
  'giant': [endless(), 'fetched_bundle_too_large'],
  'long': [document('{}', { 'content-length': '1073741824' }), 'fetched_bundle_too_large'],
  'many': [document(`{"keys":[${Array.from({ length: 257 }, () => '{}').join()}]}`), 'fetched_bundle_too_large'],
  'slow': [dripping(), 'bundle_endpoint_slow'],
  'malformed': [document('{"keys":['), 'fetched_bundle_malformed'],
  'deep': [document('['.repeat(1_000_000)), 'fetched_bundle_malformed'],
  'duplicate': [document('{"keys":[],"keys":[]}'), 'fetched_bundle_malformed'],
  'packed': [document('', { 'content-encoding': 'gzip' }), 'fetched_bundle_malformed'],
  'circling': [redirect('/again'), 'bundle_redirect_refused'],
  'plaintext': [redirect('http://127.0.0.1/'), 'bundle_redirect_refused'],
  'silent': [() => undefined, 'bundle_endpoint_slow']
} as const satisfies Readonly<Record<string, readonly [Answer, string]>>

/** Spaces, as long as anybody reads: what is no byte too early to be refused. */
function endless (): Answer {
  return (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' })
    const block = Buffer.alloc(65_536, 0x20)
    const more = () => {
      while (!response.destroyed && response.write(block)) { /* on and on */ }
      if (!response.destroyed) response.once('drain', more)
    }
    more()
  }
}

/** A byte a second never lets a connection look idle. */
function dripping (): Answer {
  return (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' })
    const timer = setInterval(() => response.write(' '), 1_000)
    response.once('close', () => clearInterval(timer))
  }
}

void t.test('a server whose partners turn hostile refuses each, keeps what it had, and does not grow', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'assay-hostile-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const ca = await createWebCa()
  const caPath = join(folder, 'ca.pem')
  writeFileSync(caPath, ca.root)
  const certificate = await ca.certify()
  await using scope = new AsyncDisposableStack()
  const good = new Map<string, Bundle>()
  const turn = new Map<string, () => void>()
  const expected = new Map<string, string>()
  const federatesWith: Record<string, object> = {}
  const befriend = async (name: string, code: string, answer: (published: Bundle) => Answer) => {
    const domain = `${name}.test`
    const authority = await createTestAuthority(domain)
    const published = { ...authority.bundle, sequenceNumber: 5n, refreshHintSeconds: 3_600 }
    const partner = scope.use(await startFakePartner(certificate, document(formatBundleDocument(published))))
    good.set(domain, published)
    expected.set(domain, code)
    turn.set(domain, () => { partner.answer = answer(published) })
    federatesWith[domain] = { bundle_endpoint_url: `${partner.origin}/b`, bundle_endpoint_profile: { https_web: {} } }
    return authority
  }
  for (const [name, [answer, code]] of Object.entries(ways)) await befriend(name, code, () => answer)
  const victim = await createTestAuthority('victim.test')
  const publish = (bundle: Bundle): Answer => document(formatBundleDocument(bundle))
  await befriend('backwards', 'fetched_bundle_older', published => publish({ ...published, sequenceNumber: 4n, x509Authorities: [] }))
  await befriend('thief', 'fetched_bundle_foreign', () => publish({ ...victim.bundle, sequenceNumber: 6n }))
  const stranger = scope.use(await startFakePartner(await (await createWebCa()).certify(), publish(victim.bundle)))
  await befriend('elsewhere', 'bundle_endpoint_untrusted', () => redirect(stranger.origin))
  const svid = scope.use(await startFakePartner(contextOptions(await victim.issue('/spire/server')), publish(victim.bundle)))
  await befriend('profile', 'bundle_endpoint_untrusted', () => redirect(svid.origin))
  const old = scope.use(await startFakePartner({
    ...certificate, minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0'
  }, publish(victim.bundle)))
  await befriend('downgrade', 'bundle_endpoint_unreachable', () => redirect(old.origin))

  const federation = { web_ca_path: caPath, least_refresh_interval: '1s', federates_with: federatesWith }
  await using server = await startServer({ config: { federation } })
  await using channel = openUnixChannel(server.adminSocket)
  const stored = async () => new Map((await channel.client(bundleService).listFederatedBundles({})).bundles.map(bundle =>
    [bundle.trustDomain, decodeBundle(bundle)]))
  const isFollowed = (domain: string) => server.process.lines().some(({ trustDomain, msg }) =>
    trustDomain === domain && msg === 'partner\'s bundle fetched: it is new')
  await eventually('each good bundle to be fetched', () => [...good.keys()].every(isFollowed), 120_000)
  t.equal((await stored()).size, good.size)

  const before = memory(server.pid, 'VmRSS')
  for (const begin of turn.values()) begin()
  const refresh = async (trustDomain: string) =>
    await channel.client(trustDomainService).refreshBundle({ trustDomain }, { timeoutMs: 180_000 })
  const refusals = await Promise.all([...expected].map(async ([domain, code]) => [domain, code, await refresh(domain).then(
    () => 'taken', (error: { code?: string }) => error.code)] as const))
  for (const [domain, code, found] of refusals) t.equal(found, code, domain)
  for (let round = 0; round < 20; round++) {
    const large = ['giant.test', 'long.test', 'deep.test', 'many.test']
    await Promise.all(large.map(async domain => await refresh(domain).catch(() => undefined)))
  }
  const peak = memory(server.pid, 'VmHWM')
  t.comment(`memory of the server: ${before.toFixed(0)} MiB before, ${peak.toFixed(0)} MiB at the most`)
  t.ok(peak - before < 128, `it grew by ${(peak - before).toFixed(0)} MiB, and was offered without end`)

  const kept = await stored()
  for (const [domain, { x509Authorities }] of good) {
    t.same(kept.get(domain)?.x509Authorities, x509Authorities, `${domain}: the last good bundle stays`)
  }
  t.equal(kept.size, good.size)
  await eventually('status to tell of each', async () => {
    const { stdout } = await runAssay(['federation', 'status', '-socketPath', server.adminSocket, '-output', 'json'])
    const { partners } = JSON.parse(stdout) as {
      partners: Array<{ trust_domain: string, bundle?: object, following?: { sources: Array<{ last_error?: { code: string } }> } }>
    }
    return partners.length === good.size && partners.every(({ trust_domain: domain, bundle, following }) =>
      bundle !== undefined && following?.sources[0]?.last_error?.code === expected.get(domain))
  }, 60_000)
  t.same([stranger.asked, svid.asked, old.asked], [[], [], []], 'who does not prove who he is, is asked nothing')
  t.equal(await server.stop(), 0)
})
