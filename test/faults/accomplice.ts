// A caller that connects to an agent and then is not what it was:
//   node accomplice.ts SOCKET ask|exec|exec-later|exit|exit-and-wait [PROGRAM]
// Through its connection asks a second process, the heir, which inherited it. Prints JSON lines.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, readlinkSync } from 'node:fs'
import { connect as connectHttp2 } from 'node:http2'
import { createConnection, Socket } from 'node:net'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { X509SVIDResponse } from '../../src/wire/generated/workload.ts'
import { eventually } from '../fakes/eventually.ts'

const [first = '', mode = '', program = ''] = process.argv.slice(2)
if (first === 'heir') await inherit(mode)
else await connect(first)

async function connect (path: string): Promise<void> {
  const socket = createConnection({ path })
  // What the agent says first is for the heir to read.
  socket.pause()
  await once(socket, 'connect')
  const { _handle: { fd } } = socket as unknown as { _handle: { fd: number } }
  process.once('SIGUSR2', () => execute())
  const heir = spawn(process.execPath, [import.meta.filename, 'heir', mode, program], {
    stdio: ['ignore', 'inherit', 'inherit', fd], env: { ...process.env, CALLER: String(process.pid) }, detached: true
  })
  await once(heir, 'spawn')
  if (mode === 'exec') execute()
  if (mode.startsWith('exit')) process.exit(0)
  await once(heir, 'exit')
  process.exit(0)
}

function execute (): void {
  process.execve?.(program, [program, '60'])
}

async function inherit (mode: string): Promise<void> {
  const caller = Number(process.env['CALLER'])
  const go = once(process, 'SIGUSR2')
  if (mode === 'exec') await until(() => runs(caller) === program)
  if (mode.startsWith('exit')) await until(() => hasEnded(caller))
  if (mode === 'exit-and-wait') {
    await until(() => !exists(caller))
    // Waiting for a signal alone does not keep a process alive.
    const awake = setInterval(() => undefined, 1000)
    tell({ gone: caller })
    await go
    clearInterval(awake)
  }
  await ask(async () => {
    if (mode !== 'exec-later') return true
    process.kill(caller, 'SIGUSR2')
    await until(() => runs(caller) === program)
    tell({ executed: program })
    return false
  })
  process.exit(0)
}

/** Fetches X509-SVIDs; tells what is granted until `enough` says so, or the refusal. */
async function ask (enough: () => Promise<boolean>): Promise<void> {
  const session = connectHttp2('http://localhost', { createConnection: () => new Socket({ fd: 3 }) })
  const call = session.request({
    ':method': 'POST', ':path': '/SpiffeWorkloadAPI/FetchX509SVID', 'workload.spiffe.io': 'true',
    'content-type': 'application/grpc', 'te': 'trailers'
  })
  call.end(Buffer.alloc(5))
  let status: Record<string, unknown> = {}
  const keep = (headers: Record<string, unknown>) => { status = { ...status, ...headers } }
  call.on('response', keep).on('trailers', keep)
  let received = Buffer.alloc(0)
  for await (const chunk of call) {
    received = Buffer.concat([received, chunk as Buffer])
    while (received.length >= 5 && received.length >= 5 + received.readUInt32BE(1)) {
      const end = 5 + received.readUInt32BE(1)
      const { svids } = decodeMessage(X509SVIDResponse, received.subarray(5, end))
      received = received.subarray(end)
      tell({ granted: svids.map(svid => svid.spiffeId).toSorted() })
      if (await enough()) return
    }
  }
  const details = Buffer.from(status['grpc-status-details-bin'] as string | undefined ?? '', 'base64').toString('latin1')
  tell({ refused: Number(status['grpc-status']), code: /caller_gone|no_identity_issued/.exec(details)?.[0] ?? null })
}

function tell (facts: object): void {
  process.stdout.write(`${JSON.stringify({ ...facts, heir: process.pid })}\n`)
}

function runs (pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/exe`)
  } catch {
    return ''
  }
}

function hasEnded (pid: number): boolean {
  return !exists(pid) || / [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
}

function exists (pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`).length > 0
  } catch {
    return false
  }
}

async function until (condition: () => boolean): Promise<void> { await eventually(mode, condition, 20_000) }
