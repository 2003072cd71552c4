import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { parseAgentConfig } from '../../src/agent/agent-config.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { createLogger, setLogLevel } from '../../src/runtime/logger.ts'
import { debugService } from '../../src/wire/generated/agent-debug.ts'
import { loggerService } from '../../src/wire/generated/agent-logger.ts'
import { LogLevel } from '../../src/wire/generated/types.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer } from '../fakes/server.ts'

function configOf (agent: object) {
  return parseAgentConfig({
    file: {
      name: 'agent.json',
      text: JSON.stringify({
        agent: { trust_domain: 'example.org', server_addresses: ['127.0.0.1:8081'], insecure_bootstrap: true, ...agent }
      })
    }
  })
}

void t.test('its keys', async t => {
  t.match(configOf({}), { adminSocketPath: undefined, authorizedDelegates: [] }, 'off by default')
  const given = { socket_path: '/run/a/public/api.sock', admin_socket_path: '/run/a/private/admin.sock' }
  t.match(configOf({ ...given, authorized_delegates: ['spiffe://example.org/cilium-agent'] }), {
    adminSocketPath: '/run/a/private/admin.sock', authorizedDelegates: ['spiffe://example.org/cilium-agent']
  })
  t.equal(configOf({ socket_path: '/run/sockets/agent/agent.sock', admin_socket_path: '/run/sockets/admin.sock' }).adminSocketPath,
    '/run/sockets/admin.sock', 'above workloads\' folder, as Cilium has it')
  const refused: Record<string, object> = {
    'beside workloads\' socket': { ...given, admin_socket_path: '/run/a/public/admin.sock' },
    'below it': { ...given, admin_socket_path: '/run/a/public/deep/admin.sock' },
    'there by another spelling': { ...given, admin_socket_path: '/run/a/private/../public/admin.sock' },
    'a delegate of another trust domain': { ...given, authorized_delegates: ['spiffe://partner.test/a'] },
    'a delegate that is the trust domain': { ...given, authorized_delegates: ['spiffe://example.org'] },
    'a delegate that is no ID': { ...given, authorized_delegates: ['example.org/a'] }
  }
  for (const [what, keys] of Object.entries(refused)) {
    const rule = what.startsWith('a delegate') ? /authorized_delegates/ : /admin_socket_path: must not be in the folder of socket_path/
    t.throws(() => configOf(keys), { code: 'config_invalid', message: rule }, what)
  }
})

void t.test('Debug and Logger', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'admin-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const log = createLogger({ level: 'warn', file: join(folder, 'log') })
  await using server = await startTestServer()
  const adminSocketPath = join(folder, 'admin.sock')
  await using agent = await startTestAgent(server, { log, config: { adminSocketPath } })
  await using channel = openUnixChannel(adminSocketPath)

  const debug = channel.client(debugService)
  await eventually('it has synchronised', async () => Number((await debug.getInfo({})).lastSyncSuccess) > 0)
  const info = await debug.getInfo({})
  t.match(info.svidChain, [
    { id: { trustDomain: 'example.org', path: agent.path } },
    { id: { trustDomain: 'example.org', path: '' }, subject: 'O=SPIFFE,C=US' }
  ], 'its SVID up to the root')
  t.ok(Number(info.svidChain[0]?.expiresAt) * 1000 > Date.now(), 'which is valid')
  t.ok(info.uptime >= 0 && info.uptime < 300, 'in seconds')
  t.match(info, { cachedX509SvidsCount: 0, cachedJwtSvidsCount: 0 })

  const logger = channel.client(loggerService)
  const logged = () => readFile(join(folder, 'log'), 'utf8').catch(() => '')
  t.match(await logger.getLogger({}), { currentLevel: LogLevel.WARN, launchLevel: LogLevel.WARN })
  t.match(await logger.setLogLevel({ newLevel: LogLevel.DEBUG }), { currentLevel: LogLevel.DEBUG, launchLevel: LogLevel.WARN })
  await debug.getInfo({})
  await eventually('calls are logged', async () => (await logged()).includes('/spire.agent.debug.v1.Debug/GetInfo'))
  t.match(await logger.setLogLevel({ newLevel: LogLevel.PANIC }), { currentLevel: LogLevel.FATAL }, 'there is no panic here')
  t.match(await logger.resetLogLevel({}), { currentLevel: LogLevel.WARN, launchLevel: LogLevel.WARN })
  const invalid = { status: 'INVALID_ARGUMENT', code: 'argument_invalid' }
  await t.rejects(logger.setLogLevel({}), { ...invalid, message: 'newLevel value cannot be LogLevel_UNSPECIFIED' })
  await t.rejects(logger.setLogLevel({ newLevel: 99 }), { ...invalid, message: 'unsupported log level' })
})

void t.test('a changed level holds for loggers that came from that one before', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'level-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const log = createLogger({ level: 'info', file: join(folder, 'log') })
  const part = log.child({ part: 'mesh' })
  const deeper = part.child({ type: 'x' })
  deeper.debug('unheard')
  setLogLevel(log, 'debug')
  for (const one of [log, part, deeper]) one.debug('heard')
  setLogLevel(log, 'error')
  for (const one of [log, part, deeper]) one.warn('unheard')
  const lines = (await readFile(join(folder, 'log'), 'utf8')).trim().split('\n').map(line => JSON.parse(line) as object)
  t.match(lines, [{ msg: 'heard' }, { msg: 'heard', part: 'mesh' }, { msg: 'heard', part: 'mesh', type: 'x' }])
  t.equal(lines.length, 3)
})
