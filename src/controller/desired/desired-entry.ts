import type { EntryDraft } from '../../spiffe/entry.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { checkEntry } from '../../spiffe/check-entry.ts'
import { parseSelector } from '../../spiffe/selector.ts'
import { parseSpiffeId, trustDomainOf } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { NodeFacts, PodFacts } from '../kubernetes/cluster-facts.ts'
import type { ClusterSpiffeIdSpec } from '../resources/cluster-spiffe-id.ts'
import type { ClusterStaticEntrySpec } from '../resources/cluster-static-entry.ts'
import type { Template } from '../../golang/template/parse-template.ts'
import { admitAny, admitInSegment, renderTemplate, type TemplateData } from '../../golang/template/render-template.ts'
import { entryKeyOf } from './entry-key.ts'

/** What a controller says about its domain and cluster. */
export interface Naming {
  readonly trustDomain: TrustDomain
  readonly clusterName: string
  /** e.g. `cluster.local`; may be empty. */
  readonly clusterDomain: string
  readonly parentId: Template
}

/** Characters of all DNS names of an entry: so many fit into a server's messages, if into no certificate that anybody takes. */
const longestNames = 64 * 1024

/** An entry as it should be on the server. Its `id` is its key, without the prefix of who makes it. */
export type DesiredEntry = EntryDraft

export interface PodPlace {
  readonly pod: PodFacts
  readonly node: NodeFacts
  /** Names of the services that the pod is behind, in its namespace; sorted. */
  readonly services: readonly string[]
}

/**
 * The entry that a ClusterSPIFFEID gives to a pod: for what runs in this pod (`k8s:pod-uid`), served by its node's agent.
 * @throws {SpiffeError} `template_not_rendered`, `entry_malformed`
 */
export function renderPodEntry (spec: ClusterSpiffeIdSpec, { pod, node, services: behind }: PodPlace, naming: Naming): DesiredEntry {
  const ofNode: TemplateData = {
    trustDomain: naming.trustDomain, clusterName: naming.clusterName, clusterDomain: naming.clusterDomain,
    nodeMeta: node.meta, nodeSpec: node.spec
  }
  const data: TemplateData = { ...ofNode, podMeta: pod.meta, podSpec: pod.spec }
  const dnsNames = spec.dnsNames.map(template => part('dnsNameTemplates', () => renderTemplate(template, data, admitAny)))
  const services = spec.autoPopulateDnsNames ? serviceNames(behind, pod.namespace, naming.clusterDomain) : []
  const names = [...new Set([...dnsNames, ...services])]
  if (names.join('').length > longestNames) {
    throw new SpiffeError('entry_malformed', `its ${names.length} DNS names have more than ${longestNames} characters`)
  }
  const selectors = spec.selectors.map(template =>
    part('workloadSelectorTemplates', () => parseSelector(renderTemplate(template, data, admitAny))))
  return checked({
    spiffeId: part('spiffeIDTemplate', () => renderId(spec.id, data, naming.trustDomain)),
    parentId: part('parentIDTemplate', () => renderId(naming.parentId, ofNode, naming.trustDomain)),
    selectors: [{ type: 'k8s', value: `pod-uid:${pod.uid}` }, ...selectors],
    x509SvidTtlSeconds: spec.x509SvidTtlSeconds,
    jwtSvidTtlSeconds: spec.jwtSvidTtlSeconds,
    federatesWith: spec.federatesWith,
    dnsNames: names,
    admin: spec.admin,
    downstream: spec.downstream,
    storeSvid: false,
    hint: spec.hint
  }, naming.trustDomain)
}

/** @throws {SpiffeError} `entry_malformed` */
export function renderStaticEntry (spec: ClusterStaticEntrySpec, trustDomain: TrustDomain): DesiredEntry {
  return checked(spec, trustDomain)
}

type Written = Omit<Parameters<typeof checkEntry>[0], 'id' | 'expiresAtSeconds' | 'additionalAttributes'>

function checked (written: Written, trustDomain: TrustDomain): DesiredEntry {
  const additionalAttributes = { disableX509SvidPrefetch: false, jwtSvidIncludeJti: false }
  const entry = checkEntry({ ...written, id: '', expiresAtSeconds: 0, additionalAttributes }, trustDomain)
  return { ...entry, id: entryKeyOf(entry) }
}

/** An ID of this trust domain, in which whatever a pod or node brought stays inside of its path segment. */
function renderId (template: Template, data: TemplateData, own: TrustDomain): string {
  const id = parseSpiffeId(renderTemplate(template, data, admitInSegment))
  if (trustDomainOf(id) === own) return id
  throw new SpiffeError('entry_malformed', `${JSON.stringify(id)} is outside of the trust domain ${own}`)
}

/** As the cluster's DNS has them. */
function serviceNames (services: readonly string[], namespace: string, clusterDomain: string): string[] {
  return services.flatMap(service => {
    const name = `${service}.${namespace}.svc`
    return [service, `${service}.${namespace}`, name, ...clusterDomain === '' ? [] : [`${name}.${clusterDomain}`]]
  }).toSorted()
}

/** Names what was rendered. */
function part<T> (name: string, render: () => T): T {
  try {
    return render()
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    throw new SpiffeError(error.code, `${name}: ${error.message}`, { cause: error, requirement: error.requirement })
  }
}
