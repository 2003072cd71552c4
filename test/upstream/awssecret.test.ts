import { SecretsManagerClient, CreateSecretCommand, PutSecretValueCommand } from '@aws-sdk/client-secrets-manager'
import t from 'tap'
import { checkMinted } from '../../src/ca/check-minted.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { awsSecretUpstreamPlugin as plugin } from '../../src/upstream/awssecret/awssecret-plugin.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { startAwsGate, type AwsFault } from '../fakes/aws-gate.ts'
import { createTestCa, keyPemOf, pemOf } from '../fakes/ca-files.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { motoMissing, startMoto } from '../fakes/moto.ts'
import { key, order } from './ca-order.ts'

const region = 'eu-central-1'
const credentials = { access_key_id: 'AKIDEXAMPLE', secret_access_key: 'hush-hush' }
const trustDomain = parseTrustDomain('example.org')
const { signal } = new AbortController()

const skip = motoMissing()
if (skip !== false) t.comment(`AWS Secrets Manager: skipped: ${skip}`)
const moto = skip === false ? await startMoto() : undefined
t.teardown(() => moto?.[Symbol.asyncDispose]())
const gate = await startAwsGate(moto?.endpoint ?? '')
t.teardown(() => gate[Symbol.asyncDispose]())
// The plugin has no key for it, as SPIRE's has none: AWS's own variables.
process.env['AWS_ENDPOINT_URL_SECRETS_MANAGER'] = gate.endpoint
process.env['AWS_ENDPOINT_URL_STS'] = gate.endpoint

const operator = new SecretsManagerClient({
  region, endpoint: moto?.endpoint ?? '', credentials: { accessKeyId: 'a', secretAccessKey: 'b' }
})
t.teardown(() => operator.destroy())

let made = 0
/** @returns its ARN */
async function secretOf (SecretString: string): Promise<string> {
  const { ARN } = await operator.send(new CreateSecretCommand({ Name: `upstream/${made++}`, SecretString }))
  return ARN ?? ''
}
const put = (SecretId: string, SecretString: string) => operator.send(new PutSecretValueCommand({ SecretId, SecretString }))

async function start (config: object, log = capturedLog().log) {
  const parsed = plugin.config.parse({ region, ...credentials, ...config })
  return await plugin.start(parsed, { trustDomain, clock: new ManualClock(new Date()), log }, signal)
}

void t.test('a root in secrets signs, by ARN or by name, also one in bytes', { skip }, async t => {
  const root = await createTestCa()
  const [cert_file_arn, key_file_arn] = [await secretOf(pemOf(root)), await secretOf(keyPemOf(root))]
  await using upstream = await start({ cert_file_arn, key_file_arn, secret_token: 'session' })
  const minted = await upstream.mintX509Ca(order, signal)
  const { certificate, notAfter } = await checkMinted(minted, { key, trustDomain, clock: systemClock })
  t.same(certificate.uriSans, ['spiffe://example.org'], 'ID-16')
  t.ok(Math.abs(notAfter.getTime() - Date.now() - 3_600_000) < 60_000)
  t.same(minted.roots, [{ certificate: root.certificate.raw, tainted: false }])
  t.match(gate.calls.at(-1)?.headers, {
    'authorization': /Credential=AKIDEXAMPLE\/\d{8}\/eu-central-1\/secretsmanager\//, 'x-amz-security-token': 'session'
  })
  await operator.send(new CreateSecretCommand({ Name: 'by/name', SecretBinary: Buffer.from(pemOf(root)) }))
  await using named = await start({ cert_file_arn: 'by/name', key_file_arn })
  t.ok(await checkMinted(await named.mintX509Ca(order, signal), { key, trustDomain, clock: systemClock }))
})

void t.test('an intermediate in secrets needs its roots; new secrets count from the next order', { skip }, async t => {
  const root = await createTestCa()
  const middle = await createTestCa({ issuer: root })
  const [cert_file_arn, key_file_arn] = [await secretOf(pemOf(middle)), await secretOf(keyPemOf(middle))]
  await using rootless = await start({ cert_file_arn, key_file_arn })
  await t.rejects(rootless.mintX509Ca(order, signal), { code: 'upstream_invalid', message: /bundle_file_arn/ })
  const bundle_file_arn = await secretOf(pemOf(root))
  await using upstream = await start({ cert_file_arn, key_file_arn, bundle_file_arn })
  const minted = await upstream.mintX509Ca(order, signal)
  t.ok(await checkMinted(minted, { key, trustDomain, clock: systemClock }))
  t.same(minted.chain[1], middle.certificate.raw)

  const next = await createTestCa()
  await put(cert_file_arn, pemOf(next))
  await t.rejects(upstream.mintX509Ca(order, signal), { code: 'upstream_invalid', message: /is not the key of the first certificate/ },
    'between one secret and the other nothing is signed')
  await put(key_file_arn, keyPemOf(next))
  const stranded = await upstream.mintX509Ca(order, signal)
  await t.rejects(checkMinted(stranded, { key, trustDomain, clock: systemClock }), { code: 'upstream_invalid' }, 'it does not chain')
  await put(bundle_file_arn, pemOf(root, next))
  const { chain, roots } = await upstream.mintX509Ca(order, signal)
  t.equal(roots.length, 2)
  t.same(parseCertificate(chain[0] as Uint8Array).authorityKeyId, next.certificate.subjectKeyId)
})

void t.test('what AWS refuses, and secrets that are of no use', { skip }, async t => {
  const root = await createTestCa()
  const [cert_file_arn, key_file_arn] = [await secretOf(pemOf(root)), await secretOf(keyPemOf(root))]
  const { log, lines } = capturedLog()
  await using upstream = await start({ cert_file_arn, key_file_arn }, log)
  const refusal = (type: string, status = 400) => ({ status, body: JSON.stringify({ __type: type, message: 'so it is' }) })
  const secret = (SecretString?: string) => ({ status: 200, body: JSON.stringify({ SecretString }) })
  const cases: Array<[string, AwsFault, string, RegExp]> = [
    ['throttled', refusal('ThrottlingException'), 'upstream_unavailable', /does not give arn:.*: ThrottlingException: so it is/],
    ['internal', refusal('InternalServiceError', 500), 'upstream_unavailable', /Internal/],
    ['a gateway', { status: 502, body: '<html>' }, 'upstream_unavailable', /./],
    ['cut', 'cut', 'upstream_unavailable', /./],
    ['forbidden', refusal('AccessDeniedException'), 'upstream_refused', /AccessDenied/],
    ['its KMS key is gone', refusal('DecryptionFailure'), 'upstream_refused', /DecryptionFailure/],
    ['planned for removal', refusal('InvalidRequestException'), 'upstream_refused', /InvalidRequest/],
    ['no JSON', { status: 200, body: '<html>' }, 'upstream_invalid', /./],
    ['no secret in it', secret(), 'upstream_invalid', /is empty/],
    ['a long one', secret(' '.repeat(65_537)), 'upstream_invalid', /too long/],
    ['no key', secret('nothing'), 'upstream_invalid', /no private key in PEM/],
    ['half a key', secret(keyPemOf(root).slice(0, 90)), 'upstream_invalid', /no private key in PEM that is whole/]
  ]
  for (const [what, fault, code, message] of cases) {
    gate.fault = ({ body }) => body['SecretId'] === key_file_arn ? fault : undefined
    const error = await upstream.mintX509Ca(order, signal).then(() => undefined, (error: Error) => error)
    t.match(error, { code, message }, what)
    t.notMatch(error?.message, /MII|BEGIN|hush-hush/, 'no content is told')
    t.equal(error?.cause, undefined, 'the lower error holds the request')
  }
  gate.fault = () => 'hang'
  const stop = new AbortController()
  const asked = gate.calls.length
  const slow = upstream.mintX509Ca(order, stop.signal)
  await eventually('it is asked', () => gate.calls.length >= asked + 2, 60_000)
  stop.abort()
  await t.rejects(slow, { code: 'upstream_unavailable' }, 'it never answers, and the caller has waited long enough')
  gate.fault = () => undefined
  t.ok(await upstream.mintX509Ca(order, signal), 'and everything is well again')
  await using elsewhere = await start({ cert_file_arn: 'upstream/none', key_file_arn })
  await t.rejects(elsewhere.mintX509Ca(order, signal), { code: 'upstream_refused', message: /ResourceNotFound/ })
  t.notMatch(JSON.stringify(lines), /hush-hush/)
})

void t.test('with the credentials of a role', { skip }, async t => {
  const root = await createTestCa()
  const [cert_file_arn, key_file_arn] = [await secretOf(pemOf(root)), await secretOf(keyPemOf(root))]
  const assume_role_arn = 'arn:aws:iam::123456789012:role/read'
  await using upstream = await start({ cert_file_arn, key_file_arn, assume_role_arn })
  const before = gate.calls.length
  t.ok(await upstream.mintX509Ca(order, signal))
  const [first, ...others] = gate.calls.slice(before)
  t.match(first, { action: 'AssumeRole', body: { RoleArn: assume_role_arn }, headers: { authorization: /Credential=AKIDEXAMPLE/ } })
  t.strictSame(others.map(({ action }) => action), ['GetSecretValue', 'GetSecretValue'])
  for (const { headers } of others) t.notMatch(headers.authorization, /AKIDEXAMPLE/)
})

void t.test('configuration', t => {
  const good = { region, cert_file_arn: 'arn:aws:secretsmanager:eu-central-1:123456789012:secret:cert-a', key_file_arn: 'key' }
  t.ok(plugin.config.safeParse(good).success)
  t.ok(plugin.config.safeParse({ ...good, ...credentials, security_token: 'x' }).success)
  for (const more of [
    { region: 'us-east-1' }, { key_file_arn: good.cert_file_arn }, { bundle_file_arn: '' }, { access_key_id: 'a' }, { secret_token: 'x' },
    { ...credentials, secret_token: 'x', security_token: 'x' }, { endpoint: 'https://x' }, { cert_file_arn: 'a b' }
  ]) t.notOk(plugin.config.safeParse({ ...good, ...more }).success, JSON.stringify(more))
  t.end()
})
