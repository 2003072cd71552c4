import { agentId, csr, csrFor, foreignId, id, junk, publicKey, rsaKey, tampered, uid } from './materials.ts'
import { type Differs, type Step, steps } from './step.ts'

const web = 'spiffe://example.org/web'
const mint = (what: string, names: Parameters<typeof csrFor>[0], more: object = {}) =>
  ['MintX509SVID', what, { ...csrFor({ uriSans: [web], ...names }), ...more }] as const
const wit = (more: object) => ({ params: [{ entryId: 'w1', publicKey, signingAlgorithm: 'ES256', ...more }] })
const minted = (more: object) => ({ id: id('/web'), publicKey, signingAlgorithm: 'ES256', ...more })
const one = (more: object) => ({ params: [{ entryId: 'w1', csr, ...more }] })

const emptyAudience: Differs = ['INVALID_ARGUMENT', 'SPIRE signs what has another one beside it, and calls the rest INTERNAL']

/** spire-surface §1.5, §1.6. */
export const svidSteps: readonly Step[] = [
  ...steps('local', [
    ['MintX509SVID', 'no CSR'],
    ['MintX509SVID', 'what is no CSR', { csr: junk }],
    ['MintX509SVID', 'a CSR with a bad signature', { csr: tampered }],
    mint('no URI', { uriSans: [] }),
    mint('two URIs', { uriSans: [web, `${web}/2`] }),
    mint('a URI that is no SPIFFE ID', { uriSans: ['https://example.org/web'] }),
    mint('another trust domain', { uriSans: ['spiffe://other.org/web'] }),
    mint('the trust domain', { uriSans: ['spiffe://example.org'] }),
    mint('a reserved ID', { uriSans: ['spiffe://example.org/spire/web'] }),
    mint('an agent\'s ID', { uriSans: ['spiffe://example.org/spire/agent/x'] }),
    mint('a bad DNS name', { dnsSans: ['-a.test'] }),
    mint('a DNS name that is a wildcard alone', { dnsSans: ['*'] }),
    mint('a wildcard over a name', { dnsSans: ['*.a.test', 'b.a.test'] }),
    mint('a DNS name twice', { dnsSans: ['a.test', 'a.test'] }),
    mint('one', { dnsSans: ['a.test'] }, { ttl: 60 }),
    ['MintJWTSVID', 'no ID', { audience: ['a'] }],
    ['MintJWTSVID', 'a reserved ID', { id: id('/spire/x'), audience: ['a'] }],
    ['MintJWTSVID', 'another domain\'s ID', { id: foreignId, audience: ['a'] }],
    ['MintJWTSVID', 'the domain\'s ID', { id: id(''), audience: ['a'] }],
    ['MintJWTSVID', 'no audience', { id: id('/web') }],
    ['MintJWTSVID', 'an empty audience', { id: id('/web'), audience: [''] }, emptyAudience],
    ['MintJWTSVID', 'an empty audience beside another', { id: id('/web'), audience: ['', 'a'] }, emptyAudience],
    ['MintJWTSVID', 'one', { id: id('/web'), audience: ['a', 'b'], ttl: 60 }],
    ['MintWITSVID', 'nothing'],
    ['MintWITSVID', 'one', minted({})],
    ['BatchCreateEntry', 'for an agent', { entries: [
      { id: 'w1', spiffeId: id('/w1'), parentId: agentId('one'), selectors: uid('1'), dnsNames: ['a.test'], hint: 'h' },
      { id: 'w2', spiffeId: id('/w2'), parentId: id('/w1'), selectors: uid('2'), x509SvidTtl: 120, jwtSvidTtl: 60,
        additionalAttributes: { jwtSvidIncludeJti: true } },
      { id: 'far', spiffeId: id('/far'), parentId: agentId('none'), selectors: uid('1') },
      { id: 'admin', spiffeId: id('/admin'), parentId: id('/node'), selectors: uid('1'), admin: true },
      { id: 'nested', spiffeId: id('/nested'), parentId: id('/node'), selectors: uid('1'), downstream: true }
    ], outputMask: {} }]
  ]),
  {
    by: 'agent:one', method: 'GetAuthorizedEntries', what: 'what has come to it', request: { outputMask: { hint: true } },
    until: ({ entries }: { entries: ReadonlyArray<{ id: string }> }) =>
      ['ofone', 'w1', 'w2'].every(name => entries.some(({ id }) => id === name))
  },
  ...steps('agent:one', [
    ['GetAuthorizedEntries', 'all of them'],
    ['SyncAuthorizedEntries', 'ids at first', { ids: ['w1'] }],
    ['SyncAuthorizedEntries', 'a mask without revisions', { outputMask: { hint: true } }],
    ['SyncAuthorizedEntries', 'all of them', {}],
    ['SyncAuthorizedEntries', 'masked', { outputMask: { revisionNumber: true, spiffeId: true } }],
    ['BatchNewX509SVID', 'nothing'],
    ['BatchNewX509SVID', 'no entry', one({ entryId: '' })],
    ['BatchNewX509SVID', 'neither entry nor CSR', one({ entryId: '', csr: junk })],
    ['BatchNewX509SVID', 'no CSR', one({ csr: Buffer.alloc(0) })],
    ['BatchNewX509SVID', 'what is no CSR', one({ csr: junk })],
    ['BatchNewX509SVID', 'a CSR with a bad signature', one({ csr: tampered })],
    ['BatchNewX509SVID', 'an unknown entry', one({ entryId: 'none' })],
    ['BatchNewX509SVID', 'an unknown entry and no CSR', one({ entryId: 'none', csr: Buffer.alloc(0) })],
    ['BatchNewX509SVID', 'another agent\'s entry', one({ entryId: 'far' })],
    ['BatchNewX509SVID', 'its own, two of them', { params: [{ entryId: 'w1', csr }, { entryId: 'w2', ...csrFor({ uriSans: [web] }) }] }],
    ['NewJWTSVID', 'no entry', { audience: ['a'] }],
    ['NewJWTSVID', 'no audience', { entryId: 'w1' }],
    ['NewJWTSVID', 'an empty audience', { entryId: 'w1', audience: [''] }, emptyAudience],
    ['NewJWTSVID', 'an unknown entry', { entryId: 'none', audience: ['a'] }],
    ['NewJWTSVID', 'neither audience nor a known entry', { entryId: 'none' }],
    ['NewJWTSVID', 'another agent\'s entry', { entryId: 'far', audience: ['a'] }],
    ['NewJWTSVID', 'its own', { entryId: 'w2', audience: ['a'] }],
    ['BatchNewWITSVID', 'nothing'],
    ['BatchNewWITSVID', 'no entry', wit({ entryId: '' })],
    ['BatchNewWITSVID', 'no key', wit({ publicKey: Buffer.alloc(0) })],
    ['BatchNewWITSVID', 'no algorithm', wit({ signingAlgorithm: '' })],
    ['BatchNewWITSVID', 'an unknown entry', wit({ entryId: 'none' })],
    ['BatchNewWITSVID', 'what is no key', wit({ publicKey: junk })],
    ['BatchNewWITSVID', 'an algorithm for another curve', wit({ signingAlgorithm: 'ES384' })],
    ['BatchNewWITSVID', 'an algorithm for RSA', wit({ signingAlgorithm: 'RS256' })],
    ['BatchNewWITSVID', 'an unknown algorithm', wit({ signingAlgorithm: 'none' })],
    ['BatchNewWITSVID', 'an algorithm for curves, and an RSA key', wit({ publicKey: rsaKey })],
    ['BatchNewWITSVID', 'an RSA key', wit({ publicKey: rsaKey, signingAlgorithm: 'PS512' })],
    ['BatchNewWITSVID', 'one', wit({})],
    ['GetFederatedBundle', 'no name'],
    ['GetFederatedBundle', 'one that is not there', { trustDomain: 'none.test' }],
    ['BatchNewX509SVID', 'more than a second holds', { params: Array.from({ length: 501 }, () => ({ entryId: 'none', csr })) }],
    ['BatchNewWITSVID', 'more than a second holds', { params: Array.from({ length: 501 }, () => ({ entryId: 'none', publicKey })) }]
  ]),
  ...steps('/nested', [
    ['NewDownstreamX509CA', 'no CSR'],
    ['NewDownstreamX509CA', 'what is no CSR', { csr: junk }],
    ['NewDownstreamX509CA', 'a CSR without names', { csr, preferredTtl: 60 }],
    ['NewDownstreamX509CA', 'the trust domain', { ...csrFor({ uriSans: ['spiffe://example.org'] }), preferredTtl: 60 }],
    ['NewDownstreamX509CA', 'another trust domain', csrFor({ uriSans: ['spiffe://other.org'] })]
  ])
]
