import { join } from 'node:path'
import { rm, writeFile } from 'node:fs/promises'
import t, { type Test } from 'tap'
import { hashicorpVaultKeyManagerPlugin as plugin } from '../../src/keys/hashicorp-vault/hashicorp-vault-plugin.ts'
import type { KeyManager } from '../../src/keys/key-manager.ts'
import { systemClock, type Clock } from '../../src/runtime/clock.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { oid } from '../../src/x509/oid.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { MemoryKeyRows } from '../fakes/shared-key-rows.ts'
import { startFakeVault, type FakeVault } from '../fakes/vault.ts'
import { realVaultMissing, startRealVault } from '../fakes/real-vault.ts'
import { altNames, caExtensions, forge, leafExtensions, nameOf } from '../x509/forge-certificate.ts'
import { data, isSignature, keyManagerContract } from './key-manager-contract.ts'

// What the plugin reads, and not what names the real one.
for (const name of Object.keys(process.env)) if (name.startsWith('VAULT_') && name !== 'VAULT_BIN') delete process.env[name]
const trustDomain = parseTrustDomain('example.org')

interface OpenOptions { readonly rows?: MemoryKeyRows, readonly clock?: Clock, readonly log?: ReturnType<typeof capturedLog>['log'] }

async function open (
  raw: object, { rows = new MemoryKeyRows(), clock = systemClock, log = capturedLog().log }: OpenOptions = {}
): Promise<KeyManager> {
  return await plugin.start(plugin.config.parse(raw), { sharedKeys: rows, trustDomain, clock, log }, new AbortController().signal)
}

function byToken ({ address }: { readonly address: string }, token = 'root') { return { vault_addr: address, token_auth: { token } } }

const fake = await startFakeVault()
t.teardown(() => fake[Symbol.asyncDispose]())
keyManagerContract('a local peer of Vault', () => open(byToken(fake)), { remote: true })

const missing = realVaultMissing()
const real = missing === false ? await startRealVault() : undefined
t.teardown(() => real?.[Symbol.asyncDispose]())
keyManagerContract('the real Vault or OpenBao', () => open(byToken(real ?? fake)), { remote: true, skip: missing })

void t.test('keys through restarts, and for other replicas', async t => {
  await using vault = await startFakeVault()
  const rows = new MemoryKeyRows()
  const first = await open(byToken(vault), { rows })
  const made = await first.generateKey('JWT-Signer-A', 'ec-p256')
  t.match(vault.requests[0], { path: /^transit\/keys\/example\.org-JWT-Signer-A-[0-9a-f]{12}$/, body: { exportable: false } })
  for (const row of rows.rows.values()) t.notMatch(Buffer.from(row).toString('latin1'), /PRIVATE|root/, 'no secret is in the database')
  await first[Symbol.asyncDispose]()
  const second = await open(byToken(vault), { rows })
  const found = second.getKey('JWT-Signer-A') ?? t.fail('no key')
  t.ok(isSignature(made, await (found as typeof made).sign(data, 'der'), 'der'))

  await second.generateKey('JWT-Signer-A', 'ec-p256')
  t.equal(vault.keys.size, 2, 'who holds the old key goes on signing')
  await second.generateKey('JWT-Signer-A', 'ec-p256')
  t.equal(vault.keys.size, 2, 'the one before that is removed')
  await second.deleteKey?.('JWT-Signer-A')
  t.equal(vault.keys.size, 0)
  await second[Symbol.asyncDispose]()
})

void t.test('a start without Vault, and a key that was removed behind our back', async t => {
  await using vault = await startFakeVault()
  const rows = new MemoryKeyRows()
  const { log, lines } = capturedLog()
  await using manager = await open(byToken(vault), { rows, log })
  const key = await manager.generateKey('a', 'ec-p256')
  vault.deleteKey([...vault.keys.keys()][0] as string)
  await t.rejects(key.sign(data, 'der'), { code: 'key_service_key_gone' })
  t.equal(manager.getKey('a'), undefined, 'so that another authority takes over')
  t.match(lines.filter(({ level }) => level === 'error'), [{ msg: /a key is gone/ }])
  t.ok(await manager.generateKey('a', 'ec-p256'), 'the next one takes its place')
  vault.deleteKey([...vault.keys.keys()][0] as string)
  await using again = await open(byToken(vault), { rows })
  t.equal(again.getKey('a'), undefined, 'seen at a start too')
  await again.generateKey('a', 'ec-p256')
  vault.fault = () => ({ status: 503, text: '{"errors":["Vault is sealed"]}' })
  await using sealed = await open(byToken(vault), { rows })
  t.ok(sealed.getKey('a'), 'who does not answer has not removed a key')
  await t.rejects(async () => await sealed.getKey('a')?.sign(data, 'der'), { code: 'key_service_sealed' })
  vault.fault = () => undefined
  t.ok(await sealed.getKey('a')?.sign(data, 'der'), 'and goes on once unsealed')
})

void t.test('answers that are refused, by code', async t => {
  await using vault = await startFakeVault()
  const { log, lines } = capturedLog()
  await using manager = await open(byToken(vault), { log })
  const key = await manager.generateKey('a', 'ec-p256')
  const json = (body: unknown) => ({ status: 200, text: JSON.stringify(body) })
  const cases: Array<[string, ReturnType<FakeVault['fault']>, string, number]> = [
    ['sealed', { status: 503, text: '{"errors":["Vault is sealed"]}' }, 'key_service_sealed', 3],
    ['forbidden', { status: 403, text: '{"errors":["permission denied"]}' }, 'key_service_refused', 1],
    ['throttled', { status: 429, text: '{"errors":["request path: rate limit quota exceeded"]}' }, 'key_service_throttled', 3],
    ['broken', { status: 500, text: '<html>' }, 'key_service_failed', 3],
    ['cut', 'cut', 'key_service_unreachable', 3],
    ['no JSON', { status: 200, text: '<html>' }, 'key_service_malformed', 1],
    ['a name twice', { status: 200, text: '{"data":{},"data":{}}' }, 'key_service_malformed', 1],
    ['empty', { status: 200, text: '' }, 'key_service_malformed', 1],
    ['a redirect', { status: 307, text: '', headers: { location: 'http://192.0.2.1/' } }, 'key_service_malformed', 1],
    ['huge', { status: 200, text: ' '.repeat(70_000) }, 'key_service_malformed', 1],
    ['no signature', json({ data: {} }), 'key_service_malformed', 1],
    ['of another version', json({ data: { signature: 'vault:v2:AAAA' } }), 'key_service_malformed', 1],
    ['no base64', json({ data: { signature: 'vault:v1:!' } }), 'key_service_malformed', 1],
    ['a signature of nothing', json({ data: { signature: 'vault:v1:MAYCAQECAQE=' } }), 'key_service_malformed', 1]
  ]
  for (const [what, fault, code, calls] of cases) {
    vault.fault = () => fault
    const before = vault.requests.length
    const error = await key.sign(data, 'der').then(() => undefined, (error: Error) => error)
    t.match(error, { code }, what)
    t.equal(vault.requests.length - before, calls, `${what}: asked ${calls} times`)
    t.notMatch(error?.message, /root|x-vault-token/i)
  }
  vault.fault = () => undefined
  t.ok(isSignature(key, await key.sign(data, 'der'), 'der'), 'and everything is well again')
  t.match(lines.filter(({ msg }) => /the key service/.test(String(msg))), [
    { level: 'error' }, { level: 'info', msg: 'the key service works' }
  ], 'trouble is logged when it begins and when it ends')
  t.notMatch(JSON.stringify(lines), /"root"/)
  await vault.stop()
  await t.rejects(key.sign(data, 'der'), { code: 'key_service_unreachable' }, 'gone')
})

void t.test('who does not answer is waited for so long and no longer, and holds up nobody else', async t => {
  await using vault = await startFakeVault()
  const clock = new ManualClock()
  await using manager = await open(byToken(vault), { clock })
  const [slow, quick] = [await manager.generateKey('slow', 'ec-p256'), await manager.generateKey('quick', 'ec-p256')]
  vault.fault = ({ path }) => path.includes('-slow-') ? 'hang' : undefined
  const waiting = slow.sign(data, 'der').then(() => undefined, (error: Error) => error)
  await eventually('it is asked', () => vault.requests.some(({ path }) => path.includes('sign/example.org-slow') && path !== ''))
  t.ok(isSignature(quick, await quick.sign(data, 'der'), 'der'), 'another signature overtakes it')
  await clock.advance(10_000)
  t.match(await waiting, { code: 'key_service_unreachable', message: /within 10 s/ })

  const before = [...vault.keys.keys()]
  vault.fault = ({ method, path }) => method === 'POST' && path.includes('/keys/') ? 'hang' : undefined
  const making = manager.generateKey('quick', 'ec-p256').then(() => undefined, (error: Error) => error)
  const asked = vault.requests.length
  await eventually('it is asked to make one', () => vault.requests.length > asked)
  await clock.advance(60_000)
  t.match(await making, { code: 'key_service_unreachable' })
  t.strictSame([...vault.keys.keys()], before)
  t.equal(manager.getKey('quick'), quick, 'the old key is still the one that is kept')
})

void t.test('a key that was made and cannot be kept is removed', async t => {
  await using vault = await startFakeVault()
  const rows = new MemoryKeyRows()
  await using manager = await open(byToken(vault), { rows })
  vault.fault = ({ path }) => path.includes('/sign/') ? { status: 403, text: '{"errors":["permission denied"]}' } : undefined
  await t.rejects(manager.generateKey('a', 'ec-p256'), { code: 'key_service_refused' }, 'one that cannot sign is never relied on')
  vault.fault = () => undefined
  rows.put = async () => { throw new Error('the database is gone') }
  await t.rejects(manager.generateKey('a', 'ec-p256'), /the database is gone/)
  t.equal(vault.keys.size, 0)
  t.equal(manager.getKey('a'), undefined)
})

void t.test('logins', async t => {
  await using vault = await startFakeVault()
  const approle = { vault_addr: vault.address, approle_auth: { approle_id: 'role', approle_secret_id: 'secret' } }

  await t.test('by AppRole; a token that is refused is replaced', async t => {
    await using manager = await open(approle)
    const key = await manager.generateKey('a', 'ec-p256')
    t.equal(vault.logins.filter(({ path }) => path === 'auth/approle/login').length, 1, 'once for all calls')
    vault.revokeTokens()
    t.ok(isSignature(key, await key.sign(data, 'der'), 'der'))
    await using wrong = await open({ ...approle, approle_auth: { approle_id: 'role', approle_secret_id: 'hush-hush' } })
    const error = await wrong.generateKey('a', 'ec-p256').then(() => undefined, (error: Error) => error)
    t.match(error, { code: 'key_service_refused', message: /invalid role or secret ID/ })
    t.notMatch(error?.message, /hush-hush/)
  })

  await t.test('by a Kubernetes service account, whose token is read for each login', async t => {
    const file = join(t.testdir({}), 'token')
    const raw = { vault_addr: vault.address, k8s_auth: { k8s_auth_role_name: 'assay', token_path: file } }
    await using manager = await open(raw)
    await t.rejects(manager.generateKey('a', 'ec-p256'), { code: 'file_unusable' })
    await writeFile(file, 'service-account\n')
    const key = await manager.generateKey('a', 'ec-p256')
    await writeFile(file, 'another')
    vault.revokeTokens()
    await t.rejects(key.sign(data, 'der'), { code: 'key_service_refused' })
    await rm(file)
  })

  await t.test('by a token that Vault does not know, or that the environment holds', async t => {
    await using wrong = await open(byToken(vault, 'stranger'))
    await t.rejects(wrong.generateKey('a', 'ec-p256'), { code: 'key_service_refused' })
    process.env['VAULT_TOKEN'] = 'root'
    process.env['VAULT_ADDR'] = vault.address
    t.teardown(() => { delete process.env['VAULT_TOKEN']; delete process.env['VAULT_ADDR'] })
    await using manager = await open({ token_auth: {} })
    t.ok(await manager.generateKey('a', 'ec-p256'))
  })

  await t.test('tokens are renewed at half of their life, and had anew when they cannot be', async t => {
    const clock = new ManualClock()
    vault.leaseSeconds = 600
    await using manager = await open(approle, { clock })
    await manager.generateKey('a', 'ec-p256')
    const since = vault.logins.length
    const paths = () => vault.logins.slice(since).map(({ path }) => path)
    await clock.advance(300_000)
    await eventually('it is renewed', () => paths().length === 1 && clock.sleeping > 0)
    t.strictSame(paths(), ['auth/token/renew-self'])
    vault.leaseSeconds = 100
    await clock.advance(300_000)
    await eventually('a new one is had where renewing adds little', () => paths().length === 3 && clock.sleeping > 0)
    t.strictSame(paths().slice(1), ['auth/token/renew-self', 'auth/approle/login'])
  })
})

void t.test('TLS: the authority of ca_cert_path and no other; a client\'s certificate logs in', async t => {
  const hours = { notBefore: new Date(Date.now() - 3_600_000), notAfter: new Date(Date.now() + 3_600_000) }
  const authority = forge({ ...hours, subject: 'a CA', extensions: caExtensions() })
  const stranger = forge({ ...hours, subject: 'another CA', extensions: caExtensions() })
  const leaf = (subject: string, dnsName: string) => forge({
    ...hours, issuer: authority, subject, extensions: { ...leafExtensions(), [oid.subjectAltName]: altNames([nameOf.dns(dnsName)]) }
  })
  const pem = ({ der }: { readonly der: Uint8Array }) => encodePem('CERTIFICATE', der)
  const [server, client] = [leaf('vault', 'localhost'), leaf('assay', 'assay.test')]
  const keyOf = ({ key }: typeof server) => String(key.export({ format: 'pem', type: 'pkcs8' }))
  await using vault = await startFakeVault({
    tls: { cert: pem(server), key: keyOf(server), ca: pem(authority), requestCert: true, rejectUnauthorized: false }
  })
  const folder = t.testdir({ 'ca.pem': pem(authority), 'other.pem': pem(stranger), 'cert.pem': pem(client), 'key.pem': keyOf(client) })
  const tls = { ...byToken(vault), ca_cert_path: join(folder, 'ca.pem') }
  const works = async (t: Test, raw: object, why: string) => {
    await using manager = await open(raw)
    t.ok(await manager.generateKey('a', 'ec-p256'), why)
  }
  const refused = async (t: Test, raw: object, why: string) => {
    await using manager = await open(raw)
    await t.rejects(manager.generateKey('a', 'ec-p256'), { code: 'key_service_unreachable', message: /certificate/ }, why)
  }
  await works(t, tls, 'its own authority')
  await refused(t, { ...tls, ca_cert_path: join(folder, 'other.pem') }, 'another authority')
  await refused(t, { ...byToken(vault) }, 'the web\'s authorities')
  await refused(t, { ...tls, vault_addr: vault.address.replace('localhost', '127.0.0.1') }, 'another name')
  await works(t, { ...byToken(vault), insecure_skip_verify: true }, 'when told to believe anybody')
  const cert = { vault_addr: vault.address, ca_cert_path: join(folder, 'ca.pem') }
  const files = { client_cert_path: join(folder, 'cert.pem'), client_key_path: join(folder, 'key.pem') }
  await works(t, { ...cert, cert_auth: files }, 'by certificate')
  await t.rejects(open({ ...cert, cert_auth: {} }), { code: 'config_invalid', message: /client_cert_path.*VAULT_CLIENT_CERT/ })
})

void t.test('configuration', async t => {
  const auth = { token_auth: { token: 'root' } }
  for (const raw of [
    {}, { ...auth, approle_auth: {} }, { ...auth, vault_address: 'x' }, { ...auth, key_identifier_value: 'a b' },
    { ...auth, key_identifier_value: 'a', key_identifier_file: 'b' }, { k8s_auth: {} }
  ]) t.notOk(plugin.config.safeParse(raw).success, JSON.stringify(raw))
  const wrong = ['http://vault.test:8200', 'ftp://127.0.0.1', '127.0.0.1:8200', '', 'https://a:b@vault.test', 'https://vault.test/?x']
  for (const address of wrong) {
    t.notOk(plugin.config.safeParse({ ...auth, vault_addr: address }).success, address)
    process.env['VAULT_ADDR'] = address
    await t.rejects(open(auth), { code: 'config_invalid' }, `${address}, by the environment`)
    delete process.env['VAULT_ADDR']
  }
  await t.rejects(open(auth), { code: 'config_invalid', message: /VAULT_ADDR is not set/ })
  const cert_auth = { client_cert_path: 'a', client_key_path: 'b' }
  await t.rejects(open({ vault_addr: 'http://127.0.0.1', cert_auth }), { code: 'config_invalid' }, 'a certificate without TLS')
  await using vault = await startFakeVault()
  const file = join(t.testdir({}), 'id')
  for (const round of [1, 2]) {
    await using manager = await open({ ...byToken(vault), key_identifier_file: file })
    await manager.generateKey(`k${round}`, 'ec-p256')
  }
  const [one, two] = [...vault.keys.keys()].map(name => name.replace(/-k.*$/, ''))
  t.match(one, /^[0-9a-f-]{36}$/)
  t.equal(one, two, 'the file keeps the identifier')
})
