import t from 'tap'
import { isSelfServing, parseBundleEndpoint, parseBundleEndpointUrl } from '../../src/spiffe/bundle-endpoint.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'

const web = { trustDomain: 'partner.test', url: 'https://partner.test/bundle', profile: 'https_web' }
const spiffe = { ...web, profile: 'https_spiffe', endpointId: 'spiffe://partner.test/spire/server' }

t.test('the parameters of a relationship', async t => {
  t.same(parseBundleEndpoint(web), { ...web, profile: { kind: 'https_web' } }, 'FED-10 FED-21 https_web needs three values')
  t.same(parseBundleEndpoint(spiffe), {
    trustDomain: 'partner.test', url: web.url, profile: { kind: 'https_spiffe', endpointId: spiffe.endpointId }
  }, 'FED-10 https_spiffe one more')
  const malformed = (requirement: string) => ({ code: 'bundle_endpoint_malformed', requirement })
  for (const missing of ['trustDomain', 'url', 'profile'] as const) {
    t.throws(() => parseBundleEndpoint({ ...web, [missing]: undefined }), malformed('FED-12'), `FED-12 ${missing} is missing`)
    t.throws(() => parseBundleEndpoint({ ...spiffe, [missing]: '' }), malformed('FED-12'), `FED-13 ${missing} does not follow`)
  }
  t.throws(() => parseBundleEndpoint({ ...spiffe, endpointId: undefined }), malformed('FED-24'))
  t.throws(() => parseBundleEndpoint({ ...web, endpointId: spiffe.endpointId }), malformed('FED-13'))
  for (const profile of ['https_WEB', 'http', 'https_spiffe ']) {
    t.throws(() => parseBundleEndpoint({ ...web, profile }), malformed('FED-10'), profile)
  }
  t.throws(() => parseBundleEndpoint({ ...web, trustDomain: 'Partner.test' }), { code: 'trust_domain_malformed' })
  t.throws(() => parseBundleEndpoint({ ...spiffe, endpointId: 'https://partner.test' }), { code: 'spiffe_id_malformed' })
  t.ok(isSelfServing(parseBundleEndpoint(spiffe).profile, parseTrustDomain('partner.test')), 'FED-25')
  t.notOk(isSelfServing(parseBundleEndpoint(spiffe).profile, parseTrustDomain('partner')))
  t.notOk(isSelfServing(parseBundleEndpoint(web).profile, parseTrustDomain('partner.test')))
})

t.test('FED-15 the URL of an endpoint', async t => {
  const refused = { code: 'bundle_endpoint_malformed', requirement: 'FED-15' }
  for (const url of [
    'https://partner.test', 'https://partner.test:8443/a/b.json?c=d&e=%20@', 'https://10.0.0.1/', 'https://[2001:db8::1]:8443/@', 'HTTPS://partner.test/'
  ]) t.equal(parseBundleEndpointUrl(url), url, url)
  for (const url of [
    '', 'http://partner.test/', 'partner.test', 'https:partner.test', 'https:/partner.test', 'https:///bundle', 'https://', 'https://:443/', 'https://?a',
    'https://user@partner.test/', 'https://user:word@partner.test/', 'https://@partner.test/', 'https://:@partner.test/', 'https://partner.test/#a',
    'https://partner.test/#', ' https://partner.test/', 'https://partner.test/ ', 'https://partner.test/a b', 'https://partner.test\\@evil.test/',
    'https://partner.test:/', 'https://partner.test:99999/', 'https://partner.test:x/', 'https://pärtner.test/', 'https://partner.test/\n',
    'https://[::1', `https://partner.test/${'a'.repeat(2048)}`, 'spiffe://partner.test', '//partner.test', 'https://[v1.x]/', 'https://a%00b/'
  ]) t.throws(() => parseBundleEndpointUrl(url), refused, JSON.stringify(url.slice(0, 60)))
  const error = t.throws(() => parseBundleEndpointUrl('https://user:word@partner.test/')) as Error
  t.notMatch(error.message, /word/, 'a password is not shown')
})
