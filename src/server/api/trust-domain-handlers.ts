import type { Bundle } from '../../spiffe/bundle.ts'
import { codeOf, SpiffeError, type ErrorCode } from '../../spiffe/errors.ts'
import {
  parseBundleEndpointProfile, parseEndpointUrl, parseFederationRelationship, parsePartner, type FederationRelationship
} from '../../spiffe/federation-relationship.ts'
import { parseTrustDomainOrId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { AdminAccess } from '../../authz/admin/access.ts'
import type { CallContext } from '../../rpc/call.ts'
import type { FederationStore } from '../../storage/federation-store.ts'
import { decodeBundle } from '../../wire/bundle-codec.ts'
import { decodeFederation, encodeFederation } from '../../wire/federation-codec.ts'
import type { TrustDomainHandlers } from '../../wire/generated/server-trust-domain.ts'
import type {
  Bundle as BundleMessage, FederationRelationship as RelationshipMessage, FederationRelationshipInit, FederationRelationshipMask, StatusInit
} from '../../wire/generated/types.ts'
import type { Authorizer } from '../authorize.ts'
import type { BundleRefresher } from '../federation/bundle-refresher.ts'
import type { FederationPartners } from '../federation/federation-partners.ts'
import type { Registrations } from '../registrations.ts'
import type { Replica } from '../replication/replica.ts'
import { checkBundleContent, splitX509Authorities } from './check-bundle.ts'
import { itemOk, itemRefused } from './item-status.ts'
import { saidFirst } from './said-first.ts'

export interface TrustDomainDeps {
  readonly trustDomain: TrustDomain
  readonly federation: FederationStore
  readonly partners: Pick<FederationPartners, 'get'>
  readonly replica: Pick<Replica, 'bundleOf' | 'catchUp'>
  readonly registrations: Registrations
  readonly refresher: BundleRefresher
  readonly authorizer: Authorizer
}

const everyField: FederationRelationshipMask = { bundleEndpointUrl: true, bundleEndpointProfile: true, trustDomainBundle: true }

/**
 * `spire.api.server.trustdomain.v1.TrustDomain` (spire-surface §1.7): what is stored; relationships of the configuration are not listed,
 * and cannot be changed, but refreshed.
 */
export function trustDomainHandlers (deps: TrustDomainDeps): TrustDomainHandlers<CallContext> {
  const { trustDomain: own, federation, partners, replica, registrations, refresher, authorizer } = deps
  const shown = (relationship: FederationRelationship, mask: FederationRelationshipMask | undefined) =>
    encodeFederation(relationship, replica.bundleOf(relationship.trustDomain), mask)
  const readable = (context: CallContext) => authorizer.accessOf(context).filter('federation.read', objectOf)
  return {
    async listFederationRelationships ({ outputMask, pageSize, pageToken }, context) {
      const page = await federation.list({ size: pageSize, token: pageToken }, readable(context))
      await replica.catchUp()
      return {
        federationRelationships: page.relationships.map(relationship => shown(relationship, outputMask)), nextPageToken: page.nextPageToken
      }
    },

    async getFederationRelationship ({ trustDomain: name, outputMask }, context) {
      const domain = parseDomain(name)
      const relationship = await federation.get(domain)
      const hidden = relationship === undefined || readable(context)?.(domain) === false
      if (hidden) throw new SpiffeError('federation_not_found', 'federation relationship does not exist')
      await replica.catchUp()
      return shown(relationship, outputMask)
    },

    async batchCreateFederationRelationship ({ federationRelationships: messages, outputMask }, context) {
      const access = authorizer.accessOf(context)
      const create = async (message: RelationshipMessage) => {
        const relationship = parseFederationRelationship(decodeFederation(message), own)
        const bundle = readBundle(message.trustDomainBundle, relationship.trustDomain)
        requireWrite(access, relationship.trustDomain, bundle)
        return shown(await registrations.createFederation(relationship, bundle), outputMask)
      }
      return { results: await each(messages, 'create', create) }
    },

    async batchUpdateFederationRelationship ({ federationRelationships: messages, inputMask = everyField, outputMask }, context) {
      const access = authorizer.accessOf(context)
      const update = async (message: RelationshipMessage) => {
        const raw = decodeFederation(message)
        const domain = parsePartner(raw.trustDomain, own)
        const bundle = inputMask.trustDomainBundle ? readBundle(message.trustDomainBundle, domain) : undefined
        const endpoint = {
          ...inputMask.bundleEndpointUrl ? { url: parseEndpointUrl(raw.url) } : {},
          ...inputMask.bundleEndpointProfile ? { profile: parseBundleEndpointProfile(raw) } : {}
        }
        requireWrite(access, domain, bundle)
        return shown(await registrations.updateFederation(domain, { endpoint, bundle }), outputMask)
      }
      return { results: await each(messages, 'update', update) }
    },

    async batchDeleteFederationRelationship ({ trustDomains }, context) {
      const access = authorizer.accessOf(context)
      const results: Array<{ status: StatusInit, trustDomain: string }> = []
      for (const name of trustDomains) {
        try {
          const domain = parseDomain(name)
          requireWrite(access, domain, undefined)
          await registrations.deleteFederation(domain)
          results.push({ trustDomain: name, status: itemOk })
        } catch (error) {
          const isMissing = codeOf(error) === 'federation_not_found'
          results.push({ trustDomain: name, status: itemRefused(error, isMissing ? 'federation relationship not found: ' : '') })
        }
      }
      return { results }
    },

    async refreshBundle ({ trustDomain: name }, context) {
      const domain = parseDomain(name)
      await replica.catchUp()
      const relationship = partners.get(domain)
      const access = authorizer.accessOf(context)
      const hidden = relationship === undefined ||
        !(access.covers('federation.read', objectOf(domain)) || access.covers('federation.write', objectOf(domain)))
      if (hidden) throw notFound(domain)
      access.require('federation.write', objectOf(domain))
      await refresher.refresh(relationship, context.signal)
      return {}
    }
  }
}

function objectOf (trustDomain: TrustDomain) { return { kind: 'federation' as const, trustDomain } }

/** Whoever says where a bundle is fetched says who the partner's members are, as whoever writes the bundle does. */
function requireWrite (access: AdminAccess, trustDomain: TrustDomain, bundle: Bundle | undefined): void {
  access.require('federation.write', objectOf(trustDomain))
  if (bundle !== undefined) access.require('bundles.write', { kind: 'bundle', trustDomain, detaches: false })
}

/** @throws {SpiffeError} `federation_malformed` for another domain's, `bundle_malformed`, `trust_domain_malformed` */
function readBundle (message: BundleMessage | undefined, of: TrustDomain): Bundle | undefined {
  if (message === undefined) return undefined
  const bundle = decodeBundle(message)
  if (bundle.trustDomain !== of) {
    throw new SpiffeError('federation_malformed', `invalid trust_domain_bundle: is of "${bundle.trustDomain}" and not of "${of}"`)
  }
  return checkBundleContent({ ...bundle, x509Authorities: splitX509Authorities(bundle.x509Authorities) })
}

async function each (
  messages: readonly RelationshipMessage[], verb: 'create' | 'update',
  change: (message: RelationshipMessage) => Promise<FederationRelationshipInit>
) {
  const results: Array<{ status: StatusInit, federationRelationship?: FederationRelationshipInit }> = []
  for (const message of messages) {
    try {
      results.push({ federationRelationship: await change(message), status: itemOk })
    } catch (error) {
      results.push({ status: refused(error, verb) })
    }
  }
  return results
}

const internal = 13
/** What a request says wrongly. */
const malformed: ReadonlySet<string> = new Set<ErrorCode>(['federation_malformed', 'trust_domain_malformed', 'bundle_malformed'])

/** What SPIRE's datastore refuses, one that is there already or one that is not there, is INTERNAL to its clients (spire-surface §1.7). */
function refused (error: unknown, verb: 'create' | 'update'): StatusInit {
  const code = codeOf(error)
  if (code === 'federation_invalid' && verb === 'create') {
    return itemRefused(error, 'unable to create federation relationship for server trust domain: ')
  }
  if (code !== undefined && malformed.has(code)) return itemRefused(error, 'failed to convert federation relationship: ')
  if (code !== 'federation_exists' && code !== 'federation_not_found') return itemRefused(error)
  return { ...itemRefused(error, `failed to ${verb} federation relationship: `), code: internal }
}

function parseDomain (name: string): TrustDomain {
  return saidFirst('failed to parse trust domain: ', () => parseTrustDomainOrId(name))
}

function notFound (trustDomain: TrustDomain): SpiffeError {
  return new SpiffeError('federation_not_found', `no relationship with trust domain "${trustDomain}"`)
}
