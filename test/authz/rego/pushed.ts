import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readTarGz } from '../../../src/authz/rego/tar-archive.ts'
import { makeTarGz } from './make-tar.ts'

/** A bundle of revision `orders-1` that answers `orders/allow` and `orders/raw`; its source stands beside it. */
export const ordersBundle = readFileSync(join(import.meta.dirname, 'pushed/bundle.tar.gz'))

/** The same with other data, of another revision; without any where that is empty. */
export async function ordersOf (revision: string, tiers: readonly string[]): Promise<Buffer> {
  const files = new Map<string, string | Uint8Array>(await readTarGz(ordersBundle))
  const manifest = JSON.parse(String(files.get('.manifest'))) as object
  files.set('.manifest', JSON.stringify({ ...manifest, revision })).set('data.json', JSON.stringify({ orders: { tiers } }))
  return makeTarGz([...files].map(([path, content]) => ({ path, content })))
}

/** A document for it, as JSON. */
export function bundleText (bundle: Uint8Array, more: object = {}): string {
  const archive = Buffer.from(bundle).toString('base64')
  return JSON.stringify({ apiVersion: 'assay/v1', kind: 'RegoBundle', name: 'orders', bundle: archive, ...more })
}

/** A policy that lets web into db, with the bundle's consent; under `/denied` nobody. */
export function askingText (provider = 'rego/orders/allow'): string {
  return JSON.stringify({
    apiVersion: 'assay/v1', kind: 'Policy', name: 'db', workloads: { ids: ['spiffe://example.org/db'] },
    rules: [
      { name: 'web', action: 'allow', from: [{ ids: ['spiffe://example.org/web'] }] },
      { name: 'not', action: 'deny', to: [{ paths: ['/denied'] }] },
      { name: 'tiers', action: 'custom', provider }
    ]
  })
}
