import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { checkMinted } from '../../src/ca/check-minted.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { vaultUpstreamPlugin } from '../../src/upstream/vault/vault-upstream-plugin.ts'
import { prepareLeafIssuer } from '../../src/x509/leaf-issuer.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { signerOf } from '../../src/x509/private-key-signer.ts'
import { makeTestKey } from '../fakes/authority.ts'
import { createTestCa, pemOf } from '../fakes/ca-files.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { idOf } from '../fakes/entries.ts'
import { startRealVault, VaultPeer, type Vault } from '../fakes/vault-peer.ts'
import { freePort } from '../fakes/free-port.ts'
import { key, order } from './ca-order.ts'

const trustDomain = parseTrustDomain('example.org')
const { signal } = new AbortController()

function start (config: Readonly<Record<string, unknown>>, log = silentLogger) {
  const host = { trustDomain, clock: new ManualClock(new Date()), log }
  return vaultUpstreamPlugin.start(vaultUpstreamPlugin.config.parse(config), host, signal)
}

const program = process.env['VAULT_BIN']
const absent = program === undefined ? 'VAULT_BIN names no vault or bao' : false
if (absent !== false) t.comment(`the real Vault: skipped: ${absent}`)

const vaults: Record<string, { skip: string | false, open: () => Promise<Vault> }> = {
  'a peer that answers as Vault does': { skip: false, open: () => VaultPeer.start() },
  'a real Vault': { skip: absent, open: async () => await startRealVault(program ?? '', await freePort()) }
}

for (const [name, { skip, open }] of Object.entries(vaults)) {
  await t.test(`a CA from Vault's PKI engine: ${name}`, { skip }, async t => {
    await using vault = await open()
    const methods = {
      token_auth: { token: vault.token },
      approle_auth: { approle_id: vault.approle.roleId, approle_secret_id: vault.approle.secretId }
    }
    for (const [method, credentials] of Object.entries(methods)) {
      await using upstream = await start({ vault_addr: vault.address, [method]: credentials })
      const minted = await upstream.mintX509Ca(order, signal)
      const { certificate, notAfter } = await checkMinted(minted, { key, trustDomain, clock: systemClock })
      t.same(certificate.uriSans, ['spiffe://example.org'], `${method}: ID-16`)
      t.match(Buffer.from(certificate.subjectDer).toString('latin1'), /Example/, 'the subject of the request')
      t.ok(Math.abs(notAfter.getTime() - Date.now() - 3_600_000) < 60_000, 'the ttl that was asked for')
      t.equal(minted.roots.length, 1)
    }
    await using stranger = await start({ vault_addr: vault.address, token_auth: { token: 'wrong' } })
    await t.rejects(stranger.mintX509Ca(order, signal), { code: 'upstream_refused', message: /status 403.*permission denied/ })
    const wrong = { approle_id: vault.approle.roleId, approle_secret_id: 'wrong' }
    await using unknown = await start({ vault_addr: vault.address, approle_auth: wrong })
    await t.rejects(unknown.mintX509Ca(order, signal), { code: 'upstream_refused', message: /status 400/ })
    await using elsewhere = await start({ vault_addr: vault.address, pki_mount_point: 'other/pki', token_auth: { token: vault.token } })
    await t.rejects(elsewhere.mintX509Ca(order, signal), { code: 'upstream_refused', message: /other\/pki\/root\/.* with status 404/ })
  })
}

await t.test('what goes over the wire', async t => {
  await using vault = await VaultPeer.start()
  const { log, lines } = capturedLog()
  const config = { vault_addr: `${vault.address}/`, namespace: 'team/a', pki_mount_point: '/pki/', token_auth: { token: vault.token } }
  await using upstream = await start(config, log)
  const { chain, roots } = await upstream.mintX509Ca(order, signal)
  t.match(vault.asked[0], { path: '/v1/auth/token/lookup-self', headers: { 'x-vault-token': vault.token, 'x-vault-namespace': 'team/a' } })
  t.match(vault.asked.slice(1), [{
    path: '/v1/pki/root/sign-intermediate',
    headers: { 'x-vault-token': vault.token, 'x-vault-namespace': 'team/a', 'x-vault-request': 'true' },
    body: { ttl: '3600s', uri_sans: 'spiffe://example.org', use_csr_values: true, format: 'pem' }
  }])
  t.same(chain[1], vault.issuer.certificate.raw, 'the issuer between')
  t.same(roots, [{ certificate: vault.root.certificate.raw, tainted: false }])
  t.notMatch(JSON.stringify(lines), vault.token)
  await upstream.mintX509Ca(order, signal)
  t.equal(vault.asked.length, 3, 'one login for all')
})

await t.test('TLS: its authority, our certificate, a service account\'s token', async t => {
  await using scope = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'assay-vault-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const web = await createTestCa()
  const [serverKey, clientKey] = [makeTestKey(), makeTestKey()]
  const leaf = async (key: ReturnType<typeof makeTestKey>, dnsNames: readonly string[]) => encodePem('CERTIFICATE',
    await prepareLeafIssuer(web.certificate, web.signer).issue({
      id: idOf('/vault'), publicKey: signerOf(key).publicKey, dnsNames,
      notBefore: new Date(Date.now() - 1000), notAfter: new Date(Date.now() + 600_000)
    }))
  const pem = (key: ReturnType<typeof makeTestKey>) => key.export({ format: 'pem', type: 'pkcs8' }).toString()
  const vault = scope.use(await VaultPeer.start({ key: pem(serverKey), cert: await leaf(serverKey, ['localhost']), ca: pemOf(web) }))
  const address = vault.address.replace('127.0.0.1', 'localhost')
  const file = async (name: string, content: string) => {
    await writeFile(join(folder, name), content)
    return join(folder, name)
  }
  const ca_cert_path = await file('ca.pem', pemOf(web))
  const cert_auth = {
    client_cert_path: await file('client.pem', await leaf(clientKey, [])), client_key_path: await file('client.key', pem(clientKey)),
    cert_auth_role_name: 'assay'
  }
  const byCertificate = scope.use(await start({ vault_addr: address, ca_cert_path, cert_auth }))
  t.ok(await byCertificate.mintX509Ca(order, signal))
  t.match(vault.asked[0], { path: '/v1/auth/cert/login', body: { name: 'assay' } })
  const k8s_auth = { k8s_auth_role_name: 'assay', token_path: await file('token', 'a.b.c\n') }
  t.ok(await scope.use(await start({ vault_addr: address, ca_cert_path, k8s_auth })).mintX509Ca(order, signal))
  t.match(vault.asked.at(-2), { path: '/v1/auth/kubernetes/login', body: { role: 'assay', jwt: 'a.b.c' } })
  const token_auth = { token: vault.token }
  for (const [title, config] of Object.entries({
    'the web\'s authorities did not sign it': { vault_addr: address, token_auth },
    'its certificate is for another name': { vault_addr: vault.address, ca_cert_path, token_auth }
  })) {
    const before = vault.asked.length
    await t.rejects(scope.use(await start(config)).mintX509Ca(order, signal), { code: 'upstream_unavailable' }, title)
    t.equal(vault.asked.length, before, 'no token was sent')
  }
  t.ok(await scope.use(await start({ vault_addr: vault.address, insecure_skip_verify: true, token_auth })).mintX509Ca(order, signal))
  await t.rejects(start({ vault_addr: address, ca_cert_path: join(folder, 'none'), token_auth }), { code: 'file_unusable' })
  const other = await createTestCa()
  const renewed = await file('renewed.pem', pemOf(other))
  const changing = scope.use(await start({ vault_addr: address, ca_cert_path: renewed, token_auth }))
  await t.rejects(changing.mintX509Ca(order, signal), { code: 'upstream_unavailable' })
  await file('renewed.pem', pemOf(web))
  t.ok(await changing.mintX509Ca(order, signal), 'a file that was replaced counts from the next try')
})

await t.test('a peer that is gone, slow, or answers nonsense', async t => {
  const vault = await VaultPeer.start()
  await using upstream = await start({ vault_addr: vault.address, token_auth: { token: vault.token } })
  await upstream.mintX509Ca(order, signal)
  const before = vault.asked.length
  const other = await createTestCa()
  const data = (content: unknown) => JSON.stringify({ data: content })
  const faults: Record<string, [code: string, status: number, body: string]> = {
    'sealed': ['upstream_unavailable', 503, '{"errors":["Vault is sealed"]}'],
    'too many requests': ['upstream_unavailable', 429, '{"errors":[]}'],
    'a refusal in words of its own': ['upstream_refused', 400, 'no'],
    'a redirect': ['upstream_invalid', 307, ''],
    'no JSON': ['upstream_invalid', 200, '<html>'],
    'a name twice': ['upstream_invalid', 200, '{"data":{},"data":{}}'],
    'no data': ['upstream_invalid', 200, '{}'],
    'no certificate': ['upstream_invalid', 200, data({ ca_chain: [pemOf(other)] })],
    'half a certificate': ['upstream_invalid', 200, data({ certificate: pemOf(other).slice(0, 200), ca_chain: [pemOf(other)] })],
    'nothing above it': ['upstream_invalid', 200, data({ certificate: pemOf(other), issuing_ca: '' })],
    'a chain of something else': ['upstream_invalid', 200, data({ certificate: pemOf(other), ca_chain: [1] })],
    'a chain without end': ['upstream_invalid', 200, data({ certificate: pemOf(other), ca_chain: Array(17).fill(pemOf(other)) })],
    'more than it should': ['upstream_invalid', 200, ' '.repeat(1024 * 1024 + 1)]
  }
  for (const [title, [code, status, body]] of Object.entries(faults)) {
    vault.fault = response => { response.writeHead(status, { location: '/v1/elsewhere' }).end(body) }
    await t.rejects(upstream.mintX509Ca(order, signal), { code }, title)
  }
  vault.fault = response => { response.writeHead(200).end(data({ certificate: pemOf(other), ca_chain: [pemOf(other)] })) }
  await t.rejects(upstream.mintX509Ca(order, signal).then(minted => checkMinted(minted, { key, trustDomain, clock: systemClock })),
    { code: 'upstream_invalid' }, 'a certificate of somebody else')
  t.equal(vault.asked.length - before, Object.keys(faults).length + 1, 'a redirect is not followed')
  const { promise: reached, resolve } = Promise.withResolvers<void>()
  vault.fault = () => resolve()
  const stop = new AbortController()
  const slow = upstream.mintX509Ca(order, stop.signal)
  await reached
  stop.abort()
  await t.rejects(slow, { code: 'upstream_unavailable' }, 'it never answers, and the caller has waited long enough')
  vault.fault = response => { response.writeHead(200, { 'content-length': '100' }).write('{'); response.destroy() }
  await t.rejects(upstream.mintX509Ca(order, signal), { code: 'upstream_unavailable' }, 'cut off')
  await vault[Symbol.asyncDispose]()
  await t.rejects(upstream.mintX509Ca(order, signal), { code: 'upstream_unavailable' }, 'gone')
})

await t.test('its configuration', t => {
  const parse = (config: Readonly<Record<string, unknown>>) => vaultUpstreamPlugin.config.safeParse(config)
  const good = { vault_addr: 'https://vault.test:8200', token_auth: { token: 'x' } }
  t.ok(parse(good).success)
  const wrong = {
    'no method': { vault_addr: 'https://v' }, 'the token over a network': { ...good, vault_addr: 'http://v' },
    'two methods': { ...good, k8s_auth: { k8s_auth_role_name: 'r' } },
    'another scheme': { ...good, vault_addr: 'ftp://v' }, 'no URL': { ...good, vault_addr: 'vault' },
    'a user': { ...good, vault_addr: 'https://a:b@v' },
    'a mount that leads away': { ...good, pki_mount_point: '../sys' }, 'a mount with a query': { ...good, pki_mount_point: 'pki?x' },
    'an unknown key': { ...good, tokn: 'x' },
    'a certificate without TLS': { vault_addr: 'http://v', cert_auth: { client_cert_path: 'a', client_key_path: 'b' } }
  }
  for (const [title, config] of Object.entries(wrong)) t.notOk(parse(config).success, title)
  t.end()
})
