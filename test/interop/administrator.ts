import { openUnixChannel } from '../../src/rpc/channel.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { trustDomainService } from '../../src/wire/generated/server-trust-domain.ts'
import type { BundleInit, EntryInit, SPIFFEIDInit } from '../../src/wire/generated/types.ts'
import type { RunningServer } from '../fakes/processes.ts'

/** An operator at a server's admin socket. */
export class Administrator implements AsyncDisposable {
  readonly #channel: ReturnType<typeof openUnixChannel>
  readonly agents
  readonly authorities
  readonly bundles
  readonly entries
  readonly relationships
  readonly svids

  constructor (server: Pick<RunningServer, 'adminSocket'>) {
    this.#channel = openUnixChannel(server.adminSocket)
    this.agents = this.#channel.client(agentService)
    this.authorities = this.#channel.client(localAuthorityService)
    this.bundles = this.#channel.client(bundleService)
    this.entries = this.#channel.client(entryService)
    this.relationships = this.#channel.client(trustDomainService)
    this.svids = this.#channel.client(svidService)
  }

  /** Creates one entry for whoever runs as this process's user. @returns its id */
  async register (spiffeId: string, parentId: string, rest: EntryInit = {}): Promise<string> {
    const entry = {
      spiffeId: idMessage(spiffeId),
      parentId: idMessage(parentId),
      selectors: [{ type: 'unix', value: `uid:${process.getuid?.() ?? 0}` }],
      ...rest
    }
    const [result] = (await this.entries.batchCreateEntry({ entries: [entry] })).results
    if (result?.status?.code !== 0) throw new Error(`the entry was not created: ${result?.status?.message}`)
    return result.entry?.id ?? ''
  }

  async unregister (id: string): Promise<void> {
    const [result] = (await this.entries.batchDeleteEntry({ ids: [id] })).results
    if (result?.status?.code !== 0) throw new Error(`the entry was not deleted: ${result?.status?.message}`)
  }

  async setBundle (bundle: BundleInit): Promise<void> {
    const [result] = (await this.bundles.batchSetFederatedBundle({ bundle: [bundle] })).results
    if (result?.status?.code !== 0) throw new Error(`the bundle was not set: ${result?.status?.message}`)
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#channel[Symbol.asyncDispose]() }
}

export function idMessage (id: string): SPIFFEIDInit {
  const [, trustDomain = '', path = ''] = /^spiffe:\/\/([^/]+)(.*)$/.exec(id) ?? []
  return { trustDomain, path }
}
