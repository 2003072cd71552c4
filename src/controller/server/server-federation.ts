import type { Channel } from '../../rpc/channel.ts'
import { type FederationRelationship, parseFederationRelationship } from '../../spiffe/federation-relationship.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { decodeFederation, encodeFederation } from '../../wire/federation-codec.ts'
import { trustDomainService } from '../../wire/generated/server-trust-domain.ts'
import type { DeclaredFederation } from '../desired/desired-federation.ts'

const pageSize = 200
const timeoutMs = 30_000
/** Why an item was refused, or undefined. */
type Refusal = string | undefined

/** The relationships of a server, ours or SPIRE's, over its admin socket (spire-surface §1.7). */
export class ServerFederation {
  readonly #channel: Channel
  readonly #own: TrustDomain

  constructor (channel: Channel, own: TrustDomain) {
    this.#channel = channel
    this.#own = own
  }

  /** @throws {RpcError} @throws {SpiffeError} for what no server should have stored */
  async list (signal: AbortSignal): Promise<ReadonlyMap<TrustDomain, FederationRelationship>> {
    const stored = new Map<TrustDomain, FederationRelationship>()
    for (let pageToken = ''; ;) {
      const request = { outputMask: { bundleEndpointUrl: true, bundleEndpointProfile: true }, pageSize, pageToken }
      const { federationRelationships, nextPageToken } = await this.#client.listFederationRelationships(request, { signal, timeoutMs })
      for (const message of federationRelationships) {
        const relationship = parseFederationRelationship(decodeFederation(message), this.#own)
        stored.set(relationship.trustDomain, relationship)
      }
      if (nextPageToken === '') return stored
      pageToken = nextPageToken
    }
  }

  async create (declared: readonly DeclaredFederation[], signal: AbortSignal): Promise<Refusal[]> {
    const federationRelationships = declared.map(({ relationship, bundle }) => encodeFederation(relationship, bundle))
    const request = { federationRelationships, outputMask: {} }
    const { results } = await this.#client.batchCreateFederationRelationship(request, { signal, timeoutMs })
    return results.map(({ status }) => refusalOf(status))
  }

  async update (declared: readonly DeclaredFederation[], signal: AbortSignal): Promise<Refusal[]> {
    const { results } = await this.#client.batchUpdateFederationRelationship({
      federationRelationships: declared.map(({ relationship }) => encodeFederation(relationship, undefined)),
      inputMask: { bundleEndpointUrl: true, bundleEndpointProfile: true },
      outputMask: {}
    }, { signal, timeoutMs })
    return results.map(({ status }) => refusalOf(status))
  }

  async remove (trustDomains: readonly TrustDomain[], signal: AbortSignal): Promise<Refusal[]> {
    const { results } = await this.#client.batchDeleteFederationRelationship({ trustDomains }, { signal, timeoutMs })
    return results.map(({ status }) => refusalOf(status))
  }

  get #client () { return this.#channel.client(trustDomainService) }
}

function refusalOf (status: { readonly code: number, readonly message: string } | undefined): Refusal {
  return status === undefined || status.code === 0 ? undefined : status.message
}
