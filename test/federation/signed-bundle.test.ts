import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { EndpointPlace, FilePlace } from '../../src/federation/client/document-place.ts'
import { defaultFetchLimits } from '../../src/federation/client/fetch-limits.ts'
import { SignedSource } from '../../src/federation/client/signed-source.ts'
import { WebRoots } from '../../src/federation/client/web-roots.ts'
import { readSignedBundle } from '../../src/federation/signed-bundle/read-signed-bundle.ts'
import { writeSignedBundle } from '../../src/federation/signed-bundle/write-signed-bundle.ts'
import { parseInvitation } from '../../src/federation/invitation/read-invitation.ts'
import { parseToken } from '../../src/jwt/parse-token.ts'
import { signJws, type StatementType } from '../../src/jwt/sign-jws.ts'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { parseBundleEndpoint } from '../../src/spiffe/bundle-endpoint.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { ManualClock } from '../fakes/clock.ts'
import { document, startFakePartner } from './fake-partner.ts'
import { createWebCa } from './web-ca.ts'

const never = new AbortController().signal
const [partner, other] = await Promise.all([createTestAuthority('partner.test'), createTestAuthority('partner.test')])
const { trustDomain } = partner
const at = new Date('2026-06-01T12:00:00Z')
const expiresAt = new Date(at.getTime() + 60_000)
const published: Bundle = { ...partner.bundle, sequenceNumber: 2n ** 63n + 1n, refreshHintSeconds: 300 }
const sign = (payload: string, typ: StatementType = 'assay-bundle+jwt') => signJws(payload, typ, partner.jwtKey)
const write = async (bundle = published) => await writeSignedBundle(bundle, expiresAt, sign)
const read = (text: string | Uint8Array, lastGood: Bundle | undefined = partner.bundle, now = at, notes: string[] = []) =>
  readSignedBundle(Buffer.from(text), trustDomain, defaultFetchLimits, { lastGood, at: now }, note => notes.push(note))

void t.test('what a partner signed is read by whoever has its last bundle', async t => {
  const text = await write()
  t.same(read(text), published)
  t.same(read(`${text}\n`), published, 'a file ends with a line')
  const renewed = { ...published, x509Authorities: other.bundle.x509Authorities }
  t.same(read(await write(renewed)), renewed, 'all of its roots may be others')
  t.same(read(await write({ ...published, x509Authorities: [], jwtAuthorities: [] })).x509Authorities, [], 'TDB-13 it may be empty')
})

void t.test('what the last bundle does not vouch for, or no more, is refused', async t => {
  const text = await write()
  const untrusted = { code: 'fetched_bundle_untrusted' }
  t.throws(() => readSignedBundle(Buffer.from(text), trustDomain, defaultFetchLimits, { lastGood: undefined, at }, () => {}), untrusted)
  t.throws(() => read(text, { ...partner.bundle, jwtAuthorities: [] }), untrusted, 'its key is unknown')
  const sameId = { ...other.bundle, jwtAuthorities: [{ ...other.bundle.jwtAuthorities[0], keyId: partner.jwtKey.keyId } as never] }
  t.throws(() => read(text, sameId), untrusted, 'another key has this ID')
  t.throws(() => read(text, partner.bundle, expiresAt), untrusted, 'at the very instant at which it expires')
  t.doesNotThrow(() => read(text, partner.bundle, new Date(expiresAt.getTime() - 1)))
  const [header, payload, signature] = text.split('.') as [string, string, string]
  const changed = Buffer.from(payload, 'base64url').toString().replace('"spiffe_refresh_hint":300', '"spiffe_refresh_hint":301')
  t.throws(() => read([header, Buffer.from(changed).toString('base64url'), signature].join('.')), untrusted, 'one digit is another')
})

void t.test('what is no signed bundle of this domain is refused', async t => {
  const payloadOf = (text: string) => Buffer.from(text.split('.')[1] as string, 'base64url').toString()
  const claims = JSON.parse(payloadOf(await write(partner.bundle))) as Record<string, unknown>
  const cases: Readonly<Record<string, readonly [change: Record<string, unknown>, code?: string]>> = {
    'of another domain': [{ trust_domain: 'other.test' }, 'fetched_bundle_foreign'],
    'a member that this version does not know': [{ until: 1 }],
    'no end': [{ exp: undefined }],
    'an end that is none': [{ exp: 1.5 }],
    'no domain': [{ trust_domain: undefined }],
    'a bundle as text': [{ bundle: formatBundleDocument(partner.bundle) }],
    'a bundle without keys': [{ bundle: {} }],
    'a great many keys': [{ bundle: { keys: Array.from({ length: 257 }, () => ({})) } }, 'fetched_bundle_too_large']
  }
  for (const [what, [change, code = 'fetched_bundle_malformed']] of Object.entries(cases)) {
    const text = await sign(JSON.stringify({ ...claims, ...change }))
    t.throws(() => read(text), { code }, what)
  }
  const malformed = { code: 'fetched_bundle_malformed' }
  const repeated = await sign(JSON.stringify(claims).replace('{', '{"exp":99999999999,'))
  const texts = ['', 'a.b', formatBundleDocument(partner.bundle), repeated, 'é.é.é', '[].[].[]']
  for (const text of texts) t.throws(() => read(text), malformed, text)
  t.throws(() => read('x'.repeat(1_048_577)), { code: 'fetched_bundle_too_large' })
  const signed = await write()
  const none = Buffer.from('{"alg":"none","kid":"x","typ":"assay-bundle+jwt"}').toString('base64url')
  t.throws(() => read(`${none}.e30.e30`), malformed, 'no algorithm')
  const invitation = await sign(payloadOf(signed), 'assay-federation-invitation+jwt')
  t.throws(() => read(invitation), malformed, 'what was signed as something else')
  t.throws(() => parseToken(signed), { code: 'jwt_svid_malformed', requirement: 'JWT-05' }, 'nor is it a JWT-SVID')
  t.throws(() => parseInvitation(signed), { code: 'invitation_malformed' }, 'nor an invitation')
})

void t.test('an object of a store is sent again only when it has changed, and is checked each time', async t => {
  const webCa = await createWebCa()
  const text = await write()
  const serve = (body: string, etag: string) => document(body, { etag, 'content-type': 'binary/octet-stream' })
  await using store = await startFakePartner(await webCa.certify(), (request, response) => {
    if (request.headers['if-none-match'] === '"1"') response.writeHead(304).end()
    else serve(text, '"1"')(request, response)
  })
  const clock = new ManualClock(at)
  let lastGood: Bundle | undefined = partner.bundle
  const endpoint = parseBundleEndpoint({ trustDomain, url: `${store.origin}/bucket/b.jws?X-Amz-Signature=secret`, profile: 'https_web' })
  const place = new EndpointPlace(endpoint, { webRoots: new WebRoots({ roots: [webCa.root] }), bundleOf: () => undefined, clock })
  const source = new SignedSource(place, trustDomain, { lastGood: async () => lastGood, clock })
  t.equal(source.name, `${store.origin}/bucket/b.jws`, 'what gives access to it is not shown')
  t.same((await source.fetch(never)).bundle, published)
  t.same((await source.fetch(never)).bundle, published)
  t.same(store.asked.map(({ condition }) => condition), [undefined, '"1"'])
  lastGood = other.bundle
  await t.rejects(source.fetch(never), { code: 'fetched_bundle_untrusted' }, 'another bundle is in force')
  lastGood = partner.bundle
  await clock.advance(60_000)
  await t.rejects(source.fetch(never), { code: 'fetched_bundle_untrusted', message: /valid until/ }, 'it has expired where it lies')
  store.answer = (_request, response) => { response.writeHead(403, { 'content-type': 'application/xml' }).end('<Error/>') }
  await t.rejects(source.fetch(never), { code: 'bundle_endpoint_unreachable', details: { status: 403 } })
})

void t.test('a file may be signed too', async t => {
  const path = join(t.testdir(), 'partner.jws')
  await writeFile(path, `${await write()}\n`)
  const clock = new ManualClock(at)
  const source = new SignedSource(new FilePlace(path, defaultFetchLimits), trustDomain, { lastGood: async () => partner.bundle, clock })
  t.same((await source.fetch(never)).bundle, published)
  await writeFile(path, (await readFile(path, 'utf8')).replace(/.{8}\n$/, 'AAAAAAAA\n'))
  await t.rejects(source.fetch(never), { code: 'fetched_bundle_untrusted' })
})
