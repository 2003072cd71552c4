import { createPublicKey } from 'node:crypto'
import t from 'tap'
import { encodeBundle } from '../../src/wire/bundle-codec.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { attest, createJoinToken, newKey, openServerChannel } from '../fakes/agent-client.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { startTestServer } from '../fakes/server.ts'
import { id, openAs, seed, selectors } from './admin/admin-client.ts'
import { agentId, checkAnswers as check, exists, internal, invalid, missing, type Row, unmet } from './contract/answers.ts'

t.test('bundles and relationships (spire-surface §1.4, §1.7)', async t => {
  await using server = await startTestServer()
  const bundle = encodeBundle((await createTestAuthority('partner.test')).bundle)
  const own = { ...bundle, trustDomain: 'example.org' }
  const bad = { ...bundle, x509Authorities: [{ asn1: Buffer.from('x') }] }
  const relationship = { trustDomain: 'partner.test', bundleEndpointUrl: 'https://partner.test', httpsWeb: {} }
  await check(t, server.admin, [
    ['AppendBundle', 'nothing', {}, 'INVALID_ARGUMENT', /^no authorities to append$/],
    ['AppendBundle', 'what is none', { x509Authorities: bad.x509Authorities }, 'INVALID_ARGUMENT'],
    ['AppendBundle', 'only WIT authorities', { witAuthorities: [{ keyId: 'x' }] }, 'INVALID_ARGUMENT'],
    ['BatchCreateFederatedBundle', 'item by item', { bundle: [bundle, bundle, own, bad, { ...bundle, trustDomain: 'Bad' }] },
      [0, exists, invalid, invalid, invalid]],
    ['BatchUpdateFederatedBundle', 'item by item', { bundle: [bundle, own, { ...bundle, trustDomain: 'none.test' }, { ...bad }] },
      [0, invalid, missing, invalid]],
    ['BatchSetFederatedBundle', 'item by item', { bundle: [bundle, own, bad, { ...bundle, trustDomain: '' }] },
      [0, invalid, invalid, invalid]],
    ['GetFederatedBundle', 'the own domain', { trustDomain: 'example.org' }, 'INVALID_ARGUMENT'],
    ['GetFederatedBundle', 'a bad name', { trustDomain: 'Bad' }, 'INVALID_ARGUMENT'],
    ['GetFederatedBundle', 'one that is not there', { trustDomain: 'none.test' }, 'NOT_FOUND', /^bundle not found$/],
    ['GetFederatedBundle', 'one', { trustDomain: 'partner.test' }, 'OK'],
    ['BatchDeleteFederatedBundle', 'an unknown mode', { trustDomains: ['partner.test'], mode: 7 }, 'INVALID_ARGUMENT'],
    ['BatchCreateEntry', 'one that federates', { entries: [
      { spiffeId: id('/web'), parentId: id('/node'), selectors, federatesWith: ['partner.test'] }] }, [0]],
    ['BatchDeleteFederatedBundle', 'RESTRICT', { trustDomains: ['partner.test', 'none.test', 'Bad', 'example.org'] },
      [unmet, missing, invalid, invalid]],
    ['BatchDeleteFederatedBundle', 'DISSOCIATE', { trustDomains: ['partner.test'], mode: 2 }, [0]],
    ['CountEntries', 'the entry stays', {}, 'OK'],
    ['BatchCreateFederationRelationship', 'item by item', { federationRelationships: [
      relationship, relationship, { ...relationship, trustDomain: 'example.org' }, { ...relationship, bundleEndpointUrl: 'http://a.test' }
    ] }, [0, internal, invalid, invalid]],
    ['BatchUpdateFederationRelationship', 'item by item', { federationRelationships: [
      relationship, { ...relationship, trustDomain: 'none.test' }
    ] }, [0, internal]],
    ['GetFederationRelationship', 'a bad name', { trustDomain: 'Bad' }, 'INVALID_ARGUMENT'],
    ['GetFederationRelationship', 'one that is not there', { trustDomain: 'none.test' }, 'NOT_FOUND'],
    ['RefreshBundle', 'one that is not there', { trustDomain: 'none.test' }, 'NOT_FOUND', /^no relationship with trust domain "none/],
    ['BatchDeleteFederationRelationship', 'item by item', { trustDomains: ['partner.test', 'none.test', ''] }, [0, missing, invalid]]
  ])
  const { count } = await server.admin.client(bundleService).countBundles({})
  t.equal(count, 1, 'the own one counts')
})

t.test('minting, authorities, log levels (spire-surface §1.6, §1.8, §1.9)', async t => {
  await using server = await startTestServer()
  const csr = (options: { uriSans?: string[], dnsSans?: string[] }) => ({ csr: createCertificateRequest(newKey(), options) })
  const web = 'spiffe://example.org/web'
  await check(t, server.admin, [
    ['MintX509SVID', 'no CSR', {}, 'INVALID_ARGUMENT'],
    ['MintX509SVID', 'what is none', { csr: Buffer.from('x') }, 'INVALID_ARGUMENT'],
    ['MintX509SVID', 'no URI', csr({}), 'INVALID_ARGUMENT'],
    ['MintX509SVID', 'two URIs', csr({ uriSans: [web, `${web}/2`] }), 'INVALID_ARGUMENT'],
    ['MintX509SVID', 'another trust domain', csr({ uriSans: ['spiffe://other.org/web'] }), 'INVALID_ARGUMENT'],
    ['MintX509SVID', 'a reserved ID', csr({ uriSans: ['spiffe://example.org/spire/web'] }), 'INVALID_ARGUMENT'],
    ['MintX509SVID', 'a bad DNS name', csr({ uriSans: [web], dnsSans: ['-a.test'] }), 'INVALID_ARGUMENT'],
    ['MintX509SVID', 'a wildcard over a name', csr({ uriSans: [web], dnsSans: ['*.a.test', 'b.a.test'] }), 'INVALID_ARGUMENT'],
    ['MintX509SVID', 'one', csr({ uriSans: [web], dnsSans: ['a.test'] }), 'OK'],
    ['MintJWTSVID', 'no ID', { audience: ['a'] }, 'INVALID_ARGUMENT'],
    ['MintJWTSVID', 'no audience', { id: id('/web') }, 'INVALID_ARGUMENT'],
    ['MintJWTSVID', 'one', { id: id('/web'), audience: ['a'] }, 'OK'],
    ['MintWITSVID', 'one', { id: id('/web') }, 'UNIMPLEMENTED', /^WIT functionality is disabled$/],
    ...['X509', 'JWT'].flatMap((kind): Row[] => [
      [`Activate${kind}Authority`, 'no id', {}, 'INVALID_ARGUMENT'],
      [`Activate${kind}Authority`, 'none is prepared', { authorityId: 'x' }, 'INVALID_ARGUMENT'],
      [`Taint${kind}Authority`, 'an unknown one', { authorityId: 'x' }, 'INVALID_ARGUMENT'],
      [`Prepare${kind}Authority`, 'one', {}, 'OK'],
      [`Get${kind}AuthorityState`, 'both', {}, 'OK']
    ]),
    ['TaintX509UpstreamAuthority', 'without an upstream', { subjectKeyId: 'ab' }, 'FAILED_PRECONDITION'],
    ['RevokeX509UpstreamAuthority', 'without an upstream', { subjectKeyId: 'ab' }, 'FAILED_PRECONDITION'],
    ['SetLogLevel', 'no level', {}, 'INVALID_ARGUMENT', /^newLevel value cannot be LogLevel_UNSPECIFIED$/],
    ['SetLogLevel', 'a level that is none', { newLevel: 99 }, 'INVALID_ARGUMENT'],
    ['SetLogLevel', 'DEBUG', { newLevel: 6 }, 'OK']
  ])
})

t.test('without JWT-SVIDs their methods are UNIMPLEMENTED (spire-surface §1.6, §1.8)', async t => {
  await using server = await startTestServer({ config: { disableJwtSvids: true } })
  const token = await createJoinToken(server)
  await using agent = openServerChannel(server, await attest(server, token))
  const [entryId = ''] = await seed(server, [{ spiffeId: id('/web'), parentId: agentId(token), selectors }])
  const disabled = /^JWT functionality is disabled$/
  await check(t, server.admin, [
    ['MintJWTSVID', 'one', { id: id('/web'), audience: ['a'] }, 'UNIMPLEMENTED', disabled],
    ...['Prepare', 'Activate', 'Taint', 'Revoke'].map((verb): Row =>
      [`${verb}JWTAuthority`, 'any', { authorityId: 'x' }, 'UNIMPLEMENTED', disabled]),
    ['GetJWTAuthorityState', 'any', {}, 'UNIMPLEMENTED', disabled],
    ['GetX509AuthorityState', 'still there', {}, 'OK']
  ])
  await check(t, agent, [['NewJWTSVID', 'one', { entryId, audience: ['a'] }, 'UNIMPLEMENTED', disabled]])
})

t.test('what a nested server asks (spire-surface §1.4, §1.6)', async t => {
  await using server = await startTestServer()
  await seed(server, [{ spiffeId: id('/nested'), parentId: id('/node'), selectors, downstream: true }])
  await using nested = await openAs(server, '/nested')
  const publicKey = createPublicKey(newKey()).export({ type: 'spki', format: 'der' })
  await check(t, nested, [
    ['NewDownstreamX509CA', 'no CSR', {}, 'INVALID_ARGUMENT'],
    ['NewDownstreamX509CA', 'what is none', { csr: Buffer.from('x') }, 'INVALID_ARGUMENT'],
    ['NewDownstreamX509CA', 'one', { csr: createCertificateRequest(newKey()), preferredTtl: 60 }, 'OK'],
    ['PublishJWTAuthority', 'none', {}, 'INVALID_ARGUMENT', /^missing JWT authority$/],
    ['PublishJWTAuthority', 'without a key ID', { jwtAuthority: { publicKey } }, 'INVALID_ARGUMENT'],
    ['PublishJWTAuthority', 'without a key', { jwtAuthority: { keyId: 'k' } }, 'INVALID_ARGUMENT'],
    ['PublishJWTAuthority', 'one', { jwtAuthority: { keyId: 'k', publicKey } }, 'OK'],
    ['PublishWITAuthority', 'one', { witAuthority: { keyId: 'k', publicKey } }, 'UNIMPLEMENTED']
  ])
})
