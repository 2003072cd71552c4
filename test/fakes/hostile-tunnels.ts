// Opens tunnels to the proxies of pods with an SVID that is good, to where none may lead, and says which were let through.
// usage: hostile-tunnels.ts <folder with svid.pem, key.pem> <host>=<authority>,<authority>,... ...
import { readFileSync } from 'node:fs'
import { type ClientHttp2Session, connect } from 'node:http2'
import { join } from 'node:path'

export interface Tunnels {
  readonly connections: number
  readonly requests: number
  readonly refused: number
  /** Host and authority of each that was opened. */
  readonly opened: readonly string[]
}

const patienceMs = 5_000

if (import.meta.main) {
  const [folder = '', ...targets] = process.argv.slice(2)
  process.stdout.write(JSON.stringify(await openAll(folder, targets)))
  process.exit(0)
}

async function openAll (folder: string, targets: readonly string[]): Promise<Tunnels> {
  const [cert, key] = ['svid.pem', 'key.pem'].map(name => readFileSync(join(folder, name))) as [Buffer, Buffer]
  const opened: string[] = []
  let [connections, requests, refused] = [0, 0, 0]
  await Promise.all(targets.map(async target => {
    const [host = '', list = ''] = target.split('=')
    let session: ClientHttp2Session | undefined
    for (const authority of list.split(',').map(decodeURIComponent)) {
      // What is no authority at all costs the connection.
      if (session === undefined || session.closed || session.destroyed) {
        session = await sessionWith(host, cert, key)
        if (session === undefined) return
        connections++
      }
      const status = await statusOf(session, authority)
      requests++
      if (status === 200) opened.push(`${host} ${authority}`)
      else if (status !== undefined) refused++
    }
    session?.destroy()
  }))
  return { connections, requests, refused, opened }
}

/** @returns `undefined` when nobody answers: its pod has gone */
function sessionWith (host: string, cert: Buffer, key: Buffer): Promise<ClientHttp2Session | undefined> {
  const session = connect(`https://${host}:15008`, { cert, key, rejectUnauthorized: false, minVersion: 'TLSv1.3' })
  session.setTimeout(patienceMs, () => session.destroy())
  return new Promise(resolve => {
    session.on('error', () => {}).on('connect', () => resolve(session)).on('close', () => resolve(undefined))
  })
}

/** @returns `undefined` when the session or the stream ends instead */
function statusOf (session: ClientHttp2Session, authority: string): Promise<number | undefined> {
  return new Promise(resolve => {
    const stream = session.request({ ':method': 'CONNECT', ':authority': authority })
    stream.on('error', () => {}).on('close', () => resolve(undefined)).on('response', headers => {
      resolve(headers[':status'])
      stream.close()
    })
  })
}
