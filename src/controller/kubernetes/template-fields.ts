import type { Field, FieldType } from '../../golang/template/field-type.ts'

/** Of Kubernetes objects. */

const text = { kind: 'text' } as const
const flag = { kind: 'flag' } as const
const number = { kind: 'number' } as const
const map = { kind: 'map' } as const
const listOf = (of: FieldType) => ({ kind: 'list', of }) as const

/** In JSON a Go name begins with a small letter; a leading acronym is small as a whole. */
function record (fields: Readonly<Record<string, FieldType>>): FieldType & { readonly kind: 'record' } {
  return {
    kind: 'record',
    fields: Object.fromEntries(Object.entries(fields).map(([name, type]) => [name, { json: jsonNames[name] ?? lowerFirst(name), type }]))
  }
}

const jsonNames: Readonly<Record<string, string>> = {
  UID: 'uid', APIVersion: 'apiVersion', DNSPolicy: 'dnsPolicy', PodCIDR: 'podCIDR', PodCIDRs: 'podCIDRs',
  DeprecatedServiceAccount: 'serviceAccount', HostIPC: 'hostIPC', HostPID: 'hostPID', ProviderID: 'providerID'
}

function lowerFirst (name: string): string { return name.charAt(0).toLowerCase() + name.slice(1) }

const objectMeta = record({
  Name: text, GenerateName: text, Namespace: text, UID: text, Labels: map, Annotations: map,
  OwnerReferences: listOf(record({ APIVersion: text, Kind: text, Name: text, UID: text }))
})
const containers = listOf(record({ Name: text, Image: text, ImagePullPolicy: text }))
const podSpec = record({
  ServiceAccountName: text, DeprecatedServiceAccount: text, NodeName: text, NodeSelector: map, Hostname: text, Subdomain: text,
  HostNetwork: flag, HostPID: flag, HostIPC: flag, SchedulerName: text, PriorityClassName: text, Priority: number, RuntimeClassName: text,
  RestartPolicy: text, DNSPolicy: text, Containers: containers, InitContainers: containers
})
const nodeSpec = record({ PodCIDR: text, PodCIDRs: listOf(text), ProviderID: text, Unschedulable: flag })

const ofController = { TrustDomain: trusted('trustDomain'), ClusterName: trusted('clusterName'), ClusterDomain: trusted('clusterDomain') }
const ofNode = { NodeMeta: { json: 'nodeMeta', type: objectMeta }, NodeSpec: { json: 'nodeSpec', type: nodeSpec } }

function trusted (json: string): Field { return { json, type: text, trusted: true } }

/** Of a template that names a node: it sees no pod. */
export const parentFields: FieldType = { kind: 'record', fields: { ...ofController, ...ofNode } }

/** Of all templates of a ClusterSPIFFEID (spire-surface §8.2). */
export const podFields: FieldType = {
  kind: 'record',
  fields: { ...ofController, ...ofNode, PodMeta: { json: 'podMeta', type: objectMeta }, PodSpec: { json: 'podSpec', type: podSpec } }
}

/** Characters. Longer values of annotations are not kept: no ID could hold them, and tools keep whole manifests in some. */
const longestValue = 2_048

/** @returns what to keep of an object so that templates find all of their fields in it; for an object that is `undefined`, nothing */
export function keptOf (type: 'meta' | 'pod' | 'node', raw: unknown): Readonly<Record<string, unknown>> {
  return (prune({ meta: objectMeta, pod: podSpec, node: nodeSpec }[type], raw) ?? {}) as Readonly<Record<string, unknown>>
}

function prune (type: FieldType, raw: unknown): unknown {
  if (raw === undefined || raw === null) return undefined
  if (type.kind === 'list') return Array.isArray(raw) ? raw.map(item => prune(type.of, item)) : undefined
  if (type.kind === 'map') {
    return Object.fromEntries(Object.entries(raw).filter(([, value]) => typeof value === 'string' && value.length <= longestValue))
  }
  if (type.kind !== 'record') return raw
  const kept: Record<string, unknown> = {}
  for (const { json, type: inner } of Object.values(type.fields)) {
    const value = prune(inner, (raw as Record<string, unknown>)[json])
    if (value !== undefined) kept[json] = value
  }
  return kept
}
