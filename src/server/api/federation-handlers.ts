import type { AdminAccess } from '../../authz/admin/access.ts'
import type { SourceState } from '../../federation/client/partner-state.ts'
import type { WebRoots } from '../../federation/client/web-roots.ts'
import type { CallContext } from '../../rpc/call.ts'
import { raiseSequence } from '../../spiffe/bundle-change.ts'
import type { Datastore } from '../../storage/datastore.ts'
import type { FederationHandlers, FollowingInit, GetStatusResponseInit, PartnerInit, SourceInit } from '../../wire/generated/federation.ts'
import type { Authorizer } from '../authorize.ts'
import { consumersByDomain, type BundleConsumers } from '../federation/bundle-consumers.ts'
import type { FederationPartners } from '../federation/federation-partners.ts'
import { fetchInvitation } from '../federation/fetch-invitation.ts'
import { invite, type InviteDeps } from '../federation/invite.ts'
import { partnerStatus, type PartnerStatus } from '../federation/partner-status.ts'
import { signBundle } from '../federation/sign-bundle.ts'
import type { Replica } from '../replication/replica.ts'

export interface FederationDeps extends InviteDeps {
  readonly replicaId: string
  readonly store: Pick<Datastore, 'partnerStates'>
  readonly partners: Pick<FederationPartners, 'all' | 'isFixed'>
  readonly replica: Pick<Replica, 'bundleOf' | 'catchUp' | 'registry'>
  readonly authorizer: Authorizer
  readonly webRoots: WebRoots
}

/** `assay.server.federation.v1.Federation`: for operators. */
export function federationHandlers (deps: FederationDeps): FederationHandlers<CallContext> {
  return {
    getStatus: (_request, context) => status(deps, deps.authorizer.accessOf(context)),
    invite (request, context) {
      context.log.info({ url: request.bundleEndpointUrl, scope: request.scope }, 'an invitation to federate is signed')
      return invite(request, deps)
    },
    fetchInvited (request, context) {
      const { authority, webRoots, replica, clock } = deps
      return fetchInvitation(request, {
        ownBundle: () => authority.bundle.value, access: deps.authorizer.accessOf(context), webRoots,
        bundleOf: domain => replica.bundleOf(domain), clock
      }, context.signal)
    },
    signBundle (request, context) {
      context.log.info('the bundle is signed, to be kept elsewhere')
      return signBundle(request, deps)
    },
    async raiseBundleSequence ({ sequenceNumber: least }, context) {
      const before = deps.authority.bundle.value.sequenceNumber
      const { sequenceNumber } = await deps.authority.bundle.update(bundle => raiseSequence(bundle, least))
      if (sequenceNumber !== before) {
        context.log.warn({ before: `${before}`, now: `${sequenceNumber}` }, 'the bundle\'s sequence number was raised by an operator')
      }
      return { sequenceNumber }
    }
  }
}

async function status (
  { trustDomain, replicaId, store, partners, replica, clock }: FederationDeps, access: AdminAccess
): Promise<GetStatusResponseInit> {
  await replica.catchUp()
  const stored = new Map((await store.partnerStates.list()).map(state => [state.trustDomain, state]))
  const now = clock.now()
  const consumers = consumersByDomain(replica.registry.all(), access.filter('entries.read', entry => ({ kind: 'entry', entry })))
  const shown = [...partners.all.values()]
    .filter(({ trustDomain }) => access.covers('federation.read', { kind: 'federation', trustDomain }))
    .toSorted((a, b) => a.trustDomain < b.trustDomain ? -1 : 1)
  return {
    trustDomain,
    replicaId,
    now: now.getTime(),
    partners: shown.map(relationship => {
      const { trustDomain: domain } = relationship
      const one = partnerStatus(relationship, replica.bundleOf(domain), stored.get(domain), now)
      return encodePartner(one, partners.isFixed(domain), consumers.get(domain))
    })
  }
}

function encodePartner (
  { relationship: { trustDomain, endpoint: { url, profile } }, health, bundle, trustEndsAt, following }: PartnerStatus,
  configured: boolean, consumers: BundleConsumers | undefined
): PartnerInit {
  return {
    trustDomain,
    health,
    configured,
    bundleEndpointUrl: url,
    bundleEndpointProfile: profile.kind,
    endpointSpiffeId: profile.kind === 'https_spiffe' ? profile.endpointId : '',
    bundle: bundle && {
      sequenceNumber: bundle.sequenceNumber,
      refreshHintSeconds: bundle.refreshHintSeconds,
      x509Authorities: bundle.x509Authorities.length,
      jwtAuthorities: bundle.jwtAuthorities.length,
      trustEndsAt: trustEndsAt?.getTime()
    },
    following: following && encodeFollowing(following),
    consumers: consumers?.count,
    consumerEntryIds: consumers?.entryIds
  }
}

function encodeFollowing ({ replicaId, facts }: NonNullable<PartnerStatus['following']>): FollowingInit {
  const { lastSuccessAt, suppliedBy, nextPollAt, failures, sources } = facts
  return {
    replicaId, suppliedBy, failures, lastSuccessAt: lastSuccessAt?.getTime(), nextPollAt: nextPollAt?.getTime(),
    sources: sources.map(encodeSource)
  }
}

function encodeSource ({ name, lastSuccessAt, lastError }: SourceState): SourceInit {
  return {
    name, lastSuccessAt: lastSuccessAt?.getTime(),
    lastError: lastError && { ...lastError, at: lastError.at.getTime() }
  }
}
