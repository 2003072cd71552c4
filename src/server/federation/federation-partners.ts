import type { FederationRelationship } from '../../spiffe/federation-relationship.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'

type Relationships = ReadonlyMap<TrustDomain, FederationRelationship>

/**
 * Whose bundles this server is to have: those that its configuration names, and those that operators stored through the API. The
 * configuration's word counts for a domain that is both, as in SPIRE; the API lists and changes what is stored alone.
 */
export class FederationPartners {
  readonly #fixed: Relationships
  readonly #stored: () => Relationships

  /** @param stored as this replica knows it now */
  constructor (fixed: readonly FederationRelationship[], stored: () => Relationships) {
    this.#fixed = new Map(fixed.map(relationship => [relationship.trustDomain, relationship]))
    this.#stored = stored
  }

  get all (): Relationships { return new Map([...this.#stored(), ...this.#fixed]) }

  /** Whether it is the configuration that names the domain. */
  isFixed (trustDomain: TrustDomain): boolean { return this.#fixed.has(trustDomain) }

  get (trustDomain: TrustDomain): FederationRelationship | undefined {
    return this.#fixed.get(trustDomain) ?? this.#stored().get(trustDomain)
  }
}
