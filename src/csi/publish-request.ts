import { SpiffeError } from '../spiffe/errors.ts'
import { type NodePublishVolumeRequest, type VolumeCapability, VolumeCapability_AccessMode_Mode as Mode } from '../wire/generated/csi.ts'
import { parseTargetPath } from './target-path.ts'

export interface PublishRequest {
  readonly volumeId: string
  readonly target: string
  /** Of the pod, as far as the kubelet was asked to tell (`podInfoOnMount`); for the log alone. */
  readonly pod: { readonly namespace: string | undefined, readonly name: string | undefined, readonly uid: string | undefined }
}

/** CSI's limit of a text field. */
const longestId = 128
const prefix = 'csi.storage.k8s.io/'

/**
 * Reads what the kubelet asks for (CSI §NodePublishVolume): an ephemeral volume, inline in a pod, mounted, read-only, and nothing that
 * this driver would have to ignore.
 * @throws {SpiffeError} `volume_request_invalid`
 */
export function parsePublishRequest (request: NodePublishVolumeRequest): PublishRequest {
  const { volumeContext, volumeCapability, publishContext, secrets, stagingTargetPath, readonly } = request
  const volumeId = parseVolumeId(request.volumeId)
  const target = parseTargetPath(request.targetPath, 'target_path')
  checkCapability(volumeCapability)
  if (!readonly) throw invalid('the volume must have readOnly: true')
  if (volumeContext[`${prefix}ephemeral`] !== 'true') {
    throw invalid('only ephemeral volumes are offered, inline in a pod; the CSIDriver object must have podInfoOnMount: true')
  }
  for (const key of Object.keys(volumeContext)) {
    // Whatever else the kubelet tells of the pod is its own affair, in later versions too; all other keys are what somebody wrote.
    if (!key.startsWith(prefix)) throw invalid(`volumeAttributes has ${JSON.stringify(key.slice(0, 100))}, and there are no attributes`)
  }
  if (Object.keys(publishContext).length > 0) throw invalid('publish_context has values, and nothing was attached')
  if (Object.keys(secrets).length > 0) throw invalid('nodePublishSecretRef is set, and no secrets are needed')
  if (stagingTargetPath !== '') throw invalid('staging_target_path is set, and volumes have no stage')
  const of = (name: string) => volumeContext[`${prefix}pod.${name}`]
  return { volumeId, target, pod: { namespace: of('namespace'), name: of('name'), uid: of('uid') } }
}

/** @throws {SpiffeError} `volume_request_invalid` */
export function parseVolumeId (id: string): string {
  if (id === '') throw invalid('volume_id is missing')
  // eslint-disable-next-line no-control-regex
  if (Buffer.byteLength(id) > longestId || /[\0-\x1f\x7f]/.test(id)) throw invalid(`volume_id is longer than ${longestId} bytes or no text`)
  return id
}

function checkCapability (capability: VolumeCapability | undefined): void {
  if (capability === undefined) throw invalid('volume_capability is missing')
  const { block, mount, accessMode } = capability
  if (block !== undefined) throw invalid('a block device is asked for, and this is a folder')
  if (mount === undefined) throw invalid('volume_capability has no access type')
  if (mount.fsType !== '') throw invalid(`fsType is ${JSON.stringify(mount.fsType.slice(0, 100))}, and the folder has its file system`)
  if (mount.mountFlags.length > 0) throw invalid('mount_flags are set, and cannot be chosen')
  if (mount.volumeMountGroup !== '') throw invalid('volume_mount_group is set, and the folder has its owner')
  if (accessMode === undefined) throw invalid('volume_capability has no access mode')
  // What kubelets name for each inline volume, whether or not it is read-only.
  if (accessMode.mode !== Mode.SINGLE_NODE_WRITER) throw invalid(`access mode ${nameOf(accessMode.mode)} is not that of an inline volume`)
}

function nameOf (mode: number): string {
  return Object.entries(Mode).find(([, value]) => value === mode)?.[0] ?? String(mode)
}

function invalid (message: string): SpiffeError {
  return new SpiffeError('volume_request_invalid', message)
}
