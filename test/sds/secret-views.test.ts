import { createPrivateKey, X509Certificate } from 'node:crypto'
import t from 'tap'
import type { ValidationForm } from '../../src/sds/envoy-node.ts'
import { openSecretViews } from '../../src/sds/identity-secrets.ts'
import { defaultAliases } from '../../src/sds/resource-names.ts'
import type { SecretView } from '../../src/sds/secret-resource.ts'
import type { WorkloadIdentity } from '../../src/spiffe/svid.ts'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { Secret, SPIFFECertValidatorConfig } from '../../src/wire/generated/envoy-tls.ts'
import { identityOf } from '../fakes/identities.ts'
import { db, foreign, own, web } from '../fakes/sds.ts'

const text = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? '').toString()

function secretOf (view: SecretView, name: string, at = new Date()): Secret | undefined {
  const found = view.find(name, at)
  return found.kind === 'usable' ? decodeMessage(Secret, found.resource.value) : undefined
}

function trustDomainsOf (secret: Secret | undefined): Record<string, string> {
  const { name, typedConfig } = secret?.validationContext?.customValidatorConfig ?? {}
  if (name !== 'envoy.tls.cert_validator.spiffe') return {}
  const { trustDomains } = decodeMessage(SPIFFECertValidatorConfig, typedConfig?.value ?? new Uint8Array())
  return Object.fromEntries(trustDomains.map(one => [one.name, text(one.trustBundle?.inlineBytes)]))
}

await t.test('secrets of an identity (spire-surface §4.1)', async t => {
  const view = (identity: WorkloadIdentity, form: ValidationForm = 'spiffe') => openSecretViews(defaultAliases)(identity, form)
  const full = identityOf(own.bundle, [web, db], [foreign.bundle])

  await t.test('certificates', async t => {
    for (const [name, svid] of [['default', web], [web.id, web], [db.id, db]] as const) {
      const { tlsCertificate } = secretOf(view(full), name) ?? {}
      const leaf = new X509Certificate(text(tlsCertificate?.certificateChain?.inlineBytes))
      const key = text(tlsCertificate?.privateKey?.inlineBytes)
      t.equal(leaf.subjectAltName, `URI:${svid.id}`, name)
      t.match(key, /^-----BEGIN PRIVATE KEY-----\n/, 'PKCS#8')
      t.ok(leaf.checkPrivateKey(createPrivateKey(key)))
    }
    const chained = secretOf(view(identityOf(own.bundle, [{ ...web, chain: [...web.chain, foreign.root] }])), 'default')
    const pem = text(chained?.tlsCertificate?.certificateChain?.inlineBytes)
    t.equal(pem.match(/BEGIN CERTIFICATE/g)?.length, 2)
    t.equal(new X509Certificate(pem).subjectAltName, `URI:${web.id}`, 'leaf first')
    const hinted = view(identityOf(own.bundle, [{ ...web, hint: 'x' }, { ...db, hint: 'x' }]))
    t.ok(secretOf(hinted, web.id) && secretOf(hinted, db.id), 'hints play no part')
  })

  await t.test('bundles', async t => {
    const spiffe = view(full)
    t.same(Object.keys(trustDomainsOf(secretOf(spiffe, 'ROOTCA'))), ['own.test'])
    t.same(Object.keys(trustDomainsOf(secretOf(spiffe, 'spiffe://own.test'))), ['own.test'])
    t.same(Object.keys(trustDomainsOf(secretOf(spiffe, 'spiffe://foreign.test'))), ['foreign.test'])
    const all = trustDomainsOf(secretOf(spiffe, 'ALL'))
    t.same(Object.keys(all), ['foreign.test', 'own.test'], 'sorted by name, without the scheme')
    t.ok(Buffer.from(own.root).equals(new X509Certificate(all['own.test'] ?? '').raw), 'each domain with its own CA')
    t.ok(Buffer.from(foreign.root).equals(new X509Certificate(all['foreign.test'] ?? '').raw))
    const plain = view(full, 'plain')
    for (const [name, root] of [['ROOTCA', own.root], ['spiffe://own.test', own.root], ['spiffe://foreign.test', foreign.root]] as const) {
      const { validationContext } = secretOf(plain, name) ?? {}
      t.ok(Buffer.from(root).equals(new X509Certificate(text(validationContext?.trustedCa?.inlineBytes)).raw), `plain ${name}`)
      t.equal(validationContext?.customValidatorConfig, undefined)
    }
    t.same(plain.find('ALL', new Date()), { kind: 'unsupported', name: 'ALL' })
    t.same([...spiffe.allNames], ['spiffe://own.test', 'spiffe://foreign.test', web.id, db.id])
    const without = view(identityOf(own.bundle, []))
    t.same([without.find('default', new Date()), without.find(web.id, new Date())], [{ kind: 'absent' }, { kind: 'absent' }])
    t.ok(secretOf(without, 'ALL'), 'bundles are served without an identity')
  })

  await t.test('what Envoy would refuse is held back', async t => {
    const empty = { ...foreign.bundle, x509Authorities: [] }
    const broken = { ...foreign.bundle, x509Authorities: [{ certificate: Buffer.from('garbage'), tainted: false }] }
    const unfit: Record<string, [identity: WorkloadIdentity, name: string]> = {
      'the key of another certificate': [identityOf(own.bundle, [{ ...web, privateKey: db.privateKey }]), 'default'],
      'a key that does not parse': [identityOf(own.bundle, [{ ...web, privateKey: Buffer.from('garbage') }]), 'default'],
      'a certificate for another ID': [identityOf(own.bundle, [{ ...web, id: db.id }]), db.id],
      'a chain that does not parse': [identityOf(own.bundle, [{ ...web, chain: [Buffer.from('garbage')] }]), 'default'],
      'an intermediate that does not parse': [identityOf(own.bundle, [{ ...web, chain: [...web.chain, Buffer.from('x')] }]), 'default'],
      'an empty chain': [identityOf(own.bundle, [{ ...web, chain: [] }]), 'default'],
      'an end that is not the certificate\'s': [identityOf(own.bundle, [{ ...web, notAfter: new Date(0) }]), 'default'],
      'an empty bundle': [identityOf({ ...own.bundle, x509Authorities: [] }, []), 'ROOTCA'],
      'a bundle that does not parse': [identityOf(own.bundle, [], [broken]), 'spiffe://foreign.test'],
      'an own bundle that is empty, in ALL': [identityOf({ ...own.bundle, x509Authorities: [] }, [], [foreign.bundle]), 'ALL']
    }
    for (const [title, [identity, name]] of Object.entries(unfit)) {
      const found = view(identity).find(name, new Date())
      t.equal(found.kind, 'unusable', title)
      if (found.kind === 'unusable') t.notMatch(found.reason, /PRIVATE KEY/)
    }
    t.equal(view(full).find('default', new Date(web.notAfter.getTime() - 1)).kind, 'usable')
    t.equal(view(full).find('default', web.notAfter).kind, 'unusable', 'expired')
    for (const bad of [empty, broken]) {
      t.same(Object.keys(trustDomainsOf(secretOf(view(identityOf(own.bundle, [], [bad])), 'ALL'))), ['own.test'],
        'a partner\'s broken bundle does not take the others down')
    }
  })

  await t.test('versions are made of content, and work is shared', async t => {
    const viewOf = openSecretViews(defaultAliases)
    const resourceOf = (identity: WorkloadIdentity, name: string, views = viewOf) => {
      const found = views(identity, 'spiffe').find(name, new Date())
      if (found.kind !== 'usable') throw new Error(`${name} is ${found.kind}`)
      return found.resource
    }
    const later = identityOf(full.bundle, [web, await own.issue('/db')], [foreign.bundle], 2)
    t.equal(resourceOf(full, web.id).value, resourceOf(later, web.id).value, 'an SVID that did not change is not encoded again')
    t.equal(resourceOf(full, 'ALL').version, resourceOf(later, 'ALL').version)
    t.not(resourceOf(full, db.id).version, resourceOf(later, db.id).version)
    t.equal(resourceOf(full, web.id).version, resourceOf(full, web.id, openSecretViews(defaultAliases)).version, 'the same after a restart')
    const { version: one } = resourceOf(identityOf(own.bundle, [], [foreign.bundle]), 'ALL')
    t.not(one, resourceOf(identityOf(own.bundle, []), 'ALL').version, 'a change of a partner changes ALL')
  })
})
