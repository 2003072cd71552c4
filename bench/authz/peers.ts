import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { nodeFlags } from '../../src/cli/node-flags.ts'
import { asAssay, asRego, type BenchCase } from './cases.ts'
import { CheckClient, frameOf, type Where } from './check-client.ts'

/** Somebody who answers checks, in a process of its own. */
export interface Peer extends AsyncDisposable {
  readonly name: string
  readonly pid: number
  readonly where: Where
  /** From its start to its first right answer. */
  readonly startMs: number
}

/** @param logs whether each decision is appended to a file */
export async function startAssay (one: BenchCase, over: 'unix' | 'tcp', logs = false): Promise<Peer> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-authz-'))
  const file = join(folder, 'policies.json')
  writeFileSync(file, asAssay(one))
  const where: Where = over === 'unix' ? { path: join(folder, 'authz.sock') } : { host: '127.0.0.1', port: await freePort() }
  const address = 'path' in where ? `unix://${where.path}` : `tcp://${where.host}:${where.port}`
  const main = join(import.meta.dirname, '../../src/cli/main.ts')
  const words = ['authz', 'serve', '-policies', file, '-extAuthz', address, '-logLevel', 'warn',
    ...logs ? ['-decisionLog', join(folder, 'decisions.jsonl')] : []]
  const name = `Assay, ${over}${logs ? ', log in a file' : ''}`
  return start(name, one, where, folder, process.execPath, [...nodeFlags(words), main, ...words])
}

/** @param program the plugin's, on the OPA it is to be measured with */
export async function startOpa (one: BenchCase, program: string): Promise<Peer> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-opa-'))
  const file = join(folder, 'policy.rego')
  writeFileSync(file, asRego(one))
  const where = { host: '127.0.0.1', port: await freePort() }
  const set = (key: string, value: string) => ['--set', `${key}=${value}`]
  return start('OPA, tcp', one, where, folder, program, [
    'run', '--server', '--addr', `127.0.0.1:${await freePort()}`, '--log-level', 'error', '--disable-telemetry',
    ...set('plugins.envoy_ext_authz_grpc.addr', `${where.host}:${where.port}`),
    ...set('plugins.envoy_ext_authz_grpc.path', 'envoy/authz/allow'), ...set('decision_logs.console', 'false'), file
  ])
}

/** Who is told by proxies of their decisions. */
export interface Receiver extends AsyncDisposable {
  readonly pid: number
  readonly where: Where
  /** How many decisions it has written down. */
  count (): Promise<number>
}

export async function startReceiver (one: BenchCase): Promise<Receiver> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-reports-'))
  const [file, path] = [join(folder, 'policies.json'), join(folder, 'reports.sock')]
  writeFileSync(file, asAssay(one))
  const program = join(import.meta.dirname, 'report-receiver.ts')
  const args = [...nodeFlags(['agent', 'run']), program, file, path]
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'], env: cached() })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  if ((await lines.next()).value !== 'ready') throw new Error('who takes reports ended')
  return {
    pid: child.pid as number, where: { path },
    async count () {
      child.stdin.write('count\n')
      return Number((await lines.next()).value)
    },
    [Symbol.asyncDispose]: () => end(child, folder)
  }
}

/** As bin/assay starts it. */
function cached (): NodeJS.ProcessEnv { return { NODE_COMPILE_CACHE: join(tmpdir(), 'bench-authz-compile'), ...process.env } }

async function end (child: ChildProcess, folder: string): Promise<void> {
  child.kill('SIGKILL')
  if (child.exitCode === null && child.signalCode === null) await new Promise(resolve => child.once('exit', resolve))
  rmSync(folder, { recursive: true, force: true })
}

async function start (name: string, one: BenchCase, where: Where, folder: string, program: string, args: readonly string[]): Promise<Peer> {
  const begin = performance.now()
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], env: cached() })
  let log = ''
  child.stderr.setEncoding('utf8').on('data', text => { log += text })
  const peer: Peer = {
    name, pid: child.pid as number, where, startMs: await firstAnswer(child, where, one, begin, () => log),
    [Symbol.asyncDispose]: () => end(child, folder)
  }
  return peer
}

async function firstAnswer (child: ChildProcess, where: Where, one: BenchCase, begin: number, log: () => string): Promise<number> {
  const [request] = one.requests
  if (request === undefined) throw new Error('there is no request')
  for (;;) {
    if (child.exitCode !== null) throw new Error(`it ended: ${log()}`)
    if (performance.now() - begin > 120_000) throw new Error(`no answer: ${log()}`)
    using client = new CheckClient(where, 1)
    const answer = await client.check(frameOf(request, 0)).catch(() => undefined)
    if (answer === request.allowed) return performance.now() - begin
    await sleep(5)
  }
}

async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise(resolve => server.close(resolve))
  return port
}
