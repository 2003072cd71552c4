import type { SpiffeError } from '../spiffe/errors.ts'
import type { Service, ServiceDraft } from '../spiffe/service.ts'
import type { PageRequest } from './page.ts'

export interface ServicePage {
  readonly services: readonly Service[]
  /** Empty only when the page is empty or everything was asked for. */
  readonly nextPageToken: string
}

/**
 * May refuse the change of one service by what it was and will be, read in the transaction that changes it. Pure: asked again when a
 * transaction begins again.
 * @param after `undefined`: it will be gone
 */
export type ServiceGuard = (before: Service, after: ServiceDraft | undefined) => SpiffeError | undefined

/**
 * Services. A batch is one transaction; outcomes are in the order of the request, and each sees those before it. Names, addresses and
 * local ports belong to one service alone. Times come from the store's clock.
 */
export interface ServiceStore {
  /** An empty id becomes a UUIDv4. Revision 0. Refusals: `service_exists`. */
  createMany (drafts: readonly ServiceDraft[]): Promise<ReadonlyArray<Service | SpiffeError>>
  /** Replaces services by id, whole. Revision + 1; an equal one stays as it was. Refusals: `service_not_found`, `service_exists`. */
  updateMany (drafts: readonly ServiceDraft[], guard?: ServiceGuard): Promise<ReadonlyArray<Service | SpiffeError>>
  /** Gives what was removed, or `service_not_found`. */
  deleteMany (ids: readonly string[], guard?: ServiceGuard): Promise<ReadonlyArray<Service | SpiffeError>>
  get (id: string): Promise<Service | undefined>
  getByName (name: string): Promise<Service | undefined>
  /** @throws {SpiffeError} `page_token_malformed` */
  list (page: PageRequest, keep?: (service: Service) => boolean): Promise<ServicePage>
  count (): Promise<number>
  /** Every service in creation order, read in chunks; what is written meanwhile may or may not be seen. */
  all (): AsyncIterable<Service>
}
