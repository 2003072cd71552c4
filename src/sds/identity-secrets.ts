import type { Bundle } from '../spiffe/bundle.ts'
import { trustDomainId } from '../spiffe/spiffe-id.ts'
import type { WorkloadIdentity, X509Svid } from '../spiffe/svid.ts'
import { faultOfBundle, faultOfSvid } from './check-secret.ts'
import { encodeBundleSecret, encodeCertificateSecret, encodeFileSecret } from './encode-secret.ts'
import type { ValidationForm } from './envoy-node.ts'
import { type SdsAliases, systemRootsName } from './resource-names.ts'
import type { Found, SecretView } from './secret-resource.ts'

export type ViewOf = (identity: WorkloadIdentity, form: ValidationForm) => SecretView

/**
 * Views of identities that share their work: an SVID or bundle is checked and encoded once per name, however many streams ask for it
 * and however often something else in the identity changes. Nothing is kept longer than the SVID, bundle or identity it was made of.
 */
export function openSecretViews (aliases: SdsAliases): ViewOf {
  const certificates = rememberByName<X509Svid>(certificateSecret)
  const bundles = {
    spiffe: rememberByName<Bundle>((name, bundle) => bundleSecret(name, bundle, 'spiffe')),
    plain: rememberByName<Bundle>((name, bundle) => bundleSecret(name, bundle, 'plain'))
  }
  const views = { spiffe: new WeakMap<WorkloadIdentity, SecretView>(), plain: new WeakMap<WorkloadIdentity, SecretView>() }
  return (identity, form) => {
    const known = views[form].get(identity)
    if (known !== undefined) return known
    const view = makeView(identity, form, aliases, certificates, bundles[form])
    views[form].set(identity, view)
    return view
  }
}

type Encode<T> = (name: string, source: T) => Found

function makeView (
  identity: WorkloadIdentity, form: ValidationForm, aliases: SdsAliases, certificate: Encode<X509Svid>, bundle: Encode<Bundle>
): SecretView {
  const svids = new Map(identity.svids.toReversed().map(svid => [svid.id as string, svid]))
  const federated = [...identity.federatedBundles.values()].toSorted((a, b) => a.trustDomain < b.trustDomain ? -1 : 1)
  const bundles = new Map([...federated, identity.bundle].map(one => [trustDomainId(one.trustDomain) as string, one]))
  const ownBundleName = trustDomainId(identity.bundle.trustDomain)
  const [first] = identity.svids
  let all: Found | undefined

  const lookUp = (name: string): Found => {
    const svid = name === aliases.svid ? first : svids.get(name)
    if (svid !== undefined) return certificate(name, svid)
    const one = name === aliases.bundle ? identity.bundle : bundles.get(name)
    if (one !== undefined) return bundle(name, one)
    if (name === systemRootsName && aliases.systemRootsFile !== undefined) {
      return { kind: 'usable', resource: encodeFileSecret(name, aliases.systemRootsFile) }
    }
    if (name !== aliases.allBundles) return { kind: 'absent' }
    return all ??= form === 'plain' ? { kind: 'unsupported', name } : allBundlesSecret(name, identity.bundle, federated)
  }
  return {
    ownBundleName,
    defaultSvidName: first?.id,
    allNames: new Set([ownBundleName, ...bundles.keys(), ...identity.svids.map(svid => svid.id)]),
    find (name, at) {
      const found = lookUp(name)
      if (found.kind !== 'usable' || found.resource.expiresAt === undefined || found.resource.expiresAt > at) return found
      return { kind: 'unusable', name, reason: `the certificate expired at ${found.resource.expiresAt.toISOString()}` }
    }
  }
}

/** Checked: what Envoy would refuse, or end over, is not sent. */
export function certificateSecret (name: string, svid: X509Svid): Found {
  const reason = faultOfSvid(svid)
  return reason === undefined ? { kind: 'usable', resource: encodeCertificateSecret(name, svid) } : { kind: 'unusable', name, reason }
}

function bundleSecret (name: string, bundle: Bundle, form: ValidationForm): Found {
  const reason = faultOfBundle(bundle)
  return reason === undefined ? { kind: 'usable', resource: encodeBundleSecret(name, [bundle], form) } : { kind: 'unusable', name, reason }
}

/** For the SPIFFE validator. A partner's empty or broken bundle is left out: it must not take the other domains down with it. */
export function allBundlesSecret (name: string, own: Bundle, federated: readonly Bundle[]): Found {
  const reason = faultOfBundle(own)
  if (reason !== undefined) return { kind: 'unusable', name, reason }
  const fit = federated.filter(bundle => bundle.trustDomain !== own.trustDomain && faultOfBundle(bundle) === undefined)
  return { kind: 'usable', resource: encodeBundleSecret(name, [own, ...fit], 'spiffe') }
}

function rememberByName<T extends object> (encode: Encode<T>): Encode<T> {
  const known = new WeakMap<T, Map<string, Found>>()
  return (name, source) => {
    const byName = known.get(source) ?? new Map<string, Found>()
    known.set(source, byName)
    const found = byName.get(name) ?? encode(name, source)
    byName.set(name, found)
    return found
  }
}
