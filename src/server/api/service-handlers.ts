import { callersDomain } from '../../spiffe/caller-pattern.ts'
import { checkService } from '../../spiffe/check-service.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { Service, ServiceDraft } from '../../spiffe/service.ts'
import { trustDomainOf } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { AdminAccess } from '../../authz/admin/access.ts'
import type { ServiceFacts } from '../../authz/admin/admin-object.ts'
import type { CallContext } from '../../rpc/call.ts'
import type { ServiceGuard, ServiceStore } from '../../storage/service-store.ts'
import type { Service as ServiceMessage } from '../../wire/generated/assay-types.ts'
import type { ServiceRegistryHandlers, ServiceResultInit, ServiceStateInit } from '../../wire/generated/cluster.ts'
import { decodeServiceDraft, encodeEndpoint, encodeService } from '../../wire/service-codec.ts'
import type { Authorizer } from '../authorize.ts'
import type { Registrations } from '../registrations.ts'
import type { Replica } from '../replication/replica.ts'
import { isAccepted, itemOk, itemRefused } from './item-status.ts'

export interface ServiceDeps {
  readonly trustDomain: TrustDomain
  readonly services: ServiceStore
  readonly registrations: Registrations
  readonly replica: Pick<Replica, 'services' | 'bundleOf' | 'catchUp'>
  readonly authorizer: Authorizer
}

const mostPerPage = 1_000

/** `assay.server.v1.ServiceRegistry`: for operators. */
export function serviceHandlers (deps: ServiceDeps): ServiceRegistryHandlers<CallContext> {
  const { authorizer, services, registrations, replica } = deps
  const stateOf = (service: Service): ServiceStateInit => ({
    service: encodeService(service), endpoints: replica.services.endpointsOf(service).map(encodeEndpoint)
  })
  return {
    async batchCreateService (request, context) {
      const access = authorizer.accessOf(context)
      const check = (draft: ServiceDraft) => access.require('services.write', objectOf(draft))
      return { results: await write(request.services, deps, drafts => registrations.createServices(drafts), check) }
    },

    async batchUpdateService (request, context) {
      const guard = guardOf(authorizer.accessOf(context))
      return { results: await write(request.services, deps, drafts => registrations.updateServices(drafts, guard), requireId) }
    },

    async batchDeleteService ({ ids }, context) {
      const outcomes = await registrations.deleteServices(ids, guardOf(authorizer.accessOf(context)))
      const statusOf = (outcome: Service | SpiffeError) => outcome instanceof SpiffeError ? itemRefused(outcome) : itemOk
      return { results: outcomes.map((outcome, index) => ({ id: ids[index], status: statusOf(outcome) })) }
    },

    async listServices ({ pageSize, pageToken }, context) {
      if (pageSize < 0) throw new SpiffeError('argument_invalid', 'page_size is negative')
      const size = pageSize === 0 ? mostPerPage : Math.min(pageSize, mostPerPage)
      const page = await services.list({ size, token: pageToken }, authorizer.accessOf(context).filter('services.read', objectOf))
      await replica.catchUp()
      return { services: page.services.map(stateOf), nextPageToken: page.nextPageToken }
    },

    async getService ({ id, name }, context) {
      if ((id === '') === (name === '')) throw new SpiffeError('argument_invalid', 'one of id and name is required')
      const service = id === '' ? await services.getByName(name) : await services.get(id)
      const visible = service !== undefined && authorizer.accessOf(context).covers('services.read', objectOf(service))
      if (!visible) throw new SpiffeError('service_not_found', `no service ${JSON.stringify((id || name).slice(0, 260))}`)
      await replica.catchUp()
      return stateOf(service)
    }
  }
}

function objectOf (service: ServiceFacts) { return { kind: 'service' as const, service } }

/** A service must be the caller's to write as it is stored, and as it will be; one that he can neither read nor write is not there. */
function guardOf (access: AdminAccess): ServiceGuard | undefined {
  if (!access.isRestricted) return undefined
  return (before, after) => {
    const refusal = access.refusal('services.write', objectOf(before))
    if (refusal !== undefined && !access.covers('services.read', objectOf(before))) {
      return new SpiffeError('service_not_found', 'service not found')
    }
    return refusal ?? (after && access.refusal('services.write', objectOf(after)))
  }
}

async function write (
  messages: readonly ServiceMessage[], deps: ServiceDeps,
  store: (drafts: readonly ServiceDraft[]) => Promise<ReadonlyArray<Service | SpiffeError>>, check: (draft: ServiceDraft) => void
): Promise<ServiceResultInit[]> {
  // Against the bundles that the database has now.
  await deps.replica.catchUp()
  const drafts = messages.map(message => {
    try {
      const draft = checkService(decodeServiceDraft(message))
      check(draft)
      checkDomains(draft, deps)
      return draft
    } catch (error) {
      if (error instanceof SpiffeError) return error
      throw error
    }
  })
  const outcomes = (await store(drafts.filter(isAccepted))).values()
  return drafts.map((draft): ServiceResultInit => {
    const outcome = draft instanceof SpiffeError ? draft : outcomes.next().value as Service | SpiffeError
    return outcome instanceof SpiffeError ? { status: itemRefused(outcome) } : { status: itemOk, service: encodeService(outcome) }
  })
}

function requireId ({ id }: ServiceDraft): void {
  if (id === '') throw new SpiffeError('service_malformed', 'missing service id')
}

/** Of a trust domain without a bundle nobody could be authenticated: its name is a mistake, or comes too early. */
function checkDomains ({ spiffeIds, callers = [] }: ServiceDraft, { trustDomain, replica }: ServiceDeps): void {
  for (const domain of new Set([...spiffeIds.map(trustDomainOf), ...callers.map(callersDomain)])) {
    if (domain === trustDomain || replica.bundleOf(domain) !== undefined) continue
    throw new SpiffeError('service_malformed', `trust domain "${domain}" is not federated with; store its bundle first`)
  }
}
