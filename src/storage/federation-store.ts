import type { Bundle } from '../spiffe/bundle.ts'
import type { FederationRelationship } from '../spiffe/federation-relationship.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { PageRequest } from './page.ts'

export interface FederationPage {
  readonly relationships: readonly FederationRelationship[]
  /** Empty only when the page is empty or everything was asked for. */
  readonly nextPageToken: string
}

/** What is to be changed of a relationship; what is absent stays. */
export interface FederationChange {
  readonly endpoint?: Partial<FederationRelationship['endpoint']> | undefined
  /** Takes the place of the domain's bundle in the bundle store. */
  readonly bundle?: Bundle | undefined
}

/**
 * Federation relationships by trust domain. A bundle that comes with one is stored with it or not at all, in the bundle store; it stays
 * there when the relationship goes.
 */
export interface FederationStore {
  /** @throws {SpiffeError} `federation_exists` */
  create (relationship: FederationRelationship, bundle?: Bundle): Promise<FederationRelationship>
  /** @throws {SpiffeError} `federation_not_found`; nothing is written then, the bundle neither */
  update (trustDomain: TrustDomain, change: FederationChange): Promise<FederationRelationship>
  /**
   * Changes the bundle of the domain in the bundle store, with no other change in between and only while the relationship stands. What
   * `change` throws is thrown, and nothing is written.
   * @param change pure: it may run again when another writer came first; what gives back its argument writes nothing
   * @throws {SpiffeError} `federation_not_found`
   */
  updateBundle (trustDomain: TrustDomain, change: (current: Bundle | undefined) => Bundle): Promise<Bundle>
  /** @throws {SpiffeError} `federation_not_found` */
  delete (trustDomain: TrustDomain): Promise<FederationRelationship>
  get (trustDomain: TrustDomain): Promise<FederationRelationship | undefined>
  /** In creation order. @throws {SpiffeError} `page_token_malformed` */
  list (page: PageRequest, keep?: (trustDomain: TrustDomain) => boolean): Promise<FederationPage>
}
