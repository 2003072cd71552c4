import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { runAssay, type Outcome } from '../fakes/run-assay.ts'
import { startTestServer } from '../fakes/server.ts'
import { startSpireServer, withoutSpireAgent, withoutSpireServer } from '../fakes/spire.ts'
import { serverLines } from './spire-parity/command-lines.ts'
import { readGoUsage } from './spire-parity/go-usage.ts'
import { runLines } from './spire-parity/run-lines.ts'
import { commands, factsFile, readFacts, type SpireFacts } from './spire-parity/spire-facts.ts'

const programs = { 'spire-server': process.env['SPIRE_SERVER_BIN'] ?? '', 'spire-agent': process.env['SPIRE_AGENT_BIN'] ?? '' } as const

/** RECORD_SPIRE_FACTS=1 writes down anew what the real programs say. */
t.test('the real programs and ours say the same to the same command lines, and what is written down of the real ones is true', {
  skip: withoutSpireServer || withoutSpireAgent, timeout: 600_000
}, async t => {
  const real = await askReal()
  if (process.env['RECORD_SPIRE_FACTS'] === '1') await writeFile(factsFile, `${JSON.stringify(real, undefined, 1)}\n`)
  const { version: _, ...written } = await readFacts()
  const { version, ...seen } = real
  t.match(version, /^1\.15\.3/)
  t.strictSame(seen.flags, written.flags)
  t.strictSame(seen.server, written.server)
  const { log } = capturedLog()
  log.level = 'debug'
  await using server = await startTestServer({ log })
  const ours = await runLines({
    server, socketPath: server.config.socketPath, run: (words, input) => runAssay(words, { program: 'spire-server', input })
  }, serverLines)
  for (const [index, line] of ours.entries()) t.strictSame(line, seen.server[index], line.words)
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
  const told = await runLines({
    server, socketPath: spire.adminSocket, run: (words, input) => runReal(programs['spire-server'], words, input)
  }, serverLines)
  return { version: `${stdout}${stderr}`.trim(), flags, server: told }
}

async function runReal (file: string, words: readonly string[], input = ''): Promise<Outcome> {
  const { SPIRE_SERVER_FFLAGS: _, ...env } = process.env
  const child = spawn(file, words, { stdio: 'pipe', env: { ...env, TZ: 'UTC' } })
  child.stdin.on('error', () => undefined).end(input)
  const [stdout, stderr, [code]] = await Promise.all([buffer(child.stdout), buffer(child.stderr), once(child, 'exit')])
  return { code: code as number, stdout: stdout.toString(), stderr: stderr.toString() }
}
