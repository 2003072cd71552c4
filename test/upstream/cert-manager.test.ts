import t, { type Test } from 'tap'
import { checkMinted } from '../../src/ca/check-minted.ts'
import type { Clock } from '../../src/runtime/clock.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { certManagerUpstreamPlugin as plugin } from '../../src/upstream/cert-manager/cert-manager-plugin.ts'
import { createTestCa, type TestCa } from '../fakes/ca-files.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { approved, CertManagerPeer } from '../fakes/cert-manager.ts'
import { KubeApi } from '../fakes/kube-api.ts'
import { standStill } from '../fakes/stand-still.ts'
import { key, order } from './ca-order.ts'

const never = new AbortController().signal
const trustDomain = parseTrustDomain('example.org')
/** Looks again at once. */
const hasty: Clock = { ...systemClock, now: () => systemClock.now(), sleep: async (_ms, signal) => { signal?.throwIfAborted() } }

async function start (t: Test, more: object = {}) {
  const api = await KubeApi.start(t.testdir())
  t.teardown(() => api[Symbol.asyncDispose]())
  const peer = new CertManagerPeer(api)
  const { log, lines } = capturedLog()
  const open = async (domain = trustDomain) => {
    const config = plugin.config.parse({ namespace: 'sandbox', issuer_name: 'spire-ca', kube_config_file: api.kubeconfig, ...more })
    const upstream = await plugin.start(config, { trustDomain: domain, clock: hasty, log }, never)
    t.teardown(() => upstream[Symbol.asyncDispose]())
    return upstream
  }
  return { api, peer, lines, open, upstream: await open() }
}

const refusing = (condition: object) => () => ({ conditions: [condition] })

void t.test('a CertificateRequest is made, signed and deleted', async t => {
  const root = await createTestCa()
  const between = await createTestCa({ issuer: root })
  const { peer, upstream } = await start(t)
  const cases: ReadonlyArray<readonly [TestCa, readonly TestCa[]]> = [[root, []], [between, [root]]]
  for (const [issuer, above] of cases) {
    let looks = 0
    peer.answer = async request => ++looks < 3 ? { conditions: [approved] } : await CertManagerPeer.signed(request, issuer, above)
    const minted = await upstream.mintX509Ca(order, never)
    await checkMinted(minted, { key, trustDomain, clock: systemClock })
    t.same(minted.roots, [{ certificate: root.certificate.raw, tainted: false }])
    t.equal(minted.chain.length, above.length + 1, 'the root is in no chain')
    t.ok(looks >= 3)
    t.equal(peer.requests.size, 0)
  }
  t.match(peer.orders[0], {
    apiVersion: 'cert-manager.io/v1', kind: 'CertificateRequest',
    metadata: { generateName: 'spiffe-ca-', labels: { 'cert-manager.spiffe.io/trust-domain': 'example.org' } },
    spec: {
      duration: '3600s', isCA: true, usages: ['cert sign', 'crl sign'],
      issuerRef: { name: 'spire-ca', kind: 'Issuer', group: 'cert-manager.io' }
    }
  })
})

void t.test('SPIRE\'s keys; what is none is refused', async t => {
  const { peer, upstream } = await start(t, { issuer_kind: 'ClusterIssuer', issuer_group: 'example.org' })
  peer.answer = refusing({ type: 'Denied', status: 'True', reason: 'r', message: 'm' })
  await t.rejects(upstream.mintX509Ca(order, never))
  t.match(peer.orders[0]?.spec, { issuerRef: { name: 'spire-ca', kind: 'ClusterIssuer', group: 'example.org' } })
  const good = { namespace: 'sandbox', issuer_name: 'ca' }
  for (const bad of [{ namespace: 'sandbox' }, { issuer_name: 'ca' }, { ...good, namespace: '../x' }, { ...good, issuer: 'x' }]) {
    t.throws(() => plugin.config.parse(bad), JSON.stringify(bad))
  }
})

void t.test('what the issuer does not sign, and what is of no use', async t => {
  const { api, peer, lines, upstream } = await start(t)
  const root = await createTestCa()
  const signed = async (change: object) => ({ ...await CertManagerPeer.signed(peer.orders.at(-1) as never, root, []), ...change })
  const text = (said: string) => Buffer.from(said).toString('base64')
  const rows: ReadonlyArray<readonly [typeof peer.answer, string, RegExp]> = [
    [refusing({ type: 'Denied', status: 'True', reason: 'Policy', message: 'no' }), 'upstream_refused', /spiffe-ca-\d+: Policy: no/],
    [refusing({ type: 'InvalidRequest', status: 'True', reason: 'Bad', message: 'x' }), 'upstream_refused', /Bad: x/],
    [refusing({ type: 'Ready', status: 'False', reason: 'Failed', message: 'y' }), 'upstream_refused', /Failed: y/],
    [() => signed({ ca: undefined }), 'upstream_invalid', /status\.ca is empty/],
    [() => signed({ ca: text('nothing') }), 'upstream_invalid', /status\.ca/],
    [() => signed({ certificate: text('nothing') }), 'upstream_invalid', /status\.certificate/]
  ]
  for (const [answer, code, message] of rows) {
    peer.answer = answer
    await t.rejects(upstream.mintX509Ca(order, never), { code, message }, String(message))
    t.equal(peer.requests.size, 0, 'the request is gone all the same')
  }
  peer.answer = ({ metadata }) => { peer.requests.delete(metadata.name); return undefined }
  await t.rejects(upstream.mintX509Ca(order, never), { code: 'upstream_unavailable', message: /was deleted/ })
  const late = new AbortController()
  let looks = 0
  peer.answer = () => { if (++looks === 3) late.abort(); return undefined }
  const prompt = api.besides
  api.besides = (method, path, body) => {
    // For longer than it takes until the next look.
    if (method === 'DELETE') standStill(700)
    return prompt?.(method, path, body)
  }
  await t.rejects(upstream.mintX509Ca(order, late.signal), { code: 'upstream_unavailable' }, 'nobody signs')
  t.equal(peer.requests.size, 0)
  t.strictSame(lines, [], 'a server that is slow to delete is waited for')
  api.besides = prompt
  api.fails = true
  await t.rejects(upstream.mintX509Ca(order, never), { code: 'upstream_unavailable', message: /status 503/ })
  api.fails = false
  api.besides = () => [403, { kind: 'Status', status: 'Failure', message: 'cannot create resource "certificaterequests"' }]
  await t.rejects(upstream.mintX509Ca(order, never), { code: 'upstream_refused', message: /status 403: cannot create/ })
})

void t.test('requests that were left behind go, others\' stay', async t => {
  const { peer, upstream, open, lines } = await start(t)
  const root = await createTestCa()
  const label = 'cert-manager.spiffe.io/trust-domain'
  const old = new Date(Date.now() - 3_600_000).toISOString()
  const ready = { conditions: [{ type: 'Ready', status: 'True', reason: 'Issued' }] }
  const put = (name: string, creationTimestamp: string, status: object, domain = 'example.org') => {
    peer.requests.set(name, {
      metadata: { name, creationTimestamp, labels: { [label]: domain } }, spec: { request: '', duration: '1s' }, status
    })
  }
  put('left', old, ready)
  put('another-server', new Date().toISOString(), ready)
  put('waits', old, { conditions: [approved] })
  put('another-domain', old, ready, 'other.org')
  peer.answer = async request => request.status === undefined ? await CertManagerPeer.signed(request, root, []) : undefined
  await upstream.mintX509Ca(order, never)
  t.strictSame([...peer.requests.keys()].toSorted(), ['another-domain', 'another-server', 'waits'])

  const long = `${'a'.repeat(70)}.org`
  await t.rejects((await open(parseTrustDomain(long))).mintX509Ca(order, AbortSignal.timeout(1)))
  peer.answer = refusing({ type: 'Denied', status: 'True' })
  await t.rejects((await open(parseTrustDomain(long))).mintX509Ca(order, never), { code: 'upstream_refused' })
  t.match(peer.orders.at(-1)?.metadata.labels?.[label], /^[0-9a-f]{63}$/, 'what is too long for a label is hashed')

  const { api } = peer
  peer.answer = async request => await CertManagerPeer.signed(request, root, [])
  const answering = api.besides
  api.besides = (method, path, body) => method === 'DELETE' ? [403, { message: 'no' }] : answering?.(method, path, body)
  t.ok(await upstream.mintX509Ca(order, never), 'what cannot be deleted is no reason to refuse')
  t.match(lines.at(-1), { msg: /CertificateRequests .* stay/ })
})
