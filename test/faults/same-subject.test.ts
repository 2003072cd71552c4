import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openTlsChannel } from '../../src/rpc/channel.ts'
import { openRpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { decodeBundle, encodeBundle } from '../../src/wire/bundle-codec.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { parseCertificate, type Certificate } from '../../src/x509/certificate.ts'
import { issueJwtSvid } from '../../src/jwt/issue-jwt-svid.ts'
import { prepareLeafIssuer } from '../../src/x509/leaf-issuer.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { signerOf } from '../../src/x509/private-key-signer.ts'
import { createTestAuthority, type TestAuthority } from '../fakes/authority.ts'
import { startAgent, startServer, type RunningServer } from '../fakes/processes.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { Administrator } from '../interop/administrator.ts'
import { securityHeader, Workload } from './workload.ts'

/** A chain, DER, leaf first, and its key, PKCS#8 DER. */
interface Identity { readonly chain: readonly Uint8Array[], readonly privateKey: Uint8Array }

const caSubject = { country: ['DE'], organization: ['Same'], common_name: 'Same CA' }

// Two real servers, example.org and partner.test, with the same ca_subject, and a third CA: partner.test turned hostile, whose CA
// certificate has example.org's name to the byte.
t.test('two trust domains whose CAs have the same subject', async t => {
  await using own = await startServer({ trustDomain: 'example.org', config: { ca_subject: caSubject } })
  await using partner = await startServer({
    trustDomain: 'partner.test', config: { ca_subject: caSubject, admin_ids: ['spiffe://example.org/admin'] }
  })
  await using ownAdmin = new Administrator(own)
  await using partnerAdmin = new Administrator(partner)
  const ownBundle = decodeBundle(await ownAdmin.bundles.getBundle({}))
  const ownCa = parseCertificate(ownBundle.x509Authorities[0]?.certificate ?? new Uint8Array())
  const hostile = await createTestAuthority('partner.test', {
    subject: {
      country: caSubject.country,
      organization: caSubject.organization,
      commonName: caSubject.common_name,
      serialNumber: BigInt(`0x${ownCa.serialNumber}`).toString()
    }
  })
  t.same(Buffer.from(hostile.certificate.subjectDer), Buffer.from(ownCa.subjectDer), 'the CA names are equal')
  const partnerBundle = joined(decodeBundle(await partnerAdmin.bundles.getBundle({})), hostile.bundle)
  await ownAdmin.setBundle(encodeBundle(partnerBundle))
  await partnerAdmin.setBundle(encodeBundle(ownBundle))
  const forged = await forge('spiffe://example.org/admin', hostile, ownCa)
  const ownAdminSvid = await mint(ownAdmin, 'spiffe://example.org/admin')

  await t.test('at a server\'s TLS port', async t => {
    await ownAdmin.register('spiffe://example.org/admin', 'spiffe://example.org/node', { admin: true })
    t.equal(await callAs(own, ownAdminSvid), 'OK', 'an administrator of the domain is let in')
    t.equal(await callAs(partner, ownAdminSvid), 'OK', 'and at the partner, which lists that ID as admin')
    t.equal(await callAs(own, await mint(partnerAdmin, 'spiffe://partner.test/admin')), 'UNAUTHENTICATED', 'not the partner\'s')
    for (const [how, identity] of Object.entries(forged)) {
      t.equal(await callAs(own, identity), 'UNAUTHENTICATED', `X509-21 TS-08 TDB-04 nor its ID signed by the partner's CA, ${how}`)
      t.equal(await callAs(partner, identity), 'UNAUTHENTICATED', `X509-21 also at the partner's own server, ${how}`)
    }
  })

  await t.test('in an agent that looks for its server', async t => {
    const join = (port: number) => startAgent({ server: own, config: { server_port: port } })
    await t.rejects(join(partner.port), /bootstrap_untrusted/, 'the partner\'s server is refused')
    for (const [how, identity] of Object.entries(await forge('spiffe://example.org/spire/server', hostile, ownCa))) {
      await using impostor = openRpcServer({ services: [], log: silentLogger, clock: systemClock })
      const { port } = await impostor.listenTls({ host: '127.0.0.1', port: 0, identity: () => identity, bundleOf: () => undefined })
      await t.rejects(join(port), /bootstrap_untrusted/, `X509-21 an impostor is refused, ${how}`)
    }
  })

  await t.test('in ValidateJWTSVID', async t => {
    await using agent = await startAgent({ server: own })
    await ownAdmin.register('spiffe://example.org/workload', agent.id, { federatesWith: ['partner.test'] })
    await using workload = new Workload(agent.socket)
    await workload.granted('spiffe://example.org/workload')
    const validate = async (svid: string) => {
      try {
        return (await workload.api.validateJWTSVID({ audience: 'db', svid }, { metadata: securityHeader })).spiffeId
      } catch (error) {
        return (error as { status: string }).status
      }
    }
    const ownToken = await mintJwt(ownAdmin, 'spiffe://example.org/web')
    t.equal(await validate(ownToken), 'spiffe://example.org/web', 'a token of the own domain is valid')
    const partnerToken = await mintJwt(partnerAdmin, 'spiffe://partner.test/web')
    t.equal(await validate(partnerToken), 'spiffe://partner.test/web', 'one of the partner too')
    for (const [how, token] of Object.entries(await forgeTokens('spiffe://example.org/web', hostile, ownBundle))) {
      t.equal(await validate(token), 'INVALID_ARGUMENT', `WLAPI-31 an ID of the own domain signed by the partner is refused, ${how}`)
    }
  })

  await t.test('in `assay svid verify`', async t => {
    const verify = await verifierOf(t)
    const partnerSvid = await mint(partnerAdmin, 'spiffe://partner.test/web')
    t.equal(await verify(pemOf(ownAdminSvid), ownBundle), 0, 'the own bundle verifies the own SVID')
    t.equal(await verify(pemOf(partnerSvid), partnerBundle), 0, 'the partner\'s its own')
    t.equal(await verify(pemOf(partnerSvid), ownBundle), 1, 'the own bundle refuses the partner\'s SVID')
    for (const [how, identity] of Object.entries(forged)) {
      t.equal(await verify(pemOf(identity), ownBundle), 1, `X509-21 WLAPI-12 the own bundle refuses the forged one, ${how}`)
      t.equal(await verify(pemOf(identity), partnerBundle), 1, `X509-21 TDB-04 WLAPI-12 the signer's bundle has no say elsewhere, ${how}`)
    }
    t.equal(await verify(await mintJwt(ownAdmin, 'spiffe://example.org/web'), ownBundle, 'db'), 0, 'a token of the own domain')
    for (const [how, token] of Object.entries(await forgeTokens('spiffe://example.org/web', hostile, ownBundle))) {
      t.equal(await verify(token, ownBundle, 'db'), 1, `a forged token, ${how}`)
      t.equal(await verify(token, partnerBundle, 'db'), 1, `a forged token under the signer's bundle, ${how}`)
    }
  })
})

/** Leaves with an ID of another domain, signed by the hostile CA: one that names its own key, one that names the victim's. */
async function forge (id: string, hostile: TestAuthority, victim: Certificate): Promise<Record<string, Identity>> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const sign = async (subjectKeyId: Uint8Array | undefined) => {
    // Our own issuer refuses such an order; told that the CA is the victim's, it signs.
    const issuer = prepareLeafIssuer({ ...hostile.certificate, uriSans: victim.uriSans, subjectKeyId }, hostile.signer)
    const { publicKey } = signerOf(privateKey)
    const [notBefore, notAfter] = [new Date(Date.now() - 10_000), new Date(Date.now() + 600_000)]
    return await issuer.issue({ id: parseSpiffeId(id), publicKey, dnsNames: [], notBefore, notAfter })
  }
  const key = privateKey.export({ format: 'der', type: 'pkcs8' })
  const plain = await sign(hostile.certificate.subjectKeyId)
  return {
    'naming the signer\'s key': { chain: [plain], privateKey: key },
    'naming the victim\'s key': { chain: [await sign(victim.subjectKeyId)], privateKey: key },
    'with the signer\'s CA certificate': { chain: [plain, hostile.certificate.raw], privateKey: key },
    'with the victim\'s CA certificate': { chain: [plain, victim.raw], privateKey: key }
  }
}

async function forgeTokens (id: string, hostile: TestAuthority, victim: Bundle): Promise<Record<string, string>> {
  const sign = (keyId: string) => issueJwtSvid({
    id: parseSpiffeId(id), audience: ['db'], issuedAt: new Date(), expiresAt: new Date(Date.now() + 60_000)
  }, { keyId, signer: hostile.jwtKey.signer })
  return {
    'naming the signer\'s key': await sign(hostile.jwtKey.keyId),
    'naming the victim\'s key': await sign(victim.jwtAuthorities[0]?.keyId ?? '')
  }
}

/** Makes an administrator's call with an SVID. @returns OK or the status */
async function callAs (server: RunningServer, identity: Identity): Promise<string> {
  const options = { identity: () => identity, verifyServer: () => undefined, log: silentLogger }
  await using channel = openTlsChannel({ address: server.address, ...options })
  try {
    await channel.client(entryService).countEntries({}, { timeoutMs: 10_000 })
    return 'OK'
  } catch (error) {
    return (error as { status: string }).status
  }
}

async function mint (admin: Administrator, id: string): Promise<Identity> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const { svid } = await admin.svids.mintX509SVID({ csr: createCertificateRequest(privateKey, { uriSans: [id] }) })
  return { chain: svid?.certChain ?? [], privateKey: privateKey.export({ format: 'der', type: 'pkcs8' }) }
}

async function mintJwt (admin: Administrator, id: string): Promise<string> {
  const [, trustDomain = '', path = ''] = /^spiffe:\/\/([^/]+)(.*)$/.exec(id) ?? []
  return (await admin.svids.mintJWTSVID({ id: { trustDomain, path }, audience: ['db'] })).svid?.token ?? ''
}

function joined (a: Bundle, b: Bundle): Bundle {
  return { ...a, x509Authorities: [...a.x509Authorities, ...b.x509Authorities], jwtAuthorities: [...a.jwtAuthorities, ...b.jwtAuthorities] }
}

function pemOf ({ chain }: Identity): string { return chain.map(der => encodePem('CERTIFICATE', der)).join('') }

/** Runs the command on files. @returns its exit code */
async function verifierOf (t: Test) {
  const folder = await mkdtemp(join(tmpdir(), 'assay-verify-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return async (svid: string, bundle: Bundle, audience?: string): Promise<number> => {
    const [svidFile, bundleFile] = [join(folder, 'svid'), join(folder, 'bundle.json')]
    await writeFile(svidFile, svid)
    await writeFile(bundleFile, formatBundleDocument(bundle))
    const forWhom = audience === undefined ? [] : ['--audience', audience]
    return (await runAssay(['svid', 'verify', svidFile, '--bundle', bundleFile, '--trust-domain', bundle.trustDomain, ...forWhom])).code
  }
}
