import type { Channel, CallOptions } from '../../rpc/channel.ts'
import {
  localAuthorityService, type AuthorityState, type GetX509AuthorityStateResponse
} from '../../wire/generated/server-local-authority.ts'

export type AuthorityKind = 'x509' | 'jwt'
/** What moves one authority, named by its ID, along its life. */
export type AuthorityVerb = 'activate' | 'taint' | 'revoke'

/** How people write the kinds. */
export const kindNames: Readonly<Record<AuthorityKind, string>> = { x509: 'X.509', jwt: 'JWT' }

export interface AuthorityCalls extends Readonly<Record<AuthorityVerb, (authorityId: string) => Promise<AuthorityState | undefined>>> {
  show (): Promise<GetX509AuthorityStateResponse>
  prepare (): Promise<AuthorityState | undefined>
}

/** The server's methods for one kind of authority; X.509's and JWT's have the same shapes under other names. */
export function authorityCalls (channel: Channel, kind: AuthorityKind, options: CallOptions): AuthorityCalls {
  const client = channel.client(localAuthorityService)
  if (kind === 'x509') {
    return {
      show: () => client.getX509AuthorityState({}, options),
      prepare: async () => (await client.prepareX509Authority({}, options)).preparedAuthority,
      activate: async authorityId => (await client.activateX509Authority({ authorityId }, options)).activatedAuthority,
      taint: async authorityId => (await client.taintX509Authority({ authorityId }, options)).taintedAuthority,
      revoke: async authorityId => (await client.revokeX509Authority({ authorityId }, options)).revokedAuthority
    }
  }
  return {
    show: () => client.getJWTAuthorityState({}, options),
    prepare: async () => (await client.prepareJWTAuthority({}, options)).preparedAuthority,
    activate: async authorityId => (await client.activateJWTAuthority({ authorityId }, options)).activatedAuthority,
    taint: async authorityId => (await client.taintJWTAuthority({ authorityId }, options)).taintedAuthority,
    revoke: async authorityId => (await client.revokeJWTAuthority({ authorityId }, options)).revokedAuthority
  }
}
