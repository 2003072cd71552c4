import { mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { runDriver } from '../../src/csi/run-driver.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { version } from '../../src/runtime/version.ts'
import { csiIdentityService, csiNodeService } from '../../src/wire/generated/csi.ts'
import { kubeletRegistrationService } from '../../src/wire/generated/kubelet-registration.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { eventually } from '../fakes/eventually.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { inlineVolume } from './inline-volume.ts'

/** A driver in this process, on which nothing can be mounted: what comes before and after is the same for every user. */
async function setUp (t: Test) {
  const root = await mkdtemp(join(tmpdir(), 'csi-'))
  t.teardown(() => rm(root, { recursive: true, force: true }))
  const [source, kubeletDir, csiSocket] = [join(root, 'workload'), join(root, 'kubelet'), join(root, 'csi.sock')]
  const registrationSocket = join(kubeletDir, 'plugins_registry', 'csi.assay.io-reg.sock')
  const volume = join(kubeletDir, 'pods/u-1/volumes/kubernetes.io~csi/spiffe')
  await mkdir(volume, { recursive: true })
  const { log, lines } = capturedLog()
  const mounted: string[] = []
  const calls = {
    bindReadOnly: (from: string, to: string) => { mounted.push(`${from} ${to}`); return 'EPERM' },
    unmount: () => { throw new Error('nothing is mounted') }
  }
  const stop = new AbortController()
  const config = { source, kubeletDir, driverName: 'csi.assay.io', nodeId: 'worker-1', csiSocket, registrationSocket }
  const running = runDriver(config, { calls, clock: systemClock, log }, stop.signal)
  const scope = new AsyncDisposableStack()
  t.teardown(async () => {
    await scope.disposeAsync()
    stop.abort()
    await running
  })
  await eventually('the driver serves', () => lines.some(({ msg }) => msg === 'CSI driver is serving'))
  const channel = scope.use(openUnixChannel(csiSocket))
  const registration = scope.use(openUnixChannel(registrationSocket)).client(kubeletRegistrationService)
  const end = async () => {
    await scope.disposeAsync()
    stop.abort()
    await running
  }
  return {
    root, source, kubeletDir, csiSocket, registrationSocket, volume, lines, mounted, registration, end,
    identity: channel.client(csiIdentityService), node: channel.client(csiNodeService)
  }
}

void t.test('what the driver says of itself', async t => {
  const { identity, node, registration, source, csiSocket, registrationSocket, lines, root, end } = await setUp(t)
  t.same(await identity.getPluginInfo({}), { name: 'csi.assay.io', vendorVersion: version, manifest: {} })
  t.strictSame(await identity.getPluginCapabilities({}), { capabilities: [] }, 'no controller')
  t.strictSame(await identity.probe({}), { ready: { value: false } }, 'not ready before the agent made its folder')
  await mkdir(source)
  t.strictSame(await identity.probe({}), { ready: { value: true } })
  t.strictSame(await node.nodeGetInfo({}), { nodeId: 'worker-1', maxVolumesPerNode: 0n, accessibleTopology: undefined })
  t.strictSame((await node.nodeGetCapabilities({})).capabilities, [{ rpc: { type: 2 } }, { rpc: { type: 4 } }], 'stats and condition')

  t.strictSame(await registration.getInfo({}), {
    type: 'CSIPlugin', name: 'csi.assay.io', endpoint: csiSocket, supportedVersions: ['1.0.0']
  }, 'the kubelet finds it without another program')
  await registration.notifyRegistrationStatus({ pluginRegistered: true })
  await registration.notifyRegistrationStatus({ error: 'no such driver' })
  t.match(lines.find(({ msg }) => msg === 'registered with the kubelet'), { driver: 'csi.assay.io' })
  t.match(lines.find(({ msg }) => msg === 'the kubelet refused the driver'), { level: 'error', reason: 'no such driver' })
  for (const path of [csiSocket, registrationSocket]) t.equal((await stat(path)).mode & 0o777, 0o600, `${path} is root's alone`)
  await end()
  t.strictSame(await readdir(root), ['kubelet', 'workload'], 'an end removes the sockets')
})

void t.test('what is not published', async t => {
  const { node, source, kubeletDir, volume, mounted, root } = await setUp(t)
  const target = join(volume, 'mount')
  const publish = async (targetPath: string) => await node.nodePublishVolume(inlineVolume(targetPath))
  await t.rejects(publish(target), { code: 'volume_source_missing', status: 'UNAVAILABLE' }, 'until there is an agent')
  await writeFile(source, '')
  await t.rejects(publish(target), { code: 'volume_source_missing' }, 'a file is no folder')
  await rm(source)
  await mkdir(source)
  await mkdir(join(root, 'elsewhere'))
  await symlink(join(root, 'elsewhere'), join(kubeletDir, 'pods/out'))
  await symlink(join(root, 'elsewhere'), join(volume, 'link'))
  await writeFile(join(volume, 'file'), '')
  const invalid = { code: 'volume_request_invalid', status: 'INVALID_ARGUMENT' }
  for (const [what, path] of [
    ['elsewhere on the node', join(root, 'elsewhere/a/b')], ['the kubelet\'s own folder', join(kubeletDir, 'plugins/x')],
    ['the folder of all pods', join(kubeletDir, 'pods')], ['a pod\'s whole folder', join(kubeletDir, 'pods/u-1')],
    ['a folder that leads elsewhere', join(kubeletDir, 'pods/out/volume')], ['a link', join(volume, 'link')],
    ['a file', join(volume, 'file')], ['a pod that is not there', join(kubeletDir, 'pods/u-2/volumes/mount')]
  ] as const) await t.rejects(publish(path), invalid, what)
  t.strictSame(mounted, [])
  await t.rejects(publish(target), { code: 'volume_mount_failed', status: 'INTERNAL', message: /EPERM/ }, 'the kernel\'s no is told')
  t.strictSame(mounted, [`${source} ${target}`])
  await t.rejects(node.nodePublishVolume({ ...inlineVolume(target), readonly: false }), invalid)
})

void t.test('what is unpublished and looked at', async t => {
  const { node, kubeletDir, volume, root, source } = await setUp(t)
  const [target, volumeId] = [join(volume, 'mount'), 'csi-1']
  const unpublish = async (targetPath: string) => await node.nodeUnpublishVolume({ volumeId, targetPath })
  const look = async (volumePath: string) => (await node.nodeGetVolumeStats({ volumeId, volumePath })).volumeCondition
  await t.resolves(unpublish(target), 'what never was')
  await t.resolves(unpublish(join(kubeletDir, 'pods/u-2/volumes/mount')), 'of a pod that is gone')
  await t.rejects(look(target), { code: 'volume_not_found', status: 'NOT_FOUND' })
  await mkdir(target)
  await mkdir(source)
  t.match(await look(target), { abnormal: true, message: 'nothing is mounted' })
  await writeFile(join(target, 'precious'), '')
  await t.rejects(unpublish(target), { code: 'volume_mount_failed', message: /cannot be removed/ }, 'no file is ever deleted')
  await rm(join(target, 'precious'))
  await t.resolves(unpublish(target))
  t.strictSame(await readdir(volume), [])
  const invalid = { code: 'volume_request_invalid' }
  await t.rejects(unpublish(root), invalid, 'nothing of the node\'s own is unmounted')
  await t.rejects(unpublish('/'), invalid)
  await t.rejects(look('/proc'), invalid)
  await t.rejects(node.nodeUnpublishVolume({ targetPath: target }), { ...invalid, message: /volume_id/ })
  await t.rejects(node.nodeGetVolumeStats({ volumeId }), { ...invalid, message: /volume_path/ })
  await t.rejects(node.nodeGetVolumeStats({ volumeId, volumePath: target, stagingTargetPath: '/s' }), invalid)
})

void t.test('the command', async t => {
  const run = async (...words: string[]) => await runAssay(['csi', 'run', ...words], { environment: {} })
  for (const [words, message] of [
    [['-nodeId', 'a'], /-workloadSocketDir is missing/], [['-workloadSocketDir', '/w'], /-nodeId is missing, and MY_NODE_NAME/],
    [['-workloadSocketDir', 'w', '-nodeId', 'a'], /must be an absolute path/], [['-driverName', 'Csi/x'], /at most 63/],
    [['-driverName', 'a..b'], /at most 63/]
  ] as const) {
    const { code, stderr } = await run(...words)
    t.equal(code, 2)
    t.match(stderr, message)
  }
})
