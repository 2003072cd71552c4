import type { Selector } from '../../../spiffe/selector.ts'
import type { ContainerStatus, Pod } from './pod.ts'

/** SPIRE's selectors of a pod. */
export function podSelectors ({ metadata, spec, status }: Pod): readonly Selector[] {
  const { containerStatuses: containers, initContainerStatuses: initContainers } = status
  return selectors([
    `sa:${spec.serviceAccountName}`,
    `ns:${metadata.namespace}`,
    `node-name:${spec.nodeName}`,
    `pod-uid:${metadata.uid}`,
    `pod-name:${metadata.name}`,
    `pod-image-count:${containers.length}`,
    `pod-init-image-count:${initContainers.length}`,
    ...imagesOf(containers).map(image => `pod-image:${image}`),
    ...imagesOf(initContainers).map(image => `pod-init-image:${image}`),
    ...Object.entries(metadata.labels).map(([key, value]) => `pod-label:${key}:${value}`),
    ...metadata.ownerReferences.flatMap(({ kind, name, uid }) => [`pod-owner:${kind}:${name}`, `pod-owner-uid:${kind}:${uid}`])
  ])
}

/** SPIRE's selectors of one of a pod's containers. */
export function containerSelectors (container: ContainerStatus): readonly Selector[] {
  return selectors([`container-name:${container.name}`, ...imagesOf([container]).map(image => `container-image:${image}`)])
}

/** Each by its tag and by its digest, once. One that has not been pulled yet has no digest. */
function imagesOf (containers: readonly ContainerStatus[]): readonly string[] {
  return [...new Set(containers.flatMap(({ image, imageID }) => [imageID, image]))].filter(image => image !== '')
}

function selectors (values: readonly string[]): readonly Selector[] {
  return values.map(value => ({ type: 'k8s', value }))
}
