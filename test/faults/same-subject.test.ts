import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import t, { type Test } from 'tap'
import { openTlsChannel } from '../../src/rpc/channel.ts'
import { openRpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { decodeBundle, encodeBundle } from '../../src/wire/bundle-codec.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { createNamesake, forge, forgeTokens, mint, pemOf, type Identity } from '../fakes/forge.ts'
import { startAgent, startServer, type RunningServer } from '../fakes/processes.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { Administrator } from '../interop/administrator.ts'
import { GoWatcher, withoutGo } from '../interop/go-programs.ts'
import { securityHeader, Workload } from './workload.ts'

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
  const { country, organization, common_name: commonName } = caSubject
  const hostile = await createNamesake('partner.test', ownCa, { country, organization, commonName })
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
    const join = (port: number) => startAgent({ server: own, config: { server_addresses: [`127.0.0.1:${port}`] } })
    await t.rejects(join(partner.port), /bootstrap_untrusted/, 'the partner\'s server is refused')
    for (const [how, identity] of Object.entries(await forge('spiffe://example.org/spire/server', hostile, ownCa))) {
      await using impostor = openRpcServer({ services: [], log: silentLogger, clock: systemClock })
      const { port } = await impostor.listenTls({ host: '127.0.0.1', port: 0, identity: () => identity, bundleOf: () => undefined })
      await t.rejects(join(port), /bootstrap_untrusted/, `X509-21 an impostor is refused, ${how}`)
    }
  })

  await using agent = await startAgent({ server: own })
  await ownAdmin.register('spiffe://example.org/workload', agent.id, { federatesWith: ['partner.test'] })
  await using workload = new Workload(agent.socket)
  await workload.granted('spiffe://example.org/workload')

  await t.test('in a go-spiffe workload of a real agent', { skip: withoutGo }, async t => {
    await using consumer = await GoWatcher.start('workload-client', ['serve', '-socket', agent.socket])
    const { address } = await consumer.next('serving', 'the listener', () => true)
    const callAs = async (identity: Identity) => {
      await dial(String(address), identity)
      return await consumer.next('peer', 'the peer', () => true)
    }
    t.match(await callAs(ownAdminSvid), { id: 'spiffe://example.org/admin' }, 'a peer of the own domain is let in')
    const guest = await hostile.issue('/guest')
    t.match(await callAs(guest), { id: 'spiffe://partner.test/guest' }, 'one of the partner, by the very CA that forges')
    for (const [how, identity] of Object.entries(forged)) {
      const refused = { id: undefined, refused: /x509svid: could not verify/ }
      t.match(await callAs(identity), refused, `X509-21 WLAPI-12 the own ID signed by the partner's CA is refused, ${how}`)
    }
  })

  await t.test('in ValidateJWTSVID', async t => {
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

/** Shows a server over TLS an identity, whatever the server's own, and waits until either side has ended the connection. */
async function dial (address: string, { chain, privateKey }: Identity): Promise<void> {
  const [host = '', port] = address.split(':')
  const socket = connect({
    host, port: Number(port), cert: pemOf({ chain }), key: encodePem('PRIVATE KEY', privateKey), rejectUnauthorized: false
  })
  await new Promise(resolve => { socket.on('error', () => undefined).on('close', resolve).resume() })
}

async function mintJwt (admin: Administrator, id: string): Promise<string> {
  const [, trustDomain = '', path = ''] = /^spiffe:\/\/([^/]+)(.*)$/.exec(id) ?? []
  return (await admin.svids.mintJWTSVID({ id: { trustDomain, path }, audience: ['db'] })).svid?.token ?? ''
}

function joined (a: Bundle, b: Bundle): Bundle {
  return { ...a, x509Authorities: [...a.x509Authorities, ...b.x509Authorities], jwtAuthorities: [...a.jwtAuthorities, ...b.jwtAuthorities] }
}

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
