import { writeFile } from 'node:fs/promises'
import { openUnixChannel } from '../../rpc/channel.ts'
import { parseSpiffeId } from '../../spiffe/spiffe-id.ts'
import type { Selector } from '../../spiffe/selector.ts'
import type { ServiceInit } from '../../wire/generated/assay-types.ts'
import { serviceRegistryService } from '../../wire/generated/cluster.ts'
import { agentService } from '../../wire/generated/server-agent.ts'
import { bundleService } from '../../wire/generated/server-bundle.ts'
import { entryService } from '../../wire/generated/server-entry.ts'
import type { EntryInit } from '../../wire/generated/types.ts'
import { encodeSpiffeId } from '../../wire/spiffe-id-codec.ts'
import { encodePem } from '../../x509/pem.ts'

export interface Registration {
  readonly id: string
  /** SPIFFE ID of the node whose Envoy holds this identity. */
  readonly node: string
  readonly selectors: readonly Selector[]
  readonly ttlSeconds: number
}

/** What an operator does with `assay bundle show`, `assay token generate`, `assay entry …` and `assay service …`. */
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

  /** @returns the entries' IDs, in the same order */
  async register (registrations: readonly Registration[]): Promise<string[]> {
    const { results } = await this.#channel.client(entryService).batchCreateEntry({ entries: registrations.map(encodeRegistration) })
    return results.map(({ status, entry }) => {
      refuse('an entry', status)
      return entry?.id ?? ''
    })
  }

  /** Entries become what these say. */
  async change (registrations: readonly (Registration & { readonly entryId: string })[]): Promise<void> {
    const entries = registrations.map(one => ({ id: one.entryId, ...encodeRegistration(one) }))
    const { results } = await this.#channel.client(entryService).batchUpdateEntry({ entries })
    for (const { status } of results) refuse('a change of an entry', status)
  }

  /** @returns their IDs, in the same order */
  async createServices (services: readonly ServiceInit[]): Promise<string[]> {
    const { results } = await this.#channel.client(serviceRegistryService).batchCreateService({ services })
    return results.map(({ status, service }) => {
      refuse('a service', status)
      return service?.id ?? ''
    })
  }

  async changeService (service: ServiceInit): Promise<void> {
    const { results } = await this.#channel.client(serviceRegistryService).batchUpdateService({ services: [service] })
    for (const { status } of results) refuse('a change of a service', status)
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#channel[Symbol.asyncDispose]() }
}

function encodeRegistration ({ id, node, selectors, ttlSeconds }: Registration): EntryInit {
  return {
    spiffeId: encodeSpiffeId(parseSpiffeId(id)), parentId: encodeSpiffeId(parseSpiffeId(node)), selectors, x509SvidTtl: ttlSeconds
  }
}

function refuse (what: string, status: { readonly code: number, readonly message: string } | undefined): void {
  if (status?.code !== 0) throw new Error(`the server refused ${what}: ${status?.message}`)
}
