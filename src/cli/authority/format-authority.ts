import type { AuthorityState } from '../../wire/generated/server-local-authority.ts'
import { formatUnixSeconds, printable } from '../pretty.ts'
import { kindNames, type AuthorityKind } from './authority-calls.ts'

/** A heading with the authority's rows below it, as SPIRE prints them. @param role `Active`, `Prepared`, `Tainted`… */
export function formatAuthority (role: string, kind: AuthorityKind, state: AuthorityState | undefined): string {
  const heading = `${role} ${kindNames[kind]} authority:\n`
  if (state === undefined) return `${heading}  No ${role.toLowerCase()} ${kindNames[kind]} authority found\n`
  const upstream = state.upstreamAuthoritySubjectKeyId
  return [
    heading,
    `  Authority ID: ${printable(state.authorityId)}\n`,
    `  Expires at: ${formatUnixSeconds(state.expiresAt)}\n`,
    kind === 'jwt' ? '' : upstream === ''
      ? '  Upstream authority ID: No upstream authority\n'
      : `  Upstream authority Subject Key ID: ${printable(upstream)}\n`
  ].join('')
}
