import { mkdirSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { eventually } from '../fakes/eventually.ts'
import { startAgent, startServer } from '../fakes/processes.ts'
import { Administrator } from '../interop/administrator.ts'
import { CsiNode, noMounts } from './csi-node.ts'
import { inlineVolume } from './inline-volume.ts'

const skip = noMounts()
const web = 'spiffe://example.org/web'
const options = ['ro', 'nosuid', 'nodev', 'noexec']

async function openNode (t: Test): Promise<CsiNode> {
  const node = await CsiNode.open()
  t.teardown(() => node[Symbol.asyncDispose]())
  return node
}

void t.test('a pod\'s socket outlives agent and driver', { skip, timeout: 300_000 }, async t => {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const node = await openNode(t)
  await node.startDriver()
  const { node: driver, identity, registration } = node.services()
  t.match(await registration.getInfo({}), { name: 'csi.assay.io', endpoint: node.csiSocket }, 'a caller whose PID it cannot see')
  const target = node.addVolume('pod-1')
  await t.rejects(driver.nodePublishVolume(inlineVolume(target)), { code: 'volume_source_missing' }, 'a pod waits for its node\'s agent')

  const server = scope.use(await startServer())
  const config = { socket_path: join(node.source, 'agent.sock') }
  const first = scope.use(await startAgent({ server, folder: join(node.root, 'agent'), config }))
  const admin = scope.use(new Administrator(server))
  await admin.register(web, first.id)
  t.match(await identity.probe({}), { ready: { value: true } })
  await driver.nodePublishVolume(inlineVolume(target))
  await driver.nodePublishVolume(inlineVolume(target))
  const [found = '', ...more] = await node.optionsAt(target)
  t.strictSame(more, [], 'published twice it is mounted once, and the node sees it')
  t.ok(options.every(option => found.split(',').includes(option)), found)

  const pod = await node.startPod(target)
  const there = join(pod.folder, 'agent.sock')
  t.match(await pod.shell.run(`touch ${pod.folder}/x || true`), /Read-only file system/, 'not even root of the pod changes it')
  const watch = pod.assay('api', 'watch', '-socketPath', there)
  await pod.sees(watch, 1, web)

  const inode = statSync(config.socket_path).ino
  await first.kill9()
  await node.killDriver()
  await node.startDriver()
  scope.use(await startAgent({ server, folder: first.folder, config }))
  t.not(statSync(config.socket_path).ino, inode, 'the agent that follows has another socket')
  await pod.sees(watch, 2, web)
  t.match(watch.output(), /Lost: /, 'the same process in the pod was cut off and goes on')
  const fetch = pod.assay('api', 'fetch', 'x509', '-socketPath', there)
  t.equal(await fetch.ended, 0, fetch.output())
  t.match(fetch.output(), web, 'so does one that begins now')

  const { node: next } = node.services()
  t.match(await next.nodeGetVolumeStats({ volumeId: 'csi-1', volumePath: target }), {
    usage: [], volumeCondition: { abnormal: false, message: 'mounted' }
  }, 'another driver knows of it')
  await next.nodeUnpublishVolume({ volumeId: 'csi-1', targetPath: target })
  await next.nodeUnpublishVolume({ volumeId: 'csi-1', targetPath: target })
  t.strictSame(await node.optionsAt(target), [])
  t.throws(() => statSync(target), { code: 'ENOENT' }, 'its folder is gone too')
  t.ok(statSync(config.socket_path).isSocket(), 'what was mounted is not touched')
  await eventually('the driver\'s log says so', () => /"volume unpublished"/.test(node.log))
})

void t.test('volumes that are not as they should be', { skip, timeout: 120_000 }, async t => {
  const node = await openNode(t)
  mkdirSync(node.source)
  await node.startDriver()
  const { node: driver } = node.services()
  const target = node.addVolume('pod-1')
  const publish = async () => await driver.nodePublishVolume(inlineVolume(target))
  const unpublish = async () => await driver.nodeUnpublishVolume({ volumeId: 'csi-1', targetPath: target })
  const condition = async () => (await driver.nodeGetVolumeStats({ volumeId: 'csi-1', volumePath: target })).volumeCondition
  await publish()
  t.match(await condition(), { abnormal: false })

  renameSync(node.source, `${node.source}-old`)
  t.match(await condition(), { abnormal: true, message: /is gone/ })
  mkdirSync(node.source)
  t.match(await condition(), { abnormal: true, message: /was made anew/ }, 'a folder that was deleted is nobody\'s any more')
  await publish()
  t.match(await condition(), { abnormal: false }, 'to publish mounts the new one')
  t.equal((await node.optionsAt(target)).length, 1, 'and leaves nothing below it')

  await node.shell.run(`mount --bind ${node.source} ${target}`)
  t.match(await condition(), { abnormal: true, message: /writable/ })
  await unpublish()
  t.strictSame(await node.optionsAt(target), [], 'what somebody mounted on it goes with it')

  await publish()
  await node.shell.run(`cd ${target}`)
  await unpublish()
  t.strictSame(await node.optionsAt(target), [], 'a shell that stands in it does not keep a pod from ending')
})
