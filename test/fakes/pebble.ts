import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createWebCa } from '../federation/web-ca.ts'
import { eventually } from './eventually.ts'
import { freePort } from './free-port.ts'

/** An ACME CA and the names it resolves, all to this machine. */
export interface Pebble extends AsyncDisposable {
  readonly directoryUrl: string
  /** PEM file: who certified the ACME server itself. */
  readonly caPath: string
  /** PEM: the root of what it issues. */
  root (): Promise<string>
}

/** Why there is none here, or false. */
export function pebbleMissing (): string | false {
  return spawnSync('pebble', ['-h']).error === undefined && spawnSync('pebble-challtestsrv', ['-h']).error === undefined
    ? false
    : 'pebble is not installed (Debian package pebble)'
}

/** @param tlsPort where it looks for challenges, whatever the name */
export async function startPebble (tlsPort: number): Promise<Pebble> {
  const folder = mkdtempSync(join(tmpdir(), 'pebble-'))
  const children: ChildProcess[] = []
  const stop = async () => {
    for (const child of children) {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    rmSync(folder, { recursive: true, force: true })
  }
  const ca = await createWebCa()
  const { cert, key } = await ca.certify()
  const file = (name: string, content: string) => {
    writeFileSync(join(folder, name), content)
    return join(folder, name)
  }
  const caPath = file('ca.pem', ca.root)
  const [port, management, names, nameManagement] = await Promise.all([freePort(), freePort(), freePort(), freePort()])
  const config = {
    listenAddress: `127.0.0.1:${port}`, managementListenAddress: `127.0.0.1:${management}`, certificate: file('cert.pem', cert),
    privateKey: file('key.pem', key), httpPort: 0, tlsPort, ocspResponderURL: '', externalAccountBindingRequired: false
  }
  const env = { ...process.env, PEBBLE_VA_NOSLEEP: '1', PEBBLE_WFE_NONCEREJECT: '0' }
  const run = (...words: [string, ...string[]]) => children.push(spawn(words[0], words.slice(1), { stdio: 'ignore', env }))
  run('pebble-challtestsrv', '-defaultIPv4', '127.0.0.1', '-defaultIPv6', '', '-dns01', `127.0.0.1:${names}`,
    '-management', `127.0.0.1:${nameManagement}`, '-http01', '', '-https01', '', '-tlsalpn01', '')
  run('pebble', '-config', file('pebble.json', JSON.stringify({ pebble: config })), '-dnsserver', `127.0.0.1:${names}`)
  const get = (url: string) => new Promise<string>((resolve, reject) => {
    request(url, { ca: ca.root }, response => {
      let body = ''
      response.setEncoding('utf8').on('data', (text: string) => { body += text }).on('end', () => resolve(body))
    }).on('error', reject).end()
  })
  const directoryUrl = `https://127.0.0.1:${port}/dir`
  try {
    await eventually('pebble to serve', () => get(directoryUrl).then(() => true, () => false))
  } catch (error) {
    await stop()
    throw error
  }
  return { directoryUrl, caPath, root: () => get(`https://127.0.0.1:${management}/roots/0`), [Symbol.asyncDispose]: stop }
}
