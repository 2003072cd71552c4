import type { AuthorityKind, AuthorityRecord } from '../../ca/authority-record.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { CallContext } from '../../rpc/call.ts'
import type { AuthorityStateInit, LocalAuthorityHandlers } from '../../wire/generated/server-local-authority.ts'
import type { Authorities } from '../authorities.ts'
import { saidFirstLater, type WordsByCode } from './said-first.ts'

/**
 * `spire.api.server.localauthority.v1.LocalAuthority` (spire-surface §1.8). Where replicas share their keys, it acts on the trust domain's
 * authorities, whichever replica is asked. There are no WIT keys, as in SPIRE.
 */
export function localAuthorityHandlers (
  { authorities }: { readonly authorities: Authorities }
): LocalAuthorityHandlers<CallContext> {
  const { ca } = authorities
  type Verb = 'activate' | 'taint' | 'revoke'
  const run = async (kind: AuthorityKind, verb: Verb, authorityId: string, { log }: CallContext) => {
    const slots = ca.slots(kind)
    const record = await authorities.command(writer => {
      if (kind === 'x509' && verb !== 'activate') ca.requireOwnRoot(authorityId, verb)
      return saidFirstLater(verb === 'revoke' ? wordsOfRevoke(kind) : {}, () => slots[verb](authorityId, writer))
    })
    log.warn({ kind, authority: record.authorityId, verb }, 'an authority was changed by an operator')
    return encodeAuthority(record)
  }
  const prepare = async (kind: AuthorityKind, { log }: CallContext) => {
    const slots = ca.slots(kind)
    if (slots.records.active === undefined) throw initializing()
    const record = await authorities.command(writer => slots.prepare(writer))
    log.warn({ kind, authority: record.authorityId }, 'an authority was prepared by an operator')
    return encodeAuthority(record)
  }
  const state = (kind: AuthorityKind) => {
    const { active, prepared, old } = ca.slots(kind).records
    if (active === undefined) throw initializing()
    return { active: encodeAuthority(active), prepared: prepared && encodeAuthority(prepared), old: old && encodeAuthority(old) }
  }
  const upstream = async (verb: 'taint' | 'revoke', subjectKeyId: string, { log }: CallContext) => {
    const words = verb === 'taint' ? 'provided subject key id is not valid: ' : 'invalid subject key ID: '
    await authorities.command(writer => saidFirstLater({ authority_unknown: words, authority_in_use: words }, () =>
      verb === 'taint' ? ca.taintUpstream(subjectKeyId, writer) : ca.revokeUpstream(subjectKeyId, writer)))
    log.warn({ subjectKeyId, verb }, 'an upstream authority was changed by an operator')
    return { upstreamAuthoritySubjectKeyId: subjectKeyId }
  }
  const noWit = async (): Promise<never> => { throw new SpiffeError('wit_disabled', 'WIT-SVID functionality is not yet implemented') }
  return {
    getWITAuthorityState: noWit,
    prepareWITAuthority: noWit,
    activateWITAuthority: noWit,
    taintWITAuthority: noWit,
    revokeWITAuthority: noWit,
    getX509AuthorityState: async () => state('x509'),
    prepareX509Authority: async (_, context) => ({ preparedAuthority: await prepare('x509', context) }),
    activateX509Authority: async ({ authorityId }, context) =>
      ({ activatedAuthority: await run('x509', 'activate', authorityId, context) }),
    taintX509Authority: async ({ authorityId }, context) => ({ taintedAuthority: await run('x509', 'taint', authorityId, context) }),
    revokeX509Authority: async ({ authorityId }, context) => ({ revokedAuthority: await run('x509', 'revoke', authorityId, context) }),
    getJWTAuthorityState: async () => state('jwt'),
    prepareJWTAuthority: async (_, context) => ({ preparedAuthority: await prepare('jwt', context) }),
    activateJWTAuthority: async ({ authorityId }, context) => ({ activatedAuthority: await run('jwt', 'activate', authorityId, context) }),
    taintJWTAuthority: async ({ authorityId }, context) => ({ taintedAuthority: await run('jwt', 'taint', authorityId, context) }),
    revokeJWTAuthority: async ({ authorityId }, context) => ({ revokedAuthority: await run('jwt', 'revoke', authorityId, context) }),
    taintX509UpstreamAuthority: ({ subjectKeyId }, context) => upstream('taint', subjectKeyId, context),
    revokeX509UpstreamAuthority: ({ subjectKeyId }, context) => upstream('revoke', subjectKeyId, context)
  }
}

function wordsOfRevoke (kind: AuthorityKind): WordsByCode {
  const words = 'invalid authority ID: '
  return {
    authority_unknown: words, authority_in_use: words,
    authority_not_tainted: `failed to revoke ${kind === 'x509' ? 'X.509' : 'JWT'} authority: `
  }
}

function encodeAuthority ({ authorityId, notAfter, upstreamAuthorityId = '' }: AuthorityRecord): AuthorityStateInit {
  return { authorityId, expiresAt: BigInt(Math.floor(notAfter.getTime() / 1000)), upstreamAuthoritySubjectKeyId: upstreamAuthorityId }
}

function initializing (): SpiffeError { return new SpiffeError('server_initializing', 'server is initializing') }
