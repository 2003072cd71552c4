import { writeFile } from 'node:fs/promises'
import { openUnixChannel } from '../../rpc/channel.ts'
import { parseSpiffeId } from '../../spiffe/spiffe-id.ts'
import type { Selector } from '../../spiffe/selector.ts'
import { agentService } from '../../wire/generated/server-agent.ts'
import { bundleService } from '../../wire/generated/server-bundle.ts'
import { entryService } from '../../wire/generated/server-entry.ts'
import { encodeSpiffeId } from '../../wire/spiffe-id-codec.ts'
import { encodePem } from '../../x509/pem.ts'

export interface Registration {
  readonly id: string
  /** SPIFFE ID of the node whose Envoy holds this identity. */
  readonly node: string
  readonly selectors: readonly Selector[]
  readonly ttlSeconds: number
}

/** What an operator does with `assay bundle show`, `assay token generate` and `assay entry create`. */
export class DemoOperator implements AsyncDisposable {
  readonly #channel

  constructor (adminSocket: string) { this.#channel = openUnixChannel(adminSocket) }

  /** PEM, for agents to know the server by. */
  async writeBundle (file: string): Promise<void> {
    const { x509Authorities } = await this.#channel.client(bundleService).getBundle({})
    await writeFile(file, x509Authorities.map(({ asn1 }) => encodePem('CERTIFICATE', asn1)).join(''))
  }

  /** A token by which one agent joins and is known as `node` too. */
  async writeToken (node: string, file: string): Promise<void> {
    const agentId = encodeSpiffeId(parseSpiffeId(node))
    const { value } = await this.#channel.client(agentService).createJoinToken({ ttl: 600, agentId })
    await writeFile(file, value, { mode: 0o600 })
  }

  async register (registrations: readonly Registration[]): Promise<void> {
    const { results } = await this.#channel.client(entryService).batchCreateEntry({
      entries: registrations.map(({ id, node, selectors, ttlSeconds }) => ({
        spiffeId: encodeSpiffeId(parseSpiffeId(id)),
        parentId: encodeSpiffeId(parseSpiffeId(node)),
        selectors,
        x509SvidTtl: ttlSeconds
      }))
    })
    for (const { status } of results) if (status?.code !== 0) throw new Error(`the server refused an entry: ${status?.message}`)
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#channel[Symbol.asyncDispose]() }
}
