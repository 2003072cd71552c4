import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import t from 'tap'
import { buildMissing, builtProgram } from '../../scripts/cached-build.ts'
import { eventually } from '../fakes/eventually.ts'
import { Ghostunnel, type GhostunnelOptions, ghostunnel } from '../fakes/ghostunnel.ts'
import { FederatedSide } from './federated-side.ts'

const skip = buildMissing(ghostunnel)
const program = skip === false ? await builtProgram(ghostunnel) : ''
const patienceMs = 60_000

/** What comes back for a word over a new connection, or nothing once that has been closed. */
async function say (port: number): Promise<string> {
  const socket = connect(port, '127.0.0.1').on('error', () => undefined)
  socket.write('hello')
  const answer = await Promise.race([once(socket, 'data').catch(() => ['']), once(socket, 'close').then(() => [''])])
  socket.destroy()
  return String(answer[0])
}

async function startShouting (scope: AsyncDisposableStack): Promise<number> {
  const server = createServer(socket => {
    socket.setEncoding('utf8').on('error', () => undefined).on('data', (text: string) => socket.write(text.toUpperCase()))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  scope.defer(() => { server.close() })
  return (server.address() as AddressInfo).port
}

t.test('Ghostunnel joins workloads of two trust domains, through new authorities and until the federation ends', {
  skip, timeout: 240_000
}, async t => {
  await using scope = new AsyncDisposableStack()
  const startSide = async (trustDomain: string) => scope.use(await FederatedSide.startOurs(trustDomain))
  const [up, down] = await Promise.all([startSide('up.test'), startSide('down.test')])
  await Promise.all([up.register(), down.register()])
  await up.relateTo(down, 'https_spiffe', await down.ownBundle())
  await down.relateTo(up, 'https_spiffe', await up.ownBundle())
  await Promise.all([up.federateWith(down), down.federateWith(up)])

  const shouting = await startShouting(scope)
  const start = async (options: GhostunnelOptions) => scope.use(await Ghostunnel.start(program, options))
  const server = await start({ mode: 'server', socket: up.socket, target: shouting, peer: down.id })
  const client = await start({ mode: 'client', socket: down.socket, target: server.port, peer: up.id })
  t.equal(await say(client.port), 'HELLO', `${server.log}${client.log}`)

  const mistaken = await start({ mode: 'client', socket: down.socket, target: server.port, peer: `${up.id}/other` })
  t.equal(await say(mistaken.port), '', 'the server is somebody else than the client expects')
  const closed = await start({ mode: 'server', socket: up.socket, target: shouting, peer: `${down.id}/other` })
  const stranger = await start({ mode: 'client', socket: down.socket, target: closed.port, peer: up.id })
  t.equal(await say(stranger.port), '', 'the client is somebody else than the server allows')

  const { authorities } = up.admin
  const old = (await authorities.getX509AuthorityState({})).active?.authorityId ?? ''
  const next = (await authorities.prepareX509Authority({})).preparedAuthority?.authorityId ?? ''
  await down.seesAuthorities(up, 2)
  await authorities.activateX509Authority({ authorityId: next })
  await authorities.taintX509Authority({ authorityId: old })
  await up.signedBy(next)
  await authorities.revokeX509Authority({ authorityId: old })
  await down.seesAuthorities(up, 1)
  await eventually('an answer under the new authority', async () => await say(client.port) === 'HELLO', patienceMs)

  await up.end(down)
  await eventually('the partner to be refused', async () => await say(client.port) === '', patienceMs)
})
