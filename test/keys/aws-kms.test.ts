import t from 'tap'
import { aliasOf } from '../../src/keys/aws-kms/aws-kms-key-service.ts'
import { awsKmsKeyManagerPlugin as plugin } from '../../src/keys/aws-kms/aws-kms-plugin.ts'
import type { KeyManager } from '../../src/keys/key-manager.ts'
import { systemClock, type Clock } from '../../src/runtime/clock.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { startAwsGate as startGate, type AwsFault as Fault } from '../fakes/aws-gate.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { motoMissing, startMoto } from '../fakes/moto.ts'
import { MemoryKeyRows } from '../fakes/shared-key-rows.ts'
import { data, isSignature, keyManagerContract } from './key-manager-contract.ts'

const trustDomain = parseTrustDomain('example.org')
const credentials = { access_key_id: 'AKIDEXAMPLE', secret_access_key: 'hush-hush' }
const skip = motoMissing()
const moto = skip === false ? await startMoto() : undefined
t.teardown(() => moto?.[Symbol.asyncDispose]())

interface OpenOptions { readonly rows?: MemoryKeyRows, readonly clock?: Clock, readonly log?: ReturnType<typeof capturedLog>['log'] }

async function open (
  endpoint: string, { rows = new MemoryKeyRows(), clock = systemClock, log = capturedLog().log }: OpenOptions = {}, more: object = {}
): Promise<KeyManager> {
  const config = plugin.config.parse({ region: 'eu-central-1', endpoint, ...credentials, ...more })
  return await plugin.start(config, { sharedKeys: rows, trustDomain, clock, log }, new AbortController().signal)
}

keyManagerContract('AWS KMS, played by moto', () => open(moto?.endpoint ?? ''), { remote: true, skip })

void t.test('keys through restarts, with alias and tags', { skip }, async t => {
  await using gate = await startGate(moto?.endpoint ?? '')
  const rows = new MemoryKeyRows()
  const first = await open(gate.endpoint, { rows }, { key_tags: { team: 'identity' }, key_identifier_value: 'replicas' })
  const made = await first.generateKey('JWT-Signer-A', 'ec-p384')
  await first[Symbol.asyncDispose]()
  const [create, alias] = ['CreateKey', 'CreateAlias'].map(action => gate.calls.find(call => call.action === action)?.body)
  t.match(create, { Description: 'ASSAY_SERVER/example.org', KeySpec: 'ECC_NIST_P384', KeyUsage: 'SIGN_VERIFY' })
  t.strictSame(create?.['Tags'], [
    { TagKey: 'team', TagValue: 'identity' },
    { TagKey: 'assay-trust-domain', TagValue: 'example.org' },
    { TagKey: 'assay-server', TagValue: 'replicas' }
  ])
  t.match(alias?.['AliasName'], /^alias\/ASSAY_SERVER\/example_org\/replicas-JWT-Signer-A-[0-9a-f]{12}$/)
  t.match(gate.calls[0]?.headers['authorization'], /^AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE\/\d{8}\/eu-central-1\/kms\//)
  t.notMatch(JSON.stringify(gate.calls), /hush-hush/)

  await using second = await open(gate.endpoint, { rows })
  const found = second.getKey('JWT-Signer-A') as typeof made
  t.ok(isSignature(made, await found.sign(data, 'ieee-p1363'), 'ieee-p1363'))
  const removed = () => gate.calls.filter(({ action }) => action === 'ScheduleKeyDeletion').length
  await second.generateKey('JWT-Signer-A', 'ec-p256')
  t.equal(removed(), 0, 'who holds the old key goes on signing')
  await second.generateKey('JWT-Signer-A', 'ec-p256')
  t.equal(removed(), 1)
  await t.rejects(found.sign(data, 'der'), { code: 'key_service_key_gone' }, 'a key whose removal is planned signs no more')
})

void t.test('a key that was removed behind our back is seen at a start', { skip }, async t => {
  await using gate = await startGate(moto?.endpoint ?? '')
  const rows = new MemoryKeyRows()
  await using manager = await open(gate.endpoint, { rows })
  await manager.generateKey('a', 'ec-p256')
  const location = (JSON.parse(Buffer.from(rows.rows.get('a') as Uint8Array).toString()) as { location: string }).location
  const { KMSClient, ScheduleKeyDeletionCommand } = await import('@aws-sdk/client-kms')
  const operator = new KMSClient({
    region: 'eu-central-1', endpoint: moto?.endpoint ?? '', credentials: { accessKeyId: 'a', secretAccessKey: 'b' }
  })
  await operator.send(new ScheduleKeyDeletionCommand({ KeyId: location, PendingWindowInDays: 7 }))
  operator.destroy()
  await using again = await open(gate.endpoint, { rows })
  // moto still shows the public key of such a key, KMS does not: signing is what tells.
  await again.getKey('a')?.sign(data, 'der').catch(() => {})
  t.equal(again.getKey('a'), undefined)
})

void t.test('answers that are refused, by code', { skip }, async t => {
  await using gate = await startGate(moto?.endpoint ?? '')
  const { log, lines } = capturedLog()
  await using manager = await open(gate.endpoint, { log })
  const key = await manager.generateKey('a', 'ec-p256')
  const refusal = (type: string, status = 400) => ({ status, body: JSON.stringify({ __type: type, message: 'so it is' }) })
  const cases: Array<[string, Fault, string, number]> = [
    ['throttled', refusal('ThrottlingException'), 'key_service_throttled', 3],
    ['forbidden', refusal('AccessDeniedException'), 'key_service_refused', 1],
    ['unknown credentials', refusal('UnrecognizedClientException'), 'key_service_refused', 1],
    ['internal', refusal('KMSInternalException', 500), 'key_service_failed', 3],
    ['a gateway', { status: 502, body: '<html>' }, 'key_service_failed', 3],
    ['cut', 'cut', 'key_service_unreachable', 3],
    ['no JSON', { status: 200, body: '<html>' }, 'key_service_malformed', 1],
    ['no signature', { status: 200, body: '{}' }, 'key_service_malformed', 1],
    ['a signature of nothing', { status: 200, body: '{"Signature":"MAYCAQECAQE="}' }, 'key_service_malformed', 1],
    ['a long one', { status: 200, body: `{"Signature":"${Buffer.alloc(2_000).toString('base64')}"}` }, 'key_service_malformed', 1]
  ]
  for (const [what, fault, code, calls] of cases) {
    gate.fault = () => fault
    const before = gate.calls.length
    const error = await key.sign(data, 'der').then(() => undefined, (error: Error) => error)
    t.match(error, { code }, what)
    t.equal(gate.calls.length - before, calls, `${what}: asked ${calls} times`)
    t.equal(error?.cause, undefined, 'the lower error holds the request')
  }
  gate.fault = () => undefined
  t.ok(isSignature(key, await key.sign(data, 'der'), 'der'))
  t.notMatch(JSON.stringify(lines), /hush-hush/)

  gate.fault = ({ action }) => action === 'CreateAlias' ? refusal('AccessDeniedException') : undefined
  await t.rejects(manager.generateKey('b', 'ec-p256'), { code: 'key_service_refused', message: /name a key/ })
  t.equal(gate.calls.at(-1)?.action, 'ScheduleKeyDeletion', 'a key without a name is removed')
  gate.fault = ({ action }) => action === 'CreateKey' ? refusal('KMSInternalException', 500) : undefined
  const before = gate.calls.length
  await t.rejects(manager.generateKey('b', 'ec-p256'), { code: 'key_service_failed' })
  t.equal(gate.calls.length - before, 1, 'making is never repeated: each attempt could leave a key')
})

void t.test('who does not answer is waited for ten seconds', { skip }, async t => {
  await using gate = await startGate(moto?.endpoint ?? '')
  const clock = new ManualClock()
  await using manager = await open(gate.endpoint, { clock })
  const key = await manager.generateKey('a', 'ec-p256')
  gate.fault = () => 'hang'
  const waiting = key.sign(data, 'der').then(() => undefined, (error: Error) => error)
  await eventually('it is asked', () => gate.calls.at(-1)?.action === 'Sign' && clock.sleeping > 0)
  await clock.advance(10_000)
  t.match(await waiting, { code: 'key_service_unreachable' })
})

void t.test('configuration', async t => {
  const good = { region: 'eu-central-1' }
  t.ok(plugin.config.safeParse(good).success)
  t.ok(plugin.config.safeParse({ ...good, key_identifier_value: 'a', enable_tag_based_key_discovery: true }).success, 'as SPIRE has it')
  for (const more of [{ region: '' }, { access_key_id: 'a' }, { endpoint: 'kms' }, { key_metadata_file: 'x' }, { key_tags: { a: 1 } }]) {
    t.notOk(plugin.config.safeParse({ ...good, ...more }).success, JSON.stringify(more))
  }
  await t.rejects(open('http://127.0.0.1:1', {}, { key_policy_file: '/nowhere' }), { code: 'file_unusable' })
  t.ok(aliasOf('a'.repeat(255), 'b'.repeat(255)).length <= 256)
  t.match(aliasOf('td.example', 'x-JWT-Signer-A-1.2'), /^alias\/[A-Za-z0-9/_-]+$/)
})
