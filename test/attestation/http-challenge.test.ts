import { createServer, type RequestListener } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { z } from 'zod'
import { agentCatalog } from '../../src/agent/agent-catalog.ts'
import { httpAttestorPlugin } from '../../src/attestation/node/http-challenge/http-attestor-plugin.ts'
import { httpVerifierPlugin } from '../../src/attestation/node/http-challenge/http-verifier-plugin.ts'
import { pluginSchemas } from '../../src/plugins/catalog.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { startTestServer, testPlugins } from '../fakes/server.ts'

const { signal } = new AbortController()
const path = '/.well-known/spiffe/nodeattestor/http_challenge/default/challenge'

async function setUp (config: object = {}, clock = new ManualClock(new Date())) {
  const verifier = await httpVerifierPlugin.start(httpVerifierPlugin.config.parse(config), { clock, log: silentLogger }, signal)
  /** By the agent's own half. */
  const attest = async (agent: object = {}) => {
    const settings = httpAttestorPlugin.config.parse({ hostname: '127.0.0.1', ...agent })
    const proof = (await httpAttestorPlugin.start(settings, undefined, signal)).attest(signal)
    try {
      const { value: payload } = await proof.next(new Uint8Array())
      return await verifier.verify(payload as Uint8Array, {
        signal, address: undefined, challenge: async challenge => (await proof.next(challenge)).value as Uint8Array
      })
    } finally {
      await proof.return()
    }
  }
  /** By what an attacker sends. */
  const show = async (payload: object | string, challenged: (nonce: string) => void = () => {}) => await verifier.verify(
    Buffer.from(typeof payload === 'string' ? payload : JSON.stringify(payload)), {
      signal, address: undefined,
      async challenge (challenge) {
        challenged((JSON.parse(Buffer.from(challenge).toString()) as { nonce: string }).nonce)
        return Buffer.from('\n')
      }
    })
  return { verifier, attest, show, clock }
}

/** A web server on a port of its own; ends with the test. */
async function webServer (t: Test, answer: RequestListener): Promise<number> {
  const server = createServer(answer).listen(0, '127.0.0.1')
  t.teardown(() => { server.close().closeAllConnections() })
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

const refused = (message: RegExp) => ({ code: 'attestation_refused', message })
const malformed = { code: 'attestation_malformed' }
const notShown = refused(/expected nonce was not found at port \d+ of 127\.0\.0\.1/)

void t.test('a host is who answers at its name', async t => {
  const { attest } = await setUp()
  const known = { idPath: '127.0.0.1', selectors: ['hostname:127.0.0.1'], canReattest: false, onlyOnce: true }
  t.strictSame(await attest(), known)
  t.strictSame(await attest({ agentname: 'other-agent' }), known)
  const { attest: again } = await setUp({ allowed_dns_patterns: ['^example', String.raw`^127\.`], tofu: false, required_port: 80 })
  await t.rejects(again(), refused(/port \d+ is not allowed to be used by this server/))
  await t.rejects((await setUp({ allow_non_root_ports: false })).attest(), refused(/port \d+ is not allowed to be >= 1024/))
})

void t.test('an agent behind a web server, on its own port', async t => {
  const { attest } = await setUp()
  const asked: string[] = []
  const inner = await freePort()
  const outer = await webServer(t, (request, response) => {
    asked.push(request.url ?? '')
    void fetch(`http://127.0.0.1:${inner}${request.url}`).then(async answer => response.end(await answer.text()))
  })
  t.match(await attest({ port: inner, advertised_port: outer }), { idPath: '127.0.0.1' })
  t.strictSame(asked, [path])
})

void t.test('the agent shows its nonce only where it is asked for, and only while it attests', async t => {
  const start = (settings: object) => httpAttestorPlugin.start(httpAttestorPlugin.config.parse(settings), undefined, signal)
  const attestor = await start({ hostname: 'host-1.example.org', port: 0 })
  const proof = attestor.attest(signal)
  const payload = JSON.parse(Buffer.from((await proof.next(new Uint8Array())).value as Uint8Array).toString()) as Record<string, unknown>
  const port = payload['port'] as number
  t.strictSame(payload, { hostname: 'host-1.example.org', agentname: 'default', port })
  const get = async (at: string, method = 'GET') => {
    const answer = await fetch(`http://127.0.0.1:${port}${at}`, { method })
    return [answer.status, await answer.text()]
  }
  t.strictSame(await get(path), [404, ''], 'nothing before it is challenged')
  t.equal(Buffer.from((await proof.next(Buffer.from('{"nonce":"abc-_="}'))).value as Uint8Array).toString(), '\n')
  t.strictSame(await get(path), [200, 'abc-_=\n'])
  for (const other of ['/', `${path}/`, `${path}?a`, path.replace('default', 'other')]) t.strictSame(await get(other), [404, ''], other)
  t.strictSame(await get(path, 'POST'), [404, ''])
  const silent = connect(port, '127.0.0.1')
  await once(silent, 'connect')
  const closed = once(silent, 'close')
  await proof.return()
  await closed
  await t.rejects(get(path), /fetch failed/, 'closed, whoever was connected')

  for (const challenge of ['', '{}', '{"nonce":1}', String.raw`{"nonce":"a\r\nb"}`, `{"nonce":"${'a'.repeat(200)}"}`]) {
    const other = attestor.attest(signal)
    await other.next(new Uint8Array())
    await t.rejects(other.next(Buffer.from(challenge)), malformed, challenge)
  }
  const busy = await webServer(t, (_request, response) => response.end())
  const taken = (await start({ hostname: 'a', port: busy })).attest(signal)
  await t.rejects(taken.next(new Uint8Array()), { code: 'address_unusable', message: new RegExp(`port ${busy}: EADDRINUSE`) })
})

void t.test('whoever does not show the nonce is refused', async t => {
  const { show } = await setUp()
  let nonce = ''
  const challenged = (given: string) => { nonce = given }
  const at = (port: number) => show({ hostname: '127.0.0.1', agentname: 'default', port }, challenged)
  const answers: Record<string, RequestListener> = {
    'something else': (_request, response) => response.end('something else'),
    'a nonce of before': (_request, response) => response.end('AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n'),
    'nothing': (_request, response) => response.end(),
    'a redirect to it': (request, response) => {
      if (request.url === path) response.writeHead(302, { location: '/elsewhere' }).end()
      else response.end(nonce)
    },
    'an error that says it': (_request, response) => response.writeHead(500).end(nonce),
    'it behind other text': (_request, response) => response.end(`${' '.repeat(64)}${nonce}`),
    'it with more behind it': (_request, response) => response.end(`${nonce}more`),
    'another protocol': (_request, response) =>
      response.socket?.end('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n'),
    'no HTTP': (_request, response) => response.socket?.end('220 mail.example.org\r\n'),
    'a connection that ends': (_request, response) => response.socket?.destroy(),
    'half of it': (_request, response) => response.writeHead(200, { 'content-length': '44' }).end(nonce.slice(0, 20))
  }
  for (const [what, answer] of Object.entries(answers)) await t.rejects(at(await webServer(t, answer)), notShown, what)
  const spacious = await webServer(t, (_request, response) => response.end(`  ${nonce}\r\n`))
  t.match(await at(spacious), { idPath: '127.0.0.1' }, 'white space is none of it')
  let sent = 0
  const endless = await webServer(t, (_request, response) => {
    const more = () => {
      sent += 1
      if (!response.destroyed) response.write('x'.repeat(1024), () => more())
    }
    more()
  })
  await t.rejects(at(endless), notShown, 'a body without end')
  t.ok(sent > 0)
  await t.rejects(at(await freePort()), notShown, 'nobody listens')
})

void t.test('a web server that does not answer is given up', async t => {
  for (const answer of [() => {}, (_request, response) => { response.writeHead(200).write('A') }] satisfies RequestListener[]) {
    const { show, clock } = await setUp()
    const port = await webServer(t, answer)
    const waiting = show({ hostname: '127.0.0.1', agentname: 'default', port })
    let ended = false
    const ends = t.rejects(waiting, notShown).then(() => { ended = true })
    await eventually('it to be given up', async () => {
      await clock.advance(10_000)
      return ended
    })
    await ends
  }
  const stop = new AbortController()
  const { verifier } = await setUp()
  const { promise: asked, resolve } = Promise.withResolvers<void>()
  const port = await webServer(t, () => resolve())
  const stopped = verifier.verify(Buffer.from(JSON.stringify({ hostname: '127.0.0.1', agentname: 'default', port })), {
    signal: stop.signal, address: undefined, challenge: async () => Buffer.from('\n')
  })
  const reason = new Error('the call has gone')
  const ends = t.rejects(stopped, reason)
  await asked
  stop.abort(reason)
  await ends
})

void t.test('names and ports that are not asked', async t => {
  const { show } = await setUp({ allowed_dns_patterns: [String.raw`^p[0-9]+\.example\.com$`, '^(a+)+$'] })
  const place = { hostname: 'p1.example.com', agentname: 'default', port: 80 }
  const notAllowed = refused(/hostname is not allowed to connect/)
  for (const hostname of ['p1.example.com.evil.test', 'xp1.example.com', 'p1xexample.com', '127.0.0.1', 'P1.example.com']) {
    await t.rejects(show({ ...place, hostname }), notAllowed, hostname)
  }
  await t.rejects(show({ ...place, hostname: `${'a'.repeat(60)}.${'a'.repeat(60)}` }), notAllowed, 'no name keeps the server busy')
  for (const hostname of ['localhost', 'LocalHost']) await t.rejects((await setUp()).show({ ...place, hostname }), refused(/localhost/))
  const broken = [
    '', '[]', '{}', JSON.stringify(place).padEnd(5_000),
    ...['', 'a/b', 'a:80', 'a@b', '[::1]', 'a..b', '.', 'a.', 'a b', 'a\n', 'ü.example.com',
      '2130706433', '127.1', '0x7f.0.0.1', 'a.0x7f', 'a'.repeat(64), 'a.'.repeat(127), 1]
      .map(hostname => ({ ...place, hostname })),
    ...['', 'a.b', '1a', 'a/../b', 'a'.repeat(33)].map(agentname => ({ ...place, agentname })),
    ...[0, -1, 65_536, 1.5, '80'].map(port => ({ ...place, port }))
  ]
  for (const payload of broken) await t.rejects(show(payload), malformed, JSON.stringify(payload).slice(0, 80))
})

void t.test('configurations', async t => {
  const parse = (config: object) => () => httpVerifierPlugin.config.parse(config)
  const untrusted = [{}, { allow_non_root_ports: true }, { required_port: 8080 }, { required_port: 8080, allow_non_root_ports: false }]
  for (const config of untrusted) {
    t.throws(parse({ ...config, tofu: false }), /you can not turn off trust on first use/, JSON.stringify(config))
    t.doesNotThrow(parse(config))
  }
  for (const config of [{ allow_non_root_ports: false }, { required_port: 80 }, { required_port: 80, allow_non_root_ports: true }]) {
    t.doesNotThrow(parse({ ...config, tofu: false }), JSON.stringify(config))
  }
  t.throws(parse({ allowed_dns_patterns: ['('] }), /a group is not closed/)
  t.throws(parse({ allowed_dns_patterns: ['(?=a)'] }), /not offered/)
  t.throws(parse({ required_port: 0 }))
  t.throws(parse({ agent_path_template: '/x' }), /agent_path_template/)
  const agent = (config: object) => () => httpAttestorPlugin.config.parse(config)
  const usual = { hostName: undefined, agentName: 'default', port: 8080, advertisedPort: 8080 }
  t.strictSame(agent({ hostname: '', agentname: '', port: 8080 })(), usual)
  t.strictSame(agent({ port: 8080, advertised_port: 80 })(), { ...usual, advertisedPort: 80 })
  const wrong = [{ hostname: 'a/b' }, { agentname: 'a.b' }, { port: 65_536 }, { port: -1 }]
  for (const config of wrong) t.throws(agent(config), JSON.stringify(config))
})

void t.test('a host attests once, until it is evicted', async t => {
  const attestors = testPlugins({ NodeAttestor: { http_challenge: { plugin_data: {} } } })
  await using server = await startTestServer({ config: { plugins: attestors } })
  const agents = server.admin.client(agentService)
  const plugins = z.strictObject(pluginSchemas(agentCatalog)).parse({
    NodeAttestor: { http_challenge: { plugin_data: { hostname: '127.0.0.1' } } }, KeyManager: { memory: {} }
  })
  const join = async () => await startTestAgent(server, { config: { plugins, joinToken: undefined } })
  const known = async () => (await agents.listAgents({})).agents
  {
    await using _ = await join()
    await eventually('the agent', async () => (await known()).length === 1)
  }
  t.match(await known(), [{
    id: { path: '/spire/agent/http_challenge/127.0.0.1' }, attestationType: 'http_challenge', canReattest: false,
    selectors: [{ type: 'http_challenge', value: 'hostname:127.0.0.1' }]
  }])
  const again = join().then(agent => agent[Symbol.asyncDispose]())
  await t.rejects(again, /already been used to attest an agent/)
  await agents.deleteAgent({ id: { trustDomain: 'example.org', path: '/spire/agent/http_challenge/127.0.0.1' } })
  await using _ = await join()
  await eventually('the agent again', async () => (await known()).length === 1)
})
