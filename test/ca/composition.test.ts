import { createPublicKey, X509Certificate } from 'node:crypto'
import { decodeJwt, importSPKI, jwtVerify } from 'jose'
import t from 'tap'
import { CertificateAuthority } from '../../src/ca/certificate-authority.ts'
import type { AuthorityJournal, AuthorityRecord } from '../../src/ca/authority-record.ts'
import { emptyBundle } from '../../src/ca/own-bundle.ts'
import { createMemoryKeyManager } from '../../src/keys/memory/memory-key-manager.ts'
import type { CredentialComposer } from '../../src/plugins/credential-composer.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { uniqueIdComposerPlugin } from '../../src/server/credential-composer/uniqueid-plugin.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { encodeName } from '../../src/x509/name.ts'
import { encodeDistinguishedName, readDistinguishedName } from '../../src/x509/distinguished-name.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { newKey } from '../fakes/agent-client.ts'
import { ManualClock } from '../fakes/clock.ts'
import { idOf } from '../fakes/entries.ts'
import { FakeUpstream } from '../fakes/upstream.ts'
import { describeByOpenssl, faultsByOpenssl, noOpenssl } from '../x509/openssl-judge.ts'

const domain = parseTrustDomain('example.org')
const signal = AbortSignal.timeout(120_000)
const publicKey = createPublicKey(newKey()).export({ format: 'der', type: 'spki' })
const utf8 = (text: string) => Buffer.concat([Buffer.of(0x0c, text.length), Buffer.from(text)])
const tag = '1.3.6.1.4.1.99999.1'

async function authorityWith (composers: readonly CredentialComposer[], upstream?: FakeUpstream, clock = new ManualClock()) {
  const records = new Map<string, AuthorityRecord>()
  let bundle = emptyBundle(domain)
  const journal: AuthorityJournal = {
    list: async kind => [...records.values()].filter(record => record.kind === kind),
    async save (saved, publish) {
      bundle = publish(bundle)
      for (const record of saved) records.set(`${record.kind} ${record.authorityId}`, record)
      return bundle
    }
  }
  const bundles = { get: async () => bundle, update: async () => { throw new Error('not here') } }
  const keys = createMemoryKeyManager()
  const ca = await CertificateAuthority.open({
    trustDomain: domain, caTtlSeconds: 86_400, caKeyType: 'ec-p256', jwtKeyType: 'ec-p256', jwtIssuer: 'https://issuer.example.org',
    caSubject: { country: ['US'], organization: ['SPIFFE'], commonName: '' }, disableJwtSvids: false, composers, upstream
  }, { keys, journal, bundles, clock, log: silentLogger })
  await ca.rotateIfDue({ journal, keys })
  const issue = (path: string, dnsNames: readonly string[] = []) =>
    ca.issueX509Svid({ id: idOf(path), publicKey, dnsNames, ttlSeconds: 3600 })
  return {
    ca, clock, issue,
    mint: () => ca.issueJwtSvid({ id: idOf('/web'), audience: ['db'], ttlSeconds: 300, jti: 'j' }),
    verify: (chain: readonly Uint8Array[]) => verifyX509Svid(chain, { bundleOf: () => ca.bundle.value, at: clock.now() }).id
  }
}

const composer = (name: string, methods: Omit<CredentialComposer, 'name' | typeof Symbol.asyncDispose>): CredentialComposer =>
  ({ name, ...methods, async [Symbol.asyncDispose] () {} })
const subjectOf = (der: Uint8Array | undefined) => readDistinguishedName(parseCertificate(der as Uint8Array).subjectDer)

await t.test('uniqueid gives each workload a subject of its own, as SPIRE computes it', async t => {
  const { issue, verify } = await authorityWith([await uniqueIdComposerPlugin.start({}, undefined, signal)])
  const svid = await issue('/web', ['web.example.org'])
  t.equal(verify(svid.chain), idOf('/web'))
  const { subject } = new X509Certificate(svid.chain[0] as Uint8Array)
  // printf %s spiffe://example.org/web | sha256sum | cut -c1-32
  t.equal(subject, 'C=US\nO=SPIRE\nCN=web.example.org\nx500UniqueIdentifier=5435ad736577b1c6010684ba059e1171')
  t.not(subjectOf((await issue('/api')).chain[0]).extraNames[0]?.value, subjectOf(svid.chain[0]).extraNames[0]?.value)
  for (const path of ['/spire/server', '/spire/agent/join_token/x']) {
    t.strictSame(subjectOf((await issue(path)).chain[0]).extraNames, [], `${path}: of no workload`)
  }
  t.throws(() => uniqueIdComposerPlugin.config.parse({ key: 1 }), 'it has no keys')
})

await t.test('each composer is given what the one before it left, of the kind that it composes', async t => {
  const asked: unknown[] = []
  const note = (name: string): CredentialComposer => composer(name, {
    composeServerX509Ca: async now => {
      asked.push(`${name} ca ${now.subject.organization.join()}`)
      return { ...now, subject: { ...now.subject, organization: [name] }, policies: [...now.policies, '1.2.3'] }
    },
    composeServerX509Svid: async now => ({ ...now, dnsNames: [...now.dnsNames, `${name}.server.example.org`] }),
    composeAgentX509Svid: async (now, { id, publicKey: key }) => {
      asked.push(`${name} agent ${id} ${Buffer.compare(key, publicKey)}`)
      return { ...now, dnsNames: [...now.dnsNames, `${name}.agent.example.org`] }
    },
    composeWorkloadX509Svid: async (now, { id }) => {
      asked.push(`${name} workload ${id} ${now.dnsNames.join()}`)
      return {
        subject: { ...now.subject, organizationalUnit: [...now.subject.organizationalUnit, name] },
        dnsNames: [...now.dnsNames, `${name}.example.org`],
        extensions: name === 'one' ? [{ oid: tag, value: utf8('by one'), critical: false }] : now.extensions
      }
    },
    composeWorkloadJwtSvid: async (claims, id) => {
      asked.push(`${name} jwt ${id}`)
      return { ...claims, by: [...(claims['by'] as string[] | undefined) ?? [], name] }
    }
  })
  const silent = composer('silent', {})
  const { ca, clock, issue, mint, verify } = await authorityWith([note('one'), silent, note('two')])
  t.strictSame(asked.splice(0), ['one ca SPIFFE', 'two ca one'])
  const root = ca.bundle.value.x509Authorities[0]?.certificate as Uint8Array
  t.strictSame(subjectOf(root).organization, ['two'])

  const web = await issue('/web', ['web.example.org'])
  t.strictSame(asked.splice(0), [
    `one workload ${idOf('/web')} web.example.org`, `two workload ${idOf('/web')} web.example.org,one.example.org`
  ])
  t.equal(verify(web.chain), idOf('/web'))
  t.strictSame(subjectOf(web.chain[0]).organizationalUnit, ['one', 'two'])
  t.strictSame(parseCertificate(web.chain[0] as Uint8Array).dnsSans, ['web.example.org', 'one.example.org', 'two.example.org'])
  const agent = await issue('/spire/agent/join_token/a')
  t.strictSame(asked.splice(0), ['one', 'two'].map(name => `${name} agent ${idOf('/spire/agent/join_token/a')} 0`))
  t.strictSame(parseCertificate(agent.chain[0] as Uint8Array).dnsSans, ['one.agent.example.org', 'two.agent.example.org'])
  const server = await issue('/spire/server')
  t.strictSame(parseCertificate(server.chain[0] as Uint8Array).dnsSans, ['one.server.example.org', 'two.server.example.org'])
  for (const { chain } of [agent, server]) verify(chain)

  const { token } = await mint()
  t.strictSame(asked.splice(0), ['one', 'two'].map(name => `${name} jwt ${idOf('/web')}`))
  const [key] = ca.bundle.value.jwtAuthorities
  const { payload } = await jwtVerify(token, await importSPKI(encodePem('PUBLIC KEY', key?.publicKey as Uint8Array), 'ES256'), {
    currentDate: clock.now()
  })
  const now = clock.now().getTime() / 1000
  t.strictSame(payload, {
    aud: ['db'], exp: now + 300, iat: now, sub: idOf('/web'), iss: 'https://issuer.example.org', jti: 'j', by: ['one', 'two']
  })

  const [below] = await ca.issueDownstreamCa({ publicKey, ttlSeconds: 3600 })
  t.strictSame(subjectOf(below), { ...subjectOf(below), organization: ['two'], organizationalUnit: ['DOWNSTREAM-1'] })
  await t.test('and a foreign judge finds nothing wrong with any of it', { skip: noOpenssl }, async t => {
    t.equal(faultsByOpenssl(web.chain, root, clock.now()), '')
    t.match(describeByOpenssl(web.chain[0] as Uint8Array), /1\.3\.6\.1\.4\.1\.99999\.1: \S*by one/)
    t.match(describeByOpenssl(root), /X509v3 Certificate Policies: Policy: 1\.2\.3/)
  })
})

await t.test('an upstream is asked for the CA that composers made', async t => {
  const clock = new ManualClock()
  const upstream = await FakeUpstream.open(() => clock.now())
  const csrs: Uint8Array[] = []
  const mint = upstream.mintX509Ca.bind(upstream)
  upstream.mintX509Ca = async order => {
    csrs.push(order.csr)
    return await mint(order)
  }
  await authorityWith([composer('one', {
    composeServerX509Ca: async now => ({
      subject: { ...now.subject, commonName: 'CA of site 7' }, policies: ['1.2.3'],
      extensions: [{ oid: tag, value: utf8('x'), critical: false }]
    })
  })], upstream, clock)
  const text = Buffer.from(csrs[0] as Uint8Array)
  t.ok(text.includes('CA of site 7'))
  t.ok(text.includes(Buffer.from('2b0601040186 8d1f01'.replace(' ', ''), 'hex')), 'the extension is asked for')
  t.notOk(text.includes(Buffer.from('551d20', 'hex')), 'policies are the upstream\'s to say')
})

await t.test('what a composer must not do is refused, and nothing is signed', async t => {
  const invalid = { code: 'composition_invalid' }
  const extension = (oid: string, critical = false) => ({ oid, value: utf8('x'), critical })
  const ofSvid: Record<string, NonNullable<CredentialComposer['composeWorkloadX509Svid']>> = {
    'another SPIFFE ID': async now => ({ ...now, extensions: [extension('2.5.29.17')] }),
    'another key usage': async now => ({ ...now, extensions: [extension('2.5.29.15')] }),
    'a CA': async now => ({ ...now, extensions: [extension('2.5.29.19')] }),
    'a critical extension': async now => ({ ...now, extensions: [extension(tag, true)] }),
    'an extension twice': async now => ({ ...now, extensions: [extension(tag), extension(tag)] }),
    'no object identifier': async now => ({ ...now, extensions: [extension('1.3.x')] }),
    'one that none can be': async now => ({ ...now, extensions: [extension('1.40.1')] }),
    'too long': async now => ({ ...now, extensions: [{ oid: tag, value: Buffer.alloc(70_000), critical: false }] }),
    'no attribute type': async now => ({ ...now, subject: { ...now.subject, extraNames: [{ oid: 'x', value: 'y' }] } })
  }
  for (const [what, composeWorkloadX509Svid] of Object.entries(ofSvid)) {
    const { issue } = await authorityWith([composer('bad', { composeWorkloadX509Svid })])
    await t.rejects(issue('/web'), invalid, what)
    await issue('/spire/server')
  }
  const claims: Record<string, object> = {
    'another sub': { sub: 'spiffe://example.org/admin' }, 'no sub': { sub: undefined },
    'no exp': { exp: undefined }, 'exp that is no number': { exp: '1' },
    'exp in the past': { exp: 1 }, 'exp later than it was': { exp: 4e9 }, 'no aud': { aud: undefined }, 'an empty aud': { aud: [] },
    'an audience without a name': { aud: [''] }, 'nbf in the future': { nbf: 4e9 }, 'iat that is no number': { iat: 'now' }
  }
  for (const [what, change] of Object.entries(claims)) {
    const { mint } = await authorityWith([composer('bad', { composeWorkloadJwtSvid: async now => ({ ...now, ...change }) })])
    await t.rejects(mint(), invalid, what)
  }
  await t.rejects(authorityWith([composer('bad', {
    composeServerX509Ca: async now => ({ ...now, policies: ['no oid'] })
  })]), invalid, 'a CA with policies that are none')
  const sharper = await authorityWith([composer('sharp', {
    composeWorkloadJwtSvid: async now => ({ ...now, exp: (now['iat'] as number) + 60.5, aud: 'db', iat: undefined })
  })])
  const { token, issuedAt, expiresAt } = await sharper.mint()
  t.equal(expiresAt.getTime() - issuedAt.getTime(), 60_000, 'one may shorten a life')
  t.match(decodeJwt(token), { aud: 'db', exp: expiresAt.getTime() / 1000 })
  const broken = await authorityWith([composer('broken', {
    composeWorkloadX509Svid: async () => { throw new SpiffeError('kubernetes_unreachable', 'away') }
  })])
  await t.rejects(broken.issue('/web'), { code: 'kubernetes_unreachable', message: 'CredentialComposer "broken": away' })
})

await t.test('names are read by their meaning and written as they were', async t => {
  const der = encodeName([
    ['2.5.4.6', 'US'], ['2.5.4.10', 'Acme'], ['2.5.4.11', 'a'], ['2.5.4.11', 'b'], ['2.5.4.7', 'Örebro'], ['2.5.4.8', 'T'],
    ['2.5.4.9', 'Main 1'], ['2.5.4.17', '70210'], ['2.5.4.3', 'web'], ['2.5.4.5', '7'], ['2.5.4.45', 'u']
  ])
  const name = readDistinguishedName(der)
  t.strictSame(name, {
    country: ['US'], organization: ['Acme'], organizationalUnit: ['a', 'b'], locality: ['Örebro'], province: ['T'],
    streetAddress: ['Main 1'], postalCode: ['70210'], commonName: 'web', serialNumber: '7', extraNames: [{ oid: '2.5.4.45', value: 'u' }]
  })
  t.strictSame(encodeDistinguishedName(name), der)
  const replaced = encodeDistinguishedName({ ...name, extraNames: [{ oid: '2.5.4.3', value: 'api' }] })
  t.equal(readDistinguishedName(replaced).commonName, 'api', 'an extra name counts instead of the field')
  t.strictSame(encodeDistinguishedName(readDistinguishedName(Buffer.from('3000', 'hex'))), Buffer.from('3000', 'hex'))
})
