import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { get } from 'node:http'
import { get as getByTls } from 'node:https'
import { join } from 'node:path'
import { eventually } from './eventually.ts'
import { freePort } from './free-port.ts'

const installed = join(import.meta.dirname, '../../.assay-tools/python')
const program = join(import.meta.dirname, 'moto_kms.py')

function environment (): NodeJS.ProcessEnv {
  return { ...process.env, ...existsSync(installed) ? { PYTHONPATH: installed } : {}, PYTHONDONTWRITEBYTECODE: '1' }
}

/** Why tests that need moto cannot run here, or `false`; fits tap's `skip`. */
export function motoMissing (): string | false {
  if (existsSync(join(installed, 'moto'))) return false
  const { status } = spawnSync('python3', ['-c', 'import importlib.util as u, sys; sys.exit(u.find_spec("moto") is None)'])
  return status !== 0 && 'python3 has no moto: node scripts/setup.mjs python'
}

/** Paths of PEM files, and whom to believe that it is moto. */
export interface MotoTls { readonly certificatePath: string, readonly keyPath: string, readonly ca: string }

/** AWS as moto plays it (KMS, S3, Private CA, Secrets Manager, STS), in memory; credentials are not checked. Gone when disposed. */
export async function startMoto (tls?: MotoTls): Promise<AsyncDisposable & { readonly endpoint: string }> {
  const port = await freePort()
  const endpoint = `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`
  const files = tls === undefined ? [] : ['-c', tls.certificatePath, '-k', tls.keyPath]
  const child = spawn('python3', [program, '-H', '127.0.0.1', '-p', String(port), ...files], {
    stdio: ['ignore', 'ignore', 'pipe'], env: environment()
  })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => { said = (said + text).slice(-4_096) })
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }
  try {
    await eventually('moto answers', async () => {
      if (child.exitCode !== null) throw new Error(`moto ended with ${child.exitCode}: ${said}`)
      return await answers(`${endpoint}/moto-api/`, tls?.ca)
    }, 120_000)
  } catch (error) {
    await stop()
    throw error
  }
  return { endpoint, [Symbol.asyncDispose]: stop }
}

function answers (url: string, ca: string | undefined): Promise<boolean> {
  return new Promise(resolve => {
    const asked = ca === undefined ? get(url) : getByTls(url, { ca })
    asked.on('response', response => {
      response.resume()
      resolve(response.statusCode === 200)
    }).on('error', () => resolve(false))
  })
}
