import { once } from 'node:events'
import { join } from 'node:path'
import { text as readText } from 'node:stream/consumers'
import t from 'tap'
import type { MeshService } from '../../src/mesh/mesh-state.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { until } from '../fakes/envoy.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { MeshRig } from './mesh-rig.ts'

const skip = noNamespaces()
const program = join(import.meta.dirname, '../fakes/pod-streams.mjs')
const id = (path: string) => parseSpiffeId(`spiffe://lab.test${path}`)
const kinds = { websocket: [81, 8_081, 'http'], http2: [82, 8_082, 'http2'], grpc: [83, 8_083, 'grpc'] } as const
const streams: MeshService = {
  name: 'streams', address: '10.99.0.1', spiffeIds: [id('/b')],
  ports: Object.values(kinds).map(([port, targetPort, protocol]) => ({ port, targetPort, protocol }))
}
const xfcc = 'URI=spiffe://lab.test/a'

void t.test('what speaks HTTP goes through as it is, with the caller\'s name: WebSocket, HTTP/2, gRPC', { skip }, async t => {
  await using rig = await MeshRig.open()
  await Promise.all([rig.pod('a', '10.77.0.2'), rig.pod('b', '10.77.0.3')])
  const server = rig.network.spawnIn('b', process.execPath, program, 'serve', ...Object.values(kinds).map(([, port]) => String(port)))
  await once(server.stdout!, 'data')
  await rig.startEnvoy()
  await rig.serving('a', 'b')
  rig.directory.set({ services: [streams], endpoints: rig.localEndpoints() })
  await rig.settled()
  const call = async (kind: keyof typeof kinds): Promise<object> => {
    const child = rig.network.spawnIn('a', process.execPath, program, kind, '10.99.0.1', String(kinds[kind][0]))
    return JSON.parse(await readText(child.stdout!)) as object
  }
  const both = [{ heard: 'one', xfcc }, { heard: 'two', xfcc }]
  await until('the endpoint to be known', async () => 'status' in await call('http2'))
  t.strictSame(await call('websocket'), { heard: both }, 'a WebSocket, both ways')
  const { body, status } = await call('http2') as { body: string, status: number }
  t.strictSame({ status, ...JSON.parse(body) as object }, { status: 200, version: '2.0', method: 'GET', xfcc }, 'HTTP/2 stays HTTP/2')
  t.strictSame(await call('grpc'), { heard: both, code: 15, details: 'as agreed' }, 'a stream of gRPC both ways, and the status at its end')
})
