import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { deployToolMissing } from '../../scripts/deploy-tools.ts'
import { renderChart } from '../../scripts/render-deploy.ts'
import { CsiNode, noMounts } from '../csi/csi-node.ts'
import { inlineVolume } from '../csi/inline-volume.ts'
import { find, podTemplateOf } from './objects.ts'

const skip = deployToolMissing('helm') || noMounts()

void t.test('the drivers that the chart runs, called as a kubelet calls them', { skip, timeout: 280_000 }, async t => {
  const node = await CsiNode.open()
  t.teardown(() => node[Symbol.asyncDispose]())
  const drivers = ['csi.assay.io', 'csi.spiffe.io']
  const objects = await renderChart({
    agent: { socketFolder: node.source }, csi: { enabled: true, drivers, kubeletFolder: node.kubeletDir }
  })
  const { containers, volumes } = podTemplateOf(find(objects, 'DaemonSet', 'assay-csi'))!.spec
  t.strictSame(containers.map(({ name }) => name), ['csi-assay-io', 'csi-spiffe-io'])
  mkdirSync(node.source)
  writeFileSync(join(node.source, 'agent.sock'), '')

  for (const [index, name] of drivers.entries()) {
    const container = containers[index]!
    const hostPath = (mounted: string) => {
      const mount = container.volumeMounts.find(({ mountPath }) => mountPath === mounted)
      return { ...mount, path: (volumes.find(({ name }) => name === mount?.name)?.['hostPath'] as { path?: string } | undefined)?.path }
    }
    t.match(hostPath(node.source), { path: node.source, readOnly: true })
    t.match(hostPath(`${node.kubeletDir}/pods`), { path: `${node.kubeletDir}/pods`, mountPropagation: 'Bidirectional' })
    t.equal(hostPath(`${node.kubeletDir}/plugins/${name}`).path, `${node.kubeletDir}/plugins/${name}`)
    t.equal(hostPath(`${node.kubeletDir}/plugins_registry`).path, `${node.kubeletDir}/plugins_registry`)
    t.match((container as unknown as { env: object[] }).env, [{
      name: 'MY_NODE_NAME', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } }
    }])
    const { spec } = find(objects, 'CSIDriver', name) as unknown as { spec: object }
    t.strictSame(spec, { attachRequired: false, podInfoOnMount: true, fsGroupPolicy: 'None', volumeLifecycleModes: ['Ephemeral'] })

    // Folders that the volumes are to be made in: DirectoryOrCreate, or the kubelet's own.
    mkdirSync(join(node.kubeletDir, 'plugins', name), { recursive: true })
    mkdirSync(join(node.kubeletDir, 'plugins_registry'), { recursive: true })
    await node.startDriver(container.args, ['MY_NODE_NAME=worker-1'])
    const { identity, node: driver, registration } = node.services(name)
    t.match(await registration.getInfo({}), { type: 'CSIPlugin', name, endpoint: node.csiSocketOf(name) }, `${name} tells of itself`)
    t.match(await identity.getPluginInfo({}), { name })
    t.match(await identity.probe({}), { ready: { value: true } })
    t.match(await driver.nodeGetInfo({}), { nodeId: 'worker-1' })
    const target = node.addVolume(`pod-${index}`)
    await driver.nodePublishVolume(inlineVolume(target))
    const [options = '', ...more] = await node.optionsAt(target)
    t.strictSame([options.split(',').slice(0, 1), more], [['ro'], []], 'the node sees one mount, read-only')
    t.equal(await node.shell.run(`ls ${target}`), 'agent.sock')
    const path = { volumeId: 'csi-1', volumePath: target }
    t.match(await driver.nodeGetVolumeStats(path), { volumeCondition: { abnormal: false } })
    await t.rejects(driver.nodePublishVolume({ ...inlineVolume(join(node.root, 'elsewhere')), volumeId: 'csi-2' }), {
      code: 'volume_request_invalid'
    }, 'nothing is mounted outside of the kubelet\'s pods')
    await driver.nodeUnpublishVolume({ volumeId: 'csi-1', targetPath: target })
    t.strictSame(await node.optionsAt(target), [])
    await node.killDriver()
  }
})
