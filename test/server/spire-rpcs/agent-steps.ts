import { agentId, csr, foreignId, id, junk } from './materials.ts'
import { type Differs, pages, type Step, type StepRow, steps } from './step.ts'

const data = (type: string, payload: string) => ({ type, payload: Buffer.from(payload) })
const params = (type: string, payload: string, more: object = { params: { csr } }) => ({ params: { data: data(type, payload), ...more } })
const bothWays = (what: string, filter: object, differs?: Differs): StepRow[] =>
  [['CountAgents', what, { filter }, differs], ['ListAgents', what, { filter, outputMask: {} }, differs]]
const matching = (match: number, ...values: string[]) =>
  ({ bySelectorMatch: { match, selectors: values.map(value => ({ type: 'x', value })) } })

const callersFault: Differs = ['INVALID_ARGUMENT', 'SPIRE calls it INTERNAL, which the caller can do nothing about']

/** spire-surface §1.3: agents `one`, `two` and `three` join; `two` is banned, `three` evicted. */
export const agentSteps: readonly Step[] = [
  ...steps('local', [
    ['CountAgents', 'none there'],
    ['ListAgents', 'none there'],
    ['CreateJoinToken', 'no ttl'],
    ['CreateJoinToken', 'a negative ttl', { ttl: -1 }],
    ['CreateJoinToken', 'a token made for us', { ttl: 60 }],
    ...['one', 'two', 'three'].map(token => ['CreateJoinToken', `the token ${token}`, { ttl: 600, token }] as const),
    ['CreateJoinToken', 'the same token', { ttl: 600, token: 'one' }],
    ['CreateJoinToken', 'a token that is no path', { ttl: 600, token: 'a b' }, ['INVALID_ARGUMENT', 'no agent could have such an ID']],
    ['CreateJoinToken', 'a reserved ID', { ttl: 600, agentId: id('/spire/x') }],
    ['CreateJoinToken', 'another domain\'s ID', { ttl: 600, agentId: foreignId }],
    ['CreateJoinToken', 'the domain\'s ID', { ttl: 600, agentId: id('') }],
    ['CreateJoinToken', 'a malformed ID', { ttl: 600, agentId: id('/a//b') }],
    ['CreateJoinToken', 'an alias', { ttl: 600, token: 'named', agentId: id('/alias') }],
    ['CreateJoinToken', 'another with the same alias', { ttl: 600, token: 'named-too', agentId: id('/alias') }],
    ['ListEntries', 'the aliases', { filter: { bySpiffeId: id('/alias') } }]
  ]),
  ...steps('nobody', [
    ['AttestAgent', 'no params', {}],
    ['AttestAgent', 'an answer before a challenge', { challengeResponse: junk }],
    ['AttestAgent', 'no data', { params: {} }],
    ['AttestAgent', 'no type', params('', 'x')],
    ['AttestAgent', 'no payload', params('join_token', '')],
    ['AttestAgent', 'no parameters', params('join_token', 'x', {})],
    ['AttestAgent', 'no CSR', params('join_token', 'x', { params: {} })],
    ['AttestAgent', 'what is no CSR', params('join_token', 'named-too', { params: { csr: junk } })],
    ['AttestAgent', 'an unknown attestor', params('other', 'x')],
    ['AttestAgent', 'an unknown token', params('join_token', 'x')],
    ['AttestAgent', 'a token', params('join_token', 'named')],
    ['AttestAgent', 'a used token', params('join_token', 'named')]
  ]),
  ...['one', 'two', 'three'].flatMap(token => steps(`agent:${token}`, [['GetAuthorizedEntries', 'as it joined']])),
  ...steps('local', [
    ['GetAgent', 'no ID'],
    ['GetAgent', 'an ID outside /spire/agent/', { id: id('/workload') }],
    ['GetAgent', '/spire/agent itself', { id: id('/spire/agent') }],
    ['GetAgent', 'the server\'s ID', { id: id('/spire/server') }],
    ['GetAgent', 'another domain\'s', { id: { trustDomain: 'other.org', path: '/spire/agent/x' } }],
    ['GetAgent', 'a malformed domain', { id: { trustDomain: 'Example.org', path: '/spire/agent/x' } }],
    ['GetAgent', 'one that is not there', { id: agentId('none') }],
    ['GetAgent', 'one', { id: agentId('one') }],
    ['GetAgent', 'nothing of one', { id: agentId('one'), outputMask: {} }],
    ['GetAgent', 'some of one', { id: agentId('one'), outputMask: { attestationType: true, x509svidSerialNumber: true } }],
    ['BanAgent', 'no ID'],
    ['BanAgent', 'an ID outside /spire/agent/', { id: id('/workload') }],
    ['BanAgent', 'one that is not there', { id: agentId('none') }],
    ['BanAgent', 'one', { id: agentId('two') }],
    ['BanAgent', 'it again', { id: agentId('two') }],
    ['DeleteAgent', 'no ID'],
    ['DeleteAgent', 'an ID outside /spire/agent/', { id: id('/workload') }],
    ['DeleteAgent', 'one that is not there', { id: agentId('none') }],
    ['DeleteAgent', 'one', { id: agentId('three') }],
    ['DeleteAgent', 'it again', { id: agentId('three') }],
    ['GetAgent', 'the banned one', { id: agentId('two') }],
    ['CountAgents', 'all'],
    ['ListAgents', 'all'],
    ['ListAgents', 'some of all', { outputMask: { attestationType: true, selectors: true, banned: true, agentVersion: true } }],
    ...bothWays('banned', { byBanned: { value: true } }),
    ...bothWays('not banned', { byBanned: { value: false } }),
    ...bothWays('that can re-attest', { byCanReattest: { value: true } }),
    ...bothWays('that cannot', { byCanReattest: { value: false } }),
    ...bothWays('of a type', { byAttestationType: 'join_token' }),
    ...bothWays('of another type', { byAttestationType: 'x509pop' }),
    ...bothWays('that expired', { byExpiresBefore: '2000-01-02 15:04:05 -0700 -07' }),
    ...bothWays('that will expire', { byExpiresBefore: '2100-01-02 15:04:05 +0000 UTC' }),
    ...bothWays('that will expire, as the layout says', { byExpiresBefore: '2100-01-02 15:04:05 +0000 +00' }),
    ...bothWays('at a time that is none', { byExpiresBefore: 'tomorrow' }),
    ...bothWays('no selectors', matching(0), callersFault),
    ...bothWays('a selector without a value', { bySelectorMatch: { selectors: [{ type: 'x', value: '' }] } }),
    ...bothWays('a selector without a type', { bySelectorMatch: { selectors: [{ type: '', value: 'y' }] } }),
    ...bothWays('a selector whose type has a colon', { bySelectorMatch: { selectors: [{ type: 'a:b', value: 'y' }] } }),
    ...[0, 1, 2, 3].flatMap(match => bothWays(`selectors, match ${match}`, matching(match, 'y'))),
    ...bothWays('an unknown match', matching(7, 'y'), callersFault),
    ['ListAgents', 'a token that is none', { pageSize: 1, pageToken: 'x' }],
    ['ListAgents', 'a token without a size', { pageToken: 'x', outputMask: {} }],
    ['ListAgents', 'a negative size', { pageSize: -1, outputMask: {} }]
  ]),
  ...pages('ListAgents', 2, 2),
  ...['two', 'three'].flatMap(token => steps(`agent:${token}`, [
    ['GetAuthorizedEntries', 'now'], ['RenewAgent', 'now', { params: { csr } }], ['PostStatus', 'now'], ['GetFederatedBundle', 'now']
  ])),
  ...steps('local', [['CreateJoinToken', 'the token of a banned agent', { ttl: 600, token: 'two' }]]),
  ...steps('nobody', [['AttestAgent', 'a banned agent', params('join_token', 'two'),
    ['PERMISSION_DENIED', 'the reason is told here too']]]),
  ...steps('local', [
    ['DeleteAgent', 'the banned one', { id: agentId('two') }],
    ['CreateJoinToken', 'its token again', { ttl: 600, token: 'two' }, ['INTERNAL', 'an attempt that was refused has not used it up']]
  ]),
  ...steps('nobody', [['AttestAgent', 'one that was banned and evicted', params('join_token', 'two')]]),
  ...steps('local', [
    ['DeleteAgent', 'one with an alias', { id: agentId('named') }],
    ['ListEntries', 'the aliases that are left', { filter: { bySpiffeId: id('/alias') }, outputMask: { parentId: true } }]
  ]),
  ...steps('agent:one', [
    ['RenewAgent', 'no params'],
    ['RenewAgent', 'no CSR', { params: {} }],
    ['RenewAgent', 'what is no CSR', { params: { csr: junk } }],
    ['PostStatus', 'a version that is too long', { agentVersion: 'v'.repeat(256) }],
    ['PostStatus', 'a version', { agentVersion: 'v'.repeat(255), currentBundleSerial: 7 }],
    ['RenewAgent', 'a CSR', { params: { csr } }]
  ])
]
