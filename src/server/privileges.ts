import type { Powers, Privileges } from '../authz/admin/decide.ts'
import type { AdminRoles } from '../authz/admin/role.ts'
import { trustDomainOf, type SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Registry } from './registry.ts'

export interface PrivilegeSources {
  readonly adminIds: ReadonlySet<SpiffeId>
  readonly roles: AdminRoles
  readonly registry: Pick<Registry, 'someEntry'>
}

/** What SPIFFE IDs can do besides being somebody: by configuration, and by entries that say so. */
export class KnownPrivileges implements Privileges {
  readonly #sources: PrivilegeSources

  constructor (sources: PrivilegeSources) { this.#sources = sources }

  ofId (id: SpiffeId): Powers & { readonly downstream: boolean } {
    const { adminIds, roles, registry } = this.#sources
    return {
      admin: adminIds.has(id) || registry.someEntry(id, entry => entry.admin),
      downstream: registry.someEntry(id, entry => entry.downstream),
      roles: roles.ofId(id).map(({ name }) => name)
    }
  }

  /** Entries make IDs of the own trust domain only. */
  ofDomain (trustDomain: TrustDomain): Powers {
    const { adminIds, roles } = this.#sources
    const prefix = `spiffe://${trustDomain}/`
    const isOf = (member: AdminRoles['all'][number]['members'][number]) => 'value' in member && `${member.value}/`.startsWith(prefix)
    return {
      admin: [...adminIds].some(id => trustDomainOf(id) === trustDomain),
      roles: roles.all.filter(({ members }) => members.some(isOf)).map(({ name }) => name)
    }
  }
}
