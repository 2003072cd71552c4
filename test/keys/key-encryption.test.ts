import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CreateKeyCommand, DisableKeyCommand, EnableKeyCommand, KMSClient } from '@aws-sdk/client-kms'
import t from 'tap'
import { databaseKeyManagerPlugin as plugin } from '../../src/keys/database/database-plugin.ts'
import type { SharedKeyManager } from '../../src/keys/key-manager.ts'
import { systemClock, type Clock } from '../../src/runtime/clock.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { startAwsGate } from '../fakes/aws-gate.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { motoMissing, startMoto } from '../fakes/moto.ts'
import { realVaultMissing, startRealVault } from '../fakes/real-vault.ts'
import { MemoryKeyRows } from '../fakes/shared-key-rows.ts'
import { softhsmMissing, startSoftHsm } from '../fakes/softhsm.ts'
import { startFakeVault } from '../fakes/vault.ts'
import { data, isSignature, keyManagerContract } from './key-manager-contract.ts'

for (const name of Object.keys(process.env)) if (name.startsWith('VAULT_') && name !== 'VAULT_BIN') delete process.env[name]
const trustDomain = parseTrustDomain('example.org')
const within = 60_000

interface OpenOptions { readonly rows?: MemoryKeyRows, readonly clock?: Clock, readonly log?: ReturnType<typeof capturedLog>['log'] }

async function open (
  config: object, { rows = new MemoryKeyRows(), clock = systemClock, log = capturedLog().log }: OpenOptions = {}
): Promise<SharedKeyManager> {
  const host = { sharedKeys: rows, trustDomain, clock, log }
  return await plugin.start(plugin.config.parse(config), host, new AbortController().signal) as SharedKeyManager
}

const fake = await startFakeVault()
t.teardown(() => fake[Symbol.asyncDispose]())
const byVault = ({ address }: { readonly address: string }, key_name = 'assay-kek', token = 'root') =>
  ({ key_encryption_key: { hashicorp_vault: { vault_addr: address, token_auth: { token }, key_name } } })

const vaultMissing = realVaultMissing()
const realVault = vaultMissing === false ? await startRealVault() : undefined
t.teardown(() => realVault?.[Symbol.asyncDispose]())

const hsmMissing = softhsmMissing()
const hsm = hsmMissing === false ? startSoftHsm() : undefined
t.teardown(() => hsm?.[Symbol.dispose]())
const folder = t.testdir({ pin: hsm?.pin ?? '' })
if (hsm !== undefined) {
  for (const [label, id] of [['kek', '01'], ['another', '02']] as const) {
    // softhsm2-util leaves out bytes that are white space.
    writeFileSync(join(folder, label), randomBytes(32).map(byte => byte | 0x80))
    execFileSync('softhsm2-util', [
      '--import', join(folder, label), '--aes', '--token', hsm.tokenLabel, '--label', label, '--id', id, '--pin', hsm.pin
    ], { stdio: 'ignore' })
  }
}
const byToken = (key_label = 'kek') => ({
  key_encryption_key: {
    pkcs11: { module_path: hsm?.modulePath ?? '/nowhere', token_label: hsm?.tokenLabel ?? 'none', pin_file: join(folder, 'pin'), key_label }
  }
})

const awsMissing = motoMissing()
const moto = awsMissing === false ? await startMoto() : undefined
t.teardown(() => moto?.[Symbol.asyncDispose]())
const kms = new KMSClient({
  region: 'eu-central-1', endpoint: moto?.endpoint ?? '', credentials: { accessKeyId: 'a', secretAccessKey: 'b' }
})
t.teardown(() => kms.destroy())
const makeKek = async () => moto === undefined ? 'none' : (await kms.send(new CreateKeyCommand({}))).KeyMetadata?.KeyId as string
const [kek, otherKek] = [await makeKek(), await makeKek()]
const byKms = (key_id = kek, endpoint = moto?.endpoint) => ({
  key_encryption_key: {
    aws_kms: { region: 'eu-central-1', key_id, endpoint, access_key_id: 'AKIDEXAMPLE', secret_access_key: 'hush-hush' }
  }
})

const kinds = {
  'a local peer of Vault': { skip: false, config: () => byVault(fake), other: () => byVault(fake, 'another') },
  'the real Vault or OpenBao': {
    skip: vaultMissing, config: () => byVault(realVault ?? fake), other: () => byVault(realVault ?? fake, 'another')
  },
  'SoftHSM': { skip: hsmMissing, config: () => byToken(), other: () => byToken('another') },
  'AWS KMS, played by moto': { skip: awsMissing, config: () => byKms(), other: () => byKms(otherKek) }
} as const

// Which service it is makes no difference to what a key manager does.
keyManagerContract('database, wrapped elsewhere', () => open(byVault(fake)))

for (const [name, { skip, config, other }] of Object.entries(kinds)) {
  if (skip !== false) t.comment(`${name}: skipped: ${skip}`)
  void t.test(`a key-encryption key elsewhere: ${name}`, { skip }, async t => {
    const rows = new MemoryKeyRows()
    const first = await open(config(), { rows })
    const made = await first.generateKey('x509-CA-A', 'ec-p256')
    await first.generateKey('JWT-Signer-A', 'ec-p256')
    await first[Symbol.asyncDispose]()
    for (const row of rows.rows.values()) t.notMatch(Buffer.from(row).toString('latin1'), /PRIVATE/)
    await using second = await open(config(), { rows })
    const found = second.getKey('x509-CA-A') ?? t.fail('no key')
    t.ok(isSignature(made, await (found as typeof made).sign(data, 'der'), 'der'), 'the same key for who starts later')

    const [a, b] = [...rows.rows.values()] as [Uint8Array, Uint8Array]
    const swapped = new MemoryKeyRows()
    swapped.rows.set('x509-CA-A', b)
    await t.rejects(open(config(), { rows: swapped }), { code: 'key_encryption_key_invalid' }, 'no row passes for another')
    for (const at of [20, a.length - 1]) {
      const changed = new MemoryKeyRows()
      changed.rows.set('x509-CA-A', a.map((byte, index) => index === at ? byte ^ 1 : byte))
      await t.rejects(open(config(), { rows: changed }), { code: /^key_(?:encryption_key_invalid|service_\w+)$/ }, `byte ${at} changed`)
    }
    await open(other()).then(manager => manager[Symbol.asyncDispose]())
    await t.rejects(open(other(), { rows }), { code: /^key_(?:encryption_key_invalid|service_\w+)$/ }, 'another key-encryption key')
  })
}

void t.test('Vault: what is wrong is said at the start', async t => {
  await using vault = await startFakeVault()
  await t.rejects(open(byVault(vault, 'kek', 'stranger')), { code: 'key_service_refused' }, 'with nothing stored yet as well')
  const rows = new MemoryKeyRows()
  {
    await using manager = await open(byVault(vault), { rows })
    await manager.generateKey('a', 'ec-p256')
  }
  await t.rejects(open({ key_encryption_key_file: join(folder, 'none') }, { rows }), { code: 'file_unusable' })
  vault.encryptionKeys.clear()
  await t.rejects(open(byVault(vault), { rows }), { code: 'key_service_key_gone', message: /assay-kek.*key not found/ })
  vault.fault = () => ({ status: 503, text: '{"errors":["Vault is sealed"]}' })
  await t.rejects(open(byVault(vault), { rows }), { code: 'key_service_sealed' })
  const json = (body: unknown) => ({ status: 200, text: JSON.stringify(body) })
  for (const answer of [json({ data: {} }), json({ data: { plaintext: '!' } }), json({ data: { plaintext: 'AAAA' } })]) {
    vault.fault = ({ path }) => path.includes('/decrypt/') ? answer : undefined
    await t.rejects(open(byVault(vault), { rows }), { code: /^key_(?:service_malformed|encryption_key_invalid)$/ }, answer.text)
  }
  await vault.stop()
  await t.rejects(open(byVault(vault), { rows }), { code: 'key_service_unreachable' })
})

void t.test('a rotated key-encryption key wraps what is made from then on, and unwraps what was', async t => {
  await using vault = await startFakeVault()
  const rows = new MemoryKeyRows()
  await using manager = await open(byVault(vault), { rows })
  const before = await manager.generateKey('a', 'ec-p256')
  vault.encryptionKeys.get('assay-kek')?.push(randomBytes(32))
  await manager.generateKey('b', 'ec-p256')
  const text = (id: string) => Buffer.from(rows.rows.get(id) as Uint8Array).toString('latin1')
  t.match([text('a'), text('b')], [/vault:v1:/, /vault:v2:/])
  await using again = await open(byVault(vault), { rows })
  t.strictSame(again.getKey('a')?.publicKey, before.publicKey)
})

void t.test('from a file to elsewhere: both are named until every key was replaced', async t => {
  await using vault = await startFakeVault()
  const rows = new MemoryKeyRows()
  const file = join(t.testdir({ kek: randomBytes(32).toString('hex') }), 'kek')
  const old = await (await open({ key_encryption_key_file: file }, { rows })).generateKey('a', 'ec-p256')
  await t.rejects(open(byVault(vault), { rows }), { code: 'key_encryption_key_invalid', message: /from a file, not by hashicorp_vault/ })
  await using both = await open({ key_encryption_key_file: file, ...byVault(vault) }, { rows })
  t.strictSame(both.getKey('a')?.publicKey, old.publicKey)
  await both.generateKey('a', 'ec-p256')
  await using moved = await open(byVault(vault), { rows })
  t.ok(moved.getKey('a'), 'the file is not needed any more')
  await t.rejects(open({ key_encryption_key_file: file }, { rows }), { code: 'key_encryption_key_invalid' })
})

void t.test('a replica that follows is not held up: a key comes when it can be unwrapped', async t => {
  await using vault = await startFakeVault()
  const rows = new MemoryKeyRows()
  const clock = new ManualClock()
  const { log, lines } = capturedLog()
  await using holder = await open(byVault(vault), { rows })
  const first = await holder.generateKey('a', 'ec-p256')
  await using follower = await open(byVault(vault), { rows, clock, log })
  let arrived = 0
  follower.onArrived?.(async () => { arrived++ })
  const second = await holder.generateKey('b', 'ec-p256')
  const asked = vault.requests.length
  vault.fault = ({ path }) => path.includes('/decrypt/') ? 'hang' : undefined
  const reload = follower.reload()
  await eventually('it is asked', () => vault.requests.length > asked, within)
  t.ok(isSignature(first, await (follower.getKey('a') as typeof first).sign(data, 'der'), 'der'), 'what is there signs meanwhile')
  await clock.advance(1_000)
  await reload
  t.equal(follower.getKey('b'), undefined)
  await follower.reload()
  t.equal(vault.requests.length, asked + 1, 'it is not asked for the same again')
  vault.fault = () => undefined
  await clock.advance(29_000)
  await eventually('the deadline is told', () => lines.some(({ msg }) => /cannot be unwrapped/.test(String(msg))), within)
  await eventually('it waits', () => clock.sleeping > 0, within)
  await clock.advance(10_000)
  await eventually('it has come, and is told', () => arrived === 1, within)
  t.strictSame(follower.getKey('b')?.publicKey, second.publicKey)
  const before = vault.requests.length
  await follower.reload()
  t.equal(vault.requests.length, before, 'what did not change is not asked for')
  await holder.deleteKey?.('a')
  await follower.reload()
  t.strictSame(follower.ids, ['b'])
})

void t.test('AWS KMS: the trust domain is in the context, and answers have their codes', { skip: awsMissing }, async t => {
  await using gate = await startAwsGate(moto?.endpoint ?? '')
  const rows = new MemoryKeyRows()
  const { log, lines } = capturedLog()
  await using manager = await open(byKms(kek, gate.endpoint), { rows, log })
  await manager.generateKey('a', 'ec-p256')
  const call = gate.calls.findLast(({ action }) => action === 'Encrypt')
  t.match(call?.body, { KeyId: kek, EncryptionContext: { 'assay-trust-domain': 'example.org' } })
  t.equal(Buffer.from(String(call?.body['Plaintext']), 'base64').length, 32, 'a data key, not the private key')
  const refusal = (type: string, status = 400) => ({ status, body: JSON.stringify({ __type: type, message: 'so it is' }) })
  for (const [fault, code] of [
    [refusal('AccessDeniedException'), 'key_service_refused'], [refusal('ThrottlingException'), 'key_service_throttled'],
    [refusal('KMSInternalException', 500), 'key_service_failed'], ['cut', 'key_service_unreachable'],
    [{ status: 200, body: '{}' }, 'key_service_malformed'], [refusal('IncorrectKeyException'), 'key_encryption_key_invalid']
  ] as const) {
    gate.fault = () => fault
    await t.rejects(open(byKms(kek, gate.endpoint), { rows, log }), { code }, code)
  }
  gate.fault = () => undefined
  await kms.send(new DisableKeyCommand({ KeyId: kek }))
  gate.fault = ({ action }) => action === 'Decrypt' ? refusal('DisabledException') : undefined
  await t.rejects(open(byKms(kek, gate.endpoint), { rows }), { code: 'key_service_key_gone' })
  await kms.send(new EnableKeyCommand({ KeyId: kek }))
  t.notMatch(JSON.stringify(lines), /hush-hush/)
})

void t.test('PKCS#11: a key that is not there', { skip: hsmMissing }, async t => {
  await t.rejects(open(byToken('none')), { code: 'key_service_key_gone', message: /no secret key labelled "none"/ })
})

void t.test('configuration', t => {
  const vault = { vault_addr: 'https://vault.test', token_auth: {}, key_name: 'a' }
  const pkcs11 = { module_path: '/a.so', token_label: 'b', key_label: 'c' }
  const good = { key_encryption_key: { hashicorp_vault: vault } }
  for (const config of [
    good, { ...good, key_encryption_key_file: 'a' }, { key_encryption_key: { pkcs11 } }, { key_encryption_key_credential: 'a' }
  ]) {
    t.ok(plugin.config.safeParse(config).success, JSON.stringify(config))
  }
  for (const config of [
    {}, { key_encryption_key: {} }, { key_encryption_key: { hashicorp_vault: vault, pkcs11 } },
    { key_encryption_key: { hashicorp_vault: { ...vault, key_name: 'a/b' } } },
    { key_encryption_key: { hashicorp_vault: { ...vault, token_auth: undefined } } },
    { key_encryption_key: { aws_kms: { region: 'eu-central-1' } } }, { key_encryption_key: { pkcs11: { ...pkcs11, key_label: '' } } },
    { ...good, key_encryption_key_file: 'a', key_encryption_key_credential: 'b' }
  ]) t.notOk(plugin.config.safeParse(config).success, JSON.stringify(config))
  t.end()
})
