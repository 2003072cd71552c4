import { request } from 'node:http'
import { text } from 'node:stream/consumers'

/** What nodes' proxies did when other nodes' proxies came to their workloads. */
export interface Handshakes {
  readonly count: number
  /** All that occurred, e.g. `TLSv1.3`. */
  readonly versions: readonly string[]
  /** All that occurred, e.g. `X25519MLKEM768`. */
  readonly keyExchanges: readonly string[]
}

/** From the counters of Envoys. @param adminSockets paths */
export async function readHandshakes (adminSockets: readonly string[]): Promise<Handshakes> {
  const stats = (await Promise.all(adminSockets.map(readStats))).join('\n')
  const counters = stats.matchAll(/^listener\.inbound_tunnels\.ssl\.(versions|curves)\.(\S+): ([1-9]\d*)$/gm)
  const seen = [...counters].map(([, kind = '', name = '', count]) => ({ kind, name, count: Number(count) }))
  const names = (wanted: string) => [...new Set(seen.filter(({ kind }) => kind === wanted).map(({ name }) => name))]
  const count = seen.filter(({ kind }) => kind === 'versions').reduce((sum, one) => sum + one.count, 0)
  return { count, versions: names('versions'), keyExchanges: names('curves') }
}

function readStats (socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    request({ socketPath, path: '/stats?filter=inbound_tunnels.ssl', timeout: 5_000 }, response => {
      text(response).then(resolve, reject)
    }).on('error', reject).end()
  })
}
