import type { CallOptions, Channel } from '../rpc/channel.ts'
import { RpcError } from '../rpc/rpc-error.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import { decodeBundle } from '../wire/bundle-codec.ts'
import { agentService } from '../wire/generated/server-agent.ts'
import { bundleService } from '../wire/generated/server-bundle.ts'
import { localAuthorityService } from '../wire/generated/server-local-authority.ts'
import { entryService } from '../wire/generated/server-entry.ts'
import { trustDomainService } from '../wire/generated/server-trust-domain.ts'
import type { Agent, Bundle as BundleMessage, Entry, FederationRelationship } from '../wire/generated/types.ts'

/** What a server, ours or SPIRE's, tells an administrator of its trust domain. Messages as they came: what is copied is copied whole. */
export interface DomainState {
  /** The trust domain's own. */
  readonly bundle: Bundle
  readonly entries: readonly Entry[]
  readonly relationships: readonly FederationRelationship[]
  readonly federatedBundles: readonly BundleMessage[]
  readonly agents: readonly Agent[]
  /** IDs of the authorities that sign; empty where a server does not say. */
  readonly active: { readonly x509: string, readonly jwt: string }
}

const timeoutMs = 30_000
const pageSize = 1_000

/** @throws {RpcError} @throws {SpiffeError} `bundle_malformed` for what no server should say */
export async function readDomain (channel: Channel, signal: AbortSignal): Promise<DomainState> {
  const options = { signal, timeoutMs }
  const bundles = channel.client(bundleService)
  return {
    bundle: decodeBundle(await bundles.getBundle({}, options)),
    entries: await pages(async pageToken => {
      const { entries, nextPageToken } = await channel.client(entryService).listEntries({ pageSize, pageToken }, options)
      return { items: entries, nextPageToken }
    }),
    relationships: await pages(async pageToken => {
      const request = { pageSize, pageToken, outputMask: { bundleEndpointUrl: true, bundleEndpointProfile: true } }
      const answer = await channel.client(trustDomainService).listFederationRelationships(request, options)
      return { items: answer.federationRelationships, nextPageToken: answer.nextPageToken }
    }),
    federatedBundles: await pages(async pageToken => {
      const answer = await bundles.listFederatedBundles({ pageSize, pageToken }, options)
      return { items: answer.bundles, nextPageToken: answer.nextPageToken }
    }),
    agents: await pages(async pageToken => {
      const answer = await channel.client(agentService).listAgents({ pageSize, pageToken }, options)
      return { items: answer.agents, nextPageToken: answer.nextPageToken }
    }),
    active: await readActive(channel, options)
  }
}

async function readActive (channel: Channel, options: CallOptions): Promise<DomainState['active']> {
  const authorities = channel.client(localAuthorityService)
  const ask = async (answer: Promise<{ readonly active: { readonly authorityId: string } | undefined }>) => {
    try {
      return (await answer).active?.authorityId ?? ''
    } catch (error) {
      // SPIRE before 1.8 has no such API, and none has JWT authorities where JWT-SVIDs are switched off.
      if (error instanceof RpcError && error.status === 'UNIMPLEMENTED') return ''
      throw error
    }
  }
  return {
    x509: await ask(authorities.getX509AuthorityState({}, options)),
    jwt: await ask(authorities.getJWTAuthorityState({}, options))
  }
}

async function pages<T> (fetch: (pageToken: string) => Promise<{ items: readonly T[], nextPageToken: string }>): Promise<readonly T[]> {
  const all: T[] = []
  for (let pageToken = ''; ;) {
    const { items, nextPageToken } = await fetch(pageToken)
    for (const item of items) all.push(item)
    if (nextPageToken === '') return all
    pageToken = nextPageToken
  }
}
