import { createHash, X509Certificate } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { MachineCa } from '../fakes/machine-ca.ts'
import { startAgent, type RunningServer } from '../fakes/processes.ts'
import { startSpireAgent, type SpireServer } from '../fakes/spire.ts'

/** By what a node joins: SPIRE's configuration of an attestor, which is ours. */
export interface NodeProof {
  readonly name: string
  readonly data: Readonly<Record<string, string>>
  /** Gives its ID after `/spire/agent`. */
  readonly path: string
  /** Further keys of the block `agent`. */
  readonly config?: Readonly<Record<string, unknown>>
}

/** A node whose agent, SPIRE's or ours, serves at the same socket and joins anew each time, without any data kept. */
export class MovingNode implements AsyncDisposable {
  readonly id: string
  /** Of the Workload API. */
  readonly socket: string
  readonly #folder: string
  #agent: AsyncDisposable | undefined

  private constructor (folder: string, { path }: NodeProof) {
    this.#folder = folder
    this.id = `spiffe://example.org/spire/agent${path}`
    this.socket = join(folder, 'agent.sock')
  }

  /** @param proof that gives the node its ID at SPIRE */
  static async create (folder: string, proof: NodeProof): Promise<MovingNode> {
    await mkdir(folder, { recursive: true })
    return new MovingNode(folder, proof)
  }

  async runSpires (server: SpireServer, proof: NodeProof): Promise<void> {
    await this.stop()
    this.#agent = await startSpireAgent(server, proof, { socketPath: this.socket, config: proof.config ?? {} })
  }

  /** @returns the ID that our server gave it */
  async runOurs (server: RunningServer, { name, data, config = {} }: Omit<NodeProof, 'path'>): Promise<string> {
    await this.stop()
    await rm(join(this.#folder, 'data'), { recursive: true, force: true })
    const agent = await startAgent({ server, folder: this.#folder, config, plugins: { NodeAttestor: { [name]: { plugin_data: data } } } })
    this.#agent = { async [Symbol.asyncDispose] () { await agent.stop() } }
    return agent.id
  }

  async stop (): Promise<void> {
    const agent = this.#agent
    this.#agent = undefined
    await agent?.[Symbol.asyncDispose]()
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.stop() }
}

/** What a machine that a company's CA has certified shows, at either server. */
export async function machineProof (ca: MachineCa, folder: string, name: string): Promise<NodeProof> {
  await mkdir(folder, { recursive: true })
  const { certificate, key } = await ca.certify({ name: `CN=${name}`, key: 'P-256' })
  const data = { certificate_path: join(folder, 'machine.pem'), private_key_path: join(folder, 'machine.key') }
  await writeFile(data.certificate_path, certificate)
  await writeFile(data.private_key_path, key)
  return { name: 'x509pop', data, path: `/x509pop/${createHash('sha1').update(new X509Certificate(certificate).raw).digest('hex')}` }
}

/** A join token, which is the end of the node's ID. */
export function tokenProof (token: string): NodeProof {
  return { name: 'join_token', data: {}, path: `/join_token/${token}`, config: { join_token: token } }
}
