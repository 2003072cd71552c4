import t from 'tap'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { issueJwtSvid } from '../../src/jwt/issue-jwt-svid.ts'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { createCaCertificate } from '../../src/x509/ca-certificate.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { prepareLeafIssuer } from '../../src/x509/leaf-issuer.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { signerOf } from '../../src/x509/private-key-signer.ts'
import { oid } from '../../src/x509/oid.ts'
import { forge, leafExtensions } from '../x509/forge-certificate.ts'
import { runAssay } from '../fakes/run-assay.ts'

const notBefore = new Date('2026-01-01T00:00:00Z')
const notAfter = new Date('2026-01-02T00:00:00Z')
const at = ['-at', '2026-01-01T12:00:00Z']
const pem = (...ders: Uint8Array[]) => ders.map(der => encodePem('CERTIFICATE', der)).join('')

async function createAuthority (name: string) {
  const trustDomain = parseTrustDomain(name)
  const signer = signerOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey)
  const ca = await createCaCertificate({ trustDomain, signer, notBefore, notAfter })
  const bundle: Bundle = {
    trustDomain,
    x509Authorities: [{ certificate: ca, tainted: false }],
    jwtAuthorities: [{ keyId: 'k1', publicKey: signer.publicKey, tainted: false }]
  }
  const id = parseSpiffeId(`spiffe://${name}/web`)
  const { publicKey } = signerOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey)
  const leaf = await prepareLeafIssuer(parseCertificate(ca), signer).issue({ id, publicKey, dnsNames: ['web.test'], notBefore, notAfter })
  const token = await issueJwtSvid({ id, audience: ['db'], issuedAt: notBefore, expiresAt: notAfter }, { keyId: 'k1', signer })
  return { ca, bundle, leaf, token }
}

void t.test('svid verify', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-svid-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const write = async (name: string, content: string | Uint8Array) => {
    await writeFile(join(folder, name), content)
    return join(folder, name)
  }
  const { ca, bundle, leaf, token } = await createAuthority('example.org')
  const other = await createAuthority('other.test')
  const chainPem = await write('svid.pem', `some text\n${pem(leaf)}`)
  const chainDer = await write('svid.der', leaf)
  const jwt = await write('token.jwt', `${token}\n`)
  const json = await write('bundle.json', formatBundleDocument(bundle))
  const caPem = await write('bundle.pem', pem(ca))
  const otherPem = await write('other.pem', pem(other.ca))
  const bothPem = await write('both.pem', pem(ca, other.ca))
  const verify = (...words: string[]) => runAssay(['svid', 'verify', ...words])
  const domain = ['--trust-domain', 'example.org']

  for (const [form, words] of Object.entries({
    'PEM by PEM': [chainPem, '--bundle', caPem, ...domain],
    'PEM by PEM, whose CA names the domain': [chainPem, '--bundle', caPem],
    'DER by PEM': [chainDer, '-bundle', caPem, ...domain],
    'PEM by JSON': [chainPem, '-bundle', json],
    'DER by JSON': [chainDer, '-bundle', json, ...domain],
    'JWT by JSON': [jwt, '-bundle', json, '-audience', 'web,db'],
    'JWT by JSON of a named domain': [jwt, '-bundle', json, '-audience', 'db', ...domain]
  })) {
    t.same(await verify(...words, ...at), {
      code: 0,
      stdout: 'SVID is valid.\nSPIFFE ID     : spiffe://example.org/web\nTrust domain  : example.org\n' +
        'Valid until   : 2026-01-02 00:00:00 +0000 UTC\nJudged as of  : 2026-01-01 12:00:00 +0000 UTC\n',
      stderr: ''
    }, form)
  }
  t.same(JSON.parse((await verify(chainPem, '-bundle', json, ...at, '--output', 'json')).stdout), {
    at: '2026-01-01T12:00:00.000Z', expires_at: '2026-01-02T00:00:00.000Z', kind: 'x509', spiffe_id: 'spiffe://example.org/web',
    trust_domain: 'example.org', valid: true
  })

  const forged = Buffer.from(leaf)
  forged[forged.length - 3]! ^= 1
  const forgedDer = await write('forged.der', forged)
  const caAsLeaf = await write('ca.pem', pem(ca))
  const trailing = await write('trailing.der', Buffer.concat([leaf, Buffer.of(1)]))
  const [header, , signature] = token.split('.') as [string, string, string]
  const claims = Buffer.from(JSON.stringify({ sub: 'spiffe://example.org/root', aud: ['db'], exp: 1_767_312_000 })).toString('base64url')
  const forgedJwt = await write('forged.jwt', `${header}.${claims}.${signature}`)
  const unnamed = await write('unnamed.json', formatBundleDocument({ ...bundle, x509Authorities: [] }))
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const withoutSub = part({ aud: ['db'], exp: 1_767_312_000 })
  const unsignedJwt = await write('unsigned.jwt', `${part({ alg: 'none' })}.${withoutSub}.`)
  const nobodysJwt = await write('nobodys.jwt', `${header}.${withoutSub}.${signature}`)
  const nobodysLeaf = await write('nobodys.der', forge({ extensions: { ...leafExtensions(), [oid.subjectAltName]: undefined } }).der)
  const httpsLeaf = await write('https.der', forge({ extensions: leafExtensions('https://example.org/web') }).der)
  for (const [rule, words, requirement] of [
    ['unsigned and nobody\'s, by a bundle that names nobody', [unsignedJwt, '-bundle', unnamed, '-audience', 'db', ...at], /^JWT-03$/],
    ['nobody\'s JWT', [nobodysJwt, '-bundle', unnamed, '-audience', 'db', ...at], /^JWT-06$/],
    ['nobody\'s JWT, for a named domain', [nobodysJwt, '-bundle', unnamed, ...domain, '-audience', 'db', ...at], /^JWT-06$/],
    ['leaf without URI SAN', [nobodysLeaf, '-bundle', unnamed, ...at], /^X509-01$/],
    ['leaf without URI SAN, by PEM', [nobodysLeaf, '-bundle', caPem, ...at], /^X509-01$/],
    ['leaf with another scheme', [httpsLeaf, '-bundle', unnamed, ...at], /^X509-20$/],
    ['too late', [chainPem, '-bundle', json, '-at', '2026-01-02T00:00:01Z'], /^(X509-19|X509-20|AMB-\d+)$/],
    ['too early', [chainPem, '-bundle', json, '-at', '2025-12-31T23:59:59Z'], /^(X509-19|X509-20|AMB-\d+)$/],
    ['forged signature', [forgedDer, '-bundle', json, ...at], /^X509-\d\d$/],
    ['a CA is no SVID', [caAsLeaf, '-bundle', json, ...at], /^(X509|ID)-\d\d$/],
    ['bundle of another domain', [chainPem, '-bundle', otherPem, ...at], /^(X509-21|TDB-\d\d)$/],
    ['bundle called another domain\'s', [chainPem, '-bundle', json, '-trust-domain', 'other.test', ...at], /^(X509-21|TDB-\d\d)$/],
    ['another CA called this domain\'s', [chainPem, '-bundle', otherPem, ...domain, ...at], /^X509-\d\d$/],
    ['trailing byte', [trailing, '-bundle', json, ...at], undefined],
    ['JWT too late', [jwt, '-bundle', json, '-audience', 'db', '-at', '2026-01-02T00:05:00Z'], /^(JWT|AMB)-\d\d$/],
    ['JWT for others', [jwt, '-bundle', json, '-audience', 'cache', ...at], /^JWT-\d\d$/],
    ['JWT with other claims', [forgedJwt, '-bundle', json, '-audience', 'db', ...at], /^JWT-\d\d$/]
  ] as const) {
    const { code, stdout, stderr } = await verify(...words, '--output', 'json')
    t.equal(code, 1, `${rule}: refused`)
    t.equal(stderr, '', rule)
    const told = JSON.parse(stdout) as { valid: boolean, error: { code: string, message: string, requirement?: string } }
    t.equal(told.valid, false)
    t.type(told.error.message, 'string')
    t.match(told.error.code, /^(x509_|jwt_|certificate_)/, `${rule}: ${told.error.code}`)
    if (requirement !== undefined) t.match(told.error.requirement, requirement, `${rule}: ${told.error.requirement} ${told.error.message}`)
    const pretty = await verify(...words)
    t.match(pretty, { code: 1, stdout: '', stderr: /^SVID is refused\.\nError: .*\n {2}code: / }, `${rule}, told to people`)
    if (told.error.requirement !== undefined) t.match(pretty.stderr, `(${told.error.requirement})`)
  }

  for (const [rule, words, message] of [
    ['no such file', [join(folder, 'absent'), '-bundle', json], /cannot read .*absent: no such file/],
    ['no such bundle', [chainPem, '-bundle', join(folder, 'absent')], /cannot read .*absent: no such file/],
    ['no bundle', [chainPem], /a bundle is required/],
    ['no file', ['-bundle', json], /FILE is missing/],
    ['an empty file', [await write('empty', ''), '-bundle', json], /is empty: an X.509 chain/],
    ['a bundle is no SVID', [json, '-bundle', json], /looks like a bundle/],
    ['PEM of a key', [await write('key.pem', encodePem('PRIVATE KEY', leaf)), '-bundle', json], /PEM without a CERTIFICATE block/],
    ['a bundle that is none', [chainPem, '-bundle', await write('x.json', '{"keys": 1}')], /x\.json is not a bundle: .*keys/],
    ['a bundle without certificates', [chainPem, '-bundle', jwt], /is not a bundle: it holds no PEM certificate/],
    ['PEM of two domains', [chainPem, '-bundle', bothPem], /does not say whose bundle it is: give -trust-domain/],
    ['JWT without audience', [jwt, '-bundle', json], /give -audience/],
    ['audience without JWT', [chainPem, '-bundle', json, '-audience', 'db'], /-audience is for a JWT/],
    ['no time', [chainPem, '-bundle', json, '-at', 'noon'], /-at: must be a time/],
    ['no trust domain', [chainPem, '-bundle', json, '-trust-domain', 'A'], /-trust-domain: trust domain has a character/]
  ] as const) t.match(await verify(...words), { code: 2, stdout: '', stderr: message }, `${rule}: unusable`)

  const input = await runAssay(['svid', 'verify', '-', '-bundle', json, '-audience', 'db', ...at], { input: `${token}\n` })
  t.equal(input.code, 0, 'standard input')
  t.notMatch(JSON.stringify(await verify(forgedJwt, '-bundle', json, '-audience', 'db', ...at)), signature, 'tokens are not repeated')
})

void t.test('encodings without a specification are no SVIDs, whatever ID they carry', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-svid-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const { bundle, leaf, token } = await createAuthority('example.org')
  const json = join(folder, 'bundle.json')
  await writeFile(json, formatBundleDocument(bundle))
  const verify = async (content: string, ...words: string[]) => {
    const file = join(folder, 'svid')
    await writeFile(file, content)
    return await runAssay(['svid', 'verify', file, '-bundle', json, ...words, ...at])
  }
  const claims = { sub: 'spiffe://example.org/web', aud: ['db'], exp: 1_767_312_000 }
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  for (const [what, content] of Object.entries({
    'a bare SPIFFE ID': 'spiffe://example.org/web\n',
    'claims that nobody signed': JSON.stringify(claims),
    'an OpenSSH certificate': `ssh-ed25519-cert-v01@openssh.com ${Buffer.from(leaf).toString('base64')} spiffe://example.org/web\n`,
    'a SAML assertion': '<Assertion><Subject><NameID>spiffe://example.org/web</NameID></Subject></Assertion>\n',
    'an attribute certificate': encodePem('ATTRIBUTE CERTIFICATE', leaf)
  })) t.match(await verify(content), { code: 2, stdout: '', stderr: /an X\.509 chain|without a CERTIFICATE block/ }, `ID-19 ${what}`)

  const encrypted = [part({ alg: 'dir', enc: 'A256GCM' }), '', part(claims), part(claims), 'AAAA'].join('.')
  t.match(await verify(encrypted, '-audience', 'db'), { code: 1, stderr: /no JWS in compact form/ }, 'ID-19 JWT-01 a JWE')
  const [header = '', ...rest] = token.split('.')
  const told = JSON.parse(Buffer.from(header, 'base64url').toString()) as object
  const retyped = (typ: string) => verify([part({ ...told, typ }), ...rest].join('.'), '-audience', 'db')
  for (const typ of ['wit+jwt', 'at+jwt', 'secevent+jwt']) {
    t.match(await retyped(typ), { code: 1, stderr: /typ is neither/ }, `ID-19 JWT-05 a token of another specification, ${typ}`)
  }
})

void t.test('svid inspect', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-svid-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const { ca, leaf, token } = await createAuthority('example.org')
  const chain = join(folder, 'chain.pem')
  await writeFile(chain, pem(leaf, ca))
  const { code, stdout } = await runAssay(['svid', 'inspect', chain])
  t.equal(code, 0)
  for (const row of [
    /^Certificate 1\n/, / {2}Subject +: C=US, O=SPIRE, CN=web\.test\n/, / {2}CA +: false\n/, / {2}Public key +: EC prime256v1\n/,
    / {2}Key usage +: .*digitalSignature/, / {2}Extended key usage +: serverAuth, clientAuth\n/,
    / {2}URI SAN +: spiffe:\/\/example\.org\/web\n/,
    / {2}DNS SAN +: web\.test\n/, / {2}Valid until +: 2026-01-02 00:00:00 \+0000 UTC\n/, /\nCertificate 2\n/, / {2}CA +: true\n/
  ]) t.match(stdout, row)
  const { certificates } = JSON.parse((await runAssay(['svid', 'inspect', chain, '-output', 'json'])).stdout) as { certificates: object[] }
  t.match(certificates, [
    { is_ca: false, uri_sans: ['spiffe://example.org/web'], not_after: '2026-01-02T00:00:00.000Z', sha256: /^[0-9a-f]{64}$/ },
    { is_ca: true, uri_sans: ['spiffe://example.org'] }
  ])
  const jwt = await runAssay(['svid', 'inspect', '-'], { input: token })
  t.match(jwt.stdout, /^Header\n[^]* {2}alg +: "ES256"\n[^]*Claims\n[^]* {2}aud +: \["db"\]\n/)
  t.match(jwt.stdout, / {2}exp +: \d+ \(2026-01-02 00:00:00 \+0000 UTC\)\n/)
  t.match(JSON.parse((await runAssay(['svid', 'inspect', '-', '-output=json'], { input: token })).stdout), {
    kind: 'jwt', header: { alg: 'ES256', kid: 'k1' }, claims: { sub: 'spiffe://example.org/web' }
  })
  t.notMatch(jwt.stdout, token.split('.')[2], 'without the signature the output is no token')
  const claims = Buffer.from('{"userName": {"innerName": 1}, "n": 123456789012345678901}').toString('base64url')
  const foreign = await runAssay(['svid', 'inspect', '-', '-output=json'], { input: `e30.${claims}.` })
  t.match(foreign.stdout, '"userName":{"innerName":1}', 'claim names are kept as they are')
  for (const input of ['e30.e30', 'e30.W10.x', 'e30.eyJhIjoxLCJhIjoyfQ.x']) {
    t.not((await runAssay(['svid', 'inspect', '-'], { input })).code, 0, input)
  }
})
