import { contentOf } from '../../src/takeover/diff-entries.ts'
import { encodeBundle } from '../../src/wire/bundle-codec.ts'
import type { EntryInit } from '../../src/wire/generated/types.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { Administrator, idMessage } from '../interop/administrator.ts'

/** Of one trust domain, before and after its keys were exchanged. */
const partnerBundles = await Promise.all([1, 2].map(async () => encodeBundle((await createTestAuthority('partner.test')).bundle)))

export function entry (id: string, rest: EntryInit = {}): EntryInit {
  return {
    id, spiffeId: idMessage(`spiffe://example.org/${id}`), parentId: idMessage('spiffe://example.org/spire/agent/join_token/node-1'),
    selectors: [{ type: 'unix', value: 'uid:1000' }], ...rest
  }
}

/** One of the two servers of a takeover: what tests of faults change there, and compare. */
export class Side extends Administrator {
  async add (...entries: readonly EntryInit[]): Promise<void> {
    const { results } = await this.entries.batchCreateEntry({ entries })
    for (const { status } of results) if (status?.code !== 0) throw new Error(status?.message)
  }

  async contents (): Promise<readonly string[]> { return (await this.entries.listEntries({})).entries.map(contentOf).toSorted() }

  /** The trust domain's authorities by names. */
  async authorityNames (): Promise<readonly string[]> {
    const { x509Authorities, jwtAuthorities } = await this.bundles.getBundle({})
    return [...x509Authorities.map(({ asn1 }) => Buffer.from(asn1).toString('hex')), ...jwtAuthorities.map(({ keyId }) => keyId)].toSorted()
  }

  /** Names of relationships, and of bundles. */
  async partners (): Promise<readonly string[]> {
    const [{ federationRelationships }, { bundles }] = await Promise.all([
      this.relationships.listFederationRelationships({}), this.bundles.listFederatedBundles({})
    ])
    return [...federationRelationships, ...bundles].map(({ trustDomain }) => trustDomain).toSorted()
  }

  async setPartner (which: 0 | 1): Promise<void> { await this.setBundle(partnerBundles[which] as typeof partnerBundles[0] & object) }

  /** Two entries, a partner that is followed, and a bundle that is not. */
  async fill (): Promise<void> {
    await this.add(entry('web'), entry('db'))
    await this.setPartner(0)
    await this.relationships.batchCreateFederationRelationship({
      federationRelationships: [{ trustDomain: 'other.test', bundleEndpointUrl: 'https://other.test/', httpsWeb: {} }]
    })
  }

  /** What there is for a round to follow: an entry changed, one removed, one made, another bundle, and a JWT key revoked. */
  async change (): Promise<void> {
    await this.entries.batchUpdateEntry({ entries: [entry('web', { hint: 'changed' })] })
    await this.entries.batchDeleteEntry({ ids: ['db'] })
    await this.add(entry('cache'))
    await this.setPartner(1)
    const authorityId = (await this.authorities.getJWTAuthorityState({})).active?.authorityId ?? ''
    const next = await this.authorities.prepareJWTAuthority({})
    await this.authorities.activateJWTAuthority({ authorityId: next.preparedAuthority?.authorityId ?? '' })
    await this.authorities.taintJWTAuthority({ authorityId })
    await this.authorities.revokeJWTAuthority({ authorityId })
  }

  /** All but its own authorities. */
  async clear (): Promise<void> {
    await this.entries.batchDeleteEntry({ ids: (await this.entries.listEntries({})).entries.map(({ id }) => id) })
    await this.relationships.batchDeleteFederationRelationship({ trustDomains: ['other.test'] })
    await this.bundles.batchDeleteFederatedBundle({ trustDomains: ['partner.test', 'other.test'], mode: 2 })
  }
}
