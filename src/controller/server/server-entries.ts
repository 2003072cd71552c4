import type { Channel } from '../../rpc/channel.ts'
import { decodeEntry } from '../../wire/entry-codec.ts'
import { entryService } from '../../wire/generated/server-entry.ts'
import type { EntryInit, Status } from '../../wire/generated/types.ts'
import { encodeSpiffeId } from '../../wire/spiffe-id-codec.ts'
import { entryKeyOf } from '../desired/entry-key.ts'
import type { DesiredEntry } from '../desired/desired-entry.ts'
import type { StoredEntry } from '../desired/diff-entries.ts'

/** What became of one item of a batch. */
export type Outcome =
  | { readonly kind: 'done' }
  /** Somebody else made it first; `id` is theirs, where the server says so. */
  | { readonly kind: 'exists', readonly id: string | undefined }
  /** Removed already. */
  | { readonly kind: 'missing' }
  | { readonly kind: 'refused', readonly message: string }

/** With all names that entries may have a page fits into an answer. */
const pageSize = 500
const timeoutMs = 30_000
/** Of gRPC. */
const [ok, notFound, alreadyExists] = [0, 5, 6]

/** What is managed, and what tells entries apart. */
const mask = {
  spiffeId: true, parentId: true, selectors: true, x509SvidTtl: true, jwtSvidTtl: true, federatesWith: true, dnsNames: true, admin: true,
  downstream: true, storeSvid: true, hint: true
}
/** What is identity does not change; what nobody here manages stays as it is. */
const inputMask = {
  x509SvidTtl: true, jwtSvidTtl: true, federatesWith: true, dnsNames: true, admin: true, downstream: true, storeSvid: true, hint: true
}

/** The entries of a server, ours or SPIRE's, over its admin socket (spire-surface §1.5). */
export class ServerEntries {
  readonly #channel: Channel

  constructor (channel: Channel) { this.#channel = channel }

  /** All of them, one after the other, with their keys. @throws {RpcError} */
  async * list (signal: AbortSignal): AsyncGenerator<{ readonly key: string, readonly entry: StoredEntry }, void, undefined> {
    for (let pageToken = ''; ;) {
      const request = { outputMask: mask, pageSize, pageToken }
      const { entries, nextPageToken } = await this.#client.listEntries(request, { signal, timeoutMs })
      for (const message of entries) {
        const entry = decodeEntry(message)
        yield { key: entryKeyOf(entry), entry }
      }
      if (nextPageToken === '') return
      pageToken = nextPageToken
    }
  }

  /** In one batch. @returns in the order of the entries @throws {RpcError} */
  async create (entries: readonly DesiredEntry[], signal: AbortSignal): Promise<Outcome[]> {
    const { results } = await this.#client.batchCreateEntry({ entries: entries.map(encode), outputMask: {} }, { signal, timeoutMs })
    return results.map(({ status, entry }) =>
      status?.code === alreadyExists ? { kind: 'exists', id: entry?.id || undefined } : outcomeOf(status))
  }

  /** @throws {RpcError} */
  async update (entries: readonly DesiredEntry[], signal: AbortSignal): Promise<Outcome[]> {
    const request = { entries: entries.map(encode), inputMask, outputMask: {} }
    const { results } = await this.#client.batchUpdateEntry(request, { signal, timeoutMs })
    return results.map(({ status }) => outcomeOf(status))
  }

  /** @throws {RpcError} */
  async remove (ids: readonly string[], signal: AbortSignal): Promise<Outcome[]> {
    const { results } = await this.#client.batchDeleteEntry({ ids }, { signal, timeoutMs })
    return results.map(({ status }) => outcomeOf(status))
  }

  get #client () { return this.#channel.client(entryService) }
}

function outcomeOf (status: Status | undefined): Outcome {
  const { code, message } = status ?? { code: ok, message: '' }
  if (code === ok) return { kind: 'done' }
  return code === notFound ? { kind: 'missing' } : { kind: 'refused', message }
}

function encode (entry: DesiredEntry): EntryInit {
  return {
    id: entry.id,
    spiffeId: encodeSpiffeId(entry.spiffeId),
    parentId: encodeSpiffeId(entry.parentId),
    selectors: entry.selectors,
    x509SvidTtl: entry.x509SvidTtlSeconds,
    jwtSvidTtl: entry.jwtSvidTtlSeconds,
    federatesWith: entry.federatesWith,
    dnsNames: entry.dnsNames,
    admin: entry.admin,
    downstream: entry.downstream,
    storeSvid: entry.storeSvid,
    hint: entry.hint
  }
}
