import t from 'tap'
import { parsePublishRequest, parseVolumeId } from '../../src/csi/publish-request.ts'
import { parseTargetPath } from '../../src/csi/target-path.ts'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import { NodePublishVolumeRequest, type NodePublishVolumeRequestInit } from '../../src/wire/generated/csi.ts'
import { inlineVolume } from './inline-volume.ts'

const good = inlineVolume('/var/lib/kubelet/pods/p/volumes/kubernetes.io~csi/spiffe/mount')
const read = (request: NodePublishVolumeRequestInit) =>
  parsePublishRequest(decodeMessage(NodePublishVolumeRequest, encodeMessage(NodePublishVolumeRequest, request)))
const mount = {}
const accessMode = { mode: 1 }

void t.test('what a kubelet asks for an inline volume', t => {
  t.strictSame(read(good), {
    volumeId: 'csi-1', target: '/var/lib/kubelet/pods/p/volumes/kubernetes.io~csi/spiffe/mount',
    pod: { namespace: 'shop', name: 'web-1', uid: 'u-1' }
  })
  t.match(read({ ...good, volumeContext: { 'csi.storage.k8s.io/ephemeral': 'true', 'csi.storage.k8s.io/new': 'x' } }), {
    pod: { namespace: undefined, name: undefined, uid: undefined }
  }, 'what later kubelets tell besides is not refused')
  t.end()
})

void t.test('whatever is no such volume is refused, by what is wrong with it', t => {
  const ephemeral = { 'csi.storage.k8s.io/ephemeral': 'true' }
  const refused: Array<[string, NodePublishVolumeRequestInit, RegExp]> = [
    ['no ID', { volumeId: '' }, /volume_id is missing/],
    ['a long ID', { volumeId: 'x'.repeat(129) }, /longer than 128 bytes/],
    ['an ID that is no text', { volumeId: 'a\nb' }, /no text/],
    ['no target', { targetPath: '' }, /target_path is missing/],
    ['a relative target', { targetPath: 'pods/p' }, /no absolute path/],
    ['a target that climbs', { targetPath: '/var/lib/kubelet/pods/../../../etc' }, /no absolute path/],
    ['a target with a slash at its end', { targetPath: '/var/lib/kubelet/pods/p/' }, /no absolute path/],
    ['a target with a zero', { targetPath: '/var\0' }, /no absolute path/],
    ['a target beyond all paths', { targetPath: `/${'x'.repeat(4095)}` }, /longer than 4095/],
    ['no capability', { volumeCapability: undefined }, /volume_capability is missing/],
    ['a capability without type', { volumeCapability: { accessMode } }, /no access type/],
    ['a block device', { volumeCapability: { block: {}, accessMode } }, /block device/],
    ['a file system', { volumeCapability: { mount: { fsType: 'ext4' }, accessMode } }, /fsType is "ext4"/],
    ['mount flags', { volumeCapability: { mount: { mountFlags: ['rw'] }, accessMode } }, /mount_flags/],
    ['a group', { volumeCapability: { mount: { volumeMountGroup: '1000' }, accessMode } }, /volume_mount_group/],
    ['no access mode', { volumeCapability: { mount } }, /no access mode/],
    ['another access mode', { volumeCapability: { mount, accessMode: { mode: 5 } } }, /MULTI_NODE_MULTI_WRITER/],
    ['an access mode that nobody knows', { volumeCapability: { mount, accessMode: { mode: 99 } } }, /access mode 99/],
    ['a writable one', { readonly: false }, /readOnly: true/],
    ['a persistent one', { volumeContext: {} }, /only ephemeral/],
    ['one that says it is persistent', { volumeContext: { 'csi.storage.k8s.io/ephemeral': 'false' } }, /only ephemeral/],
    ['attributes', { volumeContext: { ...ephemeral, trustDomain: 'x' } }, /volumeAttributes has "trustDomain"/],
    ['an attachment', { publishContext: { a: 'b' } }, /publish_context/],
    ['secrets', { secrets: { a: 'hidden' } }, /nodePublishSecretRef/],
    ['a stage', { stagingTargetPath: '/stage' }, /staging_target_path/]
  ]
  for (const [what, changed, message] of refused) {
    t.throws(() => read({ ...good, ...changed }), { code: 'volume_request_invalid', message }, what)
  }
  try { read({ ...good, secrets: { a: 'hidden' } }) } catch (error) { t.notMatch((error as Error).message, /hidden/, 'no secret is told') }
  t.equal(parseVolumeId('x'.repeat(128)), 'x'.repeat(128))
  t.equal(parseTargetPath(`/${'x'.repeat(4094)}`, 'f').length, 4095)
  t.end()
})
