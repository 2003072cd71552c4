import t from 'tap'
import { parseFederationRelationship, type RawFederationRelationship } from '../../src/spiffe/federation-relationship.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'

const own = parseTrustDomain('example.org')
const raw: RawFederationRelationship = {
  trustDomain: 'partner.test', url: 'https://partner.test/bundle', httpsWeb: true, httpsSpiffe: undefined
}
const parse = (more: Partial<RawFederationRelationship>) => parseFederationRelationship({ ...raw, ...more }, own)

void t.test('FED-12 a relationship has a trust domain, a URL and a profile', async t => {
  t.strictSame(parse({}), { trustDomain: 'partner.test', endpoint: { url: raw.url, profile: { kind: 'https_web' } } })
  t.strictSame(parse({ trustDomain: 'spiffe://partner.test', httpsWeb: false, httpsSpiffe: 'spiffe://third.test/b' }), {
    trustDomain: 'partner.test', endpoint: { url: raw.url, profile: { kind: 'https_spiffe', endpointId: 'spiffe://third.test/b' } }
  }, 'the endpoint may be of another trust domain')
  t.equal(parse({ trustDomain: 'spiffe://partner.test/server' }).trustDomain, 'partner.test', 'an ID names the domain it lies in')
  const refused: ReadonlyArray<readonly [string, Partial<RawFederationRelationship>, string]> = [
    ['no URL', { url: '' }, 'invalid bundle_endpoint_url: is missing'],
    ['no profile', { httpsWeb: false }, 'invalid bundle_endpoint_profile: is missing'],
    ['both', { httpsSpiffe: 'spiffe://a.test/b' }, 'invalid bundle_endpoint_profile: is both https_web and https_spiffe'],
    ['no domain', { trustDomain: '' }, 'invalid trust_domain: trust domain is empty: ""'],
    ['an ID that is none', { trustDomain: 'spiffe://a.test//b' },
      'invalid trust_domain: invalid SPIFFE ID "spiffe://a.test//b": the path has an empty segment'],
    ['no ID', { httpsWeb: false, httpsSpiffe: '' }, 'invalid endpoint_spiffe_id: is missing: https_spiffe knows the endpoint by it']
  ]
  for (const [what, more, message] of refused) t.throws(() => parse(more), { code: 'federation_malformed', message }, what)
  t.throws(() => parse({ httpsWeb: false, httpsSpiffe: 'https://a.test' }), { message: /^invalid endpoint_spiffe_id: / })
  t.throws(() => parse({ trustDomain: 'example.org' }), { code: 'federation_invalid', requirement: 'ID-13' })
})

void t.test('FED-15 the URL is one of a bundle endpoint, kept to the letter', async t => {
  for (const url of ['https://A.TEST:8443/x/../y?z=%20', 'HTTPS://a.test', 'https://[2001:db8::1]:1/']) t.equal(parse({ url }).endpoint.url, url)
  for (const [url, rule] of [['http://a.test', /is not https/], ['https://u:p@a.test', /has a user/], ['https://?x', /has no host/]] as const) {
    t.throws(() => parse({ url }), { code: 'federation_malformed', message: rule, requirement: 'FED-15' }, url)
  }
  try {
    parse({ url: 'https://user:secret@a.test' })
  } catch (error) {
    t.notMatch((error as Error).message, /secret/, 'what may be a password is not repeated')
  }
})
