import { callersDomain } from '../../spiffe/caller-pattern.ts'
import { checkService } from '../../spiffe/check-service.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { Service, ServiceDraft } from '../../spiffe/service.ts'
import { trustDomainOf } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { CallContext } from '../../rpc/call.ts'
import type { ServiceStore } from '../../storage/service-store.ts'
import type { Service as ServiceMessage } from '../../wire/generated/assay-types.ts'
import type { ServiceRegistryHandlers, ServiceResultInit, ServiceStateInit } from '../../wire/generated/cluster.ts'
import { decodeServiceDraft, encodeEndpoint, encodeService } from '../../wire/service-codec.ts'
import type { Registrations } from '../registrations.ts'
import type { Replica } from '../replication/replica.ts'
import { isAccepted, itemOk, itemRefused } from './item-status.ts'

export interface ServiceDeps {
  readonly trustDomain: TrustDomain
  readonly services: ServiceStore
  readonly registrations: Registrations
  readonly replica: Pick<Replica, 'services' | 'bundleOf' | 'catchUp'>
}

const mostPerPage = 1_000

/** `assay.server.v1.ServiceRegistry`: for operators. */
export function serviceHandlers (deps: ServiceDeps): ServiceRegistryHandlers<CallContext> {
  const { services, registrations, replica } = deps
  const stateOf = (service: Service): ServiceStateInit => ({
    service: encodeService(service), endpoints: replica.services.endpointsOf(service).map(encodeEndpoint)
  })
  return {
    async batchCreateService (request) {
      return { results: await write(request.services, deps, drafts => registrations.createServices(drafts)) }
    },

    async batchUpdateService (request) {
      return { results: await write(request.services, deps, drafts => registrations.updateServices(drafts), requireId) }
    },

    async batchDeleteService ({ ids }) {
      const outcomes = await registrations.deleteServices(ids)
      const statusOf = (outcome: Service | SpiffeError) => outcome instanceof SpiffeError ? itemRefused(outcome) : itemOk
      return { results: outcomes.map((outcome, index) => ({ id: ids[index], status: statusOf(outcome) })) }
    },

    async listServices ({ pageSize, pageToken }) {
      if (pageSize < 0) throw new SpiffeError('argument_invalid', 'page_size is negative')
      const page = await services.list({ size: pageSize === 0 ? mostPerPage : Math.min(pageSize, mostPerPage), token: pageToken })
      await replica.catchUp()
      return { services: page.services.map(stateOf), nextPageToken: page.nextPageToken }
    },

    async getService ({ id, name }) {
      if ((id === '') === (name === '')) throw new SpiffeError('argument_invalid', 'one of id and name is required')
      const service = id === '' ? await services.getByName(name) : await services.get(id)
      if (service === undefined) throw new SpiffeError('service_not_found', `no service ${JSON.stringify((id || name).slice(0, 260))}`)
      await replica.catchUp()
      return stateOf(service)
    }
  }
}

async function write (
  messages: readonly ServiceMessage[], deps: ServiceDeps,
  store: (drafts: readonly ServiceDraft[]) => Promise<ReadonlyArray<Service | SpiffeError>>, check: (draft: ServiceDraft) => void = () => {}
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
