import type { Bundle } from '../spiffe/bundle.ts'
import type { Entry } from '../spiffe/entry.ts'
import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import { parseTrustDomain, type TrustDomain } from '../spiffe/trust-domain.ts'
import type { ServiceEndpoint } from '../spiffe/service-endpoint.ts'
import type { Service } from '../spiffe/service.ts'
import type { Logger } from '../runtime/logger.ts'
import { decodeBundle } from '../wire/bundle-codec.ts'
import { decodeCursor, type LogPlace } from '../wire/cursor-codec.ts'
import type { SyncResponse } from '../wire/generated/agent-sync.ts'
import { decodeEndpoint, decodeService } from '../wire/service-codec.ts'
import type { ServicesStep } from './node-services.ts'
import type { PolicyPush } from './node-policies.ts'
import { usableBundle } from './own-bundle.ts'
import { readEntry } from './read-entry.ts'
import { PushedPolicyParts } from './read-policy-push.ts'
import { PushedRevocations } from './read-revocations.ts'
import type { RevocationChange } from './revocations.ts'

/** A step of the log as it is to be taken over, as a whole. */
export interface PushedStep {
  readonly cursor: LogPlace
  /** What is not named is gone. */
  readonly snapshot: boolean
  readonly entries: ReadonlyMap<string, Entry>
  readonly removedEntryIds: ReadonlySet<string>
  readonly bundles: ReadonlyMap<TrustDomain, Bundle>
  readonly removedTrustDomains: ReadonlySet<string>
  readonly mesh: ServicesStep
  /** `undefined`: as before. */
  readonly revocations: RevocationChange | undefined
  /** `undefined`: as before; in a snapshot, of a server that knows no policies. */
  readonly policies: PolicyPush | undefined
}

/**
 * Puts the messages of one stream together to steps: what comes in several messages is taken over at once, or not at all when the stream
 * breaks in between.
 */
export class PushedState {
  readonly #agentId: SpiffeId
  readonly #log: Logger
  #snapshot = false
  #entries = new Map<string, Entry>()
  #removed = new Set<string>()
  #bundles = new Map<TrustDomain, Bundle>()
  #removedDomains = new Set<string>()
  #services = new Map<string, Service>()
  #removedServices = new Set<string>()
  #endpoints = new Map<string, ServiceEndpoint>()
  #removedEndpoints = new Set<string>()
  #revocations = new PushedRevocations()
  #policies = new PushedPolicyParts()

  constructor (agentId: SpiffeId, log: Logger) {
    this.#agentId = agentId
    this.#log = log
  }

  /** @returns the step that this message completes. @throws {SpiffeError} `message_malformed` */
  take (message: SyncResponse): PushedStep | undefined {
    const cursor = decodeCursor(message.cursor)
    if (cursor === undefined) throw new SpiffeError('message_malformed', 'the server pushed without saying where its log stands')
    if (message.snapshot) this.#begin(true)
    for (const id of message.removedEntryIds) {
      this.#entries.delete(id)
      this.#removed.add(id)
    }
    for (const entry of message.entries) {
      const read = readEntry(entry, this.#agentId, this.#log)
      // One that cannot be read is none: an older form of it must not be served in its place.
      if (read === undefined) this.#removed.add(entry.id)
      else this.#entries.set(entry.id, read)
    }
    for (const bundle of message.bundles) this.#takeBundle(bundle)
    for (const trustDomain of message.removedTrustDomains) this.#removedDomains.add(trustDomain)
    this.#takeServices(message)
    if (message.revocations !== undefined) this.#revocations.add(message.revocations)
    if (message.policies !== undefined) this.#policies.add(message.policies)
    if (message.more) return undefined
    const step = {
      cursor,
      snapshot: this.#snapshot,
      entries: this.#entries,
      removedEntryIds: this.#removed,
      bundles: this.#bundles,
      removedTrustDomains: this.#removedDomains,
      mesh: {
        snapshot: this.#snapshot,
        services: this.#services,
        removedServiceIds: this.#removedServices,
        endpoints: this.#endpoints,
        removedEndpointIds: this.#removedEndpoints
      },
      revocations: this.#revocations.end(this.#snapshot),
      policies: this.#policies.end()
    }
    this.#begin(false)
    return step
  }

  /** As with entries: one that cannot be read is none. */
  #takeServices ({ services, removedServiceIds, endpoints, removedEndpointIds }: SyncResponse): void {
    const read = <M extends { readonly id: string }, T>(message: M, decode: (message: M) => T, to: Map<string, T>, none: Set<string>) => {
      to.delete(message.id)
      none.delete(message.id)
      try {
        to.set(message.id, decode(message))
      } catch (error) {
        if (codeOf(error) === undefined) throw error
        this.#log.warn({ id: message.id, err: error }, 'the server sent a service that cannot be read; it is left out')
        none.add(message.id)
      }
    }
    for (const id of removedServiceIds) this.#removedServices.add(id)
    for (const service of services) read(service, decodeService, this.#services, this.#removedServices)
    for (const id of removedEndpointIds) this.#removedEndpoints.add(id)
    for (const endpoint of endpoints) read(endpoint, decodeEndpoint, this.#endpoints, this.#removedEndpoints)
  }

  /** One partner's broken bundle costs that partner its update, and nobody else anything. */
  #takeBundle (message: SyncResponse['bundles'][number]): void {
    try {
      const bundle = usableBundle(decodeBundle(message))
      this.#bundles.set(parseTrustDomain(bundle.trustDomain), bundle)
    } catch (error) {
      if (codeOf(error) === undefined) throw error
      this.#log.warn({ trustDomain: message.trustDomain, err: error }, 'a bundle cannot be used; the last good one stays')
    }
  }

  #begin (snapshot: boolean): void {
    this.#snapshot = snapshot
    this.#entries = new Map()
    this.#removed = new Set()
    this.#bundles = new Map()
    this.#removedDomains = new Set()
    this.#services = new Map()
    this.#removedServices = new Set()
    this.#endpoints = new Map()
    this.#removedEndpoints = new Set()
    this.#revocations = new PushedRevocations()
    this.#policies = new PushedPolicyParts()
  }
}
