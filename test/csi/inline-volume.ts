import type { NodePublishVolumeRequestInit } from '../../src/wire/generated/csi.ts'

/** What a kubelet asks for the volume `csi: {driver, readOnly: true}` of a pod, where the CSIDriver object has `podInfoOnMount`. */
export function inlineVolume (targetPath: string, volumeId = 'csi-1'): NodePublishVolumeRequestInit {
  const key = (name: string) => `csi.storage.k8s.io/${name}`
  return {
    volumeId, targetPath, readonly: true,
    volumeCapability: { mount: {}, accessMode: { mode: 1 } },
    volumeContext: {
      [key('ephemeral')]: 'true', [key('pod.namespace')]: 'shop', [key('pod.name')]: 'web-1', [key('pod.uid')]: 'u-1',
      [key('serviceAccount.name')]: 'web'
    }
  }
}
