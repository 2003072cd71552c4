import t from 'tap'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { MeshRig } from './mesh-rig.ts'

const skip = noNamespaces()
const id = (path: string) => parseSpiffeId(`spiffe://lab.test${path}`)

void t.test('two workloads behind one Envoy call each other with an identity each', { skip }, async t => {
  await using rig = await MeshRig.open()
  const [a, b] = await Promise.all([rig.pod('a', '10.77.0.2'), rig.pod('b', '10.77.0.3')])
  await rig.startEnvoy()
  await rig.serving('a', 'b')
  rig.directory.set({
    services: [{
      name: 'web', address: '10.99.0.1', spiffeIds: [id('/b')],
      ports: [{ port: 80, targetPort: 8080, protocol: 'http', localPort: 10080 }, { port: 90, targetPort: 9000, protocol: 'tcp' }]
    }],
    endpoints: rig.localEndpoints()
  })
  await rig.applied('service/web/80')
  await rig.applied('service/web/90')
  const direct = await a.tcp('10.77.0.3', 9000)
  t.equal(direct.body, 'b hello', 'by its own address')
  const byService = await a.http('10.99.0.1', 80)
  t.equal(byService.status, 200, 'by the address of a service')
  t.match(JSON.parse(byService.body ?? '{}'), { name: 'b', xfcc: 'URI=spiffe://lab.test/a' }, 'and the workload learns who called')
  t.equal((await a.tcp('10.99.0.1', 90)).body, 'b hello', 'also as plain TCP')
  t.match(JSON.parse((await a.http('127.0.0.1', 10080)).body ?? '{}'), { name: 'b' }, 'by a local port')
  t.equal((await b.tcp('10.77.0.2', 9000)).body, 'a hello', 'and the other way')
})
