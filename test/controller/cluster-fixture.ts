import type { ClusterView } from '../../src/controller/desired/cluster-view.ts'
import type { Scope } from '../../src/controller/desired/desired-state.ts'
import {
  type NamespaceFacts, namespaceFactsOf, type NodeFacts, nodeFactsOf, type PodFacts, podFactsOf
} from '../../src/controller/kubernetes/cluster-facts.ts'
import { readClusterFederatedTrustDomain } from '../../src/controller/resources/cluster-federated-trust-domain.ts'
import { type ClusterSpiffeId, readClusterSpiffeId } from '../../src/controller/resources/cluster-spiffe-id.ts'
import { type ClusterStaticEntry, readClusterStaticEntry } from '../../src/controller/resources/cluster-static-entry.ts'
import { parseControllerConfig } from '../../src/controller/controller-config.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'

export const trustDomain = parseTrustDomain('example.org')

/** Of a controller of the cluster `demo`. @param keys of its configuration, besides */
export function scopeWith (keys: Readonly<Record<string, unknown>> = {}): Scope {
  const text = JSON.stringify({ trustDomain, clusterName: 'demo', ...keys })
  return parseControllerConfig({ file: { name: 'controller.json', text } }).scope
}

type Labels = Readonly<Record<string, string>>

let created = 0

/** A cluster that a test makes up. */
export class MadeUpCluster implements ClusterView {
  readonly podsByUid = new Map<string, PodFacts>()
  readonly nodesByName = new Map<string, NodeFacts>()
  readonly namespacesByName = new Map<string, NamespaceFacts>()
  readonly servicesByPod = new Map<string, readonly string[]>()
  ids: ClusterSpiffeId[] = []
  statics: ClusterStaticEntry[] = []
  federated: ReturnType<typeof readClusterFederatedTrustDomain>[] = []

  constructor () {
    this.addNamespace('shop')
    this.addNode('worker-1')
  }

  addNamespace (name: string, labels: Labels = {}): void {
    this.namespacesByName.set(name, namespaceFactsOf({ metadata: { name, uid: `ns-${name}`, labels } }))
  }

  addNode (name: string): void { this.nodesByName.set(name, nodeFactsOf({ metadata: { name, uid: `uid-of-${name}` } })) }

  addPod (
    name: string, { namespace = 'shop', labels = {}, annotations = {}, nodeName = 'worker-1', account = 'web', phase = 'Running' }: {
      namespace?: string, labels?: Labels, annotations?: Labels, nodeName?: string, account?: string, phase?: string
    } = {}
  ): string {
    const uid = `pod-${namespace}-${name}`
    this.podsByUid.set(uid, podFactsOf({
      metadata: { name, namespace, uid, labels, annotations }, spec: { nodeName, serviceAccountName: account }, status: { phase }
    }))
    return uid
  }

  addSpiffeId (name: string, spec: Readonly<Record<string, unknown>> = {}, metadata: Readonly<Record<string, string>> = {}): void {
    const spiffeIDTemplate = 'spiffe://{{ .TrustDomain }}/ns/{{ .PodMeta.Namespace }}/sa/{{ .PodSpec.ServiceAccountName }}'
    this.ids.push(readClusterSpiffeId({ metadata: { ...nextMetadata(name), ...metadata }, spec: { spiffeIDTemplate, ...spec } }))
  }

  addStatic (name: string, spec: Readonly<Record<string, unknown>> = {}): void {
    const defaults = {
      spiffeID: 'spiffe://example.org/machine', parentID: 'spiffe://example.org/spire/agent/x509pop/a', selectors: ['unix:uid:1']
    }
    this.statics.push(readClusterStaticEntry({ metadata: nextMetadata(name), spec: { ...defaults, ...spec } }))
  }

  addFederated (name: string, spec: Readonly<Record<string, unknown>> = {}): void {
    const defaults = {
      trustDomain: 'partner.test', bundleEndpointURL: 'https://partner.test/bundle', bundleEndpointProfile: { type: 'https_web' }
    }
    this.federated.push(readClusterFederatedTrustDomain({ metadata: nextMetadata(name), spec: { ...defaults, ...spec } }, trustDomain))
  }

  pods (): Iterable<PodFacts> { return this.podsByUid.values() }
  pod (uid: string): PodFacts | undefined { return this.podsByUid.get(uid) }
  node (name: string): NodeFacts | undefined { return this.nodesByName.get(name) }
  namespace (name: string): NamespaceFacts | undefined { return this.namespacesByName.get(name) }
  namespaces (): Iterable<NamespaceFacts> { return this.namespacesByName.values() }
  services ({ uid }: PodFacts): readonly string[] { return this.servicesByPod.get(uid) ?? [] }
  spiffeIds (): readonly ClusterSpiffeId[] { return this.ids }
  staticEntries (): readonly ClusterStaticEntry[] { return this.statics }
  federatedTrustDomains () { return this.federated }
}

/** Each is a second younger than the one before. */
function nextMetadata (name: string) {
  const creationTimestamp = new Date(Date.UTC(2026, 0, 1) + 1_000 * created++).toISOString()
  return { name, uid: `uid-of-${name}`, generation: 1, creationTimestamp }
}
