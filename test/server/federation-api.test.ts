import t from 'tap'
import { FederationPartners } from '../../src/server/federation/federation-partners.ts'
import { parseFederationRelationship, type FederationRelationship } from '../../src/spiffe/federation-relationship.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { encodeBundle } from '../../src/wire/bundle-codec.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { trustDomainService } from '../../src/wire/generated/server-trust-domain.ts'
import type { FederationRelationshipInit } from '../../src/wire/generated/types.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { noFederation, startTestServer, type TestServer } from '../fakes/server.ts'
import { statuses } from './admin/admin-client.ts'

const [ok, invalidArgument, notFound, internal] = [0, 3, 5, 13]
const url = 'https://partner.test/bundle'
const httpsSpiffe = { endpointSpiffeId: 'spiffe://partner.test/spire/server' }
const partner: FederationRelationshipInit = { trustDomain: 'partner.test', bundleEndpointUrl: url, httpsSpiffe }
const bundleOf = async (trustDomain: string) => encodeBundle((await createTestAuthority(trustDomain)).bundle)
const [ofPartner, ofOther] = await Promise.all(['partner.test', 'other.test'].map(bundleOf))
const withBundle = { ...partner, trustDomainBundle: ofPartner }
const of = (server: TestServer) => server.admin.client(trustDomainService)
const relationshipTo = (trustDomain: string, url = `https://${trustDomain}`): FederationRelationship => parseFederationRelationship(
  { trustDomain, url, httpsWeb: true, httpsSpiffe: undefined }, parseTrustDomain('example.org'))

void t.test('create: what is refused, item by item, and what is not', async t => {
  await using server = await startTestServer()
  const cases: ReadonlyArray<readonly [string, FederationRelationshipInit, number, RegExp]> = [
    ['one', withBundle, ok, /^OK$/],
    ['a duplicate', { ...partner, httpsSpiffe: undefined, httpsWeb: {} }, internal,
      /^failed to create federation relationship: a relationship with "partner.test" already exists$/],
    ['the own domain', { ...partner, trustDomain: 'example.org' }, invalidArgument,
      /^unable to create federation relationship for server trust domain: .*cannot federate with itself$/],
    ['a bad name', { ...partner, trustDomain: 'Bad' }, invalidArgument, /^failed to convert federation relationship: invalid trust_domain/],
    ['no name', { ...partner, trustDomain: '' }, invalidArgument, /^failed to convert .*: invalid trust_domain/],
    ['not https', { ...partner, bundleEndpointUrl: 'http://a.test' }, invalidArgument, /is not https/],
    ['no URL', { ...partner, bundleEndpointUrl: '' }, invalidArgument, /bundle_endpoint_url: is missing/],
    ['no host', { ...partner, bundleEndpointUrl: 'https:///x' }, invalidArgument, /has no host/],
    ['userinfo', { ...partner, bundleEndpointUrl: 'https://u:p@a.test' }, invalidArgument, /has a user$/],
    ['no profile', { ...partner, httpsSpiffe: undefined }, invalidArgument, /bundle_endpoint_profile: is missing/],
    ['no endpoint ID', { ...partner, httpsSpiffe: {} }, invalidArgument, /endpoint_spiffe_id: is missing/],
    ['a bad endpoint ID', { ...partner, httpsSpiffe: { endpointSpiffeId: 'x' } }, invalidArgument, /invalid endpoint_spiffe_id/],
    ['a bundle for another domain', { ...partner, trustDomain: 'other.test', trustDomainBundle: ofPartner },
      invalidArgument, /trust_domain_bundle: is of "partner.test" and not of "other.test"/],
    ['a bundle that is none', {
      ...partner, trustDomain: 'other.test', trustDomainBundle: { trustDomain: 'other.test', x509Authorities: [{ asn1: Uint8Array.of(1) }] }
    }, invalidArgument, /unable to parse X.509 authority/],
    ['another form of the name', { trustDomain: 'spiffe://web.test', bundleEndpointUrl: 'https://web.test', httpsWeb: {} }, ok, /^OK$/]
  ]
  const { results } = await of(server).batchCreateFederationRelationship({ federationRelationships: cases.map(([, message]) => message) })
  t.equal(results.length, cases.length)
  for (const [index, [what, , code, message]] of cases.entries()) {
    t.equal(results[index]?.status?.code, code, what)
    t.match(results[index]?.status?.message, message, what)
    t.equal(results[index]?.federationRelationship !== undefined, code === ok, what)
  }
  t.match(results[0]?.federationRelationship, { ...partner, trustDomainBundle: { trustDomain: 'partner.test', x509Authorities: [{}] } })
  const { bundles } = await server.admin.client(bundleService).listFederatedBundles({})
  t.same(bundles.map(({ trustDomain }) => trustDomain), ['partner.test'], 'the bundle went to the bundles; those of refused ones did not')
  const { federationRelationships } = await of(server).listFederationRelationships({})
  t.same(federationRelationships.map(({ trustDomain }) => trustDomain), ['partner.test', 'web.test'])
})

void t.test('get and list: masks and pages', async t => {
  await using server = await startTestServer()
  const api = of(server)
  const names = ['c.test', 'a.test', 'b.test']
  await api.batchCreateFederationRelationship({
    federationRelationships: [withBundle, ...names.map(trustDomain => ({ trustDomain, bundleEndpointUrl: url, httpsWeb: {} }))]
  })
  const keysOf = (message: object) => Object.entries(message).filter(([, value]) => value !== undefined && value !== '').map(([key]) => key)
  const trustDomain = 'spiffe://partner.test'
  const shown = async (outputMask?: object) => keysOf(await api.getFederationRelationship({ trustDomain, outputMask }))
  t.same(await shown(), ['trustDomain', 'bundleEndpointUrl', 'httpsSpiffe', 'trustDomainBundle'])
  t.same(await shown({}), ['trustDomain'], 'the trust domain always')
  t.same(await shown({ bundleEndpointUrl: true }), ['trustDomain', 'bundleEndpointUrl'])
  t.same(await shown({ bundleEndpointProfile: true }), ['trustDomain', 'httpsSpiffe'])
  t.same(await shown({ trustDomainBundle: true }), ['trustDomain', 'trustDomainBundle'])
  await t.rejects(api.getFederationRelationship({ trustDomain: 'no.test' }), { status: 'NOT_FOUND', code: 'federation_not_found' })
  await t.rejects(api.getFederationRelationship({ trustDomain: 'Bad' }), { name: 'RpcError', status: 'INVALID_ARGUMENT' })
  await t.rejects(api.getFederationRelationship({}), { name: 'RpcError', status: 'INVALID_ARGUMENT' })
  const pages: string[][] = []
  for (let pageToken = ''; ;) {
    const page = await api.listFederationRelationships({ pageSize: 3, pageToken, outputMask: { bundleEndpointUrl: true } })
    pages.push(page.federationRelationships.map(one => [one.trustDomain, ...keysOf(one)].join(' ')))
    if (page.nextPageToken === '') break
    pageToken = page.nextPageToken
  }
  const row = (name: string) => `${name} trustDomain bundleEndpointUrl`
  t.same(pages, [['partner.test', 'c.test', 'a.test'].map(row), ['b.test'].map(row), []], 'the walk ends with an empty page')
  const whole = await api.listFederationRelationships({})
  t.same([whole.federationRelationships.length, whole.nextPageToken], [4, ''])
  const badToken = api.listFederationRelationships({ pageSize: 1, pageToken: 'x' })
  await t.rejects(badToken, { name: 'RpcError', status: 'INTERNAL', message: /could not parse token/ })
})

void t.test('update: by mask, and whole without one', async t => {
  await using server = await startTestServer()
  const api = of(server)
  await api.batchCreateFederationRelationship({ federationRelationships: [partner] })
  const update = async (message: FederationRelationshipInit, inputMask?: object) => {
    const { results } = await api.batchUpdateFederationRelationship({ federationRelationships: [message], inputMask })
    return results[0]
  }
  t.match(await update({ trustDomain: 'partner.test', bundleEndpointUrl: 'https://new.test' }, { bundleEndpointUrl: true }),
    { status: { code: ok }, federationRelationship: { bundleEndpointUrl: 'https://new.test', httpsSpiffe } }, 'only what is named')
  t.match(await update({ ...partner, httpsSpiffe: undefined, httpsWeb: {} }, { bundleEndpointProfile: true }),
    { federationRelationship: { bundleEndpointUrl: 'https://new.test', httpsWeb: {}, httpsSpiffe: undefined } })
  t.match(await update({ ...withBundle, bundleEndpointUrl: 'nonsense' }, {}), { status: { code: ok } }, 'nothing named, nothing read')
  const stored = server.admin.client(bundleService).getFederatedBundle({ trustDomain: 'partner.test' })
  await t.rejects(stored, { name: 'RpcError', status: 'NOT_FOUND' })
  t.match(await update({ ...withBundle, bundleEndpointUrl: '' }, { trustDomainBundle: true }),
    { federationRelationship: { bundleEndpointUrl: 'https://new.test', trustDomainBundle: { x509Authorities: { length: 1 } } } })
  const whole = await update(partner)
  t.match(whole, { federationRelationship: { bundleEndpointUrl: url, httpsSpiffe, trustDomainBundle: { x509Authorities: { length: 1 } } } },
    'no bundle given: the one that is there stays')
  const refused: ReadonlyArray<readonly [string, FederationRelationshipInit, object | undefined, number, RegExp]> = [
    ['missing', { ...withBundle, trustDomain: 'no.test', trustDomainBundle: undefined }, undefined, internal,
      /^failed to update federation relationship: no relationship with trust domain "no.test"$/],
    ['no profile', { ...partner, httpsSpiffe: undefined }, undefined, invalidArgument, /profile: is missing/],
    ['not https', { ...partner, bundleEndpointUrl: 'http://a.test' }, { bundleEndpointUrl: true }, invalidArgument, /is not https/],
    ['a bundle for another domain', { ...partner, trustDomainBundle: ofOther }, { trustDomainBundle: true }, invalidArgument,
      /is of "other.test"/],
    ['a bad name', { trustDomain: '' }, {}, invalidArgument, /invalid trust_domain/]
  ]
  for (const [what, message, mask, code, text] of refused) t.match((await update(message, mask))?.status, { code, message: text }, what)
  const { results } = await api.batchUpdateFederationRelationship({
    federationRelationships: [{ ...partner, trustDomain: 'no.test' }, { ...partner, bundleEndpointUrl: 'https://last.test' }],
    outputMask: { bundleEndpointUrl: true }
  })
  t.same(statuses(results), [internal, ok], 'one that is refused does not keep the others')
  const { httpsSpiffe: profile, trustDomainBundle, bundleEndpointUrl } = results[1]?.federationRelationship ?? {}
  t.same([bundleEndpointUrl, profile, trustDomainBundle], ['https://last.test', undefined, undefined])
})

void t.test('delete: the relationship goes, the bundle stays until it is deleted in one of its modes', async t => {
  await using server = await startTestServer()
  const api = of(server)
  await api.batchCreateFederationRelationship({ federationRelationships: [withBundle] })
  const entry = {
    spiffeId: { trustDomain: 'example.org', path: '/web' }, parentId: { trustDomain: 'example.org', path: '/node' },
    selectors: [{ type: 'unix', value: 'uid:1' }], federatesWith: ['partner.test']
  }
  await server.admin.client(entryService).batchCreateEntry({ entries: [entry] })
  const { results } = await api.batchDeleteFederationRelationship({ trustDomains: ['spiffe://partner.test', 'partner.test', 'Bad', ''] })
  t.same(results.map(({ trustDomain, status }) => [trustDomain, status?.code]),
    [['spiffe://partner.test', ok], ['partner.test', notFound], ['Bad', invalidArgument], ['', invalidArgument]])
  t.equal(results[1]?.status?.message, 'federation relationship not found: no relationship with trust domain "partner.test"')
  const bundles = server.admin.client(bundleService)
  t.ok(await bundles.getFederatedBundle({ trustDomain: 'partner.test' }))
  const remove = async (mode: number) =>
    statuses((await bundles.batchDeleteFederatedBundle({ trustDomains: ['partner.test'], mode })).results)
  t.same(await remove(0), [9], 'restrict: an entry federates with it')
  t.same(await remove(2), [ok], 'dissociate')
  t.match((await server.admin.client(entryService).listEntries({})).entries, [{ federatesWith: [] }])
  t.same(await remove(0), [5], 'it is gone')
  await bundles.batchSetFederatedBundle({ bundle: [ofPartner!] })
  await server.admin.client(entryService).batchCreateEntry({ entries: [{ ...entry, selectors: [{ type: 'unix', value: 'uid:2' }] }] })
  t.same(await remove(1), [ok], 'delete: with the entries that federate with it')
  t.match((await server.admin.client(entryService).listEntries({})).entries, { length: 1, 0: { federatesWith: [] } }, 'and no others')
})

void t.test('refresh: what there is is told apart, and why nothing was fetched is said', async t => {
  const partners = [relationshipTo('fixed.test', 'https://127.0.0.1:9')]
  await using server = await startTestServer({ config: { federation: { ...noFederation, partners } } })
  const api = of(server)
  const nobody = { ...partner, bundleEndpointUrl: 'https://127.0.0.1:9/bundle', httpsSpiffe: undefined, httpsWeb: {} }
  await api.batchCreateFederationRelationship({ federationRelationships: [nobody] })
  const refresh = (trustDomain: string) => api.refreshBundle({ trustDomain })
  await t.rejects(refresh('no.test'), { name: 'RpcError', status: 'NOT_FOUND', message: 'no relationship with trust domain "no.test"' })
  await t.rejects(refresh('example.org'), { name: 'RpcError', status: 'NOT_FOUND' })
  await t.rejects(refresh('Bad'), { name: 'RpcError', status: 'INVALID_ARGUMENT' })
  for (const name of ['partner.test', 'spiffe://fixed.test']) {
    await t.rejects(refresh(name), { name: 'RpcError', code: 'bundle_endpoint_unreachable' }, name)
  }
  t.same((await api.listFederationRelationships({})).federationRelationships.map(({ trustDomain }) => trustDomain), ['partner.test'],
    'those of the configuration are not listed')
  await t.rejects(api.getFederationRelationship({ trustDomain: 'fixed.test' }), { name: 'RpcError', status: 'NOT_FOUND' })
})

void t.test('partners are those of the configuration and those stored; the configuration\'s word counts', async t => {
  const stored = new Map([relationshipTo('a.test'), relationshipTo('b.test')].map(one => [one.trustDomain, one]))
  const fixed: FederationRelationship = { ...relationshipTo('fixed.test'), trustDomain: parseTrustDomain('b.test') }
  const partners = new FederationPartners([fixed, relationshipTo('c.test')], () => stored)
  t.same([...partners.all.keys()].toSorted(), ['a.test', 'b.test', 'c.test'])
  t.equal(partners.get(fixed.trustDomain), fixed)
  t.equal(partners.all.get(fixed.trustDomain), fixed)
  stored.clear()
  t.equal(partners.get(parseTrustDomain('a.test')), undefined)
})
