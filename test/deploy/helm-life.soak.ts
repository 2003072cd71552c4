import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { deployTool, deployToolMissing } from '../../scripts/deploy-tools.ts'
import { kubeApiserverMissing } from '../kubernetes/build-kube-apiserver.ts'
import { RealCluster } from '../kubernetes/real-cluster.ts'

const skip = kubeApiserverMissing() || deployToolMissing('helm')
const chart = join(import.meta.dirname, '../../deploy/helm/assay')

/** A namespace takes what is in it along: here that is the volume with the trust domain's keys. */
await t.test('no change of a release takes the namespaces away', { skip, timeout: 600_000 }, async t => {
  const helm = await deployTool('helm')
  await using cluster = await RealCluster.start()
  const run = async (...words: string[]) => {
    const env = { ...process.env, KUBECONFIG: cluster.adminKubeconfig }
    await promisify(execFile)(helm, [...words, '--namespace', 'default'], { env })
  }
  const stay = async (when: string) => {
    for (const name of ['assay', 'assay-node']) {
      const { metadata } = await cluster.ask('GET', `/api/v1/namespaces/${name}`) as { metadata?: Readonly<Record<string, unknown>> }
      t.same([metadata?.['name'], metadata?.['deletionTimestamp']], [name, undefined], `${when}: ${name} is there`)
    }
  }
  await run('install', 'assay', chart)
  await run('upgrade', 'assay', chart, '--set', 'namespaces.create=false')
  await stay('once the chart makes none any more')
  await run('rollback', 'assay', '1')
  await stay('back')
  await run('uninstall', 'assay')
  await stay('without the release')
  const gone = '/apis/apps/v1/namespaces/assay/statefulsets/assay-server'
  await t.rejects(cluster.ask('GET', gone), /404/, 'what ran is gone')
  await run('install', 'assay', chart)
  await stay('installed again')
  t.match(await cluster.ask('GET', gone), { kind: 'StatefulSet' }, 'over what was left')
})
