import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { builtProgram } from '../../scripts/cached-build.ts'
import { eventually } from '../fakes/eventually.ts'
import type { Outcome } from '../fakes/run-assay.ts'
import { startSpireAgent, startSpireServer, withoutSpireAgent, withoutSpireServer } from '../fakes/spire.ts'
import { spireAgent, spireServer } from '../fakes/spire-programs.ts'
import { Administrator } from '../interop/administrator.ts'
import { serverLines } from './spire-parity/command-lines.ts'
import { readGoUsage } from './spire-parity/go-usage.ts'
import { agentLines } from './spire-parity/agent-lines.ts'
import { askAgent, askServer } from './spire-parity/ask-ours.ts'
import { runAgentLines, runServerLines } from './spire-parity/run-lines.ts'
import { commands, factsFile, readFacts, type SpireFacts } from './spire-parity/spire-facts.ts'

const skip = withoutSpireServer || withoutSpireAgent
const programs = skip === false
  ? { 'spire-server': await builtProgram(spireServer), 'spire-agent': await builtProgram(spireAgent) }
  : { 'spire-server': '', 'spire-agent': '' }

/** RECORD_SPIRE_FACTS=1 writes down anew what the real programs say. */
t.test('the real programs and ours say the same to the same command lines, and what is written down of the real ones is true', {
  skip, timeout: 600_000
}, async t => {
  const real = await askReal()
  if (process.env['RECORD_SPIRE_FACTS'] === '1') await writeFile(factsFile, `${JSON.stringify(real, undefined, 1)}\n`)
  const { version: _, ...written } = await readFacts()
  const { version, ...seen } = real
  t.match(version, /^1\.15\.3/)
  t.strictSame(seen.flags, written.flags)
  t.strictSame(seen.server, written.server)
  t.strictSame(seen.agent, written.agent)
  for (const [index, line] of (await askServer()).entries()) t.strictSame(line, seen.server[index], `spire-server ${line.words}`)
  for (const [index, line] of (await askAgent()).entries()) t.strictSame(line, seen.agent[index], `spire-agent ${line.words}`)
})

async function askReal (): Promise<SpireFacts> {
  const flags: Record<string, ReturnType<typeof readGoUsage>> = {}
  for (const [program, file] of Object.entries(programs) as Array<[keyof typeof programs, string]>) {
    for (const words of commands[program]) {
      const { stdout, stderr } = await runReal(file, [...words.split(' '), '-h'])
      flags[`${program} ${words}`] = readGoUsage(`${stdout}${stderr}`)
    }
  }
  const { stdout, stderr } = await runReal(programs['spire-server'], ['--version'])
  await using spire = await startSpireServer()
  await using admin = openUnixChannel(spire.adminSocket)
  const server = { admin, ready: { port: Number(spire.address.split(':')[1]) } }
  const told = await runServerLines({
    server, socketPath: spire.adminSocket, run: (words, input) => runReal(programs['spire-server'], words, input)
  }, serverLines)
  return { version: `${stdout}${stderr}`.trim(), flags, server: told, agent: await askRealAgent() }
}

async function askRealAgent () {
  await using scope = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'spire-admin-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const adminSocketPath = join(folder, 'admin.sock')
  const server = scope.use(await startSpireServer())
  const agent = scope.use(await startSpireAgent(server, undefined, { config: { admin_socket_path: adminSocketPath } }))
  const admin = scope.use(new Administrator(server))
  await admin.register('spiffe://example.org/parity', agent.id)
  const run = (words: readonly string[], input = '') => runReal(programs['spire-agent'], words, input)
  await eventually('the identity', async () => (await run(['api', 'fetch', 'x509', '-socketPath', agent.socket])).code === 0)
  return await runAgentLines({ socketPath: agent.socket, adminSocketPath, run }, agentLines)
}

async function runReal (file: string, words: readonly string[], input = ''): Promise<Outcome> {
  const { SPIRE_SERVER_FFLAGS: _, ...env } = process.env
  const child = spawn(file, words, { stdio: 'pipe', env: { ...env, TZ: 'UTC' } })
  child.stdin.on('error', () => undefined).end(input)
  const [stdout, stderr, [code]] = await Promise.all([buffer(child.stdout), buffer(child.stderr), once(child, 'exit')])
  return { code: code as number, stdout: stdout.toString(), stderr: stderr.toString() }
}
