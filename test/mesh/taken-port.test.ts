import { once } from 'node:events'
import t from 'tap'
import { until } from '../fakes/envoy.ts'
import { PodWorkload } from '../fakes/pod-workload.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { MeshRig } from './mesh-rig.ts'

const skip = noNamespaces()
const listen = 'require("net").createServer(s => s.destroy()).listen(Number(process.argv[1]), "0.0.0.0", () => console.log("taken"))'

for (const [what, port] of [['what goes out', 15001], ['what comes in without mTLS', 15006], ['tunnels', 15008]] as const) {
  void t.test(`a workload that takes the proxy's port for ${what} cuts itself off there, and nobody else`, { skip }, async t => {
    await using rig = await MeshRig.open()
    const [a, b, c] = await Promise.all([rig.pod('a', '10.77.0.2'), rig.pod('b', '10.77.0.3'), rig.pod('c', '10.77.0.4')])
    const thief = rig.network.spawnIn('b', process.execPath, '-e', listen, String(port))
    await once(thief.stdout!, 'data')
    await rig.startEnvoy()
    await rig.serving('a', 'c')
    const uid = () => rig.registry.state.workloads.find(({ name }) => name === 'b')?.uid ?? ''
    const refused = () => rig.statuses.filter(({ name, refusal }) => name?.endsWith(`/${uid()}`) === true && refusal !== undefined)
    await until('Envoy to refuse the listener', () => refused().length > 0)
    rig.directory.set({ services: [], endpoints: rig.localEndpoints() })
    await until('the others to reach each other', async () => (await a.tcp('10.77.0.4', 9000)).body === 'c hello')
    t.match(refused()[0]?.refusal, /cannot bind/, 'Envoy says why, and so does `assay mesh status`')
    t.equal((await c.tcp('10.77.0.2', 9000)).body, 'a hello', 'others go on')
    const call = port === 15001 ? await b.tcp('10.77.0.4', 9000)
      : port === 15008 ? await a.tcp('10.77.0.3', 9000)
        : await (await PodWorkload.startOnNode(rig.network, 1000)).tcp('10.77.0.3', 9000)
    t.notMatch(call.body ?? '', /hello/, 'nothing goes past the proxy in the clear')
    t.ok(rig.envoyRuns)
  })
}
