import t from 'tap'
import { formatProblems, readConfig } from '../../src/runtime/config-file.ts'
import { federationSchema, federationWarnings } from '../../src/server/federation/federation-config.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { parseServerConfig } from '../../src/server/server-config.ts'

const read = (text: string) => {
  const { value, problems } = readConfig(federationSchema, { file: { name: 'f', text } })
  if (value === undefined) throw new Error(formatProblems(problems))
  return value
}
const web = 'bundle_endpoint_url: https://a.test/b, bundle_endpoint_profile: { https_web: {} }'
const partner = { trustDomain: 'a.test', endpoint: { url: 'https://a.test/b', profile: { kind: 'https_web' } } }

void t.test('federates_with: each trust domain, in YAML and in SPIRE\'s JSON', async t => {
  t.same(read('{}'), { bundleEndpoint: undefined, webCaPath: undefined, leastRefreshMs: 60_000, partners: [], copies: new Map() })
  t.match(read('{ web_ca_path: /roots.pem, least_refresh_interval: 5s }'), { webCaPath: '/roots.pem', leastRefreshMs: 5_000 })
  t.same(read(`federates_with: { a.test: { ${web} } }`).partners, [partner])
  t.same(read(`federates_with: { a.test: { ${web.replace('https_web: {}', 'https_web:')} } }`).partners, [partner], 'an empty block')
  const spiffe = { endpoint_spiffe_id: 'spiffe://third.test/x' }
  const asJson = {
    federates_with: [
      { 'a.test': { bundle_endpoint_url: 'https://a.test/b', bundle_endpoint_profile: [{ https_web: {} }] } },
      { 'b.test': [{ bundle_endpoint_url: 'https://b.test', bundle_endpoint_profile: { https_spiffe: [spiffe] } }] }
    ]
  }
  const profile = { kind: 'https_spiffe', endpointId: spiffe.endpoint_spiffe_id }
  t.same(read(JSON.stringify(asJson)).partners, [partner, { trustDomain: 'b.test', endpoint: { url: 'https://b.test', profile } }])
  const profiles = (text: string) => `federates_with: { a.test: { ${web.replace('https_web: {}', text)} } }`
  const refused: ReadonlyArray<readonly [string, RegExp]> = [
    [`federates_with: { Bad: { ${web} } }`, /federates_with\.Bad: trust domain has a character other/],
    ['federates_with: { a.test: { bundle_endpoint_url: https://a.test } }', /a\.test\.bundle_endpoint_profile: is required/],
    ['federates_with: { a.test: { bundle_endpoint_profile: { https_web: {} } } }', /a\.test\.bundle_endpoint_url: is required/],
    [`federates_with: { a.test: { ${web.replace('https:', 'http:')} } }`, /is not https/],
    [`federates_with: { a.test: { ${web.replace('https_web', 'https_wed')} } }`, /https_wed: unknown key; did you mean https_web\?/],
    [`federates_with: { a.test: { ${web}, extra: 1 } }`, /a\.test\.extra: unknown key; known here: bundle_endpoint_url/],
    [profiles('https_web: {}, https_spiffe: { endpoint_spiffe_id: spiffe://a.test/x }'), /must be one of https_web and https_spiffe/],
    [profiles(''), /bundle_endpoint_profile: must be one of https_web and https_spiffe/],
    [profiles('https_spiffe: {}'), /https_spiffe\.endpoint_spiffe_id: is required/],
    [`federates_with: [{ a.test: { ${web} } }, { a.test: { ${web} } }]`, /federates_with\.1: names a\.test again/],
    ['federates_with: [7]', /federates_with\.0: must be a map of one block/],
    ['federate_with: {}', /federate_with: unknown key; did you mean federates_with\?/]
  ]
  for (const [text, rule] of refused) t.throws(() => read(text), { message: rule }, text)
})

void t.test('bundle_endpoint: both profiles, and the older place of acme', async t => {
  const acme = 'acme: { domain_name: a.test, email: x@a.test, tos_accepted: true }'
  const readAcme = { directoryUrl: 'https://acme-v02.api.letsencrypt.org/directory', domainName: 'a.test', email: 'x@a.test' }
  const endpoint = (text: string) => read(`bundle_endpoint: { ${text} }`).bundleEndpoint
  const defaults = { address: '0.0.0.0', port: 8443, refreshHintSeconds: undefined, profileNamed: true }
  t.same(endpoint('address: 127.0.0.1, port: 0, refresh_hint: 10m, profile: { https_spiffe: {} }'),
    { address: '127.0.0.1', port: 0, refreshHintSeconds: 600, profile: { kind: 'https_spiffe' }, profileNamed: true })
  t.same(endpoint('port: 8443'), { ...defaults, profile: { kind: 'https_spiffe' }, profileNamed: false })
  t.same(endpoint(`port: 8443, profile: { https_web: { ${acme} } }`), { ...defaults, profile: { kind: 'https_web', acme: readAcme } })
  t.same(endpoint(`port: 8443, ${acme}`), { ...defaults, profile: { kind: 'https_web', acme: readAcme } })
  const files = 'serving_cert_file: [{ cert_file_path: /c, key_file_path: /k }]'
  t.same(endpoint(`port: 8443, profile: [{ https_web: [{ ${files} }] }]`),
    { ...defaults, profile: { kind: 'https_web', files: { certFilePath: '/c', keyFilePath: '/k', fileSyncIntervalMs: 2_000 } } })
  for (const [text, rule] of [
    ['address: x', /bundle_endpoint\.port: is required/],
    ['port: 70000', /must be 0 to 65535/],
    ['port: 1, refresh_hint: 5', /must be a duration/],
    ['port: 1, profile: {}', /profile: must be one of https_spiffe and https_web/],
    [`port: 1, profile: { https_spiffe: {}, https_web: { ${acme} } }`, /profile: must be one of/],
    ['port: 1, profile: { https_web: {} }', /https_web: must have one of acme and serving_cert_file/],
    [`port: 1, profile: { https_web: { ${acme}, ${files} } }`, /https_web: must have one of acme and serving_cert_file/],
    [`port: 1, ${acme}, profile: { https_spiffe: {} }`, /bundle_endpoint\.acme: belongs into profile https_web/],
    [`port: 1, ${acme.replace('email', 'directory_url: http://x, email')}`, /directory_url: must be an https URL/],
    [`port: 1, ${acme.replace('true', 'false')}`, /tos_accepted: must be true: the terms of service/],
    [`port: 1, ${acme.replace('a.test,', 'A.test,')}`, /domain_name: must be a host name/],
    ['port: 1, profile: { https_web: { serving_cert_file: { cert_file_path: /c } } }', /key_file_path: is required/],
    ['port: 1, prot: 2', /prot: unknown key; did you mean port\?/]
  ] as const) t.throws(() => endpoint(text), { message: rule }, text)
})

void t.test('copies: where else a bundle is, in order', async t => {
  const copies = (text: string) => read(`copies: { a.test: ${text} }`).copies.get(parseTrustDomain('a.test'))
  const url = 'https://m.test/b'
  const spiffe = 'https_spiffe: { endpoint_spiffe_id: spiffe://m.test/x }'
  const mirror = `{ bundle_endpoint_url: '${url}', bundle_endpoint_profile: { ${spiffe} }, signed: true }`
  t.same(copies(`[{ object_url: '${url}?k=1' }, { file_path: /b }, ${mirror}]`), [
    { kind: 'endpoint', url: `${url}?k=1`, profile: { kind: 'https_web' }, signed: true },
    { kind: 'file', path: '/b', signed: false },
    { kind: 'endpoint', url, profile: { kind: 'https_spiffe', endpointId: 'spiffe://m.test/x' }, signed: true }
  ])
  t.same(copies('{ file_path: /b, signed: true }'), [{ kind: 'file', path: '/b', signed: true }], 'one needs no list')
  for (const [text, rule] of [
    ['[{}]', /copies\.a\.test\.0: must have one of bundle_endpoint_url, object_url and file_path/],
    [`[{ file_path: /b, object_url: '${url}' }]`, /must have one of/],
    [`[{ object_url: '${url}', signed: false }]`, /0\.signed: must be true for object_url/],
    ['[{ object_url: \'http://m.test/b\' }]', /is not https/],
    [`[{ bundle_endpoint_url: '${url}' }]`, /0\.bundle_endpoint_profile: is required/],
    ['[{ file_path: /b, bundle_endpoint_profile: { https_web: {} } }]', /belongs to bundle_endpoint_url/],
    ['[{ file: /b }]', /file: unknown key; did you mean file_path\?/],
    [`[${Array.from({ length: 9 }, () => '{ file_path: /b }').join()}]`, /must be at most 8/]
  ] as const) t.throws(() => copies(text), { message: rule }, text)
  t.throws(() => read('copies: { Bad: [{ file_path: /b }] }'), { message: /copies\.Bad: trust domain/ })
})

void t.test('within a server\'s configuration', async t => {
  const server = (federation: string) => parseServerConfig({
    file: { name: 's', text: `server:\n  trust_domain: example.org\n  data_dir: /d\n  federation: ${federation}\n` }
  }).federation
  t.same(server(`{ federates_with: { a.test: { ${web} } } }`).partners, [partner])
  t.throws(() => server(`{ federates_with: { example.org: { ${web} } } }`),
    { code: 'config_invalid', message: /federation\.federates_with\.example\.org: is this server's own trust domain/ })
  t.throws(() => server('{ copies: { example.org: [{ file_path: /b }] } }'),
    { code: 'config_invalid', message: /federation\.copies\.example\.org: is this server's own trust domain/ })
  t.match(federationWarnings(read('bundle_endpoint: { port: 1 }')), [/names no profile: https_spiffe is meant/])
  t.same(federationWarnings(read('bundle_endpoint: { port: 1, profile: { https_spiffe: } }')), [])
})
