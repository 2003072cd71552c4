import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { awsFailureOf } from '../../src/aws/aws-failure.ts'
import { checkMinted } from '../../src/ca/check-minted.ts'
import type { UpstreamTrust } from '../../src/ca/upstream-authority.ts'
import { systemClock, type Clock } from '../../src/runtime/clock.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { awsPcaUpstreamPlugin as plugin } from '../../src/upstream/aws-pca/aws-pca-plugin.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { startAwsGate, type AwsFault } from '../fakes/aws-gate.ts'
import { createTestCa, pemOf } from '../fakes/ca-files.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { motoMissing, startMoto } from '../fakes/moto.ts'
import { makePrivateCa, operatePrivateCa, region } from '../fakes/private-ca.ts'
import { key, order } from './ca-order.ts'

const trustDomain = parseTrustDomain('example.org')
const { signal } = new AbortController()
process.env['AWS_ACCESS_KEY_ID'] = 'AKIDEXAMPLE'
process.env['AWS_SECRET_ACCESS_KEY'] = 'hush-hush'

const skip = motoMissing()
if (skip !== false) t.comment(`AWS Private CA: skipped: ${skip}`)
const moto = skip === false ? await startMoto() : undefined
t.teardown(() => moto?.[Symbol.asyncDispose]())
const endpoint = moto?.endpoint ?? ''

const arn = moto === undefined ? '' : await makePrivateCa(endpoint, 'Corporate root')

async function start (config: object, clock: Clock = new ManualClock(new Date()), log = capturedLog().log) {
  const parsed = plugin.config.parse({ region, certificate_authority_arn: arn, endpoint, ...config })
  return await plugin.start(parsed, { trustDomain, clock, log }, signal)
}

void t.test('a CA that AWS Private CA signs', { skip }, async t => {
  await using gate = await startAwsGate(endpoint)
  await using upstream = await start({ endpoint: gate.endpoint })
  const minted = await upstream.mintX509Ca(order, signal)
  const { certificate, notAfter } = await checkMinted(minted, { key, trustDomain, clock: systemClock })
  t.same(certificate.uriSans, ['spiffe://example.org'], 'ID-16')
  t.equal(certificate.pathLength, 0, 'the usual template: leaves alone below it')
  t.match(Buffer.from(certificate.subjectDer).toString('latin1'), /Example/, 'the subject of the request')
  t.ok(Math.abs(notAfter.getTime() - Date.now() - 3_600_000) < 60_000, 'the ttl that was asked for')
  t.equal(minted.chain.length, 1)
  t.match(Buffer.from(parseCertificate(minted.roots[0]?.certificate as Uint8Array).subjectDer).toString('latin1'), /Corporate root/)
  t.strictSame(gate.calls.map(({ action }) => action), ['DescribeCertificateAuthority', 'IssueCertificate', 'GetCertificate'])
  t.match(gate.calls[1]?.body, {
    CertificateAuthorityArn: arn, SigningAlgorithm: 'SHA256WITHRSA', Validity: { Type: 'ABSOLUTE' },
    TemplateArn: 'arn:aws:acm-pca:::template/SubordinateCACertificate_PathLen0/V1'
  })
  t.match(gate.calls[1]?.headers, {
    'x-amz-target': 'ACMPrivateCA.IssueCertificate',
    'authorization': /^AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE\/\d{8}\/eu-central-1\/acm-pca\//
  })
  t.notMatch(JSON.stringify(gate.calls), /hush-hush/)

  await using other = await start({
    endpoint: gate.endpoint, signing_algorithm: 'SHA512WITHRSA',
    ca_signing_template_arn: 'arn:aws:acm-pca:::template/SubordinateCACertificate_PathLen2/V1'
  })
  const long = await other.mintX509Ca({ ...order, ttlSeconds: 100 * 365 * 86_400 }, signal)
  const deeper = await checkMinted(long, { key, trustDomain, clock: systemClock })
  t.equal(deeper.certificate.pathLength, 2)
  t.equal(gate.calls.at(-2)?.body['SigningAlgorithm'], 'SHA512WITHRSA')
  t.ok(deeper.certificate.notAfter <= (deeper.path.at(-1)?.notAfter ?? 0), 'never asked to live longer than the CA itself')
})

void t.test('a certificate that takes its time is waited for, trouble on the way or not', { skip }, async t => {
  await using gate = await startAwsGate(endpoint)
  const clock = new ManualClock(new Date())
  await using upstream = await start({ endpoint: gate.endpoint }, clock)
  const faults: AwsFault[] = [
    { status: 400, body: '{"__type":"RequestInProgressException","message":"not yet"}' }, 'cut',
    { status: 400, body: '{"__type":"ThrottlingException","message":"slow down"}' }, { status: 502, body: '<html>' }
  ]
  gate.fault = ({ action }) => action === 'GetCertificate' ? faults.shift() : undefined
  const minting = upstream.mintX509Ca(order, signal)
  for (let look = 1; look <= 4; look++) {
    await eventually('it waits', () => clock.sleeping === 1 && gate.calls.length === 2 + look, 60_000)
    await clock.advance(500)
  }
  t.ok(await checkMinted(await minting, { key, trustDomain, clock: systemClock }))
  t.equal(gate.calls.filter(({ action }) => action === 'IssueCertificate').length, 1, 'ordered, and paid for, once')

  gate.fault = ({ action }) => action === 'GetCertificate' ? { status: 400, body: '{"__type":"RequestInProgressException"}' } : undefined
  const stop = new AbortController()
  const late = upstream.mintX509Ca(order, stop.signal)
  await eventually('it waits again', () => clock.sleeping === 1, 60_000)
  stop.abort()
  await t.rejects(late, { code: 'upstream_unavailable', message: /did not give it in time/ })
})

void t.test('what AWS refuses, and answers that are of no use', { skip }, async t => {
  await using gate = await startAwsGate(endpoint)
  const { log, lines } = capturedLog()
  await using upstream = await start({ endpoint: gate.endpoint }, undefined, log)
  const refusal = (type: string, status = 400) =>
    ({ status, body: JSON.stringify({ __type: `com.amazonaws#${type}`, message: 'so it is' }) })
  const other = pemOf(await createTestCa())
  const issued = (answer: object) => ({ status: 200, body: JSON.stringify(answer) })
  const cases: Array<[string, string, AwsFault, string, RegExp]> = [
    ['throttled', 'IssueCertificate', refusal('ThrottlingException'), 'upstream_unavailable', /not issue a CA: ThrottlingException: so/],
    ['over a limit', 'IssueCertificate', refusal('LimitExceededException'), 'upstream_unavailable', /LimitExceeded/],
    ['internal', 'DescribeCertificateAuthority', refusal('InternalServiceError', 500), 'upstream_unavailable', /describe the CA/],
    ['a gateway', 'IssueCertificate', { status: 504, body: '<html>' }, 'upstream_unavailable', /JSON/],
    ['cut', 'IssueCertificate', 'cut', 'upstream_unavailable', /issue/],
    ['forbidden', 'IssueCertificate', refusal('AccessDeniedException'), 'upstream_refused', /AccessDenied/],
    ['an algorithm of another key', 'IssueCertificate', refusal('ValidationException'), 'upstream_refused', /Validation/],
    ['issuing failed', 'GetCertificate', refusal('RequestFailedException'), 'upstream_refused', /does not give what it issued/],
    ['no JSON', 'IssueCertificate', { status: 200, body: '<html>' }, 'upstream_invalid', /JSON/],
    ['a name twice', 'IssueCertificate', { status: 200, body: '{"CertificateArn":"a","CertificateArn":"b"}' }, 'upstream_invalid', /JSON/],
    ['no ARN', 'IssueCertificate', issued({}), 'upstream_invalid', /without the ARN/],
    ['no CA', 'DescribeCertificateAuthority', issued({}), 'upstream_invalid', /without CertificateAuthority/],
    ['no algorithm', 'DescribeCertificateAuthority', issued({ CertificateAuthority: { Status: 'ACTIVE' } }), 'upstream_invalid',
      /algorithm/],
    ['no chain', 'GetCertificate', issued({ Certificate: other }), 'upstream_invalid', /those above it/],
    ['half a certificate', 'GetCertificate', issued({ Certificate: other.slice(0, 200), CertificateChain: other }), 'upstream_invalid',
      /no end/],
    ['a chain without end', 'GetCertificate', issued({ Certificate: other, CertificateChain: other.repeat(17) }), 'upstream_invalid', /16/],
    ['more than it should', 'GetCertificate', { status: 200, body: ' '.repeat(1024 * 1024 + 1) }, 'upstream_invalid', /bytes/]
  ]
  for (const [what, action, fault, code, message] of cases) {
    gate.fault = call => call.action === action ? fault : undefined
    const error = await upstream.mintX509Ca(order, signal).then(() => undefined, (error: Error) => error)
    t.match(error, { code, message }, what)
    t.equal(error?.cause instanceof Error && !('code' in error.cause), false, 'the lower error holds the request')
  }
  gate.fault = ({ action }) => action === 'GetCertificate' ? issued({ Certificate: other, CertificateChain: other }) : undefined
  await t.rejects(upstream.mintX509Ca(order, signal).then(minted => checkMinted(minted, { key, trustDomain, clock: systemClock })),
    { code: 'upstream_invalid' }, 'a certificate of somebody else, or that does not chain')
  gate.fault = () => 'hang'
  const stop = new AbortController()
  const asked = gate.calls.length
  const slow = upstream.mintX509Ca(order, stop.signal)
  await eventually('it is asked', () => gate.calls.length > asked, 60_000)
  stop.abort()
  await t.rejects(slow, { code: 'upstream_unavailable' }, 'it never answers, and the caller has waited long enough')
  gate.fault = () => undefined
  t.ok(await upstream.mintX509Ca(order, signal), 'and everything is well again')
  t.notMatch(JSON.stringify(lines), /hush-hush/)
  await gate[Symbol.asyncDispose]()
  await t.rejects(upstream.mintX509Ca(order, signal), { code: 'upstream_unavailable' }, 'gone')
})

void t.test('a CA that is not ACTIVE, or not there', { skip }, async t => {
  const own = await makePrivateCa(endpoint, 'Another root')
  await using upstream = await start({ certificate_authority_arn: own })
  t.ok(await upstream.mintX509Ca(order, signal))
  await operatePrivateCa(endpoint, 'UpdateCertificateAuthority', { CertificateAuthorityArn: own, Status: 'DISABLED' })
  await t.rejects(upstream.mintX509Ca(order, signal), { code: 'upstream_refused', message: /is DISABLED/ })
  await operatePrivateCa(endpoint, 'UpdateCertificateAuthority', { CertificateAuthorityArn: own, Status: 'ACTIVE' })
  t.ok(await upstream.mintX509Ca(order, signal), 'switched on, it signs again')
  await using elsewhere = await start({ region: 'us-east-1', certificate_authority_arn: own.replace(region, 'us-east-1') })
  await t.rejects(elsewhere.mintX509Ca(order, signal), { code: 'upstream_refused', message: /ResourceNotFound/ }, 'the wrong region')
})

void t.test('with the credentials of a role', { skip }, async t => {
  await using gate = await startAwsGate(endpoint)
  process.env['AWS_ENDPOINT_URL_STS'] = gate.endpoint
  t.teardown(() => { delete process.env['AWS_ENDPOINT_URL_STS'] })
  const role = 'arn:aws:iam::123456789012:role/sign/assay'
  await using upstream = await start({ endpoint: gate.endpoint, assume_role_arn: role })
  t.ok(await checkMinted(await upstream.mintX509Ca(order, signal), { key, trustDomain, clock: systemClock }))
  t.match(gate.calls[0], { action: 'AssumeRole', body: { RoleArn: role, RoleSessionName: 'assay', DurationSeconds: '3600' } })
  t.equal(gate.calls.filter(({ action }) => action === 'AssumeRole').length, 1, 'once for all calls')
  t.match(gate.calls[1]?.headers, { 'authorization': /Credential=(?!AKIDEXAMPLE)/, 'x-amz-security-token': /./ }, 'the role\'s own')
  gate.fault = ({ action }) => action === 'AssumeRole'
    ? { status: 403, body: '<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>' }
    : undefined
  await using refused = await start({ endpoint: gate.endpoint, assume_role_arn: role })
  await t.rejects(refused.mintX509Ca(order, signal), { code: 'upstream_refused', message: /AccessDenied: not you/ })
})

void t.test('roots of the file besides: with each CA, and as soon as they are there', { skip }, async t => {
  const [one, two] = [await createTestCa(), await createTestCa()]
  const path = join(t.testdir({ 'roots.pem': pemOf(one) }), 'roots.pem')
  const clock = new ManualClock(new Date())
  const { log, lines } = capturedLog()
  await using upstream = await start({ supplemental_bundle_path: path }, clock, log)
  const { roots } = await upstream.mintX509Ca(order, signal)
  t.same(roots.slice(1).map(({ certificate }) => certificate), [one.certificate.raw])
  const stop = new AbortController()
  const seen: UpstreamTrust[] = []
  const watching = (async () => { for await (const trust of upstream.watch?.(stop.signal) ?? []) seen.push(trust) })().catch(() => {})
  await eventually('it is told', () => seen.length === 1 && clock.sleeping === 1, 60_000)
  await writeFile(path, pemOf(one, two).slice(0, -40))
  await clock.advance(5_000)
  await eventually('half a file is told of', () => lines.some(({ level }) => level === 'warn') && clock.sleeping === 1, 60_000)
  await t.rejects(upstream.mintX509Ca(order, signal), { code: 'upstream_invalid' }, 'and nothing is ordered with it')
  await writeFile(path, pemOf(one, two))
  await clock.advance(5_000)
  await eventually('new ones are told', () => seen.length === 2, 60_000)
  t.equal(seen[1]?.x509Authorities.length, 2)
  t.equal(seen[1]?.complete, false, 'what is gone from a file is not revoked')
  stop.abort()
  await watching
  await t.rejects(start({ supplemental_bundle_path: join(path, 'none') }), { code: 'file_unusable' }, 'looked at when the server starts')
})

void t.test('configuration', t => {
  const good = { region: 'eu-central-1', certificate_authority_arn: 'arn:aws:acm-pca:eu-central-1:123456789012:certificate-authority/a-1' }
  t.ok(plugin.config.safeParse(good).success)
  t.ok(plugin.config.safeParse({ ...good, assume_role_arn: 'arn:aws:iam::123456789012:role/x', endpoint: 'https://pca.test' }).success)
  for (const more of [
    { region: 'us-east-1' }, { region: '' }, { certificate_authority_arn: 'a-1' }, { signing_algorithm: 'SHA1WITHRSA' },
    { endpoint: 'pca' },
    { ca_signing_template_arn: 'PathLen0' }, { assume_role_arn: 'x' }, { access_key_id: 'a' }, { supplemental_bundle_path: '' }
  ]) t.notOk(plugin.config.safeParse({ ...good, ...more }).success, JSON.stringify(more))
  t.match(awsFailureOf(Object.assign(new Error('x'), { code: 'ECONNREFUSED' })), { kind: 'unreachable' })
  t.end()
})
