import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { checkMinted } from '../../src/ca/check-minted.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { certManagerUpstreamPlugin as plugin } from '../../src/upstream/cert-manager/cert-manager-plugin.ts'
import { createTestCa, keyPemOf, pemOf, type TestCa } from '../fakes/ca-files.ts'
import { eventually } from '../fakes/eventually.ts'
import { startServer } from '../fakes/processes.ts'
import { Administrator } from '../interop/administrator.ts'
import { key, order } from '../upstream/ca-order.ts'
import { certManager, certManagerDefinitions, certManagerMissing } from './build-cert-manager.ts'
import { kubeApiserverMissing } from './build-kube-apiserver.ts'
import { documentedObjects } from './documented-rules.ts'
import { RealCluster } from './real-cluster.ts'

const skip = kubeApiserverMissing() || certManagerMissing()
const patienceMs = 120_000
const namespace = 'sandbox'
const group = '/apis/cert-manager.io/v1'
const requests = `${group}/namespaces/${namespace}/certificaterequests`

/** cert-manager's controllers, as a process beside the cluster. */
async function runCertManager (cluster: RealCluster, scope: AsyncDisposableStack): Promise<() => string> {
  const child = spawn(await certManager(), [cluster.adminKubeconfig], { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => { log += text })
  scope.defer(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
  return () => log
}

/** A CA in a Secret, and the issuer that signs with it. */
async function makeIssuer (cluster: RealCluster, name: string, chain: readonly [TestCa, ...TestCa[]]): Promise<void> {
  const text = (pem: string) => Buffer.from(pem).toString('base64')
  await cluster.ask('POST', `/api/v1/namespaces/${namespace}/secrets`, {
    metadata: { name }, type: 'kubernetes.io/tls',
    data: { 'tls.crt': text(pemOf(...chain)), 'tls.key': text(keyPemOf(chain[0])), 'ca.crt': text(pemOf(chain.at(-1) ?? chain[0])) }
  })
  await cluster.ask('POST', `${group}/namespaces/${namespace}/issuers`, {
    apiVersion: 'cert-manager.io/v1', kind: 'Issuer', metadata: { name }, spec: { ca: { secretName: name } }
  })
}

void t.test('cert-manager itself signs the server\'s CA', { skip, timeout: 400_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const cluster = scope.use(await RealCluster.start())
  for (const definition of await certManagerDefinitions()) {
    await cluster.ask('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', definition)
  }
  for (const plural of ['certificaterequests', 'issuers', 'clusterissuers']) {
    await eventually(`${plural} are served`, () => cluster.ask('GET', `${group}/${plural}`).then(() => true, () => false), patienceMs)
  }
  await cluster.ask('POST', '/api/v1/namespaces', { metadata: { name: namespace } })
  const log = await runCertManager(cluster, scope)
  const root = await createTestCa()
  const between = await createTestCa({ issuer: root })
  await makeIssuer(cluster, 'root', [root])
  await makeIssuer(cluster, 'between', [between, root])

  const trustDomain = parseTrustDomain('example.org')
  const host = { trustDomain, clock: systemClock, log: silentLogger }
  const open = async (issuer: string) => {
    const config = plugin.config.parse({ namespace, issuer_name: issuer, kube_config_file: cluster.kubeconfig })
    return scope.use(await plugin.start(config, host, new AbortController().signal))
  }
  const mint = async (issuer: string, ttlSeconds = 7200) =>
    await (await open(issuer)).mintX509Ca({ ...order, ttlSeconds }, AbortSignal.timeout(patienceMs))

  await t.rejects(mint('root'), { code: 'upstream_refused', message: /status 403/ }, 'a server without rights')
  const objects = documentedObjects('upstream-authorities.md', 'certificaterequests')
  const [role, binding] = objects
  const rbac = `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}`
  await cluster.ask('POST', `${rbac}/roles`, role)
  await cluster.ask('POST', `${rbac}/rolebindings`, {
    ...binding, subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'assay-server' }]
  })
  await eventually(() => `the rights count: ${log()}`, () => mint('root').then(() => true, () => false), patienceMs)

  for (const [issuer, length] of [['root', 1], ['between', 2]] as const) {
    const minted = await mint(issuer)
    const { certificate, notAfter } = await checkMinted(minted, { key, trustDomain, clock: systemClock })
    t.equal(minted.chain.length, length, `${issuer}: the chain without its root`)
    t.same(minted.roots, [{ certificate: root.certificate.raw, tainted: false }], issuer)
    t.strictSame(certificate.uriSans, ['spiffe://example.org'], `${issuer}: ID-16`)
    t.ok(Math.abs(notAfter.getTime() - Date.now() - 7_200_000) < 120_000, 'the ttl that was asked for')
  }
  const { items } = await cluster.ask('GET', requests) as { items: unknown[] }
  t.equal(items.length, 0, 'no request is left')

  const server = scope.use(await startServer({
    blocks: {
      plugins: { UpstreamAuthority: { 'cert-manager': { plugin_data: {
        namespace, issuer_name: 'between', kube_config_file: cluster.kubeconfig
      } } } }
    }
  }))
  const { x509Authorities } = await scope.use(new Administrator(server)).bundles.getBundle({})
  t.same(x509Authorities.map(({ asn1 }) => Buffer.from(asn1)), [Buffer.from(root.certificate.raw)], 'a server\'s bundle is its root')
})
