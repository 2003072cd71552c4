import { lintManifests, type LintOptions } from '../../../src/controller/lint/lint-manifests.ts'
import { manifestOf } from '../../../src/controller/lint/manifest.ts'

/** `code Kind/name`, in the order of the findings, of all or of those with a code. */
export function codesOf (objects: readonly object[], options?: LintOptions): readonly string[] {
  return lintManifests(objects.map(object => manifestOf(object)), options).map(({ code, about }) => `${code} ${about}`)
}

export function identity (name: string, spec: object): object { return resource('ClusterSPIFFEID', name, spec) }
export function staticEntry (name: string, spec: object): object { return resource('ClusterStaticEntry', name, spec) }

export function partner (trustDomain: string, spec: object = {}): object {
  return resource('ClusterFederatedTrustDomain', trustDomain, {
    trustDomain, bundleEndpointURL: 'https://partner.example/', bundleEndpointProfile: { type: 'https_web' }, ...spec
  })
}

function resource (kind: string, name: string, spec: object): object {
  return { apiVersion: 'spire.spiffe.io/v1alpha1', kind, metadata: { name }, spec }
}

/** Of a namespace of their own, by labels that must be there: nothing is found in it. */
export const narrow = { namespaceSelector: { matchLabels: { team: 'a' } }, podSelector: { matchLabels: { app: 'web' } } }
export const usualTemplate = 'spiffe://{{ .TrustDomain }}/ns/{{ .PodMeta.Namespace }}/sa/{{ .PodSpec.ServiceAccountName }}'
