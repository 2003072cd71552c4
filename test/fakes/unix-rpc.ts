import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { openUnixChannel, type Channel } from '../../src/rpc/channel.ts'
import { openRpcServer, type RpcServer, type RpcServerOptions } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'

export async function serve (
  t: Test, services: RpcServerOptions['services'], more: Partial<RpcServerOptions> = {}
): Promise<{ server: RpcServer, channel: Channel, path: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'rpc-'))
  const server = openRpcServer({ log: silentLogger, clock: systemClock, services, ...more })
  const { path } = await server.listenUnix({ path: join(folder, 'api.sock') })
  const channel = openUnixChannel(path)
  t.teardown(async () => {
    await channel[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
    rmSync(folder, { recursive: true })
  })
  return { server, channel, path }
}

export async function connected (path: string): Promise<Socket> {
  const socket = connect(path)
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  return socket
}

/** A process that can fork and exec with a socket open, which Node cannot. */
export function python (t: Test, code: string, args: string[], uid?: number): ChildProcessWithoutNullStreams {
  const child = spawn('python3', ['-c', `import os, socket, sys, time${code}`, ...args],
    { cwd: '/', ...uid === undefined ? {} : { uid, gid: uid } })
  child.stderr.on('data', (text: Buffer) => t.comment(text.toString()))
  t.teardown(() => { child.kill('SIGKILL') })
  return child
}

export async function lineOf (child: ChildProcessWithoutNullStreams, expected: string): Promise<string> {
  let text = ''
  for await (const chunk of child.stdout.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
    text += String(chunk)
    if (text.includes('\n')) break
  }
  if (!text.startsWith(expected)) throw new Error(`unexpected output ${JSON.stringify(text)}`)
  return text.trim()
}
