import type { CallOptions, Channel } from '../rpc/channel.ts'
import { batchesBySize } from '../runtime/batches-by-size.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { encodeJwtAuthority } from '../wire/bundle-codec.ts'
import { encodeMessage } from '../wire/encode-message.ts'
import { bundleService } from '../wire/generated/server-bundle.ts'
import { entryService } from '../wire/generated/server-entry.ts'
import { localAuthorityService } from '../wire/generated/server-local-authority.ts'
import { trustDomainService } from '../wire/generated/server-trust-domain.ts'
import { Bundle, Entry, type EntryInit, FederationRelationship, type Status } from '../wire/generated/types.ts'
import { spiffeIdText } from '../wire/spiffe-id-codec.ts'
import { parseCertificate } from '../x509/certificate.ts'
import { isEmpty, type Authorities, type OutdatedCopies } from './authorities.ts'
import type { EntryDiff } from './diff-entries.ts'

const timeoutMs = 60_000
/** Of gRPC. */
const [notFound, alreadyExists, inUse] = [5, 6, 9]

const sizeOf = (entry: EntryInit) => encodeMessage(Entry, entry).length

/** After each batch of what may be many. @param what such as `entries copied` */
export type OnProgress = (what: string, done: number, total: number) => void

export interface ChangesOptions {
  readonly signal: AbortSignal
  readonly onProgress?: OnProgress | undefined
}

/** Each change at one server; all may be repeated. @throws {SpiffeError} `takeover_refused`, naming what the server refused */
export class Changes {
  readonly #channel: Channel
  readonly #options: CallOptions
  readonly #where: string
  readonly #onProgress: OnProgress | undefined

  /** @param where how the server is called where it refuses */
  constructor (channel: Channel, where: string, { signal, onProgress }: ChangesOptions) {
    this.#channel = channel
    this.#where = where
    this.#onProgress = onProgress
    this.#options = { signal, timeoutMs }
  }

  async publish (authorities: Authorities): Promise<void> {
    if (isEmpty(authorities)) return
    await this.#channel.client(bundleService).appendBundle({
      x509Authorities: authorities.x509.map(({ certificate, tainted }) => ({ asn1: certificate, tainted })),
      jwtAuthorities: authorities.jwt.map(encodeJwtAuthority),
      outputMask: { sequenceNumber: true }
    }, this.#options)
  }

  /** Taints or revokes what was appended to the bundle; only our server does that. */
  async retire ({ x509, jwt }: OutdatedCopies): Promise<void> {
    const authorities = this.#channel.client(localAuthorityService)
    for (const { authority, revoked } of x509) {
      const { subjectKeyId } = parseCertificate(authority.certificate)
      // Every CA of SPIRE's has one, by which it is called.
      if (subjectKeyId === undefined) continue
      const authorityId = Buffer.from(subjectKeyId).toString('hex')
      if (!authority.tainted) await authorities.taintX509Authority({ authorityId }, this.#options)
      if (revoked) await authorities.revokeX509Authority({ authorityId }, this.#options)
    }
    for (const { authority: { keyId: authorityId, tainted }, revoked } of jwt) {
      if (!tainted) await authorities.taintJWTAuthority({ authorityId }, this.#options)
      if (revoked) await authorities.revokeJWTAuthority({ authorityId }, this.#options)
    }
  }

  async setBundles (bundles: readonly Bundle[]): Promise<void> {
    for (const batch of this.#batches(bundles, bundle => encodeMessage(Bundle, bundle).length)) {
      const { results } = await this.#channel.client(bundleService)
        .batchSetFederatedBundle({ bundle: batch, outputMask: {} }, this.#options)
      this.#requireAll(results, index => `the bundle of ${batch[index]?.trustDomain}`)
    }
  }

  async removeBundles (trustDomains: readonly string[]): Promise<void> {
    if (trustDomains.length === 0) return
    const { results } = await this.#channel.client(bundleService)
      .batchDeleteFederatedBundle({ trustDomains, mode: 0 }, this.#options)
    for (const [index, { status }] of results.entries()) {
      // One that other entries name stays: they need it.
      if (status?.code !== inUse && status?.code !== notFound) this.#require(status, `the end of a bundle, ${trustDomains[index]}`)
    }
  }

  async createRelationships (relationships: readonly FederationRelationship[]): Promise<void> {
    for (const batch of this.#batches(relationships, one => encodeMessage(FederationRelationship, one).length)) {
      const { results } = await this.#channel.client(trustDomainService)
        .batchCreateFederationRelationship({ federationRelationships: batch, outputMask: {} }, this.#options)
      this.#requireAll(results, index => `the relationship with ${batch[index]?.trustDomain}`, alreadyExists)
    }
  }

  async removeRelationships (trustDomains: readonly string[]): Promise<void> {
    if (trustDomains.length === 0) return
    const { results } = await this.#channel.client(trustDomainService)
      .batchDeleteFederationRelationship({ trustDomains }, this.#options)
    this.#requireAll(results, index => `the end of the relationship with ${trustDomains[index]}`, notFound)
  }

  /** New ones first, then what goes, so that who gets another entry has one all the time. */
  async applyEntries ({ create, update, remove }: Pick<EntryDiff, 'create' | 'update' | 'remove'>): Promise<void> {
    const blocked = await this.#createEntries(create)
    await this.#updateEntries(update)
    await this.removeEntries(remove)
    // What stood in the way may have been one that had to go, and an entry made by an answer that was lost is there already.
    const still = await this.#createEntries(blocked.filter(entry => !this.#isThere.has(entry.id ?? '')))
    const [first] = still
    if (first !== undefined) throw this.#refusal(`entry ${first.id} (${spiffeIdText(first.spiffeId as never)})`, 'a similar entry exists')
  }

  async removeEntries (ids: readonly string[]): Promise<void> {
    for (const batch of this.#batches(ids, id => id.length, 'entries removed')) {
      const { results } = await this.#channel.client(entryService).batchDeleteEntry({ ids: batch }, this.#options)
      this.#requireAll(results, index => `the end of entry ${batch[index]}`, notFound)
    }
  }

  readonly #isThere = new Set<string>()

  /** @returns those that a similar entry keeps out */
  async #createEntries (entries: readonly EntryInit[]): Promise<readonly EntryInit[]> {
    const blocked: EntryInit[] = []
    for (const batch of this.#batches(entries, sizeOf, 'entries copied')) {
      const { results } = await this.#channel.client(entryService).batchCreateEntry({ entries: batch, outputMask: {} }, this.#options)
      for (const [index, entry] of batch.entries()) {
        const { status, entry: existing } = results[index] ?? {}
        if (status?.code === alreadyExists) {
          if (existing?.id === entry.id) this.#isThere.add(entry.id ?? '')
          blocked.push(entry)
        } else this.#require(status, `entry ${entry.id}`)
      }
    }
    return blocked
  }

  async #updateEntries (entries: readonly EntryInit[]): Promise<void> {
    for (const batch of this.#batches(entries, sizeOf, 'entries changed')) {
      const { results } = await this.#channel.client(entryService).batchUpdateEntry({ entries: batch, outputMask: {} }, this.#options)
      this.#requireAll(results, index => `the change of entry ${batch[index]?.id}`)
    }
  }

  /** Each is told of when the next one is asked for: when it is done. */
  * #batches<T> (items: readonly T[], sizeOf: (item: T) => number, what?: string): Generator<readonly T[]> {
    let done = 0
    for (const batch of batchesBySize(items, sizeOf)) {
      yield batch
      done += batch.length
      if (what !== undefined) this.#onProgress?.(what, done, items.length)
    }
  }

  #requireAll (results: readonly { readonly status: Status | undefined }[], what: (index: number) => string, fine = 0): void {
    for (const [index, { status }] of results.entries()) if (status?.code !== fine) this.#require(status, what(index))
  }

  #require (status: Status | undefined, what: string): void {
    if (status !== undefined && status.code !== 0) throw this.#refusal(what, status.message)
  }

  #refusal (what: string, why: string): SpiffeError {
    return new SpiffeError('takeover_refused', `${this.#where} refused ${what}: ${why}`)
  }
}
