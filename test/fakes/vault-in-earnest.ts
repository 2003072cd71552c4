import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { join } from 'node:path'
import { freePort } from './free-port.ts'

export interface VaultAsked {
  readonly token?: string
  readonly body?: object
  /** What the client shows, PEM. */
  readonly client?: { readonly cert: string, readonly key: string }
}

export interface VaultReply {
  readonly status: number
  readonly body: { readonly auth?: { readonly client_token: string }, readonly data?: unknown, readonly errors?: unknown }
}

/** A real Vault or OpenBao with TLS, initialised and unsealed, all in memory. */
export interface VaultInEarnest extends AsyncDisposable {
  /** Of `init`; whoever is serious revokes it. */
  readonly rootToken: string
  ask (method: string, path: string, asked?: VaultAsked): Promise<VaultReply>
}

interface Files { readonly path: string, readonly certificatePath: string, readonly keyPath: string }

const patienceMs = 120_000

/** @param program its binary. @param ca vouches for the certificate, which is for `localhost`; PEM. Configuration goes beside that. */
export async function startVaultInEarnest (
  program: string, { path: folder, certificatePath, keyPath }: Files, ca: string
): Promise<VaultInEarnest> {
  const port = await freePort()
  const file = join(folder, 'vault.json')
  await writeFile(file, JSON.stringify({
    storage: { inmem: {} }, disable_mlock: true, api_addr: `https://localhost:${port}`,
    listener: [{ tcp: { address: `127.0.0.1:${port}`, tls_cert_file: certificatePath, tls_key_file: keyPath } }]
  }))
  const child = spawn(program, ['server', '-config', file], {
    stdio: ['ignore', 'pipe', 'pipe'], env: { HOME: folder, PATH: process.env['PATH'] ?? '' }
  })
  let log = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => { log += text })
  const exited = once(child, 'exit')
  const ask = async (method: string, path: string, { token, body, client }: VaultAsked = {}): Promise<VaultReply> => {
    const { promise, resolve, reject } = Promise.withResolvers<VaultReply>()
    const headers = { ...token === undefined ? {} : { 'x-vault-token': token }, 'content-type': 'application/json' }
    const sent = request({
      method, path: `/v1/${path}`, host: '127.0.0.1', servername: 'localhost', port, ca, headers, agent: false, ...client
    })
    sent.on('error', reject).on('response', response => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => { text += part }).on('error', reject)
        .on('end', () => resolve({ status: response.statusCode ?? 0, body: text === '' ? {} : JSON.parse(text) as VaultReply['body'] }))
    })
    sent.end(body === undefined ? undefined : JSON.stringify(body))
    return await promise
  }
  const stop = async () => {
    if (child.exitCode === null) child.kill('SIGKILL')
    await exited
  }
  try {
    const end = performance.now() + patienceMs
    for (;;) {
      if (child.exitCode !== null || performance.now() > end) throw new Error(`Vault does not serve:\n${log}`)
      if (await ask('GET', 'sys/seal-status').then(({ status }) => status === 200, () => false)) break
      await new Promise(resolve => setTimeout(resolve, 50))
    }
    const made = (await ask('PUT', 'sys/init', { body: { secret_shares: 1, secret_threshold: 1 } })).body as Record<string, unknown>
    const [key] = made['keys'] as [string]
    await ask('PUT', 'sys/unseal', { body: { key } })
    const token = String(made['root_token'])
    // It becomes active a moment after it is unsealed.
    while ((await ask('GET', 'sys/mounts', { token })).status !== 200) {
      if (performance.now() > end) throw new Error(`Vault does not become active:\n${log}`)
      await new Promise(resolve => setTimeout(resolve, 50))
    }
    return { rootToken: token, ask, [Symbol.asyncDispose]: stop }
  } catch (error) {
    await stop()
    throw error
  }
}
