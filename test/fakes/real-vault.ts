import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { eventually } from './eventually.ts'
import { freePort } from './free-port.ts'

const variable = 'VAULT_BIN'

/** Why tests that need a real Vault cannot run here, or `false`; fits tap's `skip`. */
export function realVaultMissing (): string | false {
  const binary = process.env[variable]
  if (binary === undefined || binary === '') return `${variable} does not name the program of a Vault or OpenBao; the local peer stands in`
  return !existsSync(binary) && `${variable} names ${binary}, which is not there`
}

/** A server in memory, unsealed, with a transit engine; its root token is `root`. Gone when disposed. */
export async function startRealVault (): Promise<AsyncDisposable & { readonly address: string }> {
  const port = await freePort()
  const address = `http://127.0.0.1:${port}`
  const words = ['server', '-dev', '-dev-root-token-id=root', `-dev-listen-address=127.0.0.1:${port}`]
  const child = spawn(process.env[variable] as string, words, {
    stdio: 'ignore', env: { PATH: process.env['PATH'], HOME: process.env['TMPDIR'] ?? '/tmp' }
  })
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }
  try {
    await eventually('vault is unsealed', async () => {
      if (child.exitCode !== null) throw new Error(`vault ended with ${child.exitCode}`)
      return await fetch(`${address}/v1/sys/health`).then(({ ok }) => ok, () => false)
    }, 120_000)
    const mounted = await fetch(`${address}/v1/sys/mounts/transit`, {
      method: 'POST', headers: { 'x-vault-token': 'root' }, body: JSON.stringify({ type: 'transit' })
    })
    if (!mounted.ok) throw new Error(`no transit engine: ${mounted.status}`)
  } catch (error) {
    await stop()
    throw error
  }
  return { address, [Symbol.asyncDispose]: stop }
}
