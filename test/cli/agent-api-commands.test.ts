import t from 'tap'
import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bind, openRpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { bundleService, type BatchSetFederatedBundleRequest } from '../../src/wire/generated/server-bundle.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { createCaCertificate } from '../../src/x509/ca-certificate.ts'
import { parseCertificateRequest } from '../../src/x509/certificate-request.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { prepareLeafIssuer } from '../../src/x509/leaf-issuer.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { signerOf } from '../../src/x509/private-key-signer.ts'
import { commandTree } from '../../src/cli/command-tree.ts'
import { runCli } from '../../src/cli/run-cli.ts'
import { eventually } from '../fakes/eventually.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { serveServices } from '../fakes/serve-services.ts'
import { createTestTerminal } from '../fakes/terminal.ts'

const notBefore = new Date('2026-01-01T00:00:00Z')
const notAfter = new Date('2027-01-01T00:00:00Z')
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const signer = signerOf(privateKey)
const ca = await createCaCertificate({ trustDomain: parseTrustDomain('example.org'), signer, notBefore, notAfter })
const issuer = prepareLeafIssuer(parseCertificate(ca), signer)
const id = parseSpiffeId('spiffe://example.org/web')
const leaf = await issuer.issue({ id, publicKey: signer.publicKey, dnsNames: [], notBefore, notAfter })
const key = new Uint8Array(privateKey.export({ type: 'pkcs8', format: 'der' }))
const caPem = encodePem('CERTIFICATE', ca)

function aborted (signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve())
  })
}

async function temporaryFolder (test: Pick<typeof t, 'teardown'>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'assay-api-'))
  test.teardown(() => rm(folder, { recursive: true }))
  return folder
}

const svid = { spiffeId: id, x509Svid: Buffer.concat([leaf, ca]), x509SvidKey: key, bundle: ca, hint: 'internal' }
const svidText = `SPIFFE ID:                      spiffe://example.org/web
Hint:                           internal
SVID Valid After:               2026-01-01 00:00:00 +0000 UTC
SVID Valid Until:               2027-01-01 00:00:00 +0000 UTC
Intermediate #1 Valid After:    2026-01-01 00:00:00 +0000 UTC
Intermediate #1 Valid Until:    2027-01-01 00:00:00 +0000 UTC
CA #1 Valid After:              2026-01-01 00:00:00 +0000 UTC
CA #1 Valid Until:              2027-01-01 00:00:00 +0000 UTC
[spiffe://other.test] CA #1 Valid After: 2026-01-01 00:00:00 +0000 UTC
[spiffe://other.test] CA #1 Valid Until: 2027-01-01 00:00:00 +0000 UTC

`

void t.test('api fetch x509', async t => {
  const headers: unknown[] = []
  const socket = await serveServices(t, [bind(workloadService, {
    async * fetchX509SVID (_request, { metadata, signal }) {
      headers.push(metadata.get('workload.spiffe.io'))
      yield { svids: [svid], federatedBundles: { 'spiffe://other.test': ca } }
      await aborted(signal)
    }
  })])
  const fetch = (...words: string[]) => runAssay(['api', 'fetch', 'x509', '-socketPath', socket, ...words])
  const { code, stdout } = await fetch()
  t.equal(code, 0)
  t.match(stdout, /^Received 1 svid after [\d.]+m?s\n\n/)
  t.equal(stdout.slice(stdout.indexOf('\n\n') + 2), svidText)
  t.same(headers, [['true']], 'WLE-04 the security header is sent')
  t.same(JSON.parse((await fetch('--output', 'json')).stdout), {
    crl: [], federated_bundles: { 'spiffe://other.test': Buffer.from(ca).toString('base64') },
    svids: [{
      bundle: Buffer.from(ca).toString('base64'), hint: 'internal', spiffe_id: id, x509_svid: Buffer.concat([leaf, ca]).toString('base64'),
      x509_svid_key: Buffer.from(key).toString('base64')
    }]
  })
  for (const words of [[], ['-timeout', '60s']]) {
    t.match(await runAssay(['api', 'fetch', ...words], { environment: { SPIFFE_ENDPOINT_SOCKET: `unix://${socket}` } }), {
      code: 0, stdout: /^Received 1 svid after/, stderr: ''
    }, 'api fetch alone is api fetch x509')
  }
  const folder = join(await temporaryFolder(t), 'new')
  t.same(await fetch('-silent', '-write', folder), { code: 0, stdout: '', stderr: '' })
  t.same((await readdir(folder)).toSorted(), ['bundle.0.pem', 'federated_bundle.0.0.pem', 'svid.0.key', 'svid.0.pem'])
  t.equal((await stat(join(folder, 'svid.0.key'))).mode & 0o777, 0o600, 'the key is nobody else\'s')
  t.equal(await readFile(join(folder, 'bundle.0.pem'), 'utf8'), caPem)
  const written = new X509Certificate(await readFile(join(folder, 'svid.0.pem')))
  t.ok(written.checkPrivateKey(privateKey))
  t.match(await fetch('-write', folder), {
    code: 0, stdout: /Writing SVID #0 to file .*svid\.0\.pem\.\nWriting key #0 to file/
  }, 'again, over the old files')
  t.match(await fetch('-write', join(folder, 'svid.0.key', 'x')), {
    code: 2, stderr: /cannot make the folder .*: a part of the path is no folder/
  })
})

void t.test('no identity, no agent, no answer', async t => {
  const socket = await serveServices(t, [bind(workloadService, {
    // eslint-disable-next-line require-yield
    async * fetchX509SVID () { throw new SpiffeError('no_identity_issued', 'no identity issued') },
    async fetchJWTSVID (_request, { signal }) {
      await aborted(signal)
      throw signal.reason
    }
  })])
  t.match(await runAssay(['api', 'fetch', 'x509', '-socketPath', socket]), {
    code: 1, stderr: /Error: .*no identity issued\n {2}code: no_identity_issued; a retry may help\n {2}next: register the workload/
  })
  t.match(await runAssay(['api', 'fetch', 'jwt', '-audience', 'a', '-timeout', '100ms', '-socketPath', socket]), {
    code: 1, stderr: /deadline_exceeded|not_implemented/
  })
  for (const [path, message] of [
    [socket, /^Lost: no identity issued; asking again in .*\n {2}next: register/], ['/nonexistent/a', /^Lost: .*\/nonexistent\/a/]
  ] as const) {
    const terminal = createTestTerminal()
    const watching = runCli(commandTree, ['api', 'watch', '-socketPath', path], terminal)
    await eventually('it says what it lacks', () => terminal.stderr !== '')
    t.match(terminal.stderr, message, 'api watch stays')
    terminal.stop()
    t.equal(await watching, 0)
  }
})

void t.test('api watch prints each update until it is stopped', async t => {
  let update = () => {}
  const socket = await serveServices(t, [bind(workloadService, {
    async * fetchX509SVID (_request, { signal }) {
      yield { svids: [svid] }
      await new Promise<void>(resolve => { update = resolve })
      yield { svids: [svid, svid] }
      await aborted(signal)
    }
  })])
  const terminal = createTestTerminal()
  const running = runCli(commandTree, ['api', 'watch', '-socketPath', socket], terminal)
  await eventually('the first state', () => terminal.stdout.includes('Received 1 svid after'))
  update()
  await eventually('the update', () => terminal.stdout.includes('Received 2 svids after'))
  terminal.stop()
  t.equal(await running, 0, 'Ctrl-C is the way to end it')
  t.equal(terminal.stderr, '')
})

void t.test('api watch shows what an answer says and nothing of earlier ones', async t => {
  const odd = { ...svid, hint: 'a hint\nnobody \u001b[31mexpects' }
  let update = () => {}
  const socket = await serveServices(t, [bind(workloadService, {
    async * fetchX509SVID (_request, { signal }) {
      yield { svids: [svid, odd], federatedBundles: { 'spiffe://other.test': ca } }
      await new Promise<void>(resolve => { update = resolve })
      yield { svids: [{ ...svid, hint: '' }] }
      await aborted(signal)
    }
  })])
  const terminal = createTestTerminal()
  const running = runCli(commandTree, ['api', 'watch', '-socketPath', socket], terminal)
  await eventually('the first state', () => terminal.stdout.includes('Received 2 svids after'))
  t.match(terminal.stdout, /Hint: +internal\n[^]*Hint: +a hint\\x0anobody/, 'WLAPI-38 an unexpected hint is shown, not obeyed')
  t.notMatch(terminal.stdout, '\u001b')
  t.match(terminal.stdout, '[spiffe://other.test]')
  const before = terminal.stdout.length
  update()
  await eventually('the update', () => terminal.stdout.includes('Received 1 svid after'))
  const after = terminal.stdout.slice(before)
  t.notMatch(after, 'other.test', 'WLAPI-10 a bundle that the new answer lacks is gone')
  t.notMatch(after, 'Hint', 'WLAPI-38 a missing hint is no fault')
  terminal.stop()
  t.equal(await running, 0)
})

void t.test('api watch outlives its agent', async t => {
  const path = join(await temporaryFolder(t), 'api.sock')
  const serve = async (svids: number) => {
    const services = [bind(workloadService, {
      async * fetchX509SVID (_request, { signal }) {
        yield { svids: Array.from({ length: svids }, () => svid) }
        await aborted(signal)
      }
    })]
    const server = openRpcServer({ services, log: silentLogger, clock: systemClock })
    await server.listenUnix({ path })
    return server
  }
  const terminal = createTestTerminal()
  const first = await serve(1)
  const running = runCli(commandTree, ['api', 'watch', '-socketPath', path], terminal)
  await eventually('the first state', () => terminal.stdout.includes('Received 1 svid after'))
  await first[Symbol.asyncDispose]()
  await eventually('the loss is told', () => terminal.stderr.startsWith('Lost: '))
  const second = await serve(2)
  await eventually('the next agent\'s state', () => terminal.stdout.includes('Received 2 svids after'), 30_000)
  terminal.stop()
  t.equal(await running, 0, 'WLAPI-06 it connects again')
  await second[Symbol.asyncDispose]()
})

void t.test('api watch gives up where asking again cannot help', async t => {
  let asked = 0
  const socket = await serveServices(t, [bind(workloadService, {
    // eslint-disable-next-line require-yield
    async * fetchX509SVID () {
      asked++
      throw new SpiffeError('security_header_missing', 'security header missing from request')
    }
  })])
  t.match(await runAssay(['api', 'watch', '-socketPath', socket]), { code: 1, stderr: /code: security_header_missing/ })
  t.equal(asked, 1, 'WLE-15 it is not asked again')
})

void t.test('api fetch jwt and api validate jwt', async t => {
  const asked: unknown[] = []
  const socket = await serveServices(t, [bind(workloadService, {
    fetchJWTSVID: async request => { asked.push(request); return { svids: [{ spiffeId: id, svid: 'tok', hint: 'internal' }] } },
    async * fetchJWTBundles () { yield { bundles: { 'spiffe://example.org': Buffer.from('{"keys":[]}') } } },
    validateJWTSVID: async request => {
      asked.push(request)
      if (request.svid !== 'tok') throw new SpiffeError('jwt_svid_invalid', 'token is expired')
      const aud = { listValue: { values: [{ stringValue: 'db' }] } }
      return { spiffeId: id, claims: { fields: { aud, camelCase: { structValue: { fields: { n: { numberValue: 5 } } } } } } }
    }
  })])
  const api = (words: string[], input = '') => runAssay(['api', ...words, '-socketPath', socket], { input })
  t.same(await api(['fetch', 'jwt', '-audience', 'db,cache', '-spiffeID', id]), {
    code: 0, stdout: `token(${id}):\n\ttok\nhint(${id}):\n\tinternal\nbundle(spiffe://example.org):\n\t{"keys":[]}\n`, stderr: ''
  })
  t.match(asked[0], { audience: ['db', 'cache'], spiffeId: id })
  t.same(JSON.parse((await api(['fetch', 'jwt', '-audience', 'db', '-output', 'json'])).stdout), [
    { svids: [{ hint: 'internal', spiffe_id: id, svid: 'tok' }] },
    { bundles: { 'spiffe://example.org': Buffer.from('{"keys":[]}').toString('base64') } }
  ])
  for (const words of [['-format', 'json'], ['-format=json', '-output', 'pretty']]) {
    t.match(await api(['fetch', 'jwt', '-audience', 'db', ...words]), { code: 0, stdout: /^\[\{"svids":/ }, 'the older name')
  }
  t.match(await api(['fetch', 'jwt', '-audience', 'db', '-format', 'yaml']), { code: 2, stderr: /-format: must be one of pretty, json/ })
  t.match(await api(['fetch', 'jwt']), { code: 2, stderr: /at least one audience is required/ })
  const claims = '{"aud":["db"],"camelCase":{"n":5}}'
  t.same(await api(['validate', 'jwt', '-audience', 'db', '-svid', '-'], 'tok\n'), {
    code: 0, stdout: `SVID is valid.\nSPIFFE ID : ${id}\nClaims    : ${claims}\n`, stderr: ''
  }, 'WLAPI-30 the agent is asked, not own code')
  t.same(await api(['validate', 'jwt', '-audience', 'db', '-svid', 'tok', '-output', 'json']), {
    code: 0, stdout: `{"claims":${claims},"spiffe_id":"${id}"}\n`, stderr: ''
  })
  t.match(await api(['validate', 'jwt', '-audience', 'db', '-svid', 'other']), {
    code: 1, stderr: /token is expired\n {2}code: jwt_svid_invalid/
  })
  t.match(await api(['validate', 'jwt', '-svid', 'tok']), { code: 2, stderr: /an audience is required/ })
})

const other = parseTrustDomain('other.test')
const domainBundle = { trustDomain: other, x509Authorities: [{ certificate: ca, tainted: false }], jwtAuthorities: [], sequenceNumber: 7n }

void t.test('bundle show, list, count, set, delete', async t => {
  const sent: BatchSetFederatedBundleRequest[] = []
  const message = { trustDomain: 'example.org', x509Authorities: [{ asn1: ca }], sequenceNumber: 7n }
  const federated = { ...message, trustDomain: 'other.test' }
  const deleted: unknown[] = []
  const socket = await serveServices(t, [bind(bundleService, {
    getBundle: async () => message,
    listFederatedBundles: async ({ pageToken }) =>
      pageToken === '' ? { bundles: [federated, { trustDomain: 'empty.test' }], nextPageToken: '2' } : {},
    getFederatedBundle: async () => federated,
    countBundles: async () => ({ count: 2 }),
    batchSetFederatedBundle: async request => { sent.push(request); return { results: [{ status: { code: 0 } }] } },
    batchDeleteFederatedBundle: async request => {
      deleted.push(request)
      const refused = { code: 9, message: 'cannot delete bundle; federated with 1 registration entries' }
      return { results: [{ trustDomain: 'other.test', status: request.mode === 0 ? refused : { code: 0 } }] }
    }
  })])
  const bundle = (words: string[], input = '') => runAssay(['bundle', ...words, '-socketPath', socket], { input })
  t.same(await bundle(['show']), { code: 0, stdout: caPem, stderr: '' })
  t.same(JSON.parse((await bundle(['show', '-format', 'spiffe'])).stdout), JSON.parse(formatBundleDocument(domainBundle)))
  t.same(JSON.parse((await bundle(['show', '-output', 'json'])).stdout), {
    jwt_authorities: [], refresh_hint: '0', sequence_number: '7', trust_domain: 'example.org', wit_authorities: [],
    x509_authorities: [{ asn1: Buffer.from(ca).toString('base64'), tainted: false }]
  })
  const rule = '*'.repeat(40)
  t.same(await bundle(['list']), {
    code: 0, stdout: `${rule}\n* other.test\n${rule}\n${caPem}\n${rule}\n* empty.test\n${rule}\n`, stderr: ''
  })
  t.same(await bundle(['list', '-id', 'spiffe://other.test']), { code: 0, stdout: caPem, stderr: '' })
  t.same(await bundle(['count']), { code: 0, stdout: '2 bundles\n', stderr: '' })
  t.same(await bundle(['set', '-id', 'spiffe://other.test'], caPem), { code: 0, stdout: 'bundle set.\n', stderr: '' })
  t.same(await bundle(['set', '-id', 'other.test', '-format', 'spiffe'], formatBundleDocument(domainBundle)), {
    code: 0, stdout: 'bundle set.\n', stderr: ''
  })
  t.match(sent.map(({ bundle }) => bundle[0]), [
    { trustDomain: 'other.test', x509Authorities: [{ asn1: Buffer.from(ca) }] },
    { trustDomain: 'other.test', x509Authorities: [{ asn1: Buffer.from(ca) }], sequenceNumber: 7n }
  ])
  t.match(await bundle(['set', '-id', 'other.test'], 'nonsense'), {
    code: 2, stderr: /standard input is not a bundle: it holds no PEM certificate/
  })
  t.match(await bundle(['set']), { code: 2, stderr: /a trust domain is required/ })
  t.match(await bundle(['delete', '-id', 'other.test']), {
    code: 1, stdout: '', stderr: /cannot delete bundle; federated with[^]*code: failed_precondition/
  })
  t.same(await bundle(['delete', '-id', 'other.test', '-mode', 'dissociate']), { code: 0, stdout: 'bundle deleted.\n', stderr: '' })
  t.match(deleted, [{ trustDomains: ['other.test'], mode: 0 }, { mode: 2 }])
})

void t.test('x509 mint and jwt mint', async t => {
  const asked: { ttl: number }[] = []
  const socket = await serveServices(t, [
    bind(bundleService, { getBundle: async () => ({ trustDomain: 'example.org', x509Authorities: [{ asn1: ca }] }) }),
    bind(svidService, {
      mintX509SVID: async ({ csr, ttl }) => {
        asked.push({ ttl })
        const { publicKey, uriSans, dnsSans } = parseCertificateRequest(csr)
        const der = await issuer.issue({ id: parseSpiffeId(uriSans[0] as string), publicKey, dnsNames: dnsSans, notBefore, notAfter })
        return { svid: { certChain: [der], id: { trustDomain: 'example.org', path: '/web' }, expiresAt: notAfter.getTime() / 1_000 } }
      },
      mintJWTSVID: async request => { asked.push(request); return { svid: { token: 'tok', expiresAt: 5n } } }
    })
  ])
  const assay = (...words: string[]) => runAssay([...words, '-socketPath', socket])
  const mint = ['x509', 'mint', '-spiffeID', id, '-dns', 'web.test']
  const printed = await assay(...mint)
  t.match(printed, {
    code: 0,
    stdout: /^X509-SVID:\n-----BEGIN CERTIFICATE-----\n[^]*\nPrivate key:\n-----BEGIN PRIVATE KEY-----\n[^]*\nRoot CAs:\n-----BEGIN CERT/
  })
  const json = await assay(...mint, '-output', 'json')
  const answer = JSON.parse(json.stdout) as { x509_svid: string[], private_key: string, root_cas: string[] }
  const [leaf] = answer.x509_svid
  const certificate = new X509Certificate(Buffer.from(leaf ?? '', 'base64'))
  t.match(certificate.subjectAltName, 'URI:spiffe://example.org/web, DNS:web.test')
  const key = createPrivateKey({ key: Buffer.from(answer.private_key, 'base64'), format: 'der', type: 'pkcs8' })
  t.ok(certificate.checkPrivateKey(key), 'DER in base64, as SPIRE prints it')
  const folder = join(await temporaryFolder(t), 'deep', 'er')
  const written = await assay(...mint, '-write', folder, '-output', 'json')
  t.notMatch(written.stdout, 'private_key', 'a key that went to a file is not printed')
  t.same((await readdir(folder)).toSorted(), ['bundle.pem', 'key.pem', 'svid.pem'])
  t.equal((await stat(join(folder, 'key.pem'))).mode & 0o777, 0o600)
  t.equal(await readFile(join(folder, 'bundle.pem'), 'utf8'), caPem)
  t.match(await assay(...mint, '-write', folder), {
    code: 0, stdout: /^X509-SVID written to .*svid\.pem\nPrivate key written to .*key\.pem\nRoot CAs written to/
  })
  t.match(await assay(...mint, '-ttl', '87600h'), {
    code: 0, stderr: /^Warning: X509-SVID lifetime was capped shorter than specified ttl; expires 2027-01-01/
  })
  t.equal(asked.at(-1)?.ttl, 87_600 * 3_600)
  t.match(await assay('x509', 'mint'), { code: 2, stderr: /a SPIFFE ID is required/ })

  t.same(await assay('jwt', 'mint', '-spiffeID', id, '-audience', 'a', '-audience', 'b'), { code: 0, stdout: 'tok\n', stderr: '' })
  t.match(asked.at(-1), { audience: ['a', 'b'], id: { trustDomain: 'example.org', path: '/web' } })
  t.match(await assay('jwt', 'mint', '-spiffeID', id, '-audience', 'a,b'), { code: 0 })
  t.same((asked.at(-1) as unknown as { audience: string[] }).audience, ['a,b'], 'an audience may have a comma: only repeating makes a list')
  const file = join(folder, 'token')
  t.same(await assay('jwt', 'mint', '-spiffeID', id, '-audience', 'a', '-write', file), {
    code: 0, stdout: `JWT-SVID written to ${file}\n`, stderr: ''
  })
  t.equal(await readFile(file, 'utf8'), 'tok')
  t.equal((await stat(file)).mode & 0o777, 0o600)
  t.match(await assay('jwt', 'mint', '-spiffeID', id), { code: 2, stderr: /at least one audience is required/ })
})
