import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import type { MeshService } from '../../src/mesh/mesh-state.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { MeshRig } from './mesh-rig.ts'

const skip = noNamespaces()
const program = join(import.meta.dirname, '../fakes/protocols-program.mjs')
const [web, grpc] = [8081, 8082]
const service: MeshService = {
  name: 'echo', address: '10.99.0.1', spiffeIds: [parseSpiffeId('spiffe://lab.test/b')], callers: ['spiffe://lab.test/a'],
  ports: [{ port: 80, targetPort: web, protocol: 'http' }, { port: 81, targetPort: grpc, protocol: 'http' }]
}

void t.test('what is more than a request and an answer goes through the node\'s Envoy, with the caller\'s identity', { skip }, async t => {
  await using rig = await MeshRig.open()
  await Promise.all([rig.pod('a', '10.77.0.2'), rig.pod('b', '10.77.0.3'), rig.pod('c', '10.77.0.4')])
  await rig.startEnvoy()
  await rig.serving('a', 'b', 'c')
  const server = rig.network.spawnIn('b', process.execPath, program, 'serve', String(web), String(grpc))
  await once(server.stdout!, 'data')
  rig.directory.set({ services: [service], endpoints: rig.localEndpoints() })
  await rig.settled()
  const call = async (from: string, kind: string, port: number) => {
    const child = rig.network.spawnIn(from, process.execPath, program, 'call', kind, '10.99.0.1', String(port))
    return JSON.parse(await text(child.stdout!)) as Record<string, unknown>
  }
  const [sockets, calls, http2, stranger] = await Promise.all([
    call('a', 'websocket', 80), call('a', 'grpc', 81), call('a', 'h2', 81), call('c', 'grpc', 81)
  ])
  t.strictSame(sockets, { texts: ['URI=spiffe://lab.test/a', 'message 1', 'message 2', 'message 3'] }, 'WebSocket')
  t.strictSame(calls, {
    unary: 'hello URI=spiffe://lab.test/a', refused: { code: 9, details: 'not today' }, uploaded: 500_000, downloaded: 500_000,
    chat: ['1', '2', '3', '4', '5']
  }, 'gRPC: unary, client and server streams, both at once, and a status of the server\'s own')
  t.strictSame(http2, { status: 200, grpcStatus: '12' }, 'HTTP/2 by prior knowledge')
  t.match(stranger, { error: /.+/ }, 'and nobody who may not')
})
