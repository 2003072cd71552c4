import t from 'tap'
import { WebRoots } from '../../src/federation/client/web-roots.ts'
import { fetchInvited } from '../../src/federation/invitation/fetch-invited.ts'
import { bundlePin } from '../../src/federation/invitation/bundle-pin.ts'
import { invitationLimits, type Invitation } from '../../src/federation/invitation/invitation.ts'
import { checkPin, parseInvitation, verifyInvitation } from '../../src/federation/invitation/read-invitation.ts'
import { writeInvitation, type InvitationOrder } from '../../src/federation/invitation/write-invitation.ts'
import { parseToken } from '../../src/jwt/parse-token.ts'
import { signJws, type StatementType } from '../../src/jwt/sign-jws.ts'
import { contextOptions } from '../../src/rpc/tls-identity.ts'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { parseBundleEndpoint, type BundleEndpoint } from '../../src/spiffe/bundle-endpoint.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { ManualClock } from '../fakes/clock.ts'
import { document, redirect, startFakePartner } from './fake-partner.ts'
import { createWebCa } from './web-ca.ts'

const [partner, other] = await Promise.all([createTestAuthority('partner.test'), createTestAuthority('partner.test')])
const now = new Date('2026-06-01T12:00:00Z')
const expiresAt = new Date(now.getTime() + 60_000)
const endpoint = parseBundleEndpoint({
  trustDomain: 'partner.test', url: 'https://partner.test:8443/b', profile: 'https_spiffe', endpointId: 'spiffe://partner.test/spire/server'
})
const order: InvitationOrder = { endpoint, scope: 'GET /orders, please', bundle: partner.bundle, expiresAt, carryBundle: true }
const sign = (payload: string, typ: StatementType = 'assay-federation-invitation+jwt') => signJws(payload, typ, partner.jwtKey)
const write = async (more: Partial<InvitationOrder> = {}) => await writeInvitation({ ...order, ...more }, sign)

void t.test('an invitation says what was ordered, to whoever has the bundle or takes the one it carries', async t => {
  const { text, pin, carriesBundle } = await write()
  t.ok(carriesBundle)
  const parsed = parseInvitation(`${text.slice(0, 70)}\n  ${text.slice(70)}\r\n`)
  const { bundle } = parsed.claimed
  t.ok(bundle)
  for (const known of [partner.bundle, bundle ?? partner.bundle]) {
    const invitation = verifyInvitation(parsed, known, now)
    t.match(invitation, { endpoint, pin, scope: order.scope, expiresAt })
    t.doesNotThrow(() => checkPin(invitation, known))
  }
  const short = await write({ carryBundle: false })
  t.equal(short.pin, pin)
  t.ok(short.text.length < 700, `without the bundle it is short: ${short.text.length} characters`)
  t.equal(parseInvitation(short.text).claimed.bundle, undefined)
  const web = parseBundleEndpoint({ trustDomain: 'partner.test', url: 'https://partner.test', profile: 'https_web' })
  t.match(parseInvitation((await write({ endpoint: web, scope: '' })).text).claimed, { endpoint: web, scope: '' })
})

void t.test('whose keys they are not, or no more, is not believed', async t => {
  const { text } = await write()
  const parsed = parseInvitation(text)
  const untrusted = { code: 'invitation_untrusted' }
  t.throws(() => verifyInvitation(parsed, other.bundle, now), untrusted, 'another domain of that name')
  const sameId = { ...other.bundle, jwtAuthorities: [{ ...other.bundle.jwtAuthorities[0], keyId: partner.jwtKey.keyId } as never] }
  t.throws(() => verifyInvitation(parsed, sameId, now), untrusted, 'another key of that ID')
  t.throws(() => verifyInvitation(parsed, { ...partner.bundle, trustDomain: parseTrustDomain('else.test') }, now), untrusted)
  t.throws(() => checkPin(parsed.claimed, other.bundle), untrusted)
  t.throws(() => verifyInvitation(parsed, partner.bundle, expiresAt), { code: 'invitation_expired' }, 'at the very instant')
  t.doesNotThrow(() => verifyInvitation(parsed, partner.bundle, new Date(expiresAt.getTime() - 1)))
  const [header, payload, signature] = text.split('.') as [string, string, string]
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as Record<string, unknown>
  const forged = { ...claims, bundle_endpoint_url: 'https://evil.test' }
  const changed = parseInvitation([header, Buffer.from(JSON.stringify(forged)).toString('base64url'), signature].join('.'))
  t.equal(changed.claimed.endpoint.url, 'https://evil.test')
  t.throws(() => verifyInvitation(changed, partner.bundle, now), untrusted, 'one member was changed')
  const swapped = parseInvitation(await signJws(JSON.stringify(claims), 'assay-federation-invitation+jwt', other.jwtKey))
  t.throws(() => verifyInvitation(swapped, partner.bundle, now), untrusted, 'another signed it')
})

void t.test('an invitation is no JWT-SVID, and a JWT-SVID is no invitation', async t => {
  const { text } = await write()
  t.throws(() => parseToken(text), { code: 'jwt_svid_malformed', requirement: 'JWT-05' })
  const payload = Buffer.from(text.split('.')[1] as string, 'base64url').toString()
  const token = await partner.issueJwt('spiffe://partner.test/a', ['b'])
  t.throws(() => parseInvitation(token), { code: 'invitation_malformed', message: /typ/ })
  const statement = await sign(payload, 'something-else+jwt')
  t.throws(() => parseInvitation(statement), { code: 'invitation_malformed', message: /typ/ })
})

void t.test('what is no invitation is refused', async t => {
  const { text } = await write()
  const claims = JSON.parse(Buffer.from(text.split('.')[1] as string, 'base64url').toString()) as Record<string, unknown>
  const cases: Readonly<Record<string, Record<string, unknown>>> = {
    'a member that this version does not know': { only_until_noon: true },
    'no end': { exp: undefined },
    'an end that no date can hold': { exp: 8.65e12 },
    'a part of a second': { exp: 1.5 },
    'a pin of another kind': { bundle_pin: 'sha1:00' },
    'no domain': { trust_domain: undefined },
    'a domain that is none': { trust_domain: 'Partner' },
    'a URL without TLS': { bundle_endpoint_url: 'http://partner.test' },
    'a URL with a user': { bundle_endpoint_url: 'https://a@partner.test' },
    'an unknown profile': { bundle_endpoint_profile: 'https_any' },
    'https_spiffe without an ID': { endpoint_spiffe_id: undefined },
    'a bundle that is none': { bundle: { keys: 1 } },
    'a bundle that is a text': { bundle: '{}' },
    'a scope that is too long': { scope: 'x'.repeat(invitationLimits.mostScopeLength + 1) }
  }
  for (const [what, change] of Object.entries(cases)) {
    const malformed = await sign(JSON.stringify({ ...claims, ...change }))
    t.throws(() => parseInvitation(malformed), { code: 'invitation_malformed' }, what)
  }
  const repeated = await sign(JSON.stringify(claims).replace('{', '{"exp":99999999999,'))
  for (const malformed of ['', 'x', 'a.b', `${text}.x`, `${text}=`, text.replace('.', '.!'), repeated, 'x'.repeat(70_000), '[].[].[]']) {
    t.throws(() => parseInvitation(malformed), { code: 'invitation_malformed' }, malformed.slice(0, 20))
  }
  await t.rejects(write({ scope: 'a\nb' }), { code: 'argument_invalid' })
})

void t.test('what it does not carry is fetched by endpoint and pin', async t => {
  const webCa = await createWebCa()
  const never = new AbortController().signal
  const deps = { webRoots: new WebRoots({ roots: [webCa.root] }), bundleOf: () => undefined, clock: new ManualClock(new Date()) }
  const bySpiffe = (url: string, endpointId = 'spiffe://partner.test/spire/server') =>
    parseBundleEndpoint({ trustDomain: 'partner.test', url, profile: 'https_spiffe', endpointId })
  const invitedTo = (to: BundleEndpoint, bundle = partner.bundle): Invitation =>
    ({ endpoint: to, pin: bundlePin(bundle), bundle: undefined, scope: '', expiresAt })
  const own = contextOptions(await partner.issue('/spire/server'))
  await using server = await startFakePartner(own, document(formatBundleDocument(partner.bundle)))
  t.same(await fetchInvited(invitedTo(bySpiffe(server.origin)), deps, never), partner.bundle, 'what was fetched vouches for who served it')

  const fetching = (invitation: Invitation) => fetchInvited(invitation, deps, never)
  const untrusted = { code: 'bundle_endpoint_untrusted' }
  const otherKeys = { code: 'invitation_untrusted' }
  await t.rejects(fetching(invitedTo(bySpiffe(server.origin, 'spiffe://partner.test/other'))), untrusted, 'another of the domain')
  await t.rejects(fetching(invitedTo(bySpiffe(server.origin), other.bundle)), otherKeys)
  const theirs = contextOptions(await other.issue('/spire/server'))
  await using between = await startFakePartner(theirs, document(formatBundleDocument(partner.bundle)))
  await t.rejects(fetching(invitedTo(bySpiffe(between.origin))), untrusted, 'somebody between, who has the right bundle')
  between.answer = document(formatBundleDocument(other.bundle))
  await t.rejects(fetching(invitedTo(bySpiffe(between.origin))), otherKeys, 'and with a bundle of his own')
  server.answer = redirect(between.origin)
  await t.rejects(fetchInvited(invitedTo(bySpiffe(server.origin)), deps, never), { code: 'bundle_redirect_refused' })
  await t.rejects(fetchInvited(invitedTo(bySpiffe(server.origin, 'spiffe://host.test/x')), deps, never),
    { code: 'bundle_endpoint_id_unknown' }, 'a third domain has to be known')

  await using web = await startFakePartner(await webCa.certify(), document(formatBundleDocument(partner.bundle)))
  const byWeb = parseBundleEndpoint({ trustDomain: 'partner.test', url: web.origin, profile: 'https_web' })
  t.same(await fetchInvited(invitedTo(byWeb), deps, never), partner.bundle)
  await t.rejects(fetchInvited(invitedTo(byWeb, other.bundle), deps, never), { code: 'invitation_untrusted' })
  const strangers = { ...deps, webRoots: new WebRoots({ roots: [] }) }
  await t.rejects(fetchInvited(invitedTo(byWeb), strangers, never), untrusted, 'a pin replaces no profile')
})

void t.test('a pin names the keys, in any order, and nothing else; a long bundle is left out', async t => {
  const { bundle } = partner
  const more = { ...bundle, x509Authorities: [...bundle.x509Authorities, ...other.bundle.x509Authorities] }
  const pin = bundlePin(more)
  t.match(pin, /^sha256:[0-9a-f]{64}$/)
  t.equal(bundlePin({ ...more, x509Authorities: more.x509Authorities.toReversed(), sequenceNumber: 7n, refreshHintSeconds: 1 }), pin)
  t.not(bundlePin(bundle), pin)
  t.not(bundlePin({ ...more, jwtAuthorities: [] }), pin)
  const many = await Promise.all(Array.from({ length: 40 }, () => createTestAuthority('partner.test')))
  const long = { ...bundle, x509Authorities: many.flatMap(({ bundle }) => bundle.x509Authorities) }
  const { text, carriesBundle } = await write({ bundle: long })
  t.notOk(carriesBundle)
  t.ok(text.length < 1_200)
  const parsed = parseInvitation(text)
  t.equal(parsed.claimed.bundle, undefined)
  t.doesNotThrow(() => checkPin(verifyInvitation(parsed, long, now), long))
})
