import t from 'tap'
import type { MeshService } from '../../src/mesh/mesh-state.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { until } from '../fakes/envoy.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { MeshRig } from './mesh-rig.ts'

const skip = noNamespaces()
const web: MeshService = {
  name: 'web', address: '10.99.0.1', spiffeIds: [parseSpiffeId('spiffe://lab.test/b')], callers: ['spiffe://lab.test/a'],
  ports: [{ port: 80, targetPort: 8080, protocol: 'http' }]
}

void t.test('an Envoy that asks for the state of the world has all of the mesh, and each change', { skip }, async t => {
  await using rig = await MeshRig.open({ wholeState: true })
  const [a, b, c] = await Promise.all([rig.pod('a', '10.77.0.2'), rig.pod('b', '10.77.0.3'), rig.pod('c', '10.77.0.4')])
  await rig.startEnvoy()
  t.match(await rig.admin('/config_dump'), /"api_type": "GRPC"/)
  const announce = (service: MeshService) => rig.directory.set({ services: [service], endpoints: rig.localEndpoints() })
  const xfcc = async (pod: typeof a) => {
    const { status, body } = await pod.http('10.99.0.1', 80)
    return status === 200 ? (JSON.parse(body ?? '{}') as { xfcc: string }).xfcc : status
  }
  await until('all three to be known', () => rig.registry.state.workloads.filter(({ addresses }) => addresses.length > 0).length === 3)
  announce(web)
  await until('the service to be reached', async () => await xfcc(a) === 'URI=spiffe://lab.test/a')
  t.not(await xfcc(c), 'URI=spiffe://lab.test/c', 'who is not on the list of callers')
  announce({ ...web, callers: ['spiffe://lab.test/c'] })
  await until('the list of callers to change', async () => await xfcc(c) === 'URI=spiffe://lab.test/c')
  await until('the connection of who is no longer on it to end', async () => typeof await xfcc(a) !== 'string')
  await rig.identify('c', '/other')
  announce({ ...web, callers: ['spiffe://lab.test/other'] })
  await until('the new identity to be shown', async () => await xfcc(c) === 'URI=spiffe://lab.test/other')
  rig.forget('b')
  await until('who lost its identity to answer no more', async () => typeof await xfcc(c) !== 'string')
  t.equal(rig.statuses.filter(({ refusal }) => refusal !== undefined).length, 0, 'nothing was refused')
  t.ok(rig.envoyRuns && b)
})
