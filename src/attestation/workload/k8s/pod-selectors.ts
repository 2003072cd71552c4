import type { Selector } from '../../../spiffe/selector.ts'
import type { ContainerStatus, Pod } from './pod.ts'

/** SPIRE's selectors of a pod. */
export function podSelectors (pod: Pod): readonly Selector[] {
  const { metadata, status } = pod
  const { containerStatuses: containers, initContainerStatuses: initContainers } = status
  return selectors([
    ...named(pod),
    `pod-image-count:${containers.length}`,
    `pod-init-image-count:${initContainers.length}`,
    ...imagesOf(containers).map(image => `pod-image:${image}`),
    ...imagesOf(initContainers).map(image => `pod-init-image:${image}`),
    ...owned(metadata)
  ])
}

/**
 * Those of them that hold from a pod's first moment on. What is said of images comes as containers start, so that an identity which rests
 * on it would come late, or be another one at first.
 */
export function lastingPodSelectors (pod: Pod): readonly Selector[] { return selectors([...named(pod), ...owned(pod.metadata)]) }

/** SPIRE's selectors of one of a pod's containers. */
export function containerSelectors (container: ContainerStatus): readonly Selector[] {
  return selectors([`container-name:${container.name}`, ...imagesOf([container]).map(image => `container-image:${image}`)])
}

function named ({ metadata, spec }: Pod): readonly string[] {
  return [
    `sa:${spec.serviceAccountName}`,
    `ns:${metadata.namespace}`,
    `node-name:${spec.nodeName}`,
    `pod-uid:${metadata.uid}`,
    `pod-name:${metadata.name}`
  ]
}

function owned ({ labels, ownerReferences }: Pod['metadata']): readonly string[] {
  return [
    ...Object.entries(labels).map(([key, value]) => `pod-label:${key}:${value}`),
    ...ownerReferences.flatMap(({ kind, name, uid }) => [`pod-owner:${kind}:${name}`, `pod-owner-uid:${kind}:${uid}`])
  ]
}

/** Each by its tag and by its digest, once. One that has not been pulled yet has no digest. */
function imagesOf (containers: readonly ContainerStatus[]): readonly string[] {
  return [...new Set(containers.flatMap(({ image, imageID }) => [imageID, image]))].filter(image => image !== '')
}

function selectors (values: readonly string[]): readonly Selector[] {
  return values.map(value => ({ type: 'k8s', value }))
}
