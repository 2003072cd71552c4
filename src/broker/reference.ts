import type { PodReference } from '../attestation/workload/pod-finder.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { decodeMessage } from '../wire/decode-message.ts'
import { KubernetesObjectReference, WorkloadPIDReference, type WorkloadReference } from '../wire/generated/broker.ts'
import { NetworkNamespaceReference } from '../wire/generated/broker-reference.ts'
import type { Any } from '../wire/generated/well-known.ts'
import type { MessageType } from '../wire/message-type.ts'

/** What a broker calls a workload: one of this node's. */
export type Reference =
  | { readonly kind: 'process', readonly pid: number }
  /** A named network namespace. */
  | { readonly kind: 'netns', readonly name: string }
  | { readonly kind: 'pod', readonly pod: PodReference }

/**
 * The one message that a request must have.
 * @throws {SpiffeError} `workload_reference_invalid`
 */
export function referenceIn (reference: WorkloadReference | undefined): Any {
  const any = reference?.reference
  if (any === undefined || any.typeUrl === '') throw invalid('BRK-04', 'workload reference must be provided')
  return any
}

/**
 * Reads a reference (Broker API §3.1.3).
 * @throws {SpiffeError} `workload_reference_invalid`, also for Kubernetes objects other than pods, which no attestor here can find
 */
export function parseReference ({ typeUrl, value }: Any): Reference {
  const name = typeUrl.slice(typeUrl.lastIndexOf('/') + 1)
  switch (name) {
    case WorkloadPIDReference.name: {
      const { pid } = decode(WorkloadPIDReference, value)
      if (pid <= 0) throw invalid('BRK-09', `a PID is positive, not ${pid}`)
      return { kind: 'process', pid }
    }
    case NetworkNamespaceReference.name: {
      const { name } = decode(NetworkNamespaceReference, value)
      if (name === '') throw invalid('BRK-21', 'the namespace has no name')
      return { kind: 'netns', name }
    }
    case KubernetesObjectReference.name:
      return { kind: 'pod', pod: readPod(decode(KubernetesObjectReference, value)) }
    default: throw invalid('BRK-04', `unknown reference type ${JSON.stringify(typeUrl)}`)
  }
}

function readPod ({ type, key, uid }: KubernetesObjectReference): PodReference {
  if (type === undefined || type.plural === '' || type.group === '') {
    throw invalid('BRK-10', 'a Kubernetes object needs type.plural and type.group, which is "core" for core resources')
  }
  if (key === undefined && uid === '') throw invalid('BRK-11', 'a Kubernetes object needs a key or a uid')
  if (key?.name === '') throw invalid('BRK-11', 'the key of a Kubernetes object needs a name')
  if (uid !== '' && !/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i.test(uid)) {
    throw invalid('BRK-12', 'the uid of a Kubernetes object is a UUID')
  }
  if (type.plural !== 'pods' || type.group !== 'core') {
    const named = `${JSON.stringify(type.plural)} of group ${JSON.stringify(type.group)}`
    throw invalid('BRK-04', `this agent has no attestor for ${named}, only for pods of core`)
  }
  if (key === undefined) return { uid }
  if (key.namespace === '') throw invalid('BRK-11', 'the key of a pod needs a namespace')
  return { namespace: key.namespace, name: key.name, ...uid === '' ? {} : { uid } }
}

function decode<T, Init> (type: MessageType<T, Init>, value: Uint8Array): T {
  try {
    return decodeMessage(type, value)
  } catch (error) {
    throw invalid('BRK-21', `no ${type.name} could be read`, error)
  }
}

function invalid (requirement: string, message: string, cause?: unknown): SpiffeError {
  return new SpiffeError('workload_reference_invalid', message, { requirement, cause })
}
