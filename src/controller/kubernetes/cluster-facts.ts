import { keptOf } from './template-fields.ts'
import { isRecord, type KubeObject } from './kube-object.ts'

type Labels = Readonly<Record<string, string>>

/** What is kept of a pod, node, namespace and endpoint slice: what selectors and templates ask about. */
export interface PodFacts {
  readonly uid: string
  readonly name: string
  readonly namespace: string
  /** Undefined until it is scheduled. */
  readonly nodeName: string | undefined
  /** All of its containers have ended, for good. */
  readonly isFinished: boolean
  readonly labels: Labels
  /** By JSON name, for templates. */
  readonly meta: Readonly<Record<string, unknown>>
  readonly spec: Readonly<Record<string, unknown>>
}

export interface NodeFacts {
  readonly name: string
  readonly uid: string
  readonly meta: Readonly<Record<string, unknown>>
  readonly spec: Readonly<Record<string, unknown>>
}

export interface NamespaceFacts { readonly name: string, readonly labels: Labels }

/** Pods behind one service. */
export interface SliceFacts {
  readonly namespace: string
  readonly service: string
  readonly podUids: readonly string[]
}

export function podFactsOf ({ metadata, spec, status }: KubeObject): PodFacts {
  const phase = status?.['phase']
  return {
    uid: metadata.uid,
    name: metadata.name,
    namespace: metadata.namespace ?? '',
    nodeName: typeof spec?.['nodeName'] === 'string' && spec['nodeName'] !== '' ? spec['nodeName'] : undefined,
    isFinished: phase === 'Succeeded' || phase === 'Failed',
    labels: metadata.labels ?? {},
    meta: keptOf('meta', metadata),
    spec: keptOf('pod', spec)
  }
}

export function nodeFactsOf ({ metadata, spec }: KubeObject): NodeFacts {
  return { name: metadata.name, uid: metadata.uid, meta: keptOf('meta', metadata), spec: keptOf('node', spec) }
}

export function namespaceFactsOf ({ metadata }: KubeObject): NamespaceFacts {
  return { name: metadata.name, labels: metadata.labels ?? {} }
}

/** As the API server has a service's. */
const serviceName = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/

/**
 * A slice without a service's name is nobody's DNS name. The label may be any text: one with dots in it would be the name of another
 * namespace's service.
 */
export function sliceFactsOf (object: KubeObject): SliceFacts {
  const { metadata } = object
  const endpoints = (object as unknown as { readonly endpoints?: unknown }).endpoints
  const podUids = (Array.isArray(endpoints) ? endpoints : []).flatMap((endpoint: unknown) => {
    const target = isRecord(endpoint) ? endpoint['targetRef'] : undefined
    return isRecord(target) && target['kind'] === 'Pod' && typeof target['uid'] === 'string' ? [target['uid']] : []
  })
  const service = metadata.labels?.['kubernetes.io/service-name'] ?? ''
  return { namespace: metadata.namespace ?? '', service: serviceName.test(service) ? service : '', podUids }
}
