import { z } from 'zod'
import { AdminRoles, type AdminRole } from '../../src/authz/admin/role.ts'
import { rolesSchema } from '../../src/authz/admin/role-schema.ts'
import type { Privileges } from '../../src/authz/admin/decide.ts'

export type RawRole = z.input<typeof rolesSchema>[number]

/** Roles as a configuration writes them. */
export function testRoles (...raw: readonly RawRole[]): readonly AdminRole[] { return rolesSchema.parse(raw) }

export function testAdminRoles (...raw: readonly RawRole[]): AdminRoles { return new AdminRoles(testRoles(...raw)) }

export const noPrivileges: Privileges = {
  ofId: () => ({ admin: false, downstream: false, roles: [] }),
  ofDomain: () => ({ admin: false, roles: [] })
}
