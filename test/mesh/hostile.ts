import { execFile } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { encodePem } from '../../src/x509/pem.ts'
import type { Loot } from '../fakes/hostile-proxy.ts'
import type { Tunnels } from '../fakes/hostile-tunnels.ts'
import type { Nodes } from './nodes.ts'

export interface Demand {
  readonly socket: string
  readonly names: readonly string[]
  readonly service?: 'ads' | 'sds'
  readonly uid?: number
  readonly gid?: number
  /** Path of a network namespace; the nodes' own unless given. */
  readonly netns?: string
}

/** Programs that want what is not theirs. */
export class Hostile implements AsyncDisposable {
  readonly #nodes: Nodes
  readonly #folder: string

  private constructor (nodes: Nodes, folder: string) {
    this.#nodes = nodes
    this.#folder = folder
  }

  /** With an SVID that every proxy of the domain accepts. */
  static async open (nodes: Nodes): Promise<Hostile> {
    const folder = await mkdtemp(join(tmpdir(), 'hostile-'))
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const csr = createCertificateRequest(privateKey, { uriSans: ['spiffe://example.org/hostile'] })
    const { svid } = await nodes.admin.client(svidService).mintX509SVID({ csr })
    await writeFile(join(folder, 'svid.pem'), (svid?.certChain ?? []).map(der => encodePem('CERTIFICATE', der)).join(''))
    await writeFile(join(folder, 'key.pem'), privateKey.export({ format: 'pem', type: 'pkcs8' }))
    return new Hostile(nodes, folder)
  }

  async tunnels (addresses: readonly string[]): Promise<Tunnels> {
    const targets = addresses.map(host => `${host}=${authoritiesAt(host, addresses).map(encodeURIComponent).join(',')}`)
    return JSON.parse(await this.#run('hostile-tunnels.ts', [this.#folder, ...targets])) as Tunnels
  }

  async ask ({ socket, names, service = 'ads', ...as }: Demand): Promise<Loot> {
    return JSON.parse(await this.#run('hostile-proxy.ts', [socket, service, ...names], as)) as Loot
  }

  async #run (program: string, words: readonly string[], { uid = 0, gid = 0, netns = this.#nodes.network.node } = {}): Promise<string> {
    const as = ['setpriv', '--reuid', String(uid), '--regid', String(gid), '--clear-groups']
    const file = join(import.meta.dirname, '../fakes', program)
    const command = [`--net=${netns}`, ...as, process.execPath, file, ...words]
    return (await promisify(execFile)('nsenter', command, { maxBuffer: 1 << 24 })).stdout
  }

  async [Symbol.asyncDispose] (): Promise<void> { await rm(this.#folder, { recursive: true, force: true }) }
}

/** None of these may be reached through the proxy of `host` by somebody who may call no restricted service. */
function authoritiesAt (host: string, addresses: readonly string[]): string[] {
  const others = addresses.filter(address => address !== host).slice(0, 5)
  return [
    ...others.flatMap(address => [`${address}:8080`, `${address}:9000`]), ...others.map(address => `${host}:9000@${address}:9000`),
    ...['15001', '15006', '15008', '08080', '+8080', ' 8080', '015008', '0', '', '8080x'].map(port => `${host}:${port}`),
    host, `${host}0:8080`, `0${host}:8080`, '127.0.0.1:8080', 'localhost:8080', '[::1]:8080', `[::ffff:${host}]:8080`, '0.0.0.0:9000',
    '10.77.0.1:8080', '10.99.0.1:80', '169.254.169.254:80', 'service/s0/80', 'hbone-in'
  ]
}
