import { csr, id, publicKey, uid } from './materials.ts'
import { type Known, type Step, steps } from './step.ts'

const entries = [{ id: 'nested', spiffeId: id('/nested'), parentId: id('/node'), selectors: uid('1'), downstream: true }]
const jwtAuthority = { keyId: 'published', publicKey, expiresAt: 4_102_444_800 }

/** With `disable_jwt_svids` (spire-surface §1.6, §1.8). */
export const withoutJwtSteps: readonly Step[] = [
  ...steps('local', [
    ['MintJWTSVID', 'nothing'],
    ['MintJWTSVID', 'one', { id: id('/web'), audience: ['a'] }],
    ['GetJWTAuthorityState', 'any'],
    ...['Prepare', 'Activate', 'Taint', 'Revoke'].flatMap(verb =>
      [[`${verb}JWTAuthority`, 'no id'], [`${verb}JWTAuthority`, 'an id', { authorityId: 'x' }]] as const),
    ['GetX509AuthorityState', 'still there'],
    ['GetBundle', 'without keys', { outputMask: { jwtAuthorities: true } }],
    ['CreateJoinToken', 'a token', { ttl: 600, token: 'one' }],
    ['BatchCreateEntry', 'a nested server', { entries, outputMask: {} }]
  ]),
  ...steps('agent:one', [['NewJWTSVID', 'nothing'], ['NewJWTSVID', 'an unknown entry', { entryId: 'none', audience: ['a'] }]]),
  ...steps('/nested', [['PublishJWTAuthority', 'one', { jwtAuthority }]])
]

interface Authority { readonly authorityId: string, readonly upstreamAuthoritySubjectKeyId: string }
type State = Readonly<Partial<Record<'active' | 'prepared' | 'old', Authority>>>

const remember = (state: State): Known => ({
  root: state.active?.upstreamAuthoritySubjectKeyId ?? '',
  ...Object.fromEntries(Object.entries(state).map(([name, authority]) => [name, authority?.authorityId ?? '']))
})
const local = (name: string) => (known: Known) => ({ authorityId: known[name] })
const root = ({ root }: Known) => ({ subjectKeyId: root })
const upstream = (what: string): Step[] => steps('local', ['Taint', 'Revoke'].flatMap(verb => [
  [`${verb}X509UpstreamAuthority`, `no id, ${what}`], [`${verb}X509UpstreamAuthority`, `an unknown id, ${what}`, { subjectKeyId: 'ab' }],
  [`${verb}X509UpstreamAuthority`, `the root, ${what}`, root]
] as const))

/** Below an upstream authority (spire-surface §1.8). */
export const upstreamSteps: readonly Step[] = [
  { method: 'GetX509AuthorityState', what: 'at first', remember },
  ...upstream('nothing prepared'),
  ...steps('local', ['Taint', 'Revoke'].map(verb => [`${verb}X509Authority`, 'the active one', local('active')] as const)),
  ...steps('local', [['PrepareX509Authority', 'one']]),
  { method: 'GetX509AuthorityState', what: 'prepared', remember },
  ...upstream('one prepared'),
  ...steps('local', [['ActivateX509Authority', 'it', local('prepared')]]),
  { method: 'GetX509AuthorityState', what: 'activated', remember },
  ...upstream('one old'),
  ...steps('local', [
    ...['TaintX509Authority', 'RevokeX509Authority'].flatMap(method =>
      [[method, 'no id'], [method, 'the old one', local('old')], [method, 'an unknown one', { authorityId: 'x' }]] as const),
    ['BatchCreateEntry', 'a nested server', { entries, outputMask: {} }],
    ['GetBundle', 'the root alone', { outputMask: { x509Authorities: true } }]
  ]),
  ...steps('/nested', [['NewDownstreamX509CA', 'one', { csr, preferredTtl: 60 }], ['PublishJWTAuthority', 'one', { jwtAuthority }]])
]
